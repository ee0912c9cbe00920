"""One case of a public data set: its files checked, its native ids as consecutive ids."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_xlstm.catalogue.entries import DataSet
from nnunet_xlstm.datasets.case_index import CaseRecord
from nnunet_xlstm.datasets.ingest import ENDING, Entry, readable_in_place
from nnunet_xlstm.datasets.items import fingerprint_of
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.imaging.dicom.series import Reasons
from nnunet_xlstm.imaging.grid import Grid, check_same_grid
from nnunet_xlstm.imaging.images import as_label_map, read_grid, read_image
from nnunet_xlstm.imaging.integrity import check_whole, has_full_length
from nnunet_xlstm.imaging.label_look_up import look_up
from nnunet_xlstm.imaging.write import write_image
from nnunet_xlstm.io.write import replacing


def consecutive_ids(entry: DataSet) -> dict[str, int]:
    """Return name of a label -> 1, 2, 3 ... in the entry's order."""
    return {name: i for i, name in enumerate(entry.labels, start=1)}


def id_table(entry: DataSet) -> dict[int, int]:
    """Return native value -> consecutive id, without background."""
    own, aliases = consecutive_ids(entry), entry.label_aliases or {}
    return {n: own[name] for name, n in entry.labels.items()} | {int(n): own[name] for n, name in aliases.items()}


@dataclass(frozen=True)
class CaseJob:
    """What `build.build` and `convert_case` need of one case; like `items.Item`, but with labels of its own.

    Attributes:
        images: one for every channel.
        labels: as in NativeCase.
    """

    name: str
    source: str
    subject: str
    modality: str
    images: tuple[str, ...]
    labels: Mapping[str, str]
    entry: DataSet

    @property
    def key(self) -> str:
        """What tells the job from others in later runs."""
        return self.name

    def fingerprint(self) -> str:
        """Return a hash that changes when a file does, or what its values mean."""
        ids, optional = (consecutive_ids(self.entry), id_table(self.entry)), sorted(self.entry.optional_labels)
        meaning = (self.modality, list(self.labels), *ids, optional)
        return fingerprint_of(repr(meaning), [*self.images, *self.labels.values()])


def convert_case(job: CaseJob, base: str, folder: Path) -> tuple[dict[str, Entry], Reasons]:
    """Make a training case: images by reference where nnU-Net reads them in place, else imagesTr; labelsTr.

    Returns:
        case -> entry, and what was left out with the reason: files that are damaged, or not on one grid.

    Raises:
        DatasetError: a value that is no label: the whole mapping may be wrong.
    """
    try:
        grid = _checked_grid(job.images)
        label = _label_map(job, grid)
        images = tuple(
            path if _in_place(path) else _converted(path, folder, f"imagesTr/{base}_{channel:04d}{ENDING}")
            for channel, path in enumerate(job.images)
        )
    except Excluded as error:
        return {}, [(error.path, error.reason)]
    name = f"labelsTr/{base}{ENDING}"
    write_image(label, folder / name)
    record = CaseRecord(job.source, job.subject, job.modality, images=job.images)
    return {base: Entry(images, name, record)}, []


def convert_test_case(job: CaseJob, folder: Path) -> Reasons:
    """Make a test case, unless its files are there and newer than their sources: imagesTs, and labelsTs if public.

    `nnUNetv2_predict` takes a folder of files with the ending .nii.gz, not a list: an image that has this ending is
    linked, which takes no room and, like the references of training images, follows the original; every other one is
    converted. Where links are not allowed, the file is copied.
    """
    targets = [folder / f"imagesTs/{job.name}_{channel:04d}{ENDING}" for channel in range(len(job.images))]
    answer = folder / f"labelsTs/{job.name}{ENDING}"
    sources = [*([path] for path in job.images), list(job.labels.values())]
    if all(map(_is_newer, [*targets, answer], sources)):
        return []
    try:
        grid = _checked_grid(job.images)
        if job.labels:
            write_image(_label_map(job, grid), answer)
        for path, target in zip(job.images, targets, strict=True):
            if path.endswith(ENDING) and _in_place(path):
                _link(path, target)
            else:
                _converted(path, folder, target.relative_to(folder))
    except Excluded as error:
        return [(error.path, error.reason)]
    return []


class Excluded(Exception):
    """A file that cannot be used, and why."""

    def __init__(self, path: str, error: Exception | str):
        self.path, self.reason = path, " ".join(str(error).split()).removeprefix(f"{path}: ")
        super().__init__(f"{path}: {self.reason}")


# Images -------------------------------------------------------------------------------------------------------------


def _checked_grid(paths: Sequence[str]) -> Grid:
    """Return the grid of the first channel, on which all others lie; every file is complete.

    Raises:
        Excluded: otherwise.
    """
    grids = []
    for path in paths:
        try:
            check_whole(Path(path))
            grid = read_grid(Path(path))
            if grid.components != 1:
                raise DatasetError(f"{grid.components} values per voxel (colour or vector image)")
            grids.append(grid if grid.dimension == 3 else Grid.of(_volume(read_image(Path(path)))))
            check_same_grid(grids[0], grids[-1], ("first channel", "other"))
        except DatasetError as error:
            raise Excluded(path, error) from error
    return grids[0]


def _volume(image: sitk.Image) -> sitk.Image:
    """Without a fourth dimension of one."""
    size = image.GetSize()
    if len(size) == 4 and size[3] == 1:
        return image[:, :, :, 0]
    if len(size) != 3:
        raise DatasetError(f"{len(size)} dimensions, {' x '.join(map(str, size))}; 3 are needed")
    return image


def _in_place(path: str) -> bool:
    return readable_in_place(path) and read_grid(Path(path)).dimension == 3


def _converted(path: str, folder: Path, name: str | Path) -> str:
    try:
        image = _volume(read_image(Path(path)))
    except DatasetError as error:
        raise Excluded(path, error) from error
    write_image(image, folder / name)
    return str(name)


def _link(path: str, target: Path) -> None:
    with replacing(target) as temporary:
        try:
            temporary.symlink_to(path)
        except OSError:  # a file system or a user without links
            shutil.copyfile(path, temporary)


def _is_newer(target: Path, sources: Sequence[str]) -> bool:
    """There is nothing to make, or it is there: as a link to its source, or as a whole file that is not older."""
    if not sources:
        return True
    if target.is_symlink():
        return [os.readlink(target)] == list(sources) and target.is_file()
    newest = max(os.stat(path).st_mtime_ns for path in sources)
    return target.is_file() and target.stat().st_mtime_ns >= newest and has_full_length(target)


# Labels -------------------------------------------------------------------------------------------------------------


def _label_map(job: CaseJob, grid: Grid) -> sitk.Image:
    """Consecutive ids, with the very header of the image: rounding would be reported by nnU-Net as another grid.

    Masks of single labels are painted in the entry's order: where two overlap, the later label stays.

    Raises:
        Excluded: a file is damaged, missing, or on another grid.
        DatasetError: a value, or a mask, that is no label.
    """
    if "" in job.labels:
        array = _relabelled(job.entry, id_table(job.entry), job.labels[""], grid)
    else:
        array = _merged(job, grid)
    return grid.set_on(sitk.GetImageFromArray(array))


def _merged(job: CaseJob, grid: Grid) -> np.ndarray:
    entry, masks, own = job.entry, job.labels, consecutive_ids(job.entry)
    if unknown := sorted(masks.keys() - own.keys()):
        raise DatasetError(
            f"{masks[unknown[0]]}: {entry.name} has no label '{unknown[0]}'; is this another version of the data set?"
        )
    if missing := [name for name in own if name not in masks.keys() | set(entry.optional_labels)]:
        raise Excluded(job.images[0], f"there is no mask of {missing[0]} ({len(missing)} of {len(own)} missing)")
    result = np.zeros(grid.size[::-1], np.uint8 if len(own) <= np.iinfo(np.uint8).max else np.uint16)
    for name, number in ((name, number) for name, number in own.items() if name in masks):
        result[_relabelled(entry, {1: 1}, masks[name], grid) > 0] = number
    return result


def _relabelled(entry: DataSet, lut: Mapping[int, int], path: str, grid: Grid) -> np.ndarray:
    names = ("image", "label map")
    try:
        claimed = read_grid(Path(path))
        if claimed.dimension == grid.dimension:  # before its voxels take any memory
            check_same_grid(grid, claimed, names)
        image = _volume(read_image(Path(path)))
        check_same_grid(grid, image, names)
    except DatasetError as error:
        raise Excluded(path, error) from error
    labels = as_label_map(image, Path(path))  # the view below does not keep it alive
    try:
        return look_up(sitk.GetArrayViewFromImage(labels), lut)
    except DatasetError as error:
        known = "in a mask of one label, only 0 and 1 are" if lut == {1: 1} else f"its labels are {entry.labels}"
        raise DatasetError(
            f"{path} {error} of {entry.name}: {known}. Check that it is this data set and version; to accept the "
            f"value, list it under `label_aliases` in a copy of {entry.name}.json and convert that"
        ) from error
