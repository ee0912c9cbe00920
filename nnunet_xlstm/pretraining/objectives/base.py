"""Base of the objectives, and their inputs; `table.py` lists them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from torch import Tensor, nn

from nnunet_xlstm.config.pretraining import PretrainingConfig
from nnunet_xlstm.pretraining.branch import EncoderFeatureInfo, Outputs
from nnunet_xlstm.pretraining.views import ViewBatch


@dataclass
class ObjectiveInputs:
    """What an objective may look at in one forward call.

    Attributes:
        batch: the views as they came (not masked).
        student: outputs of the student, of global views and, where needed, local ones after them.
        teacher: outputs of the teacher for the global views, without gradient; None where no objective needs them.
        teacher_temperature: at this step.
        mask: tokens of the student's views that are masked (see `masked`), (V, *tokens) bool on the CPU, or None.
        autocast: a context in which heads and predictors run with the caller's precision.
        observed: objectives leave here what the monitor wants to see.
        targets: and here, by head, the mean target (K,) of this call.
    """

    batch: ViewBatch
    student: Outputs
    teacher: Outputs | None
    teacher_temperature: float
    mask: Tensor | None = None
    autocast: Callable[[], AbstractContextManager] = nullcontext
    observed: dict[str, Tensor] = field(default_factory=dict)
    targets: dict[str, Tensor] = field(default_factory=dict)

    @property
    def teacher_outputs(self) -> Outputs:
        """Outputs of the teacher, for objectives that need them.

        Raises:
            RuntimeError: there are none.
        """
        if self.teacher is None:
            raise RuntimeError("the teacher was not asked; name `teacher` in the objective's needs()")
        return self.teacher


class Objective(nn.Module):
    """A term of the loss. Its parameters are trained with the student and have no copy in the teacher.

    Args:
        feature_info: what the encoder returns.
        config: all keys.
    """

    @classmethod
    def needs(cls, config: PretrainingConfig) -> set[str]:
        """Name what it needs: teacher (outputs), embedding, logits (of pooled features), maps, local (views), mask."""
        raise NotImplementedError

    @classmethod
    def heads(cls, feature_info: EncoderFeatureInfo, config: PretrainingConfig) -> dict[str, nn.ModuleDict]:
        """Build heads that student and teacher both get, by name, then by stage."""
        return {}

    def __init__(self, feature_info: EncoderFeatureInfo, config: PretrainingConfig):
        super().__init__()

    def forward(self, inputs: ObjectiveInputs) -> Tensor:
        """Compute the term, a scalar, a mean over the images; called without autocast."""
        raise NotImplementedError
