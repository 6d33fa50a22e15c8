"""The plan of a sweep, made on the host before anything runs: boxes, the cut, and how many positions travel together.

Each position has exactly the box that its square can change, in every step; a box is *reachable* cells, whatever the
weights are. From some step on whole frames are cheaper than windows: the cut. It is chosen by :mod:`.cost`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from zfkernels.geometry import Boxes, Pair
from zfkernels.network.kinds import Kind
from zfkernels.network.program import Program
from zfkernels.network.recording import INPUT
from zfkernels.occlusion.cost import Rates

PACKED = 3  # times that a weight goes through memory: it is read, written in the order of the loop, and read again
MORE = 1.06  # multiply-adds that may be spent on frames where windows would do


@dataclass(frozen=True)
class Place:
    """Boxes that one or several steps have in common.

    Attributes:
        boxes: int32 [P, 4] (top, left, height, width).
        cells: int64 [P].
        frame: (H, W).
        is_whole: every box is the whole frame.
    """

    boxes: Tensor
    cells: Tensor
    frame: Pair
    is_whole: bool


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep of P positions does.

    Attributes:
        program: the network.
        places: boxes, each once.
        place: which of ``places`` each step of the head with windows has.
        head: the steps that run on windows.
        tail: the steps that run on whole values.
        cut: names of the head's values that the tail or the outputs read.
        kept: names of the head's values that are wanted after it: those, and the watched step.
        frames: names of the steps whose clean maps the head reads.
        exact: multiply-adds if all that can run on windows did.
        planned: multiply-adds of head and tail.
        dense: multiply-adds of the network on P whole images.
        seconds: what the sweep is expected to take, the clean pass of one image included.
        head_bytes: the most that the head's values take for one position.
        kept_bytes: the most that those which stay while the tail runs take for one position.
        tail_bytes: the most that the tail's values take for one position.
        whole_bytes: the most that the network's values take for one whole image.
    """

    program: Program
    places: tuple[Place, ...]
    place: Mapping[str, int]
    head: tuple[Kind, ...]
    tail: tuple[Kind, ...]
    cut: tuple[str, ...]
    kept: frozenset[str]
    frames: frozenset[str]
    exact: int
    planned: int
    dense: int
    seconds: float
    head_bytes: int
    kept_bytes: int
    tail_bytes: int
    whole_bytes: int

    @property
    def least_bytes(self) -> int:
        """What the values of one position take: the smallest budget."""
        return max(1, self.head_bytes, self.kept_bytes + self.tail_bytes)


@dataclass(frozen=True)
class _Work:
    """What one step takes for all positions."""

    windows: float  # multiply-adds on its boxes
    whole: float  # multiply-adds on whole frames
    windows_time: float
    whole_time: float
    paste_time: float  # from windows to whole frames


def plan_sweep(
    program: Program,
    squares: Boxes,
    rates: Rates,
    itemsize: int,
    watched: Collection[str] = (),
    reduced: Collection[str] = (),
) -> SweepPlan:
    """Plans the sweep of ``squares``, boxes of the image that are hidden one at a time.

    Args:
        program: the network.
        squares: P boxes of pixels, inside the images.
        rates: of the device.
        itemsize: bytes of a number.
        watched: steps whose windows are wanted.
        reduced: outputs that need not be whole where they are on windows.
    """
    changed = changed_boxes(program, squares)
    ends = {
        kind.name
        for kind in program.kinds.values()
        if kind.on_windows and kind.maps is None and kind.inputs and all(name in changed for name in kind.inputs)
    }
    work = {
        name: _work(kind, changed, program, name in ends, len(squares.lo), rates, itemsize)
        for name, kind in program.kinds.items()
    }
    outputs = set(program.outputs) - set(reduced)
    head_names, seconds = _choose_head(program, changed, ends, work, outputs, set(watched))
    head = tuple(kind for kind in program.kinds.values() if kind.name in head_names)
    tail = tuple(kind for kind in program.kinds.values() if kind.name not in head_names)
    wanted = {*watched, *reduced}
    read = {name for kind in tail for name in kind.inputs} | outputs | (wanted - changed.keys())
    cut = tuple(kind.name for kind in head if kind.name in read)
    kept = frozenset({*cut, *(wanted & head_names)})
    places, place = _places(program, head, changed)
    exact = sum(w.windows if name in changed or name in ends else w.whole for name, w in work.items())
    planned = sum(w.windows if name in head_names else w.whole for name, w in work.items())
    return SweepPlan(
        program,
        places,
        place,
        head,
        tail,
        cut,
        kept,
        _frames_read(head, cut, place, places, wanted),
        int(exact),
        int(planned),
        int(sum(w.whole for w in work.values())),
        seconds + sum(w.whole_time for w in work.values()) / max(len(squares.lo), 1),
        *_head_bytes(head, kept, places, place, itemsize),
        _whole_bytes(program, tail, cut, itemsize),
        _whole_bytes(program, tuple(program.kinds.values()), (), itemsize),
    )


def changed_boxes(program: Program, squares: Boxes) -> dict[str, Boxes]:
    """For each step that can run on windows, the box that each of P squares can change."""
    changed: dict[str, Boxes] = {}
    for kind in program.kinds.values():
        if kind.name == INPUT and kind.maps is not None:
            changed[kind.name] = squares
        elif kind.on_windows and kind.maps is not None and kind.inputs and all(i in changed for i in kind.inputs):
            changed[kind.name] = kind.touched([changed[name] for name in kind.inputs])
    return changed


def _work(
    kind: Kind, changed: Mapping[str, Boxes], program: Program, ends: bool, positions: int, rates: Rates, itemsize: int
) -> _Work:
    def cells(name: str) -> int:
        return int(changed[name].size.prod(1).sum()) if name in changed else positions * _frame(program.kinds[name])

    on_windows = kind.name in changed or ends
    boxes, frames = cells(kind.name), positions * _frame(kind)
    windows, whole = (kind.multiply_adds * boxes if on_windows else 0), kind.multiply_adds * frames
    products = kind.window_products if rates.tiled and itemsize > 2 else kind.multiply_adds
    size = _channels(kind) * itemsize
    own = size if kind.moves else 0
    read = {name: _channels(program.kinds[name]) * itemsize for name in kind.inputs if kind.moves}
    weight = PACKED * kind.parameters * itemsize
    read_whole = sum(each * positions * _frame(program.kinds[name]) for name, each in read.items())
    return _Work(
        windows,
        whole,
        rates.on_windows(
            products * boxes if on_windows else 0,
            weight + own * boxes + sum(each * cells(name) for name, each in read.items()),
        ),
        rates.on_frames(whole, weight + own * frames + read_whole),
        rates.on_windows(0, 2 * size * frames),
    )


def _frame(kind: Kind) -> int:
    """Cells of a whole value."""
    return kind.maps.frame[0] * kind.maps.frame[1] if kind.maps is not None else 1


def _channels(kind: Kind) -> int:
    """Numbers of a cell."""
    return kind.maps.channels if kind.maps is not None else math.prod(kind.sizes or (1,))


def _choose_head(
    program: Program,
    changed: Mapping[str, Boxes],
    ends: set[str],
    work: Mapping[str, _Work],
    outputs: set[str],
    watched: set[str],
) -> tuple[set[str], float]:
    """Names of the steps that run on windows: of those that can, the first so many for which the sweep is fastest.

    And the seconds that it takes.
    """
    able = [name for name in program.kinds if name in changed or name in ends]
    head = set(able)
    read = set(outputs)
    for kind in program.kinds.values():
        if kind.name not in head:
            read.update(kind.inputs)
    pasted = {name for name in read if name in changed}
    least = sum(work[name].windows if name in head else work[name].whole for name in program.kinds)
    time = sum(work[name].windows_time if name in head else work[name].whole_time for name in program.kinds)
    time += sum(work[name].paste_time for name in pasted)
    adds, best, best_time = least, len(able), time
    first = max([1, *(able.index(name) + 1 for name in watched & head)])
    for count in range(len(able) - 1, first - 1, -1):
        name = able[count]
        adds += work[name].whole - work[name].windows
        time += work[name].whole_time - work[name].windows_time
        if name in pasted:
            time -= work[name].paste_time
        for source in program.kinds[name].inputs:
            if source not in pasted and source in changed:
                pasted.add(source)
                time += work[source].paste_time
        if adds <= MORE * least and time < best_time:
            best, best_time = count, time
    return set(able[:best]), best_time


def _places(
    program: Program, head: tuple[Kind, ...], changed: Mapping[str, Boxes]
) -> tuple[tuple[Place, ...], dict[str, int]]:
    """The boxes of the head's steps, equal ones once, and which of them each step has."""
    known: dict[tuple[Pair, bytes], int] = {}
    places: list[Place] = []
    place: dict[str, int] = {}
    for kind in head:
        if kind.maps is None:
            continue
        boxes, frame = changed[kind.name].flat.contiguous(), kind.maps.frame
        key = frame, boxes.numpy().tobytes()
        if key not in known:
            known[key] = len(places)
            cells = boxes[:, 2:].to(torch.int64).prod(1)
            places.append(Place(boxes, cells, frame, bool((cells == frame[0] * frame[1]).all())))
        place[kind.name] = known[key]
    return tuple(places), place


def _frames_read(
    head: tuple[Kind, ...], cut: tuple[str, ...], place: Mapping[str, int], places: tuple[Place, ...], watched: set[str]
) -> frozenset[str]:
    """Steps whose clean maps windows are computed, pasted or summed with."""
    read = {name for name in cut if name in place and not places[place[name]].is_whole} | (watched & place.keys())
    for kind in head:
        read.update(n for n in kind.inputs if kind.needs_frames or place.get(kind.name) != place[n])
    return frozenset(read)


def _head_bytes(
    head: tuple[Kind, ...],
    kept: Collection[str],
    places: tuple[Place, ...],
    place: Mapping[str, int],
    itemsize: int,
) -> tuple[int, int]:
    """The most that the head's values that are alive at once take for one position, and those ``kept`` at its end."""
    if not head:
        return 0, 0
    last = {name: index for index, kind in enumerate(head) for name in (kind.name, *kind.inputs)}
    last.update(dict.fromkeys(kept, len(head)))
    sizes: dict[str, Tensor] = {}
    alive = peak = torch.zeros(len(places[0].cells), dtype=torch.int64)
    for index, kind in enumerate(head):
        each = _channels(kind) * itemsize
        sizes[kind.name] = torch.full_like(alive, each)
        if kind.maps is not None:
            sizes[kind.name] = places[place[kind.name]].cells * (each + 4)
        alive = alive + sizes[kind.name]
        peak = torch.maximum(peak, alive)
        for name in {kind.name, *kind.inputs}:
            if last[name] <= index and name in sizes:
                alive = alive - sizes.pop(name)
    return int(peak.max()), int(alive.max())


def _whole_bytes(program: Program, steps: tuple[Kind, ...], given: tuple[str, ...], itemsize: int) -> int:
    """The most that whole values of some steps, and those ``given``, that are alive at once take for one position."""

    def size(name: str) -> int:
        kind = program.kinds[name]
        numbers = 1
        for length in kind.sizes or ():
            numbers *= length
        return numbers * itemsize

    last = {name: index for index, kind in enumerate(steps) for name in (kind.name, *kind.inputs)}
    alive = {name: size(name) for name in given}
    peak = sum(alive.values())
    for index, kind in enumerate(steps):
        alive[kind.name] = size(kind.name)
        peak = max(peak, sum(alive.values()))
        for name in {kind.name, *kind.inputs}:
            if last[name] <= index and name not in program.outputs:
                alive.pop(name, None)
    return peak
