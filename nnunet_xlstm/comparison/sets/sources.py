"""The models of a comparison as a user names them: NAME=FILE, SET:NAME=FILE, or one JSON file of data sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nnunet_xlstm.comparison.sets.analysis import ModelSet
from nnunet_xlstm.comparison.sets.run import read_sets
from nnunet_xlstm.errors import ConfigError


def parse_models(texts: Sequence[str], subjects: Sequence[str] = ()) -> list[ModelSet]:
    """Return the data sets that the texts name, each with its models; one without a name where they name none.

    Args:
        texts: NAME=FILE or SET:NAME=FILE, or the path of a JSON file (see `read_sets`).
        subjects: one file for all data sets, or SET=FILE.

    Raises:
        ConfigError: texts of several kinds, or subjects of a data set that is not there.
        DatasetError: the JSON file holds something else.
    """
    files = [text for text in texts if "=" not in text]
    if files and len(texts) > 1:
        raise ConfigError(f"{files[0]}: give one JSON file alone, or models as NAME=FILE")
    if files:
        return _with_subjects(read_sets(Path(files[0])), subjects)
    models = [(name.strip(), Path(path)) for name, _, path in (text.partition("=") for text in texts)]
    if not any(":" in name for name, _ in models):
        if len(subjects) > 1:
            given = " ".join(subjects)
            raise ConfigError(f"--subjects {given}: give one file; SET=FILE is for models SET:NAME=FILE")
        return [ModelSet("", models, Path(subjects[0]) if subjects else None)]
    sets: dict[str, list[tuple[str, Path]]] = {}
    for text, (name, path) in zip(texts, models, strict=True):
        one, colon, own = (part.strip() for part in name.partition(":"))
        if not (one and colon and own):
            raise ConfigError(f"'{text}': some models name a data set; name one for all, SET:NAME=FILE")
        sets.setdefault(one, []).append((own, path))
    return _with_subjects([ModelSet(one, found) for one, found in sets.items()], subjects)


def _with_subjects(sets: list[ModelSet], subjects: Sequence[str]) -> list[ModelSet]:
    named = dict(text.partition("=")[::2] for text in subjects if "=" in text)
    if not named and len(subjects) <= 1:
        return [replace(one, subjects=Path(subjects[0]) if subjects else None) for one in sets]
    if len(named) < len(subjects) or not set(named) <= {one.name for one in sets}:
        raise ConfigError(
            f"--subjects {' '.join(subjects)}: give one file for all, or SET=FILE; the data sets are "
            f"{', '.join(one.name for one in sets)}"
        )
    return [replace(one, subjects=Path(named[one.name]) if one.name in named else None) for one in sets]
