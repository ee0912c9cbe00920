"""Names that stand in files, before they become paths: nothing outside of a folder is written or deleted.

A data set, a pool or a report can come from elsewhere. What its files call a case is checked here, where it is read.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.io.validate import Value

FORBIDDEN = re.compile(r"[/\\\x00-\x1f\x7f]")


def is_path(value: Any) -> bool:
    """Return whether a value can be a path: a text without null bytes that the file system's encoding knows."""
    if not isinstance(value, str) or not value or "\0" in value:
        return False
    try:
        os.fsencode(value)
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can hold
        return False
    return True


def is_file_name(name: Any) -> bool:
    """Return whether a value can be the name of a file or folder, and nothing more than that."""
    return is_path(name) and bool(name.strip()) and not name.startswith(".") and not FORBIDDEN.search(name)


PATH = Value("a path, a text without null bytes", is_path)
FILE_NAME = Value(
    "the name of a file: a text without / and \\ and control characters that does not begin with a dot", is_file_name
)


def as_utf8(path: Path | str) -> str:
    """Return a path as a text that C++ libraries take; SimpleITK ends the process for others.

    Raises:
        DatasetError: the name is not UTF-8, as on disks of old systems.
    """
    text = str(path)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        shown = text.encode("utf-8", "backslashreplace").decode("utf-8")
        raise DatasetError(f"{shown}: its name is not UTF-8, so it cannot be opened; rename it") from None
    return text


def inside(folder: Path, name: str, where: str) -> Path:
    """Return `folder / name`, a path to write or to delete.

    The last part may be a link, which is then replaced or deleted itself; the folders above it may not lead out.

    Args:
        folder: that the path may not leave.
        name: relative to `folder`.
        where: what names it, for the message.

    Raises:
        DatasetError: the path leads out of the folder, by its parts or through a link.
    """
    path = Path(folder) / name
    try:
        leads_out = not path.parent.resolve().is_relative_to(Path(folder).resolve())
    except (OSError, RuntimeError, ValueError):  # a loop of links, a null byte
        leads_out = True
    if leads_out or path.name in ("", ".."):
        raise DatasetError(f"{where}: {name!r} leads out of {folder}; nothing is written or deleted there")
    return path
