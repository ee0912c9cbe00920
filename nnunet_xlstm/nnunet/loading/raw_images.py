"""The cases of a raw data set as nnU-Net lists them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nnunetv2.paths import nnUNet_raw
from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name

from nnunet_xlstm.datasets.cases import find_cases
from nnunet_xlstm.datasets.dataset_json import DatasetFile
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.nnunet.planning.code_names import check_reader


@dataclass(frozen=True)
class RawImages:
    """A raw nnU-Net data set: its dataset.json, and of each case its images and its label map."""

    file: DatasetFile
    images: dict[str, list[str]]
    labels: dict[str, Path]

    @classmethod
    def find(cls, name: str) -> RawImages:
        """Find a data set by id or name in nnUNet_raw, or by its folder.

        Raises:
            DatasetError: there is none, or it holds no images.
        """
        folder = Path(name)
        if not (folder / "dataset.json").is_file():
            try:
                folder = Path(str(nnUNet_raw)) / maybe_convert_to_dataset_name(int(name) if name.isdigit() else name)
            except (RuntimeError, ValueError) as error:
                raise DatasetError(
                    f"-d {name}: no data set of this id or name in nnUNet_raw ({nnUNet_raw!r}), and no folder with a "
                    "dataset.json"
                ) from error
        file = DatasetFile.read(folder)
        file.labels()
        check_reader(file.content, str(file.path))
        try:
            cases, _ = find_cases(file)  # as nnU-Net finds them, without its twelve processes
        except OSError as error:
            raise DatasetError(f"-d {name}: {folder} is not a raw data set of nnU-Net ({error})") from error
        file.file_ending()  # it and the cases become names of files
        return cls(
            file,
            {case: list(files.images) for case, files in sorted(cases.items())},
            {case: Path(files.label) for case, files in cases.items()},
        )

    @property
    def folder(self) -> Path:
        """Folder of dataset.json."""
        return self.file.folder
