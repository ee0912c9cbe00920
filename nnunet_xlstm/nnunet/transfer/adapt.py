"""A source's weights fitted to a target's network: the new state, the table of what happened, and the proof."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from torch import Tensor, nn

from nnunet_xlstm import __version__
from nnunet_xlstm.choices import MIN_LOADED, SCOPES
from nnunet_xlstm.errors import CheckpointError, ConfigError
from nnunet_xlstm.io.protect import protect_inputs, protect_other_json
from nnunet_xlstm.io.tables import text_table
from nnunet_xlstm.io.write import replacing, write_json
from nnunet_xlstm.layers.transformer import resize_grid
from nnunet_xlstm.networks.encoder_stages import EncoderStages, named_once
from nnunet_xlstm.nnunet.checkpoints import pretraining as checkpoints
from nnunet_xlstm.nnunet.transfer.differences import architecture_differences, preprocessing_remarks
from nnunet_xlstm.nnunet.transfer.source import Source
from nnunet_xlstm.nnunet.transfer.table import ADAPTED, HEADER, LOADED, MISSING, SKIPPED, Row, Table
from nnunet_xlstm.nnunet.transfer.target import Target, preprocessed_folder
from nnunet_xlstm.nnunet.transfer.tensors import adapt_channels, adapt_kernel, channel_map, resize_position_embedding

NOT_TRANSFERRED = ".seg_layers."  # nnU-Net's flag leaves these as drawn


@dataclass(frozen=True)
class Options:
    """Choices of a transfer.

    Attributes:
        scope: of SCOPES.
        channels: target channel -> source channels; None by names.
        force: accept other kernels,
        strides and arguments of the network.
        min_loaded: share of the wanted parameters that must arrive.
        seed: of what starts anew.
    """

    scope: str = SCOPES[0]
    channels: Mapping[int, Sequence[int]] | None = None
    force: bool = False
    min_loaded: float = MIN_LOADED
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.min_loaded <= 1:
            raise ConfigError(f"--min-loaded {self.min_loaded}: give a share between 0 and 1")


@dataclass(frozen=True)
class Adapted:
    """The full state of the target's network, with the table and all remarks."""

    state: dict[str, Tensor]
    table: Table
    differences: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return the result as lines of text: a table by stage, then what did not arrive unchanged."""
        rows = [[str(cell) for cell in row] for row in self.table.by_stage()]
        lines = [*text_table([HEADER, *rows]), "", *self.table.details()]
        lines += [f"forced: {line}" for line in self.differences]
        return lines + [f"note: {line}" for line in self.remarks]


def check_output(out: Path, checkpoint: Path, dataset: str) -> None:
    """Refuse to replace what is read. The report goes beside the file, to its name with .json: no plans may lie there.

    Raises:
        ConfigError: another ending than .pth, or a file that is read or not ours.
    """
    report = out.with_suffix(".json")
    if out.suffix != ".pth" or out.is_dir():
        raise ConfigError(f"-o {out}: name a file that ends in .pth, such as {out.with_suffix('.pth').name}")
    folder = preprocessed_folder(dataset, "dataset.json", "nnUNetv2_plan_and_preprocess")
    protect_inputs([out, report], [checkpoint, *folder.glob("*.json")])
    protect_other_json(report, "scope")


def adapt(source: Source, target: Target, options: Options) -> Adapted:
    """Fit the weights.

    Raises:
        CheckpointError: another topology or a stage of the encoder that gets nothing, without `force`; weights that are
            not finite, or too little that arrives.
        ConfigError: channels that do not exist.
    """
    differences = architecture_differences(source.architecture, target.row.get("architecture"))
    if differences and not options.force:
        raise CheckpointError(
            "the target's network is not the one that was trained: " + "; ".join(differences) + ". Plan the data set "
            "after the checkpoint (nnunet_xlstm plan_like), or accept what is lost with --force"
        )
    network = target.network(options.seed)
    rows, state, wanted = _fit(source, target, network, options)
    table = Table(rows, wanted)
    if table.share() < options.min_loaded:
        missing = "; ".join(table.details()[:4])
        raise CheckpointError(
            f"only {table.share():.1%} of the parameters in {_said(wanted)} come from the source, and at least "
            f"{options.min_loaded:.0%} should ({missing}). Is it the right plans file, and are tensors named otherwise "
            "(--rename OLD=NEW)? A lower limit is --min-loaded"
        )
    if (empty := table.empty_stages()) and not options.force:
        raise CheckpointError(
            f"nothing in the source fits {', '.join(empty)}, so the rest of the encoder would see noise; are tensors "
            "named otherwise (--rename OLD=NEW), or is it the wrong plans file? --force goes on"
        )
    remarks = [*source.notes, *preprocessing_remarks(source, target)]
    return Adapted(state, table, differences, remarks)


def _said(stages: set[str]) -> str:
    return "the encoder" if len(stages) > 1 else next(iter(stages))


def _fit(
    source: Source, target: Target, network: nn.Module, options: Options
) -> tuple[list[Row], dict[str, Tensor], set[str]]:
    """Return rows of the table, the target's state with the source's tensors in it, and the stages that were wanted."""
    stages = EncoderStages.of(network)
    weights = source.weights
    unused = dict.fromkeys(weights)
    rows: list[Row] = []
    state = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    last = len(stages.prefixes) - 1
    wanted: set[str] = set()
    for name, (tensor, names) in named_once(network).items():
        index, label = stages.index(name), stages.label(name)
        is_wanted = index is not None and (options.scope != "bottleneck" or index == last)
        if is_wanted:
            wanted.add(label)
        found = next((n for n in names if n in weights), None)
        for n in names:
            unused.pop(n, None)
        action, note, given = MISSING, "", None if found is None else weights[found]
        if given is None:
            pass
        elif not is_wanted and options.scope == "all" and NOT_TRANSFERRED in name:
            action, note = SKIPPED, "starts anew with nnU-Net's flag"
        elif not is_wanted and options.scope != "all":
            action = SKIPPED
        else:
            new, note = _fitted(given, tensor, name, stages, source, target, options)
            action = SKIPPED if new is None else ADAPTED if note else LOADED
            if new is not None and not new.isfinite().all():
                raise CheckpointError(
                    f"{name} holds NaN or infinite numbers: that training failed; take another checkpoint"
                )
            if new is not None:
                state |= {n: new.to(tensor.dtype).clone() for n in names}
        source_shape = None if given is None else tuple(given.shape)
        rows.append(Row(name, label, action, source_shape, tuple(tensor.shape), tensor.numel(), note))
    for name in unused:  # in the source alone
        shape = tuple(weights[name].shape)
        rows.append(Row(name, stages.label(name), SKIPPED, shape, None, weights[name].numel(), "has no place here"))
    return rows, state, wanted


def _fitted(
    given: Tensor, tensor: Tensor, name: str, stages: EncoderStages, source: Source, target: Target, options: Options
) -> tuple[Tensor | None, str]:
    """Return the tensor as the target needs it, and what was done to it; None where it cannot be made."""
    notes = []
    if stages.is_input(name) and given.ndim == tensor.ndim and given.ndim > 2:
        n = given.shape[1]
        names = source.channel_names if source.channel_names and len(source.channel_names) == n else None
        mapping = channel_map(names or [f"channel {i}" for i in range(n)], target.channel_names, options.channels)
        if mapping != [[i] for i in range(n)]:
            given = adapt_channels(given, mapping)
            said = names or [str(i) for i in range(n)]
            sums = ("+".join(said[i] for i in sources) for sources in mapping)
            pairs = (f"{wanted} from {sources}" for wanted, sources in zip(target.channel_names, sums, strict=True))
            notes.append(f"channels {', '.join(pairs)}")
    if name == stages.position_embedding and given.shape != tensor.shape:
        if given.ndim == 3:
            given = resize_position_embedding(given, *_grids(source.row, target.row))
            notes.append("resampled to the grid of the new patch")
        elif given.ndim == tensor.ndim and given.shape[:2] == tensor.shape[:2]:  # stored as a map: its shape tells
            given = resize_grid(given, tensor.shape[2:])
            notes.append("resampled to the grid of the new patch")
    if (
        options.force
        and given.ndim == tensor.ndim > 2
        and given.shape[:2] == tensor.shape[:2]
        and given.shape != tensor.shape
    ):
        given = adapt_kernel(given, tensor.shape)
        notes.append("kernel fitted: what it knew along the changed axes is lost")
    if given.shape != tensor.shape:
        return None, "another shape"
    return given, "; ".join(notes)


def _grids(source: Mapping[str, Any] | None, target: Mapping[str, Any]) -> list[list[int]]:
    """Return the tokens per axis of both patches, for networks that cut the patch into tokens."""
    token = target["architecture"]["arch_kwargs"].get("patch_embed_size")
    if source is None or not source.get("patch_size") or not token or len(source["patch_size"]) != len(token):
        raise CheckpointError(
            "the position embedding has another size, and the file does not say for which patch; give a checkpoint "
            "with plans, or use its patch size"
        )
    return [[int(n) // int(t) for n, t in zip(row["patch_size"], token, strict=True)] for row in (source, target)]


def verify(adapted: Adapted, path: Path, target: Target, seed: int) -> int:
    """Load the written file as nnU-Net's flag -pretrained_weights does, and compare parameter by parameter.

    Args:
        adapted: what was written.
        path: of the file.
        target: its network is drawn anew.
        seed: of that network; not the one of the transfer.

    Returns:
        How many of the transferred tensors were compared.

    Raises:
        RuntimeError: a tensor differs; that would be a fault of this package.
    """
    network = target.network(seed)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints
        load_pretrained_weights(network, str(path))
    names = {row.name for row in adapted.table.rows if row.action in (LOADED, ADAPTED)}
    checked = 0
    for name, tensor in network.state_dict().items():
        if NOT_TRANSFERRED in name:
            continue
        if not torch.equal(tensor, adapted.state[name]):
            raise RuntimeError(f"{path}: after loading, {name} is not what was written; please report this")
        checked += name in names
    return checked


def write(adapted: Adapted, source: Source, target: Target, options: Options, path: Path) -> int:
    """Write the file for -pretrained_weights (full state, and the report within; plain types only), and the report.

    Returns:
        How many tensors were compared after nnU-Net's own loading.
    """
    own = {
        "format": checkpoints.FORMAT,
        "kind": "adapted",
        "version": __version__,
        "report": (summary := report(adapted, source, target, options)),
        "architecture": target.row["architecture"],
        "channel_names": target.channels,
        "lineage": [*source.lineage, source.origin],
    }
    content = checkpoints.plain({"network_weights": adapted.state, checkpoints.KEY: own})
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        torch.save(content, temporary)
    checked = verify(adapted, path, target, options.seed + 1)
    write_json(path.with_suffix(".json"), summary)
    return checked


def report(adapted: Adapted, source: Source, target: Target, options: Options) -> dict[str, Any]:
    """Return what happened in plain types, for the JSON file and the checkpoint."""
    return checkpoints.plain(
        {
            "source": source.origin | {"kind": source.kind, "channels": source.channel_names},
            "target": {
                "dataset": target.dataset_name,
                "plans": target.plans_name,
                "configuration": target.configuration_name,
                "channels": target.channel_names,
                "classes": target.classes,
            },
            "scope": options.scope,
            "forced": bool(adapted.differences),
            "differences": adapted.differences,
            "remarks": adapted.remarks,
            "seed": options.seed,
        }
        | adapted.table.to_json()
    )
