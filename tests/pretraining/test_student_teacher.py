"""A step of pre-training: gradients, accumulation, state, precision."""

import copy

import pytest
import torch
from dynamic_network_architectures.building_blocks.plain_conv_encoder import PlainConvEncoder
from support.ssl_toys import ToyEncoder, part, random_batch, small_config, trainable

from nnunet_xlstm.pretraining.student_teacher import StudentTeacher

SETTINGS = {
    "dino": {},
    "bottleneck": {"feature_stages": "bottleneck"},
    "dino+mse": {"mse_weight": 1.0, "divergence": "kl"},
    "mse": {"dino_weight": 0.0, "mse_weight": 1.0},
    "mse on features": {"dino_weight": 0.0, "mse_weight": 1.0, "mse_on": "feature"},
    "koleo": {"dino_weight": 0.0, "koleo_weight": 0.1},
    "robust": {"koleo_weight": 0.1, "dense_weight": 1.0},
    "sinkhorn": {"centering": "sinkhorn", "dense_weight": 1.0},
    "dense cosine": {"dino_weight": 0.0, "dense_weight": 1.0, "dense_distance": "cosine"},
    "masked features": {"dino_weight": 0.0, "masked_weight": 1.0},
    "masked voxels": {"dino_weight": 0.0, "masked_weight": 1.0, "masked_target": "voxels"},
    "all": {"mse_weight": 1.0, "koleo_weight": 0.1, "dense_weight": 1.0, "masked_weight": 1.0},
}


def method_of(dims=2, channels=1, **keys) -> StudentTeacher:
    return StudentTeacher(ToyEncoder(dims, channels=channels), channels, (16,) * dims, small_config(**keys))


def run(method, optimizer, steps, total=20, accumulation=1, batches=None) -> list[float]:
    losses = []
    for step in steps:
        method.set_step(step, total, 4)
        batch = random_batch(4, n_local_crops=1) if batches is None else batches[step]
        optimizer.zero_grad()
        loss = 0.0
        n = len(batch.global_views) // accumulation
        for i in range(accumulation):
            micro = method(part(batch, slice(i * n, (i + 1) * n)))["loss"] / accumulation
            micro.backward()
            loss += micro.item()
        method.freeze_prototypes()
        optimizer.step()
        method.end_step(step, total)
        losses.append(loss)
    return losses


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("dims", [2, 3])
def test_every_trained_parameter_gets_a_gradient_and_the_teacher_none(name, dims):
    """So distributed training needs no search for unused parameters."""
    method = method_of(dims, channels=2, **SETTINGS[name])
    terms = method(random_batch(2, dims, 2, n_local_crops=1))
    assert set(terms) == {*method.weights, "loss"} and torch.isfinite(terms["loss"])
    assert terms["loss"].item() == pytest.approx(sum(method.weights[n] * terms[n].item() for n in method.weights))
    terms["loss"].backward()
    assert [n for n, p in trainable(method).items() if p.grad is None] == []
    assert not any(n.startswith("teacher.") for n in trainable(method))
    assert all(p.grad is None for p in method.teacher.parameters())


def test_the_encoder_stays_itself_and_the_teacher_starts_as_its_copy():
    encoder = ToyEncoder()
    method = StudentTeacher(encoder, 1, (16, 16), small_config())
    assert method.student.encoder is encoder and method.teacher.encoder is not encoder
    for name, p in method.teacher.named_parameters():
        assert torch.equal(p, dict(method.student.named_parameters())[name])
    assert method.feature_info.stages == (1, 2)  # fewer than four stages: the last two
    method.train()
    assert method.student.training and not method.teacher.training


def test_encoder_of_dynamic_network_architectures():
    encoder = PlainConvEncoder(
        1, 4, [4, 6, 8, 10], torch.nn.Conv3d, 3, [1, 2, 2, 2], 1, norm_op=torch.nn.InstanceNorm3d, return_skips=True,
        nonlin=torch.nn.LeakyReLU,
    )  # fmt: skip
    method = StudentTeacher(encoder, 1, (16, 16, 16), small_config(dense_weight=1.0))
    assert method.feature_info.stages == (2, 3) and method.feature_info.channels == (4, 6, 8, 10)
    method(random_batch(2, 3))["loss"].backward()
    with pytest.raises(ValueError, match="return_skips=True"):
        StudentTeacher(torch.nn.Conv2d(1, 1, 1), 1, (16, 16), small_config())


def test_no_objective_is_an_error():
    with pytest.raises(ValueError, match="set one of dino_weight"):
        method_of(dino_weight=0.0)


@pytest.mark.parametrize("name", ["dino", "dino+mse", "robust"])
def test_accumulation_equals_the_large_batch(name):
    """SGD, without KoLeo; several steps, so that the center of the step before takes part."""
    keys = SETTINGS[name] | {"koleo_weight": 0.0, "freeze_prototypes_epochs": 0}
    whole = method_of(**keys).double()
    parts = copy.deepcopy(whole)
    for method, accumulation in ((whole, 1), (parts, 4)):
        torch.manual_seed(2)
        batches = [random_batch(8) for _ in range(3)]
        for batch in batches:
            batch.global_views = batch.global_views.double()
        torch.manual_seed(3)  # points of the dense objective: the same, in the same order
        run(method, torch.optim.SGD(trainable(method).values(), 0.1), range(3), 20, accumulation, batches)
    for (name, a), b in zip(whole.state_dict().items(), parts.state_dict().values(), strict=True):
        assert torch.allclose(a, b, atol=1e-6), name


def test_discarded_step_changes_nothing():
    method = method_of(**SETTINGS["all"])
    before = copy.deepcopy(method.state_dict())
    method(random_batch(2))
    method.discard_step()
    assert all(torch.equal(before[n], v) for n, v in method.state_dict().items())
    method.eval()
    method(random_batch(2))
    with pytest.raises(RuntimeError, match="before end_step"):
        method.step_statistics()
    momentum_one = method_of(teacher_momentum=1.0, teacher_momentum_end=1.0, feature_norm=False)
    before = copy.deepcopy(momentum_one.teacher.state_dict())
    run(momentum_one, torch.optim.SGD(trainable(momentum_one).values(), 0.1), range(2))
    assert all(torch.equal(before[n], v) for n, v in momentum_one.teacher.state_dict().items())


def test_prototypes_stay_while_frozen():
    method = method_of(freeze_prototypes_epochs=1, dense_weight=1.0)  # 4 steps
    optimizer = torch.optim.AdamW(trainable(method).values(), 1e-2)
    names = [n for n in trainable(method) if "prototypes" in n]
    assert len(names) == 4  # two stages, pooled and dense
    drawn = {n: p.detach().clone() for n, p in trainable(method).items()}
    run(method, optimizer, range(4))
    assert all(torch.equal(drawn[n], p) == (n in names) for n, p in trainable(method).items())
    run(method, optimizer, range(4, 5))
    assert not any(torch.equal(drawn[n], p) for n, p in trainable(method).items())


@pytest.mark.parametrize("name", ["robust", "sinkhorn", "all"])
def test_resume_is_exact(name):
    """Model and optimizer state, saved and loaded between steps; then three further steps."""
    method = method_of(**SETTINGS[name])
    optimizer = torch.optim.AdamW(trainable(method).values(), 1e-3)
    run(method, optimizer, range(3))
    saved = copy.deepcopy((method.state_dict(), optimizer.state_dict()))
    torch.manual_seed(7)
    expected = run(method, optimizer, range(3, 6))
    other = method_of(**SETTINGS[name])
    optimizer = torch.optim.AdamW(trainable(other).values(), 1e-3)
    other.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    torch.manual_seed(7)
    assert run(other, optimizer, range(3, 6)) == expected


@pytest.mark.parametrize("keep_heads", [False, True])
def test_next_stage_starts_from_the_teacher(keep_heads):
    first, second = method_of(**SETTINGS["robust"]), method_of(**SETTINGS["robust"])
    run(first, torch.optim.SGD(trainable(first).values(), 0.1), range(2))
    drawn = copy.deepcopy(second.student.heads.state_dict())
    second.load_teacher(first.state_dict(), keep_heads=keep_heads)
    wanted = first.teacher.state_dict()
    for branch in (second.student, second.teacher):
        for name, value in branch.state_dict().items():
            if name.startswith("encoder.") or keep_heads:
                assert torch.equal(value, wanted[name])
            else:
                assert torch.equal(value, drawn[name.removeprefix("heads.")])
    if keep_heads:
        assert torch.equal(second.objectives["koleo"].queue.kept(), first.objectives["koleo"].queue.kept())
    with pytest.raises(KeyError, match="no weights of a teacher"):
        second.load_teacher({"x": torch.zeros(1)})
    with pytest.raises(RuntimeError):
        StudentTeacher(ToyEncoder(width=5), 1, (16, 16), small_config()).load_teacher(first.state_dict())


@pytest.mark.parametrize("name", ["dino", "robust", "sinkhorn", "all"])
def test_bfloat16_autocast_is_close_to_float32(name):
    method = method_of(3, **SETTINGS[name]).eval()
    batch = random_batch(2, 3, n_local_crops=1)
    torch.manual_seed(4)
    expected = method(batch)
    torch.manual_seed(4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = method(batch)
    for key, value in terms.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(expected[key].item(), rel=3e-2), key
    terms["loss"].backward()
    assert all(torch.isfinite(p.grad).all() for p in trainable(method).values())


def test_observations_follow_the_images():
    method = method_of(n_prototypes=6)
    batch = random_batch(5)
    whole = method(batch) and method.step_statistics()
    method.discard_step()
    for which in (slice(0, 2), slice(2, 5)):
        method(part(batch, which))
    parts = method.step_statistics()
    for name in ("features", "embeddings"):
        assert torch.allclose(getattr(whole, name), getattr(parts, name), atol=1e-4), name
    for name in ("total", "entropy", "divergence"):
        assert torch.allclose(getattr(whole.targets, name), getattr(parts.targets, name), atol=1e-4), name
    assert whole.features.shape == (5, 2, 12) and whole.embeddings.shape == (5, 2, 8)
    assert whole.targets.total.sum().item() == pytest.approx(10, rel=1e-5) and len(whole.targets.prototypes) == 10
    expected = method.teacher.encoder(batch.global_views[3])[-1].mean((2, 3))
    assert torch.allclose(whole.features[3], expected, atol=1e-6)


def test_patches_that_masks_cannot_divide():
    with pytest.raises(ValueError, match="do not divide it"):
        StudentTeacher(ToyEncoder(), 1, (20, 20), small_config(masked_weight=1.0, masked_target="voxels"))
