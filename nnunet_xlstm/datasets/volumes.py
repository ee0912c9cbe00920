"""The volumes that a scan holds: one, the frames of a sequence, or the stacks of a DICOM series."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_xlstm.datasets.scans import Scan
from nnunet_xlstm.datasets.time_modes import TimeMode, choose_frames, time_spacing
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.imaging.checks import check_image
from nnunet_xlstm.imaging.dicom.series import Reasons, pixel_reader, plan_series, read_volume
from nnunet_xlstm.imaging.images import TIFF, frame_interval, read_image
from nnunet_xlstm.imaging.integrity import PICTURES
from nnunet_xlstm.imaging.single_slice import as_gray, as_volume


@dataclass(frozen=True, kw_only=True)
class Volume:
    """One image of a scan, 2D or 3D, at one time.

    Attributes:
        read: reads it.
        stack, frame: its number among the `stacks` of the scan, and the `frames` of the sequence.
        interval_ms: from frame to frame, 0 where unknown.
        tags: as in CaseRecord.
        whole_file: it is all that its file holds.
        has_spacing: its file says how large a pixel is.
    """

    read: Callable[[], sitk.Image]
    stack: int = 0
    stacks: int = 1
    frame: int = 0
    frames: int = 1
    interval_ms: float = 0.0
    tags: Mapping[str, str] = field(default_factory=dict)
    whole_file: bool = False
    has_spacing: bool = True

    def suffix(self, whole_sequence: bool = False) -> str:
        """Return what follows the scan's name in that of the case."""
        stack = f"_s{self.stack:0{len(str(self.stacks - 1))}d}" if self.stacks > 1 else ""
        in_time = self.frames > 1 and not whole_sequence
        return stack + (f"_t{self.frame:0{max(2, len(str(self.frames - 1)))}d}" if in_time else "")

    def place(self, whole_sequence: bool = False) -> str:
        """Return where it is within the scan, for messages; empty for all of it."""
        parts = (("stack", self.stack, self.stacks), ("frame", self.frame, 1 if whole_sequence else self.frames))
        return ", ".join(f"{name} {number}" for name, number, several in parts if several > 1)


def find_volumes(scan: Scan, modality: str, last_axis_is_time: bool = False) -> tuple[list[Volume], Reasons]:
    """Find the volumes of a scan, in the order of stacks and time.

    Args:
        scan: a file or a DICOM series.
        modality: of the scan.
        last_axis_is_time: of a 3D file too, so that every slice is a frame.

    Returns:
        The volumes, and what a DICOM series holds beside them with the reason why it is left out.

    Raises:
        DatasetError: it cannot be read, or is no image.
    """
    if scan.dicom:
        return _volumes_of_series(scan, modality)
    stored = read_image(Path(scan.path))
    image = as_gray(stored)
    check_image(image)
    dimension = image.GetDimension()
    has_spacing = dimension > 2 or not scan.path.lower().endswith((*PICTURES, *TIFF))
    if not has_spacing:
        image.SetSpacing((1.0, 1.0))  # dots per inch say nothing of the body
    if dimension == 4 or (dimension == 3 and last_axis_is_time):
        frames, interval = image.GetSize()[-1], frame_interval(Path(scan.path)) if dimension == 4 else 0.0
        return [
            Volume(read=partial(_frame, image, t), interval_ms=interval, frame=t, frames=frames) for t in range(frames)
        ], []
    return [Volume(read=lambda: image, whole_file=image is stored and dimension == 3, has_spacing=has_spacing)], []


def _volumes_of_series(scan: Scan, modality: str) -> tuple[list[Volume], Reasons]:
    stacks, left_out = plan_series(scan.files, modality)
    read = pixel_reader(stacks)
    volumes = []
    for i, stack in enumerate(stacks):
        if stack.reason:
            name = f"{scan.path} (stack {i})" if len(stacks) > 1 else scan.path
            left_out.append((name, f"series {scan.series}: {stack.reason}"))
        for t, slices in enumerate(stack.frames):
            read_frame = partial(read_volume, slices, read)
            volume = Volume(read=read_frame, tags=slices[0].tags, interval_ms=stack.interval_ms())
            volumes.append(replace(volume, stack=i, stacks=len(stacks), frame=t, frames=len(stack.frames)))
    return volumes, left_out


def _frame(image: sitk.Image, t: int) -> sitk.Image:
    return image[tuple([*[slice(None)] * (image.GetDimension() - 1), t])]


def channels_of(frames: Sequence[Volume], time: TimeMode) -> list[Volume]:
    """Make the channels of the one case that a sequence becomes: chosen frames, or a volume whose third axis is time.

    Raises:
        DatasetError: too few frames, or (axis) frames of several slices.
    """
    if time.mode == "channels":
        return [frames[t] for t in choose_frames(len(frames), time.n_frames)]
    if len(frames) < 2:
        raise DatasetError(
            "one image, no sequence: --time axis needs frames (a 3D file whose last axis is time: --last-axis-is-time)"
        )
    slices = as_volume(frames[0].read()).GetSize()[2]
    if slices > 1:
        raise DatasetError(
            f"3D+t: {slices} slices x {len(frames)} frames leave no axis for time; use --time channels or --time frames"
        )
    interval = time.interval_ms or frames[0].interval_ms
    return [replace(frames[0], read=partial(_joined, frames, interval), interval_ms=interval)]


def _joined(frames: Sequence[Volume], interval_ms: float) -> sitk.Image:
    """Single slices behind each other, at the place of the first."""
    images = [as_volume(frame.read()) for frame in frames]
    volume = sitk.GetImageFromArray(np.concatenate([sitk.GetArrayViewFromImage(image) for image in images]))
    pixel = images[0].GetSpacing()[:2]
    volume.SetSpacing((*pixel, time_spacing(interval_ms, max(pixel))))
    volume.SetOrigin(images[0].GetOrigin())
    volume.SetDirection(images[0].GetDirection())
    return volume
