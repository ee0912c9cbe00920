"""`study pool`: one network of a pool, restricted to each source, against networks trained on that source alone."""

from __future__ import annotations

from nnunet_xlstm.datasets.case_index import NAME as POOL_CASES
from nnunet_xlstm.datasets.case_index import PoolCases, read_pool_cases
from nnunet_xlstm.datasets.case_table import TEST_SUBJECTS, listed, read_test_subjects
from nnunet_xlstm.datasets.raw_dataset import nnunet_folder
from nnunet_xlstm.datasets.subjects import subject_of
from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.nnunet.loading.raw_images import RawImages
from nnunet_xlstm.pools.manifest_json import read_manifest
from nnunet_xlstm.pools.mapping import SourceMapping
from nnunet_xlstm.pools.spec import Source, read_pool
from nnunet_xlstm.studies.datasets import find_preprocessed, find_raw, labelled_cases
from nnunet_xlstm.studies.kind import Kind
from nnunet_xlstm.studies.request import NAME, Request
from nnunet_xlstm.studies.study import LabelledSet, Study


def pool_and_sources(kind: Kind, request: Request, stored: Study | None) -> list[LabelledSet]:
    """Return the pool, and its sources as POOL.json names them.

    A source has the subjects that the pool trains on, and test subjects: those of its test_subjects.json, else those
    that POOL.json excludes.

    Raises:
        ConfigError: the pool was built from another file, or has seen a test subject.
    """
    if stored is not None and request.pool is None:
        return stored.sets
    if request.pool is None:
        raise ConfigError("no pool was given; name its POOL.json with --pool")
    pool = find_raw(request, stored)
    targets = read_manifest(pool.file.content, str(pool.file.path))
    cases = read_pool_cases(pool.folder / POOL_CASES)
    file = read_pool(request.pool, nnunet_folder("nnUNet_raw"))
    if {source.name for source in file.sources} != set(targets.sources):
        raise ConfigError(
            f"{request.pool}: names the sources {listed([s.name for s in file.sources])}, {pool.folder.name} was built "
            f"from {listed(list(targets.sources))}; build the pool again"
        )
    whole = LabelledSet(
        name=pool.folder.name,
        raw=pool.folder.resolve(),
        preprocessed=find_preprocessed(pool.folder.name),
        subjects={case: row.subject for case, row in cases.cases.items()},
    )
    endings = {pool.file.file_ending()}
    return [whole, *(_source(s, file.channels, targets.source(s.name), cases, endings) for s in file.sources)]


def _source(
    source: Source, channels: tuple[str, ...], labels: SourceMapping, pool: PoolCases, endings: set[str]
) -> LabelledSet:
    if not NAME.fullmatch(source.name):
        raise ConfigError(f"source '{source.name}': its name becomes a folder's; use letters, digits, _, - and .")
    dataset = RawImages.find(str(source.folder))
    if dataset.file.file_ending() not in endings:
        raise ConfigError(
            f"source {source.name}: its files are *{dataset.file.file_ending()}, those of the pool "
            f"*{', *'.join(endings)}; nnUNetv2_predict needs the pool's ending, so convert the source"
        )
    trained = {row.subject for row in pool.cases.values() if row.source == source.name}
    everyone = {row.subject for row in pool.cases.values()}
    subjects = {case: _subject(source, case) for case in labelled_cases(dataset)}
    path = dataset.folder / f"{TEST_SUBJECTS}.json"
    tested = read_test_subjects(path) if path.is_file() else set(source.exclude)
    tested &= set(subjects.values())
    if not tested:
        raise ConfigError(
            f"source {source.name}: no labelled case is held out; write {path} (`nnunet_xlstm split -d "
            f"{dataset.folder.name} --test 0.2`), exclude these subjects in POOL.json, and build the pool again"
        )
    if seen := sorted(s for s in tested if f"{source.cohort}/{s}" in everyone):
        raise ConfigError(
            f"source {source.name}: the pool trains on the test subjects {listed(seen)}; exclude them in POOL.json and "
            "build the pool again"
        )
    kept = {case: s for case, s in subjects.items() if s in tested or f"{source.cohort}/{s}" in trained}
    return LabelledSet(
        name=source.name,
        raw=dataset.folder.resolve(),
        preprocessed=find_preprocessed(dataset.folder.name),
        subjects=kept,
        test_cases=sorted(case for case, subject in kept.items() if subject in tested),
        channels=_channels(source, channels, dataset),
        unscored=_unscored(source.name, labels),
    )


def _subject(source: Source, case: str) -> str:
    if source.pattern is not None:
        return subject_of(source.pattern, case)
    return case if source.subject_of is None else source.subject_of.get(case, case)


def _channels(source: Source, wanted: tuple[str, ...], dataset: RawImages) -> list[int]:
    """Return the source's channel for each channel of the pool."""
    names = list(dataset.file.channels())
    if source.channels is not None:
        picked = [source.channels[name] for name in wanted]
        return [names.index(channel) if isinstance(channel, str) else channel for channel in picked]
    if len(names) > 1:
        raise ConfigError(
            f"source {source.name} has the channels {', '.join(names)}, of which the pool takes each as a case; say "
            "which one is predicted: `channels` of this source in POOL.json"
        )
    return [0]


def _unscored(name: str, labels: SourceMapping) -> list[str]:
    """List ids that the pool cannot make or tell apart: they would count against it, whatever it has learnt."""
    made = {number for ids in labels.targets.values() for number in ids}
    lost = {number for number in labels.labels.values() if number and number not in made}
    lost |= {number for group in labels.same_targets() for number in group}
    if not made - lost:
        raise ConfigError(f"source {name}: the pool makes none of its labels {', '.join(labels.labels)}")
    return [str(number) for number in sorted(lost)]


POOL = Kind(
    name="pool",
    title="Pool against single data sets",
    takes=("pool", "iterations"),
    find_sets=pool_and_sources,
    needs=("dataset", "pool", "variants"),
    reading="Per data set: bootstrap over its test subjects. All variants take equal iterations, and the single ones "
    "see the training subjects that the pool sees of their source; the pool divides its iterations among all sources.",
    compared=True,
)
