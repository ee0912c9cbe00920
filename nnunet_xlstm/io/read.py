"""Reading files that anybody may have written: text, JSON, and what tells a file from another."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from nnunet_xlstm.errors import DatasetError

# Reading --------------------------------------------------------------------------------------------------------------


def visible_files(folder: Path) -> list[Path]:
    """Return the files of a folder by name, also links to files, without the hidden ones.

    macOS leaves a hidden `._NAME` beside each file that it copies to another file system, with the same ending.

    Raises:
        DatasetError: the folder is not there, or cannot be read.
    """
    try:
        return [path for path in sorted(Path(folder).iterdir()) if not path.name.startswith(".") and path.is_file()]
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be read as a folder ({error.strerror or error})") from error


def read_text(path: Path) -> str:
    """Return a text file in UTF-8, with or without byte-order mark; line ends stay as they are.

    Raises:
        DatasetError: it is not there, cannot be read, or is not text.
    """
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise DatasetError(f"{path}: is not text in UTF-8 ({error})") from error


def read_json(path: Path, kind: type | None = None) -> Any:
    """Return the content of a JSON file.

    Args:
        path: of the file.
        kind: dict or list, where the content must be one.

    Raises:
        DatasetError: it is not there, is not JSON, is nested too deeply, has a key twice (readers would each take
            another one), or is of another kind.
    """
    text = read_text(path)
    try:
        content = json.loads(text, object_pairs_hook=_each_once)
    except ValueError as error:
        raise DatasetError(f"{path}: not valid JSON ({error}); correct the file") from error
    except RecursionError:
        raise DatasetError(f"{path}: not usable JSON (nested too deeply); correct the file") from None
    if kind is not None and not isinstance(content, kind):
        names: dict[type, str] = {dict: "an object {...}", list: "a list [...]"}
        raise DatasetError(f"{path}: holds a {type(content).__name__}; it must hold {names[kind]}")
    return content


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, value in pairs:
        if key in table:
            raise ValueError(f"it has '{key}' twice")
        table[key] = value
    return table


def sha256(path: Path) -> str:
    """Of the file's content, as hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
