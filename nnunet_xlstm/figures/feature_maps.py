"""Pictures of features: the image and three principal components as colours, over evenly spaced slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_xlstm.figures.planes import gray_window, patient_array
from nnunet_xlstm.figures.style import DPI, new_figure, plain, styled, write_figure

WIDTH_INCH, MAX_ROW_INCH = 10.0, 3.0
THICK = 1.5  # an axis with voxels so much longer than others is the one that was acquired slice by slice


def slice_axis(spacing: Sequence[float]) -> int:
    """Return the axis that slices are taken across: that of thick slices, else the first."""
    longest = int(np.argmax(spacing))
    return longest if spacing[longest] >= THICK * spacing[0] else 0


def even_slices(n: int, wanted: int) -> list[int]:
    """Choose at most `wanted` of n slices, at equal distances and as far from both ends."""
    wanted = min(n, wanted)
    return [int((i + 0.5) * n / wanted) for i in range(wanted)]


@styled()
def draw_feature_maps(
    path: Path, image: sitk.Image, maps: Mapping[str, Sequence[sitk.Image]], *, title: str = "", n_slices: int = 5
) -> Path:
    """Write a PNG with a row for the image and one per entry of `maps`, in patient axes with true proportions.

    Args:
        path: of the PNG.
        image: 3D.
        maps: name -> three images on its grid with values in [0, 1]: red, green and blue.
        title: printed above.
        n_slices: columns, at most.
    """
    gray, spacing = patient_array(image)
    rows = {"image": gray} | {
        name: np.stack([patient_array(channel)[0] for channel in rgb], -1) for name, rgb in maps.items()
    }
    axis = slice_axis(spacing)
    down, across = (i for i in range(3) if i != axis)
    height, width = gray.shape[down] * spacing[down], gray.shape[across] * spacing[across]
    places = even_slices(gray.shape[axis], n_slices)
    low, high = gray_window(gray, None)
    row_inch = min(MAX_ROW_INCH, WIDTH_INCH / len(places) * height / width)
    figure = new_figure(row_inch * width / height * len(places) + 0.4, row_inch * len(rows) + 0.5)
    axes = figure.subplots(len(rows), len(places), squeeze=False)
    for (name, array), line in zip(rows.items(), axes, strict=True):
        for place, ax in zip(places, line, strict=True):
            section = np.take(array, place, axis)
            section = section[::-1] if axis else section  # head up
            ax.imshow(section, cmap="gray", vmin=low, vmax=high, extent=(0, width, height, 0), interpolation="nearest")
            ax.set_aspect("equal")
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[:].set_visible(False)
        line[0].set_ylabel(plain(name))
    if title:
        figure.suptitle(title, fontsize=10, parse_math=False)
    return write_figure(figure, path, dpi=DPI * 3 // 4)
