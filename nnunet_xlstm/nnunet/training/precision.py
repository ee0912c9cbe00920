"""The precision of training: the type of autocast, and whether gradients are scaled."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass(frozen=True)
class Precision:
    """What a network computes in on CUDA; as in nnU-Net there is no autocast on other devices.

    Attributes:
        key: the config key `precision`: auto, bf16, fp16 or fp32.
        device: of the network.
    """

    key: str
    device: torch.device

    @property
    def name(self) -> str:
        """Name the precision: bf16, fp16 or fp32; `auto` is bf16 where the GPU has it, else fp16."""
        if self.key != "auto":
            return self.key
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"

    def begin(self, scaler: torch.amp.GradScaler | None) -> torch.amp.GradScaler | None:
        """Make this the precision of every autocast on CUDA, nnU-Net's own included.

        Args:
            scaler: of the gradients.

        Returns:
            The scaler that training needs: none but in fp16.
        """
        if self.device.type == "cuda":
            torch.set_autocast_dtype("cuda", DTYPES[self.name])
            return scaler if self.name == "fp16" else None
        return scaler

    def end(self) -> None:
        """Return to torch's default, fp16, in which stock prediction runs."""
        if self.device.type == "cuda":
            torch.set_autocast_dtype("cuda", torch.float16)

    def autocast(self) -> AbstractContextManager:
        """Make a context for a forward pass and its loss."""
        return torch.autocast("cuda", dtype=DTYPES[self.name]) if self.device.type == "cuda" else nullcontext()
