"""`status`: a sound machine has no problem, and each fault shows as one finding with its fix."""

import pytest

from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.nnunet.install import registration, status

FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")


@pytest.fixture
def sound(tmp_path, monkeypatch):
    """A registered plugin, the three folders, and no other setting; returns the folder."""
    nnunetv2 = tmp_path / "nnunetv2"
    for sub in registration.FOLDERS.values():
        (nnunetv2 / sub).mkdir(parents=True)
    monkeypatch.setattr(registration, "nnunetv2_folder", lambda: nnunetv2)
    registration.register(nnunetv2)
    for variable in FOLDERS:
        (tmp_path / variable).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / variable))
    for variable in ("nnUNet_extTrainer", "nnUNet_xlstm_config"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("nnUNet_def_n_proc", "1")
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    return tmp_path


def finding(name: str, with_torch: bool = False) -> status.Check:
    (check,) = [check for check in status.collect(with_torch) if check.name == name]
    return check


def read_only(monkeypatch):
    monkeypatch.setattr(registration.os, "access", lambda path, mode: False)  # root may write anywhere: simulated


def test_sound_machine(sound):
    checks = status.collect(with_torch=False)
    assert {check.state for check in checks} == {"ok"}
    assert len({check.name for check in checks}) == len(checks)
    assert "our classes" not in {check.name for check in checks}


@pytest.mark.parametrize(
    ("version", "state"),
    [("2.8.1", "ok"), ("2.8.10", "ok"), ("2.8.0", "problem"), ("2.7", "problem"), ("2.9", "warn"), ("", "warn")],
)
def test_version_of_nnunetv2(sound, monkeypatch, version, state):
    monkeypatch.setattr(status, "_version", lambda name: version)
    check = finding("nnunetv2")
    assert check.state == state
    assert (check.fix == "") == (state == "ok")


def test_no_nnunetv2(sound, monkeypatch):
    def absent():
        raise ConfigError("nnunetv2 is not installed")

    monkeypatch.setattr(registration, "nnunetv2_folder", absent)
    assert finding("nnunetv2").state == "problem"
    assert "trainers (-tr)" not in {check.name for check in status.collect(with_torch=False)}


def test_no_torch_installed(sound, monkeypatch):
    monkeypatch.setattr(status, "_version", lambda name: "" if name == "torch" else "2.8.1")
    assert finding("torch") == status.Check("torch", "problem", "not installed", "pip install torch")


def test_missing_shim(sound):
    registration.remove()
    for name in ("trainers (-tr)", "planners (-pl)"):
        assert (finding(name).state, finding(name).fix) == ("problem", "nnunet_xlstm register")


def test_outdated_and_foreign_shim(sound):
    paths = registration.shim_paths()
    paths["trainers"].write_bytes(registration.MARKER + b" of last year\n")
    paths["planners"].write_text("pass\n")
    assert (finding("trainers (-tr)").state, finding("trainers (-tr)").fix) == ("warn", "nnunet_xlstm register")
    assert finding("planners (-pl)").state == "problem" and "move" in finding("planners (-pl)").fix


def test_read_only_nnunetv2_names_the_fallbacks(sound, monkeypatch):
    registration.remove()
    read_only(monkeypatch)
    assert finding("write access").state == "warn"
    trainers, planners = finding("trainers (-tr)"), finding("planners (-pl)")
    assert (trainers.state, trainers.fix) == ("problem", f"export nnUNet_extTrainer={registration.SHIM.parent}")
    assert planners.state == "warn" and "python -m nnunet_xlstm plan_and_preprocess" in planners.fix
    monkeypatch.setenv("nnUNet_extTrainer", str(registration.SHIM.parent))
    assert finding("trainers (-tr)").state == finding("nnUNet_extTrainer").state == "ok"


def test_ext_trainer_of_others(sound, monkeypatch):
    monkeypatch.setenv("nnUNet_extTrainer", str(sound))
    assert finding("nnUNet_extTrainer").state == "ok" and "without nnunet_xlstm" in finding("nnUNet_extTrainer").text
    monkeypatch.setenv("nnUNet_extTrainer", str(sound / "gone"))
    assert finding("nnUNet_extTrainer").state == "warn"


@pytest.mark.parametrize("variable", FOLDERS)
def test_folders(sound, monkeypatch, variable):
    (sound / "file").write_text("")
    for value, fix in ((sound / "new", "mkdir -p"), (sound / "file", "export"), ("", "export")):
        monkeypatch.setenv(variable, str(value))
        assert finding(variable).state == "problem" and finding(variable).fix.startswith(fix)


def test_read_only_folders(sound, monkeypatch):
    read_only(monkeypatch)
    assert [finding(variable).state for variable in FOLDERS] == ["ok", "problem", "problem"]


@pytest.mark.parametrize(
    ("cores", "memory_gb", "processes", "augmenters"),
    [(2, 24, 2, 0), (4, 8, 4, 2), (32, 256, None, None), (16, 8, 4, 3), (10, 64, None, None)],
)
def test_workers_fit_the_machine(sound, monkeypatch, cores, memory_gb, processes, augmenters):
    monkeypatch.setattr(status.machine, "cores", lambda: cores)
    monkeypatch.setattr(status.os, "cpu_count", lambda: cores)
    monkeypatch.setattr(status.machine, "memory_gb", lambda: memory_gb)
    for variable, wanted in (("nnUNet_def_n_proc", processes), ("nnUNet_n_proc_DA", augmenters)):
        monkeypatch.delenv(variable)
        assert finding(variable).fix == ("" if wanted is None else f"export {variable}={wanted}")


def test_workers_not_a_number(sound, monkeypatch):
    monkeypatch.setenv("nnUNet_def_n_proc", "two")
    assert finding("nnUNet_def_n_proc").state == "problem"


@pytest.mark.parametrize(
    ("content", "state"),
    [('{"num_epochs": 3}', "ok"), ("{", "problem"), ("[1]", "problem"), (None, "problem"), ("[" * 10**5, "problem")],
)
def test_config(sound, monkeypatch, content, state):
    path = sound / "config.json"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("nnUNet_xlstm_config", str(path))
    assert finding("nnUNet_xlstm_config").state == state


def test_classes_that_do_not_load(sound, monkeypatch):
    (sound / "broken_plugin.py").write_text("import no_such_dependency\n")
    monkeypatch.syspath_prepend(str(sound))
    monkeypatch.setattr(status, "TRAINERS", {"BrokenTrainer": "broken_plugin"})
    monkeypatch.setattr(status, "PLANNERS", {"Fine": "json"})
    check = finding("our classes", with_torch=True)
    assert check.state == "problem" and "no_such_dependency" in check.text and "1 of 2" in check.text
    monkeypatch.setattr(status, "TRAINERS", {})
    assert finding("our classes", with_torch=True).state == "ok"


@pytest.mark.slow
def test_device(sound, monkeypatch):
    import torch

    monkeypatch.setattr(status, "_classes", lambda: status.Check("our classes", "ok", ""))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert finding("device", with_torch=True).state == "warn" and "-device" in finding("device", with_torch=True).fix
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Fast 1")
    assert finding("device", with_torch=True) == status.Check("device", "ok", "cuda: Fast 1")
