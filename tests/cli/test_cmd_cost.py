"""`nnunet_xlstm cost`: presets, plans files, and its errors."""

import json

import pytest

from nnunet_xlstm.cli.main import main


def cost(capsys, *arguments):
    assert main(["cost", "--json", *map(str, arguments)]) == 0
    return json.loads(capsys.readouterr().out)


def test_presets(capsys):
    rows = cost(capsys, "tiny", "tiny_no_xlstm", "--patch", "32", "--channels", "2", "--classes", "3")
    assert [row["name"] for row in rows] == ["tiny", "tiny_no_xlstm"]
    full, ablation = rows
    assert full["gflop"] == pytest.approx(2 * full["gmac"], abs=1e-3) and full["gmac"] > ablation["gmac"]
    assert full["activation_mb"] > ablation["activation_mb"] and full["patch"] == "32x32x32"
    assert full["channels"] == 2 and full["latency_s"] is None


def test_plans_take_patch_channels_and_classes_from_the_data_set(capsys, nnunet_tree):
    folder = nnunet_tree / "preprocessed" / "Dataset901_Ellipsoids"
    path = folder / "nnUNetXLSTMUNetTinyPlans.json"
    (row,) = cost(capsys, path, "--latency", "1")
    assert (row["channels"], row["classes"]) == (1, 3)
    patch = json.loads(path.read_text())["configurations"]["3d_fullres"]["patch_size"]
    assert row["patch"] == "x".join(map(str, patch))
    assert row["name"] == "nnUNetXLSTMUNetTinyPlans/3d_fullres" and row["latency_s"] > 0
    assert cost(capsys, path, "-c", "2d")[0]["patch"].count("x") == 1


def test_a_preset_is_one_network_whatever_the_patch(capsys):
    small, large = (cost(capsys, "heartseg_30m", "--patch", n)[0] for n in ("64", "128"))
    assert small["params_m"] == large["params_m"] == pytest.approx(30.93, abs=0.02)
    assert large["gmac"] == pytest.approx(8 * small["gmac"], rel=0.01)
    assert large["outputs_m"] == pytest.approx(843, rel=0.02)


def test_named_rows(capsys, tmp_path, nnunet_tree):
    plans = nnunet_tree / "preprocessed" / "Dataset901_Ellipsoids" / "nnUNetXLSTMUNetTinyPlans.json"
    odd = tmp_path / "a=b.json"  # a file whose path holds the sign needs no name
    odd.write_text(plans.read_text())
    rows = cost(capsys, "ours=tiny", f"its plans={plans}", odd, f"c={odd}", "--patch", "16")
    assert [row["name"] for row in rows] == ["ours", "its plans", "nnUNetXLSTMUNetTinyPlans/3d_fullres", "c"]


def test_latency_on_a_cpu_has_no_memory(capsys):
    (row,) = cost(capsys, "tiny", "--patch", "16", "--latency", "1")
    assert row["latency_s"] > 0 and row["peak_memory_mb"] is None


def test_table(capsys):
    assert main(["cost", "tiny", "--patch", "16"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["name", "params"] and row.split()[0] == "tiny"
    assert "latency" not in head and "-" not in row  # what was not measured has no column
    assert main(["cost", "tiny", "--patch", "16", "--latency", "1"]) == 0
    assert "latency" in (head := capsys.readouterr().out) and "memory" not in head


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["huge"], "neither a file nor a preset; give a plans file or one of tiny"),
        (["ours=huge"], "'huge' is neither a file nor a preset"),
        (["=tiny"], "not NAME=PLANS or NAME=PRESET"),
        (["ours="], "not NAME=PLANS or NAME=PRESET"),
        (["tiny", "--patch", "16", "16", "16", "16"], "one per axis"),
        (["tiny", "--patch", "0"], "each 1 or more"),
        (["tiny", "--channels", "0"], "--channels 0"),
        (["tiny", "--patch", "16", "--latency", "1", "--device", "cuda"], "no CUDA GPU"),
        (["tiny", "--patch", "17"], "axis 0 is not divisible by 8"),
        (["tiny", "--latency", "-1"], "give 0 or more"),
    ],
)
def test_wrong_input(arguments, words, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["cost", *arguments]) == 1
    assert words in capsys.readouterr().err


def test_wrong_plans(tmp_path, capsys, nnunet_tree):
    (tmp_path / "plans.json").write_text("{}")
    assert main(["cost", str(tmp_path / "plans.json")]) == 1
    assert "not plans of nnU-Net" in capsys.readouterr().err
    path = nnunet_tree / "preprocessed" / "Dataset901_Ellipsoids" / "nnUNetXLSTMUNetTinyPlans.json"
    assert main(["cost", str(path), "-c", "3d_lowres"]) == 1
    assert 'configuration "3d_lowres" is unknown (did you mean 3d_fullres?); use 2d' in capsys.readouterr().err
