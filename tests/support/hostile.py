"""A folder that records whether a file made us run its code; not a test."""

import copy
from pathlib import Path


class Trap:
    """`hubconf.py` in a folder: what names `torch.hub.load` with `arguments` in a file would run it."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()
        self.sprung_file = folder / "sprung"
        (folder / "hubconf.py").write_text(
            f"open({str(self.sprung_file)!r}, 'w').close()\n\ndef go(**kwargs):\n    raise SystemExit('sprung')\n"
        )
        self.arguments = {"repo_or_dir": str(folder), "model": "go", "source": "local"}

    @property
    def sprung(self) -> bool:
        return self.sprung_file.exists()

    def architecture(self, name: str = "torch.hub.load") -> dict:
        return {"network_class_name": name, "arch_kwargs": self.arguments, "_kw_requires_import": []}

    def in_plans(self, plans: dict, configuration: str = "3d_fullres") -> dict:
        plans = copy.deepcopy(plans)
        plans["configurations"][configuration]["architecture"] = self.architecture()
        return plans


class RunsCode:
    """Unpickling it makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))
