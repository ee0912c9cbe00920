"""Inputs of the demo: checks of the user's dataset and of the output folder, before anything is written."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from nnunet_xlstm.datasets.cases import list_labels
from nnunet_xlstm.datasets.dataset_json import NAME, CaseFiles, DatasetFile, Labels
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.imaging.images import read_grid
from nnunet_xlstm.io.read import read_json
from nnunet_xlstm.io.write import make_folder, write_json

MARKER, MADE_BY = "demo.json", "nnunet_xlstm demo"
PRODUCTS = (
    "nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "predictions", "pictures", "logs",
    "config.json", "evaluation.json", "summary.json", "index.html",
)  # fmt: skip
MIN_CASES = 5  # nnU-Net's five folds
LAYOUT = "https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md"


@dataclass(frozen=True)
class Dataset:
    """A raw nnU-Net dataset with as many labelled cases as the demo needs. `part` is "Tr" or "Ts"."""

    file: DatasetFile

    @property
    def folder(self) -> Path:
        """Return its folder."""
        return self.file.folder

    @property
    def classes(self) -> Labels:
        """Return the labels or regions that are scored."""
        return self.file.scored_labels()

    @property
    def number(self) -> str:
        """Return its number, as nnU-Net's commands take it."""
        return self.folder.name[len("Dataset") :][:3]

    @property
    def ending(self) -> str:
        """Return the ending of its files, such as ".nii.gz"."""
        return self.file.file_ending()

    def files(self, part: str) -> dict[str, CaseFiles]:
        """Return the images (at least the first channel's) and the label map of every labelled case, by its name."""
        table = self.file.table() if part == "Tr" else None  # where dataset.json lists them
        if table is not None:
            return dict(sorted(table.items()))
        images, ending = self.folder / f"images{part}", self.ending
        labels = list_labels(self.folder / f"labels{part}", ending)
        return {case: CaseFiles((f"{images / case}_0000{ending}",), label) for case, label in labels.items()}

    def has_plain_labels(self) -> bool:
        """Return whether every structure is one label id and every voxel is annotated."""
        return self.classes.ignore is None and all(len(ids) == 1 for ids in self.classes.scored.values())

    def configuration(self) -> str:
        """Return the configuration: 3d_fullres, or 2d for flat images."""
        size = read_grid(Path(next(iter(self.files("Tr").values())).images[0])).size
        return "3d_fullres" if len(size) >= 3 and min(size[:3]) > 1 else "2d"


def read_dataset(folder: Path) -> Dataset:
    """Return the dataset in a folder of the user.

    Raises:
        DatasetError: there is no such folder, it is no raw nnU-Net dataset, or has too few cases.
    """
    folder = folder.resolve()
    if not folder.is_dir():
        raise DatasetError(f"--data {folder}: no such folder. Give a raw nnU-Net dataset ({LAYOUT}).")
    if not re.fullmatch(r"Dataset\d{3}_.+", folder.name):
        raise DatasetError(
            f"--data {folder}: the folder is named '{folder.name}'; nnU-Net wants DatasetXXX_Name with three digits. "
            f"Rename it, for example to Dataset123_{re.sub(r'[^A-Za-z0-9]+', '', folder.name) or 'Name'}."
        )
    path = folder / "dataset.json"
    if not path.is_file():
        raise DatasetError(f"--data {folder}: there is no dataset.json in it; nnU-Net needs one ({LAYOUT}).")
    file = DatasetFile.read(path)
    needed = ("channel_names", "labels", "numTraining", "file_ending")
    missing = [key for key in needed if key not in file.content]
    if missing:
        raise DatasetError(f"{path}: without {', '.join(missing)}; nnU-Net needs {', '.join(needed)} ({LAYOUT}).")
    dataset = Dataset(file)
    for question in (file.scored_labels, file.file_ending, file.channels):  # what nnU-Net will ask for
        question()
    _check_cases(dataset)
    return dataset


def _check_cases(dataset: Dataset) -> None:
    cases = dataset.files("Tr")
    if len(cases) < MIN_CASES:
        raise DatasetError(
            f"--data {dataset.folder}: {len(cases)} labelled training cases (labelsTr/*{dataset.ending}); five folds "
            f"need {MIN_CASES} or more. Add cases, or check that file_ending in dataset.json is right."
        )
    for part in ("Tr", "Ts"):
        for case, files in dataset.files(part).items():
            if not Path(files.images[0]).is_file():
                raise DatasetError(
                    f"--data {dataset.folder}: case '{case}' has a label but no image {files.images[0]}; "
                    "every label needs its image, named CASE_0000 for the first channel."
                )


def check_out(out: Path, data: Path | None) -> None:
    """Refuse an output folder that holds anything but an earlier demo, or that holds the data.

    Raises:
        DatasetError: with the rule and the way out.
    """
    if out.exists() and not out.is_dir():
        raise DatasetError(f"-o {out} is a file; give a folder that is new or empty.")
    if data is not None and data.resolve().is_relative_to(out.resolve()):
        raise DatasetError(f"--data {data} lies inside -o {out}, which is emptied first; give another -o.")
    if out.is_dir() and any(out.iterdir()) and not _is_demo(out):
        raise DatasetError(
            f"-o {out} is not empty and not of an earlier demo (no {MARKER} in it), so it is left alone; "
            "give a folder that is new, empty, or of an earlier demo."
        )


def _is_demo(out: Path) -> bool:
    """Return whether the folder holds our marker, and not only a file of that name."""
    try:
        return read_json(out / MARKER, dict).get("made_by") == MADE_BY
    except DatasetError:
        return False


def prepare_out(out: Path) -> None:
    """Make the output folder with nnU-Net's three in it. Goes: what an earlier demo made, but no data behind links."""
    make_folder(out)
    write_json(out / MARKER, {"made_by": MADE_BY})
    for name in PRODUCTS:
        path = out / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for name in PRODUCTS[:3]:
        make_folder(out / name)


def place_dataset(dataset: Dataset, raw: Path) -> Dataset:
    """Return the dataset seen from nnUNet_raw: by a link, or as a copy where the system has no links."""
    target = raw / dataset.folder.name
    try:
        target.symlink_to(dataset.folder, target_is_directory=True)
    except OSError:
        shutil.copytree(dataset.folder, target)
    return Dataset(DatasetFile(target / NAME, dataset.file.content))
