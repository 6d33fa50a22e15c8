"""Steps that take cells from elsewhere in the same map, rows and columns by themselves.

Nearest and bilinear interpolation, reflecting and other padding, crops, strided slices, shifts, flips. Where each row
and column comes from is not computed by a formula: the recorded step itself says so, run on the coordinates.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from zfkernels.geometry import Boxes, Sliding
from zfkernels.network.kinds.base import Chunk, Kind, Scene, arguments, op_name
from zfkernels.network.kinds.signals import Descent, Rules, Signal, accumulate
from zfkernels.network.kinds.sliding import planar_step
from zfkernels.network.maps import Maps
from zfkernels.network.recording import Step
from zfkernels.windows import Layout, Windows, cell_places

ONE_CELL = {
    "upsample_nearest2d", "_upsample_nearest_exact2d", "pad", "reflection_pad2d", "replication_pad2d", "slice", "roll",
    "flip",
}  # fmt: skip
TWO_CELLS = {"upsample_bilinear2d"}  # in each direction


@dataclass(frozen=True)
class Lines:
    """Where the lines (rows, or columns) of the value come from.

    Attributes:
        first: int64 [L], a line of the input.
        share: float64 [L], the weight of the line behind it; the first has the rest.
        mixes: whether any line is made of two.
        copies: of both, by device.
    """

    first: Tensor
    share: Tensor
    mixes: bool
    copies: dict[torch.device, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Both on a device, copied there once."""
        if device not in self.copies:
            self.copies[device] = self.first.to(device), self.share.to(device)
        return self.copies[device]

    @property
    def last(self) -> Tensor:
        """int64 [L], the last line that is read."""
        return self.first + (self.share > 0)

    def touched(self, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
        """First line and end, int64 [P] each, of what lines ``lo`` to ``hi`` of the input change."""
        changes = (self.last >= lo[:, None]) & (self.first < hi[:, None])  # [P, L]
        line = torch.arange(len(self.first))
        none = len(line)
        start = torch.where(changes, line, none).amin(1)
        end = torch.where(changes, line + 1, 0).amax(1)
        return torch.where(start == none, 0, start), end

    def read(self, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
        """First line and end, int64 [P] each, of what lines ``lo`` to ``hi`` of the value read."""
        line = torch.arange(len(self.first))
        reads = (line >= lo[:, None]) & (line < hi[:, None])
        start = torch.where(reads, self.first, torch.iinfo(torch.int64).max).amin(1)
        end = torch.where(reads, self.last + 1, 0).amax(1)
        return torch.where(end == 0, 0, start), end


class Resampling(Kind):
    """Each cell of the value is a cell of the input, or a mixture of two rows and two columns."""

    kind = "resampling"
    composed = "cells picked by PyTorch's indexing"

    def __init__(self, step: Step, scene: Scene, maps: Maps, rows: Lines, columns: Lines) -> None:
        super().__init__(step, scene, maps)
        self.lines = rows, columns

    @classmethod
    def recognise(cls, step: Step, scene: Scene) -> Kind | None:
        name = op_name(step)
        if name not in ONE_CELL | TWO_CELLS or len(step.inputs) != 1:
            return None
        bound = arguments(step)
        maps = planar_step(step, scene, next(iter(bound.values())))
        if maps is None or maps[0].channels != maps[1].channels or bound.get("mode") == "constant":
            return None
        rows, columns = (_lines(step, maps[0], axis) for axis in (0, 1))
        if rows is None or columns is None:
            return None
        return cls(step, scene, maps[1], rows, columns)

    def touched(self, changed: Sequence[Boxes]) -> Boxes:
        parts = [self.lines[a].touched(changed[0].lo[:, a], changed[0].hi[:, a]) for a in (0, 1)]
        return _boxes(parts)

    def read(self, outputs: Boxes) -> tuple[Boxes, ...]:
        return (_boxes([self.lines[a].read(outputs.lo[:, a], outputs.hi[:, a]) for a in (0, 1)]),)

    def run_on_windows(self, chunk: Chunk) -> Windows:
        (name,), layout = self.inputs, chunk.layout(self.name)
        windows, frames = chunk.windows(name), chunk.frames(name)
        total: Tensor | None = None
        for row, column, share in self._taps(layout):
            cells = _cells_at(windows, frames, layout.owner, row, column)
            cells = cells if share is None else cells * share.to(cells.dtype)[:, None]
            total = cells if total is None else total + cells
        assert total is not None
        return layout.windows(total)

    def _taps(self, layout: Layout) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """For each cell that cells of the value are made of: row, column and weight (None: 1), [cells] each."""
        places = cell_places(layout.boxes, layout.offsets, layout.owner)
        rows, columns = (_taps(lines, place) for lines, place in zip(self.lines, places, strict=True))
        for row, row_share in rows:
            for column, column_share in columns:
                share = row_share if column_share is None else column_share
                if row_share is not None and column_share is not None:
                    share = row_share * column_share
                yield row, column, share

    def clean_inputs(self, rules: Rules) -> Collection[str]:
        return ()

    def send_down(self, signal: Signal, descent: Descent) -> Iterator[tuple[str, Signal]]:
        assert isinstance(signal, Windows)
        here, below = signal.layout, descent.layout(self.inputs[0])
        out = signal.values.new_zeros(below.cells, signal.values.shape[1])
        box = below.boxes.index_select(0, here.owner).long()
        first = below.offsets.index_select(0, here.owner)
        for row, column, share in self._taps(here):
            cells = signal.values if share is None else signal.values * share.to(signal.values.dtype)[:, None]
            at = first + (row - box[:, 0]) * box[:, 3] + column - box[:, 1]
            accumulate(out, at, cells)
        yield self.inputs[0], below.windows(out)

    @property
    def needs_frames(self) -> bool:
        return True


class ConstantPadding(Kind):
    """A border of one number, or a crop by negative padding: the changed cells that stay keep their numbers."""

    kind = "constant padding"

    def __init__(self, step: Step, scene: Scene, maps: Maps, before: tuple[int, int]) -> None:
        super().__init__(step, scene, maps)
        assert self.below[0] is not None
        self.before = before
        spare = [maps.frame[axis] - self.below[0].frame[axis] - before[axis] for axis in (0, 1)]
        self.crops = min(*before, *spare) < 0

    @classmethod
    def recognise(cls, step: Step, scene: Scene) -> Kind | None:
        bound = arguments(step)
        if op_name(step) not in ("pad", "constant_pad_nd") or bound.get("mode", "constant") != "constant":
            return None
        maps, padding = planar_step(step, scene, bound["self"]), list(bound["pad"])
        if maps is None or any(padding[4:]):
            return None
        return cls(step, scene, maps[1], (padding[2] if len(padding) > 2 else 0, padding[0]))

    def touched(self, changed: Sequence[Boxes]) -> Boxes:
        assert self.maps is not None
        return _moved(changed[0], torch.tensor(self.before), self.maps.frame)

    def read(self, outputs: Boxes) -> tuple[Boxes, ...]:
        assert self.below[0] is not None
        return (_moved(outputs, -torch.tensor(self.before), self.below[0].frame),)

    def clean_inputs(self, rules: Rules) -> Collection[str]:
        return ()

    def send_down(self, signal: Signal, descent: Descent) -> Iterator[tuple[str, Signal]]:
        assert isinstance(signal, Windows)
        assert self.maps is not None
        below = descent.layout(self.inputs[0])
        inner = replace(below, boxes=self._moved(below, 1), frame=self.maps.frame)
        yield self.inputs[0], below.windows(descent.gather([signal], None, inner).values)

    @property
    def slides(self) -> Sliding:
        return Sliding((1, 1), padding=self.before)

    def run_on_windows(self, chunk: Chunk) -> Windows:
        assert self.below[0] is not None
        windows, layout = chunk.windows(self.inputs[0]), chunk.layout(self.name)
        if self.crops:
            inner = replace(layout, boxes=self._moved(layout, -1), frame=self.below[0].frame)
            windows = chunk.gather([windows], None, inner)
        return layout.windows(windows.values)

    def _moved(self, layout: Layout, way: int) -> Tensor:
        """The boxes, moved by what is padded before them; no tensor comes from the host meanwhile."""
        boxes = layout.boxes.clone()
        for axis in (0, 1):
            boxes[:, axis].add_(way * self.before[axis])
        return boxes


def _moved(boxes: Boxes, move: Tensor, frame: tuple[int, int]) -> Boxes:
    """Boxes in coordinates that ``move`` is added to, clipped to a frame; empty ones are all zeros."""
    filled = (boxes.hi > boxes.lo).all(1, keepdim=True)
    lo, hi = (boxes.lo + move).clamp(min=0), torch.minimum(boxes.hi + move, torch.tensor(frame))
    some = filled & (hi > lo).all(1, keepdim=True)
    return Boxes(torch.where(some, lo, 0), torch.where(some, hi, 0))


def _lines(step: Step, below: Maps, axis: int) -> Lines | None:
    """Where rows (axis 0) or columns come from, as the step itself moves their numbers; None if it does more."""
    frame = below.frame
    numbers = torch.arange(frame[axis], dtype=torch.float64)
    numbers = numbers[:, None].expand(frame) if axis == 0 else numbers.expand(frame)
    moved = step.run({step.inputs[0]: numbers[None, None].contiguous()}, 1)
    if moved.shape[:2] != (1, 1):
        return None
    along = moved[0, 0, :, 0] if axis == 0 else moved[0, 0, 0, :]
    if not torch.allclose(moved[0, 0], along[:, None] if axis == 0 else along, rtol=0, atol=1e-6):
        return None
    nearest = along.round()
    along = torch.where((along - nearest).abs() < 1e-9 * frame[axis], nearest, along)
    first = along.floor()
    share = along - first
    mixes = bool((share > 0).any())
    return None if mixes and op_name(step) in ONE_CELL else Lines(first.long(), share, mixes)


def _taps(lines: Lines, place: Tensor) -> list[tuple[Tensor, Tensor | None]]:
    """For each line that is read: which, int64 [cells], and with which weight, float64 [cells] (None: 1)."""
    of_lines, shares = lines.on(place.device)
    first = of_lines.index_select(0, place)
    if not lines.mixes:
        return [(first, None)]
    share = shares.index_select(0, place)
    return [(first, 1 - share), (first + (share > 0), share)]


def _cells_at(windows: Windows, frames: Tensor, owner: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """[cells, C]: cells (row, column) of the layers of windows ``owner``, from the windows or else from the frames."""
    height, width = windows.frame
    box = windows.boxes.index_select(0, owner).long()
    top, left = row - box[:, 0], column - box[:, 1]
    inside = (top >= 0) & (top < box[:, 2]) & (left >= 0) & (left < box[:, 3])
    of_window = windows.offsets.index_select(0, owner) + top * box[:, 3] + left
    of_frame = (windows.image.index_select(0, owner) * height + row) * width + column
    whole = frames.permute(0, 2, 3, 1).reshape(-1, frames.shape[1])
    changed = windows.values.index_select(0, torch.where(inside, of_window, 0))
    return torch.where(inside[:, None], changed, whole.index_select(0, of_frame))


def _boxes(parts: list[tuple[Tensor, Tensor]]) -> Boxes:
    """Boxes of (first line, end) of rows and of columns; an empty one is all zeros."""
    lo, hi = (torch.stack([part[i] for part in parts], 1) for i in (0, 1))
    some = (hi > lo).all(1, keepdim=True)
    return Boxes(torch.where(some, lo, 0), torch.where(some, hi, 0))
