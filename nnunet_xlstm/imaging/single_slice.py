"""2D images as volumes of one slice, so that one data set can hold 2D and 3D images."""

from __future__ import annotations

import SimpleITK as sitk


def as_volume(image: sitk.Image) -> sitk.Image:
    """Return a 2D image as a volume of one slice; of a 3D image of one slice, that slice along z.

    nnU-Net gives 2D files 999 times their pixel size between slices: beside 3D files such an image would be resampled
    to hundreds of equal slices. It also takes the axis with the largest spacing for the one between slices, so a slice
    is never thinner than its pixels are wide; a 2D image gets this thickness.

    Returns:
        A 3D image; the same object where there is nothing to change.
    """
    if image.GetDimension() == 2:
        image = sitk.JoinSeries([image])
        image.SetSpacing((*image.GetSpacing()[:2], max(image.GetSpacing()[:2])))
        return image
    size = image.GetSize()
    if image.GetDimension() != 3 or size.count(1) != 1:
        return image
    if size[2] > 1:
        across = size.index(1)
        image = sitk.PermuteAxes(image, [axis for axis in range(3) if axis != across] + [across])
    pixel, thickness = max(image.GetSpacing()[:2]), image.GetSpacing()[2]
    if thickness < pixel:
        image = sitk.Image(image)
        image.SetSpacing((*image.GetSpacing()[:2], pixel))
    return image


def as_gray(image: sitk.Image) -> sitk.Image:
    """Return a colour image whose channels are equal as an image of one channel; an opaque fourth one is dropped.

    Returns:
        The same object where the channels differ, or there is one.
    """
    if image.GetNumberOfComponentsPerPixel() not in (3, 4):
        return image
    first, *others = (sitk.VectorIndexSelectionCast(image, i) for i in range(image.GetNumberOfComponentsPerPixel()))
    arrays = [sitk.GetArrayViewFromImage(channel) for channel in (first, *others)]
    equal = all((arrays[0] == array).all() for array in arrays[1:3])
    opaque = len(arrays) == 3 or arrays[3].min() == arrays[3].max()
    return first if equal and opaque else image
