"""CSV tables: a spreadsheet runs nothing, and what is read is what was written."""

import csv
import math
import random
import re
from pathlib import Path

import numpy as np
import pytest

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.io.tables import csv_text, read_csv, text_table, write_csv

NASTY = [
    "=1+1",
    "+1",
    "-cmd",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "'=1",
    "''+1",
    "＝1",
    " =1",
    '=HYPERLINK("http://x")',
]


@pytest.mark.parametrize("text", NASTY)
def test_a_spreadsheet_takes_every_text_as_text(text):
    cell = list(csv.reader(csv_text(["=name"], [[text]]).splitlines(keepends=True)))[1][0]
    assert cell[0] not in "=+-@\t\r\n＝＋－＠"
    assert csv_text(["=name"], []) == "'=name\r\n"  # names of classes stand in the header


def test_numbers_stay_numbers():
    row = [-1, -0.5, np.float32(-2), np.float64(0.1), np.int64(-3), True, np.True_, None, math.nan, math.inf, "-"]
    assert csv_text(["a"], [row]) == "a\r\n-1,-0.5,-2.0,0.1,-3,True,True,,,,'-\r\n"


def test_text_is_read_as_it_was_written(tmp_path):
    rng = random.Random(0)
    texts = ["".join(rng.choices("=+-@'\",;a\t\r\n \u2028＝\x0b", k=rng.randrange(6))) for _ in range(2000)]
    write_csv(tmp_path / "a.csv", ["case", "'=x"], [[text, "y"] for text in texts])
    header, rows = read_csv(tmp_path / "a.csv")
    assert header == ["case", "'=x"]
    assert [row["case"] for _, row in rows] == texts


def test_tables_of_others_are_read(tmp_path):
    """With byte-order mark, line ends of Windows, short and empty rows, and formulas nobody escaped."""
    (tmp_path / "a.csv").write_bytes('\ufeffcase,subject\r\n=a,"x\ny"\r\n\r\nb\r\n'.encode())
    header, rows = read_csv(tmp_path / "a.csv")
    assert header == ["case", "subject"]
    assert rows == [(3, {"case": "=a", "subject": "x\ny"}), (5, {"case": "b", "subject": ""})]
    for content in (b"a,b\n\xff,1", b'a,b\n"' + b"x" * 200_000 + b'",1'):
        (tmp_path / "b.csv").write_bytes(content)
        with pytest.raises(DatasetError, match="b.csv: "):
            read_csv(tmp_path / "b.csv")


def test_nobody_else_writes_csv():
    package = Path(__file__).parents[2] / "nnunet_xlstm"
    found = {path.name for path in package.rglob("*.py") if re.search("csv.(w|DictW)riter", path.read_text())}
    assert found == {"tables.py"}


def test_names_left_numbers_right():
    assert text_table([["class", "Dice"], ["left ventricle", "0.9"], ["", "-"]]) == [
        "class           Dice",
        "left ventricle   0.9",
        "                   -",
    ]


def test_one_column():
    assert text_table([["a"], ["bcd "]]) == ["a", "bcd"]
