"""One run of a study with nnU-Net's and our own commands: adapt, train, predict, evaluate, report."""

import json

import pytest

from nnunet_xlstm.cli.main import main


@pytest.mark.slow
def test_two_iterations_from_a_checkpoint(nnunet_tree, pretrained_file, tmp_path):
    (tmp_path / "test.json").write_text('["case_4", "case_5"]')
    (tmp_path / "keys.json").write_text('{"patch_size": [16, 16, 16], "mirroring": false}')
    words = ["study", "few_label", "-d", str(nnunet_tree / "raw" / "Dataset901_Ellipsoids"), "--labels", "2"]
    words += ["--variants", f"full={pretrained_file}:nnUNetTrainerFinetune@nnUNetXLSTMUNetTinyPlans"]
    words += ["--seeds", "1", "--iterations", "2"]
    words += ["--config", str(tmp_path / "keys.json"), "--test-subjects", str(tmp_path / "test.json")]
    assert main([*words, "--device", "cpu", "-o", str(tmp_path / "out")]) == 0
    run = tmp_path / "out" / "runs" / "full_n2_s0"
    summary = json.loads((run / "summary.json").read_text())
    assert len(summary["metric_per_case"]) == 2
    assert "################### Loading pretrained weights" in (run / "logs" / "train.log").read_text()
    (fold,) = (run / "results").rglob("fold_0")
    assert (fold / "checkpoint_final.pth").is_file()
    assert (tmp_path / "out" / "report.html").is_file()
