"""The base of the fine-tuning trainers: which stages learn, when, and how fast."""

from __future__ import annotations

import torch
from torch import nn

from nnunet_xlstm.config.finetuning import FinetuneConfig
from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.networks.encoder_stages import EncoderStages, named_once
from nnunet_xlstm.nnunet.training.base import BaseTrainer
from nnunet_xlstm.nnunet.training.optim import StagedSchedule, make_optimizer


class FinetuneTrainer(BaseTrainer):
    """Trains a network whose encoder comes from elsewhere (-pretrained_weights).

    Without that flag, the same schedule from scratch. A subclass sets `recipe` and no more. Any network whose encoder
    is found (`networks.encoder_stages`) will do.
    """

    recipe = FinetuneConfig()
    config: FinetuneConfig

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Choose what learns, and make its optimizer.

        Raises:
            ConfigError: keys that contradict each other.
        """
        config, network = self.config, self.bare_network()
        self.encoder_stages = EncoderStages.of(network)
        if config.decoder_epochs and config.trainable == "decoder":
            raise ConfigError("decoder_epochs and trainable = decoder: the decoder alone learns all the time; drop one")
        if config.decoder_epochs >= self.num_epochs:
            raise ConfigError(f"decoder_epochs {config.decoder_epochs}: must be below num_epochs ({self.num_epochs})")
        if config.lr_schedule == "poly" and (config.layer_decay != 1 or config.decoder_epochs):
            raise ConfigError("lr_schedule poly is nnU-Net's and knows one rate; use warmup_poly with these keys")
        self._set_trainable(config.trainable)
        scales = learning_rate_scales(network, self.encoder_stages, config.layer_decay)
        return make_optimizer(network, config, scales)

    def make_schedule(self, optimizer: torch.optim.Optimizer):
        """Make the schedule; with `decoder_epochs` one of two stages."""
        steps = self.num_iterations_per_epoch
        if self.config.decoder_epochs:
            first = self.config.decoder_epochs * steps
            return StagedSchedule(optimizer, self.config, self.num_epochs * steps, first)
        return super().make_schedule(optimizer)

    def _set_trainable(self, which: str) -> None:
        """Set requires_grad of every parameter: what does not require it is in no optimizer, and has no gradient."""
        first = self._frozen_stages(which)
        for name, (tensor, _) in named_once(self.bare_network()).items():
            if isinstance(tensor, nn.Parameter):
                index = self.encoder_stages.index(name)
                tensor.requires_grad_(index is None or index >= first)

    def _frozen_stages(self, which: str) -> int:
        """Count the stages of the encoder, from the image on, that stay as they are."""
        n = len(self.encoder_stages.prefixes)
        return {"all": 0, "bottleneck": n - 1, "decoder": n}[which]

    def initialize(self):
        """Build all, and note the encoder as it is drawn."""
        super().initialize()
        self._drawn = self._encoder_sum()

    def on_train_start(self):
        """Say whether the encoder was trained before."""
        continued = self.current_epoch > 0 or self._resume_states is not None  # the latter within the first epoch
        super().on_train_start()
        if continued:
            return
        random_encoder = self._encoder_sum() == self._drawn
        if random_encoder and self.config.trainable != "all":
            self.print_to_log_file(
                "WARNING: the encoder that is frozen was never trained: name its weights with -pretrained_weights "
                "(nnunet_xlstm adapt makes them); as it is, this run is a control"
            )
        elif random_encoder:
            self.print_to_log_file("no pre-trained weights were given: this run starts from scratch")
        else:
            self.print_to_log_file("the encoder holds pre-trained weights")

    @torch.no_grad()
    def _encoder_sum(self) -> float:
        """Sum up the encoder: a number that changes when its weights are replaced."""
        tensors = [
            t for name, (t, _) in named_once(self.bare_network()).items() if self.encoder_stages.index(name) is not None
        ]
        # to the CPU first: Apple's GPUs have no float64
        return torch.stack([t.float().abs().sum() for t in tensors]).cpu().double().sum().item()

    def on_train_epoch_start(self):
        """Set what learns in this epoch."""
        super().on_train_epoch_start()
        frozen = self.config.trainable
        if self.config.decoder_epochs:
            frozen = "decoder" if self.current_epoch < self.config.decoder_epochs else self.config.trainable
            self._enter_stage(frozen)
        self._keep_still(frozen)

    def _enter_stage(self, which: str) -> None:
        """Set what learns, before the first epoch of a stage and after a restart within it."""
        before = [p.requires_grad for p in self.bare_network().parameters()]
        self._set_trainable(which)
        if self.is_ddp and before != [p.requires_grad for p in self.bare_network().parameters()]:
            # DDP notes at its start which parameters will bring gradients
            self.network = self.distributed(self.network.get_submodule("module"))

    def _keep_still(self, which: str) -> None:
        """Run frozen stages as in prediction: no dropout, no dropped paths."""
        for prefix in self.encoder_stages.prefixes[: self._frozen_stages(which)]:
            self.bare_network().get_submodule(prefix.removesuffix(".")).eval()


def learning_rate_scales(network: nn.Module, stages: EncoderStages, decay: float) -> dict[nn.Parameter, float]:
    """Return the share of the learning rate of every parameter: decay^k for the k-th stage above the decoder.

    Counted from the bottleneck (Clark et al., ELECTRA, 2020; BEiT, 2021).
    """
    n = len(stages.prefixes)
    scales = {}
    for name, (tensor, _) in named_once(network).items():
        if isinstance(tensor, nn.Parameter):
            index = stages.index(name)
            scales[tensor] = 1.0 if index is None else decay ** (n - index)
    return scales
