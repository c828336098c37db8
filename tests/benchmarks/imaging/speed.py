"""From DICOM files to embeddings: the night's way against the plain one, side by side, at equal risks.

    python -m tests.benchmarks.imaging.speed [--members R] [--files N] [--rounds N] [--into FILE.json]

Plain, as a developer writes it first: pydicom's `pixel_array`, Pillow's resize, eager fp32 torch; one picture after
another, and in batches of 16. The night's: `score.images.NightImages` with nothing known, bf16. Both in turn, round by
round, in a process of its own that may use one core or two; start-up is not counted, files come from memory. Processor
seconds count all processes; by the clock a path of several processes gains on a busy machine, so read the load too.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless
from scipy import ndimage

from riskpred.config.network import ImageEncoder, NetworkConfig
from riskpred.features.image import EncodedImage
from riskpred.features.plan import FeaturePlan, ImagePlan
from riskpred.imaging.decode import Wanted, decode_one
from riskpred.imaging.prepare import HIGH_PERCENT, LOW_PERCENT, Prepared
from riskpred.model.layout import BASES, GroupGrid, Layout
from riskpred.model.network import SentOne
from riskpred.model.risk import RiskModel
from riskpred.records.chunk import ImageRow
from riskpred.score.images import NightImages

SIDE: Final = 2048
SIZE: Final = 224
SYNTAXES: Final = {"uncompressed": ExplicitVRLittleEndian, "rle": RLELossless, "jpeg2000": JPEG2000Lossless}
BATCHES: Final = (1, 16)
RIDGE: Final = 1.0
"""Share of the mean square of what a network sees: a head that follows each picture's grain would read noise."""
SPREAD: Final = 0.6
Array = NDArray[np.float32]


def write(folder: Path, files: int, names: Sequence[str]) -> NDArray[np.float64]:
    """`files` CR pictures of each syntax named, 12 of 16 bits; how bright the spot of each is. Shape: (files,)."""
    strength = np.zeros(files)
    for i in range(files):
        values, strength[i] = _drawn(i)
        for name, syntax in ((one, SYNTAXES[one]) for one in names):
            data = Dataset()
            data.file_meta = FileMetaDataset()
            data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", f"1.2.{i}"
            data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
            data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
            data.Modality, data.PhotometricInterpretation = "CR", "MONOCHROME2"
            data.Rows, data.Columns, data.PixelSpacing = SIDE, SIDE, [0.15, 0.15]
            data.SamplesPerPixel, data.PixelRepresentation = 1, 0
            data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
            data.PixelData = values.tobytes()
            if syntax != ExplicitVRLittleEndian:
                data.compress(syntax, generate_instance_uid=False)
            data.save_as(folder / f"{i}-{name}.dcm", enforce_file_format=True)
    return strength


def _drawn(seed: int) -> tuple[NDArray[np.uint16], float]:
    """A smooth ground, a bright spot, the grain of a detector."""
    rng = np.random.default_rng(seed)
    ground = ndimage.zoom(ndimage.gaussian_filter(rng.standard_normal((SIDE // 16, SIDE // 16)), 3), 16, order=1)
    ground = (ground - ground.min()) / np.ptp(ground)
    row, column = np.ogrid[:SIDE, :SIDE]
    at, strength = rng.uniform(0.3, 0.7, 2) * SIDE, rng.uniform(0.2, 1.5)
    spot = np.exp(-((row - at[0]) ** 2 + (column - at[1]) ** 2) / (2 * (SIDE / 20) ** 2))
    values = 300 + 2000 * ground + 900 * strength * spot + rng.standard_normal((SIDE, SIDE)) * 20
    return values.clip(0, 4095).astype(np.uint16), float(strength)


def made(members: int) -> RiskModel:
    """A ResNet18 a member, at random; its heads come later."""
    plan = FeaturePlan({"image": ImagePlan(("CR",), None, None, SIZE)})
    group = GroupGrid("one", ("a",), ("a", "death"), False, (1.0, 5.0), (0.0, 1.0, 2.0, 5.0))
    torch.manual_seed(0)
    config = NetworkConfig(encoders={"image": ImageEncoder(network="resnet18")}, members=members)
    return RiskModel(config, plan, Layout((group,), ("a",))).eval().requires_grad_(False)


def taught(model: RiskModel, pixels: Array, strength: NDArray[np.float64]) -> None:
    """Heads that read the spot's strength, by ridge regression on what each network sees; log-rates of SD SPREAD."""
    wanted = torch.from_numpy((strength - strength.mean()) / strength.std())
    for r in range(model.members):
        member = model.member(r)
        encoder = member.encoders["image"]
        encoder.location.fill_(float(pixels.mean()))  # type: ignore[operator]
        encoder.scale.fill_(float(pixels.std()))  # type: ignore[operator]
        seen = torch.cat([encoder.features(torch.from_numpy(one[None])) for one in pixels]).double()  # type: ignore[operator]
        middle, spread = seen.mean(dim=0), seen.std(dim=0).mean()
        gram = (seen - middle) @ (seen - middle).T / spread**2
        weight = (seen - middle).T @ torch.linalg.solve(
            gram + RIDGE * gram.diagonal().mean() * torch.eye(len(gram)), wanted
        )
        weight *= SPREAD / ((seen - middle) @ weight).std()
        head = encoder.to_coefficients
        head.weight.zero_()  # type: ignore[operator,union-attr]
        head.bias.zero_()  # type: ignore[operator,union-attr]
        head.weight[:1] = weight.float()  # type: ignore[index,union-attr,operator]
        head.bias[:1] = float(-(middle @ weight))  # type: ignore[index,union-attr,operator]
        member.baseline(0).fill_(-3.0)
        assert head.out_features == 2 * BASES


def plain_pixels(file: Path) -> Array:
    """One file as a developer prepares it by the study's recipe. Shape: (1, H, W)."""
    values = dcmread(file).pixel_array.astype(np.float32)
    small = np.asarray(Image.fromarray(values).resize((SIZE, SIZE), Image.Resampling.BOX))
    low, high = np.percentile(small, (LOW_PERCENT, HIGH_PERCENT))
    scaled: Array = np.clip((small - low) / (high - low), 0, 1).astype(np.float32)[None]
    return scaled


def plain(model: RiskModel, files: list[Path], batch: int) -> Array:
    """What each member says of each file. Shape: (T, R, V)."""
    found = []
    for first in range(0, len(files), batch):
        pixels = torch.from_numpy(np.stack([plain_pixels(file) for file in files[first : first + batch]]))
        with torch.no_grad():
            each = [model.member(r).encoders["image"].said(pixels) for r in range(model.members)]  # type: ignore[operator]
        found.append(torch.stack(each, dim=1).float().numpy())
    return np.concatenate(found)


def nightly(night: NightImages, root: Path, files: list[Path]) -> Array:
    """The same by the night's way. Shape: (T, R, V)."""
    rows = [ImageRow(str(i), i, 0, "CR", file.name, None, None) for i, file in enumerate(files)]
    found = night.sources["image"].encoded(rows, root)
    assert all(isinstance(one, EncodedImage) for one in found)
    return np.concatenate([one.sent for one in found if isinstance(one, EncodedImage)])


def risks(model: RiskModel, said: Array) -> NDArray[np.float64]:
    """Mean risk over members at every horizon. Shape: (T, R, V) -> (T, Q)."""
    each = torch.from_numpy(said).double().transpose(0, 1)
    many = model.layout.coefficients
    sent = {"image": SentOne(each[..., :many], each[..., many:-1])}
    present = {"image": torch.ones(each.shape[1], dtype=torch.bool)}
    found: NDArray[np.float64] = model.member_risks(sent, present).mean(dim=0).numpy()
    return found


def _processor() -> float:
    """Processor seconds of this process and all that it started and that still run."""
    me = psutil.Process()
    return sum(sum(one.cpu_times()[:2]) for one in (me, *me.children(recursive=True)))


def _timed(run: Callable[[], Array]) -> tuple[Array, float, float]:
    wall, own = time.perf_counter(), _processor()
    said = run()
    return said, time.perf_counter() - wall, _processor() - own


def measure(folder: Path, name: str, cores: int, members: int, rounds: int) -> dict[str, Any]:
    """One syntax on so many cores: milliseconds a picture of each way, and how far risks are apart."""
    strength = np.load(folder / "strength.npy")
    files = [folder / f"{i}-{name}.dcm" for i in range(len(strength))]
    torch.set_num_threads(cores)
    model = made(members)
    taught(model, np.stack([plain_pixels(file) for file in files]), strength)
    ways: dict[str, list[tuple[float, float]]] = {}
    said: dict[str, Array] = {}
    with NightImages(model, None, "bf16") as night:
        assert night.pool.workers == cores
        night.pool.start()
        legs: dict[str, Callable[[], Array]] = {"night": lambda: nightly(night, folder, files)}
        legs |= {f"plain, {n} at a time": lambda n=n: plain(model, files, n) for n in BATCHES}  # type: ignore[misc]
        nightly(night, folder, files[:16])
        plain(model, files[:2], 2)
        load = [os.getloadavg()[0]]
        for _ in range(rounds):
            for leg, run in legs.items():
                said[leg], *took = _timed(run)
                ways.setdefault(leg, []).append((took[0], took[1]))
        load.append(os.getloadavg()[0])
        notes = night.notes
    per = {
        leg: [1000 * float(np.median([one[k] for one in each])) / len(files) for k in (0, 1)]
        for leg, each in ways.items()
    }
    told = {leg: risks(model, one) for leg, one in said.items()}
    apart = {leg: float(np.abs(told[leg] - told["night"]).max()) for leg in per if leg != "night"}
    rounds_of = zip(*(ways[leg] for leg in ways), strict=True)
    ratios = [[min(one[k] for one in others) / night_[k] for k in (0, 1)] for night_, *others in rounds_of]
    return {
        "syntax": name,
        "cores": cores,
        "members": members,
        "files": len(files),
        "load": [round(one, 1) for one in load],
        "milliseconds_clock": {leg: round(one[0], 1) for leg, one in per.items()},
        "milliseconds_processor": {leg: round(one[1], 1) for leg, one in per.items()},
        "ratio_clock": [round(float(f([one[0] for one in ratios])), 2) for f in (np.min, np.median, np.max)],
        "ratio_processor": [round(float(f([one[1] for one in ratios])), 2) for f in (np.min, np.median, np.max)],
        "risk": [round(float(f(told["night"][:, -1])), 4) for f in (np.min, np.median, np.max)],
        "risk_apart": max(apart.values()),
        "parts": _parts(model, folder, files) if cores == 1 else {},
        "notes": list(notes),
    }


def _parts(model: RiskModel, folder: Path, files: list[Path]) -> dict[str, float]:
    """Processor milliseconds a picture of each part, by itself, in one process."""
    some = files[:16]
    plan = model.plan.modalities["image"]
    assert isinstance(plan, ImagePlan)
    found: dict[str, float] = {}

    def part(name: str, run: Callable[[], Any]) -> Any:
        before = time.process_time()
        result = run()
        found[name] = round(1000 * (time.process_time() - before) / len(some), 1)
        return result

    arrays = part("plain: pixel_array", lambda: [dcmread(file).pixel_array for file in some])
    part(
        "plain: resize",
        lambda: [Image.fromarray(one.astype(np.float32)).resize((SIZE, SIZE), Image.Resampling.BOX) for one in arrays],
    )
    pixels = np.stack([plain_pixels(file) for file in some])
    given = torch.from_numpy(pixels)
    with torch.no_grad():
        part("plain: networks", lambda: [member.encoders["image"].said(given) for member in _members(model)])  # type: ignore[operator]
    wanted = [Wanted(folder, file.name, plan.recipe_of("CR")) for file in some]
    prepared = part("night: decode and prepare", lambda: [decode_one(one).result for one in wanted])
    assert all(isinstance(one, Prepared) for one in prepared)
    with NightImages(model, None, "bf16", workers=0) as night:
        night.fast["image"].encode(pixels)
        part("night: networks", lambda: night.fast["image"].encode(pixels))
    return found


def _members(model: RiskModel) -> list[Any]:
    return [model.member(r) for r in range(model.members)]


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--members", type=int, default=2, help="networks a picture goes through")
    asked.add_argument("--files", type=int, default=32)
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--cores", type=int, nargs="*", default=[1, 2])
    asked.add_argument("--syntax", nargs="*", default=list(SYNTAXES))
    asked.add_argument("--into", type=Path, help="figures as JSON")
    asked.add_argument("--leg", type=Path, help=argparse.SUPPRESS)
    given = asked.parse_args()
    if given.leg is not None:
        found = measure(given.leg, given.syntax[0], given.cores[0], given.members, given.rounds)
        print(json.dumps(found))
        return
    results = []
    allowed = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as place:
        np.save(Path(place) / "strength.npy", write(Path(place), given.files, given.syntax))
        for syntax in given.syntax:
            for cores in given.cores:
                command = [sys.executable, "-m", __spec__.name, "--leg", place, "--syntax", syntax]
                command += ["--cores", str(cores), "--members", str(given.members), "--rounds", str(given.rounds)]
                # Set before anything is loaded, so that every thread and process of it keeps to these cores.
                mine = set(allowed[:cores])
                done = subprocess.run(
                    command,
                    stdout=subprocess.PIPE,
                    check=True,
                    text=True,
                    env={**os.environ, "OMP_NUM_THREADS": str(cores)},
                    preexec_fn=lambda mine=mine: os.sched_setaffinity(0, mine),  # type: ignore[misc]
                )
                results.append(json.loads(done.stdout.splitlines()[-1]))
                print(json.dumps(results[-1], indent=1), flush=True)
    if given.into is not None:
        given.into.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
