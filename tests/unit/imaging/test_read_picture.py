"""Pictures of every format lie where the reference readers say, and files that make no picture say why."""

import contextlib
import gzip
import random

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from riskpred.imaging.codestream import FrameSize, frame_size
from riskpred.imaging.inspect import FileLook
from riskpred.imaging.paths import ImageProblem
from riskpred.imaging.picture import Picture
from riskpred.imaging.read import read_image, read_picture
from riskpred.progress import Silent
from tests.benchmarks.imaging.reading import bomb, cut, dicom_of, flipped, j2k_of, lying, seeds

VOLUME = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
OBLIQUE = [0.8, 0.6, 0.0, 0.0, 0.0, -1.0]
"""The next column is to the left and back, the next row down."""


def items(**elements):
    made = Dataset()
    for name, value in elements.items():
        setattr(made, name, value)
    return Sequence([made])


def ct(path, array=VOLUME[0], at=(0.0, 0.0, 0.0), **elements):
    """Write a CT file; elements override or (None) remove."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = pydicom.uid.generate_uid()
    ds.PatientName = "Secret^Name"
    ds.Modality, ds.SeriesInstanceUID = "CT", "1.2.3"
    ds.ImagePositionPatient, ds.ImageOrientationPatient = list(at), [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.SliceThickness = [0.5, 0.25], 2
    ds.Rows, ds.Columns = array.shape[-2:]
    if array.ndim == 3:
        ds.NumberOfFrames = len(array)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, int(array.dtype.kind == "i")
    ds.PixelData = array.tobytes()
    for name, value in elements.items():
        if value is None:
            delattr(ds, name)
        else:
            setattr(ds, name, value)
    ds.save_as(path, enforce_file_format=True)
    return path


def series(folder, positions, **elements):
    folder.mkdir()
    for number, at in enumerate(positions):
        # Names in another order than positions.
        name = f"{(number * 7) % 11:02d}.dcm"
        ct(folder / name, VOLUME[number % 4], at, **elements)
    return folder


def reason_of(path, channels="grey"):
    with pytest.raises(ImageProblem) as caught:
        read_picture(path, channels)
    assert "Secret" not in str(caught.value)
    return caught.value.reason


def same_place(picture, image):
    np.testing.assert_allclose(picture.origin_mm, image.GetOrigin(), atol=1e-6)
    np.testing.assert_allclose(picture.direction[:, ::-1], np.reshape(image.GetDirection(), (3, 3)), atol=1e-6)
    np.testing.assert_allclose(picture.spacing_mm[::-1], image.GetSpacing(), rtol=1e-6)
    for index in ((0, 0, 0), (3, 4, 5), (1.5, 2, 0.25)):
        wanted = image.TransformContinuousIndexToPhysicalPoint([float(at) for at in index[::-1]])
        np.testing.assert_allclose(picture.grid.patient_mm(index), wanted, atol=1e-5)


@pytest.mark.parametrize("suffix", ["mha", "mhd", "zmha", "zmhd", "nii", "nii.gz"])
def test_volumes_lie_where_simpleitk_says(tmp_path, suffix):
    reference = pytest.importorskip("SimpleITK")
    image = reference.GetImageFromArray(VOLUME)
    image.SetSpacing((0.5, 0.75, 2.0))
    image.SetOrigin((-10.0, 20.0, 30.0))
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    image.SetDirection(turned.ravel().tolist())
    path = tmp_path / f"a.{suffix.removeprefix('z')}"
    reference.WriteImage(image, str(path), useCompression=suffix.startswith("z"))
    picture = read_picture(path)
    np.testing.assert_array_equal(picture.array[0], VOLUME)
    same_place(picture, image)
    with FileLook(0) as look:
        (header,) = look.headers(tmp_path, [path.name], "headers", Silent())
    assert header.frames == len(VOLUME), "ingest knows it by the header alone"
    assert header.spacing_mm == pytest.approx(tuple(picture.spacing_mm))


def test_a_nifti_lies_where_nibabel_says(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    affine = np.array([[-1.5, 0.2, 0, 10], [0.1, 2, 0, -20], [0, 0, 3, 5], [0, 0, 0, 1.0]])
    image = nibabel.Nifti1Image(VOLUME.T.astype(np.int16), affine)
    image.header.set_slope_inter(0.5, -3)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, tmp_path / "a.nii.gz")
    picture = read_picture(tmp_path / "a.nii.gz")
    stored = nibabel.load(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(picture.array[0], stored.get_fdata().T, rtol=1e-6)
    right_front_up = stored.affine @ [5, 4, 3, 1]
    np.testing.assert_allclose(picture.grid.patient_mm((3, 4, 5)), right_front_up[:3] * [-1, -1, 1], rtol=1e-6)
    assert picture.notes == ()


def test_a_volume_without_orientation_is_placed_from_its_corner(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(VOLUME.T.astype(np.int16), None)
    image.header.set_zooms((0.5, 0.75, 2.0))
    image.header["sform_code"] = image.header["qform_code"] = 0
    nibabel.save(image, tmp_path / "a.nii")
    picture = read_picture(tmp_path / "a.nii")
    assert np.isnan(picture.direction).all()
    np.testing.assert_allclose(picture.grid.patient_mm((1, 2, 3)), (3.5 * 0.5, 2.5 * 0.75, 1.5 * 2))


@pytest.mark.parametrize("orientation", [[1, 0, 0, 0, 1, 0], OBLIQUE])
def test_a_series_is_sorted_along_its_normal_as_simpleitk_sorts_it(tmp_path, orientation):
    reference = pytest.importorskip("SimpleITK")
    normal = np.cross(orientation[:3], orientation[3:])
    positions = [np.array([3.0, 4.0, 5.0]) + normal * 2.5 * k for k in range(4)]
    folder = series(
        tmp_path / "s", positions, ImageOrientationPatient=orientation, RescaleIntercept=-1024, RescaleSlope=2
    )
    picture = read_picture(folder)
    np.testing.assert_array_equal(picture.array[0], VOLUME * 2.0 - 1024)
    reader = reference.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    np.testing.assert_array_equal(picture.array[0], reference.GetArrayFromImage(image))
    same_place(picture, image)
    assert (picture.image_type, picture.notes) == ("CT", ())


def test_copies_uneven_slices_and_a_tilted_gantry_are_told(tmp_path):
    folder = series(tmp_path / "copies", [(0, 0, z) for z in (0, 2, 4, 6)])
    (folder / "again.dcm").write_bytes((folder / "00.dcm").read_bytes())
    assert read_picture(folder).notes == ("1 copies of slices left out",)
    uneven = read_picture(series(tmp_path / "uneven", [(0, 0, z) for z in (0, 2, 4.3, 6)]))
    assert uneven.notes == ("slices 1.7 to 2.3 mm apart: placed as if evenly",)
    tilted = read_picture(series(tmp_path / "tilted", [(0, z * 0.5, z) for z in (0, 2, 4, 6)]))
    assert tilted.notes == ("each slice shifted against the one before, as of a gantry tilted by 26.6 degrees",)
    np.testing.assert_allclose(tilted.grid.patient_mm((3, 0, 0)), (0, 3, 6))


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"at": (0, 0, 20)}, "missing_slices"),
        ({"at": (0, 0, 2)}, "several_at_a_position"),
        ({"at": (0, 0, 8), "SeriesInstanceUID": "1.2.4"}, "several_series"),
        ({"at": (0, 0, 8), "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localiser_in_series"),
        ({"at": (0, 0, 8), "ImageOrientationPatient": OBLIQUE}, "mixed_orientations"),
        ({"at": (0, 0, 8), "PixelSpacing": [1, 1]}, "mixed_geometry"),
        ({"at": (0, 0, 8), "array": VOLUME[0, :3]}, "mixed_geometry"),
    ],
)
def test_a_file_that_does_not_belong_to_the_series_is_the_reason(tmp_path, other, reason):
    folder = series(tmp_path / "s", [(0, 0, z) for z in (0, 2, 4, 6)])
    ct(folder / "other.dcm", **{"array": VOLUME[3] + 1, **other})
    assert reason_of(folder) == reason


def test_a_folder_with_something_else_is_no_series(tmp_path):
    folder = series(tmp_path / "s", [(0, 0, z) for z in (0, 2)])
    (folder / "DICOMDIR").write_text("left out")
    (folder / "reading.xml").write_text("what readers drew: left out")
    assert read_picture(folder).shape == (2, 5, 6)
    (folder / "Secret.txt").write_text("hello")
    assert reason_of(folder) == "not_a_series"
    (folder / "Secret.txt").unlink()
    (folder / "link.dcm").symlink_to(folder / "00.dcm")
    assert reason_of(folder) == "not_a_series"


def enhanced(path, heights, intercepts, **elements):
    frames = []
    for z, intercept in zip(heights, intercepts, strict=True):
        frame = Dataset()
        frame.PlanePositionSequence = items(ImagePositionPatient=[1, 2, z])
        frame.PixelValueTransformationSequence = items(RescaleSlope=1, RescaleIntercept=intercept)
        frames.append(frame)
    shared = items(
        PlaneOrientationSequence=items(ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
        PixelMeasuresSequence=items(PixelSpacing=[0.5, 0.25], SliceThickness=2),
        FrameVOILUTSequence=items(WindowCenter=40, WindowWidth=400),
    )
    none = dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"))
    groups = {"PerFrameFunctionalGroupsSequence": Sequence(frames), "SharedFunctionalGroupsSequence": shared}
    return ct(path, VOLUME[: len(heights)], **groups, **none, **elements)


def test_each_frame_has_its_own_place_and_rescale(tmp_path):
    picture = read_picture(enhanced(tmp_path / "a", (6, 0, 4, 2), (0, 10, 20, 30)))
    wanted = VOLUME + np.array([0, 10, 20, 30])[:, None, None]
    np.testing.assert_array_equal(picture.array[0], wanted[[1, 3, 2, 0]])
    np.testing.assert_array_equal(picture.spacing_mm, (2, 0.5, 0.25))
    np.testing.assert_allclose(picture.grid.patient_mm((1, 0, 4)), (2, 2, 2))
    assert picture.window == (40, 400)
    twice = read_picture(enhanced(tmp_path / "b", (0, 2, 0, 2), (0, 0, 0, 0)))
    np.testing.assert_array_equal(twice.array[0], VOLUME[:2])
    assert twice.notes == ("4 frames at 2 positions: the first at each",)
    still = read_picture(enhanced(tmp_path / "c", (5, 5, 5), (0, 0, 0)))
    assert still.shape[0] == 3
    assert "not a volume" in still.notes[0]
    assert np.isnan(still.spacing_mm[0])


def test_values_of_a_frame(tmp_path):
    array = np.array([[0, 1, 2, -2000], [3, 4, 5, 6]], dtype=np.int16)
    window = {"WindowCenter": [3, 9], "WindowWidth": [4, 1]}
    plain = read_picture(ct(tmp_path / "a", array, PixelPaddingValue=-2000, **window))
    np.testing.assert_array_equal(plain.array[0, 0], [[0, 1, 2, 0], [3, 4, 5, 6]])
    assert plain.window == (3, 4)
    turned = {"PixelPaddingValue": -2000, "PhotometricInterpretation": "MONOCHROME1", **window}
    turned = read_picture(ct(tmp_path / "b", array, **turned))
    np.testing.assert_array_equal(turned.array[0, 0], [[6, 5, 4, 0], [3, 2, 1, 0]])
    assert turned.window == (3, 4)
    table = items(
        LUTDescriptor=[4, 0, 16], LUTData=np.array([100, 300, 50, 7], dtype="<u2").tobytes(), ModalityLUTType="US"
    )
    through = ct(tmp_path / "c", np.array([[0, 1, 2, 3]], dtype=np.uint16), ModalityLUTSequence=table)
    np.testing.assert_array_equal(read_picture(through).array[0, 0], [[100, 300, 50, 7]])
    fewer = np.array([[0xF001, 0x0FFF]], dtype=np.uint16)  # an overlay in the four bits that are not stored
    kept = read_picture(ct(tmp_path / "d", fewer, BitsStored=12, HighBit=11))
    np.testing.assert_array_equal(kept.array[0, 0], [[1, 4095]])


REGION = {"PhysicalUnitsXDirection": 3, "PhysicalUnitsYDirection": 3, "PhysicalDeltaX": 0.02, "PhysicalDeltaY": 0.03}


@pytest.mark.parametrize(
    ("elements", "spacing", "note"),
    [
        ({"ImagerPixelSpacing": [0.2, 0.1]}, (0.2, 0.1), "detector"),
        (
            {"ImagerPixelSpacing": [0.2, 0.1], "EstimatedRadiographicMagnificationFactor": 2},
            (0.1, 0.05),
            "magnification",
        ),
        ({"NominalScannedPixelSpacing": [0.2, 0.1]}, (0.2, 0.1), "film"),
        ({"SequenceOfUltrasoundRegions": items(**REGION)}, (0.3, 0.2), None),
        ({"SequenceOfUltrasoundRegions": items(**{**REGION, "PhysicalUnitsXDirection": 4})}, (np.nan, np.nan), None),
    ],
)
def test_spacing(tmp_path, elements, spacing, note):
    none = dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"))
    picture = read_picture(ct(tmp_path / "a", **none, **elements))
    np.testing.assert_allclose(picture.spacing_mm, (np.nan, *spacing))
    assert np.isnan(picture.direction).all()
    assert (picture.notes == ()) if note is None else note in picture.notes[0]


def test_labels_are_codes_or_nothing(tmp_path):
    told = read_picture(ct(tmp_path / "a", BodyPartExamined="CHEST", ViewPosition="PA", ImageLaterality="L"))
    assert (told.body_part, told.view, told.laterality) == ("CHEST", "PA", "L")
    path = ct(tmp_path / "b", BodyPartExamined="SEE MR SMITH    ")
    path.write_bytes(path.read_bytes().replace(b"SEE MR SMITH", b"see Mr Smith"))
    assert read_picture(path).body_part is None


def test_pages_colours_and_channels(tmp_path):
    pages = [Image.fromarray(page.astype(np.uint16) * 500) for page in VOLUME]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(read_picture(tmp_path / "a.tif").array[0], VOLUME * 500.0)
    colour = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    Image.fromarray(colour).save(tmp_path / "t1_a.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "t1_a.png", "rgb").array[:, 0], np.moveaxis(colour, -1, 0))
    Image.fromarray(colour[..., 0]).save(tmp_path / "t2_a.png")
    study = read_picture(tmp_path, ("t2_*", "t1_*"))
    assert study.array.shape == (2, 1, 4, 5)
    np.testing.assert_array_equal(study.array[0, 0], colour[..., 0])
    assert reason_of(tmp_path, ("t3_*", "t1_*")) == "channel_missing"
    assert reason_of(tmp_path, ("t*",)) == "channel_ambiguous"
    assert reason_of(tmp_path, ("t1_*", "a.tif")) == "mixed_geometry"


def test_a_grid_leads_back_to_the_file_and_the_patient():
    picture = Picture.flat(np.zeros((8, 8), dtype=np.float32), (0.5, 0.25))
    np.testing.assert_allclose(
        picture.grid.patient_mm([(0, 0, 0), (0, 2, 4)]), [(0.125, 0.25, np.nan), (1.125, 1.25, np.nan)]
    )


def nifti_header(shape):
    head = bytearray(352)
    head[0:4] = (348).to_bytes(4, "little")
    head[40:56] = np.array([3, *shape, 1, 1, 1, 1], dtype="<i2").tobytes()
    head[70:74] = np.array([4, 16], dtype="<i2").tobytes()
    head[108:112] = np.float32(352).tobytes()
    head[344:348] = b"n+1\0"
    return bytes(head)


def test_nothing_is_unpacked_beyond_what_a_header_may_promise(tmp_path, monkeypatch):
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(nifti_header((700, 700, 500)) + b"\0" * 1000))
    assert reason_of(path) == "too_many_pixels"
    path.write_bytes(gzip.compress(nifti_header((8, 8, 8)) + b"\0" * 1000))
    assert reason_of(path) == "unreadable"
    whole = gzip.compress(nifti_header((8, 8, 8)) + b"\0" * 1024)
    path.write_bytes(whole)
    assert read_picture(path).shape == (8, 8, 8)
    path.write_bytes(whole[:-8] + b"\1" + whole[-7:])
    assert reason_of(path) == "unreadable"  # the checksum


@pytest.mark.parametrize("name", ["../a.raw", "/etc/passwd", "LIST", "a%02d.raw", ".", "link.raw"])
def test_a_metaimage_names_one_file_beside_it(tmp_path, name):
    (tmp_path / "link.raw").symlink_to("/etc/passwd")
    text = f"ObjectType = Image\nNDims = 2\nDimSize = 2 2\nElementType = MET_UCHAR\nElementDataFile = {name}\n"
    (tmp_path / "a.mhd").write_text(text)
    assert reason_of(tmp_path / "a.mhd") in ("path_refused", "file_missing")


def test_a_frame_that_says_another_size_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    def decoded(*_, **__):
        raise AssertionError("decoded")

    monkeypatch.setattr("riskpred.imaging.dicom_frames.get_decoder", decoded)
    frame = j2k_of(65_500, 65_500)
    (tmp_path / "a").write_bytes(dicom_of("1.2.840.10008.1.2.4.90", 64, encapsulate([frame])))
    with pytest.raises(ImageProblem, match="compressed frames of the size that the header says"):
        read_picture(tmp_path / "a")
    (tmp_path / "b").write_bytes(dicom_of("1.2.840.10008.1.2.4.90", 64, encapsulate([j2k_of(64, 64)])))
    with pytest.raises(ImageProblem) as caught:
        read_picture(tmp_path / "b")
    assert isinstance(caught.value.__cause__, AssertionError)  # of the right size: it went on to the decoder


@pytest.mark.parametrize("read", [read_picture, read_image])
def test_a_panic_of_a_decoder_is_a_problem_and_a_stop_is_none(tmp_path, monkeypatch, read):
    class Panic(BaseException):
        """What a decoder in Rust raises."""

    raised = [Panic("Secret"), KeyboardInterrupt()]

    def fall(*_, **__):
        raise raised.pop(0)

    for place in ("read.transfer_syntax", "dicom.transfer_syntax"):
        monkeypatch.setattr(f"riskpred.imaging.{place}", fall)
    path = ct(tmp_path / "a")
    with pytest.raises(ImageProblem) as caught:
        read(path)
    assert caught.value.reason == "unreadable"
    assert "Secret" not in str(caught.value)
    with pytest.raises(KeyboardInterrupt):
        read(path)


def test_bombs_are_refused(tmp_path):
    chance = random.Random(3)
    for _ in range(12):
        (tmp_path / "a").write_bytes(bomb(chance))
        with pytest.raises(ImageProblem):
            read_picture(tmp_path / "a")


def test_a_colour_transform_that_ends_gdcms_process_is_refused():
    adobe = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
    size = bytes.fromhex("ffc3000b080010000c01011100")
    assert frame_size(b"\xff\xd8" + adobe + b"\x01" + size) == FrameSize(16, 12, 1, 8)
    assert frame_size(b"\xff\xd8" + adobe + b"\x10" + size) is None
    shorter = adobe.replace(b"\x0eA", b"\x0cA")[:-1]  # without a transform: the next marker is none
    assert frame_size(b"\xff\xd8" + shorter + size) == FrameSize(16, 12, 1, 8)


@pytest.mark.parametrize("damage", [flipped, cut, lying])
def test_a_damaged_file_is_a_picture_or_a_problem(tmp_path, damage):
    chance, whole = random.Random(0), seeds()
    for _ in range(60):
        (tmp_path / "a").write_bytes(damage(chance.choice(whole), chance))
        with contextlib.suppress(ImageProblem):  # the only exception allowed; any other fails the test
            assert np.isfinite(read_picture(tmp_path / "a").array).all()
