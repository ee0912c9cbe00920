"""Scores of the cases that are done, kept on disk while a folder is scored, so that a run that was cut off goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from nnunet_xlstm import __version__
from nnunet_xlstm.datasets.dataset_json import Labels
from nnunet_xlstm.evaluation.cases import Pair
from nnunet_xlstm.evaluation.score import CaseScores, Settings
from nnunet_xlstm.evaluation.summary import METRICS
from nnunet_xlstm.imaging.images import spacing_files
from nnunet_xlstm.io.validate import ANY_TEXT, Constraint, Key, Record, TableOf, Value, breaks
from nnunet_xlstm.io.write import WriteError, write_text

ANY_NUMBER = Value("a number", lambda value: isinstance(value, (int, float)))  # also NaN and infinity
DETACHED = (".hdr", ".img", ".mhd", ".nhdr")  # the voxels may lie in a file of any name


class Journal:
    """One line of JSON for each case: its name, its scores, and a key of all that they follow from.

    The key is a hash of the settings, the classes, the version, and the paths, sizes and times of the files. A line
    with another key, and the last one where a run was killed while writing it, is dropped when the journal is opened.

    Args:
        path: there from now on until `remove`; a link is replaced.

    Raises:
        WriteError: the file cannot be written.
    """

    def __init__(self, path: Path, pairs: Sequence[Pair], classes: Labels, settings: Settings):
        self.path = path
        metrics = Record({name: Key(ANY_NUMBER) for name in METRICS})
        tables: dict[str, Constraint] = {"metrics": metrics, "flags": TableOf(ANY_TEXT, "an object metric -> why")}
        columns = {name: Key(Record(dict.fromkeys(classes.scored, Key(table)))) for name, table in tables.items()}
        self._schema = Record({"case": Key(ANY_TEXT), "key": Key(ANY_TEXT)} | columns)
        self._keys = {pair.case: _key(pair, classes, settings) for pair in pairs}
        self._scores: dict[str, CaseScores] = {}
        lines = [json.dumps({"what": "cases that are scored; `nnunet_xlstm evaluate` goes on from here"})]
        for line in _lines(self.path):
            if (row := self._row(line)) is not None:
                self._scores[row[0]] = row[1]
                lines.append(line)
        write_text(self.path, "".join(f"{line}\n" for line in lines))

    def scores(self, pair: Pair) -> CaseScores | None:
        """Return what an earlier run found for a case whose files are as they were; else None."""
        return self._scores.get(pair.case)

    def add(self, pair: Pair, scores: CaseScores) -> None:
        """Keep the scores of a case.

        Raises:
            WriteError: they cannot be written.
        """
        key = self._keys[pair.case]
        if key is None:
            return
        line = json.dumps({"case": pair.case, "key": key, "metrics": scores[0], "flags": scores[1]})
        try:
            with open(self.path, "a", encoding="utf-8") as file:  # closed, it stays there also after kill -9
                file.write(f"{line}\n")
        except OSError as error:
            raise WriteError(self.path, error) from error

    def remove(self) -> None:
        """Delete the file, after the results were written."""
        self.path.unlink(missing_ok=True)

    def _row(self, line: str) -> tuple[str, CaseScores] | None:
        """Return case and scores of a line, if they are of this run."""
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            return None
        if breaks(self._schema, row) or row["key"] != self._keys.get(row["case"]):
            return None
        return row["case"], (row["metrics"], row["flags"])


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _key(pair: Pair, classes: Labels, settings: Settings) -> str | None:
    """Hash all that the scores of a case follow from; None where that is not known."""
    files = [pair.reference, pair.prediction]
    if any(path.name.lower().endswith(DETACHED) for path in files):
        return None
    files += [beside for path in files for beside in spacing_files(path) if beside.is_file()]
    try:
        facts = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    except OSError:  # the error is told when the case is scored
        return None
    known = (sorted(classes.known), classes.ignore, dict(classes.scored), dict(classes.names))
    text = json.dumps([__version__, asdict(settings), known, facts])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
