"""What nnU-Net's flag -pretrained_weights does not say: that a file holds more than the network has a place for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.nnunet.checkpoints.load import load_checkpoint

FLAG = "-pretrained_weights"


def named_file(arguments: Sequence[str]) -> Path | None:
    """Return the file that the arguments of `nnUNetv2_train` name for the flag; None without it."""
    for word, following in zip(arguments, [*arguments[1:], None], strict=True):
        if word == FLAG and following is not None:
            return Path(following)
        if word.startswith(f"{FLAG}="):
            return Path(word.removeprefix(f"{FLAG}="))
    return None


def check_pretrained_weights(network: nn.Module, arguments: Sequence[str] | None = None) -> None:
    """Refuse weights of a larger encoder than the network's.

    nnU-Net loads what has a place and drops the rest without a word: an xLSTM network's convolutions into the network
    without xLSTM, for example. The trainer does not learn the file's name, but its process does.

    Args:
        network: after nnU-Net has loaded the file.
        arguments: of the process; None for those of this one.

    Raises:
        ConfigError: tensors of the file's encoder have no place in the network.
    """
    path = named_file(sys.argv if arguments is None else arguments)
    if path is None:
        return
    # nnU-Net has unpickled this file already
    weights = load_checkpoint(path, allow_pickle=True, mmap=True)["network_weights"]
    own = network.state_dict().keys()
    parts = {name.partition(".")[0] for name in own} - {"decoder"}
    lost = [name for name in weights if name not in own and name.partition(".")[0] in parts]
    if lost:
        raise ConfigError(
            f"{FLAG} {path}: {len(lost)} tensors of its encoder have no place in this network (such as {lost[0]}): the "
            "others would not compute what they learned to; give a file that `nnunet_xlstm adapt` made for these plans"
        )
