"""Files that are cut off or changed, in every format that nnU-Net reads and in those of `unlabelled`."""

import re

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.imaging.images import read_image
from nnunet_xlstm.imaging.integrity import check_length, check_whole

VOLUMES = [".nii", ".nii.gz", ".hdr", ".nrrd", ".nhdr", ".mha", ".mhd", ".gipl", ".gipl.gz", ".tif"]
PICTURES = [".png", ".bmp", ".tif", ".jpg"]
CASES = [(ending, True, 3) for ending in VOLUMES] + [(ending, False, 3) for ending in (".nrrd", ".mha", ".mhd", ".tif")]
CASES += [(ending, True, 2) for ending in PICTURES]


def made(folder, ending, compressed, dimension):
    """An image file, the file that holds its voxels, and the image."""
    rng = np.random.default_rng(0)
    array = (rng.random((12, 20, 24)) > 0.7).astype(np.uint8) * 200
    image = sitk.GetImageFromArray(array if dimension == 3 else array[0])
    path = folder / f"a{ending}"
    sitk.WriteImage(image, str(path), compressed)
    if ending == ".tif":
        (folder / "a.json").write_text('{"spacing": [1, 1, 1]}')
    data = path
    if ending in (".nhdr", ".mhd"):
        data = folder / re.search(r"(?:ElementDataFile = |data file: )(.*)", path.read_text()).group(1).strip()
    return path, folder / "a.img" if ending == ".hdr" else data


@pytest.mark.parametrize(("ending", "compressed", "dimension"), CASES)
def test_whole_files_pass_and_cut_ones_do_not(tmp_path, ending, compressed, dimension):
    path, data = made(tmp_path, ending, compressed, dimension)
    check_whole(path)
    check_length(path)
    before = sitk.GetArrayFromImage(read_image(path))
    content = data.read_bytes()
    for share in (0.95, 0.6, 0.3, 0.0):
        data.write_bytes(content[: int(len(content) * share)])
        for look in (check_whole, check_length, read_image):
            with pytest.raises(DatasetError, match=re.escape(str(tmp_path))):
                look(path)
    data.write_bytes(content)
    assert np.array_equal(sitk.GetArrayFromImage(read_image(path)), before)


@pytest.mark.parametrize(("ending", "compressed"), [(".nrrd", True), (".nhdr", True), (".mha", True), (".mhd", True),
                                                    (".nii.gz", True), (".gipl.gz", True), (".png", True)])  # fmt: skip
def test_a_changed_byte_in_packed_voxels_is_found(tmp_path, ending, compressed):
    path, data = made(tmp_path, ending, compressed, 2 if ending == ".png" else 3)
    content = bytearray(data.read_bytes())
    before = sitk.GetArrayFromImage(read_image(path))
    for position in np.linspace(len(content) // 2, len(content) - 30, 12).astype(int):
        content[position] ^= 0x55
        data.write_bytes(bytes(content))
        try:
            assert np.array_equal(sitk.GetArrayFromImage(read_image(path)), before), position
        except DatasetError:
            pass
        content[position] ^= 0x55


@pytest.mark.parametrize(
    ("ending", "old", "new"),
    [(".mha", rb"ElementSpacing = [^\n]*", b"ElementSpacing = 1 0 1"),
     (".mha", rb"ElementSpacing = [^\n]*", b"ElementSpacing = 1 nan 1"),
     (".nrrd", rb"space directions: [^\n]*", b"space directions: (1,0,0) (0,0,0) (0,0,1)"),
     (".nrrd", rb"space directions: [^\n]*", b"space directions: (1,0,0) (0,nan,0) (0,0,1)"),
     (".nrrd", rb"space: [^\n]*\n", b"")],
)  # fmt: skip
def test_a_spacing_that_is_none(tmp_path, ending, old, new):
    path, _ = made(tmp_path, ending, True, 3)
    content, count = re.subn(old, new, path.read_bytes())
    assert count == 1
    if not new:  # plain spacings
        content = re.sub(rb"space directions: [^\n]*", b"spacings: 1 1 nan", content)
        content = re.sub(rb"space origin: [^\n]*\n", b"", content)
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="spacing"):
        read_image(path)


@pytest.mark.parametrize("ending", [".mhd", ".nhdr"])
@pytest.mark.parametrize("where", ["../secret.raw", "/etc/passwd", "gone.raw", "LIST", "slice%03d.raw 1 2 1"])
def test_a_header_leads_to_nothing_outside_its_folder(tmp_path, ending, where):
    folder = tmp_path / "in"
    folder.mkdir()
    path, data = made(folder, ending, False, 3)
    (tmp_path / "secret.raw").write_bytes(data.read_bytes())
    path.write_text(path.read_text().replace(data.name, where))
    with pytest.raises(DatasetError, match=re.escape(str(path))):
        read_image(path)


@pytest.mark.parametrize("ending", [*VOLUMES, *PICTURES])
def test_rubbish_and_nothing(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    with pytest.raises(DatasetError, match="no such file|not there|cannot be read"):
        read_image(path)
    for content in (b"", b"x" * 5000, bytes(5000)):
        path.write_bytes(content)
        with pytest.raises(DatasetError, match=re.escape(str(path))):
            read_image(path)
