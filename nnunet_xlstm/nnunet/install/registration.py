"""Makes our trainers and planners findable for stock nnU-Net commands.

One lazy file (`nnunet_xlstm/shim/`) is copied into the two folders of the installed nnunetv2 that nnU-Net searches.
Without write access there are two fallbacks: `nnUNet_extTrainer` for trainers, `planners_findable` for planners.
Nothing here imports torch, and nnunetv2 only inside the functions that run it.
"""

import contextlib
import importlib
import os
import shlex
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.io.write import WriteError, write_bytes
from nnunet_xlstm.registry import PLANNERS, TRAINERS

SHIM = Path(__file__).resolve().parents[2] / "shim" / "nnunet_xlstm_shim.py"
MARKER = b"# nnunet_xlstm shim"  # how the first line of every version of the shim begins
FOLDERS = {"trainers": "training/nnUNetTrainer", "planners": "experiment_planning/experiment_planners"}
PLANNER_FALLBACK = "python -m nnunet_xlstm plan_and_preprocess -d ID -pl nnUNetPlannerXLSTMUNet"


def nnunetv2_folder() -> Path:
    """Find the folder of the nnunetv2 that Python would import (installed or editable), without importing it.

    Raises:
        ConfigError: there is none, or only a leftover folder without code.
    """
    spec = find_spec("nnunetv2")
    if spec is None or spec.origin is None:
        places = [] if spec is None else [*(spec.submodule_search_locations or ())]
        found = "is not installed" if spec is None else f"is only a leftover folder {places}"
        raise ConfigError(f'nnunetv2 {found} in {sys.prefix}; run: pip install "nnunetv2>=2.8.1,<2.9"')
    return Path(spec.origin).parent


def shim_paths(folder: Path | None = None) -> dict[str, Path]:
    """Return where the shims belong: {"trainers": path, "planners": path}.

    Args:
        folder: folder of nnunetv2; default: the one that Python would import.
    """
    folder = nnunetv2_folder() if folder is None else folder
    return {kind: folder / sub / SHIM.name for kind, sub in FOLDERS.items()}


def shim_state(path: Path) -> str:
    """Tell a shim's state: "registered", "missing", "outdated" (ours, of another version) or "foreign" (not ours)."""
    if not path.exists():
        return "missing"
    content = path.read_bytes() if path.is_file() else b""
    if not content.startswith(MARKER):
        return "foreign"
    return "registered" if content == SHIM.read_bytes() else "outdated"


def register(folder: Path | None = None) -> dict[str, str]:
    """Copy the shim to where nnU-Net looks for trainers and planners. Repeating it changes nothing.

    Returns:
        What was done by kind: "registered", "updated" or "already registered".

    Raises:
        FileExistsError: a file of that name is not ours; nothing was written.
        ConfigError: no nnunetv2, or one without the folders of nnU-Net v2.
        PermissionError: nnunetv2 is read-only; the text names the fallback.
    """
    done = {}
    for kind, path, state in _shims_of_ours(folder):
        if state != "registered":
            _copy_atomically(SHIM, path)
        done[kind] = {"missing": "registered", "outdated": "updated"}.get(state, "already registered")
    return done


def remove(folder: Path | None = None) -> dict[str, str]:
    """Take the shims out again.

    Returns:
        What was done by kind: "removed" or "was not registered".

    Raises:
        FileExistsError: a file of that name is not ours; nothing was removed.
        PermissionError: nnunetv2 is read-only.
    """
    done = {}
    for kind, path, state in _shims_of_ours(folder):
        try:
            if state != "missing":
                path.unlink()
        except OSError as error:
            raise PermissionError(
                f"Cannot remove {path} ({error.strerror}). Run the same command as the owner of that folder."
            ) from error
        done[kind] = "was not registered" if state == "missing" else "removed"
    return done


def is_writable(folder: Path | None = None) -> bool:
    """Return whether the shims can be written."""
    return all(os.access(path.parent, os.W_OK) for path in shim_paths(folder).values())


def trainer_fallback() -> str:
    """Return the shell line that makes our trainers findable without write access, keeping what is set already."""
    others = [entry for entry in ext_trainer_entries() if Path(entry).resolve() != SHIM.parent]
    return f"export nnUNet_extTrainer={shlex.quote(os.pathsep.join([str(SHIM.parent), *others]))}"


def ext_trainer_entries() -> list[str]:
    """Return the folders named by the environment variable nnUNet_extTrainer."""
    return [entry for entry in os.environ.get("nnUNet_extTrainer", "").split(os.pathsep) if entry.strip()]


def load_class(name: str) -> type:
    """Load the trainer or planner of ours with that class name.

    Raises:
        ConfigError: not one of ours.
    """
    modules = {**TRAINERS, **PLANNERS}
    if name not in modules:
        raise ConfigError(f"nnunet_xlstm has no class {name!r}; it has {', '.join(modules)}.")
    return getattr(importlib.import_module(modules[name]), name)


@contextlib.contextmanager
def planners_findable() -> Iterator[None]:
    """Let stock planning, in this process and context, find our planners without any shim.

    Raises:
        ConfigError: planning asks for a class that nobody has.
    """
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api

    stock = api.recursive_find_python_class

    def look_up(folder: str, class_name: str, *args, **kwargs) -> type:
        if class_name in PLANNERS:
            return load_class(class_name)
        found = stock(folder, class_name, *args, **kwargs)
        if found is None:  # stock would go on to call None
            raise ConfigError(
                f"Neither nnunetv2 nor nnunet_xlstm has a class {class_name!r} for planning. "
                f"The planners of nnunet_xlstm are {', '.join(PLANNERS)}."
            )
        return found

    api.recursive_find_python_class = look_up
    try:
        yield
    finally:
        api.recursive_find_python_class = stock


def stock_plan_and_preprocess(arguments: list[str]) -> None:
    """Run `nnUNetv2_plan_and_preprocess` in this process with our planners findable.

    Args:
        arguments: the arguments of the stock command, passed on unchanged.
    """
    from nnunetv2.experiment_planning import plan_and_preprocess_entrypoints as entrypoints

    before = sys.argv
    sys.argv = ["nnunet_xlstm plan_and_preprocess", *arguments]
    try:
        with planners_findable():
            entrypoints.plan_and_preprocess_entry()
    finally:
        sys.argv = before


def _shims_of_ours(folder: Path | None) -> list[tuple[str, Path, str]]:
    """Return kind, path and state of each shim; refuse, before anything is changed, if one of them is not ours."""
    shims = [(kind, path, shim_state(path)) for kind, path in shim_paths(folder).items()]
    for _, path, state in shims:
        if state == "foreign":
            raise FileExistsError(
                f"{path} was not written by nnunet_xlstm and is left alone. Move it away and run the command again."
            )
    return shims


def _copy_atomically(source: Path, target: Path) -> None:
    if not target.parent.is_dir():
        raise ConfigError(f"{target.parent} is no folder, so this is no nnU-Net v2 (nnunet_xlstm needs 2.8.x).")
    try:
        write_bytes(target, source.read_bytes())
    except WriteError as error:
        raise PermissionError(
            f"Cannot write into {target.parent} ({error.error.strerror}). Without write access, use instead\n"
            f"  for trainers: {trainer_fallback()}\n"
            f"  for planners: {PLANNER_FALLBACK}"
        ) from error
