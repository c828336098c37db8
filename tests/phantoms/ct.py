"""Chest CT that is drawn: body, lungs, ribs, branching vessels, noise, and nodules whose place and size are known."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

AIR_HU, FAT_HU, MUSCLE_HU, BONE_HU, LUNG_HU, VESSEL_HU = -1000.0, -100.0, 45.0, 450.0, -860.0, 40.0


@dataclass(frozen=True)
class Nodule:
    """One lesion.   diameter_mm: its longest.   semi_axes_mm: along x, y, z.   index: slice, row, column of it."""

    x_mm: float
    y_mm: float
    z_mm: float
    diameter_mm: float
    semi_axes_mm: tuple[float, float, float]
    index: tuple[float, float, float]


@dataclass(frozen=True)
class CtPhantom:
    """array: (Z, H, W) int16, HU; axes run to the head, to the back, to the left of the patient (LPS).

    spacing_mm: slice, row, column.   origin_mm: x, y, z of the first voxel's centre.
    """

    array: NDArray[np.int16]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    nodules: tuple[Nodule, ...]

    def index(self, x: float, y: float, z: float) -> NDArray[np.float64]:
        """Slice, row, column of a place in the patient."""
        return (np.array([z, y, x]) - self.origin_mm[::-1]) / self.spacing_mm

    def mask(self) -> NDArray[np.uint8]:
        """1 where more than half a voxel is nodule. Shape: (Z, H, W)."""
        found = np.zeros(self.array.shape, np.uint8)
        for nodule in self.nodules:
            box, at = _box(self, (nodule.x_mm, nodule.y_mm, nodule.z_mm), max(nodule.semi_axes_mm))
            found[box] |= (_ellipsoid(at, nodule.semi_axes_mm) < 0).astype(np.uint8)
        return found


def ct_phantom(
    seed: int,
    nodules: int | None = None,
    shape: tuple[int, int, int] = (64, 112, 144),
    spacing_mm: tuple[float, float, float] = (2.0, 1.6, 1.6),
    diameters_mm: tuple[float, float] = (4.0, 20.0),
    noise_hu: float = 35.0,
) -> CtPhantom:
    """One scan, the same for the same arguments.

    Args:
        nodules: how many; None = 0 to 4, drawn.
        diameters_mm: least and greatest longest diameter; small ones are commoner, as in people.
    """
    draw = np.random.default_rng([seed, 20])
    origin = tuple(float(x) for x in draw.uniform(-250, -100, 3).round(1))
    phantom = CtPhantom(np.zeros(shape, np.int16), spacing_mm, (origin[0], origin[1], origin[2]), ())
    at = np.meshgrid(*(np.arange(n) * s for n, s in zip(shape, spacing_mm, strict=True)), indexing="ij", sparse=True)
    extent = np.array(shape) * spacing_mm
    hu, lungs = _chest(at, extent, draw)
    hu += 25 * _texture(shape, draw) * lungs
    for side in (0, 1):
        _vessels(hu, lungs, phantom, side, extent, draw)
    count = int(draw.integers(0, 5)) if nodules is None else nodules
    placed: list[Nodule] = []
    for _ in range(count):
        placed.append(_nodule(hu, lungs, phantom, placed, diameters_mm, draw))
    hu += draw.normal(0.0, noise_hu, shape)
    array = np.clip(hu, -1024, 3071).round().astype(np.int16)
    return CtPhantom(array, phantom.spacing_mm, phantom.origin_mm, tuple(placed))


def write_dicom_series(phantom: CtPhantom, folder: Path, subject: str = "phantom") -> None:
    """One file per slice, in no order of names, as a scanner's archive gives them."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    folder.mkdir(parents=True, exist_ok=True)
    study, series = generate_uid(entropy_srcs=[subject, "study"]), generate_uid(entropy_srcs=[subject, "series"])
    order = np.random.default_rng(len(phantom.array)).permutation(len(phantom.array))
    for name, z in enumerate(order):
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
        uid = generate_uid(entropy_srcs=[subject, str(z)])
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = uid
        data.StudyInstanceUID, data.SeriesInstanceUID, data.Modality = study, series, "CT"
        data.PatientID, data.PatientName, data.PatientPosition = subject, "", "HFS"
        data.InstanceNumber, data.BodyPartExamined = str(z + 1), "CHEST"
        x, y, low = phantom.origin_mm
        data.ImagePositionPatient = [round(v, 3) for v in (x, y, low + float(z) * phantom.spacing_mm[0])]
        data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        data.PixelSpacing, data.SliceThickness = list(phantom.spacing_mm[1:]), phantom.spacing_mm[0]
        data.RescaleSlope, data.RescaleIntercept = 1, -1024
        data.Rows, data.Columns = phantom.array.shape[1:]
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
        data.PixelData = (phantom.array[z].astype(np.int32) + 1024).astype("<u2").tobytes()
        data.save_as(folder / f"{name:04d}.dcm", enforce_file_format=True)


def write_metaimage(phantom: CtPhantom, path: Path) -> None:
    """PATH.mhd with its PATH.raw beside it, as LUNA16 gives its scans."""
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = path.with_suffix(".raw")
    raw.write_bytes(phantom.array.astype("<i2").tobytes())
    depth, height, width = phantom.array.shape
    lines = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": " ".join(f"{value:g}" for value in phantom.origin_mm),
        "CenterOfRotation": "0 0 0",
        "AnatomicalOrientation": "RAI",
        "ElementSpacing": " ".join(f"{value:g}" for value in phantom.spacing_mm[::-1]),
        "DimSize": f"{width} {height} {depth}",
        "ElementType": "MET_SHORT",
        "ElementDataFile": raw.name,
    }
    path.with_suffix(".mhd").write_text("".join(f"{key} = {value}\n" for key, value in lines.items()))


def _chest(
    at: list[NDArray[np.float64]], extent: NDArray[np.float64], draw: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """HU without vessels and nodules, and the share of each voxel that is lung."""
    z, y, x = at
    depth, height, width = extent
    vary = draw.uniform(0.95, 1.05, 8)
    body = _tube(y, x, (height * 0.5, width * 0.5), (height * 0.46 * vary[0], width * 0.47 * vary[1]))
    skin = height * 0.05 * vary[2]
    hu = np.full(tuple(len(a.ravel()) for a in at), AIR_HU)
    hu += _share(body) * (FAT_HU - AIR_HU) + _share(body + skin) * (MUSCLE_HU - FAT_HU)
    lungs = np.zeros_like(hu)
    for side in (-1, 1):
        middle = (depth * 0.48, height * 0.5, width * (0.5 + side * 0.215 * vary[3]))
        axes = (depth * 0.62 * vary[4], height * 0.33 * vary[5], width * 0.165 * vary[6])
        lungs = np.maximum(lungs, _share(_ball(at, middle, axes)))
    hu += lungs * (LUNG_HU - hu)
    spine = _share(_tube(y, x, (height * 0.78, width * 0.5), (height * 0.07, height * 0.08)))
    hu += spine * (1 - lungs) * (BONE_HU - hu)
    # Ribs: bright arcs just outside the lungs, at slices of their own.
    arc = np.abs(_tube(y, x, (height * 0.5, width * 0.5), (height * 0.385 * vary[0], width * 0.405 * vary[1]))) - 3.0
    bands = np.abs((z + 10 * vary[7] + 0.15 * np.abs(y - height * 0.5)) % 26.0 - 13.0) - 4.0
    hu += _share(np.maximum(arc, bands)) * (1 - lungs) * (BONE_HU - hu)
    return hu, lungs


def _vessels(
    hu: NDArray[np.float64],
    lungs: NDArray[np.float64],
    phantom: CtPhantom,
    side: int,
    extent: NDArray[np.float64],
    draw: np.random.Generator,
) -> None:
    """A tree from the hilum outwards, branches thinner from fork to fork."""
    start = extent * (0.5, 0.52, 0.40 if side == 0 else 0.60)
    outwards = np.array([0.0, 0.0, -1.0 if side == 0 else 1.0])
    growing = [(start, outwards + draw.normal(0, 0.6, 3), 4.0) for _ in range(7)]
    while growing:
        here, heading, radius = growing.pop()
        for _ in range(int(draw.integers(3, 6))):
            heading = heading / np.linalg.norm(heading) + draw.normal(0, 0.25, 3)
            there = here + heading / np.linalg.norm(heading) * draw.uniform(5, 8)
            index = np.floor(there / phantom.spacing_mm).astype(int)
            if (index < 0).any() or (index >= hu.shape).any() or (lungs[tuple(index)] < 0.5 and radius < 3.0):
                break
            _capsule(hu, lungs, phantom.spacing_mm, here, there, radius)
            here = there
        else:
            if radius > 0.9:
                growing += [
                    (here, heading + draw.normal(0, 0.6, 3), radius * draw.uniform(0.62, 0.8)) for _ in range(2)
                ]


def _capsule(
    hu: NDArray[np.float64],
    lungs: NDArray[np.float64],
    spacing_mm: tuple[float, float, float],
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    radius: float,
) -> None:
    low = np.maximum(0, np.floor((np.minimum(a, b) - radius - 2) / spacing_mm)).astype(int)
    high = np.ceil((np.maximum(a, b) + radius + 2) / spacing_mm).astype(int) + 1
    box = tuple(slice(p, q) for p, q in zip(low, high, strict=True))
    part = hu[box]
    at = [(np.arange(n) + p) * s for n, p, s in zip(part.shape, low, spacing_mm, strict=True)]
    points = np.stack(np.meshgrid(*at, indexing="ij"), -1) - a
    along = np.clip(points @ (b - a) / ((b - a) @ (b - a)), 0, 1)
    distance = np.linalg.norm(points - along[..., None] * (b - a), axis=-1) - radius
    part += _share(distance) * lungs[box] * np.maximum(VESSEL_HU - part, 0.0)


def _nodule(
    hu: NDArray[np.float64],
    lungs: NDArray[np.float64],
    phantom: CtPhantom,
    others: list[Nodule],
    diameters_mm: tuple[float, float],
    draw: np.random.Generator,
) -> Nodule:
    """A sphere, or in one of three an ellipsoid, in the lung: free, at a vessel, or at the wall; never at another."""
    low, high = diameters_mm
    diameter = float(low * (high / low) ** draw.uniform())
    ratios = draw.uniform(0.65, 1.0, 2) if draw.uniform() < 1 / 3 else np.ones(2)
    axes = draw.permutation(np.array([1.0, *ratios])) * diameter / 2
    density = float(draw.uniform(-100.0, 80.0))
    inside = np.argwhere(lungs > 0.95)
    while True:
        index = inside[draw.integers(len(inside))] + draw.uniform(-0.5, 0.5, 3)
        x, y, z = (phantom.origin_mm + index[::-1] * phantom.spacing_mm[::-1]).tolist()
        rim = np.round(diameter / 2 / np.array(phantom.spacing_mm)).astype(int) + 1
        if (index < rim).any() or (index + rim >= hu.shape).any():
            continue
        apart = [np.hypot(np.hypot(x - o.x_mm, y - o.y_mm), z - o.z_mm) - o.diameter_mm / 2 for o in others]
        if any(gap < diameter / 2 + 6.0 for gap in apart):
            continue
        box, at = _box(phantom, (x, y, z), float(axes.max()))
        share = _share(_ellipsoid(at, (axes[0], axes[1], axes[2])))
        # Mostly in the lung: what lies in the wall cannot be told from it.
        if (share * lungs[box]).sum() < 0.98 * share.sum():
            continue
        hu[box] += share * (density - hu[box])
        return Nodule(x, y, z, diameter, (axes[0], axes[1], axes[2]), (index[0], index[1], index[2]))


def _box(
    phantom: CtPhantom, middle_mm: tuple[float, float, float], reach_mm: float
) -> tuple[tuple[slice, ...], list[NDArray[np.float64]]]:
    """Voxels around a place, and their distance from it along z, y, x in mm."""
    index = phantom.index(*middle_mm)
    reach = (reach_mm + 3.0) / np.array(phantom.spacing_mm)
    low = np.maximum(0, np.floor(index - reach)).astype(int)
    high = np.minimum(phantom.array.shape, np.ceil(index + reach).astype(int) + 1)
    at = [(np.arange(p, q) - i) * s for p, q, i, s in zip(low, high, index, phantom.spacing_mm, strict=True)]
    return tuple(slice(p, q) for p, q in zip(low, high, strict=True)), list(
        np.meshgrid(*at, indexing="ij", sparse=True)
    )


def _ellipsoid(at: list[NDArray[np.float64]], semi_axes_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """About the distance from its surface, mm, below 0 inside; `at` is z, y, x, the axes x, y, z."""
    z, y, x = at
    a, b, c = semi_axes_mm
    radius = np.maximum(np.sqrt((x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2), 1e-6)
    steep = np.sqrt((x / a**2) ** 2 + (y / b**2) ** 2 + (z / c**2) ** 2)
    return radius * (radius - 1) / np.maximum(steep, 1e-9)


def _ball(
    at: list[NDArray[np.float64]], middle: tuple[float, float, float], axes: tuple[float, float, float]
) -> NDArray[np.float64]:
    z, y, x = (a - m for a, m in zip(at, middle, strict=True))
    return _ellipsoid([z, y, x], axes[::-1])


def _tube(
    y: NDArray[np.float64], x: NDArray[np.float64], middle: tuple[float, float], axes: tuple[float, float]
) -> NDArray[np.float64]:
    radius = np.sqrt(((y - middle[0]) / axes[0]) ** 2 + ((x - middle[1]) / axes[1]) ** 2)
    return (radius - 1) * min(axes)


def _share(distance_mm: NDArray[np.float64], blur_mm: float = 1.6) -> NDArray[np.float64]:
    """Share of a voxel that lies inside a surface at this distance, as a scanner blurs it."""
    return np.clip(0.5 - distance_mm / blur_mm, 0.0, 1.0)


def _texture(shape: tuple[int, int, int], draw: np.random.Generator) -> NDArray[np.float64]:
    from scipy.ndimage import gaussian_filter

    found = gaussian_filter(draw.normal(size=shape), 1.5)
    return found / found.std()
