"""`docs/reference/configuration.md`, made from the config classes of the trainers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nnunet_xlstm.config import key_groups, schema
from nnunet_xlstm.config.augmentation import AUGMENTATIONS


@dataclass(frozen=True)
class Row:
    """One key, as text for people."""

    name: str
    rule: str
    default: str
    text: str


def rows(config_class: type) -> list[Row]:
    """Return the keys of a config class, in the order of declaration."""
    keys = schema(config_class).keys
    return [
        Row(f.name, keys[f.name].constraint.rule, json.dumps(f.default), f.metadata["text"])
        for f in dataclasses.fields(config_class)
    ]


def reference_page(families: Sequence[tuple[str, type]], recipes: Mapping[str, Any]) -> str:
    """`docs/reference/configuration.md`.

    Args:
        families: (title, config class); keys that an earlier family has are not listed again.
        recipes: name of a trainer -> its config, for the table of what differs from the defaults.
    """
    lines = [
        "# Configuration of the trainers",
        "",
        "<!-- made by `nnunet_xlstm config --markdown`; do not edit -->",
        "",
        "Write the keys to change into a JSON file, and name it:",
        "",
        "```bash",
        'echo \'{"num_epochs": 100, "initial_lr": 0.003}\' > run.json',
        "nnUNet_xlstm_config=run.json nnUNetv2_train 4 3d_fullres 0 -tr nnUNetTrainerXLSTMUNet -p nnUNetXLSTMUNetPlans",
        "```",
        "",
        "A key that the trainer does not declare is an error. What was used is in the training log and in every",
        "checkpoint. `patch_size` and `batch_size` change the plans that are stored with the model, so prediction",
        "agrees.",
        "Defaults are those of nnU-Net where it has the key; a trainer's recipe may differ: see the last table, and",
        "`nnunet_xlstm config --trainer NAME`, which prints what a trainer uses.",
    ]
    listed: set[type] = set()
    for title, config_class in families:
        lines += ["", f"## {title}", ""]
        known = [g.__name__.removesuffix("Keys") for g in reversed(key_groups(config_class)) if g in listed]
        lines += [f"The keys of {', '.join(known)} above, and:", ""] if known else []
        for group in reversed(key_groups(config_class)):
            if group not in listed:
                lines += _group_table(config_class, group)
                listed.add(group)
    return "\n".join([*lines, *_augmentations(), *_recipe_table(recipes)]) + "\n"


def _group_table(config_class: type, group: type) -> list[str]:
    own = set(group.__dict__["__annotations__"])
    lines = [f"### {group.__name__.removesuffix('Keys')}", "", " ".join((group.__doc__ or "").split()), ""]
    lines += ["| key | value | default | what |", "|---|---|---|---|"]
    lines += [f"| `{r.name}` | {r.rule} | {r.default} | {r.text} |" for r in rows(config_class) if r.name in own]
    return [*lines, ""]


def _augmentations() -> list[str]:
    lines = ["## What the named augmentations set", ""]
    for name, values in AUGMENTATIONS.items():
        said = ", ".join(f"`{k}` {json.dumps(v)}" for k, v in values.items())
        lines.append(f"- **{name}**: {said or 'nothing'}")
    return [*lines, ""]


def _recipe_table(recipes: Mapping[str, Any]) -> list[str]:
    lines = ["## What the trainers' recipes change", ""]
    for name, recipe in recipes.items():
        default = type(recipe)()
        changed = {f.name: getattr(recipe, f.name) for f in dataclasses.fields(recipe)}
        changed = {k: v for k, v in changed.items() if v != getattr(default, k)}
        values = ", ".join(f"`{k}` {json.dumps(v)}" for k, v in sorted(changed.items()))
        lines.append(f"- **{name}**: {values or 'nothing'}")
    return lines
