"""A folder of predictions of a pool's network, restricted to one data set's ids or to what the scans can contain."""

from __future__ import annotations

import gzip
import logging
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from tqdm import tqdm

from nnunet_xlstm.data.dataset_file import NAME as DATASET_JSON
from nnunet_xlstm.data.dataset_file import DatasetFile
from nnunet_xlstm.data.pool_targets import PoolTargets
from nnunet_xlstm.data.restrict import THRESHOLD, LeftOut, Scan, including, layers_of, left_out, same_targets
from nnunet_xlstm.data.restrict_cases import Count, add_up, read_evidence, restrict_case
from nnunet_xlstm.errors import ConfigError, DatasetError
from nnunet_xlstm.imaging.images import TIFF, check_written, write_checked
from nnunet_xlstm.imaging.nifti import copy_geometry
from nnunet_xlstm.io.files import (
    json_text,
    protect_inputs,
    read_text,
    remove_leftovers,
    replacing,
    write_text,
    write_together,
)
from nnunet_xlstm.io.paths import inside
from nnunet_xlstm.io.tables import csv_text

REPORT, TABLE, LEGEND, MASKS = "restrict.json", "restrict.csv", "legend.json", "masks"
FORMAT = 1
NIFTI = (".nii.gz", ".nii")
GZIP_LEVEL = 6
COLUMNS = ("case", "target", "from", "why_left_out", "false_positive")
COUNTED = tuple(f"{key}_{when}" for key in ("voxels", "components", "ml") for when in ("before", "after"))
NOT_FROM_MAPS = (
    "A merged map has one code per voxel, so these were decided when nnU-Net painted it: which of two targets that "
    "exclude each other is likelier, and what a target that is left out here was painted over. A target of parts "
    "(kidney: left and right) that was painted without any part is left out. Predict with --save_probabilities to "
    "have all of it."
)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What is wanted.

    Attributes:
        source: of the pool, whose ids are written; in universal mode only its modality and field of view count.
        modality, regions: of the scans; None takes those of the source, or leaves them open.
        universal: all targets, each a mask of its own; so it is also where there is no source.
    """

    source: str | None = None
    modality: str | None = None
    regions: tuple[str, ...] | None = None
    universal: bool = False

    @property
    def native(self) -> str | None:
        """The source whose ids are written."""
        return None if self.universal else self.source


def restrict_folder(predictions: Path, out: Path, request: Request, progress: bool = False) -> dict[str, Any]:
    """Write a label map per case, with all targets also masks/TARGET/CASE; then legend.json and the report together.

    The report, restrict.json and restrict.csv, is that of the last run that ended: an older one stays until then.

    Returns:
        The content of restrict.json.

    Raises:
        DatasetError: no predictions of a pool with labels, an unknown source; or cases that cannot be used: all of
            them are named, the maps of the others are written, and the report is not.
        ConfigError: a file to write is one that is read. OSError: a file cannot be read or written.
    """
    file = predictions / DATASET_JSON
    if not file.is_file():
        raise DatasetError(
            f"{predictions}: has no dataset.json; give a folder that `nnUNetv2_predict` wrote, or copy the one of the "
            "model's folder into it"
        )
    dataset = DatasetFile.read(file)
    pool = PoolTargets.from_dataset_json(dataset.content, str(file))
    ending = dataset.file_ending()
    skipped = left_out(pool, Scan(request.modality, request.regions), request.source, request.universal)
    kept = [name for name in pool.names if name not in skipped]
    cases = _cases(predictions, ending)
    if out.resolve() == predictions.resolve():
        raise ConfigError(f"-o {out}: is the folder of the predictions, which stay as they are; give another")
    folders = [out] if request.native else [out, *(out / MASKS / name for name in pool.names)]
    for folder in folders:
        inside(out, f"{folder.relative_to(out)}/file", f"-o {out}")
    outputs = [folder / f"{case}{ending}" for folder in folders for case in cases]
    outputs += [out / name for name in (LEGEND, TABLE, REPORT)]
    inputs = [file, *(predictions / f"{case}{ending}" for case in cases), *filter(None, cases.values())]
    protect_inputs(outputs, inputs)
    for folder in folders:
        remove_leftovers(folder)
    counts: dict[str, dict[str, tuple[Count, Count]]] = {}
    faults = []
    for case, probabilities in tqdm(cases.items(), disable=not progress, desc="restrict"):
        try:
            counts[case] = _one_case(predictions, out, f"{case}{ending}", probabilities, pool, kept, request)
        except DatasetError as error:
            faults.append(str(error))
    if faults:
        raise DatasetError(_not_usable(faults, len(cases), out))
    report = _report(pool, request, skipped, kept, cases, counts)
    texts = {
        out / LEGEND: json_text(legend(pool, request.native, kept, skipped, ending)),
        out / TABLE: csv_text([*COLUMNS, *COUNTED], _table_rows(report)),
        out / REPORT: json_text(report),
    }
    write_together(texts)
    _warn_of_earlier_runs(out, set(outputs), ending)
    return report


def _warn_of_earlier_runs(out: Path, written: Collection[Path], ending: str) -> None:
    found = [path for place in (out.glob, (out / MASKS).rglob) for path in place(f"*{ending}")]
    if others := sorted(path for path in found if path not in written and not path.name.startswith(".")):
        log.warning(
            "%d label maps in %s are of an earlier run, and not in this report (%s, ...): remove them, or give every "
            "run a folder of its own with -o", len(others), out, others[0].relative_to(out),
        )  # fmt: skip


def _not_usable(faults: Sequence[str], cases: int, out: Path) -> str:
    if len(faults) == cases == 1:
        return faults[0]
    head = f"{len(faults)} of {cases} cases cannot be used; the maps of the others are in {out}, without a new report"
    return "\n- ".join([head, *faults])


def legend(
    pool: PoolTargets, native: str | None, kept: Collection[str], skipped: Mapping[str, LeftOut], ending: str
) -> dict[str, Any]:
    """What the ids of the label maps mean; also a dataset.json for `nnunet_xlstm evaluate -djfile`."""
    if native is not None:
        source = pool.source(native)
        targets = [{"name": name, "ids": list(source.targets[name])} for name in pool.names if name in source.targets]
        return {"labels": {"background": 0, **source.labels}, "file_ending": ending, "targets": targets}
    inside = including(pool)
    return {
        "labels": {"background": 0} | {name: i for i, name in enumerate(pool.names, start=1)},
        "file_ending": ending,
        "targets": [
            {
                "name": target.name,
                "id": i,
                "group": target.group,
                "mask": f"{MASKS}/{target.name}",
                "includes": [name for name in pool.names if target.name in inside[name]],
                "left_out": None if target.name in kept else skipped[target.name].why,
            }
            for i, target in enumerate(pool.targets, start=1)
        ],
    }


# Cases ----------------------------------------------------------------------------------------------------------------


def _cases(folder: Path, ending: str) -> dict[str, Path | None]:
    """Case -> the file of its probabilities, None without."""
    maps = sorted(path.name[: -len(ending)] for path in folder.glob(f"*{ending}") if not path.name.startswith("."))
    npz = {path.name[: -len(".npz")] for path in folder.glob("*.npz") if not path.name.startswith(".")}
    if alone := sorted(npz - set(maps)):
        raise DatasetError(
            f"{folder}: {alone[0]}.npz has no label map {alone[0]}{ending}, which brings the geometry; predict the "
            "case again, or delete the file"
        )
    if not maps:
        raise DatasetError(f"{folder}: holds no predictions (*{ending}); give the -o folder of `nnUNetv2_predict`")
    if without := [case for case in maps if case not in npz]:
        log.warning("%d of %d cases have no .npz (%s, ...). %s", len(without), len(maps), without[0], NOT_FROM_MAPS)
    return {case: folder / f"{case}.npz" if case in npz else None for case in maps}


def _one_case(
    predictions: Path,
    out: Path,
    name: str,
    probabilities: Path | None,
    pool: PoolTargets,
    kept: Sequence[str],
    request: Request,
) -> dict[str, tuple[Count, Count]]:
    """Target -> counts before and after."""
    path = predictions / name
    evidence = read_evidence(path, probabilities, pool, kept)
    result = restrict_case(pool, kept, evidence, pool.source(request.native) if request.native else None)
    for target, mask in result.masks.items():
        _write(out / MASKS / target / name, mask.astype(np.uint8), evidence.image, path)
    _write(out / name, result.label, evidence.image, path)
    return {target: (evidence.before[target], result.after[target]) for target in pool.names}


def _write(path: Path, array: np.ndarray, like: sitk.Image, source: Path) -> None:
    """Write a label map with the geometry of `source`, whole or not at all.

    Raises:
        WriteError: it cannot be written.
    """
    image = sitk.GetImageFromArray(array)
    image.CopyInformation(like)
    ending = next((e for e in NIFTI if path.name.endswith(e)), path.suffix)
    with replacing(path, ending) as temporary:
        if ending not in NIFTI:
            write_checked(image, temporary, path)
        else:
            _write_nifti(image, temporary, path, source)
    beside = source.with_name(f"{source.stem}.json")
    if source.suffix.lower() in TIFF and beside.is_file():  # nnU-Net keeps the spacing there
        write_text(path.with_name(beside.name), read_text(beside))


def _write_nifti(image: sitk.Image, temporary: Path, path: Path, source: Path) -> None:
    """By way of an unzipped file, whose header then gets the geometry bit for bit. Equal maps make equal files."""
    plain = temporary.with_name(temporary.name.removesuffix(".gz"))
    try:
        write_checked(image, plain, path, compress=False)
        copy_geometry(source, plain)
        if plain != temporary:
            with (
                open(plain, "rb") as data,
                open(temporary, "wb") as file,
                gzip.GzipFile("", "wb", GZIP_LEVEL, file, mtime=0) as packed,
            ):
                shutil.copyfileobj(data, packed, 1 << 20)
            check_written(temporary, path)
    finally:
        if plain != temporary:
            plain.unlink(missing_ok=True)


# The report -----------------------------------------------------------------------------------------------------------


def _report(
    pool: PoolTargets,
    request: Request,
    skipped: Mapping[str, LeftOut],
    kept: Sequence[str],
    cases: Mapping[str, Path | None],
    counts: Mapping[str, Mapping[str, tuple[Count, Count]]],
) -> dict[str, Any]:
    false = [name for name, row in skipped.items() if row.impossible]
    native = pool.source(request.native) if request.native else None
    known = pool.source(request.source) if request.source else None

    def summed(names: Sequence[str], when: int) -> dict[str, Any]:
        return add_up([row[name][when] for row in counts.values() for name in names])

    return {
        "format": FORMAT,
        "mode": "universal" if native is None else "source",
        "source": request.source,
        "modality": request.modality or (known.modality if known else None),
        "regions": list(request.regions or (known.field_of_view if known else ())) or None,
        "threshold": THRESHOLD,
        "components": "voxels that touch by face, edge or corner",
        "false_positives": {
            "what": "predictions of targets that the modality or the field of view of the scans cannot contain",
            "targets": false,
            "before": summed(false, 0),
            "after": summed(false, 1),
        },
        "from_merged_maps": {
            "cases": [case for case, path in cases.items() if path is None],
            "not_possible": NOT_FROM_MAPS if None in cases.values() else None,
        },
        "ids_of_same_targets": same_targets(native) if native else [],
        "never_painted": _never_painted(pool, request, kept),
        "targets": {
            name: {
                "why_left_out": skipped[name].why if name in skipped else None,
                "false_positive": name in false,
                "before": summed([name], 0),
                "after": summed([name], 1),
            }
            for name in pool.names
        },
        "cases": {
            case: {
                "from": "merged map" if cases[case] is None else "probabilities",
                "targets": {
                    name: {"before": asdict(before), "after": asdict(after)} for name, (before, after) in row.items()
                },
            }
            for case, row in counts.items()
        },
    }


def _never_painted(pool: PoolTargets, request: Request, kept: Sequence[str]) -> dict[str, int]:
    """Labels of the source that no target makes, or only one that is left out."""
    if request.native is None:
        return {}
    source = pool.source(request.native)
    painted = {int(i) for layer in layers_of(pool, source, kept) for i in layer.ids}
    return {label: i for label, i in source.labels.items() if i not in painted}


def _table_rows(report: Mapping[str, Any]) -> Iterator[list[Any]]:
    for case, row in report["cases"].items():
        for name, counts in row["targets"].items():
            target = report["targets"][name]
            about = [case, name, row["from"], target["why_left_out"] or "", target["false_positive"]]
            values = [counts[when][key] for key in ("voxels", "components", "ml") for when in ("before", "after")]
            yield [*about, *(None if v is None else round(v, 6) for v in values)]
