"""Tables and a figure of what benchmarks/pool_real.py measured.

    python benchmarks/pool_tables.py RESULT.json -o FOLDER

RESULT.json: the last line of its output. Writes scores.csv (Dice of every variant, test case and class), table.md (a
row for each variant and data set, with the paired difference to the same network, or nnU-Net's, on that data set
alone), transfer.md, scores.png and scores.svg. A case counts as the mean over the classes in its reference, a subject
as the mean over its cases; intervals are 95 %, bootstrapped over subjects.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nnunet_xlstm.figures.score_charts import Panel, scores_per_method
from nnunet_xlstm.figures.style import save
from nnunet_xlstm.io.tables import write_csv
from nnunet_xlstm.statistics.bootstrap import mean_interval

SUBJECT = re.compile(r"patient\d+")  # of ACDC, with two images each; elsewhere a case is a subject
Scores = dict[str, float]  # of subjects


def by_subject(dice: dict[str, Scores]) -> Scores:
    """class -> case -> Dice to subject -> Dice."""
    cases: dict[str, list[float]] = {}
    for row in dice.values():
        for case, value in row.items():
            cases.setdefault(case, []).append(value)
    subjects: dict[str, list[float]] = {}
    for case, values in cases.items():
        found = SUBJECT.search(case)
        subjects.setdefault(found.group() if found else case, []).append(float(np.mean(values)))
    return {name: float(np.mean(values)) for name, values in sorted(subjects.items())}


def estimate(values: Sequence[float], sign: str = "") -> str:
    """Mean and interval."""
    low, high = mean_interval(np.array([values]))[:, 0]
    return f"{np.mean(values):{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"


def difference(scores: Scores, reference: Scores | None) -> str:
    if reference is None or scores is reference:
        return "–"
    if set(scores) != set(reference):
        raise SystemExit(f"not the same subjects: {sorted(set(scores) ^ set(reference))}; run pool_real.py again")
    return estimate([scores[name] - reference[name] for name in scores], "+")


def alone(variant: str, dataset: str, scores: dict[str, dict[str, Scores]]) -> Scores | None:
    """What a variant is compared with: its network on the data set alone, else nnU-Net's."""
    number = int(dataset[7:10])
    names = [f"alone_{network}_{number}" for network in ("tsfm_s", "nnunet")]
    wanted = names if variant.startswith("pool_tsfm_s") and "novit" not in variant else names[1:]
    return next((scores[name][dataset] for name in wanted if name in scores), None)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    header, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([header, "|" + " --- |" * len(rows[0]), *body]) + "\n"


def variants_table(variants: dict, scores: dict[str, dict[str, Scores]]) -> list[list[str]]:
    rows = [["data set", "subjects", "variant", "Dice", "minus alone", "voxels that cannot be there, before and after"]]
    for dataset in dict.fromkeys(name for row in scores.values() for name in row):
        for variant, row in scores.items():
            if dataset in row:
                false = variants[variant]["test"][dataset].get("false_voxels")
                counts = f"{false['before']}, {false['after']}" if false else "–"
                minus = difference(row[dataset], alone(variant, dataset, scores))
                label = variant.rpartition("_")[0] if variant.startswith("alone") else variant
                rows.append(
                    [dataset, str(len(row[dataset])), label, estimate(list(row[dataset].values())), minus, counts]
                )
    return rows


def transfer_table(transfer: dict) -> list[list[str]]:
    rows = [["epochs", "from", "Dice", "minus none"]]
    scores = {name: by_subject(row["dice"]) for name, row in transfer.items()}
    for name in sorted(scores, key=lambda name: int(name.rpartition("_")[2])):
        start, _, epochs = name.rpartition("_")
        none = scores.get(f"none_{epochs}")
        rows.append([epochs, start, estimate(list(scores[name].values())), difference(scores[name], none)])
    return rows


def figure(scores: dict[str, dict[str, Scores]]):
    """A panel for each data set; variants on it alone are one row for each network."""
    plain = {variant: variant.rpartition("_")[0] if variant.startswith("alone") else variant for variant in scores}
    names = list(dict.fromkeys(plain[variant] for variant, row in scores.items() if row))
    panels = []
    for dataset in dict.fromkeys(name for row in scores.values() for name in row):
        rows = {plain[variant]: row[dataset] for variant, row in scores.items() if dataset in row}
        subjects = sorted({name for row in rows.values() for name in row})
        values = np.array([[rows.get(name, {}).get(s, np.nan) for s in subjects] for name in names])
        mean = np.array([np.nanmean(row) if np.isfinite(row).any() else np.nan for row in values])
        panels.append(Panel(f"Dice, {dataset.partition('_')[2]}", values, mean, mean_interval(values)))
    return scores_per_method(names, panels, over="test subjects")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path, metavar="RESULT.json")
    parser.add_argument("-o", dest="out", type=Path, required=True, metavar="FOLDER")
    args = parser.parse_args()
    result = json.loads(args.result.read_text().splitlines()[-1])
    args.out.mkdir(parents=True, exist_ok=True)
    tests = {variant: row["test"] for variant, row in result["variants"].items()}
    scores = {variant: {name: by_subject(row["dice"]) for name, row in test.items()} for variant, test in tests.items()}
    scores = {variant: row for variant, row in scores.items() if row}  # a pool that only others start from has none
    rows = [
        (variant, name, label, case, dice)
        for variant, test in tests.items()
        for name, row in test.items()
        for label, cases in row["dice"].items()
        for case, dice in cases.items()
    ]
    write_csv(args.out / "scores.csv", ["variant", "data set", "class", "case", "Dice"], rows)
    (args.out / "table.md").write_text(markdown(variants_table(result["variants"], scores)))
    if result["transfer"]:
        (args.out / "transfer.md").write_text(markdown(transfer_table(result["transfer"])))
    save(figure(scores), args.out / "scores")


if __name__ == "__main__":
    main()
