"""Scores of the cases that are done, kept on disk while a folder is scored, so that a run that was cut off goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nnunet_xlstm import __version__
from nnunet_xlstm.datasets.dataset_json import Labels
from nnunet_xlstm.evaluation.cases import Pair
from nnunet_xlstm.evaluation.score import CaseScores, Settings
from nnunet_xlstm.evaluation.summary import METRICS
from nnunet_xlstm.imaging.images import spacing_files
from nnunet_xlstm.io.write import WriteError, write_text

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
        self.path = Path(path)
        self._classes = classes
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
            case, key, metrics, flags = (row[name] for name in ("case", "key", "metrics", "flags"))
            is_ours = key is not None and key == self._keys.get(case)
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        return (case, (metrics, flags)) if is_ours and self._are_scores(metrics, flags) else None

    def _are_scores(self, metrics: Any, flags: Any) -> bool:
        for table, kind in ((metrics, (int, float)), (flags, str)):
            if not isinstance(table, Mapping) or list(table) != list(self._classes.scored):
                return False
            for row in table.values():
                if not isinstance(row, Mapping) or not all(isinstance(value, kind) for value in row.values()):
                    return False
        return all(list(row) == list(METRICS) for row in metrics.values())


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
