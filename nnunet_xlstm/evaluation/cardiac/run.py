"""Measure a folder of hearts and write cardiac.json and its CSV, or nothing where the files would replace others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_xlstm.choices import DENSITY_G_PER_ML, PHASE_SUFFIXES
from nnunet_xlstm.datasets.dataset_json import DatasetFile
from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.evaluation.cardiac import folder
from nnunet_xlstm.evaluation.cardiac.measures import find_structures, quantities
from nnunet_xlstm.imaging.images import files_read
from nnunet_xlstm.io.protect import protect_inputs, protect_other_json
from nnunet_xlstm.io.tables import csv_text, text_table
from nnunet_xlstm.io.write import json_text, try_writing, write_together

MAX_FLAGS = 20  # lines of text


def measure_folder(
    source: Path,
    out: Path,
    labels: Mapping[str, str | None],
    *,
    dataset_json: Path | None = None,
    references: Path | None = None,
    suffixes: tuple[str, str] = PHASE_SUFFIXES,
    pairs: Path | None = None,
    bsa: Path | None = None,
    density: float = DENSITY_G_PER_ML,
) -> dict[str, Any]:
    """Measure all subjects of a folder and write the results; return the content of the JSON file.

    Args:
        source: folder with the label maps of both phases.
        out: a .json file; the CSV gets its name.
        labels: LV, RV, MYO -> ids or name of the label; None: by the names in dataset.json.
        dataset_json: default: in `source` or the folder above it.
        references: folder with reference label maps of the same names.
        suffixes: of the files at ED and ES.
        pairs: CSV with the columns subject,ed,es, in place of suffixes.
        bsa: CSV with the columns subject,bsa (m2).
        density: of the myocardium, in g/mL.

    Raises:
        ConfigError: `out` has another ending, or would replace a file that is read.
        DatasetError: a table, a label map or a density that cannot be used.
        WriteError: a file cannot be written.
    """
    if out.suffix != ".json":
        raise ConfigError(f"-o {out}: give the name of a .json file; the CSV gets its name")
    if dataset_json is None:
        beside = (source / "dataset.json", source.resolve().parent / "dataset.json")
        dataset_json = next((path for path in beside if path.is_file()), None)
    table = out.with_suffix(".csv")
    protect_inputs([out, table], filter(None, (dataset_json, pairs, bsa)))
    classes = DatasetFile.read(dataset_json).scored_labels() if dataset_json else None
    structures = find_structures(classes, labels)
    subjects = folder.pairs_by_table(pairs, source) if pairs else folder.pairs_by_suffix(source, suffixes)
    areas = folder.read_bsa(bsa, subjects) if bsa else None
    theirs = folder.references_of(subjects, references, complete=pairs is None) if references else None
    maps = [path for subject in (*subjects, *(theirs or ())) for path in (subject.ed, subject.es)]
    protect_inputs([out, table], files_read(maps))
    protect_other_json(out, "density_g_per_mL")
    try_writing([out, table])
    known = classes.known if classes else None
    content = folder.measure_subjects(subjects, structures, known=known, references=theirs, density=density, bsa=areas)
    columns = {name: q.column for name, q in quantities(structures, density, areas is not None).items()}
    write_together({table: csv_text(*folder.csv_rows(content, columns)), out: json_text(content)})
    return content


def text_lines(content: Mapping[str, Any]) -> list[str]:
    """Return the group as lines of text: mean and SD of every quantity, agreement with the references, how many flags.

    n counts the subjects (or pairs with a reference) that have the value.
    """
    labels = ", ".join(f"{name} = {' + '.join(map(str, ids))}" for name, ids in content["labels"].items())
    people = len(content["subjects"])
    lines = [
        f"{people} subject{'s' * (people != 1)}; labels: {labels}; density {content['density_g_per_mL']:g} g/mL",
        "",
    ]
    agreement = content["agreement"]
    rows = [["", "unit", "n", "mean", "SD"] + (["pairs", "bias", "limits of agreement", "r"] if agreement else [])]
    for name, quantity in content["quantities"].items():
        row = [name, quantity["unit"], str(content["n"][name])]
        row += [_number(content["mean"][name]), _number(content["sd"][name])]
        if agreement:
            ours = agreement[name]
            limits = f"{_number(ours['loa_low'])} to {_number(ours['loa_high'])}"
            row += [str(ours["n"]), _number(ours["bias"]), limits, _number(ours["r"], 3)]
        rows.append(row)
    lines += text_table(rows)
    severe = [(row["subject"], flag) for row in content["subjects"] for flag in row["flags"] if "cut off" not in flag]
    edge = sum(any("cut off" in flag for flag in row["flags"]) for row in content["subjects"])
    lines += ["", *(f"{subject}: {flag}" for subject, flag in severe[:MAX_FLAGS])]
    lines += [f"... and {len(severe) - MAX_FLAGS} more"] if len(severe) > MAX_FLAGS else []
    if edge:
        who = "1 subject has" if edge == 1 else f"{edge} subjects have"
        lines.append(f"{who} a structure on the first or last slice (may be cut off): see the flags")
    return lines


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
