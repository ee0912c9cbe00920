"""-pretrained_weights of a larger network."""

import sys
from pathlib import Path

import pytest
import torch
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights

from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.networks.build import build_network
from nnunet_xlstm.nnunet.training.pretrained_weights import check_pretrained_weights, named_file


@pytest.mark.parametrize(
    "words, expected",
    [
        (["901", "-p", "x"], None),
        (["-pretrained_weights", "a.pth", "-p", "x"], Path("a.pth")),
        (["-p", "x", "-pretrained_weights=b.pth"], Path("b.pth")),
        (["-pretrained_weights"], None),
    ],
)
def test_the_file_is_read_from_the_arguments(words, expected):
    assert named_file(words) == expected


def test_an_xlstm_network_is_not_loaded_into_its_control_in_silence(tmp_path, monkeypatch):
    full, control = (build_network(preset, (16, 16, 16), 1, 2) for preset in ("tiny", "tiny_no_xlstm"))
    torch.save({"network_weights": full.state_dict()}, tmp_path / "full.pth")
    torch.save({"network_weights": control.state_dict()}, tmp_path / "control.pth")
    load_pretrained_weights(control, str(tmp_path / "full.pth"))  # nnU-Net says nothing
    arguments = ["-pretrained_weights", str(tmp_path / "full.pth")]
    with pytest.raises(ConfigError, match=r"tensors of its encoder have no place .*xlstm.*nnunet_xlstm adapt"):
        check_pretrained_weights(control, arguments)
    check_pretrained_weights(full, arguments)
    check_pretrained_weights(control, ["-pretrained_weights", str(tmp_path / "control.pth")])
    monkeypatch.setattr(sys, "argv", ["nnUNetv2_train", *arguments])  # what the trainers look at
    with pytest.raises(ConfigError, match="no place"):
        check_pretrained_weights(control)
