"""A checkpoint of pre-training from its state, and back."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from nnunet_xlstm.config.pretraining import PretrainingConfig
from nnunet_xlstm.datasets.case_index import CaseRecord, PoolCases
from nnunet_xlstm.errors import CheckpointError
from nnunet_xlstm.nnunet.checkpoints import pretraining as checkpoints
from nnunet_xlstm.nnunet.training.random_state import random_state, restore_random_states

ARCHITECTURE = {"network_class_name": "nnunet_xlstm.networks.XLSTMUNet", "arch_kwargs": {}, "_kw_requires_import": []}
CONFIGURATION = {
    "data_identifier": "nnUNetPlans_3d_fullres",
    "preprocessor_name": "DefaultPreprocessor",
    "patch_size": np.array([16, 16, 8]),
    "spacing": [1.0, 1.0, 2.0],
    "normalization_schemes": ["ZScoreNormalization"],
    "use_mask_for_norm": [False],
    "resampling_fn_data": "resample",
    "resampling_fn_data_kwargs": {"order": 3},
    "resampling_fn_seg": "resample",
    "resampling_fn_seg_kwargs": {"order": 1},
    "architecture": ARCHITECTURE,
}
PLANS = {
    "dataset_name": "Dataset001_A",
    "plans_name": "nnUNetPlans",
    "original_median_spacing_after_transp": [1.0, 1.0, 2.0],
    "image_reader_writer": "SimpleITKIO",
    "transpose_forward": [0, 1, 2],
    "transpose_backward": [0, 1, 2],
    "experiment_planner_used": "PresetPlanner",
}


class Network(nn.Module):
    """An encoder under two names, as in dynamic_network_architectures, and a decoder."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(2, 2)
        self.decoder = nn.ModuleDict({"encoder": self.encoder, "last": nn.Linear(2, 1)})


@pytest.fixture
def state():
    network = Network()
    cases = {
        "a_0": CaseRecord("A", "1", "MR"),
        "a_1": CaseRecord("A", "1", "MR"),
        "b_0": CaseRecord("B", "2", "MR"),
    }
    return checkpoints.PretrainingState(
        stock={"init_args": {"plans": PLANS}, "current_epoch": 3, "trainer_name": "nnUNetTrainerDINO"},
        config=PretrainingConfig(),
        network=network,
        student_encoder=network.encoder,
        exported_encoder=nn.Linear(2, 2),
        method={"teacher.encoder.weight": torch.ones(2, 2)},
        plans=PLANS,
        foreground_intensities={"0": {"mean": np.float64(1.5)}},
        configuration_name="3d_fullres",
        configuration=CONFIGURATION,
        channel_names={"0": "MR"},
        pool=PoolCases(cases=cases, sampling="sqrt"),
        step=30,
        lineage=[],
        metrics=[{"epoch": 0, "val_loss": 1.0}],
        random_states=[random_state()],
    )


def test_from_the_state_to_a_file_and_back(state, tmp_path):
    torch.save(checkpoints.content(state), tmp_path / "a.pth")
    content = checkpoints.read(tmp_path / "a.pth")
    own = content[checkpoints.KEY]
    assert (own["dataset"], own["step"], own["pool"]) == ("Dataset001_A", 30, {"A": 1, "B": 1})
    assert own["preprocessing"]["patch_size"].tolist() == [16, 16, 8]
    assert own["preprocessing"]["foreground_intensity_properties_per_channel"] == {"0": {"mean": 1.5}}
    (entry,) = [checkpoints.lineage_entry(tmp_path / "a.pth", content)]
    assert (entry["stage"], entry["epochs"], entry["trainer"]) == (1, 3, "nnUNetTrainerDINO")
    plan = content[checkpoints.ADAPTATION]
    assert plan["pretrain_num_input_channels"] == 1 and plan["recommended_downstream_patchsize"] == [16, 16, 8]


def test_the_offered_encoder_stands_under_both_names(state):
    weights = checkpoints.content(state)["network_weights"]
    for name in ("encoder.weight", "decoder.encoder.weight"):
        assert torch.equal(weights[name], state.exported_encoder.weight)
    assert weights["encoder.weight"].data_ptr() == weights["decoder.encoder.weight"].data_ptr()
    assert torch.equal(weights["decoder.last.weight"], state.network.decoder["last"].weight)


def test_random_states_go_on_as_they_were(state):
    stored = checkpoints.content(state)[checkpoints.KEY]["random_states"]
    expected = (random.random(), np.random.rand(), torch.rand(1).item())
    restore_random_states(stored, rank=0)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected


def test_other_formats_are_refused(state, tmp_path):
    content = checkpoints.content(state)
    content[checkpoints.KEY]["format"] = 0
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="in format 0; this version reads format 1"):
        checkpoints.read(tmp_path / "a.pth")
    with pytest.raises(TypeError, match="tensors and JSON types, not object"):
        checkpoints.plain({"a": object()})
