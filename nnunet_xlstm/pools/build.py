"""The sources of a pool as items, without the subjects that must stay out; and the pool built from them."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nnunet_xlstm.datasets.build import Summary, build
from nnunet_xlstm.datasets.case_index import NAME, CaseRecord, read_pool_cases
from nnunet_xlstm.datasets.cases import find_cases
from nnunet_xlstm.datasets.dataset_json import DatasetFile
from nnunet_xlstm.datasets.items import Item
from nnunet_xlstm.datasets.raw_dataset import BODY, RawDataset, channel_names, nnunet_folder, open_dataset
from nnunet_xlstm.datasets.scans import Scan, find_scans
from nnunet_xlstm.datasets.subjects import subject_of
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.imaging.dicom.series import Reasons
from nnunet_xlstm.imaging.integrity import has_full_length
from nnunet_xlstm.pools.manifest import PoolManifest, plan_manifest
from nnunet_xlstm.pools.manifest_json import header_of
from nnunet_xlstm.pools.relabel import Relabel
from nnunet_xlstm.pools.spec import Pool, Source, read_pool

CREATED_BY = "nnunet_xlstm pool build"
DEFAULT_NAME = "Pool"
log = logging.getLogger(__name__)


def build_pool(path: Path, number: int, name: str | None = None, processes: int = 1) -> tuple[RawDataset, Summary]:
    """Make the data set that POOL.json describes, or bring it up to date: what the file no longer names goes.

    Raises:
        ValueError, OSError: the file is wrong, a source is missing, or an exclusion meets nobody.
    """
    pool = read_pool(path, nnunet_folder("nnUNet_raw"))
    manifest = plan_manifest(pool) if pool.targets else None
    names = channel_names(pool.channels, all(source.modality == "CT" for source in pool.sources))
    dataset = open_dataset(number, name or pool.name, DEFAULT_NAME, CREATED_BY)
    if clash := [source.name for source in pool.sources if source.folder == dataset.folder.resolve()]:
        raise DatasetError(f"{path}: source {clash[0]} is the pool itself; give another -d")
    items, left_out = items_of_pool(pool, manifest)
    header = {"channel_names": names, "image_channels": list(pool.channels)} | (header_of(manifest) if manifest else {})
    if manifest:
        need = sum(map(os.path.getsize, _label_maps(items)))  # as large as the old ones; images stay where they are
        dataset.check_room(f"{len(items)} label maps take", need)
    return dataset, build(
        dataset, header, items, left_out, sampling=pool.sampling, keep_others=False, processes=processes
    )


def items_of_pool(pool: Pool, manifest: PoolManifest | None = None) -> tuple[list[Item], Reasons]:
    """Items of all sources. A subject that one source of a cohort excludes is excluded from all of that cohort.

    Raises:
        ValueError: see _chosen; or two sources with the same image.
    """
    found = {source.name: source_items(source, pool.channels, manifest) for source in pool.sources}
    banned: dict[str, set[str]] = {}
    for source in pool.sources:
        banned.setdefault(source.cohort, set()).update(source.exclude)
    items: list[Item] = []
    left_out: Reasons = []
    owner: dict[str, str] = {}
    for source in pool.sources:
        own, reasons = found[source.name]
        left_out += reasons
        for item in _chosen(source, own, banned[source.cohort]):
            if owner.setdefault(item.key, source.name) != source.name:
                raise DatasetError(
                    f"{item.scans[0].path} is in the sources {owner[item.key]} and {source.name}; keep one"
                )
            items.append(item)
    _warn_of_namesakes(pool, found, banned)
    return items, left_out


def _chosen(source: Source, items: Sequence[Item], banned: set[str]) -> list[Item]:
    """Return the items of included subjects, their subject now with the cohort.

    Raises:
        ValueError: none of the excluded is a subject of this source, an included one is not, or nothing is left.
    """
    subjects = {item.subject for item in items}
    example = f"its subjects are called {', '.join(sorted(subjects)[:3])}, ...; give `subjects` a pattern that fits"
    if source.exclude and not subjects & set(source.exclude):
        raise DatasetError(
            f"source {source.name}: none of the excluded subjects ({source.exclude[0]}, ...) is in it; {example}"
        )
    if unknown := sorted(set(source.exclude) - subjects):
        log.warning("source %s: excluded but not in it: %s", source.name, ", ".join(unknown[:10]))
    if unknown := sorted(set(source.include or ()) - subjects):
        raise DatasetError(f"source {source.name}: included subject {unknown[0]} is not in it; {example}")
    wanted = subjects if source.include is None else set(source.include)
    chosen = [item for item in items if item.subject in wanted - banned]
    if not chosen:
        raise DatasetError(f"source {source.name}: no image is left after `exclude` and `include`")
    return [replace(item, subject=f"{source.cohort}/{item.subject}") for item in chosen]


def _warn_of_namesakes(pool: Pool, found: dict[str, tuple[list[Item], Any]], banned: dict[str, set[str]]) -> None:
    """Who is excluded here may be in another source under the same name."""
    for source in pool.sources:
        subjects = {item.subject for item in found[source.name][0]}
        for cohort, names in banned.items():
            if cohort != source.cohort and (same := sorted(subjects & names)):
                log.warning(
                    "source %s has subjects of the names %s, which are excluded from %s: if these are the same people, "
                    'give both sources one "cohort"', source.name, ", ".join(same[:10]), cohort,
                )  # fmt: skip


def source_items(
    source: Source, channels: Sequence[str], manifest: PoolManifest | None = None
) -> tuple[list[Item], Reasons]:
    """Return the items of one source, before anybody is excluded; subjects without cohort.

    Raises:
        ValueError: a damaged dataset.json, a channel that is not there, or a case without subject.
    """
    if (source.folder / "dataset.json").is_file():
        return _items_of_dataset(source, channels, manifest)
    if source.channels and set(source.channels.values()) != {0}:
        raise DatasetError(f"source {source.name}: a folder of images has one channel, 0; got {dict(source.channels)}")
    scans, left_out = find_scans([source.folder])
    items = [
        Item((scan,), f"{source.name}_{scan.relative}", source.name, _subject(source, scan.relative), source.modality)
        for scan in scans
    ]
    return items, left_out


def _items_of_dataset(
    source: Source, channels: Sequence[str], manifest: PoolManifest | None
) -> tuple[list[Item], Reasons]:
    file = DatasetFile.read(source.folder)
    names = file.image_channels()
    side_car = source.folder / NAME
    rows = read_pool_cases(side_car).cases if side_car.is_file() else {}
    cases, left_out = find_cases(file)
    items = []
    for case, files in cases.items():
        record = rows.get(case)
        subject = _subject(source, case, record)
        # a mask of ours serves again; the labels of other data sets are no masks of the body
        ours = record is not None and file.content.get("labels") == BODY
        mask = files.label if ours and all(map(_is_usable, (*files.images, files.label))) else ""
        time = (record.frame, record.frames, record.images) if record else (None, None, ())
        tags = record.tags if record else {}
        scans = [Scan((image,), image, case, image) for image in files.images]
        relabel = Relabel.of(manifest, source.name, case, files.label) if manifest else None
        if source.channels is None:
            several = len(scans) > 1
            for scan, channel in zip(scans, names, strict=True):
                name = f"{source.name}_{case}_{channel}" if several else f"{source.name}_{case}"
                items.append(Item((scan,), name, source.name, subject, source.modality, mask, *time, relabel, tags))
        else:
            picked = tuple(scans[_channel_index(source, source.channels[c], names)] for c in channels)
            name = f"{source.name}_{case}"
            items.append(Item(picked, name, source.name, subject, source.modality, mask, *time, relabel, tags))
    if manifest:
        _check_labels(source, items, cases)
    return items, left_out


def _is_usable(path: str) -> bool:
    """Whether a file is as long as its header says, and nnU-Net expands no variable in its path."""
    return has_full_length(Path(path)) and os.path.expandvars(path) == path


def _label_maps(items: Sequence[Item]) -> list[str]:
    return [item.relabel.path for item in items if item.relabel is not None]


def _check_labels(source: Source, items: Sequence[Item], cases: Collection[str]) -> None:
    if gone := [path for path in _label_maps(items) if not os.path.isfile(path)]:
        raise DatasetError(
            f"source {source.name}: {gone[0]} is missing ({len(gone)} of {len(items)} label maps are); bring the files "
            "back, or leave these subjects out with `exclude`"
        )
    for target, named in source.not_annotated.items():
        if unknown := sorted(set(named) - set(cases)):
            raise DatasetError(f"source {source.name}: not_annotated names {unknown[0]} for {target}, which is no case")


def _channel_index(source: Source, channel: int | str, names: Sequence[str]) -> int:
    if isinstance(channel, str) and channel in names:
        return list(names).index(channel)
    if isinstance(channel, int) and 0 <= channel < len(names):
        return channel
    raise DatasetError(f"source {source.name}: there is no channel {channel!r}; it has {dict(enumerate(names))}")


def _subject(source: Source, case: str, record: CaseRecord | None = None) -> str:
    if source.pattern:
        return subject_of(source.pattern, case)
    if source.subject_of is not None:
        if case not in source.subject_of:
            raise DatasetError(f"source {source.name}: the subjects' file has no entry '{case}'; add it")
        return source.subject_of[case]
    return record.subject if record else case
