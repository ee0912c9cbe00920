"""A folder of predictions of a pool's network, restricted to one data set's ids or to what the scans can contain."""

from __future__ import annotations

import gzip
import logging
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from nnunet_xlstm.datasets.dataset_json import NAME as DATASET_JSON
from nnunet_xlstm.datasets.dataset_json import DatasetFile
from nnunet_xlstm.errors import ConfigError, DatasetError
from nnunet_xlstm.imaging.images import TIFF
from nnunet_xlstm.imaging.nifti import copy_geometry
from nnunet_xlstm.imaging.write import check_written, write_checked
from nnunet_xlstm.io.paths import inside
from nnunet_xlstm.io.protect import protect_inputs
from nnunet_xlstm.io.read import read_text
from nnunet_xlstm.io.tables import csv_text
from nnunet_xlstm.io.write import json_text, remove_leftovers, replacing, write_text, write_together
from nnunet_xlstm.parallel import for_each
from nnunet_xlstm.pools.manifest_json import read_manifest
from nnunet_xlstm.pools.restrict.case import Count, read_prediction, restrict_case
from nnunet_xlstm.pools.restrict.painting import Request, omitted_targets
from nnunet_xlstm.pools.restrict.report import MASKS, NOT_FROM_MAPS, legend, make_report, table_of

REPORT, TABLE, LEGEND = "restrict.json", "restrict.csv", "legend.json"
NIFTI = (".nii.gz", ".nii")
GZIP_LEVEL = 6
log = logging.getLogger(__name__)


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
    pool = read_manifest(dataset.content, str(file))
    ending = dataset.file_ending()
    skipped = omitted_targets(pool, request)
    allowed = [name for name in pool.names if name not in skipped]
    cases = _cases(predictions, ending)
    if out.resolve() == predictions.resolve():
        raise ConfigError(f"-o {out}: is the folder of the predictions, which stay as they are; give another")
    native = pool.source(request.native) if request.native else None
    folders = [out] if native else [out, *(out / MASKS / name for name in pool.names)]
    for folder in folders:
        inside(out, f"{folder.relative_to(out)}/file", f"-o {out}")
    outputs = [folder / f"{case}{ending}" for folder in folders for case in cases]
    outputs += [out / name for name in (LEGEND, TABLE, REPORT)]
    inputs = [file, *(predictions / f"{case}{ending}" for case in cases), *filter(None, cases.values())]
    protect_inputs(outputs, inputs)
    for folder in folders:
        remove_leftovers(folder)

    def restrict_one(case: str) -> dict[str, tuple[Count, Count]]:
        name = f"{case}{ending}"
        path = predictions / name
        prediction = read_prediction(path, cases[case], pool, allowed)
        result = restrict_case(pool, allowed, prediction, native)
        for target, mask in result.masks.items():
            _write(out / MASKS / target / name, mask.astype(np.uint8), prediction.image, path)
        _write(out / name, result.label, prediction.image, path)
        return {target: (prediction.before[target], result.after[target]) for target in pool.names}

    results = for_each(restrict_one, list(cases), desc="restrict", progress=progress, caught=(DatasetError,))
    counts = dict(results)
    if faults := [text for text in counts.values() if isinstance(text, str)]:
        raise DatasetError(_not_usable(faults, len(cases), out))
    report = make_report(pool, request, skipped, allowed, cases, counts)
    texts = {
        out / LEGEND: json_text(legend(pool, request.native, allowed, skipped, ending)),
        out / TABLE: csv_text(*table_of(report)),
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
