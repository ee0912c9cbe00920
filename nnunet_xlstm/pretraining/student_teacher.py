"""Student and teacher, and what one step of pre-training does.

    for each optimizer step:
        method.set_step(step, total_steps, steps_per_epoch)
        for each micro-batch: (method(batch)["loss"] / accumulation).backward()
        method.freeze_prototypes(); clip; optimizer.step()
        method.end_step(step, total_steps)           # or discard_step(), if the optimizer did not step

DINO (Caron et al. 2021); 3D-Heart_Seg and 3D-SegSync, App. C.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial

import torch
from torch import Tensor, nn

from nnunet_xlstm.config.pretraining import PretrainingConfig
from nnunet_xlstm.layers.amp import no_autocast
from nnunet_xlstm.pretraining import schedules
from nnunet_xlstm.pretraining.branch import Branch, Outputs, accumulate, feature_norms, infer_feature_info, pooled_heads
from nnunet_xlstm.pretraining.collapse.metrics import StepStatistics
from nnunet_xlstm.pretraining.heads import Prototypes
from nnunet_xlstm.pretraining.objectives.base import ObjectiveInputs
from nnunet_xlstm.pretraining.objectives.masked import MaskedObjective
from nnunet_xlstm.pretraining.objectives.table import OBJECTIVES, active_weights
from nnunet_xlstm.pretraining.step_state import StepState
from nnunet_xlstm.pretraining.views import ViewBatch


class StudentTeacher(nn.Module):
    """The student's branch, the teacher's (its moving average), and the objectives between them.

    Args:
        encoder: `encoder(x)` returns a list of maps, highest resolution first. It becomes the student's encoder itself;
            the teacher starts as its copy, so load weights before.
        image_channels: of a global view, 2 or 3 axes.
        patch_size: of a global view, 2 or 3 axes.
        config: all keys.

    Parameters with `requires_grad` are the student's and those of the objectives; each of them gets a gradient in every
    backward pass. Buffers (centers, queues) are state: the state dict makes a resumed run exact. Forward calls in
    training mode are part of a step; in evaluation mode they leave no trace.

    Raises:
        ConfigError: no objective, an encoder without a list of maps, a patch that masks cannot divide.
    """

    def __init__(self, encoder: nn.Module, image_channels: int, patch_size: Sequence[int], config: PretrainingConfig):
        super().__init__()
        self.config = config
        self.weights = active_weights(config)
        self.feature_info = infer_feature_info(encoder, image_channels, patch_size, config.feature_stages)
        rows = {name: OBJECTIVES[name] for name in self.weights}
        self.needs = set().union(*(row.needs(config) for row in rows.values()))
        heads: dict[str, nn.ModuleDict] = {}
        if "embedding" in self.needs:
            heads["pooled"] = pooled_heads(self.feature_info, config, "logits" in self.needs)
        for row in rows.values():
            heads |= row.heads(self.feature_info, config)
        self.student = Branch(encoder, heads)
        self.feature_norms = feature_norms(self.feature_info, config)
        self.objectives = nn.ModuleDict({name: row(self.feature_info, config) for name, row in rows.items()})
        self.to(next(encoder.parameters()).device)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.teacher.eval()
        self.teacher_temperature = config.teacher_temperature
        self.prototypes_frozen = config.freeze_prototypes_epochs > 0
        self._statistics: list[StepStatistics] = []

    def train(self, mode: bool = True) -> StudentTeacher:
        """Set the mode as usual, but keep the teacher in evaluation mode: its targets have no dropout."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """Return unweighted terms by name (detached) and `loss`, their weighted sum, with gradients of the student."""
        views, mask = batch.global_views, None
        with torch.no_grad():
            teacher = self._look(self.teacher, views, None) if "teacher" in self.needs else None
        for objective in self.objectives.values():
            if isinstance(objective, MaskedObjective):
                views, mask = objective.mask(views)
        student = self._look(self.student, views, batch.local_views if "local" in self.needs else None)
        inputs = ObjectiveInputs(batch, student, teacher, self.teacher_temperature, mask, _ambient_autocast(views))
        with no_autocast(views):
            terms = {name: objective(inputs) for name, objective in self.objectives.items()}
            loss = sum(self.weights[name] * term for name, term in terms.items())
            if self.training:
                for stage, features in (teacher.features if teacher is not None else {}).items():
                    accumulate(self.feature_norms[str(stage)], features)
                self._collect_statistics(inputs)
        return {name: term.detach() for name, term in terms.items()} | {"loss": loss}

    def _look(self, branch: Branch, views: Tensor, local_views: Tensor | None) -> Outputs:
        return branch(views, local_views, self.feature_info.stages, "maps" in self.needs, self.feature_norms)

    @torch.no_grad()
    def _collect_statistics(self, inputs: ObjectiveInputs) -> None:
        outputs, last = inputs.teacher or inputs.student, self.feature_info.stages[-1]
        self._statistics.append(
            StepStatistics.of(
                outputs.features[last][:2],
                outputs.embeddings.get(last),
                inputs.observed.get("log_q"),
                inputs.observed.get("log_p"),
                {name: mean.detach() for name, mean in inputs.targets.items()},
            )
        )

    # ---- the step

    def set_step(self, step: int, total_steps: int, steps_per_epoch: int) -> None:
        """Set what depends on the optimizer step `step` (from 0); call it before the step's forward calls."""
        self.teacher_temperature = schedules.teacher_temperature(step, steps_per_epoch, self.config)
        self.prototypes_frozen = step < self.config.freeze_prototypes_epochs * steps_per_epoch

    def freeze_prototypes(self) -> None:
        """Drop the gradients of prototypes while they stay as drawn; call it after backward, before clipping."""
        if self.prototypes_frozen:
            for module in self.student.modules():
                if isinstance(module, Prototypes):
                    module.weight.grad = None

    def end_step(self, step: int, total_steps: int) -> None:
        """Move the teacher, then centers and queues, and forget the step: the optimizer has made step `step`.

        Under distributed training every rank must call it for the same steps.
        """
        # a teacher that nobody asks is the student itself: the next stage starts from it
        momentum = schedules.teacher_momentum(step, total_steps, self.config) if "teacher" in self.needs else 0.0
        update_teacher(self.teacher, self.student, momentum)
        for module in self._state():
            module.end_step()
        self._statistics = []

    def discard_step(self) -> None:
        """Forget the forward calls of the step and change nothing: the optimizer left it out."""
        for module in self._state():
            module.discard_step()
        self._statistics = []

    def _state(self) -> list[StepState]:
        return [module for module in self.modules() if isinstance(module, StepState)]

    # ---- start and state

    def load_teacher(self, state: Mapping[str, Tensor], keep_heads: bool = False) -> None:
        """Start student and teacher from the teacher of another run, whose `state_dict` was `state`.

        Only the encoder, or with `keep_heads` all else too (heads, centers, queues). Best before the optimizer is made,
        at the latest before its first step.

        Raises:
            RuntimeError: weights that do not fit.
            KeyError: no teacher in `state`.
        """
        part = "" if keep_heads else "encoder."
        weights = {
            name.removeprefix("teacher."): value for name, value in state.items() if name.startswith("teacher." + part)
        }
        if not weights:
            raise KeyError("no weights of a teacher")
        for branch in (self.student, self.teacher):
            if keep_heads:
                branch.load_state_dict(weights)
            else:
                branch.encoder.load_state_dict({k.removeprefix(part): v for k, v in weights.items()})
        if keep_heads:
            own = {k: v for k, v in state.items() if not k.startswith(("student.", "teacher."))}
            missing, unexpected = self.load_state_dict(own, strict=False)
            missing = [name for name in missing if not name.startswith(("student.", "teacher."))]
            if missing or unexpected:
                raise RuntimeError(f"keep_heads: missing {missing}, not known {unexpected}; use the same objectives")

    # ---- for the monitor

    def step_statistics(self) -> StepStatistics:
        """Return what the forward calls of this step showed, images in their order; call it before `end_step`.

        Raises:
            RuntimeError: if there was no forward call in training mode.
        """
        if not self._statistics:
            raise RuntimeError("no forward call since the last step; call step_statistics() before end_step()")
        return StepStatistics.join(self._statistics)

    def ema_distance(self) -> float:
        """Return |teacher - student| / |student| over all weights."""
        return ema_distance(self.teacher, self.student)


def _ambient_autocast(x: Tensor) -> Callable:
    """Return a maker of contexts with the autocast that holds now for the device of x."""
    kind = x.device.type
    if not torch.amp.is_autocast_available(kind):
        return nullcontext
    return partial(torch.autocast, kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))


def _pairs(
    teacher: nn.Module, student: nn.Module, named: Callable[[nn.Module], Iterable[tuple[str, Tensor]]]
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the tensors of the teacher and those of the same name of the student (which may hold more)."""
    of_student = dict(named(student))
    pairs = [(t, of_student[name]) for name, t in named(teacher)]
    return [t for t, _ in pairs], [s for _, s in pairs]


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Set theta_t <- m theta_t + (1 - m) theta_s for all parameters; copy buffers (running statistics).

    One fused call in the type of the weights, which must be float32 or wider: at m = 0.999 a step is lost in bfloat16.
    """
    old, new = _pairs(teacher, student, nn.Module.named_parameters)
    if old:
        torch._foreach_lerp_(old, new, 1 - momentum)
    old, new = _pairs(teacher, student, nn.Module.named_buffers)
    for t, s in zip(old, new, strict=True):
        t.copy_(s)


@torch.no_grad()
def ema_distance(teacher: nn.Module, student: nn.Module) -> float:
    """Return |theta_t - theta_s| / |theta_s| over the parameters that the teacher has."""
    old, new = _pairs(teacher, student, nn.Module.named_parameters)
    distance = torch.stack(torch._foreach_norm(torch._foreach_sub(old, new))).norm()
    return float(distance / torch.stack(torch._foreach_norm(new)).norm().clamp_min(1e-12))
