"""What a training step reads from the device: on a GPU each read waits until all that was asked of it is done.

Counted on the CPU, by the functions that make them. Copies to the device go through `layers.device.to_device`.
"""

import collections
import sys
from contextlib import contextmanager

import pytest
import torch

from nnunet_xlstm.pretraining import distributed

READS = ("item", "tolist", "cpu", "numpy", "nonzero", "__bool__", "__float__", "__int__", "__index__")
QUICK = {"num_epochs": 2, "num_iterations_per_epoch": 3, "num_val_iterations_per_epoch": 1, "batch_size": 2, "seed": 7}
QUICK |= {"patch_size": [16, 16, 16]}
PRETRAINING = {
    "gradient_accumulation": 1,
    "n_prototypes": 16,
    "n_prototypes_inner": 8,
    "head_hidden": 16,
    "head_bottleneck": 8,
}
PRETRAINING |= {"queue_size": 8, "monitor_vectors": 16, "dense_points": 8, "mask_block": 8}

GUARD = {
    ("nnunet_xlstm.nnunet.training.finite_guard", "_before_step"): 1
}  # whether the optimizer steps is decided on the host
LOSS = {("nnunetv2.training.nnUNetTrainer.nnUNetTrainer", "train_step"): 2}  # nnU-Net's own: loss.cpu().numpy()
ON_THE_CPU = {  # these tensors are never on a device
    ("torch.optim.optimizer", "_get_value"),  # Adam's step counters
    ("nnunet_xlstm.losses.partial_labels", "forward"),  # which pairs are valid
    ("nnunet_xlstm.pretraining.objectives.masked", "forward"),  # which tokens are masked
}


@contextmanager
def counted_reads(monkeypatch):
    """(module, function) -> how often it reads a tensor's values."""
    found = collections.Counter()

    def watched(method):
        def read(tensor, *args, **kwargs):
            frame = sys._getframe(1)
            found[frame.f_globals["__name__"], frame.f_code.co_name] += 1
            return method(tensor, *args, **kwargs)

        return read

    with monkeypatch.context() as patch:
        for name in READS:
            patch.setattr(torch.Tensor, name, watched(getattr(torch.Tensor, name)))
        yield found


@pytest.fixture
def make(make_trainer, pool):
    def _make(name, **keys):
        dataset = "Dataset905_Two" if name == "nnUNetTrainerPool" else "Dataset901_Ellipsoids"
        trainer = make_trainer(name, QUICK | keys, dataset=dataset, fold="all")
        trainer.on_train_start()
        trainer.on_train_epoch_start()
        return trainer

    return _make


@pytest.mark.parametrize(
    ("name", "keys", "allowed"),
    [
        ("nnUNetTrainerXLSTMUNet", {}, GUARD | LOSS),
        ("nnUNetTrainerXLSTMUNetShort", {}, GUARD | LOSS),
        ("nnUNetTrainerPool", {}, GUARD | LOSS),
        ("nnUNetTrainerDINO", PRETRAINING, GUARD),
        ("nnUNetTrainerDINO", PRETRAINING | {"centering": "sinkhorn", "divergence": "js", "n_local_crops": 1}, GUARD),
        ("nnUNetTrainerMasked", PRETRAINING, GUARD),
        ("nnUNetTrainerMasked", PRETRAINING | {"masked_target": "features"}, GUARD),
    ],
)
def test_reads_of_a_training_step(make, monkeypatch, name, keys, allowed):
    trainer = make(name, **keys)
    trainer.train_step(next(trainer.dataloader_train))
    batch = next(trainer.dataloader_train)
    with counted_reads(monkeypatch) as found:
        trainer.train_step(batch)
    assert {place: n for place, n in found.items() if place not in ON_THE_CPU} == allowed


@pytest.mark.parametrize(("name", "keys"), [("nnUNetTrainerPool", {}), ("nnUNetTrainerDINO", PRETRAINING)])
def test_a_validation_step_reads_nothing(make, monkeypatch, name, keys):
    trainer = make(name, **keys)
    trainer.on_validation_epoch_start()
    batch = next(trainer.dataloader_val)
    with torch.no_grad(), counted_reads(monkeypatch) as found:
        output = trainer.validation_step(batch)
    assert not set(found) - ON_THE_CPU
    trainer.on_train_epoch_end([{"loss": torch.tensor(1.0)}])
    trainer.on_validation_epoch_end([output])


def test_numbers_of_rows_are_exchanged_once(monkeypatch):
    """This rank has 4 rows and the other 2; then 8 and 4."""
    calls = []

    def all_gather(out, x):
        calls.append(x.dtype)
        out[0].copy_(x)
        out[1].copy_(x // 2 if x.dtype == torch.long else torch.cat((-x[: len(x) // 2], 0 * x[len(x) // 2 :])))

    monkeypatch.setattr(distributed, "is_distributed", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_gather", all_gather)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 0)
    gather = distributed.RowGatherer()
    for _ in range(2):
        for n in (4, 8):
            x = torch.arange(float(n))[:, None]
            rows, first = gather(x)
            assert torch.equal(rows, torch.cat((x, -x[: n // 2]))) and first == 0
    assert calls.count(torch.long) == 2 and calls.count(torch.float) == 4
