"""Damaged images, archives and weights by the million: each is used, or refused in one sentence.

``make fuzz`` runs this for ``FUZZ_SECONDS``; ``tests/test_fuzz.py`` runs the first seeds of each kind. A case is a kind
and a seed: ``python tests/fuzzing.py --kind zip --first 17 --count 1`` tries one again.
"""

from __future__ import annotations

import argparse
import faulthandler
import itertools
import multiprocessing
import random
import resource
import sys
import tarfile
import tempfile
import time
import traceback
import unicodedata
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from safetensors.torch import save
from support.pictures import encoded, picture
from torch import nn

from zfkernels.data import UnreadableImageError, open_source
from zfkernels.models import get_model

LONGEST = 60.0  # seconds of one case
ROUND = 100  # cases of one process
IMAGES = 6  # of an archive


def network() -> nn.Module:
    """What the weights are for."""
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2))


# How each kind looks when it is whole ------------------------------------------------------------------------------


@cache
def whole_images() -> list[bytes]:
    kinds = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF")
    modes = (encoded(picture(mode=mode)) for mode in ("1", "L", "LA", "P", "RGBA"))
    lzw = encoded(picture(40, 30), "TIFF", compression="tiff_lzw")
    return [*(encoded(picture(40, 30), kind) for kind in kinds), *modes, lzw]


@cache
def whole_zips() -> list[bytes]:
    found = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        file = BytesIO()
        with zipfile.ZipFile(file, "w", method) as archive:
            for n in range(IMAGES):
                archive.writestr(f"{'ab'[n % 2]}/{n}.png", encoded(picture(seed=n)))
            archive.comment = b"comment" * (method == zipfile.ZIP_DEFLATED)
        found.append(file.getvalue())
    return found


@cache
def whole_tars() -> list[bytes]:
    found = []
    for kind, mode in ((tarfile.GNU_FORMAT, "w"), (tarfile.PAX_FORMAT, "w"), (tarfile.GNU_FORMAT, "w:gz"),
                       (tarfile.PAX_FORMAT, "w:bz2"), (tarfile.USTAR_FORMAT, "w:xz")):  # fmt: skip
        file = BytesIO()
        with tarfile.open(fileobj=file, mode=mode, format=kind) as archive:
            for n in range(IMAGES - 1):
                long = "folder/" * 20 if n == 1 and kind != tarfile.USTAR_FORMAT else ""
                member = tarfile.TarInfo(f"{'ab'[n % 2]}/{long}{n}.png")
                data = encoded(picture(seed=n))
                member.size = len(data)
                archive.addfile(member, BytesIO(data))
            link = tarfile.TarInfo("a/link.png")
            link.type, link.linkname = tarfile.SYMTYPE, "0.png"
            archive.addfile(link)
        found.append(file.getvalue())
    return found


@cache
def whole_weights(kind: str) -> list[bytes]:
    torch.manual_seed(0)
    state = network().state_dict()
    if kind == "safetensors":
        return [save(state), save(state, {"options": '{"num_classes": 3, "units": [1, 2]}'})]
    found = []
    for content in (state, {"state_dict": state, "epoch": 3}):
        file = BytesIO()
        torch.save(content, file, _use_new_zipfile_serialization=kind == "pt")
        found.append(file.getvalue())
    return found


# What happens to it --------------------------------------------------------------------------------------------------


def damaged(whole: list[bytes], generator: random.Random) -> bytes:
    """One of the files after one to eight changes."""
    data = bytearray(generator.choice(whole))
    for _ in range(generator.randint(1, 8)):
        if not data:
            break
        at, change = generator.randrange(len(data)), generator.random()
        if change < 0.4:
            data[at] = generator.randrange(256)
        elif change < 0.6:
            data[at] ^= 1 << generator.randrange(8)
        elif change < 0.8:  # a length, a count, an offset
            size = generator.choice((1, 2, 4, 8))
            value = generator.choice((0, 1, -1, -(1 << 8 * size - 1), (1 << 8 * size - 1) - 1))
            data[at : at + size] = value.to_bytes(size, generator.choice(("little", "big")), signed=True)
        elif change < 0.85:
            del data[at:]
        elif change < 0.9:
            del data[at : at + generator.randint(1, 600)]
        elif change < 0.95:
            data[at:at] = data[generator.randrange(len(data)) :][: generator.randint(1, 600)]
        else:
            other = generator.choice(whole)
            start = generator.randrange(len(other))
            data[at : at + 64] = other[start : start + 64]
    return bytes(data)


# What has to hold ----------------------------------------------------------------------------------------------------


def use_images(path: Path) -> str:
    """The outcome of opening an image or an archive and reading all that it holds."""
    try:
        source = open_source(path)
    except ValueError as error:
        return _sentence(error, "open_source: expected data ")
    shown = [*source.keys, *(text for pair in source.ignored for text in pair)]
    assert len(set(source.keys)) == len(source.keys) == source.count
    read = 0
    for image_id in source.order:
        try:
            image, label = source.load(image_id)
        except UnreadableImageError as error:
            shown.append(str(error) or "\n")  # no reason is as bad
            continue
        assert image.mode == "RGB"
        shown.append(label or "")
        read += 1
    assert all(map(is_one_line, shown)), shown
    return f"{'all' if read == source.count else 'some' if read else 'none'} read"


def use_archive(path: Path) -> str:
    """As ``use_images``; and no image is left out without a word."""
    outcome = use_images(path)
    if outcome.endswith("read"):
        source = open_source(path)
        hidden = b"/." in path.read_bytes() or b"\0." in path.read_bytes()  # by the damage itself
        assert len(source) >= IMAGES or source.ignored or hidden, f"{IMAGES - len(source)} images lost"
    return outcome


def use_weights(path: Path) -> str:
    """The outcome of loading weights."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, on odd pickles
            get_model("fuzzing:network", path)
    except ValueError as error:
        return _sentence(error, "get_model: expected ")
    return "all read"


def is_one_line(text: str) -> bool:
    """Whether a terminal shows the text as it stands."""
    return not any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in text)


def _sentence(error: ValueError, start: str) -> str:
    assert str(error).startswith(start), f"no sentence: {error!r}"
    assert is_one_line(str(error)), f"not one line of text: {error!r}"
    return "refused"


@dataclass(frozen=True)
class Kind:
    """What is damaged, under which name it is written, and what uses it."""

    whole: Callable[[], list[bytes]]
    name: str
    use: Callable[[Path], str]
    once: tuple[int, ...] = ()  # seeds that found a fault once


KINDS = {
    "image": Kind(whole_images, "x.png", use_images),
    "zip": Kind(whole_zips, "x.zip", use_archive),
    "tar": Kind(whole_tars, "x.tar", use_archive),
    "pt": Kind(lambda: whole_weights("pt"), "w.pt", use_weights, once=(1000294,)),
    "legacy pt": Kind(lambda: whole_weights("legacy"), "w.pt", use_weights),
    "safetensors": Kind(lambda: whole_weights("safetensors"), "w.safetensors", use_weights),
}


def attempt(kind: str, seed: int, folder: Path) -> str:
    """One case; raises what must not happen."""
    path = folder / KINDS[kind].name
    path.write_bytes(damaged(KINDS[kind].whole(), random.Random(f"{kind} {seed}")))
    return KINDS[kind].use(path)


# The long form -------------------------------------------------------------------------------------------------------


@dataclass
class Report:
    """What became of the cases of one kind."""

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest: float = 0.0


def _work(kind: str, first: int, count: int, pipe: Connection) -> None:
    faulthandler.enable()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(first, first + count):
            try:
                pipe.send((seed + 1, attempt(kind, seed, Path(folder)), ""))
            except BaseException:  # noqa: BLE001
                pipe.send((seed + 1, "fault", traceback.format_exc()))


def run_round(kind: str, first: int, count: int, report: Report) -> None:
    """Some cases in a process of their own, which may die or hang."""
    seed = first
    while seed < first + count:
        mine, other = multiprocessing.Pipe(duplex=False)
        worker = multiprocessing.Process(target=_work, args=(kind, seed, first + count - seed, other), daemon=True)
        worker.start()
        other.close()
        while seed < first + count:
            start = time.monotonic()
            try:
                if not mine.poll(LONGEST):
                    raise TimeoutError
                seed, outcome, text = mine.recv()
            except (TimeoutError, EOFError) as error:
                seed += 1
                outcome, text = "fault", "a hang" if isinstance(error, TimeoutError) else "the process died"
                report.outcomes[outcome] += 1
                report.faults.append(f"{kind} {seed - 1}: {text}")
                break
            report.slowest = max(report.slowest, time.monotonic() - start)
            report.outcomes[outcome] += 1
            if text:
                report.faults.append(f"{kind} {seed - 1}: {text}")
        worker.kill()
        worker.join()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=KINDS, help="this kind alone")
    parser.add_argument("--first", type=int, help="the first seed; by default another one each day")
    parser.add_argument("--count", type=int, help="so many seeds of each kind, whatever the time")
    parser.add_argument("--seconds", type=float, default=600.0)
    options = parser.parse_args()
    first = int(time.time()) // 86400 * 1_000_000 if options.first is None else options.first
    kinds = [options.kind] if options.kind else list(KINDS)
    reports = {kind: Report() for kind in kinds}
    start = time.monotonic()
    for done in itertools.count(0, ROUND):
        count = ROUND if options.count is None else min(ROUND, options.count - done)
        if count <= 0 or (options.count is None and time.monotonic() - start > options.seconds):
            break
        for kind in kinds:
            run_round(kind, first + done, count, reports[kind])
    print(f"seeds from {first}, {time.monotonic() - start:.0f} seconds")
    for kind, report in reports.items():
        outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(report.outcomes.items()))
        print(f"{kind}: {report.outcomes.total():,} cases: {outcomes}; slowest {report.slowest:.2f} s")
        for fault in report.faults[:20]:
            print(fault, file=sys.stderr)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
    print(f"largest process {peak:,} MiB")
    return 1 if any(report.faults for report in reports.values()) else 0


if __name__ == "__main__":
    sys.modules["fuzzing"] = sys.modules["__main__"]
    sys.exit(main())
