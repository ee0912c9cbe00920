"""The page of `nnunet_xlstm compare` for the variants of a study that are finished."""

from __future__ import annotations

from pathlib import Path

from nnunet_xlstm.comparison.analysis import Settings
from nnunet_xlstm.comparison.run import compare
from nnunet_xlstm.comparison.sets.analysis import ModelSet
from nnunet_xlstm.comparison.sets.run import compare_sets
from nnunet_xlstm.io.write import write_json
from nnunet_xlstm.studies.analysis import Findings

FOLDER = "compare"


def write_comparison(found: Findings) -> Path | None:
    """Compare the variants whose runs are all done, in the study's folder; None where fewer than two are.

    Returns:
        index.html.
    """
    study = found.study
    missing = set(found.missing)
    behind = {run.variant for run in study.runs() if run.id in missing}
    variants = [variant.name for variant in study.variants if variant.name not in behind]
    if len(variants) < 2:
        return None
    out = study.folder / FOLDER
    several = len(study.scored_sets) > 1
    sets = []
    for data in study.scored_sets:
        subjects = study.folder / "averages" / f"{f'{data.name}_' if several else ''}subjects.json"
        write_json(subjects, data.subjects)
        files = [(variant, found.averages[data.name if several else "", variant]) for variant in variants]
        sets.append(ModelSet(data.name, files, subjects))
    if several:
        return compare_sets(sets, out, Settings()).page
    return compare(sets[0].models, out, Settings(), sets[0].subjects).page
