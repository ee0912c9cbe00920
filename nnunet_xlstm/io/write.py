"""Reading JSON and text, and writing files whole or not at all.

Every file that this package writes goes through `replacing`: a temporary file beside the target is written, flushed to
the disk and renamed. A kill, a full disk or a second writer leaves the old file or the new one, never a part of one.
`staging` does so for all files of a result together.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from nnunet_xlstm.errors import UserError

ADVICE = {
    errno.ENOSPC: "make room on that disk and run the command again",
    errno.EDQUOT: "your quota is used up: make room and run the command again",
    errno.EACCES: "you may not write there; choose another folder, or change its permissions",
    errno.EPERM: "you may not write there; choose another folder, or change its permissions",
    errno.EROFS: "that disk is read-only; choose another folder",
    errno.EISDIR: "a folder of that name is there; choose another name",
    errno.ENOTDIR: "a file stands where a folder is needed; choose another name",
    errno.EEXIST: "a file stands where a folder is needed; choose another name",
    errno.ENAMETOOLONG: "the name is too long for this file system; choose a shorter one",
}

ABANDONED_AFTER = 24 * 3600  # seconds


class WriteError(UserError):
    """A file cannot be written; the text names it, the reason and the fix."""

    def __init__(self, path: Path, error: OSError):
        self.path, self.error = Path(path), error
        reason = error.strerror or str(error)
        super().__init__(
            f"{path}: cannot be written ({reason}); {ADVICE.get(error.errno or 0, 'choose another place')}"
        )

    def __reduce__(self):  # it may come from a process of its own
        return type(self), (self.path, self.error)


# Writing --------------------------------------------------------------------------------------------------------------


@contextmanager
def replacing(path: Path, ending: str = "") -> Iterator[Path]:
    """Yield the path of a temporary file beside `path`, and put it in place of `path` if the body raises nothing.

    Where `path` is a link, the link is replaced; the file that it leads to stays as it is. If the body writes no file,
    nothing happens. The body may make a folder instead, for a `path` that is not there yet.

    Args:
        path: of the file or link to put in place.
        ending: of the temporary name, for writers that choose a format by it.

    Raises:
        WriteError: the folder or the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name[:40]}.{_owner()}.{uuid.uuid4().hex[:8]}.tmp{ending}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if temporary.is_file() and not temporary.is_symlink():
            _flush(temporary)
        if os.path.lexists(temporary):
            os.replace(temporary, path)
            _flush_folder(path.parent)
    except OSError as error:
        if _is_about(error, temporary, path):
            raise WriteError(path, error) from error
        raise
    finally:
        _remove(temporary)


def make_folder(path: Path) -> Path:
    """Make a folder and those above it, unless it is there; return it.

    Raises:
        WriteError: it cannot be made.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(path, error) from error
    return Path(path)


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write a file whole or not at all; leave it untouched where its content is the same.

    Raises:
        WriteError: it cannot be written.
    """
    if not _holds(path, data):
        with replacing(path) as temporary:
            temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text as `write_bytes` does."""
    write_bytes(path, _encoded(text))


def write_json(path: Path, content: Any) -> None:
    """Write JSON as `write_bytes` does; NaN and infinity are errors."""
    write_text(path, json_text(content))


def json_text(content: Any) -> str:
    """Return the text that `write_json` writes."""
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def write_together(contents: Mapping[Path, str | bytes]) -> None:
    """Write several files; none is replaced before all are written. They are put in place in the order given.

    Raises:
        WriteError: one cannot be written; all old files are still there.
    """
    with ExitStack() as stack:
        for path, content in reversed(list(contents.items())):  # the stack puts the last one in place first
            data = content if isinstance(content, bytes) else _encoded(content)
            if not _holds(path, data):
                temporary = stack.enter_context(replacing(path))
                temporary.write_bytes(data)
                _flush(temporary)


@contextmanager
def staging(folder: Path, last: Collection[str] = ()) -> Iterator[Path]:
    """Yield an empty folder inside `folder`; in the end, put its files in place of those of the same names.

    Until the body has ended without an error, what an earlier run wrote stays as it is.

    Args:
        folder: that the files will be in.
        last: names of files that are put in place after all others, because they speak of them.

    Raises:
        WriteError: a file cannot be written; the text names it as it is called in `folder`.
    """
    folder = Path(folder)
    fresh = folder / f".staging.{_owner()}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        fresh.mkdir(parents=True)
    except OSError as error:
        raise WriteError(folder, error) from error
    try:
        remove_leftovers(folder)
        yield fresh
        _put_in_place(fresh, folder, last)
    except (WriteError, OSError) as error:
        reason = error.error if isinstance(error, WriteError) else error
        name = error.path if isinstance(error, WriteError) else error.filename
        if not isinstance(name, (str, os.PathLike)) or not Path(name).is_relative_to(fresh):
            raise
        raise WriteError(folder / Path(name).relative_to(fresh), reason) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _put_in_place(fresh: Path, folder: Path, last: Collection[str]) -> None:
    files = [path for path in sorted(fresh.rglob("*")) if path.is_symlink() or not path.is_dir()]
    files.sort(key=lambda path: path.relative_to(fresh).as_posix() in last)
    targets = {path: folder / path.relative_to(fresh) for path in files}
    for path, target in targets.items():
        try:
            if not path.is_symlink():
                _flush(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir() and not target.is_symlink():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        except OSError as error:
            raise WriteError(target, error) from error
    for path, target in targets.items():
        os.replace(path, target)
    for parent in {target.parent for target in targets.values()}:
        _flush_folder(parent)


def try_writing(paths: Iterable[Path], nbytes: int = 0) -> None:
    """Check, before work that takes long, that files can be written at these paths; clear what a killed run left there.

    Args:
        paths: of the files.
        nbytes: for which there must be room, all files together.

    Raises:
        WriteError: a folder or the disk does not let them be written, or a folder of that name is there.
    """
    for path in map(Path, paths):
        with replacing(path) as temporary:
            remove_leftovers(path.parent)
            temporary.write_bytes(b"0")
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if shutil.disk_usage(path.parent).free < nbytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            temporary.unlink()


def remove_leftovers(folder: Path) -> None:
    """Delete what `replacing` and `staging` left in a folder whose process has ended (kill -9, loss of power)."""
    for path in Path(folder).glob(".*.tmp*"):
        owner = path.name.rpartition(".tmp")[0].split(".")[-2:-1]
        if owner and _is_abandoned(path, owner[0]):
            _remove(path)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _holds(path: Path, data: bytes | memoryview) -> bool:
    """Whether `path` is a file, no link, with this content."""
    path = Path(path)
    try:
        return (
            path.is_file() and not path.is_symlink() and path.stat().st_size == len(data) and path.read_bytes() == data
        )
    except OSError:
        return False


def _owner() -> str:
    """Name the process in a temporary file's name, so that `remove_leftovers` knows whether it still runs."""
    host = "".join(c for c in socket.gethostname() if c.isalnum() or c == "-")[:40]
    return f"{host}-{os.getpid()}"


def _is_abandoned(path: Path, owner: str) -> bool:
    """Whether the process of a temporary file has ended; of another machine's: whether nobody wrote for a day."""
    own_host = _owner().rpartition("-")[0]
    host, _, number = owner.rpartition("-")
    if not number.isdecimal():
        return False
    try:
        if os.name != "posix" or host != own_host:  # on Windows, os.kill(pid, 0) is Ctrl-C
            return time.time() - path.stat().st_mtime > ABANDONED_AFTER
        os.kill(int(number), 0)
    except (ProcessLookupError, FileNotFoundError):
        return True
    except (OSError, OverflowError):
        return False
    return _is_zombie(number)


def _is_zombie(number: str) -> bool:
    """Whether a process has ended, but nobody has taken note: for long in a container whose first process does not."""
    try:
        state = Path(f"/proc/{int(number)}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (OSError, IndexError):  # no Linux, or it is gone now
        return False
    return state in (b"Z", b"X")


def _flush(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    if os.name == "posix":  # Windows cannot open a folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError:  # a folder that may no longer be written; the first error is the one to tell
        pass


def _is_about(error: OSError, temporary: Path, path: Path) -> bool:
    """Whether writing failed, not something that the body reads."""
    named = [Path(name) for name in (error.filename, error.filename2) if isinstance(name, (str, os.PathLike))]
    return not named or any(name in (temporary, path, *path.parents) for name in named)
