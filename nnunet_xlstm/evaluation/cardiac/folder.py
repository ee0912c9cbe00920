"""Measures of the heart for a folder of label maps: who belongs together, the references, and the tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_xlstm import __version__
from nnunet_xlstm.choices import DENSITY_G_PER_ML, PHASE_SUFFIXES
from nnunet_xlstm.errors import DatasetError, failed_text
from nnunet_xlstm.evaluation.cardiac.measures import flags, measure, measure_phase, quantities
from nnunet_xlstm.evaluation.cases import find_cases
from nnunet_xlstm.evaluation.summary import case_name, finite
from nnunet_xlstm.imaging.grid import check_same_grid
from nnunet_xlstm.imaging.images import read_grid
from nnunet_xlstm.io.tables import read_csv
from nnunet_xlstm.parallel import for_each
from nnunet_xlstm.statistics.agreement import Agreement, agreement

BSA_RANGE = (0.1, 4.0)  # m2: a newborn to the largest adults


@dataclass(frozen=True)
class Subject:
    """One heart: its name and its label maps at ED and ES."""

    name: str
    ed: Path
    es: Path


def pairs_by_suffix(folder: Path, suffixes: tuple[str, str] = PHASE_SUFFIXES) -> list[Subject]:
    """Find the subjects of a folder whose files are NAME_ED and NAME_ES.

    Raises:
        DatasetError: a file has neither suffix, or has no partner.
    """
    if suffixes[0] == suffixes[1] or not all(suffixes):
        raise DatasetError(f"the suffixes '{suffixes[0]}' and '{suffixes[1]}' must be two different texts")
    found: dict[str, dict[str, Path]] = {}
    for case, path in find_cases(folder).items():
        hits = [suffix for suffix in suffixes if case.endswith(suffix) and case != suffix]
        if not hits:
            raise DatasetError(
                f"{path}: its name ends neither with {suffixes[0]} nor with {suffixes[1]}; give --ed-suffix and "
                "--es-suffix, or a table with --pairs"
            )
        suffix = max(hits, key=len)
        found.setdefault(case.removesuffix(suffix), {})[suffix] = path
    for name, files in found.items():
        if len(files) == 1:
            ((suffix, path),) = files.items()
            other = suffixes[1 - suffixes.index(suffix)]
            raise DatasetError(f"{path}: there is no {name}{other} beside it; both phases of a subject are needed")
    return [Subject(name, files[suffixes[0]], files[suffixes[1]]) for name, files in sorted(found.items())]


def pairs_by_table(table: Path, folder: Path) -> list[Subject]:
    """Read subjects from a CSV with the columns subject, ed, es: file or case names in the folder.

    Raises:
        DatasetError: the table is wrong, or names what is not there.
    """
    cases = find_cases(folder)
    subjects: list[Subject] = []
    used: dict[Path, int] = {}
    for line, row in _rows(table, ("subject", "ed", "es")):
        paths = []
        for entry in (row["ed"], row["es"]):
            path = folder / entry if (folder / entry).is_file() else cases.get(entry)
            if path is None:
                raise DatasetError(f"{table}, line {line}: there is no label map '{entry}' in {folder}")
            if (file := path.resolve()) in used:
                raise DatasetError(
                    f"{table}, line {line}: '{entry}' stands in line {used[file]} too; every subject has two files of "
                    "its own"
                )
            used[file] = line
            paths.append(path)
        subjects.append(Subject(row["subject"], *paths))
    return sorted(subjects, key=lambda subject: subject.name)


def read_bsa(table: Path, subjects: Sequence[Subject]) -> dict[str, float]:
    """Read subject -> body surface area in m2 from a CSV with the columns subject, bsa.

    Raises:
        DatasetError: the table is wrong, has no value for a subject, or one that cannot be m2.
    """
    areas = {}
    for line, row in _rows(table, ("subject", "bsa")):
        try:
            area = float(row["bsa"])
        except ValueError:
            area = math.nan
        if not BSA_RANGE[0] <= area <= BSA_RANGE[1]:
            low, high = BSA_RANGE
            raise DatasetError(f"{table}, line {line}: bsa '{row['bsa']}'; give m2, from {low:g} to {high:g}")
        areas[row["subject"]] = area
    missing = [subject.name for subject in subjects if subject.name not in areas]
    if missing:
        raise DatasetError(f"{table}: there is no body surface area of {', '.join(missing[:10])}; add a line for each")
    return areas


def _rows(table: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Read (line, column -> text) of a CSV that has at least these columns, in any order; one line per subject."""
    header, read = read_csv(table)
    names = {name.strip().lower(): name for name in reversed(header)}
    if missing := [column for column in columns if column not in names]:
        raise DatasetError(
            f"{table}: no column {', '.join(missing)}; the first line must name {','.join(columns)} with commas"
        )
    rows = [(line, {column: row[names[column]].strip() for column in columns}) for line, row in read]
    lines: dict[str, int] = {}
    for line, row in rows:
        if empty := [column for column in columns if not row[column]]:
            raise DatasetError(f"{table}, line {line}: {empty[0]} is empty")
        first = lines.setdefault(row["subject"], line)
        if first != line:
            raise DatasetError(f"{table}, line {line}: subject '{row['subject']}' stands in line {first} too; keep one")
    if not rows:
        raise DatasetError(f"{table}: it has no line after the first")
    return rows


def references_of(subjects: Sequence[Subject], folder: Path, complete: bool) -> list[Subject]:
    """Find the same subjects in the folder of references, by case name.

    Args:
        subjects: with the label maps that are measured.
        folder: of the references.
        complete: whether a reference without a subject is an error too.

    Raises:
        DatasetError: a file has no reference, or the other way round.
    """
    cases = find_cases(folder)
    used = {case_name(path) for subject in subjects for path in (subject.ed, subject.es)}
    if missing := sorted(used - set(cases)):
        raise DatasetError(f"{folder}: there is no reference {missing[0]} ({len(missing)} missing); add or remove")
    if complete and (extra := sorted(set(cases) - used)):
        raise DatasetError(
            f"{cases[extra[0]]}: there is no segmentation of that name ({len(extra)} missing); predict it"
        )
    return [Subject(s.name, cases[case_name(s.ed)], cases[case_name(s.es)]) for s in subjects]


def measure_subjects(
    subjects: Sequence[Subject],
    structures: Mapping[str, Sequence[int]],
    *,
    known: frozenset[int] | None = None,
    references: Sequence[Subject] | None = None,
    density: float = DENSITY_G_PER_ML,
    bsa: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Measure all subjects, with references also the differences and their agreement; return the JSON file's content.

    Raises:
        DatasetError: a density out of range, a file that cannot be measured, or a reference on another grid.
    """
    if not 0.5 <= density <= 2:
        usual = f"{DENSITY_G_PER_ML:g} is usual for the myocardium"
        raise DatasetError(f"density {density:g}: give g/mL, from 0.5 to 2; {usual}")
    table = quantities(structures, density, bsa is not None)

    def measured(subject: Subject, area: float | None) -> tuple[dict[str, float], list[str]]:
        ed, es = (measure_phase(path, structures, known) for path in (subject.ed, subject.es))
        return measure(ed, es, density, area), flags(ed, es)

    def row_of(subject: Subject, reference: Subject | None) -> dict[str, Any]:
        area = bsa[subject.name] if bsa else None
        row: dict[str, Any] = {"subject": subject.name, "ed": str(subject.ed), "es": str(subject.es)}
        row |= {"bsa_m2": area} if bsa else {}
        row["measures"], row["flags"] = measured(subject, area)
        if reference is not None:
            for ours, theirs in ((subject.ed, reference.ed), (subject.es, reference.es)):
                try:
                    check_same_grid(read_grid(theirs), read_grid(ours))
                except DatasetError as error:
                    raise DatasetError(f"{ours}: {error}") from error
            row["reference"], row["reference_flags"] = measured(reference, area)
            row["difference"] = {name: row["measures"][name] - row["reference"][name] for name in table}
        return row

    partners: Sequence[Subject | None] = references or [None] * len(subjects)
    items = list(zip(subjects, partners, strict=True))
    results = for_each(lambda item: row_of(*item), items, desc="cardiac", unit="subject", caught=(DatasetError,))
    found = {subject.name: row for (subject, _), row in results}
    rows = list(found.values())
    if failed := {name: row for name, row in found.items() if isinstance(row, str)}:
        raise DatasetError(failed_text(failed, len(subjects), "measured", "subjects"))
    values = {name: np.array([row["measures"][name] for row in rows]) for name in table}
    agreements = {
        name: agreement(values[name], [row["reference"][name] for row in rows]) for name in table if references
    }
    finite_values = {name: v[np.isfinite(v)] for name, v in values.items()}
    for row in rows:
        for part in ("measures", "reference", "difference"):
            row.update({part: {name: finite(v) for name, v in row[part].items()}} if part in row else {})
    return {
        "nnunet_xlstm": __version__,
        "density_g_per_mL": density,
        "labels": {structure: list(ids) for structure, ids in structures.items()},
        "quantities": {name: {"unit": q.unit, "what": q.what} for name, q in table.items()},
        "difference": "segmentation minus reference; loa_low and loa_high = bias -+ 1.96 SD of the differences",
        "n": {name: len(v) for name, v in finite_values.items()},
        "mean": {name: finite(v.mean()) if len(v) else None for name, v in finite_values.items()},
        "sd": {name: finite(v.std(ddof=1)) if len(v) > 1 else None for name, v in finite_values.items()},
        "agreement": {name: _agreement_row(found) for name, found in agreements.items()},
        "subjects": rows,
    }


def _agreement_row(found: Agreement) -> dict[str, float | None]:
    row = {"n": found.n, "bias": found.bias, "sd": found.sd, "loa_low": found.low, "loa_high": found.high}
    row |= {"mean_absolute": found.mean_absolute, "r": found.r}
    return {key: finite(value) for key, value in row.items()}


def csv_rows(content: Mapping[str, Any], columns: Mapping[str, str]) -> tuple[list[str], list[list[Any]]]:
    """Return header and one row per subject. `columns`: quantity -> the unit as it stands in the column's name."""
    parts = {"measures": "", "reference": "_ref", "difference": "_diff"}
    subjects = content["subjects"]
    parts = {part: end for part, end in parts.items() if part in subjects[0]}
    extra = ["bsa_m2"] if "bsa_m2" in subjects[0] else []
    texts = [name for name in ("flags", "reference_flags") if name in subjects[0]]
    header = ["subject", "ed", "es", "density_g_per_mL", *extra]
    header += [f"{name}_{unit}{end}" for end in parts.values() for name, unit in columns.items()] + texts
    rows = []
    for row in subjects:
        numbers = [row[part][name] for part in parts for name in columns]
        files = [Path(row[phase]).name for phase in ("ed", "es")]
        start = [row["subject"], *files, content["density_g_per_mL"], *(row[name] for name in extra)]
        rows.append([*start, *numbers, *("; ".join(row[name]) for name in texts)])
    return header, rows
