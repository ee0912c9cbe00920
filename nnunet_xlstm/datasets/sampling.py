"""How often each case is drawn, and which frame of a sequence goes with another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from nnunet_xlstm.datasets.case_index import NAME, SAMPLING, CaseRecord
from nnunet_xlstm.errors import DatasetError

SOURCE_POWER = 0.5  # p(source) ~ (number of its subjects) ** 0.5
NEAR_FRAMES = 8  # the partner of a frame is at most an eighth of the sequence away


def sampling_probabilities(cases: Mapping[str, CaseRecord], keys: Sequence[str], scheme: str = "sqrt") -> np.ndarray:
    """Return how likely each of `keys` is drawn.

    `sqrt`: p(source) ~ n^0.5 with n its subjects, equal over the subjects of a source, equal over a subject's cases, so
    neither a large source nor a long cine rules. `modality`: modalities equal, within each as `sqrt`. `uniform`:
    all cases equal.

    Args:
        cases: case -> its record.
        keys: cases that can be drawn, each once.
        scheme: one of SAMPLING.

    Returns:
        (len(keys),) float64, in the order of `keys`, sum 1.

    Raises:
        ValueError: a key without a row, no key, or an unknown scheme.
    """
    if scheme not in SAMPLING:
        raise DatasetError(f"sampling '{scheme}' is unknown; use one of {', '.join(SAMPLING)}")
    if missing := [key for key in keys if key not in cases]:
        raise DatasetError(
            f"{NAME} has no row of case '{missing[0]}' ({len(missing)} missing); it does not belong to these "
            "preprocessed data: preprocess again, or run `unlabelled` or `pool build` again"
        )
    if not len(keys):
        raise DatasetError("there is no case to draw from; give at least one")
    if scheme == "uniform":
        return np.full(len(keys), 1 / len(keys))
    # (modality, source) is a group: a source of one modality is one group under both schemes
    records = [cases[key] for key in keys]
    group = [(record.modality if scheme == "modality" else "", record.source) for record in records]
    person = [(*g, record.subject) for g, record in zip(group, records, strict=True)]
    cases_of, subjects_of = Counter(person), Counter(p[:2] for p in set(person))
    weight_of = {g: n**SOURCE_POWER for g, n in subjects_of.items()}
    total: Counter = Counter()
    for (modality, _), weight in weight_of.items():
        total[modality] += weight
    p = np.array(
        [
            weight_of[g] / (total[g[0]] * len(total)) / subjects_of[g] / cases_of[one]
            for g, one in zip(group, person, strict=True)
        ]
    )
    return p / p.sum()


class FramePartner:
    """A case -> the case of a near frame of the same sequence, at most an eighth of it away, in a circle.

    A case without time, or whose near frames are not among the keys, is its own partner. Draws from NumPy's global
    generator, which nnU-Net seeds differently in every worker.
    """

    def __init__(self, cases: Mapping[str, CaseRecord], keys: Sequence[str]):
        sequences: dict[tuple, dict[int, str]] = {}
        for key in keys:
            record = cases.get(key)
            if record is not None and record.frame is not None:
                sequence = (record.source, record.subject, record.images, record.frames)
                sequences.setdefault(sequence, {})[record.frame] = str(key)
        self.partners = {
            case: tuple(found[t] for t in near_frames(frame, frames) if t in found)
            for (*_, frames), found in sequences.items()
            for frame, case in found.items()
        }

    def __call__(self, case: str) -> str:
        """Draw the partner of a case."""
        partners = self.partners.get(case)
        return partners[np.random.randint(len(partners))] if partners else case


def near_frames(frame: int, frames: int) -> list[int]:
    """Frames t + d with 0 < |d| <= max(1, T / 8), in a circle."""
    reach = min(max(1, frames // NEAR_FRAMES), frames - 1)
    return sorted({(frame + d) % frames for d in range(-reach, reach + 1)} - {frame})
