"""Where the signals of a batch of units lie in every step: computed on the host, sent before the first step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zfkernels.deconvnet.graph import Graph
from zfkernels.geometry import Boxes, Pair
from zfkernels.network import INPUT
from zfkernels.packing import pack, sent, unpack
from zfkernels.windows import Layout


@dataclass(frozen=True)
class Entry:
    """Where units enter at one step, on the CPU.

    Attributes:
        rows: int64 [k], which of the units, in rising order.
        boxes: of these units; of a step without maps one cell for all of it.
    """

    rows: Tensor
    boxes: Boxes

    @staticmethod
    def of(parts: Sequence[Entry]) -> Entry:
        """All of these entries, one after the other."""
        lo, hi = (torch.cat([getattr(part.boxes, end) for part in parts]) for end in ("lo", "hi"))
        return Entry(torch.cat([part.rows for part in parts]), Boxes(lo, hi))


@dataclass(frozen=True, eq=False)
class Reached:
    """The units that reach a step, on the device.

    Attributes:
        rows: int64 [R], the units that reach the step, among all K.
        place: int64 [K], the index of each unit in ``rows``; of units that do not reach the step, any number.
        image: int64 [R], the image of each of these units.
    """

    rows: Tensor
    place: Tensor
    image: Tensor


class Placed:
    """Where the signals of a batch of units lie, on the device; from here on nothing is copied from or to the host.

    Args:
        layouts: the layout of each step with maps, by its name; equal ones are one object.
        reached: the units that reach each step, by its name; equal ones are one object.
        entering: for steps where some units enter and others come from above, by name: int64, the indices of the units
            that enter, among those that reach the step; at a step with maps the indices of their cells.
        wholes: layouts of whole frames, by the frame and the units that reach it.
    """

    def __init__(
        self, layouts: Mapping[str, Layout], reached: Mapping[str, Reached], entering: Mapping[str, Tensor],
        wholes: Mapping[tuple[Pair, Reached], Layout],
    ) -> None:  # fmt: skip
        self.layouts, self.reached, self.entering, self._wholes = layouts, reached, entering, dict(wholes)

    def whole(self, frame: Pair, reaching: str) -> Layout:
        """Whole frames for each unit that reaches step ``reaching``, empty windows for the others."""
        reached = self.reached[reaching]
        if (frame, reached) not in self._wholes:
            self._wholes[frame, reached] = _whole_frames(self.layouts[INPUT], reached, frame)
        return self._wholes[frame, reached]


class UnitPlaces:
    """Where the signals of K units lie on their way down, on the CPU.

    Args:
        graph: the steps.
        entries: by the names of the steps where units enter.
        image: int64 [K], the image of each unit.

    Attributes:
        pixels: the boxes of the images' pixels, one for each unit.

    Raises:
        ValueError: the layer does not depend on the images.
    """

    def __init__(self, graph: Graph, entries: Mapping[str, Entry], image: Tensor) -> None:
        self.image, self.entries = image, entries
        boxes = graph.boxes({name: (entry.rows, entry.boxes) for name, entry in entries.items()}, len(image))
        if INPUT not in boxes:
            raise ValueError(f"DeconvNet: expected a layer that depends on the images, got {[*entries]}")
        self.pixels = boxes[INPUT]
        self._frames: list[Pair] = []  # of the distinct layouts
        self._boxes: list[Tensor] = []  # int32 [K, 4] of each
        self._layout: dict[str, int] = {}  # of each step with maps: which of the layouts
        self._sets: list[Tensor] = []  # bool [K]: the distinct sets of units that reach a step
        self._set: dict[str, int] = {}  # of each step: which of the sets
        known: dict[tuple[Pair | None, bytes], int] = {}
        for kind in graph.kinds.values():
            if kind.name not in boxes:
                continue
            there, flat = (boxes[kind.name].size > 0).all(1), boxes[kind.name].flat.contiguous()
            self._set[kind.name] = known.setdefault((None, there.numpy().tobytes()), len(self._sets))
            if self._set[kind.name] == len(self._sets):
                self._sets.append(there)
            if kind.maps is None:
                continue
            self._layout[kind.name] = known.setdefault((kind.maps.frame, flat.numpy().tobytes()), len(self._boxes))
            if self._layout[kind.name] == len(self._boxes):
                self._frames.append(kind.maps.frame)
                self._boxes.append(flat)

    def on(self, device: torch.device) -> Placed:
        """The same on a device, sent in one copy for which the host does not wait."""
        boxes, others = torch.stack(self._boxes), []
        for there in self._sets:
            rows = there.nonzero().flatten()
            others += [rows, (there.cumsum(0) - 1).clamp(min=0), self.image[rows]]
        partly = {name: self._places_of_entry(name) for name in self.entries if not self._all_enter(name)}
        others += [numbers for places in partly.values() for numbers in places]
        layouts, numbers = _layouts(self._frames, boxes, self.image, device, *others)
        sets = [Reached(*numbers[3 * index : 3 * index + 3]) for index in range(len(self._sets))]
        at = iter(numbers[3 * len(sets) :])
        entering = {
            name: _moved(next(at), next(at), int(count.sum())) if name in self._layout else next(at)
            for name, (count, *_) in partly.items()
        }
        full = (boxes == torch.tensor([(0, 0, *frame) for frame in self._frames])[:, None]).all(2)
        return Placed(
            {name: layouts[index] for name, index in self._layout.items()},
            {name: sets[index] for name, index in self._set.items()},
            entering,
            {
                (self._frames[index], sets[self._set[name]]): layouts[index]
                for name, index in self._layout.items()
                if full[index][self._sets[self._set[name]]].all()
            },
        )

    def _all_enter(self, name: str) -> bool:
        """Whether all units that reach a step enter there."""
        return len(self.entries[name].rows) == int(self._sets[self._set[name]].sum())

    def _places_of_entry(self, name: str) -> tuple[Tensor, ...]:
        """For the units that enter at a step: their indices among the units that reach it.

        At a step with maps: the number of cells of each such unit, and the shift from the indices of these cells among
        those of the entering units to their indices among the cells of all units.
        """
        rows = self.entries[name].rows
        if name not in self._layout:
            return ((self._sets[self._set[name]].cumsum(0) - 1)[rows],)
        count = _cells(self._boxes[self._layout[name]])
        here = count[rows]
        return here, (count.cumsum(0) - count)[rows] - (here.cumsum(0) - here)


def layout_on(device: torch.device, boxes: Boxes, image: Tensor, frame: Pair) -> Layout:
    """The layout of boxes on a device; ``boxes`` and ``image`` int64 [P] are on the CPU. The host does not wait."""
    return _layouts([frame], boxes.flat[None], image, device)[0][0]


def _layouts(
    frames: Sequence[Pair], boxes: Tensor, image: Tensor, device: torch.device, *others: Tensor
) -> tuple[list[Layout], list[Tensor]]:
    """Layouts of boxes int32 [L, K, 4] in frames, and copies of other int64 tensors, on a device."""
    packed = pack(frames, boxes, _cells(boxes), image, *others)
    images = int(image.max()) + 1 if len(image) else 0
    return unpack(sent(packed.words, device), packed, images)


def _cells(boxes: Tensor) -> Tensor:
    """The number of cells, int64 [...], of boxes int32 [..., 4]."""
    return boxes[..., 2:].long().prod(-1)


def _moved(count: Tensor, move: Tensor, cells: int) -> Tensor:
    """The indices int64 [cells] of cells after groups of ``count`` [k] cells were shifted by ``move`` [k] each."""
    return torch.arange(cells, device=count.device) + move.repeat_interleave(count, output_size=cells)


def _whole_frames(like: Layout, reached: Reached, frame: Pair) -> Layout:
    """Whole frames of the units that reach a step, empty windows of the others; as many units as ``like`` has."""
    cells = frame[0] * frame[1]
    there = torch.zeros_like(like.image).index_fill_(0, reached.rows, 1)
    boxes = torch.stack([torch.zeros_like(there), torch.zeros_like(there), there * frame[0], there * frame[1]], 1)
    offsets = torch.nn.functional.pad((there * cells).cumsum(0), (1, 0))
    owner = reached.rows.int()[:, None].expand(-1, cells).reshape(-1)
    return Layout(boxes.int(), offsets, like.image, frame, len(owner), owner, like.images)
