"""Sees every file that this process writes, moves or deletes outside one folder."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# audit event -> (position of a path that it changes, position of the folder's descriptor that it is relative to)
# (docs.python.org/3/library/audit_events.html)
CHANGES = {
    "os.rename": ((0, 2), (1, 3)), "os.remove": ((0, 1),), "os.rmdir": ((0, 1),), "os.mkdir": ((0, 2),),
    "os.symlink": ((1, 2),), "os.link": ((1, 3),), "os.truncate": ((0, None),), "os.chmod": ((0, 2),),
    "os.utime": ((0, 3),), "shutil.rmtree": ((0, 1),), "shutil.move": ((0, None), (1, None)),
    "shutil.copyfile": ((1, None),),
}  # fmt: skip
HARMLESS = ("/dev/null", "/dev/tty", "/dev/pts/", "/proc/", "/sys/")
_allowed: list[Path] = []
_found: list[str] = []
_installed = False


def _path(args: tuple, path: int, folder: int | None) -> object:
    """Return the path of an audit event, whole where the event gives a folder's descriptor (`shutil.rmtree` does)."""
    descriptor = args[folder] if folder is not None and len(args) > folder else None
    if isinstance(descriptor, int) and descriptor >= 0 and isinstance(args[path], (str, bytes)):
        return os.path.join(f"/proc/self/fd/{descriptor}", os.fsdecode(args[path]))
    return args[path]


def _look(event: str, args: tuple) -> None:
    if not _allowed:
        return
    if event == "open":
        path, mode, flags = args
        if not (isinstance(mode, str) and set(mode) & set("wax+")) and not (isinstance(flags, int) and flags & WRITING):
            return
        paths = [path]
    elif event in CHANGES:
        paths = [_path(args, *positions) for positions in CHANGES[event]]
    else:
        return
    for path in paths:
        if isinstance(path, (str, bytes, os.PathLike)):
            real = os.path.realpath(os.fsdecode(path))
            if not real.startswith(HARMLESS) and "__pycache__" not in real:
                if not any(real == str(root) or real.startswith(f"{root}{os.sep}") for root in _allowed):
                    _found.append(f"{event} {real}")


@contextmanager
def only_writes_below(*folders: Path) -> Iterator[None]:
    """Fail when the body writes, moves or deletes outside the folders; what C++ writes shows when it is renamed."""
    global _installed
    if not _installed:
        sys.addaudithook(_look)  # it cannot be taken away again, so it looks at `_allowed`
        _installed = True
    _found.clear()
    _allowed[:] = [Path(os.path.realpath(folder)) for folder in folders]
    try:
        yield
    finally:
        _allowed.clear()
    assert not _found, f"written outside {', '.join(map(str, folders))}: {_found}"


def scratch() -> Path:
    """A fresh folder for one fuzzed input; the caller removes it."""
    return Path(tempfile.mkdtemp(prefix="fuzz"))
