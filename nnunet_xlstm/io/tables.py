"""Tables as text, and as CSV: written so that a spreadsheet runs nothing, read as they were written.

A text that a spreadsheet would take for a formula gets an apostrophe in front (OWASP, "CSV injection"), which
`read_csv` takes away again. Numbers stay numbers.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.io.read import read_text
from nnunet_xlstm.io.write import write_text

FORMULA = re.compile("'*[=+\\-@\t\r\n＝＋－＠]")  # also the wide signs, which some spreadsheets take for the others


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table as CSV (RFC 4180); None, NaN and infinity become empty cells."""
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    for row in (header, *rows):
        writer.writerow([_cell(value) for value in row])
    return file.getvalue()


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table as `csv_text` does.

    Raises:
        WriteError: it cannot be written.
    """
    write_text(path, csv_text(header, rows))


def read_csv(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Return the header, and of each row that is not empty the line where it ends and its texts by column.

    Raises:
        DatasetError: it cannot be read as text, or is not CSV.
    """
    text = read_text(path)
    try:
        table = csv.reader(io.StringIO(text, newline=""))
        header = [_plain(cell) for cell in next(table, [])]
        rows = [
            (table.line_num, dict(zip(header, [*map(_plain, row), *[""] * len(header)], strict=False)))
            for row in table
            if row
        ]
    except csv.Error as error:
        raise DatasetError(f"{path}: cannot be read as CSV ({error}); correct the file") from error
    return header, rows


def text_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as aligned lines: the first column to the left, the others to the right."""
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = []
    for name, *cells in rows:
        numbers = (cell.rjust(width) for cell, width in zip(cells, others, strict=True))
        lines.append("  ".join([name.ljust(first), *numbers]).rstrip())
    return lines


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else None
    text = str(value)
    return f"'{text}" if FORMULA.match(text) else text


def _plain(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell
