"""Models side by side: every column shows the same plane, and its own label map."""

import numpy as np
import pytest
import SimpleITK as sitk
from matplotlib.image import imread

from nnunet_xlstm.figures import side_by_side
from nnunet_xlstm.figures.planes import PALETTE, cut_planes
from nnunet_xlstm.figures.side_by_side import ModelsCase, draw_models, draw_models_sheets


def box(shape=(8, 20, 20), shift=0, label=1):
    array = np.zeros(shape, np.uint8)
    array[2:6, 5:15, 4 + shift : 12 + shift] = label
    return sitk.GetImageFromArray(array)


def case(title="one"):
    image = sitk.GetImageFromArray(np.full((8, 20, 20), 5.0, np.float32))
    return ModelsCase(image, box(), {"A $x$": box(shift=4), "B": box(label=2)}, title, {"B": "Dice 0.1"})


def columns_with(path, color, columns):
    """The columns of the picture, without its legend, that show a colour laid over black."""
    pixels = (imread(path)[..., :3] * 255).round()
    pixels = pixels[: int(len(pixels) * 0.8)]
    rgb = 0.55 * np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
    hits = (np.abs(pixels - rgb).max(-1) <= 3).any(0)
    return {int(x * columns / len(hits)) for x in np.flatnonzero(hits)}


def test_every_column_has_its_own_labels(tmp_path):
    path = draw_models(tmp_path / "a.png", case(), style="filled", ct_window=(100, 10))
    assert columns_with(path, PALETTE[0], 3) == {0, 1} and columns_with(path, PALETTE[1], 3) == {2}
    path = draw_models(tmp_path / "b.png", case(), style="errors", ct_window=(100, 10))
    assert columns_with(path, PALETTE[0], 3) == {0}


def test_planes_through_the_errors_of_all_models():
    """Each model errs in one slice; together they choose the slice with the most wrong voxels."""
    reference = np.zeros((6, 8, 8), np.uint8)
    one, two = reference.copy(), reference.copy()
    one[1, :2] = 1  # 16 voxels
    two[4, :3] = 1  # 24
    arrays = {"reference": reference, "0": one, "1": two}
    pixels = np.arange(6.0)[:, None, None] + np.zeros((6, 8, 8))
    assert cut_planes(pixels, (1, 1, 1), arrays, "errors")[0].image[0, 0] == 4
    assert cut_planes(pixels, (1, 1, 1), {"reference": reference, "prediction": one}, "errors")[0].image[0, 0] == 1


def test_sheets_have_so_many_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(side_by_side, "ROWS_PER_SHEET", 2)
    loaders = [lambda i=i: case(f"a case with quite a long name {i}") for i in range(3)]
    paths = draw_models_sheets(tmp_path, loaders, plane="coronal")
    assert [p.name for p in paths] == ["_sheet.png", "_sheet_2.png"]
    assert len(imread(paths[0])) > 1.3 * len(imread(paths[1]))


def test_flat_images_and_no_reference(tmp_path):
    flat = sitk.GetImageFromArray(np.ones((9, 9), np.float32))
    labels = sitk.GetImageFromArray(np.eye(9, dtype=np.uint8))
    made = ModelsCase(flat, None, {"A": labels})
    assert draw_models(tmp_path / "a.png", made).stat().st_size > 3000
    assert draw_models_sheets(tmp_path, [lambda: made])[0].name == "_sheet.png"
    with pytest.raises(ValueError, match="compares with a reference"):
        draw_models(tmp_path / "b.png", made, style="errors")
    with pytest.raises(ValueError, match="in the plane 'oblique'"):
        draw_models_sheets(tmp_path, [lambda: made], plane="oblique")
