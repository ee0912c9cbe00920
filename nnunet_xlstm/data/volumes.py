"""The volumes that a scan holds: one, the frames of a sequence, or the stacks of a DICOM series."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import SimpleITK as sitk

from nnunet_xlstm.data.inputs import Reasons, Scan
from nnunet_xlstm.imaging.checks import check_image
from nnunet_xlstm.imaging.dicom import pixel_reader, plan_series, read_volume
from nnunet_xlstm.imaging.images import TIFF, read_image
from nnunet_xlstm.imaging.integrity import PICTURES
from nnunet_xlstm.imaging.single_slice import as_grey


@dataclass(frozen=True, kw_only=True)
class Volume:
    """One image of a scan, 2D or 3D, at one time.

    Attributes:
        read: reads it.
        stack, frame: its number, None where the scan has one stack, or one frame. frames: of the sequence.
        suffix: what follows the scan's name in that of the case.
        tags: as in CaseRow.
        whole_file: it is all that its file holds.
        has_spacing: its file says how large a pixel is.
    """

    read: Callable[[], sitk.Image]
    stack: int | None = None
    frame: int | None = None
    frames: int | None = None
    suffix: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    whole_file: bool = False
    has_spacing: bool = True

    @property
    def place(self) -> str:
        """Within the scan, for messages; empty for all of it."""
        parts = (("stack", self.stack), ("frame", self.frame))
        return ", ".join(f"{name} {number}" for name, number in parts if number is not None)


def find_volumes(scan: Scan, modality: str, last_axis_is_time: bool = False) -> tuple[list[Volume], Reasons]:
    """Find the volumes of a scan, in the order of stacks and time.

    Args:
        last_axis_is_time: of a 3D file too, so that every slice is a frame.

    Returns:
        The volumes, and what a DICOM series holds beside them with the reason why it is left out.

    Raises:
        DatasetError: it cannot be read, or is no image.
    """
    if scan.dicom:
        return _volumes_of_series(scan, modality)
    stored = read_image(Path(scan.path))
    image = as_grey(stored)
    check_image(image)
    dimension = image.GetDimension()
    has_spacing = dimension > 2 or not scan.path.lower().endswith((*PICTURES, *TIFF))
    if not has_spacing:
        image.SetSpacing((1.0, 1.0))  # dots per inch say nothing of the body
    if dimension == 4 or (dimension == 3 and last_axis_is_time):
        frames = image.GetSize()[-1]
        return [Volume(read=partial(_frame, image, t), **_in_series(None, 1, t, frames)) for t in range(frames)], []
    return [Volume(read=lambda: image, whole_file=image is stored and dimension == 3, has_spacing=has_spacing)], []


def _volumes_of_series(scan: Scan, modality: str) -> tuple[list[Volume], Reasons]:
    stacks, left_out = plan_series(scan.files, modality)
    read = pixel_reader(stacks)
    volumes = []
    for i, stack in enumerate(stacks):
        if stack.reason:
            place = f"{scan.path} (stack {i})" if len(stacks) > 1 else scan.path
            left_out.append((place, f"series {scan.series}: {stack.reason}"))
        for t, slices in enumerate(stack.frames):
            place = _in_series(i, len(stacks), t, len(stack.frames))
            volumes.append(Volume(read=partial(read_volume, slices, read), tags=slices[0].tags, **place))
    return volumes, left_out


def _in_series(stack: int | None, stacks: int, frame: int, frames: int) -> dict:
    """The fields of a volume that say where in its scan it is."""
    suffix, place = "", {}
    if stacks > 1:
        place |= {"stack": stack}
        suffix += f"_s{stack:0{len(str(stacks - 1))}d}"
    if frames > 1:
        place |= {"frame": frame, "frames": frames}
        suffix += f"_t{frame:0{max(2, len(str(frames - 1)))}d}"
    return place | {"suffix": suffix}


def _frame(image: sitk.Image, t: int) -> sitk.Image:
    return image[(*[slice(None)] * (image.GetDimension() - 1), t)]
