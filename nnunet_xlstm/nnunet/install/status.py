"""Checks of everything that a run needs, each with the command that mends it. Imports torch only on request."""

import importlib
import importlib.metadata
import os
import re
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from nnunet_xlstm import __version__, machine
from nnunet_xlstm.errors import ConfigError, DatasetError
from nnunet_xlstm.io.read import read_json
from nnunet_xlstm.nnunet.install import registration
from nnunet_xlstm.registry import PLANNERS, TRAINERS

NNUNETV2_RANGE = ((2, 8, 1), (2, 9))  # first supported version, first one beyond
PIP_NNUNETV2 = 'pip install "nnunetv2>=2.8.1,<2.9"'
PYTHON_RANGE = ((3, 10), (3, 13))  # both included
FOLDERS = {"nnUNet_raw": "your datasets", "nnUNet_preprocessed": "plans and training data", "nnUNet_results": "models"}
WORKER_GB = 1  # a worker of nnU-Net has imported torch and nnunetv2: about 0.9 GB


@dataclass(frozen=True)
class Check:
    """One finding: state "ok", "warn" (works, but) or "problem" (does not); `fix` is empty or what to do."""

    name: str
    state: Literal["ok", "warn", "problem"]
    text: str
    fix: str = ""


def collect(with_torch: bool = True) -> list[Check]:
    """Make all checks, in the order of the report.

    Args:
        with_torch: import torch and our classes (some seconds) to check the device and that the classes load.
    """
    checks = [_python(), Check("nnunet_xlstm", "ok", __version__), _nnunetv2(), _torch_version()]
    checks += _registration()
    checks += [_folder(variable, holds) for variable, holds in FOLDERS.items()]
    if with_torch:
        checks += [_classes(), _device()]
    checks += [_workers("nnUNet_def_n_proc", *_wanted_processes()), _workers("nnUNet_n_proc_DA", *_wanted_augmenters())]
    return checks + [_config(), _mlstm_kernels()]


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    low, high = PYTHON_RANGE
    if low <= sys.version_info[:2] <= high:
        return Check("python", "ok", version)
    text = f"{version}: nnunet_xlstm is written for {low[0]}.{low[1]} to {high[0]}.{high[1]}"
    return Check("python", "warn", text, "use an environment with one of these")


def _nnunetv2() -> Check:
    try:
        folder = registration.nnunetv2_folder()
    except ConfigError as error:
        return Check("nnunetv2", "problem", str(error), PIP_NNUNETV2)
    version = _version("nnunetv2")
    numbers = tuple(map(int, re.findall(r"\d+", version)[:3]))
    low, beyond = NNUNETV2_RANGE
    if not numbers:
        return Check("nnunetv2", "warn", f"unknown version in {folder}; 2.8.x is needed", PIP_NNUNETV2)
    if numbers < low:
        return Check("nnunetv2", "problem", f"{version} in {folder} is too old", PIP_NNUNETV2)
    if numbers >= beyond:
        return Check("nnunetv2", "warn", f"{version} in {folder} is newer than what was tested (2.8.x)", PIP_NNUNETV2)
    return Check("nnunetv2", "ok", f"{version} in {folder}")


def _torch_version() -> Check:
    version = _version("torch")
    return Check("torch", "ok", version) if version else Check("torch", "problem", "not installed", "pip install torch")


def _version(distribution: str) -> str:
    """Return the version of an installed distribution without importing it, or ""."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _registration() -> list[Check]:
    """Check both shims, write access, and the fallback for trainers."""
    try:
        paths = registration.shim_paths()
    except ConfigError:  # reported by the check of nnunetv2
        return []
    writable = registration.is_writable()
    fallback = _ext_trainer()
    active = fallback is not None and fallback.state == "ok"
    checks = [_shim(kind, path, writable, active and kind == "trainers") for kind, path in paths.items()]
    folder = str(registration.nnunetv2_folder())
    if writable:
        checks.append(Check("write access", "ok", f"to {folder}"))
    else:
        checks.append(Check("write access", "warn", f"none to {folder}: register as its owner or use the fallbacks"))
    return checks + ([fallback] if fallback else [])


def _shim(kind: str, path: Path, writable: bool, fallback_active: bool) -> Check:
    name, state = f"{kind} (-{'tr' if kind == 'trainers' else 'pl'})", registration.shim_state(path)
    if state == "registered":
        return Check(name, "ok", "registered: stock commands find them")
    if state == "outdated":
        return Check(name, "warn", f"{path} is of another version of nnunet_xlstm", "nnunet_xlstm register")
    if state == "foreign":
        fix = f"move {path} away, then: nnunet_xlstm register"
        return Check(name, "problem", f"{path} was not written by nnunet_xlstm", fix)
    if fallback_active:
        return Check(name, "ok", "not registered, found through nnUNet_extTrainer")
    if writable:
        return Check(name, "problem", "not registered: stock commands do not find them", "nnunet_xlstm register")
    if kind == "trainers":
        return Check(name, "problem", "not registered, nnunetv2 is read-only", registration.trainer_fallback())
    fix = f"plan with: {registration.PLANNER_FALLBACK}"
    return Check(name, "warn", "not registered, nnunetv2 is read-only: stock -pl does not find them", fix)


def _ext_trainer() -> Check | None:
    """Check the variable nnUNet_extTrainer; None if unset, which is fine."""
    entries = registration.ext_trainer_entries()
    if not entries:
        return None
    missing = [entry for entry in entries if not Path(entry).is_dir()]
    if any(Path(entry).resolve() == registration.SHIM.parent for entry in entries):
        return Check("nnUNet_extTrainer", "ok", "contains the folder of nnunet_xlstm")
    if missing:
        text = f"folders that do not exist are silently skipped: {', '.join(missing)}"
        return Check("nnUNet_extTrainer", "warn", text, "correct the path")
    return Check("nnUNet_extTrainer", "ok", "set, without nnunet_xlstm (needed only where it is not registered)")


def _folder(variable: str, holds: str) -> Check:
    value = os.environ.get(variable)
    if not value:
        return Check(variable, "problem", f"not set ({holds})", f"export {variable}=/path/to/{variable}")
    if not os.path.isdir(value):
        if os.path.exists(value):
            return Check(variable, "problem", f"{value} is not a folder", f"export {variable}=/path/to/{variable}")
        return Check(variable, "problem", f"{value} does not exist", f"mkdir -p {value}")
    if os.access(value, os.W_OK):
        return Check(variable, "ok", value)
    if variable == "nnUNet_raw":  # nnU-Net only reads it
        return Check(variable, "ok", f"{value} (read-only)")
    return Check(variable, "problem", f"{value} cannot be written", f"chmod u+w {value}, or set another folder")


def _classes() -> Check:
    """Check that each trainer and planner loads: the shim shows a broken plugin only when a class is asked for."""
    modules = sorted({*TRAINERS.values(), *PLANNERS.values()})
    broken = [f"{module}: {error}" for module in modules if (error := _import_error(module))]
    if broken:
        text = f"{len(broken)} of {len(modules)} modules do not load, first {broken[0]}"
        return Check("our classes", "problem", text, "mend that, or install nnunet_xlstm again with its dependencies")
    return Check("our classes", "ok", f"{len(TRAINERS)} trainers and {len(PLANNERS)} planners load")


def _import_error(module: str) -> str:
    try:
        importlib.import_module(module)
    except Exception as error:  # whatever a broken dependency raises is the finding
        return f"{type(error).__name__}: {error}"
    return ""


def _device() -> Check:
    if error := _import_error("torch"):
        return Check("device", "problem", f"torch does not load: {error}", "pip install --force-reinstall torch")
    import torch

    if torch.cuda.is_available():
        return Check("device", "ok", f"cuda: {torch.cuda.get_device_name()}")
    name = "mps" if torch.backends.mps.is_available() else "cpu"
    fix = f"pass -device {name} to nnUNetv2_train and nnUNetv2_predict (their default is cuda)"
    return Check("device", "warn", f"{name}: torch finds no CUDA device", fix)


def _wanted_processes() -> tuple[int, int]:
    """Return (nnU-Net's default, what fits here) for its pools of worker processes."""
    return 8, int(max(1, min(8, machine.cores(), machine.memory_gb() // (2 * WORKER_GB))))


def _wanted_augmenters() -> tuple[int, int]:
    """Return (nnU-Net's default, what fits here) for augmentation workers; 0: in the main process."""
    default = min(12, os.cpu_count() or 1)
    return default, int(max(0, min(default, machine.cores() - 2, machine.memory_gb() // (2 * WORKER_GB) - 1)))


def _workers(variable: str, default: int, wanted: int) -> Check:
    """Check a number of worker processes: set to an integer, or the default fits this machine."""
    value = os.environ.get(variable)
    fix = f"export {variable}={wanted}"
    if value is None:
        memory = machine.memory_gb()
        # One core less than nnU-Net would like does no harm on a big machine.
        if default > wanted and (machine.cores() <= 8 or memory < 2 * WORKER_GB * default):
            text = f"not set: nnU-Net starts {default} workers on {machine.cores()} cores and {memory:.0f} GB"
            return Check(variable, "warn", text, fix)
        return Check(variable, "ok", f"not set: nnU-Net starts {default} workers")
    if not re.fullmatch(r"\s*\d+\s*", value):
        return Check(variable, "problem", f"{value!r} is not a number, so nnU-Net does not start", fix)
    return Check(variable, "ok", value)


def _config() -> Check:
    variable = "nnUNet_xlstm_config"
    path = os.environ.get(variable)
    if not path:
        return Check(variable, "ok", "not set: trainers use their defaults")
    try:
        keys = read_json(Path(path), dict)
    except DatasetError as error:
        return Check(variable, "problem", str(error), f"correct the file, or unset {variable}")
    return Check(variable, "ok", f"{path} sets {', '.join(keys) or 'nothing'}")


def _mlstm_kernels() -> Check:
    if find_spec("mlstm_kernels") is None:
        return Check("mlstm_kernels", "ok", "not installed (optional, for CUDA): pure PyTorch is used")
    return Check("mlstm_kernels", "ok", _version("mlstm_kernels") or "installed")
