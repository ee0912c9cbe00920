"""The encoder of a pre-training checkpoint, frozen, over whole images; and the encoders that it is compared with."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import Tensor, nn
from torch.nn import functional as F

from nnunet_xlstm.errors import CheckpointError
from nnunet_xlstm.nnunet.checkpoints import pretraining as checkpoints
from nnunet_xlstm.nnunet.planning.code_names import check_preprocessing
from nnunet_xlstm.nnunet.planning.configuration import check_for_preprocessing, divisors, resolve_configuration
from nnunet_xlstm.nnunet.planning.network import build_seeded, checked_architecture
from nnunet_xlstm.nnunet.transfer.source import complete
from nnunet_xlstm.pretraining.probe import LinearModel, apply_linear, hypercolumns, permute_weights

WHOLE_IMAGE = 2**22  # voxels; larger images are read in tiles of the training patch
TOKENS_PER_CASE = 64


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """The encoder of a pre-training checkpoint, and what the file says of its training.

    Attributes:
        path: of the file.
        plans, configuration: of the training, for preprocessing.
        architecture: as in plans; every class in it may be imported.
        channel_names: of its images, in order.
        weights: of the encoder alone.
        origin: file, hash, stage, data set, trainer and epochs; lineage: those of the stages before.
    """

    path: Path
    plans: PlansManager
    configuration: ConfigurationManager
    architecture: dict[str, Any]
    channel_names: tuple[str, ...]
    weights: dict[str, Tensor]
    origin: dict[str, Any]
    lineage: list[dict[str, Any]]
    allowed: Sequence[str] = ()

    @classmethod
    def read(cls, path: Path, spacing: Sequence[float] | None = None, allowed: Sequence[str] = ()) -> Pretrained:
        """Read a checkpoint file.

        Args:
            path: of the file.
            spacing: in mm, that images are resampled to, in the order of the plans; None takes that of the training.
            allowed: packages whose network classes the file may name, beside ours and nnU-Net's.

        Raises:
            CheckpointError: as `pretraining.read`, a file without an encoder, one that names what may not be imported,
                or a wrong spacing.
        """
        content = checkpoints.read(path)
        own = content[checkpoints.KEY]
        prefix = "encoder."
        with complete(path):
            plans, name = checkpoints.plans_of(content), content["init_args"]["configuration"]
            row = resolve_configuration(plans, name, str(path))
            check_for_preprocessing(plans, row, len(own["channel_names"]), str(path))
            check_preprocessing(row, str(path))
            if spacing is not None:
                row["spacing"] = _checked_spacing(list(spacing), row["spacing"])
            weights = {
                name.removeprefix(prefix): tensor
                for name, tensor in content["network_weights"].items()
                if name.startswith(prefix)
            }
            if not weights:
                raise CheckpointError(f"{path}: its network has no part named `encoder`; it cannot be probed")
            plans["configurations"] = {name: row}
            manager = PlansManager(plans)
            return cls(
                path=Path(path),
                plans=manager,
                configuration=manager.get_configuration(name),
                architecture=checked_architecture(own["architecture"], str(path), allowed),
                channel_names=tuple(own["channel_names"].values()),
                weights=weights,
                origin=checkpoints.lineage_entry(path, content),
                lineage=own["lineage"],
                allowed=allowed,
            )

    def encoder(self, encoder_name: str, seed: int) -> nn.Module:
        """Return the encoder of this name (choices.ENCODERS), on the CPU.

        Raises:
            CheckpointError: the network cannot be built here, or the weights do not fit it.
        """
        # the decoder, and with it the number of classes, is not used
        network = build_seeded(seed, self.architecture, len(self.channel_names), 2, str(self.path), self.allowed)
        encoder = getattr(network, "encoder", None)
        if encoder is None:
            raise CheckpointError(f"{self.path}: {type(network).__name__} has no part named `encoder`")
        if encoder_name != "untrained":
            try:
                encoder.load_state_dict(self.weights)
            except RuntimeError as error:
                last = str(error).splitlines()[-1].strip()
                raise CheckpointError(
                    f"{self.path}: the weights do not fit {type(network).__name__}: {last}"
                ) from error
        if encoder_name == "permuted":
            permute_weights(encoder, torch.Generator().manual_seed(seed))
        return encoder

    def divisors(self) -> tuple[int, ...]:
        """Return what each axis of an image must be divisible by; the patch, where the network names no strides."""
        return divisors(self.architecture, self.configuration.patch_size, str(self.path))


def _checked_spacing(spacing: list[float], own: Sequence[float]) -> list[float]:
    if len(spacing) != len(own) or not all(0 < value < math.inf for value in spacing):
        given = " ".join(f"{value:g}" for value in spacing)
        raise CheckpointError(
            f"spacing {given}: give {len(own)} positive numbers in mm, in the order of the plans ({own})"
        )
    return spacing


@dataclass(frozen=True)
class CaseFeatures:
    """Features of one image.

    Attributes:
        points: (N, C) hypercolumns of the chosen stages.
        pooled: (C_s,) mean of each stage's map.
        tokens: (n, C_last) of the last stage's map, chosen at random.
    """

    points: Tensor
    pooled: list[Tensor]
    tokens: Tensor


class FrozenEncoder:
    """An encoder that reads whole images, padded with zeros to its divisors; larger ones in overlapping tiles.

    A 2D encoder reads the slices of a volume (axis 0) one by one.

    Args:
        stages: indices of the stages that make a hypercolumn, negative ones from the end; None takes all.
    """

    def __init__(
        self,
        encoder: nn.Module,
        divisors: Sequence[int],
        patch_size: Sequence[int],
        stages: Sequence[int] | None = None,
        device: torch.device | str = "cpu",
        whole_image: int = WHOLE_IMAGE,
    ):
        self.dim = len(divisors)
        layout = torch.channels_last_3d if self.dim == 3 else torch.channels_last
        self.encoder = encoder.eval().requires_grad_(False).to(device)
        if torch.device(device).type == "cpu":
            self.encoder.to(memory_format=layout)
        self.divisors, self.patch_size = tuple(divisors), tuple(patch_size)
        self.stages, self.device, self.whole_image = stages, device, whole_image

    @torch.inference_mode()
    def extract(self, image: np.ndarray, points: np.ndarray, rng: np.random.Generator) -> CaseFeatures:
        """Return features of an image (C, *size) at voxels (N, D), and over the whole of it."""
        if image.ndim - 1 > self.dim:
            seen = [self.extract(image[:, z], points[points[:, 0] == z, 1:], rng) for z in range(image.shape[1])]
            order = np.argsort(np.argsort(points[:, 0], kind="stable"))  # back from sorted by slice
            pooled = [torch.stack(slices).mean(0) for slices in zip(*(s.pooled for s in seen), strict=True)]
            tokens = torch.cat([s.tokens for s in seen])
            tokens = tokens[rng.permutation(len(tokens))[:TOKENS_PER_CASE]]
            return CaseFeatures(torch.cat([s.points for s in seen])[order], pooled, tokens)
        features, weights = torch.zeros(0), torch.zeros(len(points), 1)  # the first tile tells the channels
        tiles: list[list[Tensor]] = []  # of each tile the mean of each stage's map
        last: list[Tensor] = []
        for start, size, maps, blend in self._runs(image):
            local = torch.from_numpy(points - np.array(start))
            inside = ((local >= 0) & (local < torch.tensor(size))).all(1).nonzero()[:, 0]
            found = hypercolumns(self._chosen(maps), size, local[inside]).cpu()
            weight = blend[tuple(local[inside].T)][:, None]
            features = features if features.ndim == 2 else found.new_zeros(len(points), found.shape[1])
            features[inside] += weight * found
            weights[inside] += weight
            tiles.append([m.flatten(1).mean(1).cpu() for m in maps])
            last.append(maps[-1].flatten(1).T.cpu())
        tokens = torch.cat(last)
        tokens = tokens[rng.permutation(len(tokens))[:TOKENS_PER_CASE]]
        pooled = [torch.stack(means).mean(0) for means in zip(*tiles, strict=True)]
        return CaseFeatures(features / weights, pooled, tokens)

    @torch.inference_mode()
    def project(self, image: np.ndarray, model: LinearModel) -> Tensor:
        """Apply a linear model to the hypercolumns at every voxel of an image (C, *size): (K, *size)."""
        size = image.shape[1:]
        if len(size) > self.dim:
            return torch.stack([self.project(image[:, z], model) for z in range(size[0])], 1)
        total, weights = torch.zeros(len(model.bias), *size), torch.zeros(size)
        for start, extent, maps, blend in self._runs(image):
            out = apply_linear(model, self._chosen(maps), extent).cpu()
            # the tile may reach into the padding around the image
            low = [max(-s, 0) for s in start]
            high = [min(n - s, e) for n, s, e in zip(size, start, extent, strict=True)]
            tile = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
            place = tuple(slice(s + a, s + b) for s, a, b in zip(start, low, high, strict=True))
            channels = slice(None)
            every_place, every_tile = (channels, *place), (channels, *tile)
            total[every_place] += blend[tile] * out[every_tile]
            weights[place] += blend[tile]
        return total / weights

    def _chosen(self, maps: list[Tensor]) -> list[Tensor]:
        if self.stages is None:
            return maps
        if beyond := [s for s in self.stages if not -len(maps) <= s < len(maps)]:
            raise CheckpointError(f"stage {beyond[0]}: this encoder has {len(maps)} stages, 0 to {len(maps) - 1}")
        return [maps[s] for s in self.stages]

    def _runs(self, image: np.ndarray) -> Iterator[tuple[list[int], list[int], list[Tensor], Tensor]]:
        """Yield, for each tile, its first voxel (negative in the padding), its size, its stage maps, its weights."""
        size = image.shape[1:]
        padded = [-(-n // d) * d for n, d in zip(size, self.divisors, strict=True)]
        if padded == list(self.divisors):  # instance normalisation needs more than one token in the last map
            padded[-1] *= 2
        before = [(p - n) // 2 for p, n in zip(padded, size, strict=True)]
        amounts = [(b, p - n - b) for b, p, n in zip(before, padded, size, strict=True)]
        x = F.pad(torch.from_numpy(image), [v for pair in reversed(amounts) for v in pair])
        if np.prod(padded) <= self.whole_image:
            tile, steps = padded, [[0]] * self.dim
            blend = torch.ones(tile)
        else:
            tile = [min(n, p) for n, p in zip(self.patch_size, padded, strict=True)]
            steps = compute_steps_for_sliding_window(tuple(padded), tuple(tile), 0.5)
            blend = compute_gaussian(tuple(tile), dtype=torch.float32, device=torch.device("cpu"))
        for corner in itertools.product(*steps):
            cut = (slice(None), *(slice(c, c + t) for c, t in zip(corner, tile, strict=True)))
            maps = [m[0].float() for m in self.encoder(x[cut][None].to(self.device))]
            yield [c - b for c, b in zip(corner, before, strict=True)], list(tile), maps, blend
