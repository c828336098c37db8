"""Every image file gives grey pixels or a reason, never a crash."""

import contextlib
import io
import os
import struct
import zlib

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from riskpred.imaging.paths import ImageProblem, inside
from riskpred.imaging.read import read_image

GREY = np.arange(12, dtype=np.uint16).reshape(3, 4) * 100


def dicom(path, array=GREY, syntax=ExplicitVRLittleEndian, frames=None, **elements):
    """Write a DX file; elements override or (None) remove."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    ds = Dataset()
    ds.file_meta = meta
    ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    ds.PatientName = "Secret^Name"
    ds.Modality = "DX"
    shape = array.shape if frames is None else array.shape[1:]
    ds.Rows, ds.Columns = shape[:2]
    ds.SamplesPerPixel = 1 if len(shape) == 2 else 3
    ds.PhotometricInterpretation = "MONOCHROME2" if len(shape) == 2 else "RGB"
    if len(shape) == 3:
        ds.PlanarConfiguration = 0
    if frames is not None:
        ds.NumberOfFrames = frames
    ds.BitsAllocated = ds.BitsStored = array.dtype.itemsize * 8
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(array.dtype.kind == "i")
    ds.PixelData = array.tobytes()
    for name, value in elements.items():
        if value is None:
            delattr(ds, name)
        else:
            setattr(ds, name, value)
    ds.save_as(path, enforce_file_format=True)
    return path


def png(path, array):
    Image.fromarray(array).save(path, format="PNG")
    return path


def reason_of(path):
    with pytest.raises(ImageProblem) as caught:
        read_image(path)
    assert caught.value.wanted
    assert "Secret" not in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_uncompressed_dicom(tmp_path, syntax):
    pixels = read_image(dicom(tmp_path / "a.dcm", syntax=syntax, PixelSpacing=[0.5, 0.25]))
    np.testing.assert_array_equal(pixels.array, GREY)
    assert pixels.array.dtype == np.float32
    assert pixels.spacing_mm == (0.5, 0.25)
    assert pixels.notes == ()


def test_rescale_is_applied_and_the_window_is_not(tmp_path):
    path = dicom(tmp_path / "a", RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=0, WindowWidth=1)
    np.testing.assert_array_equal(read_image(path).array, GREY * 2.0 - 1000)


def test_monochrome1_is_turned_over(tmp_path):
    pixels = read_image(dicom(tmp_path / "a", PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(pixels.array, 1100 - GREY.astype(float))


def test_signed_pixels(tmp_path):
    array = GREY.astype(np.int16) - 600
    np.testing.assert_array_equal(read_image(dicom(tmp_path / "a", array)).array, array)


def test_spacing_of_the_detector_is_noted_and_a_useless_one_is_none(tmp_path):
    pixels = read_image(dicom(tmp_path / "a", ImagerPixelSpacing=[0.2, 0.1]))
    assert pixels.spacing_mm == (0.2, 0.1)
    assert "detector" in pixels.notes[0]
    assert read_image(dicom(tmp_path / "b", PixelSpacing=[0, 0.1])).spacing_mm is None


def test_the_first_of_several_frames(tmp_path):
    array = np.stack([GREY, GREY + 1, GREY + 2])
    pixels = read_image(dicom(tmp_path / "a", array, frames=3))
    np.testing.assert_array_equal(pixels.array, GREY)
    assert pixels.notes == ("first of 3 frames",)


def test_colour_dicom_becomes_luminance(tmp_path):
    array = np.zeros((3, 4, 3), dtype=np.uint8)
    array[..., 1] = 100
    pixels = read_image(dicom(tmp_path / "a", array))
    np.testing.assert_allclose(pixels.array, np.full((3, 4), 58.7), rtol=1e-6)


def test_rle_dicom(tmp_path):
    path = dicom(tmp_path / "a")
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    dataset.save_as(path)
    np.testing.assert_array_equal(read_image(path).array, GREY)


def test_jpeg_baseline_dicom(tmp_path):
    array = np.full((16, 16), 77, dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, format="JPEG", quality=100)
    path = dicom(tmp_path / "a", array, JPEGBaseline8Bit, PixelData=encapsulate([stream.getvalue()]))
    np.testing.assert_allclose(read_image(path).array, 77, atol=1)


def test_a_compression_without_a_decoder_says_so(tmp_path, monkeypatch):
    path = dicom(tmp_path / "a", syntax=JPEG2000Lossless, PixelData=encapsulate([b"12"]))
    monkeypatch.setattr("riskpred.imaging.read.get_decoder", lambda syntax: type("D", (), {"is_available": False}))
    assert reason_of(path) == "not_decodable"


def test_a_deflated_file_is_refused_before_it_inflates(tmp_path, monkeypatch):
    path = dicom(tmp_path / "a", syntax=DeflatedExplicitVRLittleEndian)
    monkeypatch.setattr("riskpred.imaging.read.dcmread", None)  # reading on would be a TypeError: unreadable
    assert reason_of(path) == "deflated_refused"


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"Rows": 60_000, "Columns": 60_000}, "too_many_pixels"),
        ({"NumberOfFrames": 2_000_000_000}, "too_many_pixels"),
        ({"Rows": 300}, "unreadable"),
        ({"Rows": None}, "no_pixels"),
        ({"Rows": 0}, "no_pixels"),
        ({"PixelData": None}, "unreadable"),
        ({"BitsAllocated": 7}, "unreadable"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "colour_refused"),
        ({"RescaleSlope": 1e39}, "unreadable"),
    ],
)
def test_headers_that_lie(tmp_path, elements, reason):
    array = np.ones((30, 40), dtype=np.uint16)
    assert reason_of(dicom(tmp_path / "a", array, **elements)) == reason


def test_compressed_dicom_without_pixels(tmp_path):
    assert reason_of(dicom(tmp_path / "a", syntax=RLELossless, PixelData=None)) == "no_pixels"


@pytest.mark.parametrize("keep", [0, 100, 132, 200, 400, -1])
def test_a_truncated_dicom(tmp_path, keep):
    path = dicom(tmp_path / "a", np.ones((30, 40), dtype=np.uint16))
    path.write_bytes(path.read_bytes()[:keep])
    assert reason_of(path) in ("unreadable", "unknown_format", "no_pixels")


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_truncated_pictures(tmp_path, format):
    path = tmp_path / "a"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)).save(path, format=format)
    path.write_bytes(path.read_bytes()[:2000])
    assert reason_of(path) == "unreadable"


@pytest.mark.parametrize("damage", [lambda whole: whole[:-15], lambda whole: whole[:-20] + b"?" + whole[-19:]])
def test_a_png_whose_pixels_all_decode_but_whose_end_is_damaged(tmp_path, damage):
    path = png(tmp_path / "a", GREY.astype(np.uint8))
    path.write_bytes(damage(path.read_bytes()))
    assert reason_of(path) == "unreadable"


def test_pictures(tmp_path):
    eight = np.arange(12, dtype=np.uint8).reshape(3, 4)
    np.testing.assert_array_equal(read_image(png(tmp_path / "8", eight)).array, eight)
    np.testing.assert_array_equal(read_image(png(tmp_path / "16", GREY)).array, GREY)
    colour = np.zeros((3, 4, 4), dtype=np.uint8)
    colour[..., 0], colour[..., 3] = 100, 255
    pixels = read_image(png(tmp_path / "rgba", colour))
    np.testing.assert_allclose(pixels.array, 29.9, atol=0.5)
    assert pixels.spacing_mm is None
    assert pixels.notes == ("colour read as luminance",)


def test_a_palette_is_read_through_its_colours(tmp_path):
    picture = Image.fromarray(np.zeros((3, 4), dtype=np.uint8), mode=None).convert("P")
    picture.putpalette([200, 200, 200] * 256)
    picture.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_image(tmp_path / "p.png").array, 200)


@pytest.mark.parametrize(("width", "height"), [(9_500, 9_500), (100_000, 100_000)])
def test_a_decompression_bomb_is_refused(tmp_path, width, height):
    """Both where Pillow itself only warns and where it raises; the file is a few bytes long."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    (tmp_path / "bomb.png").write_bytes(data)
    assert reason_of(tmp_path / "bomb.png") in ("too_many_pixels", "unreadable")


def test_other_files(tmp_path):
    (tmp_path / "a.dcm").write_text("hello")
    assert reason_of(tmp_path / "a.dcm") == "unknown_format"
    assert reason_of(tmp_path / "none.png") == "file_missing"
    Image.fromarray(GREY.astype(np.uint8)).save(tmp_path / "a.gif")
    assert reason_of(tmp_path / "a.gif") == "unknown_format"


def test_a_huge_file_is_refused_unread(tmp_path):
    path = dicom(tmp_path / "a")
    os.truncate(path, 2**31)  # sparse
    assert reason_of(path) == "file_too_large"


def test_no_value_of_the_file_is_logged_or_shown(tmp_path, caplog, capsys):
    path = dicom(tmp_path / "a")
    path.write_bytes(path.read_bytes().replace(b"DX", b"\xff\xff").replace(b"1.2.3.4", b"Secret^"))
    read_image(path)
    assert "Secret" not in caplog.text
    assert capsys.readouterr() == ("", "")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_file_is_pixels_or_a_problem(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    whole = {
        "dcm": dicom(folder / "a", np.ones((8, 8), dtype=np.uint16)).read_bytes(),
        "png": png(folder / "b", np.ones((8, 8), dtype=np.uint8)).read_bytes(),
    }
    damaged = bytearray(whole[data.draw(st.sampled_from(sorted(whole)))])
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = folder / "damaged"
    path.write_bytes(damaged[: data.draw(st.integers(1, len(damaged)))])
    with contextlib.suppress(ImageProblem):  # the only exception allowed; any other fails the test
        assert np.isfinite(read_image(path).array).all()


@pytest.mark.parametrize(
    "path", ["", ".", "../a.png", "sub/../../a.png", "/etc/passwd", "a\0.png", "out", "loop", "pipe", "sub"]
)
def test_paths_that_leave_the_image_root_are_refused(tmp_path, path):
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (tmp_path / "a.png").write_bytes(b"x")
    (root / "out").symlink_to(tmp_path / "a.png")
    (root / "loop").symlink_to(root / "loop")
    os.mkfifo(root / "pipe")
    with pytest.raises(ImageProblem) as caught:
        inside(root, path)
    assert caught.value.reason in ("path_refused", "file_missing")


def test_paths_inside_the_image_root(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.png").write_bytes(b"x")
    (tmp_path / "link.png").symlink_to(tmp_path / "sub" / "a.png")
    assert inside(tmp_path, "sub/a.png") == (tmp_path / "sub" / "a.png").resolve()
    assert inside(tmp_path, "link.png") == (tmp_path / "sub" / "a.png").resolve()
    with pytest.raises(ImageProblem, match="file_missing"):
        inside(tmp_path, "sub/b.png")
