"""Elements of DICOM files, read without their pixels.

pydicom reads them: SimpleITK shows neither sequences, where enhanced multi-frame files keep the geometry of each frame,
nor the bytes of a text in another encoding than UTF-8, so that two PatientIDs could become one.
"""

from __future__ import annotations

import logging
import os
import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_xlstm.errors import DatasetError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

UNDEFINED = 0xFFFFFFFF  # length of an element that ends with a delimiter


def is_dicom(file: Path) -> bool:
    """Return whether a file starts as DICOM: `DICM` after 128 bytes, or, in old files, an element of group 2 or 8."""
    try:
        with open(file, "rb") as stream:
            start = stream.read(132)
    except OSError:
        return False
    if start[128:] == b"DICM":
        return True
    if len(start) < 132:
        return False
    group, element, length = struct.unpack_from("<2HI", start)
    return group in (2, 8) and element <= 0x18 and (start[4:6].isalpha() or length <= 64)


def read_elements(file: Path, keywords: Sequence[str], whole: bool = False) -> Dataset:
    """Read these elements. Text that does not fit its encoding becomes Latin-1, so that two texts never become one.

    Args:
        file: path.
        keywords: names of the elements.
        whole: skip over the pixels too, to see that no element ends beyond the file: GDCM would take memory for it.

    Raises:
        DatasetError: no DICOM file, damaged or cut off.
    """
    import pydicom
    from pydicom.dataelem import DataElement, RawDataElement

    with named_errors(Path(file).name), _quiet(), open(file, "rb") as stream:
        dataset = pydicom.dcmread(stream, stop_before_pixels=not whole, specific_tags=[*keywords], force=True)
        list(dataset.file_meta)  # decodes it
        elements: dict[int, DataElement | RawDataElement] = {tag: dataset.get_item(tag) for tag in [*dataset.keys()]}
        raw = [e for e in elements.values() if isinstance(e, RawDataElement) and e.length < UNDEFINED]
        short = any(e.value is not None and len(e.value) < e.length for e in raw)
        if short or stream.tell() > os.fstat(stream.fileno()).st_size:
            raise DatasetError(f"{Path(file).name} is cut off or damaged: an element ends beyond the file")
        for tag, element in elements.items():
            value = dataset[tag].value  # decodes it
            if isinstance(element.value, bytes) and "\ufffd" in as_text(value):  # another encoding than the file names
                dataset[tag].value = element.value.decode("latin-1")
        return dataset


def as_text(value: Any) -> str:
    """Return the value of an element as text, several values joined by a backslash."""
    several = not isinstance(value, (str, bytes)) and isinstance(value, Sequence)
    text = "\\".join(map(str, value)) if several else "" if value is None else str(value)
    return text.strip(" \0")


@contextmanager
def named_errors(name: str) -> Iterator[None]:
    """Turn what a damaged file leads to into an error that names it.

    Raises:
        DatasetError: in place of whatever is raised inside.
    """
    try:
        yield
    except DatasetError:
        raise
    except OSError as error:
        raise DatasetError(f"{name} cannot be read ({error.strerror or error})") from error
    except Exception as error:  # pydicom raises whatever a damaged file leads to
        raise DatasetError(f"{name} is not a DICOM file, or damaged ({error})") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep pydicom's warnings of values that break a rule off the terminal: what matters is checked here."""
    log = logging.getLogger("pydicom")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
