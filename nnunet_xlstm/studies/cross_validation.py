"""`study cross_validation`: arms compared in the folds of nnU-Net, each subject scored once."""

from __future__ import annotations

from nnunet_xlstm.studies.datasets import asked_set
from nnunet_xlstm.studies.kind import Kind

KIND = Kind(
    name="cross_validation",
    what="every arm in every fold of splits_final.json; each subject is scored by the network that has not seen it",
    title="Cross-validation",
    takes=("folds", "iterations", "subjects", "subject"),
    find_sets=asked_set,
    scored_on="folds",
    length="recipe",
    reading="Each subject is scored once, by the network of the fold that has not seen it. Intervals: bootstrap over "
    "these subjects. The networks of the folds share most of their training subjects, so intervals say how far the "
    "result holds for other subjects, not for other training data. SD of folds: subjects and networks differ together.",
    compared=True,
)
