"""Which tensors of a network belong to which stage of its encoder, for networks of ours, nnU-Net's and nnssl's."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from nnunet_xlstm.errors import ConfigError


@dataclass(frozen=True)
class EncoderStages:
    """The encoder of a network, cut into stages from the image inwards; the last stage is the bottleneck.

    Attributes:
        prefixes: of the tensors' names, one per stage.
        root: of all tensors of the encoder.
        input_layers: layers that see the image, by name.
        position_embedding: its name, or None.
    """

    prefixes: tuple[str, ...]
    root: str
    input_layers: tuple[str, ...]
    position_embedding: str | None

    @classmethod
    def of(cls, network: nn.Module) -> EncoderStages:
        """Find the stages by the names with which a network describes itself, else in `encoder`.

        The names are `key_to_encoder`, ... (dynamic_network_architectures, nnssl); else `encoder.stem` and
        `encoder.stages` count.

        Raises:
            ConfigError: the network has no encoder of this kind.
        """
        root = getattr(network, "key_to_encoder", "encoder.stages")
        modules = dict(network.named_modules(remove_duplicate=False))
        if root not in modules:
            raise ConfigError(
                f"{type(network).__name__} has no module named {root}; transfer needs a network with encoder.stages, "
                "or one that names its encoder in key_to_encoder"
            )
        stem = getattr(network, "key_to_stem", "encoder.stem")
        prefixes = [f"{stem}."] if stem in modules and not stem.startswith(f"{root}.") else []
        inner = f"{root}.blocks" if hasattr(modules[root], "blocks") else root
        prefixes += [f"{inner}.{name}." for name, _ in modules[inner].named_children()]
        embedding = getattr(network, "key_to_lpe", None)
        return cls(tuple(prefixes), f"{root}.", tuple(getattr(network, "keys_to_in_proj", ())), embedding)

    def index(self, name: str) -> int | None:
        """Return the stage that a tensor belongs to; None for the decoder."""
        for i, prefix in enumerate(self.prefixes):
            if name.startswith(prefix):
                return i
        if name == self.position_embedding:
            return 0
        # such as the norm after the last block of a ViT
        return len(self.prefixes) - 1 if name.startswith(self.root) else None

    def is_input(self, name: str) -> bool:
        """Return whether the tensor is the weight of a layer that sees the image."""
        return name.endswith(".weight") and name.removesuffix(".weight") in self.input_layers

    def label(self, name: str) -> str:
        """Return the stage's name for people: "encoder.stages.2", or "decoder"."""
        index = self.index(name)
        return "decoder" if index is None else self.prefixes[index].removesuffix(".")


def _below_decoder(name: str) -> bool:
    return name.startswith("decoder.")


def named_once(network: nn.Module) -> dict[str, tuple[Tensor, list[str]]]:
    """Return every parameter and buffer under one name, with all its names.

    Networks of dynamic_network_architectures list the encoder a second time below the decoder, and each layer twice.
    """
    found: dict[int, tuple[Tensor, list[str]]] = {}
    for name, tensor in network.state_dict(keep_vars=True).items():
        found.setdefault(id(tensor), (tensor, []))[1].append(name)
    return {min(names, key=_below_decoder): (tensor, names) for tensor, names in found.values()}
