"""Registration against throw-away copies of nnunetv2; the installed one is never written to."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from nnunet_xlstm.errors import UserError
from nnunet_xlstm.nnunet.install import registration
from nnunet_xlstm.nnunet.install.registration import FOLDERS, SHIM, register, remove, shim_paths, shim_state

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def nnunetv2(tmp_path, monkeypatch):
    """A folder like an installed nnunetv2, without code."""
    monkeypatch.delenv("nnUNet_extTrainer", raising=False)
    return empty_nnunetv2(tmp_path / "nnunetv2")


def empty_nnunetv2(folder: Path) -> Path:
    for sub in FOLDERS.values():
        (folder / sub).mkdir(parents=True)
    (folder / "__init__.py").touch()
    return folder


def copy_nnunetv2(folder: Path) -> Path:
    real = Path(find_spec("nnunetv2").origin).parent
    ignore = shutil.ignore_patterns(SHIM.name)  # in case the tests' own environment is registered
    return Path(shutil.copytree(real, folder / "nnunetv2", ignore=ignore))


def run_script(path: Path, code: str, python_path: Path, *flags: str, **env: str) -> dict:
    """Runs code in a fresh interpreter; it prints one JSON object as its last line."""
    path.write_text(code)
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("nnUNet_")}
    process = subprocess.run(
        [sys.executable, *flags, str(path)],
        capture_output=True,
        text=True,
        cwd=path.parent,
        env={**inherited, **env, "PYTHONPATH": str(python_path)},
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


# Files: written, repeated, updated, removed, refused


def test_register_repeat_remove(nnunetv2):
    paths = shim_paths(nnunetv2)
    assert register(nnunetv2) == dict.fromkeys(FOLDERS, "registered")
    assert all(path.read_bytes() == SHIM.read_bytes() for path in paths.values())
    assert register(nnunetv2) == dict.fromkeys(FOLDERS, "already registered")
    assert remove(nnunetv2) == dict.fromkeys(FOLDERS, "removed")
    assert remove(nnunetv2) == dict.fromkeys(FOLDERS, "was not registered")
    assert [path for path in nnunetv2.rglob("*") if path.is_file()] == [nnunetv2 / "__init__.py"]


def test_others_can_read_the_shim(nnunetv2):
    register(nnunetv2)
    probe = nnunetv2 / "probe"
    probe.touch()
    assert {path.stat().st_mode for path in shim_paths(nnunetv2).values()} == {probe.stat().st_mode}


def test_outdated_shim_is_updated(nnunetv2):
    path = shim_paths(nnunetv2)["trainers"]
    path.write_bytes(registration.MARKER + b" of last year\n")
    assert shim_state(path) == "outdated"
    assert register(nnunetv2) == {"trainers": "updated", "planners": "registered"}
    assert shim_state(path) == "registered"


def test_foreign_file_is_left_alone(nnunetv2):
    path = shim_paths(nnunetv2)["planners"]
    path.write_text("# not ours\n")
    for change in (register, remove):
        with pytest.raises(FileExistsError, match="was not written by nnunet_xlstm"):
            change(nnunetv2)
    assert path.read_text() == "# not ours\n"
    assert shim_state(shim_paths(nnunetv2)["trainers"]) == "missing"  # nothing was half done


@pytest.mark.parametrize("broken", ["write_bytes", "replace"])
def test_refusal_of_the_system_is_explained(nnunetv2, monkeypatch, broken):
    def refuse(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(*{"write_bytes": (Path, "write_bytes"), "replace": (os, "replace")}[broken], refuse)
    with pytest.raises(PermissionError) as refusal:
        register(nnunetv2)
    text = str(refusal.value)
    assert "Read-only file system" in text and str(nnunetv2) in text
    assert f"export nnUNet_extTrainer={SHIM.parent}\n" in text
    assert "python -m nnunet_xlstm plan_and_preprocess" in text
    assert [path for path in nnunetv2.rglob("*") if path.is_file()] == [nnunetv2 / "__init__.py"]


def test_read_only_folder(nnunetv2):
    folders = [path.parent for path in shim_paths(nnunetv2).values()]
    for folder in folders:
        folder.chmod(0o555)
    try:
        if os.access(folders[0], os.W_OK):
            pytest.skip("this user (root) may write into read-only folders")
        assert not registration.is_writable(nnunetv2)
        with pytest.raises(PermissionError, match="export nnUNet_extTrainer="):
            register(nnunetv2)
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_removal_refused_by_the_system_is_explained(nnunetv2, monkeypatch):
    def refuse(_):
        raise PermissionError(13, "Permission denied")

    register(nnunetv2)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(PermissionError, match="as the owner of that folder"):
        remove(nnunetv2)


def test_not_an_nnunet_v2(tmp_path):
    with pytest.raises(UserError, match="no nnU-Net v2"):
        register(tmp_path)


def test_fallback_keeps_other_folders(monkeypatch):
    monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join(["/theirs", str(SHIM.parent), ""]))
    assert registration.trainer_fallback() == f"export nnUNet_extTrainer={SHIM.parent}{os.pathsep}/theirs"


# Where nnunetv2 is. `-S` leaves out site-packages, so that the made-up nnunetv2 is the only one.

FIND = """
import json, site, sys
site.addsitedir(sys.path[0] + "/site")
from nnunet_xlstm.nnunet.install import registration
try:
    out = {"folder": str(registration.nnunetv2_folder()), "done": registration.register()}
except ValueError as error:
    out = {"error": str(error)}
print(json.dumps({**out, "imported": "nnunetv2" in sys.modules}))
"""

FINDER = """
import sys
from importlib.util import spec_from_file_location

class Finder:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name == "nnunetv2":
            return spec_from_file_location(name, {init!r}, submodule_search_locations=[{folder!r}])

def install():
    sys.meta_path.append(Finder)
"""


@pytest.mark.parametrize("kind", ["plain", "editable path", "editable finder"])
def test_nnunetv2_is_found_and_written_to(tmp_path, kind):
    site = tmp_path / "site"
    site.mkdir()
    folder = empty_nnunetv2((site if kind == "plain" else tmp_path / "clone") / "nnunetv2")
    if kind == "editable path":
        (site / "clone.pth").write_text(f"{tmp_path / 'clone'}\n")
    elif kind == "editable finder":
        (site / "_editable_finder.py").write_text(FINDER.format(init=str(folder / "__init__.py"), folder=str(folder)))
        (site / "clone.pth").write_text("import _editable_finder; _editable_finder.install()\n")
    seen = run_script(tmp_path / "find.py", FIND, ROOT, "-S")
    assert seen == {"folder": str(folder), "done": dict.fromkeys(FOLDERS, "registered"), "imported": False}
    assert {shim_state(path) for path in shim_paths(folder).values()} == {"registered"}


@pytest.mark.parametrize(("leftover", "text"), [(False, "is not installed"), (True, "only a leftover folder")])
def test_no_nnunetv2(tmp_path, leftover, text):
    (tmp_path / "site" / ("nnunetv2" if leftover else "other")).mkdir(parents=True)
    seen = run_script(tmp_path / "find.py", FIND, ROOT, "-S")
    assert text in seen["error"] and "pip install" in seen["error"]


# Stock look-ups in a copy of the real nnunetv2, with a made-up nnunet_xlstm beside it

PLUGIN = {
    "__init__.py": "",
    "registry.py": (
        "TRAINERS = {'ToyTrainer': 'nnunet_xlstm.trainers.toy', 'Broken': 'nnunet_xlstm.trainers.broken',\n"
        "            'Misspelt': 'nnunet_xlstm.trainers.toy'}\n"
        "PLANNERS = {'ToyPlanner': 'nnunet_xlstm.planners.toy'}\n"
    ),
    "trainers/toy.py": (
        "from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer\n"
        "class ToyTrainer(nnUNetTrainer): ...\n"
    ),
    "trainers/broken.py": "import no_such_dependency\n",
    "planners/toy.py": (
        "from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner\n"
        "class ToyPlanner(ExperimentPlanner): ...\n"
    ),
}

LOOK_UP = """
import json, multiprocessing, os, pickle, sys, warnings

def find(name):
    import nnunetv2
    from nnunetv2.utilities.find_class_by_name import recursive_find_python_class
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
    try:
        if "Planner" in name:
            folder = os.path.join(nnunetv2.__path__[0], "experiment_planning")
            found = recursive_find_python_class(folder, name, current_module="nnunetv2.experiment_planning")
        else:
            found = recursive_find_trainer_class_by_name(name)
    except (ImportError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return found and found.__module__

STOCK = ("nnUNetTrainerNoMirroring", "nnUNetPlannerResEncM")
OURS = ("ToyTrainer", "ToyPlanner", "Broken", "Misspelt")
"""

PLAIN = (
    LOOK_UP
    + """
def in_worker(trainer):
    return [trainer.__module__, find("ToyTrainer"), find("ToyPlanner"), find(STOCK[0])]

def forget():
    for name in [name for name in sys.modules if name.split(".")[0] == "nnunet_xlstm"]:
        del sys.modules[name]

if __name__ == "__main__":
    out = {"stock": [find(name) for name in STOCK]}
    out["loaded by stock"] = sorted(name for name in sys.modules if name.startswith("nnunet_xlstm"))
    out["ours"] = {name: find(name) for name in OURS}
    from nnunet_xlstm.trainers.toy import ToyTrainer
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        out["worker"] = pool.apply(in_worker, (ToyTrainer,))

    forget()
    with open("site/nnunet_xlstm/registry.py", "w") as file:
        file.write("raise RuntimeError('old dependency')")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        out["broken"] = [find(name) for name in (*STOCK, "ToyPlanner")]
    out["warnings"] = sorted({str(w.message) for w in caught if "nnunet_xlstm" in str(w.message)})

    forget()
    sys.modules["nnunet_xlstm"] = None  # as if it were not installed
    out["absent"] = [find(name) for name in (*STOCK, "ToyPlanner", "ToyTrainer")]
    print(json.dumps(out))
"""
)


@pytest.fixture(scope="module")
def look_ups(tmp_path_factory):
    """What stock look-ups find, seen from one process (importing nnunetv2 takes most of the time)."""
    folder = tmp_path_factory.mktemp("plain")
    register(copy_nnunetv2(folder / "site"))
    for name, content in PLUGIN.items():
        path = folder / "site" / "nnunet_xlstm" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return run_script(folder / "look_up.py", PLAIN, folder / "site")


STOCK_FOUND = [
    "nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring",
    "nnunetv2.experiment_planning.experiment_planners.residual_unets.residual_encoder_unet_planners",
]


@pytest.mark.slow
def test_stock_look_ups_load_nothing_of_ours_but_the_names(look_ups):
    assert look_ups["stock"] == STOCK_FOUND
    assert look_ups["loaded by stock"] == ["nnunet_xlstm", "nnunet_xlstm.registry"]


@pytest.mark.slow
def test_stock_look_ups_find_our_classes_under_their_true_module(look_ups):
    assert look_ups["ours"]["ToyTrainer"] == "nnunet_xlstm.trainers.toy"
    assert look_ups["ours"]["ToyPlanner"] == "nnunet_xlstm.planners.toy"


@pytest.mark.slow
def test_a_broken_class_shows_its_own_error(look_ups):
    assert look_ups["ours"]["Broken"] == "ModuleNotFoundError: No module named 'no_such_dependency'"
    assert look_ups["ours"]["Misspelt"].startswith(
        "ImportError: nnunet_xlstm.trainers.toy, which should define Misspelt"
    )


@pytest.mark.slow
def test_spawned_workers(look_ups):
    ours = ["nnunet_xlstm.trainers.toy", "nnunet_xlstm.trainers.toy", "nnunet_xlstm.planners.toy"]
    assert look_ups["worker"] == [*ours, STOCK_FOUND[0]]


@pytest.mark.slow
def test_a_broken_plugin_disturbs_no_stock_look_up(look_ups):
    assert look_ups["broken"] == [*STOCK_FOUND, None]
    (warning,) = look_ups["warnings"]
    assert "nnunet_xlstm is broken" in warning and "old dependency" in warning


@pytest.mark.slow
def test_an_absent_plugin_disturbs_no_stock_look_up(look_ups):
    assert look_ups["absent"][:3] == [*STOCK_FOUND, None]
    assert look_ups["absent"][3].startswith("RuntimeError: Could not find requested nnunet trainer ToyTrainer")


EDITABLE = (
    LOOK_UP
    + """
import _editable_finder
sys.meta_path.insert(0, _editable_finder.Finder)  # first: the environment of the tests has its own nnunetv2
import nnunet_xlstm.registry
from nnunet_xlstm.cli.main import main

nnunet_xlstm.registry.TRAINERS["ToyTrainer"] = "toy_trainers"
nnunet_xlstm.registry.PLANNERS["ToyPlanner"] = "toy_planners"
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
first, second = (recursive_find_trainer_class_by_name("ToyTrainer") for _ in range(2))
out = {"fallback": find("ToyTrainer"), "same class": first is second}
out["pickles"] = pickle.loads(pickle.dumps(first)) is first
out["stock"] = [find(name) for name in STOCK]
out["not registered"] = find("ToyPlanner")
out["register"] = main(["register"])
for name in [name for name in sys.modules if name.endswith("nnunet_xlstm_shim")]:
    del sys.modules[name]
del os.environ["nnUNet_extTrainer"]
out["registered"] = [find("ToyTrainer"), find("ToyPlanner")]
print(json.dumps(out))
"""
)


@pytest.mark.slow
def test_editable_nnunetv2_and_the_fallback_folder(tmp_path):
    clone = copy_nnunetv2(tmp_path / "clone")
    finder = FINDER.format(init=str(clone / "__init__.py"), folder=str(clone))
    (tmp_path / "_editable_finder.py").write_text(finder)
    (tmp_path / "toy_trainers.py").write_text(PLUGIN["trainers/toy.py"])
    (tmp_path / "toy_planners.py").write_text(PLUGIN["planners/toy.py"])
    seen = run_script(tmp_path / "editable.py", EDITABLE, ROOT, nnUNet_extTrainer=str(SHIM.parent))
    assert seen.pop("stock") == STOCK_FOUND
    assert seen == {
        "fallback": "toy_trainers",
        "same class": True,
        "pickles": True,
        "not registered": None,
        "register": 0,
        "registered": ["toy_trainers", "toy_planners"],
    }
    assert {shim_state(path) for path in shim_paths(clone).values()} == {"registered"}


# Planning without registration


@pytest.fixture
def toy_planner(monkeypatch, tmp_path):
    (tmp_path / "toy_planners.py").write_text(PLUGIN["planners/toy.py"])
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(registration.PLANNERS, "ToyPlanner", "toy_planners")


@pytest.mark.slow
def test_planners_findable(toy_planner):
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api

    stock = api.recursive_find_python_class
    with registration.planners_findable():
        folder = os.path.join(os.path.dirname(api.__file__))
        found = api.recursive_find_python_class(folder, "ToyPlanner", current_module="nnunetv2.experiment_planning")
        assert found.__module__ == "toy_planners"
        api.plan_experiments([], "ToyPlanner")
        api.plan_experiments([], "nnUNetPlannerResEncM")
        with pytest.raises(ValueError, match="'NoPlanner'.*nnUNetPlannerXLSTMUNet"):
            api.plan_experiments([], "NoPlanner")
    assert api.recursive_find_python_class is stock


@pytest.mark.slow
def test_arguments_reach_the_stock_command_unchanged(toy_planner, monkeypatch, capsys):
    from nnunetv2.experiment_planning import plan_and_preprocess_entrypoints as entrypoints

    from nnunet_xlstm.cli.main import main

    planned = []
    monkeypatch.setattr(entrypoints, "extract_fingerprints", lambda *args, **kwargs: None)
    monkeypatch.setattr(entrypoints, "plan_experiments", lambda *args: planned.append(args))
    before = sys.argv
    assert main(["plan_and_preprocess", "-d", "7", "-pl", "ToyPlanner", "-gpu_memory_target", "4", "--no_pp"]) == 0
    assert planned[0][:3] == ([7], "ToyPlanner", 4.0)
    with pytest.raises(SystemExit) as stop:
        main(["plan_and_preprocess", "--help"])
    assert stop.value.code == 0 and "--verify_dataset_integrity" in capsys.readouterr().out
    assert sys.argv is before


def test_load_class_rejects_other_names():
    with pytest.raises(ValueError, match="no class 'nnUNetTrainer'.*nnUNetTrainerXLSTMUNetAdam"):
        registration.load_class("nnUNetTrainer")
