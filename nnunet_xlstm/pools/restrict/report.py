"""What a run of `restrict` did: legend.json, restrict.json and the rows of restrict.csv."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nnunet_xlstm.io.tables import text_table
from nnunet_xlstm.pools.manifest import PoolManifest
from nnunet_xlstm.pools.restrict.case import Count, add_up
from nnunet_xlstm.pools.restrict.painting import THRESHOLD, OmittedTarget, Request, including, layers_of

FORMAT = 1
MASKS = "masks"
COLUMNS = ("case", "target", "from", "why_left_out", "false_positive")
COUNTED = tuple(f"{key}_{when}" for key in ("voxels", "components", "ml") for when in ("before", "after"))
SHOWN = 8  # labels in one line
NOT_FROM_MAPS = (
    "A merged map has one code per voxel, so these were decided when nnU-Net painted it: which of two targets that "
    "exclude each other is likelier, and what a target that is left out here was painted over. A target of parts "
    "(kidney: left and right) that was painted without any part is left out. Predict with --save_probabilities to "
    "have all of it."
)


def legend(
    pool: PoolManifest, native: str | None, allowed: Collection[str], skipped: Mapping[str, OmittedTarget], ending: str
) -> dict[str, Any]:
    """Return what the ids of the label maps mean; also a dataset.json for `nnunet_xlstm evaluate -djfile`."""
    if native is not None:
        source = pool.source(native)
        targets = [{"name": name, "ids": list(source.targets[name])} for name in pool.names if name in source.targets]
        return {"labels": {"background": 0, **source.labels}, "file_ending": ending, "targets": targets}
    inside = including(pool)
    return {
        "labels": {"background": 0} | {name: i for i, name in enumerate(pool.names, start=1)},
        "file_ending": ending,
        "targets": [
            {
                "name": target.name,
                "id": i,
                "group": target.group,
                "mask": f"{MASKS}/{target.name}",
                "includes": [name for name in pool.names if target.name in inside[name]],
                "left_out": None if target.name in allowed else skipped[target.name].why,
            }
            for i, target in enumerate(pool.targets, start=1)
        ],
    }


def make_report(
    pool: PoolManifest,
    request: Request,
    skipped: Mapping[str, OmittedTarget],
    allowed: Sequence[str],
    cases: Mapping[str, Path | None],
    counts: Mapping[str, Mapping[str, tuple[Count, Count]]],
) -> dict[str, Any]:
    """Return the content of restrict.json.

    Args:
        pool: of the network.
        request: what was wanted.
        skipped: targets that are left out.
        allowed: the other targets.
        cases: case -> the file of its probabilities, None where its merged map was decoded.
        counts: case -> target -> counts before and after.
    """
    false = [name for name, row in skipped.items() if row.out_of_scope]
    native = pool.source(request.native) if request.native else None
    known = pool.source(request.source) if request.source else None

    def summed(names: Sequence[str], when: int) -> dict[str, Any]:
        return add_up([row[name][when] for row in counts.values() for name in names])

    return {
        "format": FORMAT,
        "mode": "universal" if native is None else "source",
        "source": request.source,
        "modality": request.modality or (known.modality if known else None),
        "regions": list(request.regions or (known.field_of_view if known else ())) or None,
        "threshold": THRESHOLD,
        "components": "voxels that touch by face, edge or corner",
        "false_positives": {
            "what": "predictions of targets that the modality or the field of view of the scans cannot contain",
            "targets": false,
            "before": summed(false, 0),
            "after": summed(false, 1),
        },
        "from_merged_maps": {
            "cases": [case for case, path in cases.items() if path is None],
            "not_possible": NOT_FROM_MAPS if None in cases.values() else None,
        },
        "ids_of_same_targets": native.same_targets() if native else [],
        "never_painted": _never_painted(pool, request, allowed),
        "targets": {
            name: {
                "why_left_out": skipped[name].why if name in skipped else None,
                "false_positive": name in false,
                "before": summed([name], 0),
                "after": summed([name], 1),
            }
            for name in pool.names
        },
        "cases": {
            case: {
                "from": "merged map" if cases[case] is None else "probabilities",
                "targets": {
                    name: {"before": asdict(before), "after": asdict(after)} for name, (before, after) in row.items()
                },
            }
            for case, row in counts.items()
        },
    }


def _never_painted(pool: PoolManifest, request: Request, allowed: Sequence[str]) -> dict[str, int]:
    """Labels of the source that no target makes, or only one that is left out."""
    if request.native is None:
        return {}
    source = pool.source(request.native)
    painted = {int(i) for layer in layers_of(pool, source, allowed) for i in layer.ids}
    return {label: i for label, i in source.labels.items() if i not in painted}


def table_of(report: Mapping[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Return the header and the rows of restrict.csv: one for each case and target."""
    rows = []
    for case, row in report["cases"].items():
        for name, counts in row["targets"].items():
            target = report["targets"][name]
            about = [case, name, row["from"], target["why_left_out"] or "", target["false_positive"]]
            values = [counts[when][key] for key in ("voxels", "components", "ml") for when in ("before", "after")]
            rows.append([*about, *(None if v is None else round(v, 6) for v in values)])
    return [*COLUMNS, *COUNTED], rows


def text_lines(report: Mapping[str, Any]) -> list[str]:
    """Return sums per target, and what a user should know of the result, as lines of text."""
    return _table(report) + [line for text in _remarks(report) for line in ("", text)]


def _table(report: Mapping[str, Any]) -> list[str]:
    """Sum per target, without those that are left out and were not predicted."""
    rows = [["target", "cases", "after", "voxels", "after", "components", "after", "left out because"]]
    for name, target in report["targets"].items():
        before, after = target["before"], target["after"]
        if target["why_left_out"] and not before["voxels"]:
            continue
        numbers = [str(row[key]) for key in ("cases", "voxels", "components") for row in (before, after)]
        rows.append([name, *numbers, target["why_left_out"] or ""])
    return text_table(rows)


def _remarks(report: Mapping[str, Any]) -> list[str]:
    false, lines = report["false_positives"], []
    if report["modality"] is None and report["regions"] is None:
        lines.append("Nothing is known of the scans, so nothing is suppressed: give --modality, --region or --source.")
    else:
        before, after = false["before"], false["after"]
        lines.append(
            f"false positives (what the scans cannot contain), before -> after: voxels {before['voxels']} -> "
            f"{after['voxels']}, components {before['components']} -> {after['components']}"
        )
    for ids in report["ids_of_same_targets"]:
        lines.append(f"The ids {', '.join(map(str, ids))} have the same targets: all are written as {ids[0]}.")
    if never := list(report["never_painted"]):
        more = f" and {len(never) - SHOWN} more" if len(never) > SHOWN else ""
        lines.append(f"Labels that no target makes, and that are never written: {', '.join(never[:SHOWN])}{more}.")
    return lines
