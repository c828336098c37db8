"""Chest CT phantoms in the layouts of LUNA16 and of LIDC-IDRI with its readings."""

import csv
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from pydicom.uid import generate_uid

from tests.phantoms.ct import CtPhantom, Nodule, ct_phantom, write_dicom_series, write_metaimage

SHAPE = (32, 64, 80)
SPACING_MM = (4.0, 2.8, 2.8)
"""A chest in so few voxels that a test can afford several."""


def _scans(people: int, seed: int, nodules: int | None = None) -> list[CtPhantom]:
    """Every third scan has no nodule, so that both answers are there."""
    counts = [0 if number % 3 == 2 else (nodules or 1 + number % 3) for number in range(people)]
    return [
        ct_phantom(seed * 1000 + n, count, SHAPE, SPACING_MM, diameters_mm=(8.0, 20.0))
        for n, count in enumerate(counts)
    ]


def write_luna16(folder: Path, people: int, seed: int) -> dict[str, CtPhantom]:
    """subset0/ and subset1/<seriesuid>.mhd, annotations.csv; the scans by seriesuid."""
    scans = {f"1.3.6.1.4.1.14519.5.2.1.6279.6001.{10**17 + n}": one for n, one in enumerate(_scans(people, seed))}
    folder.mkdir(parents=True)
    with (folder / "annotations.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["seriesuid", "coordX", "coordY", "coordZ", "diameter_mm"])
        for number, (uid, scan) in enumerate(scans.items()):
            write_metaimage(scan, folder / f"subset{number % 2}" / f"{uid}.mhd")
            for one in scan.nodules:
                table.writerow([uid, one.x_mm, one.y_mm, one.z_mm, one.diameter_mm])
    return scans


def write_lidc(folder: Path, people: int, seed: int) -> dict[str, CtPhantom]:
    """LIDC-IDRI/<patient>/<study>/<series>/ with slices and the readings of four; the scans by patient."""
    rng, scans = np.random.default_rng(seed), {}
    for number, scan in enumerate(_scans(people, seed)):
        patient = f"LIDC-IDRI-{number + 1:04d}"
        series = (
            folder / "LIDC-IDRI" / patient / f"01-01-2000-NA-NA-{30000 + number}" / f"{3000000 + number}.000000-NA-1"
        )
        write_dicom_series(scan, series, patient)
        (series / f"{number:03d}.xml").write_text(_reading(scan, patient, rng))
        scans[patient] = scan
    return scans


def _reading(scan: CtPhantom, patient: str, rng: np.random.Generator) -> str:
    """The message of four readers; each nodule is seen by two to four, in outlines that differ a little."""
    readers = [rng.permutation(4)[: rng.integers(2, 5)] for _ in scan.nodules]
    sessions = []
    for reader in range(4):
        seen = "".join(
            _nodule(scan, one, f"{reader}-{n}", patient, rng)
            for n, one in enumerate(scan.nodules)
            if reader in readers[n]
        )
        sessions.append(f"<readingSession><annotationVersion>3.12</annotationVersion>{seen}</readingSession>")
    uid = generate_uid(entropy_srcs=[patient, "series"])
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<LidcReadMessage xmlns="http://www.nih.gov"><ResponseHeader>'
        f"<SeriesInstanceUid>{uid}</SeriesInstanceUid></ResponseHeader>{''.join(sessions)}</LidcReadMessage>\n"
    )


def _nodule(scan: CtPhantom, one: Nodule, name: str, patient: str, rng: np.random.Generator) -> str:
    slice_, row, col = one.index
    radii = np.array(one.semi_axes_mm[::-1]) / np.array(scan.spacing_mm) * rng.uniform(0.95, 1.1)
    rois = []
    for z in range(int(np.ceil(slice_ - radii[0])), int(np.floor(slice_ + radii[0])) + 1):
        share = np.sqrt(max(0.05, 1.0 - ((z - slice_) / radii[0]) ** 2))
        angles = np.linspace(0, 2 * np.pi, 13)
        edges = "".join(
            f"<edgeMap><xCoord>{round(col + radii[2] * share * np.cos(a))}</xCoord>"
            f"<yCoord>{round(row + radii[1] * share * np.sin(a))}</yCoord></edgeMap>"
            for a in angles
        )
        sop = generate_uid(entropy_srcs=[patient, str(z)])
        height = round(scan.origin_mm[2] + z * scan.spacing_mm[0], 3)
        rois.append(
            f"<roi><imageZposition>{height}</imageZposition><imageSOP_UID>{escape(str(sop))}</imageSOP_UID>"
            f"<inclusion>TRUE</inclusion>{edges}</roi>"
        )
    grade = int(np.clip(round(one.diameter_mm / 4.0 + rng.normal(0, 0.4)), 1, 5))
    said = f"<characteristics><subtlety>5</subtlety><malignancy>{grade}</malignancy></characteristics>"
    return f"<unblindedReadNodule><noduleID>{name}</noduleID>{said}{''.join(rois)}</unblindedReadNodule>"
