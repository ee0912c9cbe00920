"""What `view` can draw of a case: planes of one model, planes of several side by side, or surfaces."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_xlstm.errors import ConfigError, DatasetError
from nnunet_xlstm.evaluation.cases import find_cases
from nnunet_xlstm.figures.overlay import Case, draw_overlay, draw_sheet
from nnunet_xlstm.figures.side_by_side import draw_models, draw_models_sheets
from nnunet_xlstm.meshes.run import Settings, read_mesh
from nnunet_xlstm.meshes.side_by_side import draw_meshes
from nnunet_xlstm.view.files import CaseFiles, check_same_cases

REFERENCE = "reference"
Notes = Mapping[str, Mapping[str, str]]  # case -> model -> what is said above its picture


class Drawing(ABC):
    """Draws the cases that it has."""

    cases: Mapping[str, Any]

    @abstractmethod
    def draw(self, path: Path, case: str, notes: Mapping[str, str]) -> None:
        """Write the picture of a case."""

    def sheets(self, out: Path, cases: Sequence[str], notes: Notes) -> list[Path]:
        """Write pictures of all cases together; none here."""
        return []


class OneModel(Drawing):
    """Three planes of each case; one sheet where cases have notes, which say how good they are."""

    def __init__(self, files: Mapping[str, CaseFiles], options: Mapping[str, Any]):
        self.cases, self.options = files, options

    def draw(self, path: Path, case: str, notes: Mapping[str, str]) -> None:
        """Write the planes of a case."""
        shown = self._load(case, notes)
        draw_overlay(path, shown.image, shown.reference, shown.prediction, title=shown.title, **self.options)

    def sheets(self, out: Path, cases: Sequence[str], notes: Notes) -> list[Path]:
        """Write one sheet of the cases with notes; none without notes."""
        if not notes:
            return []
        loaders = [lambda case=case: self._load(case, notes[case]) for case in cases]
        return [draw_sheet(out / "_sheet.png", loaders, **self.options)]

    def _load(self, case: str, notes: Mapping[str, str]) -> Case:
        shown = self.cases[case].load()
        title = f"{case}: mean {next(iter(notes.values()))}" if notes else case
        return Case(shown.image, shown.reference, next(iter(shown.predictions.values()), None), title)


class SeveralModels(Drawing):
    """The same planes of all models; sheets with a row per case."""

    def __init__(self, files: Mapping[str, CaseFiles], options: Mapping[str, Any], plane: str):
        self.cases, self.options, self.plane = files, options, plane

    def draw(self, path: Path, case: str, notes: Mapping[str, str]) -> None:
        """Write the planes of a case, a column per model."""
        draw_models(path, self.cases[case].load(notes), **self.options)

    def sheets(self, out: Path, cases: Sequence[str], notes: Notes) -> list[Path]:
        """Write sheets with a row per case."""
        loaders = [lambda case=case: self.cases[case].load(notes.get(case, {})) for case in cases]
        return draw_models_sheets(out, loaders, plane=self.plane, **self.options)


class Surfaces(Drawing):
    """Surfaces of the reference and of all models, from the same camera.

    Raises:
        ConfigError: neither models nor a reference.
        DatasetError: a model lacks a case of another, or the reference one of the models.
    """

    def __init__(self, reference: Path | None, models: Mapping[str, Path], names: Mapping[int, str]):
        if not models and reference is None:
            raise ConfigError("--mesh: give label maps with -ref, -pred or both")
        self.settings, self.names = Settings(), names
        columns = {name: find_cases(folder) for name, folder in models.items()}
        check_same_cases(columns)
        if reference is not None:
            columns = {REFERENCE: find_cases(reference)} | columns
        cases = columns[list(columns)[-1]]
        if missing := sorted(set(cases) - set(next(iter(columns.values())))):
            raise DatasetError(f"no reference of {', '.join(missing[:5])}; give the folder that belongs to the others")
        self.cases = {case: {name: found[case] for name, found in columns.items()} for case in cases}

    def draw(self, path: Path, case: str, notes: Mapping[str, str]) -> None:
        """Write the surfaces of a case, a column per model."""
        found = {name: read_mesh(file, self.settings) for name, file in self.cases[case].items()}
        titles = {name: "\n".join(filter(None, [name, notes.get(name)])) for name in found}
        labels = sorted({label for _, present in found.values() for label in present})
        meshes = {titles[name]: mesh for name, (mesh, _) in found.items()}
        draw_meshes(path, meshes, labels, names=self.names, title=case)
