"""Makes or extends a raw data set by reference; `unlabelled`, `pool build` and `convert` all end here."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from nnunet_xlstm.datasets.ingest import ONE_SLICE, Entry, process
from nnunet_xlstm.datasets.items import Job
from nnunet_xlstm.datasets.raw_dataset import RawDataset
from nnunet_xlstm.datasets.subjects import CaseNames
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.imaging.dicom.series import Reasons
from nnunet_xlstm.parallel import for_each

SAVE_SECONDS = 20.0  # what a kill may cost
JobT = TypeVar("JobT", bound=Job)
Make = Callable[[JobT, str, Path], tuple[dict[str, Entry], Reasons]]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """What a run did.

    Attributes:
        cases: in the data set.
        single_slices: of these cases.
        new: cases of this run.
        subjects: in the data set.
        excluded: inputs that were left out.
        folds: by subject.
        sources: source -> subjects, cases.
        changed: the data set is not as before.
    """

    cases: int
    single_slices: int
    new: int
    subjects: int
    excluded: int
    folds: int
    sources: Mapping[str, tuple[int, int]]
    changed: bool


def build(
    dataset: RawDataset,
    header: Mapping[str, Any],
    items: Sequence[JobT],
    left_out: Sequence[tuple[str, str]] = (),
    *,
    sampling: str = "sqrt",
    keep_others: bool = True,
    processes: int = 1,
    make: Make[JobT] = process,  # type: ignore[assignment]  # of Item, the default of what items are
) -> Summary:
    """Add what is new or has changed, leave everything else as it is, and write the files of the data set.

    What has changed or is no longer wanted leaves dataset.json before its files are touched: a kill in between leaves
    fewer cases, none with labels of another meaning.

    Args:
        dataset: to make or to extend.
        header: what dataset.json says beside the cases: channel_names and so on.
        items: what becomes cases.
        left_out: (path, reason) of what never became an item.
        sampling: for pool_cases.json: how often cases are drawn.
        keep_others: cases of earlier runs that are not among the items stay; else they go.
        processes: items at a time.
        make: from an item, its case name and the folder to cases, as `ingest.process`; sent to other processes.

    Raises:
        DatasetError: no case at all: everything is in excluded.csv.
    """
    entries, inputs = dataset.read()
    dataset.remove_leftovers()
    before = dict(entries)
    dataset.mark_owned()
    items = list({item.key: item for item in items}.values())
    gone = [] if keep_others else _forget(entries, inputs, set(inputs) - {item.key for item in items})
    fingerprints = {item.key: item.fingerprint() for item in items}
    known: list[JobT] = []
    fresh: list[JobT] = []
    for item in items:
        (known if _is_known(dataset, entries, inputs.get(item.key), fingerprints[item.key]) else fresh).append(item)
    for item in known:
        for case in inputs[item.key]["cases"]:
            record = replace(entries[case].record, source=item.source, subject=item.subject, modality=item.modality)
            entries[case] = replace(entries[case], record=record)
    names = CaseNames()
    for memory in inputs.values():
        for case in (memory["name"], *memory["cases"]):
            names.take(case)
    bases = [inputs[i.key]["name"] if i.key in inputs else names.give(i.name, i.key) for i in fresh]
    gone += _forget(entries, inputs, {item.key for item in fresh} & inputs.keys())
    if gone:
        dataset.save(header, entries, sampling, inputs)
        for entry in gone:
            dataset.remove(entry)
    saved = time.monotonic()
    jobs = list(zip(fresh, bases, strict=True))
    make_one = partial(_make_one, make, dataset.folder)
    for (item, base), (made, reasons) in for_each(make_one, jobs, processes, desc="images", unit="image"):
        entries.update(made)
        excluded = [list(pair) for pair in reasons]
        inputs[item.key] = {
            "fingerprint": fingerprints[item.key],
            "name": base,
            "cases": sorted(made),
            "excluded": excluded,
        }
        if single := sum(ONE_SLICE in entry.remarks for entry in made.values()):
            inputs[item.key]["single_slices"] = single
        if time.monotonic() - saved > SAVE_SECONDS:
            dataset.save(header, entries, sampling, inputs)
            saved = time.monotonic()
    _log_remarks(entries.values())
    reasons = [*left_out, *((path, reason) for memory in inputs.values() for path, reason in memory["excluded"])]
    if not entries:
        table = dataset.write_excluded(reasons)
        raise DatasetError(
            f"none of {len(reasons)} inputs can be used; the reasons are in {table}, the first: {reasons[0][1]}"
        )
    entries = {case: entries[case] for case in sorted(entries)}
    dataset.save(header, entries, sampling, inputs)
    folds = dataset.finish(entries, reasons)
    _warn_of_missing(dataset, entries)
    new = sum(len(inputs[item.key]["cases"]) for item in fresh)
    records = [entry.record for entry in entries.values()]
    sources = {
        source: (len({r.subject for r in records if r.source == source}), sum(r.source == source for r in records))
        for source in sorted({record.source for record in records})
    }
    subjects = len({record.subject for record in records})
    single = sum(memory.get("single_slices", 0) for memory in inputs.values())
    return Summary(len(entries), single, new, subjects, len(reasons), len(folds), sources, entries != before)


def summary_lines(dataset: RawDataset, summary: Summary, number: int) -> list[str]:
    """Say what a build did, and what comes next."""
    lines = []
    if len(summary.sources) > 1:
        lines += [f"{name}: {subjects} subjects, {cases} cases" for name, (subjects, cases) in summary.sources.items()]
    lines.append(f"{dataset.folder}: {summary.subjects} subjects, {summary.cases} cases, {summary.new} of them new")
    if 0 < summary.single_slices < summary.cases:
        lines.append(
            f"{summary.single_slices} of the cases are single slices, {summary.cases - summary.single_slices} are not: "
            "all are 3D files, so nnU-Net plans both"
        )
    if summary.excluded:
        lines.append(f"left out: {summary.excluded}, see {dataset.folder / 'excluded.csv'}")
    if not summary.folds:
        lines.append("fewer than five subjects: there are no folds by subject; train with fold `all`")
    planned = any(dataset.preprocessed.glob("*Plans*.json"))
    if planned and summary.changed:
        lines.append("The data set has changed since it was planned: plan and preprocess again, with --clean")
    elif not planned:
        configuration = "2d" if 2 * summary.single_slices > summary.cases else "3d_fullres"
        lines.append(f"next: nnUNetv2_plan_and_preprocess -d {number} -pl nnUNetPlannerXLSTMUNet -c {configuration}")
    return lines


def _is_known(dataset: RawDataset, entries: Mapping[str, Entry], memory: Mapping | None, fingerprint: str) -> bool:
    """Whether it was taken in by an earlier run, has not changed, and all its files are there and whole."""
    return (
        memory is not None
        and memory["fingerprint"] == fingerprint
        and all(case in entries and dataset.has_whole_files(entries[case]) for case in memory["cases"])
    )


def _forget(entries: dict[str, Entry], inputs: dict[str, Any], keys: set[str]) -> list[Entry]:
    """Take inputs and their cases out; returns the cases, whose files are still there."""
    cases = [case for key in keys for case in inputs.pop(key)["cases"]]
    return [entries.pop(case) for case in cases if case in entries]


def _make_one(make: Make[JobT], folder: Path, job: tuple[JobT, str]) -> tuple[dict[str, Entry], Reasons]:
    return make(*job, folder)


def _log_remarks(entries: Collection[Entry]) -> None:
    """Log what must be known of the images that this run has taken in."""
    for remark in sorted({remark for entry in entries for remark in entry.remarks}):
        images = [entry.record.images[0] for entry in entries if remark in entry.remarks]
        log.warning(remark, len(images), images[0])


def _warn_of_missing(dataset: RawDataset, entries: Mapping[str, Entry]) -> None:
    gone = [case for case, entry in entries.items() if not dataset.has_files(entry)]
    if gone:
        log.warning(
            "%d cases of earlier runs have lost a file (%s, ...): nnU-Net will refuse them; bring the files back, or "
            "remove %s and build it anew",
            len(gone), entries[gone[0]].images[0], dataset.folder,
        )  # fmt: skip
