"""Each preparation step against another computation: scikit-image, SimpleITK, pydicom or the plain definition."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.pixels import apply_windowing
from scipy import ndimage
from skimage import exposure, filters, measure, transform

from riskpred.config.imaging import Recipe, default_steps
from riskpred.config.steps import steps_from_json
from riskpred.imaging.foreground import body, lower_otsu, otsu
from riskpred.imaging.paths import ImageProblem
from riskpred.imaging.picture import Picture
from riskpred.imaging.recipe import STEPS, prepare_like, prepare_picture, stages
from riskpred.imaging.staged import staged
from riskpred.imaging.steps_texture import noise_sd

LPS = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
"""Direction of an axial volume: slices to the head, rows to the back, columns to the left."""


def picture(array, spacing=(np.nan, np.nan, np.nan), origin=(np.nan,) * 3, direction=None, **more):
    array = np.asarray(array, dtype=np.float32)
    while array.ndim < 4:
        array = array[None]
    direction = np.full((3, 3), np.nan) if direction is None else direction
    return Picture(array, np.array(spacing, float), np.array(origin, float), direction, **more)


def step(now, name, colour=True, **settings):
    (given,) = steps_from_json([{"step": name, **settings}])
    return STEPS[name](staged(now, colour), given)


def blobs(shape, seed=0, sigma=2.0):
    return ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigma).astype(np.float32)


def image_of(array, spacing=(1.0, 1.0, 1.0)):
    """SimpleITK's image of (Z, H, W), spacing slice, row, column."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([spacing[2], spacing[1], spacing[0]])
    return image


# Texture


@pytest.mark.parametrize("shape", [(1, 40, 50), (6, 20, 24)])
@pytest.mark.parametrize("radius", [1, 2])
def test_median_is_simpleitks(shape, radius):
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    found = step(picture(array), "denoise_median", radius=radius).array[0]
    want = sitk.GetArrayFromImage(sitk.Median(image_of(array), [radius, radius, 0]))
    np.testing.assert_allclose(found, want, atol=1e-6)
    if shape[0] > 1:
        found = step(picture(array), "denoise_median", radius=radius, across_slices=True).array[0]
        want = sitk.GetArrayFromImage(sitk.Median(image_of(array), [radius] * 3))
        np.testing.assert_allclose(found, want, atol=1e-6)


def test_noise_is_estimated_as_it_was_added():
    clean = blobs((200, 200), sigma=6) * 50
    for sd in (0.5, 2.0):
        noisy = clean + np.random.default_rng(1).normal(0, sd, clean.shape).astype(np.float32)
        assert noise_sd(noisy) == pytest.approx(sd, rel=0.05)


def plain_nlm(plane, patch, distance, h, sigma):
    """Non-local means by its definition, pixel after pixel: weights of a Gaussian of the patches' distance."""
    half = patch // 2
    wide = np.pad(plane, half + distance, mode="reflect")
    found = np.empty_like(plane)
    at = half + distance
    patches = np.lib.stride_tricks.sliding_window_view(wide, (patch, patch))
    for r, c in np.ndindex(plane.shape):
        mine = patches[r + distance, c + distance]
        near = patches[r : r + 2 * distance + 1, c : c + 2 * distance + 1]
        unlike = np.maximum(((near - mine) ** 2).mean(axis=(2, 3)) - 2 * sigma**2, 0)
        weight = np.exp(-unlike / h**2)
        values = wide[r + at - distance : r + at + distance + 1, c + at - distance : c + at + distance + 1]
        found[r, c] = (weight * values).sum() / weight.sum()
    return found


def test_non_local_means_are_what_their_definition_says_and_keep_edges():
    rng = np.random.default_rng(0)
    clean = np.zeros((40, 40), dtype=np.float32)
    clean[:, 20:] = 10.0
    noisy = clean + rng.normal(0, 1, clean.shape).astype(np.float32)
    found = step(picture(noisy), "denoise_nlm", patch=5, distance=4, strength=0.8).array[0, 0]
    sd = noise_sd(noisy)
    want = plain_nlm(noisy, 5, 4, 0.8 * sd, sd)
    inner = slice(8, -8)  # the border is continued in another way
    # Along the edge few pixels are like another, and rounding decides which of them count.
    assert np.quantile(np.abs(found - want)[inner, inner], 0.9) < 0.1
    assert np.quantile(np.abs(noisy - want)[inner, inner], 0.9) > 1
    assert (found - clean)[inner, inner].std() < 0.45
    assert abs(found[inner, 19].mean() - 0) < 0.3
    assert abs(found[inner, 20].mean() - 10) < 0.3
    assert np.abs(found - noisy).mean() > 0.5


def test_non_local_means_of_a_picture_without_noise_change_nothing():
    plane = np.zeros((20, 20), dtype=np.float32)
    np.testing.assert_array_equal(step(picture(plane), "denoise_nlm").array[0, 0], plane)


def plain_clahe(plane, tiles, limit, bins=256):
    """Adaptive equalisation by its definition, for a picture whose sides are whole tiles: no part of scikit-image."""
    side = plane.shape[0] // tiles
    place = np.minimum((plane * bins).astype(int), bins - 1)
    tables = np.empty((tiles, tiles, bins))
    for r, c in np.ndindex(tiles, tiles):
        counts = np.bincount(place[r * side : (r + 1) * side, c * side : (c + 1) * side].ravel(), minlength=bins)
        top = max(1.0, limit * side * side)
        for _ in range(20):
            over = np.maximum(counts - top, 0).sum()
            counts = np.minimum(counts, top) + over / bins
        tables[r, c] = np.cumsum(counts) / (side * side)
    rows, columns = ((np.arange(size) + 0.5) / side - 0.5 for size in plane.shape)
    grid = np.meshgrid(np.clip(rows, 0, tiles - 1), np.clip(columns, 0, tiles - 1), indexing="ij")
    found = np.zeros_like(plane)
    below = [np.minimum(axis.astype(int), tiles - 2) for axis in grid]
    part = [axis - first for axis, first in zip(grid, below, strict=True)]
    for dr, dc in np.ndindex(2, 2):
        share = (part[0] if dr else 1 - part[0]) * (part[1] if dc else 1 - part[1])
        found += share * tables[below[0] + dr, below[1] + dc, place]
    return found


def test_clahe_is_what_its_definition_says_and_raises_local_contrast():
    plane = transform.rescale(blobs((64, 64), sigma=3), 2.0) * 0.05 + np.linspace(0, 1, 128)[:, None]
    plane = ((plane - plane.min()) / (plane.max() - plane.min())).astype(np.float32)
    found = step(picture(plane), "clahe", tiles=4, limit=0.008).array[0, 0]
    want = plain_clahe(plane, 4, 0.008)
    assert np.corrcoef(found.ravel(), want.ravel())[0, 1] > 0.98
    unlimited = step(picture(plane), "clahe", tiles=4, limit=1.0).array[0, 0]
    assert np.abs(found - want).mean() < 0.5 * np.abs(unlimited - want).mean()
    assert found.min() >= 0
    assert found.max() <= 1
    # Local contrast: what is left after the slow change is taken away.
    local = [(image - ndimage.gaussian_filter(image, 12)).std() for image in (plane, found)]
    assert local[1] > 1.5 * local[0]


def test_clahe_of_a_volume_is_slice_by_slice():
    volume = np.stack([blobs((32, 32), seed) for seed in range(3)] + [np.zeros((32, 32), np.float32)])
    found = step(picture(volume), "clahe").array[0]
    np.testing.assert_allclose(found[1], step(picture(volume[1]), "clahe").array[0, 0])
    assert not found[3].any()
    assert exposure.is_low_contrast(volume[3])


def test_clahe_of_a_colour_keeps_its_hue():
    plane = blobs((64, 64), sigma=4) - blobs((64, 64), sigma=4).min()
    found = step(picture(np.stack([plane * 1.0, plane * 0.6, plane * 0.2])[:, None]), "clahe").array[:, 0]
    bright = found[0] > 0.2
    for channel, share in ((1, 0.6), (2, 0.2)):
        np.testing.assert_allclose(found[channel][bright] / found[0][bright], share, atol=0.02)


# Bias field


def brain(shape=(24, 64, 64), seed=0):
    """Ellipsoid with three tissues and noise, and a smooth field over it."""
    z, y, x = np.meshgrid(*[(np.arange(size) + 0.5) * 2 / size - 1 for size in shape], indexing="ij")
    tissue = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 3)
    values = np.array([60.0, 100.0, 150.0])[np.digitize(tissue, np.quantile(tissue, [0.33, 0.66]))]
    inside = (z**2 + y**2 + x**2) < 0.8
    noise = np.random.default_rng(seed + 1).normal(0, 2, shape)
    field = np.exp(0.35 * x + 0.25 * y * z - 0.3 * y**2)
    clean = np.where(inside, values, 0.0)
    return np.where(inside, np.maximum(clean * field + noise, 1.0), 0.0).astype(np.float32), clean, field


@pytest.mark.parametrize("shape", [(24, 64, 64), (1, 96, 96)])
def test_the_bias_field_is_found_as_well_as_n4_finds_it(shape):
    seen, clean, field = brain(shape)
    inside = clean > 0
    found = step(picture(seen), "bias_field").array[0]
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations([30, 30, 30])
    flat = shape[0] == 1
    image = image_of(seen) if not flat else sitk.GetImageFromArray(seen[0])
    mask = sitk.GetImageFromArray((inside if not flat else inside[0]).astype(np.uint8))
    corrected = sitk.GetArrayFromImage(n4.Execute(image, mask)).reshape(shape)

    def left(image):
        """SD of the log field that is left, over the foreground."""
        ratio = np.log(np.maximum(image[inside], 1e-3) / clean[inside])
        return float(ratio.std())

    before, ours, theirs = left(seen), left(found), left(corrected)
    assert before > 0.12
    assert ours < 0.3 * before
    assert ours < 1.15 * theirs
    # Its mean over the foreground stays, and outside nothing appears.
    assert np.log(found[inside]).mean() == pytest.approx(np.log(seen[inside]).mean(), abs=0.02)
    assert not found[~inside].any()
    assert field.std() > 0.1


def test_without_a_field_nothing_is_corrected():
    _, clean, _ = brain((1, 96, 96))
    found = step(picture(clean), "bias_field").array[0]
    inside = clean > 0
    assert np.log(found[inside] / clean[inside]).std() < 0.03


# Values


@pytest.mark.parametrize(("centre", "width"), [(40, 400), (-600, 1500), (100.5, 33)])
def test_a_window_is_pydicoms(centre, width):
    values = np.linspace(-1200, 1200, 4001).reshape(1, -1)
    dataset = Dataset()
    dataset.WindowCenter, dataset.WindowWidth, dataset.VOILUTFunction = centre, width, "LINEAR"
    dataset.PhotometricInterpretation, dataset.BitsStored, dataset.PixelRepresentation = "MONOCHROME2", 8, 0
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
    want = apply_windowing(values, dataset) / 255
    given = step(picture(values), "window", centre=float(centre), width=float(width))
    from_file = step(picture(values, window=(float(centre), float(width))), "window")
    for found in (given, from_file):
        np.testing.assert_allclose(found.array[0, 0], want, atol=2e-4)
        assert found.scaled


def test_a_file_without_window_says_so():
    found = step(picture(np.arange(1000.0).reshape(20, 50)), "window")
    assert found.notes == ("the file names no window: its percentiles are taken",)
    assert (found.array.min(), found.array.max()) == (0, 1)


def test_clip_and_invert():
    array = np.array([[-1000.0, 0.0, 50.0, 3000.0]])
    assert step(picture(array), "clip", low=-100.0, high=200.0).array[0, 0].tolist() == [[-100, 0, 50, 200]]
    assert step(picture(array), "invert").array[0, 0].tolist() == [[3000, 2000, 1950, -1000]]


def test_percentiles_zscore_and_histogram_of_the_foreground_alone():
    rng = np.random.default_rng(0)
    array = np.zeros((64, 64))
    array[16:48, 16:48] = rng.normal(100, 10, (32, 32))
    inside = array > 0
    image = picture(array)
    low, high = np.percentile(array[inside], (2, 98))
    found = step(image, "percentiles", low=2.0, high=98.0, foreground="body").array[0, 0]
    want = exposure.rescale_intensity(array, (low, high), (0.0, 1.0))
    np.testing.assert_allclose(found, want, atol=1e-5)
    found = step(image, "zscore", sd=3.0).array[0, 0]
    want = np.clip((array - array[inside].mean()) / array[inside].std() / 6 + 0.5, 0, 1)
    np.testing.assert_allclose(found, want, atol=1e-5)
    found = step(image, "match_histogram").array[0, 0]
    # Uniform landmarks: every tenth of the foreground has a tenth of the range.
    counts = np.histogram(found[inside], bins=10, range=(0, 1))[0] / inside.sum()
    assert counts.min() > 0.08
    assert counts.max() < 0.13
    assert (np.diff(found[inside][np.argsort(array[inside])]) >= -1e-6).all()


def test_a_matched_histogram_is_simpleitks():
    """Landmarks of one picture as the target of another: the same mapping as its filter finds between the two."""
    one, other = blobs((64, 64), 1) * 100 + 300, np.exp(blobs((64, 64), 2) * 3) * 40
    at = np.linspace(0, 100, 17)
    target = np.percentile(other, at)
    scale = (target - target[0]) / (target[-1] - target[0])
    given = {"percentiles": at.tolist(), "landmarks": scale.tolist(), "foreground": "all"}
    found = step(picture(one), "match_histogram", **given).array[0, 0] * (target[-1] - target[0]) + target[0]
    matcher = sitk.HistogramMatchingImageFilter()
    matcher.SetNumberOfHistogramLevels(4096)
    matcher.SetNumberOfMatchPoints(15)
    matcher.ThresholdAtMeanIntensityOff()
    want = sitk.GetArrayFromImage(matcher.Execute(sitk.GetImageFromArray(one), sitk.GetImageFromArray(other)))
    assert np.abs(found - want).mean() < 0.01 * (target[-1] - target[0])


def test_sequences_have_a_scale_each_and_a_colour_has_one():
    channels = np.stack([blobs((1, 32, 32), 1), blobs((1, 32, 32), 2) * 10, np.zeros((1, 32, 32), np.float32)])
    apart = step(picture(channels), "percentiles", colour=False)
    assert apart.array[0].max() == apart.array[1].max() == 1
    assert apart.notes == ("1 of 3 channels without contrast",)
    together = step(picture(channels), "percentiles")
    assert together.array[0].max() - together.array[0].min() < 0.2
    for name in ("percentiles", "zscore", "match_histogram"):
        coloured = step(picture(channels), name, each_channel=True)
        np.testing.assert_array_equal(coloured.array, step(picture(channels), name, colour=False).array)
    with pytest.raises(ImageProblem, match="no_contrast"):
        step(picture(np.ones((3, 1, 8, 8))), "percentiles", colour=False)


# Places


@pytest.mark.parametrize(
    ("spacing", "wanted"),
    [((3.0, 1.0, 1.0), (1.0, 0.5, 0.8)), ((1.0, 1.0, 1.0), (0.7,)), ((2.0, 1.0, 1.0), (0.6, 0.9))],
)
def test_finer_spacing_is_simpleitks_linear_resampling(spacing, wanted):
    array = blobs((12, 30, 34))
    found = step(picture(array, spacing, (5.0, -3.0, 2.0), LPS), "resample", spacing_mm=list(wanted))
    image = image_of(array, spacing)
    image.SetOrigin((5.0, -3.0, 2.0))
    size = found.array.shape[1:]
    first = found.grid.patient_mm((0, 0, 0))
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize([size[2], size[1], size[0]])
    resampler.SetOutputSpacing(found.grid.spacing_mm[::-1].tolist())
    resampler.SetOutputOrigin(first.tolist())
    resampler.SetInterpolator(sitk.sitkLinear)
    want = sitk.GetArrayFromImage(resampler.Execute(image))
    inner = (slice(2, -2),) * 3
    np.testing.assert_allclose(found.array[0][inner], want[inner], atol=1e-4)
    full = np.array([*([spacing[0]] * (3 - len(wanted)) if len(wanted) == 2 else []), *wanted])
    np.testing.assert_allclose(found.grid.spacing_mm, full if len(full) == 3 else np.repeat(full, 3))
    assert np.abs(want[inner]).max() > 0.1


def test_coarser_spacing_is_scikit_images_local_mean():
    array = np.random.default_rng(0).normal(size=(6, 60, 40)).astype(np.float32)
    found = step(picture(array, (1.0, 1.0, 1.0)), "resample", spacing_mm=[2.0, 2.5, 4.0]).array[0]
    np.testing.assert_allclose(found, transform.resize_local_mean(array, (3, 24, 10)), atol=1e-5)
    uneven = step(picture(array[:1], (np.nan, 1.0, 1.0)), "resample", spacing_mm=[1.7]).array[0, 0]
    assert uneven.shape == (35, 24)


def test_nearest_keeps_the_values_of_a_mask():
    mask = (blobs((8, 20, 20)) > 0).astype(np.float32) * 3
    found = step(picture(mask, (2.0, 1.0, 1.0)), "resample", spacing_mm=[1.3], nearest=True)
    assert set(np.unique(found.array)) == {0.0, 3.0}
    image = image_of(mask, (2.0, 1.0, 1.0))
    size = found.array.shape[1:]
    at = found.grid.offset * [2.0, 1.0, 1.0]
    want = sitk.GetArrayFromImage(
        sitk.Resample(
            image, [size[2], size[1], size[0]], sitk.Transform(), sitk.sitkNearestNeighbor, at[::-1].tolist(),
            found.grid.spacing_mm[::-1].tolist(), [1, 0, 0, 0, 1, 0, 0, 0, 1]
        )
    )  # fmt: skip
    assert (found.array[0] == want).mean() > 0.999


def test_a_picture_without_spacing_cannot_be_resampled():
    with pytest.raises(ImageProblem, match="no_spacing"):
        step(picture(np.eye(8)), "resample", spacing_mm=[1.0])
    with pytest.raises(ImageProblem, match="too_many_pixels"):
        step(picture(np.eye(8), (1, 1, 1)), "resample", spacing_mm=[0.0001])


@pytest.mark.parametrize("code", ["RAS", "PIR", "SLA", "LPS", "ARI"])
def test_reorienting_is_simpleitks(code):
    """Written axis by axis from the fastest, as its codes are; afterwards the array is that of an LPS image."""
    array = blobs((5, 6, 7))
    axial = sitk.GetImageFromArray(array)
    axial.SetSpacing((0.5, 0.7, 3.0))
    axial.SetOrigin((10.0, 20.0, -30.0))
    turned = sitk.DICOMOrient(axial, code)
    direction = np.array(turned.GetDirection()).reshape(3, 3)[:, ::-1]
    source = picture(
        sitk.GetArrayFromImage(turned), turned.GetSpacing()[::-1], turned.GetOrigin(), direction, image_type="MR"
    )
    found = step(source, "reorient")
    np.testing.assert_array_equal(found.array[0], array)
    np.testing.assert_allclose(found.grid.spacing_mm, (3.0, 0.7, 0.5))
    np.testing.assert_allclose(found.grid.patient_mm((0, 0, 0)), (10.0, 20.0, -30.0), atol=1e-9)
    for index in [(1, 2, 3), (4, 5, 6)]:
        want = axial.TransformIndexToPhysicalPoint(tuple(reversed(index)))
        np.testing.assert_allclose(found.grid.patient_mm(index), want, atol=1e-9)
    # The file's voxel behind each pixel is the one whose value it has.
    place = found.grid.file_index((4, 2, 3)).astype(int)
    assert source.array[(0, *place)] == found.array[0, 4, 2, 3]


def test_unknown_orientation_is_said_and_left():
    volume = blobs((4, 5, 6))
    found = step(picture(volume), "reorient")
    np.testing.assert_array_equal(found.array[0], volume)
    assert found.notes == ("orientation unknown: not turned",)
    assert step(picture(volume[:1]), "reorient").notes == ()


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_breast_comes_to_the_left(side):
    y, x = np.mgrid[:80, :60]
    breast = ((y - 40) ** 2 / 900 + x**2 / 1200 < 1) * 100.0
    given = breast if side == "left" else breast[:, ::-1]
    found = step(picture(given, (np.nan, 0.1, 0.1)), "flip_breast")
    np.testing.assert_array_equal(found.array[0, 0], breast)
    assert found.grid.file_index((0, 3, 5))[2] == (5 if side == "left" else 54)
    assert (found.grid.spacing_mm[1:] == 0.1).all()
    assert bool(found.notes) == (side == "right")


def test_pad_and_resize():
    array = np.arange(1.0, 33.0).reshape(4, 8)
    found = step(picture(array), "pad", least=12)
    assert found.array.shape == (1, 1, 12, 12)
    np.testing.assert_array_equal(found.array[0, 0, 4:8, 2:10], array)
    assert found.array[0, 0, 0, 0] == 1
    assert found.grid.file_index((0, 4, 2)).tolist() == [0, 0, 0]
    smaller = step(picture(array, (np.nan, 1.0, 1.0)), "resize", longest=8)
    assert smaller.array.shape == (1, 1, 4, 8)
    big = np.random.default_rng(0).normal(size=(90, 120))
    smaller = step(picture(big, (np.nan, 0.5, 0.5)), "resize", longest=40)
    np.testing.assert_allclose(smaller.array[0, 0], transform.resize_local_mean(big, (30, 40)), atol=1e-5)
    assert smaller.grid.spacing_mm[1:].tolist() == [1.5, 1.5]
    grown = step(picture(array), "resize", longest=16, grow=True)
    np.testing.assert_allclose(
        grown.array[0, 0], transform.resize(array, (8, 16), order=1, mode="edge", anti_aliasing=False), atol=1e-5
    )


# Cuts


def test_otsu_is_scikit_images():
    values = np.concatenate([np.random.default_rng(0).normal(m, 5, 500) for m in (10, 60)]).astype(np.float32)
    assert otsu(values) == pytest.approx(filters.threshold_otsu(values), abs=0.3)
    three = np.concatenate([values, np.random.default_rng(1).normal(110, 5, 500).astype(np.float32)])
    assert lower_otsu(three) == pytest.approx(filters.threshold_multiotsu(three, 3)[0], abs=0.6)
    assert 0 <= lower_otsu(np.array([0.0, 0.0, 1.0], np.float32)) < 1
    assert otsu(np.full(10, 3.0, np.float32)) == pytest.approx(3.0, abs=0.5)


def trunk(shape=(20, 96, 128), spacing=(5.0, 3.0, 3.0)):
    """A CT: body of water with two lungs, a table under it, air around; HU. Lungs at rows 30-60, columns 32-92."""
    z, y, x = np.mgrid[: shape[0], : shape[1], : shape[2]]
    volume = np.full(shape, -1000.0)
    volume[((y - 46) / 34) ** 2 + ((x - 62) / 48) ** 2 < 1] = 40
    volume[:, 86:89, 20:108] = 300
    for middle in (44, 80):
        lung = ((y - 46) / 16) ** 2 + ((x - middle) / 12) ** 2 + ((z - 10) / 8) ** 2 < 1
        volume[lung] = -850
    noise = np.random.default_rng(0).normal(0, 10, shape)
    return picture(volume + noise, spacing, (0.0, 0.0, 0.0), LPS, image_type="CT")


def test_the_body_is_what_scikit_image_finds_and_has_no_table():
    volume = trunk()
    mask = body(volume.array[0], -500.0)
    labels = measure.label(volume.array[0] > -500)
    regions = sorted(measure.regionprops(labels), key=lambda region: -region.area)
    z0, r0, c0, z1, r1, c1 = regions[0].bbox
    found = step(volume, "crop_body", above=-500.0)
    assert found.array.shape[1:] == (z1 - z0, r1 - r0, c1 - c0)
    assert found.grid.offset.tolist() == [z0, r0, c0]
    assert mask[10, 46, 44]  # a lung is inside
    assert not mask[:, 87].any()
    # A wire between the two does not make them one.
    wired = np.array(volume.array[0])
    wired[:, 78:88, 62] = 300.0
    assert not body(wired, -500.0)[:, 87].any()
    blank = step(volume, "crop_body", above=-500.0, margin_mm=30.0, blank=True)
    assert blank.array.shape[2] == r1 - r0 + (10 if r0 >= 10 else r0) + min(10, 96 - r1)
    assert (blank.array[0, :, 0] == volume.array.min()).all()


def test_the_lungs_of_a_ct_are_cut_out_with_their_margin():
    found = step(trunk(), "crop_lung", margin_mm=6.0)
    _, (z0, r0, c0), (d, h, w) = found, found.grid.offset, found.array.shape[1:]
    assert (r0, r0 + h) == (31 - 2, 62 + 2)
    assert (c0, c0 + w) == (33 - 2, 92 + 2)
    assert (z0, z0 + d) == (3 - 2, 18 + 2)
    full = np.full((4, 40, 40), 30.0)
    left = step(picture(full, image_type="CT"), "crop_lung")
    assert left.notes == ("no lungs found: not cropped",)
    assert left.array.shape[1:] == (4, 40, 40)


def test_the_dark_fields_of_a_film():
    y, x = np.mgrid[:200, :240]
    film = np.full((200, 240), 0.8)
    film[:, :20], film[:, -20:] = 0.0, 0.0  # air beside the body
    for middle in (80, 160):
        film[((y - 95) / 60) ** 2 + ((x - middle) / 28) ** 2 < 1] = 0.25
    film += np.random.default_rng(0).normal(0, 0.03, film.shape)
    found = step(picture(film, (np.nan, 1.0, 1.0), image_type="CR"), "crop_lung", margin_mm=0.0)
    _, top, left = found.grid.offset
    _, _, height, width = found.array.shape
    for got, want in ((top, 35), (top + height, 155), (left, 52), (left + width, 188)):
        assert abs(got - want) <= 5
    nothing = step(picture(np.random.default_rng(1).normal(size=(64, 64)), image_type="CR"), "crop_lung")
    assert nothing.notes == ("no lungs found: not cropped",)


@pytest.mark.parametrize("cut", [0, 40])
def test_the_disc_of_an_eye(cut):
    y, x = np.mgrid[:300, :400]
    disc = (y - 150) ** 2 + (x - 190) ** 2 < 120**2
    eye = np.where(disc, 100 + 0.2 * x, 1.0)[cut : 300 - cut]
    found = step(picture(np.stack([eye] * 3)[:, None]), "crop_circle")
    assert found.array.shape == (3, 1, 240, 240) if cut == 0 else abs(found.array.shape[2] - 240) <= 2
    middle = found.grid.file_index((0, 119.5, 119.5))
    assert abs(middle[1] - (149.5 - cut)) <= 1.5
    assert abs(middle[2] - 189.5) <= 1.5
    assert (found.array[:, 0, 0, 0] == 1).all()
    whole = step(picture(np.full((20, 20), 5.0) + np.eye(20)), "crop_circle")
    assert whole.notes == ("no disc with a dark rim: not cropped",)


# Recipes


def marked():
    """A volume with one bright voxel of known place; oblique, anisotropic, not square."""
    array = blobs((14, 60, 50)) * 5 + 50
    array[8:12, 36:45, 10:19] = 400.0
    angle = np.deg2rad(20)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])
    direction = turn @ LPS[:, [2, 0, 1]]  # a sagittal volume: slices run to the left, rows to the head
    direction[:, 1] *= -1  # rows run to the front
    return picture(array, (3.0, 0.8, 0.9), (-20.0, 35.0, 100.0), direction, image_type="MR")


CHAINS = [
    [],
    [{"step": "reorient"}, {"step": "resample", "spacing_mm": [1.0]}],
    [{"step": "crop_body", "above": 20.0, "margin_mm": 2.0}, {"step": "percentiles", "high": 100.0}],
    [{"step": "flip_breast"}, {"step": "pad", "least": 80}, {"step": "resize", "longest": 60}],
    [{"step": "bias_field", "order": 2}, {"step": "denoise_median"}, {"step": "reorient"}],
]


@pytest.mark.parametrize("steps", CHAINS)
@pytest.mark.parametrize(("volume", "size"), [("whole", (20, 48, 40)), ("slices", (64, 48)), ("whole", None)])
def test_a_prepared_pixel_knows_its_place_whatever_was_done(steps, volume, size):
    source = marked()
    recipe = Recipe("grey", steps_from_json(steps), size, volume, 64 if volume == "slices" else 1)
    found = prepare_picture(source, recipe)
    pixels = found.pixels[0, 0] if volume == "whole" else found.pixels[:, 0]
    assert found.pixels.dtype == np.float32
    assert found.pixels.min() >= 0
    assert found.pixels.max() <= 1
    bright = np.argwhere(pixels > 0.85).mean(axis=0)
    np.testing.assert_allclose(found.grid.file_index(bright), (9.5, 40, 14), atol=1.0)
    want = source.grid.patient_mm((9.5, 40, 14))
    assert np.linalg.norm(found.grid.patient_mm(bright) - want) < 2.5
    # A mask of the file lies where the pixels lie.
    mask = (source.array[0] == 400).astype(np.uint8)
    for nearest in (True, False):
        there = prepare_like(mask, found.grid, pixels.shape, nearest)
        assert there.shape == pixels.shape
        np.testing.assert_allclose(np.argwhere(there > 0.4).mean(axis=0), bright, atol=1.0)


def test_slices_are_evenly_spaced_in_the_middle_and_known():
    volume = np.stack([np.full((16, 16), float(z)) + blobs((16, 16)) * 0.01 for z in range(10)])
    found = prepare_picture(picture(volume, (2.0, 1.0, 1.0)), Recipe.of(size=16, volume="slices", slices=3))
    assert found.slices == (1.0, 4.0, 7.0)
    assert found.pixels.shape == (3, 1, 16, 16)
    assert found.grid.spacing_mm.tolist() == [6.0, 1.0, 1.0]
    np.testing.assert_allclose(found.pixels.mean(axis=(1, 2, 3)), np.array([0, 0.5, 1]), atol=0.02)
    assert prepare_picture(picture(volume), Recipe.of(size=16)).slices == (4.0,)
    assert prepare_picture(picture(volume), Recipe.of(size=16, volume="slices", slices=99)).pixels.shape[0] == 10


def test_slices_chosen_before_a_step_of_single_pixels_are_those_chosen_after():
    volume = trunk()
    steps = steps_from_json([{"step": "crop_body", "above": -500.0}, {"step": "window", "preset": "lung"}])
    early = prepare_picture(volume, Recipe.of(steps=steps, size=32))
    for _, last in stages(volume, Recipe.of(steps=steps, size=32, volume="whole")):
        late = last
    assert len(list(stages(volume, Recipe.of(steps=steps, size=32)))[-1][1].array[0]) == 1
    middle = late.array[0, (late.array.shape[1] - 1) // 2]
    want = prepare_picture(picture(middle), Recipe.of(steps=steps_from_json([{"step": "clip", "low": 0.0}]), size=32))
    assert np.abs(early.pixels[0, 0].mean() - np.clip(middle, 0, 1).mean() * 0.75) < 0.1
    assert want.pixels.shape == early.pixels.shape


def test_every_default_gives_pixels_of_its_image_type():
    volume = trunk()
    for image_type in ("CR", "DX", "MG", "CT", "MR", "US", "OP", None):
        source = volume if image_type == "CT" else picture(volume.array[:, 10:11], (np.nan, 1.0, 1.0))
        found = prepare_picture(source, Recipe.of(steps=default_steps(image_type), size=32))
        assert found.pixels.shape == (1, 1, 32, 32)
        assert found.pixels.max() > 0.5


def test_a_picture_with_other_channels_is_refused():
    with pytest.raises(ImageProblem, match="channels_differ"):
        prepare_picture(picture(np.eye(8)), Recipe(channels="rgb"))


def test_recipes_are_written_and_read_back_and_refuse_what_cannot_be():
    recipe = Recipe.of(("*t1*", "*t2*"), default_steps("MG"), 32, "slices", 5)
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe
    assert recipe.channel_count == 2
    for wrong in (
        {"size": (3, 3, 3)},
        {"volume": "whole", "size": (3, 3)},
        {"slices": 3},
        {"steps": steps_from_json([{"step": "percentiles"}, {"step": "window", "preset": "lung"}])},
    ):
        with pytest.raises(ValueError, match=r"size|slices|units"):
            Recipe(**wrong)
    for wrong in (
        {"step": "window", "centre": 4.0},
        {"step": "sharpen"},
        {"step": "percentiles", "low": 60.0, "high": 50.0},
        {"step": "match_histogram", "percentiles": [1.0, 99.0]},
        {"step": "resample", "spacing_mm": [0.0]},
        {"step": "clip"},
    ):
        with pytest.raises(ValueError, match=r"."):
            steps_from_json([wrong])
