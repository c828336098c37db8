"""Pictures decoded smaller: what is prepared of them stays the same picture at the same place."""

import io

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless
from scipy import ndimage

from riskpred.imaging.paths import ImageProblem
from riskpred.imaging.prepare import MARGIN, prepare
from riskpred.imaging.read import read_image
from riskpred.imaging.reduce import block_mean

SIZE = 32


def smooth(rows, columns, seed=0):
    """0..1, with structure of about an eighth of the picture: what a film shows, without grain."""
    rng = np.random.default_rng(seed)
    values = ndimage.gaussian_filter(rng.standard_normal((rows, columns)), (rows / 12, columns / 12))
    return (values - values.min()) / np.ptp(values)


def dicom(path, values, syntax=ExplicitVRLittleEndian, signed=False, **elements):
    meta, data = FileMetaDataset(), Dataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.3"
    data.file_meta, data.Modality, data.PhotometricInterpretation = meta, "DX", "MONOCHROME2"
    data.Rows, data.Columns = values.shape
    data.SamplesPerPixel, data.PixelRepresentation = 1, int(signed)
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    data.PixelSpacing = [0.5, 0.25]
    if syntax == JPEG2000Lossless:
        stream = io.BytesIO()
        Image.fromarray(values).save(stream, "JPEG2000", irreversible=False, no_jp2=True)
        data.PixelData = encapsulate([stream.getvalue()])
    else:
        data.PixelData = values.tobytes()
    for name, value in elements.items():
        setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)
    return path


def written(folder, kind, values):
    file = folder / "picture"
    if kind in ("jpeg", "png"):
        Image.fromarray((values * 250).astype(np.uint8)).save(file, kind, **({"quality": 95} if kind == "jpeg" else {}))
    elif kind == "colour":
        grey = (values * 250).astype(np.uint8)
        Image.fromarray(np.stack([grey, grey // 2, 255 - grey], axis=2)).save(file, "jpeg", quality=95)
    else:
        values = (values * 60_000).astype(np.uint16)
        dicom(file, values, JPEG2000Lossless if kind == "jpeg2000" else ExplicitVRLittleEndian)
    return file


@pytest.mark.parametrize("shape", [(512, 512), (500, 500), (513, 411), (200, 777)])
@pytest.mark.parametrize("kind", ["jpeg", "colour", "png", "raw", "jpeg2000"])
def test_a_reduced_decode_prepares_the_same_picture(tmp_path, kind, shape):
    file = written(tmp_path, kind, smooth(*shape))
    whole, reduced = read_image(file), read_image(file, SIZE * MARGIN)
    assert whole.factor == 1
    assert reduced.factor > 1
    assert max(reduced.array.shape) >= SIZE * MARGIN
    assert (reduced.shape, reduced.spacing_mm, reduced.notes) == (shape, whole.spacing_mm, whole.notes)
    one, other = prepare(whole, SIZE), prepare(reduced, SIZE)
    assert one.box == other.box
    np.testing.assert_array_equal(one.spacing_mm, other.spacing_mm)
    _, _, (left, right) = one.box
    # A shift by one prepared pixel would move some pixel by over a tenth.
    assert np.abs(np.diff(one.pixels[0, 0], axis=1)[:, 1 + left : right - 1]).max() > 0.1
    assert abs(one.pixels - other.pixels).max() < 0.05


def test_whole_multiples_are_exact(tmp_path):
    rng = np.random.default_rng(0)
    file = dicom(
        tmp_path / "a", rng.integers(0, 4096, (256, 128)).astype(np.uint16), RescaleSlope=2, RescaleIntercept=-9
    )
    np.testing.assert_allclose(
        prepare(read_image(file, SIZE * MARGIN), SIZE).pixels, prepare(read_image(file), SIZE).pixels, atol=1e-6
    )


def test_a_small_picture_comes_whole(tmp_path):
    file = written(tmp_path, "jpeg", smooth(100, 90))
    assert read_image(file, SIZE * MARGIN).factor == 1
    np.testing.assert_array_equal(read_image(file, SIZE * MARGIN).array, read_image(file).array)


def test_a_thin_picture(tmp_path):
    file = dicom(tmp_path / "a", (np.arange(2000, dtype=np.uint16) * 3).reshape(1, 2000))
    one, other = prepare(read_image(file), SIZE), prepare(read_image(file, SIZE * MARGIN), SIZE)
    assert other.box == ((0, 1), ((SIZE - 1) // 2, (SIZE + 1) // 2), (0, SIZE))
    np.testing.assert_allclose(one.pixels, other.pixels, atol=0.02)


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [
        (np.uint16, 0, 65535),
        (np.uint16, 0, 4095),
        (np.int16, -32768, 32767),
        (np.int16, -2000, 2000),
        (np.uint8, 0, 60),
    ],
)
def test_block_mean_against_plain_means(kind, low, high):
    """Whether sums of 4 fit into the file's own numbers, or do not."""
    array = np.random.default_rng(0).integers(low, high, (11, 7), endpoint=True).astype(kind)
    got = block_mean(array, 4)
    assert got.shape == (3, 2)
    for row in range(3):
        for column in range(2):
            want = array[4 * row : 4 * row + 4, 4 * column : 4 * column + 4].mean()
            assert got[row, column] == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("kind", ["jpeg", "png", "raw", "jpeg2000"])
def test_a_file_cut_off_is_a_reject_at_every_size(tmp_path, kind):
    file = written(tmp_path, kind, smooth(512, 512))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    for at_least in (None, SIZE * MARGIN):
        with pytest.raises(ImageProblem) as caught:
            read_image(file, at_least)
        assert caught.value.reason in ("unreadable", "no_pixels")
