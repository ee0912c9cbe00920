"""What is known about cases: tables of a subject (or a modality, ...) per case, and lists of test subjects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnunet_xlstm.datasets.case_index import NAME as POOL_CASES
from nnunet_xlstm.datasets.case_index import read_pool_cases
from nnunet_xlstm.datasets.subjects import subject_of, subject_pattern
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.io.read import read_json
from nnunet_xlstm.io.tables import read_csv
from nnunet_xlstm.io.validate import ANY_TEXT, ListOf, TableOf, Value, check

MAX_LISTED = 5
TEST_SUBJECTS = "test_subjects"  # key and name of the file
SUBJECTS = ListOf(ANY_TEXT)


def case_subjects(cases: Sequence[str], dataset: Path, file: Path | None, pattern: str | None) -> dict[str, str]:
    """Return case -> subject.

    By a file (`read_case_table`), else by a pattern in the case's name, else by the data set's pool_cases.json; else
    every case is a subject.

    Args:
        cases: names.
        dataset: folder of the raw data set.
        file: JSON or CSV.
        pattern: regular expression for the name of a case.

    Raises:
        ValueError: the file lacks a case, or the pattern finds no subject.
    """
    if file is not None:
        return dict(zip(cases, read_case_table(file, "subject", cases), strict=True))
    if pattern is not None:
        compiled = subject_pattern(pattern)
        return {case: subject_of(compiled, case) for case in cases}
    pool = dataset / POOL_CASES
    known = read_pool_cases(pool).column("subject") if pool.is_file() else {}
    return {case: known.get(case, case) for case in cases}


def read_test_subjects(path: Path) -> set[str]:
    """From a JSON list, or an object with the key test_subjects.

    Raises:
        ValueError: there is no such file, or it holds something else.
    """
    if not path.is_file():
        raise DatasetError(f"test subjects: there is no {path}; give --test-subjects FILE")
    content = read_json(path)
    named: Any = content.get(TEST_SUBJECTS) if isinstance(content, dict) else content
    check(named, SUBJECTS, str(path), path=TEST_SUBJECTS)
    return set(named)


def listed(names: Sequence[str]) -> str:
    """Return the first names, quoted, and how many more there are."""
    shown = ", ".join(f"'{name}'" for name in names[:MAX_LISTED])
    return shown + (f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else "")


def read_case_table(path: Path, column: str, cases: Sequence[str]) -> list[str]:
    """Read what a file says about each case: JSON {case: text}, or CSV with the columns `case` and `column`.

    Raises:
        ValueError: another format, or a case that the file lacks or has twice.
    """
    path = Path(path)
    rule = f'give JSON {{"case": "{column}"}} or CSV with the columns case,{column}'
    try:
        table = read_json(path) if path.suffix.lower() == ".json" else _csv_table(path, column)
    except DatasetError as error:
        raise DatasetError(f"{error}; {rule}.") from error
    check(table, TableOf(Value("a text or a number", lambda v: isinstance(v, (str, int))), rule[5:]), str(path))
    missing = [case for case in cases if not str(table.get(case, "")).strip()]
    if missing:
        raise DatasetError(f"{path}: no {column} for {listed(missing)}; {rule}, for every case.")
    return [str(table[case]).strip() for case in cases]


def _csv_table(path: Path, column: str) -> dict[str, str]:
    header, rows = read_csv(path)
    if not {"case", column} <= set(header):
        raise DatasetError(f"{path}: its columns are {header}")
    table: dict[str, str] = {}
    for line, row in rows:
        if not row["case"].strip():  # spreadsheets save empty rows at the end
            continue
        if row["case"] in table:
            raise DatasetError(f"{path}, line {line}: it has '{row['case']}' twice")
        table[row["case"]] = row[column].strip()
    return table
