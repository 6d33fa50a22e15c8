"""What an occlusion sweep will do, layer by layer: boxes and frame, windowed or dense and why, multiply-adds, calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from zfkernels.geometry import Boxes, Pair
from zfkernels.network import UnrecordableError, first_channels, record, undisturbed
from zfkernels.network.recording import INPUT
from zfkernels.occlusion.arguments import grid, to_pair
from zfkernels.occlusion.calls import Calls, count_calls
from zfkernels.occlusion.cost import rates_of
from zfkernels.occlusion.cover import Cover
from zfkernels.occlusion.engine import WindowSweep
from zfkernels.occlusion.plan import SweepPlan, changed_boxes
from zfkernels.occlusion.sweeper import examine
from zfkernels.results import html_table
from zfkernels.signed import signed

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class PlanRow:
    """One layer of the plan.

    Attributes:
        layer: its name.
        kind: its kind of step.
        frame: (rows, columns) of the whole layer, None without maps.
        window: (rows, columns) of the largest box that is computed, None for a mean over the frame or without maps.
        smallest: (rows, columns) of the smallest, the same where all are of one size.
        mode: "windows", "dense" or "unchanged".
        why: what decided the mode.
        multiply_adds: for one position, on average.
        dense_multiply_adds: for the whole layer.
    """

    layer: str
    kind: str
    frame: Pair | None
    window: Pair | None
    smallest: Pair | None
    mode: str
    why: str
    multiply_adds: int
    dense_multiply_adds: int


@dataclass(frozen=True, repr=False)
class PlanReport:
    """The plan of a sweep; ``str()`` is the table, and a notebook shows it as one.

    Attributes:
        plan: boxes of all positions in all layers, and what runs on them; None for a sweep on whole images.
        rows: one for each layer.
        window: (height, width) of the square.
        whole: why the sweep runs on whole images, "" if it does not.
        positions: int64 [P, 2], row and column of each square; None for a sweep on whole images.
        calls: what the host calls for one image; None: unknown, or a sweep on whole images.
        device: the kind of device whose constants (see :mod:`.cost`) the cut and the estimate of time are made by.
    """

    plan: SweepPlan | None
    rows: tuple[PlanRow, ...]
    window: Pair
    whole: str = ""
    positions: Tensor | None = None
    calls: Calls | None = None
    device: str = "cpu"

    def summary(self) -> str:
        """The plan in one line: how much less work it is than running the network on each occluded image."""
        plan, positions = self.plan, self.positions
        if plan is None or positions is None:
            return f"square {_size(self.window)}: the sweep runs on whole images: {self.whole}"
        dense = sum(row.mode == "dense" for row in self.rows)
        return (
            f"{len(positions)} positions of a square of {_size(self.window)}: {plan.dense / plan.planned:.2f}x "
            f"fewer multiply-adds than dense; {dense} of {len(self.rows)} layers on whole frames"
        )

    def plot(self) -> Figure:
        """A bar for each layer that multiplies: the whole layer, and what one position needs of it on average.

        Raises:
            ValueError: a sweep on whole images, or a network that multiplies nothing.
        """
        from zfkernels.viz import plan_figure

        layers = [
            (row.layer, row.mode == "windows", float(row.dense_multiply_adds), float(row.multiply_adds))
            for row in self.rows
            if row.dense_multiply_adds
        ]
        if not layers:
            raise ValueError(f"plot: expected a plan with layers that multiply, got {self.summary()}")
        return plan_figure(layers, title=self.summary())

    def plot_boxes(self, position: int | None = None) -> Figure:
        """The box of one square in the image and in every layer that it is carried through, each where it changes.

        Args:
            position: which row of :attr:`positions`; None: the one in the middle.

        Raises:
            IndexError: no such position.
            ValueError: a sweep on whole images.
        """
        from zfkernels.viz import LayerBox, boxes_figure

        if self.plan is None or self.positions is None:
            raise ValueError(f"plot_boxes: expected a plan with layers on windows, got {self.summary()}")
        count = len(self.positions)
        position = count // 2 if position is None else position
        if not -count <= position < count:
            raise IndexError(f"plot_boxes: expected position below {count}, got {position}")
        program, corner = self.plan.program, self.positions[position].tolist()
        square = torch.tensor([[*corner, *self.window]])
        reached = changed_boxes(program, Boxes.of(square, program.recording.size))
        rows = dict(zip((name for name in program.kinds if name != INPUT), self.rows, strict=True))
        layers: list[LayerBox] = []
        for name, boxes in reached.items():
            maps = program.kinds[name].maps
            assert maps is not None
            top, left, height, width = boxes.flat[0].tolist()
            on_windows = name == INPUT or rows[name].mode == "windows"
            shown = "the image" if name == INPUT else rows[name].layer
            layer = LayerBox(shown, maps.frame, (top, left, height, width), on_windows)
            if not layers or (layer.frame, layer.box) != (layers[-1].frame, layers[-1].box):
                layers.append(layer)
        return boxes_figure(
            layers, title=f"What a square of {_size(self.window)} at row {corner[0]}, column {corner[1]} can change"
        )

    def __repr__(self) -> str:
        return f"<PlanReport: {self.summary()}>"

    def _repr_html_(self) -> str:
        return html_table(self.summary(), [
            {
                "layer": row.layer, "kind": row.kind, "frame": _size(row.frame), "boxes": _sizes(row),
                "mode": row.mode, "M multiply-adds": row.multiply_adds / 1e6, "why": row.why,
            }
            for row in self.rows
        ], limit=None)  # fmt: skip

    def __str__(self) -> str:
        if self.plan is None or self.positions is None:
            return self.summary()
        plan, count = self.plan, len(self.positions)
        boxes = [_sizes(row) for row in self.rows]
        width, kinds = max(len(row.layer) for row in self.rows), max(len(row.kind) for row in self.rows)
        wide = max(5, *map(len, boxes))
        sizes = f"{'frame':>9} {'boxes':>{wide}}"
        lines = [f"{'layer':{width}} {'kind':{kinds}} {sizes} {'mode':10} {'M-adds':>9} {'of dense':>9}  why"]
        for row, box in zip(self.rows, boxes, strict=True):
            share = f"{row.multiply_adds / row.dense_multiply_adds:.1%}" if row.dense_multiply_adds else ""
            adds = f"{row.multiply_adds / 1e6:.2f}M" if row.multiply_adds else ""
            lines.append(
                f"{row.layer:{width}} {row.kind:{kinds}} {_size(row.frame):>9} {box:>{wide}} {row.mode:10} "
                f"{adds:>9} {share:>9}  {row.why}"
            )
        lines.append(f"square {_size(self.window)}, {count} positions; smallest and largest box of each layer")
        each = [adds / count / 1e6 for adds in (plan.dense, plan.exact, plan.planned)]
        lines.append(
            f"multiply-adds per position: dense {each[0]:.1f}M, "
            f"exact boxes {each[1]:.1f}M ({each[0] / each[1]:.2f}x fewer), "
            f"as planned {each[2]:.1f}M ({each[0] / each[2]:.2f}x fewer)"
        )
        if self.calls is not None:
            calls = self.calls
            lines.append(
                f"{calls.chunks} chunks of {calls.at_once} positions, each {calls.operations} operations on the host: "
                f"{calls.launches} launches, {calls.ours} of them kernels of this package"
            )
        lines.append(f"estimate for one image: {plan.seconds:.3g} s, by constants for {self.device!r}, not measured")
        return "\n".join(lines)


@undisturbed()
@signed("explain_plan")
def explain_plan(
    model: nn.Module, size: int | Pair, window: int | Pair, stride: int | Pair | None = None
) -> PlanReport:
    """The plan of an occlusion sweep, without running it; printing the result shows the table.

    Args:
        model: an nn.Module in eval mode.
        size: (H, W) of the images.
        window: (height, width) of the square.
        stride: of the grid of positions; the window's size by default.

    Returns:
        :class:`PlanReport`.

    Raises:
        TypeError: no nn.Module.
        ValueError: a bad size, window or stride, or a model in training mode.
    """
    image, square = to_pair("explain_plan", "size", size), to_pair("explain_plan", "window", window)
    if square[0] > image[0] or square[1] > image[1]:
        raise ValueError(f"explain_plan: expected window no larger than the images {image}, got {square}")
    step = square if stride is None else to_pair("explain_plan", "stride", stride)
    positions = grid(image, square, step).reshape(-1, 2)
    places = torch.cat([positions, torch.tensor(square).expand_as(positions)], 1)
    try:
        recording = record(model, (first_channels(model), *image))
    except UnrecordableError as error:
        return PlanReport(None, (), square, error.reason)
    parameter = next(model.parameters(), torch.empty(0))
    noise = torch.randn((1, recording.channels, *image), generator=torch.Generator().manual_seed(0)).to(parameter)
    verdict = examine(recording, noise, places, Cover(noise.new_zeros(recording.channels)))
    if verdict.mixes or verdict.differs:
        return PlanReport(None, (), square, verdict.mixes or verdict.differs)
    sweep, device = WindowSweep(recording, places), parameter.device
    plan = sweep.plan(device, parameter.dtype)
    calls = count_calls(sweep, device, parameter.dtype, rates_of(device.type).budget)
    rows = tuple(_rows(plan, places, recording.labels))
    return PlanReport(plan, rows, square, "", positions, calls, device.type)


def _rows(plan: SweepPlan, places: Tensor, labels: Mapping[str, str]) -> Iterator[PlanRow]:
    """``places``: the square of each position; ``labels``: what people call the steps."""
    program, count = plan.program, len(places)
    reached = changed_boxes(program, Boxes.of(places, program.recording.size))
    head = {kind.name for kind in plan.head}
    shown = {name: labels.get(kind.step.name, kind.step.name) for name, kind in program.kinds.items()}
    first = next((kind for kind in plan.tail if kind.name in reached), None)
    for name, kind in program.kinds.items():
        if name == INPUT:
            continue
        frame = None if kind.maps is None else kind.maps.frame
        cells = 1 if frame is None else frame[0] * frame[1]
        dense = kind.multiply_adds * cells
        mode, window, smallest, adds = "dense", frame, frame, dense
        if frame is None:
            why = "no maps"
            if name in head:
                mode, why = "windows", "the clean frame, with what the window changes in its place"
        elif name in reached:
            sizes = reached[name].size
            share = float(sizes.prod(1).sum()) / (count * cells)
            why = f"{share:.0%} of the frame"
            if name in head:
                mode = "windows" if share else "unchanged"
                cells_of = sizes.prod(1)
                smallest, window = _pair(sizes[cells_of.argmin()]), _pair(sizes[cells_of.argmax()])
                adds, why = round(dense * share), why if share else "out of reach"
                why = f"{why}; {kind.composed}" if share and kind.composed else why
            elif kind is not first and first is not None:
                why = f"{why} can change; whole frames from {shown[first.name]} on"
            else:
                why = f"{why} can change"
        elif not kind.on_windows:
            why = "no rule for windows: runs on whole frames"
        else:
            whole = next(source for source in kind.inputs if source not in reached)
            why = f"{shown[whole]} runs on whole frames"
        yield PlanRow(shown[name], kind.kind, frame, window, smallest, mode, why, adds, dense)


def _sizes(row: PlanRow) -> str:
    """Smallest and largest box."""
    return _size(row.window) if row.smallest in (None, row.window) else f"{_size(row.smallest)}-{_size(row.window)}"


def _pair(size: Tensor) -> Pair:
    height, width = size.tolist()
    return height, width


def _size(pair: Pair | None) -> str:
    return "" if pair is None else f"{pair[0]}x{pair[1]}"
