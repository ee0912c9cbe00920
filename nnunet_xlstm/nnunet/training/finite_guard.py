"""Steps that are not finite: left out, counted, and the end of a run after many."""

from __future__ import annotations

import torch


class FiniteGuard:
    """Makes an optimizer step with a non-finite gradient do nothing, counts such steps, and stops after many in a row.

    It hangs on the optimizer (a step pre-hook), so it works inside nnU-Net's own `train_step`: without gradients an
    optimizer changes nothing, its moments included. Whether it steps is decided on the host, so each step waits for the
    device here, once.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, max_in_a_row: int):
        self.max_in_a_row = max_in_a_row
        self.total = self.in_a_row = 0
        self._applied = False
        self._loss: torch.Tensor | None = None
        optimizer.register_step_pre_hook(self._before_step)

    def expect(self, loss: torch.Tensor) -> None:
        """Look at this loss, a scalar on the device, together with the gradients of the next step."""
        self._loss = loss

    def _before_step(self, optimizer, args, kwargs) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        values = list(torch._foreach_norm([p.grad for p in parameters])) if parameters else []
        values += [self._loss] if self._loss is not None else []
        self._loss = None
        self._applied = not values or bool(torch.isfinite(torch.stack([v.float() for v in values]).sum()))
        if not self._applied:
            for p in parameters:
                p.grad = None

    def after_step(self, loss_is_finite: bool = True) -> bool:
        """Count the step just taken, and return whether it was good; one that fp16's loss scaling left out is not.

        Raises:
            RuntimeError: too many bad steps in a row.
        """
        good = loss_is_finite and self._applied
        self._applied = False
        if good:
            self.in_a_row = 0
            return True
        self.total += 1
        self.in_a_row += 1
        if self.in_a_row >= self.max_in_a_row:
            raise RuntimeError(
                f"the loss or its gradient was NaN or infinite in {self.in_a_row} steps in a row; such gradients are "
                "not applied. Lower initial_lr, set precision to fp32, or look for NaN in the images; then "
                "continue from the last checkpoint with --c"
            )
        return False
