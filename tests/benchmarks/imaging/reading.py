"""Thousands of damaged image files: each is read or rejected with a reason, none takes a gigabyte of memory.

    python -m tests.benchmarks.imaging.reading [--files 2000] [--seed 1]

The files are mutated from those in pydicom's wheel and from some made here (enhanced multi-frame, NIfTI, MetaImage,
TIFF): bits flipped, cut off, headers that lie (sizes, counts and lengths set to extremes), and bombs. Programs of
their own read them, as the decoding workers of a night do, both whole and by the quick path; each reports the most
memory that each file took. A program that dies is counted, and another one goes on behind the file it died of.
"""

import argparse
import gzip
import io
import json
import random
import resource
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from pydicom.encaps import encapsulate

LIMIT_BYTES = 10**9
KINDS = ("bit flips", "truncation", "lying headers", "bombs")
_ELEMENTS = (
    *((0x0028, 0x0010), (0x0028, 0x0011), (0x0028, 0x0008), (0x0028, 0x0002), (0x0028, 0x0100), (0x0028, 0x0101)),
    *((0x0028, 0x0103), (0x0028, 0x0006), (0x7FE0, 0x0010), (0x0028, 0x0030), (0x0020, 0x0032), (0x0020, 0x0037)),
    *((0x0028, 0x1052), (0x0028, 0x1053), (0x0002, 0x0000), (0x5200, 0x9230), (0x0028, 0x0120)),
)
_EXTREMES = (0, 1, 7, 0x7FFF, 0xFFFF, 60_000, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF, 0x80000000)


def seeds() -> list[bytes]:
    """Whole files to damage: every image in pydicom's wheel of at most 200 kB, and other formats."""
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    found = []
    for path in sorted(folder.glob("*.dcm")):
        data = path.read_bytes()
        if (len(data) <= 200_000 and b"\xe0\x7f\x10\x00" in data) or b"\x7f\xe0\x00\x10" in data[:200_000]:
            found.append(data)
    return [*found, *_others()]


def _others() -> Iterator[bytes]:
    volume = np.arange(4 * 8 * 6, dtype=np.int16).reshape(4, 8, 6)
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, 3, 6, 8, 4, 1, 1, 1, 1)
    struct.pack_into("<2h", head, 70, 4, 16)
    struct.pack_into("<8f", head, 76, 1, 0.5, 0.5, 2, 0, 0, 0, 0)
    struct.pack_into("<f", head, 108, 352)
    head[344:348] = b"n+1\0"
    yield bytes(head) + volume.tobytes()
    yield gzip.compress(bytes(head) + volume.tobytes())
    text = "ObjectType = Image\nNDims = 3\nDimSize = 6 8 4\nElementType = MET_SHORT\nElementSpacing = .5 .5 2\n"
    yield (text + "ElementDataFile = LOCAL\n").encode() + volume.tobytes()
    yield (text + "CompressedData = True\nElementDataFile = LOCAL\n").encode() + zlib.compress(volume.tobytes())
    for compression in (None, "tiff_lzw", "tiff_adobe_deflate"):
        stream = io.BytesIO()
        pages = [Image.fromarray(page.astype(np.uint16)) for page in volume]
        pages[0].save(stream, format="TIFF", save_all=True, append_images=pages[1:], compression=compression)
        yield stream.getvalue()


def flipped(data: bytes, chance: random.Random) -> bytes:
    """Some bits turned over, most of them near the start, where headers are."""
    damaged = bytearray(data)
    for _ in range(chance.randint(1, 24)):
        end = len(data) if chance.random() < 0.4 else min(len(data), 1500)
        damaged[chance.randrange(end)] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def cut(data: bytes, chance: random.Random) -> bytes:
    """Cut off somewhere; half of them with something else behind."""
    kept = data[: chance.randrange(len(data))]
    return kept if chance.random() < 0.5 else kept + chance.randbytes(chance.randint(1, 2000))


def lying(data: bytes, chance: random.Random) -> bytes:
    """Values and lengths of elements (or, in other formats, words of the header) set to extremes."""
    damaged = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        extreme = chance.choice(_EXTREMES)
        group, element = chance.choice(_ELEMENTS)
        at = data.find(struct.pack("<HH", group, element))
        if at < 0 or at + 12 > len(data):
            at = chance.randrange(min(len(data), 400) - 8)
        where = at + chance.choice((4, 6, 8, 8, 8))
        width = chance.choice((2, 4))
        damaged[where : where + width] = (extreme & (256**width - 1)).to_bytes(width, "little")
    return bytes(damaged)


def bomb(chance: random.Random) -> bytes:
    """A small file that would be a large picture."""
    side = chance.choice((9_000, 12_000, 16_384, 40_000, 65_500))
    kind = chance.randrange(8)
    if kind == 0:
        return dicom_of("1.2.840.10008.1.2.5", side, encapsulate([_rle(b"\x81\0" * chance.randint(1, 400_000))]))
    if kind == 1:
        frame = j2k_of(chance.choice((side, 2**31 - 1)), chance.choice((1, 64, side)))
        return dicom_of("1.2.840.10008.1.2.4.90", chance.choice((64, side)), encapsulate([frame]))
    if kind == 2:
        stream = io.BytesIO()
        Image.new("L", (8, 8)).save(stream, "JPEG")
        frame = bytearray(stream.getvalue())
        at = frame.find(b"\xff\xc0")
        frame[at + 5 : at + 9] = struct.pack(">HH", min(side, 65_500), min(side, 65_500))
        return dicom_of("1.2.840.10008.1.2.4.50", chance.choice((8, side)), encapsulate([bytes(frame)]))
    if kind == 3:
        packer = zlib.compressobj(wbits=-15)
        packed = packer.compress(b"\x08\0\x05\0CS\0\0" + b"\0" * 2**24 * chance.randint(1, 8)) + packer.flush()
        return dicom_of("1.2.840.10008.1.2.1.99", 64, b"")[:-12] + packed
    if kind == 4:
        head = bytearray(next(_others())[:352])
        struct.pack_into("<8h", head, 40, 3, *(chance.choice((512, 2_000, 32_767)) for _ in range(3)), 1, 1, 1, 1)
        return gzip.compress(bytes(head) + b"\0" * 2**20 * chance.randint(1, 64), compresslevel=1)
    if kind == 5:
        many = b"".join(
            struct.pack("<HHI", 9, 0x1000 + at % 0xE000, 0) for at in range(chance.randint(1, 12) * 100_000)
        )
        item = b"\xfe\xff\x00\xe0" + struct.pack("<I", 0xFFFFFFFF) + many
        return dicom_of("1.2.840.10008.1.2", 64, b"\0" * 4096, b"\x08\0\x40\x11" + struct.pack("<I", 0xFFFFFFFF) + item)
    if kind == 6:
        chunks = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))]
        chunks += [(b"IDAT", zlib.compress(b"\0" * 10**6)), (b"IEND", b"")]
        body = b"".join(struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks)
        return b"\x89PNG\r\n\x1a\n" + body
    depth = chance.choice((200, 900, 5_000))
    return dicom_of(
        "1.2.840.10008.1.2", 64, b"\0" * 4096, (b"\x08\0\x40\x11\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff") * depth
    )


def _rle(segment: bytes) -> bytes:
    return struct.pack("<16I", 1, 64, *([0] * 14)) + segment


def j2k_of(side: int, tile: int) -> bytes:
    size = struct.pack(">HIIIIIIIIHBBB", 0, side, side, 0, 0, tile, tile, 0, 0, 1, 7, 1, 1)
    return b"\xff\x4f\xff\x51" + struct.pack(">H", len(size) + 2) + size + b"\xff\xd9"


def dicom_of(syntax: str, side: int, pixels: bytes, before: bytes = b"") -> bytes:
    """A file of one grey frame of 8 bits, as short as can be."""
    explicit = syntax != "1.2.840.10008.1.2"

    def element(group: int, number: int, kind: str, value: bytes) -> bytes:
        value += b"\0" * (len(value) % 2)
        head = struct.pack("<HH", group, number)
        if not explicit and group != 2:
            return head + struct.pack("<I", len(value)) + value
        if kind in ("OB", "OW"):
            return head + kind.encode() + b"\0\0" + struct.pack("<I", len(value)) + value
        return head + kind.encode() + struct.pack("<H", len(value)) + value

    meta = element(2, 0x10, "UI", syntax.encode())
    data = before + element(0x28, 2, "US", struct.pack("<H", 1)) + element(0x28, 4, "CS", b"MONOCHROME2 ")
    for number, value in ((0x10, side), (0x11, side), (0x100, 8), (0x101, 8), (0x102, 7), (0x103, 0)):
        data += element(0x28, number, "US", struct.pack("<H", value & 0xFFFF))
    last = element(0x7FE0, 0x10, "OB", pixels)
    if syntax.startswith("1.2.840.10008.1.2.") and syntax[18:] not in ("1", "2", "1.99"):
        last = last[:8] + b"\xff\xff\xff\xff" + last[12:] + b"\xfe\xff\xdd\xe0\0\0\0\0"
    return b"\0" * 128 + b"DICM" + element(2, 0, "UL", struct.pack("<I", len(meta))) + meta + data + last


def mutated(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Kind and bytes of each file: a sixteenth bombs, the rest in equal parts."""
    chance, whole = random.Random(seed), seeds()
    makers = (flipped, cut, lying)
    for at in range(count):
        if at % 16 == 15:
            yield KINDS[3], bomb(chance)
        else:
            yield KINDS[at % 3], makers[at % 3](chance.choice(whole), chance)


def one(path: Path) -> dict[str, Any]:
    """What became of one file, read in this process, and the most memory it took."""
    from riskpred.imaging.paths import ImageProblem
    from riskpred.imaging.read import read_image, read_picture

    Path("/proc/self/clear_refs").write_text("5")  # the most memory is counted anew
    started, said = time.monotonic(), dict[str, Any]()
    for name, read in (("picture", lambda: read_picture(path)), ("image", lambda: read_image(path, 128))):
        try:
            array = read().array
            said[name] = "read" if np.isfinite(array).all() else "NOT FINITE"
        except ImageProblem as problem:
            said[name] = problem.reason
        except BaseException as error:  # noqa: BLE001 - the very thing that is counted here
            said[name] = f"RAISED {type(error).__name__}"
    status = Path("/proc/self/status").read_text()
    peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024
    return {**said, "peak": peak, "seconds": time.monotonic() - started}


def work(folder: Path, first: int, count: int) -> None:
    """In a program of its own: one line of JSON per file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import nibabel  # noqa: F401 - loaded before memory is counted

    for at in range(first, count):
        print(json.dumps({"at": at, **one(folder / str(at))}), flush=True)


def read_all(folder: Path, count: int) -> list[dict[str, Any]]:
    """Every file, by as many programs as it takes."""
    results = list[dict[str, Any]]()
    while len(results) < count:
        command = [sys.executable, "-m", "tests.benchmarks.imaging.reading"]
        told = [*command, "--work", str(folder), str(len(results)), str(count)]
        done = subprocess.run(told, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
        results += [json.loads(line) for line in done.stdout.splitlines()]
        if len(results) < count:
            results.append({"at": len(results), "picture": "DIED", "image": "DIED", "peak": 0, "seconds": 0.0})
    return results


def run(count: int, seed: int) -> dict[str, Any]:
    """Make the files, read them, and say what became of them."""
    with tempfile.TemporaryDirectory() as name:
        folder, kinds = Path(name), list[str]()
        for at, (kind, data) in enumerate(mutated(count, seed)):
            (folder / str(at)).write_bytes(data)
            kinds.append(kind)
        results = read_all(folder, count)
    bad = [
        one for one in results if any(one[way].isupper() or one[way][:6] == "RAISED" for way in ("picture", "image"))
    ]
    return {
        "files": count,
        "kinds": Counter(kinds),
        "picture": Counter(one["picture"] for one in results),
        "image": Counter(one["image"] for one in results),
        "neither read nor rejected": [(one["at"], kinds[one["at"]], one["picture"], one["image"]) for one in bad],
        "most memory, MB": max(one["peak"] for one in results) / 1e6,
        "most memory by kind, MB": {
            kind: max(one["peak"] for one, its in zip(results, kinds, strict=True) if its == kind) / 1e6
            for kind in sorted(set(kinds))
        },
        "over 1 GB": sum(one["peak"] > LIMIT_BYTES for one in results),
        "slowest, seconds": max(one["seconds"] for one in results),
    }


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    told = parser.parse_args(arguments)
    if told.work:
        work(Path(told.work[0]), int(told.work[1]), int(told.work[2]))
        return 0
    found = run(told.files, told.seed)
    print(json.dumps(found, indent=1))
    return int(bool(found["neither read nor rejected"]) or found["over 1 GB"] > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
