"""Score a folder and write summary.json, a CSV and a page, so that nothing that was computed or written is lost."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_xlstm.datasets.dataset_json import Labels
from nnunet_xlstm.errors import ConfigError, DatasetError, failed_text
from nnunet_xlstm.evaluation.cases import Pair
from nnunet_xlstm.evaluation.folder import csv_rows, score_pairs, summarize
from nnunet_xlstm.evaluation.journal import Journal
from nnunet_xlstm.evaluation.page import build_page
from nnunet_xlstm.evaluation.score import Settings
from nnunet_xlstm.evaluation.summary import EXTRAS, JOURNAL
from nnunet_xlstm.imaging.images import files_read
from nnunet_xlstm.io.protect import protect_inputs, protect_other_json
from nnunet_xlstm.io.read import read_json
from nnunet_xlstm.io.tables import csv_text, text_table
from nnunet_xlstm.io.write import json_text, try_writing, write_together

BYTES_PER_ROW = 2000  # of a case and class, in all files together
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outputs:
    """The files of an evaluation.

    Attributes:
        summary: the .json file; table and page have its name.
    """

    summary: Path

    @property
    def are_complete(self) -> bool:
        """Return whether all cases are scored and written."""
        return self.summary.is_file() and not self.journal.exists()

    @classmethod
    def at(cls, path: Path) -> Outputs:
        """Return the files of an evaluation whose summary is at a path.

        Raises:
            ConfigError: the path does not end with .json.
        """
        if path.suffix != ".json":
            raise ConfigError(f"-o {path}: give the name of a .json file; the CSV and the page get its name")
        return cls(path)

    @property
    def table(self) -> Path:
        """Return the CSV with a row per case and class."""
        return self.summary.with_suffix(".csv")

    @property
    def page(self) -> Path:
        """Return the HTML page."""
        return self.summary.with_suffix(".html")

    @property
    def stock(self) -> Path:
        """Return where nnU-Net's own summary.json is kept."""
        return self.summary.with_name("summary_nnunet.json")

    @property
    def journal(self) -> Path:
        """Return the journal of the cases that are done; it is there as long as the others are not."""
        return self.summary.with_name(f"{self.summary.name}{JOURNAL}")

    def __iter__(self) -> Iterator[Path]:
        yield from (self.summary, self.table, self.page, self.journal)
        if self.summary.name == "summary.json":
            yield self.stock


def evaluate(
    pairs: Sequence[Pair],
    classes: Labels,
    settings: Settings,
    out: Path,
    title: str,
    *,
    inputs: Iterable[Path] = (),
    processes: int = 1,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Score all cases and write the results of those that can be scored.

    The files are tried before the work. Each case is kept in a journal as it is done; a run that is cut off, or in
    which cases failed, goes on where it stopped and ends as one that was not. nnU-Net's own summary.json is kept.

    Args:
        pairs: the cases.
        classes: of the data set.
        settings: of the metrics.
        out: a .json file.
        title: of the page.
        inputs: further files that must not be replaced.
        processes: cases at a time.

    Returns:
        The content of summary.json, and case -> why it could not be scored.

    Raises:
        ConfigError: a file to write is one that is read.
        DatasetError: no case could be scored.
        WriteError: a file cannot be written.
        UserError: a process was ended from outside.
    """
    files = Outputs.at(out)
    read = [path for pair in pairs for path in (pair.reference, pair.prediction)]
    protect_inputs(files, [*inputs, *files_read(read)])
    protect_other_json(files.summary, "metric_per_case")
    try_writing(files, BYTES_PER_ROW * len(pairs) * len(classes.scored))
    journal = Journal(files.journal, pairs, classes, settings)
    scores, failed = score_pairs(pairs, classes, settings, processes, journal)
    if not scores:
        raise DatasetError(failed_text(failed, len(pairs), "scored"))
    scored = [pair for pair in pairs if pair.case in scores]
    summary = summarize(scored, list(scores.values()), classes, settings, failed)
    kept = _stock_summary(files.summary)
    write_together(
        ({} if kept is None else {files.stock: kept})
        | {
            files.table: csv_text(*csv_rows(scored, summary)),
            files.page: build_page(summary, title).html(),
            files.summary: json_text(summary),
        }
    )
    if kept is not None:
        logger.info("the summary.json that was there is now %s", files.stock)
    if not failed:
        journal.remove()
    return summary, failed


def text_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return the means per class as lines of text, and how many structures were missed or false."""
    shown = ("Dice", "HD95", "ASSD", "NSD", "AVD", "RVE")
    extras = summary[EXTRAS]
    rows = [(extras["classes"][key], row) for key, row in summary["mean"].items()]
    rows.append(("mean", summary["foreground_mean"]))
    cells = [[name, *("-" if row[m] is None else f"{row[m]:.3f}" for m in shown)] for name, row in rows]
    lines = text_table([["class", *shown], *cells])
    missed, false = (sum(row[n] for row in extras["counts"].values()) for n in ("n_missed", "n_false"))
    if missed or false:
        distances = extras["definition"]["one_empty"]
        lines += ["", f"missed structures: {missed}, false ones: {false}; their distances: {distances} (see flags)"]
    return lines


def _stock_summary(path: Path) -> bytes | None:
    """Return what nnU-Net wrote there, for its other commands; None where there is nothing, or a file of ours."""
    if path.name != "summary.json" or not path.is_file() or not path.stat().st_size or EXTRAS in read_json(path, dict):
        return None
    return path.read_bytes()
