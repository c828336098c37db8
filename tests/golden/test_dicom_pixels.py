"""Every DICOM image in pydicom's own wheel: the pixels of pydicom, and where GDCM (in SimpleITK) reads it, of GDCM too.

The values of JPEG Extended are those that pydicom's own tests ask of it.
"""

import logging
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.pixels import apply_color_lut, pixel_array

from riskpred.imaging.paths import ImageProblem
from riskpred.imaging.read import read_image, read_picture

FOLDER = Path(pydicom.__file__).parent / "data" / "test_files"

REFUSED = {
    "JPEG2000-embedded-sequence-delimiter.dcm": "unreadable",  # damaged; neither reference reads it
    "MR_truncated.dcm": "unreadable",
    "badVR.dcm": "unreadable",
    "image_dfl.dcm": "deflated_refused",
    "meta_missing_tsyntax.dcm": "unreadable",
    "nested_priv_SQ.dcm": "no_pixels",
    "ExplVR_BigEndNoMeta.dcm": "unknown_format",
    "ExplVR_LitEndNoMeta.dcm": "unknown_format",
    "no_meta.dcm": "unknown_format",
    "rtstruct.dcm": "unknown_format",
}
"""Files of the folder that are not images, or not whole, and why each is refused."""

EXTENDED = ("JPEG-lossy.dcm", "JPGExtended.dcm")
"""12 bits a sample: pydicom asks none of its decoders."""


def images():
    for path in sorted(FOLDER.glob("*.dcm")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path, force=True)
        if "PixelData" in dataset:
            yield path.name


@pytest.fixture
def quiet():
    logging.getLogger("pydicom").disabled = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def expected(path):
    """Rescaled values of pydicom, (C, Z, H, W)."""
    dataset = pydicom.dcmread(path)
    array = pixel_array(dataset)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        array = apply_color_lut(array, dataset) >> 8  # its tables have 16 bits
    if array.shape[-1] == 3 and array.ndim > 2:
        array = array if array.ndim == 4 else array[None]
        return np.moveaxis(array, -1, 0).astype(np.float32)
    array = array.reshape(1, -1, *array.shape[-2:]).astype(np.float32)
    return array * np.float32(dataset.get("RescaleSlope", 1)) + np.float32(dataset.get("RescaleIntercept", 0))


@pytest.mark.parametrize("name", [*images()])
def test_the_pixels_of_pydicom(quiet, name):
    path = FOLDER / name
    if name in REFUSED:
        with pytest.raises(ImageProblem) as caught:
            read_picture(path, "rgb")
        assert caught.value.reason == REFUSED[name]
        return
    picture = read_picture(path, "rgb")
    if name in EXTENDED:
        assert (picture.array[0, 0, 420, 140], picture.array[0, 0, 230, 120]) == (244, 95)
        return
    wanted = np.broadcast_to(expected(path), picture.array.shape)
    dataset = pydicom.dcmread(path)
    if "PixelPaddingValue" in dataset:
        padded = (pixel_array(dataset) == dataset.PixelPaddingValue)[None, None]
        padded = np.broadcast_to(padded, wanted.shape)
        if padded.any():
            np.testing.assert_array_equal(picture.array[padded], wanted[~padded].min())
        wanted = np.where(padded, picture.array, wanted)
    np.testing.assert_array_equal(picture.array, wanted)


@pytest.mark.parametrize("name", [name for name in images() if name not in REFUSED])
def test_pixels_and_place_of_gdcm(quiet, name):
    reference = pytest.importorskip("SimpleITK")
    reference.ProcessObject.SetGlobalWarningDisplay(False)
    if name.startswith(("rtdose", "SC_rgb_rle_16", "SC_rgb_rle_32", "liver", "693_J2KI")):
        pytest.skip("GDCM has no pixel spacing for it, or reads other numbers than pydicom, RLE of 16 bits among them")
    image = reference.ReadImage(str(FOLDER / name))
    values = reference.GetArrayFromImage(image).astype(np.float32)
    values = np.moveaxis(values, -1, 0) if values.ndim == 4 else values[None]
    picture = read_picture(FOLDER / name, "rgb")
    np.testing.assert_array_equal(picture.array, np.broadcast_to(values, picture.array.shape))
    if not np.isnan(picture.direction).any():
        np.testing.assert_allclose(picture.origin_mm, image.GetOrigin(), atol=1e-6)
        np.testing.assert_allclose(picture.direction[:, ::-1], np.reshape(image.GetDirection(), (3, 3)), atol=1e-6)
        np.testing.assert_allclose(picture.spacing_mm[1:], image.GetSpacing()[1::-1])


@pytest.mark.parametrize("name", [name for name in images() if name not in REFUSED])
def test_the_quick_path_reads_the_same(quiet, name):
    picture, quick = read_picture(FOLDER / name), read_image(FOLDER / name)
    if "padding is shown as dark as the darkest pixel" not in picture.notes:
        np.testing.assert_allclose(quick.array, picture.array[0, 0], rtol=1e-6)
    assert quick.shape == picture.shape[1:]
