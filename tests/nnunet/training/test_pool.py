"""The trainer for pools inside nnU-Net, in this process: two data sets that each label some of two targets."""

import json
import os
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from support.ranks import start
from torch import distributed as dist

from nnunet_xlstm.cli.main import main
from nnunet_xlstm.config import PoolConfig
from nnunet_xlstm.datasets.case_index import SAMPLING, CaseRecord, PoolCases
from nnunet_xlstm.losses.partial_labels import PartialLabelLoss
from nnunet_xlstm.nnunet.training.pool import dice_of, expand_by_probability, summary_by_source
from nnunet_xlstm.nnunet.transfer.source import read_source

QUICK = {
    "num_epochs": 2,
    "num_iterations_per_epoch": 3,
    "num_val_iterations_per_epoch": 2,
    "patch_size": [16, 16, 16],
    "batch_size": 2,
    "seed": 7,
}
PLANS = "nnUNetXLSTMUNetTinyPlans"


@pytest.fixture
def make(make_trainer, pool):
    def _make(dataset=None, fold=0, edit=lambda description: None, name="nnUNetTrainerPool", **keys):
        """`dataset`: another one than the pool; `edit` changes dataset.json as the trainer sees it."""
        trainer = make_trainer(
            name,
            QUICK | keys,
            dataset=dataset or pool.preprocessed.name,
            fold=fold,
            edit=lambda _, description: edit(description),
        )
        trainer.lines = []
        trainer.print_to_log_file = lambda *text, **_: trainer.lines.append(" ".join(map(str, text)))
        return trainer

    return _make


def test_what_is_valid_comes_from_the_side_car(make):
    trainer = make()
    assert trainer.targets == ["whole", "core"] and trainer.sources == ["Both", "Whole"]
    assert trainer.valid(np.array(["Whole_w0", "Both_case_1"])).tolist() == [[True, False], [True, True]]


def first_batch(trainer):
    trainer.initialize()
    trainer.on_train_start()
    return next(trainer.dataloader_train)


def head_gradients(trainer, batch, *cases):
    """A step as if the batch were of these cases; of every head, how much gradient `whole` and `core` got."""
    batch["keys"] = np.array(cases)
    trainer.train_step(batch)
    heads = [m for m in trainer.network.modules() if isinstance(m, torch.nn.Conv3d) and m.out_channels == 2]
    return [head.weight.grad.abs().flatten(1).sum(1) for head in heads if head.weight.grad is not None]


def test_the_output_of_an_unannotated_target_gets_no_gradient(make):
    """Batches of `Whole` alone leave the head of `core` where it was."""
    trainer = make()
    batch = first_batch(trainer)
    reached = head_gradients(trainer, batch, "Whole_w0", "Whole_w1")
    assert reached and all(core == 0 for _, core in reached) and any(whole > 0 for whole, _ in reached)
    assert any(core > 0 for _, core in head_gradients(trainer, batch, "Whole_w0", "Both_case_1"))


def scans_of_heads(description):
    """`Whole` shows heads; `core`, which it does not label, lies in the abdomen, and so does `whole`, which it does."""
    for target in description["pool"]["targets"]:
        target["region"] = ["abdomen"]
    description["pool"]["sources"]["Whole"]["field_of_view"] = ["head"]


def test_what_a_scan_cannot_contain_may_count_as_absent(make):
    keys = np.array(["Whole_w0", "Both_case_1"])
    assert make(edit=scans_of_heads).in_loss(keys).tolist() == [[True, False], [True, True]]
    trainer = make(edit=scans_of_heads, out_of_scope_targets="absent")
    assert trainer.in_loss(keys).tolist() == [[True, True], [True, True]]
    assert trainer.valid(keys).tolist() == [[True, False], [True, True]]  # what is drawn from and scored
    assert make(out_of_scope_targets="absent").in_loss(keys).tolist() == [[True, False], [True, True]]  # could be there


def weights(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def learnt(before, after):
    """Which of "encoder" and "decoder" have a tensor that is another, bit for bit."""
    return {name.split(".")[0] for name, tensor in before.items() if not torch.equal(tensor, after[name])}


@pytest.mark.parametrize(
    ("name", "keys", "learns"),
    [
        ("nnUNetTrainerPoolFrozen", {}, {"decoder"}),
        ("nnUNetTrainerPoolFrozen", {"optimizer": "sgd"}, {"decoder"}),
        ("nnUNetTrainerPoolFinetune", {"trainable": "decoder", "optimizer": "adamw"}, {"decoder"}),
        ("nnUNetTrainerPoolFinetune", {}, {"encoder", "decoder"}),
    ],
)
def test_frozen_on_a_pool_stays_bit_for_bit_under_its_loss(name, keys, learns, make, pool, pretrained_file, tmp_path):
    """Weight decay moves nothing that is frozen, and the head of a target that nobody annotated gets no gradient."""
    adapted = tmp_path / "adapted.pth"
    assert main(["adapt", str(pretrained_file), "-d", "905", "-p", PLANS, "-o", str(adapted)]) == 0
    trainer = make(name=name, weight_decay=0.1, initial_lr=0.01, **keys)
    trainer.initialize()
    load_pretrained_weights(trainer.network, str(adapted))
    before = weights(trainer.network)
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    assert "the encoder holds pre-trained weights" in trainer.lines
    batch = next(trainer.dataloader_train)
    reached = head_gradients(trainer, batch, "Whole_w0", "Whole_w1")
    assert isinstance(trainer.loss, PartialLabelLoss)
    assert reached and all(core == 0 for _, core in reached) and any(whole > 0 for whole, _ in reached)
    assert learnt(before, weights(trainer.network)) == learns


def test_staged_on_a_pool_the_decoder_learns_first_and_each_data_set_is_scored(make):
    trainer = make(name="nnUNetTrainerPoolStaged", decoder_epochs=1, weight_decay=0.1)
    trainer.initialize()
    states, stock = [weights(trainer.network)], trainer.on_epoch_end
    trainer.on_epoch_end = lambda: (states.append(weights(trainer.network)), stock())
    trainer.run_training()
    assert [learnt(*pair) for pair in pairwise(states)] == [{"decoder"}, {"encoder", "decoder"}]
    said = "\n".join(trainer.lines)
    assert "validation Dice of Whole: " in said and "training cases are drawn from: Both 0." in said


def test_what_counts_as_absent_is_learnt(make):
    """The head of `core` gets a gradient from `Whole` alone, and validation counts nothing of it."""
    trainer = make(edit=scans_of_heads, out_of_scope_targets="absent")
    batch = first_batch(trainer)
    reached = head_gradients(trainer, batch, "Whole_w0", "Whole_w1")
    assert any(core > 0 for _, core in reached)
    counts = trainer.validation_step(batch)["counts"]
    assert counts[trainer.sources.index("Whole"), trainer.targets.index("core")].tolist() == [0, 0, 0]


def test_the_key_has_every_scheme():
    """config imports nothing, so it lists them again."""
    (row,) = (f for f in fields(PoolConfig) if f.name == "case_sampling")
    assert row.metadata["choices"] == ("pool", *SAMPLING)


@pytest.mark.parametrize(("sampling", "share"), [("pool", 1 / 3), ("uniform", 1 / 2)])
def test_how_often_a_source_is_drawn(make, pool, sampling, share):
    """Four cases of `Whole` and four of `Both`, here of one person: 1 : sqrt(4) by subjects, alike by cases."""
    trainer = make(case_sampling=sampling)
    rows = {k: replace(r, subject="one") if r.source == "Both" else r for k, r in trainer.pool.cases.items()}
    trainer.pool = replace(trainer.pool, cases=rows)
    fold = json.loads((pool.preprocessed / "splits_final.json").read_text())[0]["train"]
    assert sorted(rows[case].source for case in fold) == ["Both"] * 4 + ["Whole"] * 4
    drawn = trainer.get_tr_and_val_datasets()[0].identifiers
    assert sum(rows[case].source == "Both" for case in drawn) / len(drawn) == pytest.approx(share, abs=1e-3)


def test_a_run_scores_each_data_set_by_its_own_targets(make, pool):
    folds = json.loads((pool.preprocessed / "splits_final.json").read_text())
    fold = next(i for i, one in enumerate(folds) if {case.split("_")[0] for case in one["val"]} == {"Both", "Whole"})
    trainer = make(fold=fold, num_val_iterations_per_epoch=6)
    trainer.run_training()
    said = "\n".join(trainer.lines)
    assert "training cases are drawn from: Both 0." in said
    assert "validation Dice of Whole: {'whole'" in said and "validation Dice of Both: {'whole'" in said
    trainer.perform_actual_validation()
    found = json.loads((Path(trainer.output_folder) / "validation" / "summary_by_source.json").read_text())
    assert set(found["sources"]["Whole"]["Dice"]) == {"whole"}
    assert set(found["sources"]["Both"]["Dice"]) == {"whole", "core"}
    assert any("mean over data sets, annotated targets only" in line for line in trainer.lines)
    checkpoint = Path(trainer.output_folder) / "checkpoint_final.pth"
    source = read_source(checkpoint)  # for transfer, without trust in pickled objects
    assert source.row["patch_size"] == QUICK["patch_size"] and any("decoder" in name for name in source.weights)


def test_a_run_goes_on_exactly(make):
    whole = make(num_epochs=3, save_every=1)
    kept, stock = {}, whole.on_epoch_end

    def keep():
        stock()
        kept.setdefault("bytes", Path(whole.output_folder, "checkpoint_best.pth").read_bytes())  # after epoch 0

    whole.on_epoch_end = keep
    whole.run_training()
    path = Path(whole.output_folder, "checkpoint_kept.pth")
    path.write_bytes(kept["bytes"])
    again = make(num_epochs=3, save_every=1)
    again.load_checkpoint(str(path))
    assert again.current_epoch == 1
    again.run_training()
    ours, theirs = again.network.state_dict(), whole.network.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert again.logger.get_value("mean_fg_dice", None) == whole.logger.get_value("mean_fg_dice", None)


def test_it_takes_a_pretrained_encoder(make, pool, pretrained_file, tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_preprocessed", str(pool.preprocessed.parent))
    adapted = tmp_path / "adapted.pth"
    number = str(int(pool.preprocessed.name[7:10]))
    assert main(["adapt", str(pretrained_file), "-d", number, "-p", PLANS, "-o", str(adapted)]) == 0
    trainer = make(num_epochs=1)
    trainer.initialize()
    load_pretrained_weights(trainer.network, str(adapted))  # nnUNetv2_train -pretrained_weights
    before = torch.load(pretrained_file, weights_only=True)["network_weights"]
    encoder = trainer.network.encoder.state_dict()
    assert all(torch.equal(encoder[name], before[f"encoder.{name}"]) for name in encoder)
    trainer.run_training()
    assert np.isfinite(trainer.logger.get_value("train_losses", 0))


def test_targets_of_each_source_apart(make, pool_apart):
    trainer = make(pool_apart.preprocessed.name)
    assert trainer.targets == ["Both__whole", "Whole__whole", "Both__core"]  # organs, then lesions
    assert trainer.valid(["Whole_w0", "Both_case_1"]).tolist() == [[False, True, False], [True, False, True]]
    trainer.run_training()
    head = [m for m in trainer.network.modules() if isinstance(m, torch.nn.Conv3d) and m.out_channels == 3]
    assert head and np.isfinite(trainer.logger.get_value("train_losses", 1))
    said = "\n".join(trainer.lines)
    assert "validation Dice of Whole: {'Whole__whole'" in said or "validation Dice of Both: {'Both__" in said


def test_patches_are_centerd_on_annotated_targets_alone(make, pool):
    """nnU-Net's loader picks among what preprocessing found in a case; `core` is nowhere in `Whole`."""
    trainer = make(fold="all")
    trainer.initialize()
    dataset, _ = trainer.get_tr_and_val_datasets()
    regions = dict(zip(trainer.targets, trainer.label_manager.foreground_regions, strict=True))
    for case in set(dataset.identifiers):
        *_, properties = dataset.load_case(case)
        found = {t for t, region in regions.items() if len(properties["class_locations"][region])}
        assert found == set(trainer.pool.cases[case].valid), case


@pytest.mark.parametrize("ignore", [False, True])
def test_counts_of_validation_by_hand(make, ignore):
    """Four voxels; the network says yes to the first two everywhere; `core` does not count in `Whole`."""
    trainer = make()
    trainer.loss = lambda *_: torch.tensor(0.5)
    trainer.network = lambda data: [torch.tensor([1.0, 1, -1, -1]).expand(2, 2, 4)]
    target = torch.tensor([[[1, 0, 1, 0]] * 2] * 2, dtype=torch.bool)
    if ignore:  # of the last two voxels nothing is known
        trainer.label_manager._ignore_label = 9
        target = torch.cat([target, torch.tensor([0, 0, 1, 1], dtype=torch.bool).expand(2, 1, 4)], 1)
    batch = {"data": torch.zeros(2, 1, 4), "target": [target], "keys": np.array(["Whole_w0", "Both_case_1"])}
    result = trainer.validation_step(batch)
    one = [1, 2, 1] if ignore else [1, 2, 2]
    assert result["counts"].tolist() == [[one, one], [one, [0, 0, 0]]] and result["loss"] == 0.5


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_best_checkpoint_is_chosen_by_the_mean_over_data_sets(make, monkeypatch, ranks):
    """Both: whole 0.5, core nowhere; Whole: whole 1. The other rank has predicted two voxels more that are false."""
    trainer = make()
    logged = {}
    monkeypatch.setattr(trainer.logger, "log", lambda key, value, epoch: logged.update({key: value}))
    if ranks > 1:
        trainer.is_ddp = True
        monkeypatch.setattr(torch.distributed, "get_world_size", lambda: ranks)

        def gather(out, mine):
            out[:] = [mine, (3.0, np.array([[[0, 2, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]]))]

        monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    counts = torch.tensor([[[1, 2, 2], [0, 0, 0]], [[4, 4, 4], [0, 0, 0]]])
    trainer.on_validation_epoch_end([{"loss": 1.0, "counts": counts}, {"loss": 2.0, "counts": counts}])
    both = 4 / 8 if ranks == 1 else 4 / 10
    assert logged["mean_fg_dice"] == pytest.approx((both + 1) / 2)
    whole, core = logged["dice_per_class_or_region"]
    assert whole == pytest.approx((both + 1) / 2) and np.isnan(core)
    assert logged["val_losses"] == (1.5 if ranks == 1 else 2.25)


def test_deep_supervision_halves_the_weights(make):
    trainer = make()
    trainer._get_deep_supervision_scales = lambda: [[1.0], [0.5], [0.25], [0.125]]
    assert trainer._build_loss().scale_weights == pytest.approx((4 / 7, 2 / 7, 1 / 7, 0))
    trainer.enable_deep_supervision = False
    assert trainer._build_loss().scale_weights == (1,)


def test_weights_of_the_loss(make):
    loss = make(dice_weight=0.25, ce_weight=2.0)._build_loss()
    assert (loss.dice_weight, loss.ce_weight) == (0.25, 2.0)


def test_a_data_set_that_is_no_pool_is_refused(make):
    with pytest.raises(ValueError, match="is not a labelled pool.*nnunet_xlstm pool build"):
        make(dataset="Dataset901_Ellipsoids")


def test_targets_of_another_build_are_refused(make, pool):
    path = pool.preprocessed / "pool_cases.json"
    text = path.read_text()
    try:
        path.write_text(text.replace('"core"', '"kernel"'))
        with pytest.raises(ValueError, match="kernel of case .* is missing from dataset.json"):
            make()
    finally:
        path.write_text(text)


def test_preprocessed_data_of_an_earlier_build_are_refused(make, pool):
    """A source more gives new codes; `pool build` writes them into dataset.json at once."""
    path = pool.preprocessed / "dataset.json"
    text = path.read_text()
    description = json.loads(text)
    try:
        labels = description["labels"] | {"whole": [1, 2, 3], "core": [3, 2]}
        path.write_text(json.dumps(description | {"labels": labels}))
        trainer = make()
        trainer.initialize()
        with pytest.raises(ValueError, match="preprocessed with other codes for .*preprocess again with --clean"):
            trainer.get_tr_and_val_datasets()
    finally:
        path.write_text(text)


def test_repeated_keeps_proportions():
    p = np.array([0.5, 0.3, 0.15, 0.04999, 0.00001])
    cases = expand_by_probability(list("abcde"), p)
    share = np.array([(cases == c).mean() for c in "abcde"])
    assert np.abs(share - p).max() < 2 / len(cases) and (cases == "e").sum() == 1


def test_dice_of_counts():
    counts = np.array([[[2, 3, 5], [0, 0, 0]], [[0, 1, 0], [4, 4, 4]]])
    assert dice_of(counts)[0, 0] == 0.5 and np.isnan(dice_of(counts)[0, 1])
    assert dice_of(counts)[1].tolist() == [0, 1]


def test_summary_by_source_by_hand():
    pool = PoolCases({
        "a1": CaseRecord("A", "A/1", "CT", valid=("liver",)),
        "b1": CaseRecord("B", "B/1", "CT", valid=("liver", "tumour")),
    })  # fmt: skip
    metrics = {"(1, 2)": {"Dice": 0.8}, "2": {"Dice": 0.1}}
    rows = [{"prediction_file": f"x/{case}.nii.gz", "metrics": metrics} for case in ("a1", "b1")]
    found = summary_by_source({"metric_per_case": rows}, pool, {"liver": "(1, 2)", "tumour": "2"})
    assert found["sources"]["A"] == {"Dice": {"liver": 0.8}, "cases": {"liver": 1}, "mean": 0.8}
    assert found["sources"]["B"]["mean"] == 0.45 and found["mean"] == 0.625


@pytest.mark.slow
def test_stock_prediction_serves_the_model(make, pool, tmp_path):
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    trainer = make(fold="all", num_epochs=1)
    trainer.run_training()
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False, use_mirroring=False)
    predictor.initialize_from_trained_model_folder(trainer.output_folder_base, ("all",))
    image = pool.folder.parent / "Dataset904_Whole" / "imagesTr" / "w0_0000.nii.gz"
    predictor.predict_from_files([[str(image)]], [str(tmp_path / "w0.nii.gz")], num_processes_preprocessing=1,
                                 num_processes_segmentation_export=1)  # fmt: skip
    codes = set(np.unique(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "w0.nii.gz")))).tolist())
    description = json.loads((pool.folder / "dataset.json").read_text())
    assert codes <= {0, *map(int, description["pool"]["codes"])}


def pool_rank(rank: int, folder: str) -> None:
    """An epoch of a pool: two steps, two batches of validation, and what is logged of them."""
    trainer = start("nnUNetTrainerPool", rank, folder, "Dataset905_Two", "all")
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    trainer.on_train_epoch_end([trainer.train_step(next(trainer.dataloader_train)) for _ in range(2)])
    trainer.on_validation_epoch_start()
    with torch.no_grad():
        outputs = [trainer.validation_step(next(trainer.dataloader_val)) for _ in range(2)]
    counts = sum(output["counts"] for output in outputs)
    trainer.on_validation_epoch_end(outputs)
    trainer.on_epoch_end()
    report = {
        "norm": sum(p.double().square().sum() for p in trainer.bare_network().parameters()).item(),
        "counts": counts.tolist(),
        "logged": {name: trainer.logger.get_value(name, 0) for name in ("mean_fg_dice", "dice_per_class_or_region")},
    }
    with open(os.path.join(folder, f"rank_{rank}.json"), "w") as file:
        json.dump(report, file)
    dist.destroy_process_group()


@pytest.mark.slow
def test_counts_of_a_pool_are_gathered_from_all_ranks(pool, tmp_path, monkeypatch):
    config = {"num_epochs": 1, "num_iterations_per_epoch": 2, "num_val_iterations_per_epoch": 2, "batch_size": 2}
    config |= {"patch_size": [16, 16, 16], "seed": 5}
    (tmp_path / "config.json").write_text(json.dumps(config))
    monkeypatch.setenv("nnUNet_xlstm_config", str(tmp_path / "config.json"))
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    torch.multiprocessing.start_processes(pool_rank, (str(tmp_path),), nprocs=2, start_method="spawn")
    one, two = (json.loads((tmp_path / f"rank_{rank}.json").read_text()) for rank in range(2))
    assert one["norm"] == two["norm"]
    assert one["counts"] != two["counts"]  # other patches
    both = dice_of(np.array(one["counts"]) + np.array(two["counts"]))
    seen = [np.nanmean(column) if np.isfinite(column).any() else None for column in both.T]
    assert one["logged"] == two["logged"]
    assert np.allclose(
        [d for d in one["logged"]["dice_per_class_or_region"] if d == d], [d for d in seen if d is not None]
    )
