"""Where nnU-Net's commands are, the environment variables that they get, and what is installed."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from nnunet_xlstm.errors import UserError
from nnunet_xlstm.nnunet.install import registration

# For a machine of few cores: every worker imports torch, and augmentation in the main process is repeatable.
# Threads of torch that wait shall sleep: spinning makes training on a busy machine several times slower.
FEW_CORES = {"nnUNet_n_proc_DA": "0", "nnUNet_def_n_proc": "1", "OMP_WAIT_POLICY": "PASSIVE"}
PACKAGES = ("nnunet_xlstm", "nnunetv2", "torch", "dynamic_network_architectures", "numpy", "SimpleITK")


def child_variables(folders: Mapping[str, Path], config: Path) -> dict[str, str]:
    """Return the variables that children get beside the environment.

    Args:
        folders: "raw", "preprocessed" and "results" of nnU-Net.
        config: JSON with keys of the trainer.
    """
    variables = {f"nnUNet_{name}": str(folder) for name, folder in folders.items()}
    variables |= {"nnUNet_xlstm_config": str(config), "PYTHONUNBUFFERED": "1"}
    if not is_registered("trainers"):
        entries = [str(registration.SHIM.parent), *registration.ext_trainer_entries()]
        variables["nnUNet_extTrainer"] = os.pathsep.join(dict.fromkeys(entries))
    return variables


def is_registered(kind: str) -> bool:
    """Return whether stock commands find our "trainers" or "planners"; a shim of another version serves as well."""
    return registration.shim_state(registration.shim_paths()[kind]) in ("registered", "outdated")


def plan_command() -> list[str]:
    """Return the stock planning command, or ours where the planners are not registered."""
    if is_registered("planners"):
        return [stock_command("nnUNetv2_plan_and_preprocess")]
    return own_command("plan_and_preprocess")


def own_command(name: str) -> list[str]:
    """Return one of our commands, run by this Python."""
    return [sys.executable, "-m", "nnunet_xlstm", name]


def stock_command(name: str) -> str:
    """Return the path of an nnU-Net command, of this Python's environment before any other.

    Raises:
        UserError: nnU-Net is not installed here.
    """
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        raise UserError(
            f"The command {name} is neither beside {sys.executable} nor on the PATH; "
            'install nnU-Net into this environment: pip install "nnunetv2>=2.8.1,<2.9"'
        )
    return found


def versions() -> dict[str, str]:
    """Return Python, the machine, and the versions of the packages that results rest on."""
    found = {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    return found | {name: metadata.version(name) for name in PACKAGES}
