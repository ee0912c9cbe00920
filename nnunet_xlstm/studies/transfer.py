"""`study transfer`: pre-training checkpoints, fine-tuned for several numbers of epochs, and the same from scratch."""

from __future__ import annotations

from nnunet_xlstm.studies.datasets import asked_set
from nnunet_xlstm.studies.kind import Axis, Kind

KIND = Kind(
    name="transfer",
    what="every arm (a checkpoint, or from scratch) trained for several numbers of epochs",
    title="Transfer study",
    takes=("epochs", "folds", "test_subjects", "subjects", "subject"),
    find_sets=asked_set,
    needs=("dataset", "epochs", "arms"),
    axis=Axis(key="epochs", letter="e", unit="epoch"),
    scored_on="either",
    length="epochs",
    reading="Every number of epochs is a training of its own, with the whole schedule of its recipe. Intervals: "
    "bootstrap over the scored subjects; they do not count how much another seed or other training data would change.",
)
