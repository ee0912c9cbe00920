"""Headers of DICOM files: whose they are, which images they hold, and where each lies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.imaging.dicom.elements import as_text, named_errors, read_elements

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# The functional groups of an enhanced file, and what they say of each frame (DICOM PS3.3 C.7.6.16)
FRAME_TIMES = ("TemporalPositionIndex", "FrameAcquisitionNumber", "FrameAcquisitionDateTime", "FrameReferenceDateTime")
GROUPS = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
    "FrameContentSequence": ("StackID", *FRAME_TIMES),
    "CardiacSynchronizationSequence": ("NominalCardiacTriggerDelayTime",),
    "MREchoSequence": ("EffectiveEchoTime",),
    "MRModifierSequence": ("InversionTimes",),
    "MRDiffusionSequence": ("DiffusionBValue",),
    **dict.fromkeys(("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence"), ("FrameType",)),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
}
# Kept for every case: what tells sequence and view. Of several keywords the first that the file has.
TAGS = {
    "Modality": ("Modality",),
    "SeriesDescription": ("SeriesDescription",),
    "ImageType": ("FrameType", "ImageType"),
    "ImageOrientationPatient": ("ImageOrientationPatient",),
    "TriggerTime": ("NominalCardiacTriggerDelayTime", "TriggerTime"),
    "EchoTime": ("EffectiveEchoTime", "EchoTime"),
    "InversionTime": ("InversionTimes", "InversionTime"),
}
# What tells images at one place apart, other than time; tried in this order
KINDS = (
    ("FrameType", "ImageType"),
    ("EffectiveEchoTime", "EchoTime"),
    ("InversionTimes", "InversionTime"),
    ("DiffusionBValue",),
)
# Time; tried in this order. AcquisitionTime and ContentTime follow their dates.
TIMES = (
    ("TemporalPositionIndex", "TemporalPositionIdentifier"),
    ("NominalCardiacTriggerDelayTime", "TriggerTime"),
    ("FrameAcquisitionDateTime", "AcquisitionDateTime", "AcquisitionTime"),
    ("FrameReferenceDateTime", "ContentTime"),
    ("FrameAcquisitionNumber", "AcquisitionNumber"),
)
# ms from frame to frame, where no trigger times tell it
INTERVAL = ("TemporalResolution", "FrameTime")
DATE_OF = {"AcquisitionTime": "AcquisitionDate", "ContentTime": "ContentDate"}
ORTHONORMAL = 0.01  # greatest deviation of the direction cosines from unit length and right angles
IDENTITY = (
    "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "PatientID",
    "Modality", "Rows",
)  # fmt: skip
IMAGES = (
    "SOPInstanceUID", "InstanceNumber", "Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "SpacingBetweenSlices",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip
EVERYTHING = sorted(
    {*IMAGES, *DATE_OF, *DATE_OF.values(), *INTERVAL}
    | {keyword for keywords in (*GROUPS.values(), *TAGS.values(), *KINDS, *TIMES) for keyword in keywords}
)


@dataclass(frozen=True, eq=False)
class Plane:
    """One 2D image of a file: its place, and what tells it from others at the same place.

    Attributes:
        index: number of the image within its file, from 0.
        instance: SOPInstanceUID.
        number: InstanceNumber, 0 where the file has none.
        size: (columns, rows).
        spacing: (x, y) in mm.
        position: (3,) of the first pixel in mm, LPS.
        cosines: (6,) direction cosines of row and column.
        thickness: of the slice in mm, 0 where unknown.
        interval_ms: INTERVAL, 0 where unknown.
        stack: StackID.
        kinds: values in the order of KINDS, empty where unknown.
        times: values in the order of TIMES, likewise.
        rescale: (slope, intercept) of its true values.
        gdcm_rescale: that of the first image of the file, which GDCM gives to all.
        tags: as TAGS, without those that the file lacks.
    """

    file: str
    index: int
    instance: str
    number: int
    size: tuple[int, int]
    spacing: tuple[float, float]
    position: np.ndarray
    cosines: np.ndarray
    thickness: float
    interval_ms: float
    stack: str
    kinds: tuple[str, ...]
    times: tuple[str, ...]
    rescale: tuple[float, float]
    gdcm_rescale: tuple[float, float]
    tags: dict[str, str]

    @property
    def normal(self) -> np.ndarray:
        """(3,) unit vector across the slice."""
        return np.cross(self.cosines[:3], self.cosines[3:])

    @property
    def name(self) -> str:
        """The file's name, for messages."""
        return Path(self.file).name


def read_identity(file: Path) -> dict[str, str]:
    """Read the texts of IDENTITY; empty where the file has none.

    Raises:
        DatasetError: no DICOM file, or damaged.
    """
    dataset = read_elements(file, IDENTITY)
    return {keyword: as_text(dataset.get(keyword)) for keyword in IDENTITY}


def read_planes(file: str, modality: Sequence[str]) -> list[Plane]:
    """Read the places of all images of a file.

    Args:
        file: path.
        modality: values of the tag Modality that are wanted; a file without it is taken.

    Raises:
        DatasetError: not readable, another modality, colour, a Siemens mosaic, or without place or pixel spacing.
    """
    dataset, name = read_elements(Path(file), EVERYTHING, whole=True), Path(file).name
    found = as_text(dataset.get("Modality"))
    if found and found not in modality:
        raise DatasetError(f"its modality is {found}, not {modality[0]}")
    if (_integer(dataset.get("SamplesPerPixel")) or 1) > 1:
        raise DatasetError(f"{name} is a colour image")
    if "MOSAIC" in as_text(dataset.get("ImageType")).split("\\"):
        raise DatasetError("a mosaic of slices (Siemens); convert it with dcm2niix and take it in without --dicom")
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or []
    claimed = _integer(dataset.get("NumberOfFrames")) or 1
    if claimed > 1 and len(frames) != claimed:
        raise DatasetError(f"{name} has {claimed} frames, and the places of {len(frames)} of them")
    with named_errors(name):
        shared = (dataset.get("SharedFunctionalGroupsSequence") or [None])[0]
        headers = [_Header(name, dataset, shared, frame) for frame in frames or [None]]
    return [_plane(header, file, i, headers[0].rescale()) for i, header in enumerate(headers)]


@dataclass(frozen=True)
class _Header:
    """The elements of one frame: its own functional groups, those that all frames share, then the data set."""

    name: str
    dataset: Dataset
    shared: Dataset | None
    frame: Dataset | None

    def value(self, *keywords: str) -> Any:
        """Return the first of these elements that is there and not empty, else None."""
        with named_errors(self.name):  # pydicom decodes functional groups when they are asked for
            for keyword in keywords:
                names = [name for name, said in GROUPS.items() if keyword in said]
                groups = [group.get(name) for group in (self.frame, self.shared) if group is not None for name in names]
                for found in (*(items[0].get(keyword) for items in groups if items), self.dataset.get(keyword)):
                    if found not in (None, ""):
                        return found
        return None

    def text(self, *keywords: str) -> str:
        return as_text(self.value(*keywords))

    def numbers(self, keyword: str, n: int) -> np.ndarray | None:
        """Return (n,) finite numbers, or None where the element is missing or something else."""
        try:
            values = np.array(self.text(keyword).split("\\"), dtype=float)
        except ValueError:
            return None
        return values if values.shape == (n,) and np.isfinite(values).all() else None

    def first_positive(self, *keywords: str) -> float:
        """Return the first of these elements that is a number above 0, else 0."""
        found = [self.numbers(keyword, 1) for keyword in keywords]
        return next((float(v[0]) for v in found if v is not None and v[0] > 0), 0.0)

    def time(self, *keywords: str) -> str:
        for keyword in keywords:
            if text := self.text(keyword):
                return self.text(DATE_OF[keyword]) + text if keyword in DATE_OF else text
        return ""

    def rescale(self) -> tuple[float, float]:
        slope, intercept = (self.numbers(keyword, 1) for keyword in ("RescaleSlope", "RescaleIntercept"))
        return (
            1.0 if slope is None or slope[0] == 0 else float(slope[0]),  # as GDCM
            0.0 if intercept is None else float(intercept[0]),
        )


def _plane(header: _Header, file: str, index: int, gdcm_rescale: tuple[float, float]) -> Plane:
    position, cosines = header.numbers("ImagePositionPatient", 3), header.numbers("ImageOrientationPatient", 6)
    spacing, rows, columns = header.numbers("PixelSpacing", 2), header.value("Rows"), header.value("Columns")
    where = f"{Path(file).name} has no"
    if position is None or cosines is None or not _is_orthonormal(cosines.reshape(2, 3)):
        raise DatasetError(f"{where} position or orientation of its slice")
    if spacing is None or spacing.min() <= 0:
        raise DatasetError(f"{where} usable PixelSpacing")
    if not rows or not columns:
        raise DatasetError(f"{where} pixels")
    tags = {name: header.text(*keywords) for name, keywords in TAGS.items()}
    return Plane(
        file=file,
        index=index,
        instance=header.text("SOPInstanceUID"),
        number=_integer(header.value("InstanceNumber")) or 0,
        size=(int(columns), int(rows)),
        spacing=(float(spacing[1]), float(spacing[0])),
        position=position,
        cosines=cosines,
        thickness=header.first_positive("SliceThickness", "SpacingBetweenSlices"),
        interval_ms=header.first_positive(*INTERVAL),
        stack=header.text("StackID"),
        kinds=tuple(header.text(*keywords) for keywords in KINDS),
        times=tuple(header.time(*keywords) for keywords in TIMES),
        rescale=header.rescale(),
        gdcm_rescale=gdcm_rescale,
        tags={name: text for name, text in tags.items() if text},
    )


def _is_orthonormal(axes: np.ndarray) -> bool:
    return bool(np.abs(axes @ axes.T - np.eye(len(axes))).max() < ORTHONORMAL)


def _integer(value: Any) -> int | None:
    try:
        number = float(as_text(value))
    except ValueError:
        return None
    return int(number) if math.isfinite(number) else None
