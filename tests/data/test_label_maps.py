"""Label maps from files: whole numbers or a clear error."""

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xlstm.data.label_maps import read_label_map


def write(path, array):
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    return path


def test_whole_numbers_in_a_float_file_are_labels(tmp_path):
    path = write(tmp_path / "a.nii.gz", np.full((2, 3, 4), 3.0, np.float32))
    assert sitk.GetArrayFromImage(read_label_map(path)).tolist() == np.full((2, 3, 4), 3).tolist()


@pytest.mark.parametrize(
    ("value", "message"),
    [(0.5, "between whole numbers"), (np.nan, "between whole numbers"), (np.inf, "infinite"), (1e12, "beyond 2")],
)
def test_other_values_are_errors(tmp_path, value, message):
    array = np.zeros((2, 3, 4), np.float32)
    array[1, 1, 1] = value
    with pytest.raises(ValueError, match=message):
        read_label_map(write(tmp_path / "a.nrrd", array))  # ITK writes NaN as 0 to NIfTI
