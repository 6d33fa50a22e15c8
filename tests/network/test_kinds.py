"""Kinds of steps: how each is recognised, which cells a change touches, and what it makes of windows."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zfkernels.geometry import Boxes
from zfkernels.network.kinds import Kind, Scene, recognise, register_kind
from zfkernels.network.kinds import _registered as registered
from zfkernels.network.kinds.reshaping import reshaped
from zfkernels.network.maps import Maps
from zfkernels.network.program import Program
from zfkernels.network.record import record
from zfkernels.occlusion.cost import Rates
from zfkernels.occlusion.engine import WindowSweep

SIZE = (23, 28)
MAPS = 8
ON_WINDOWS = Rates(windows=1e30, frames=1.0, memory=1e30, call=0.0, budget=2**26)


class Step(nn.Module):
    """One function of maps [N, 8, H, W] between two convolutions."""

    def __init__(self, function: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.first, self.last = nn.Conv2d(3, MAPS, 3, padding=1), nn.LazyConv2d(5, 3)
        self.one, self.gate = nn.Conv2d(MAPS, MAPS, 1), nn.Conv2d(2, 1, 5, padding=2)
        self.up, self.wide = nn.ConvTranspose2d(MAPS, 6, 2, 2), nn.ConvTranspose2d(MAPS, 4, 3, 2, 1, 1)
        self.grouped = nn.ConvTranspose2d(MAPS, 6, (3, 2), (2, 1), groups=2, dilation=(1, 2), bias=False)
        self.linear, self.norm = nn.Linear(MAPS, MAPS), nn.LayerNorm(MAPS)
        self.instance = nn.InstanceNorm2d(MAPS, affine=True, track_running_stats=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self, torch.tanh(self.first(x))))


def _shuffled(m: Any, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def _with_coordinates(x: Tensor) -> Tensor:
    n, _, h, w = x.shape
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
    return torch.cat([x, torch.stack([rows, columns]).to(x).expand(n, 2, h, w)], 1)


def _with_zeros(x: Tensor) -> Tensor:
    zeros = torch.zeros(x.shape[0], 3, *x.shape[2:], dtype=x.dtype)
    return torch.cat([x.detach(), zeros, torch.ones_like(x)], 1)


def _gated(x: Tensor, gate: Tensor) -> Tensor:
    return x * torch.sigmoid(gate)


FUNCTIONS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    # cells from elsewhere
    "nearest": lambda m, x: F.interpolate(x, scale_factor=2),
    "nearest_to_an_odd_size": lambda m, x: F.interpolate(x, size=(37, 44)),
    "nearest_smaller": lambda m, x: F.interpolate(x, scale_factor=0.5),
    "bilinear": lambda m, x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "bilinear_corners": lambda m, x: F.interpolate(x, size=(41, 50), mode="bilinear", align_corners=True),
    "bilinear_smaller": lambda m, x: F.interpolate(x, size=(11, 13), mode="bilinear"),
    "reflected": lambda m, x: F.pad(x, (2, 1, 3, 2), mode="reflect"),
    "replicated": lambda m, x: F.pad(x, (2, 1, 3, 2), mode="replicate"),
    "circular": lambda m, x: F.pad(x, (2, 1, 3, 2), mode="circular"),
    "padded": lambda m, x: F.pad(x, (0, 1, 2, 0), value=0.7),
    "padded_columns": lambda m, x: F.pad(x, (1, 1)),
    "padded_and_cropped": lambda m, x: F.pad(x, (-2, 1, 3, -1)),
    "cropped_by_padding": lambda m, x: F.pad(x, (-1, -1, -1, -1), value=2.0),
    "cropped": lambda m, x: x[:, :, 2:-3, 1:],
    "strided": lambda m, x: x[..., ::2, 1::3],
    "rolled": lambda m, x: torch.roll(x, (3, -2), (2, 3)),
    "flipped": lambda m, x: x.flip(3),
    "pixel_shuffle": lambda m, x: F.pixel_shuffle(x, 2),
    "transposed": lambda m, x: m.up(x),
    "transposed_that_overlaps": lambda m, x: m.wide(x),
    "transposed_in_groups": lambda m, x: m.grouped(x),
    # channels
    "channels_rolled": lambda m, x: torch.roll(x, 1, 1),
    "channels_shuffled": _shuffled,
    "channels_padded": lambda m, x: F.pad(x, (0, 0, 0, 0, 1, 2)),
    "channels_of_zeros": lambda m, x: _with_zeros(x),
    "coordinates": lambda m, x: _with_coordinates(x),
    "unit_length": lambda m, x: F.normalize(x, dim=1),
    "norm_by_hand": lambda m, x: (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True) + 1e-5).sqrt(),
    "layer_norm_last": lambda m, x: m.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
    "spatial_gate": lambda m, x: _gated(x, m.gate(torch.cat([x.mean(1, True), x.max(1, True)[0]], 1))),
    "gated_linear": lambda m, x: F.glu(x, 1),
    "softmax": lambda m, x: x.softmax(1),
    "stacked": lambda m, x: torch.stack([x, x * 2, m.one(x)], 1).sum(1),
    "unbound": lambda m, x: sum(torch.unbind(x.view(x.shape[0], 2, 4, *x.shape[2:]), 1)),
    "tokens": lambda m, x: m.linear(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(x.shape),
    "contrast": lambda m, x: F.local_response_norm(x, 5),
    "running_instance_norm": lambda m, x: m.instance(x),
    "norm_as_a_function": lambda m, x: F.batch_norm(x, m.instance.running_mean + 0.1, m.instance.running_var * 2),
    # numbers
    "extremes": lambda m, x: torch.maximum(x, m.one(x)) - torch.minimum(x, m.one(x)) / (x + 2),
    "rectified_by_where": lambda m, x: torch.where(m.one(x) > 0, m.one(x), 0.0),
    "rectified_by_maximum": lambda m, x: torch.maximum(x, torch.zeros((), dtype=x.dtype)),
    "rectified_by_threshold": lambda m, x: F.threshold(x, 0, 0),
}


def network(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model, x = Step(FUNCTIONS[name]).double().eval(), torch.randn(2, 3, *SIZE, dtype=torch.float64)
    model(x)
    return model, x


@pytest.mark.parametrize("name", FUNCTIONS)
@torch.no_grad()
def test_on_windows_a_network_computes_what_it_computes_on_frames(name: str) -> None:
    model, x = network(name)
    boxes = torch.tensor([[0, 0, 7, 6], [5, 11, 7, 6], [18, 21, 7, 6], [12, 2, 3, 9], [22, 27, 1, 1]])
    sweep = WindowSweep(record(model, x), boxes, rates=ON_WINDOWS)
    assert sweep.plan(x.device, x.dtype).tail == ()
    found = sweep(x, torch.full((3,), 0.4, dtype=x.dtype))
    for p, (top, left, height, width) in enumerate(boxes.tolist()):
        hidden = x.clone()
        hidden[..., top : top + height, left : left + width] = 0.4
        expected = model(hidden)
        effect = (expected - model(x)).abs().amax()
        assert effect > 0 or height * width == 1  # a pixel that is cropped away
        assert (found.outputs[:, p] - expected).abs().amax() <= 1e-8 * max(effect, 1e-5)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_change_touches_the_whole_touched_box_and_nothing_else(name: str) -> None:
    """Of every step, with the same boxes of all its inputs changed."""
    model, x = network(name)
    program = Program(record(model, x), fold=False)
    values = program.run(x, list(program.kinds))
    corners = torch.tensor([[0, 0, 3, 4], [9, 10, 2, 1], [0, 25, 5, 2], [8, 0, 4, 28]])
    for kind in program.kinds.values():
        if not kind.inputs or not kind.on_windows:
            continue
        boxes = Boxes.of(corners, kind.below[0].frame)
        found = bounding_boxes(torch.stack([moved(kind, values, boxes, p) for p in range(len(corners))]))
        touched = kind.touched([boxes] * len(kind.inputs))
        if kind.rectifies or kind.maps is None:
            continue
        assert torch.equal(found.lo, touched.lo), kind.kind
        assert torch.equal(found.hi, touched.hi), kind.kind


def moved(kind: Kind, values: dict[str, Any], boxes: Boxes, p: int) -> Tensor:
    """bool [h, w]: which cells of a step change when box p of its inputs does."""
    changed = dict(values)
    box = (..., *(slice(*ends) for ends in zip(boxes.lo[p].tolist(), boxes.hi[p].tolist(), strict=True)))
    for name, maps in zip(kind.inputs, kind.below, strict=True):
        frames = maps.frames(values[name]).clone()
        frames[box] = frames[box].logical_not() if frames.dtype == torch.bool else torch.randn_like(frames[box])
        changed[name] = maps.value(frames)
    before, after = (kind.maps.frames(kind.run(v, 2)) for v in (values, changed))
    return (before != after).any(0).any(0)


def bounding_boxes(masks: Tensor) -> Boxes:
    """The smallest boxes that hold what is true in ``masks`` [P, h, w]; empty ones are all zeros."""
    lines = [masks.any(2), masks.any(1)]
    lo = torch.stack([line.int().argmax(1) for line in lines], 1)
    hi = torch.stack([(line * torch.arange(1, line.shape[1] + 1)).amax(1) for line in lines], 1)
    return Boxes(lo, hi)


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "circular"])  # there boxes are hulls
def test_what_is_read_is_what_touches(name: str) -> None:
    """A cell of a step reads exactly the cells of the input that touch it."""
    model, x = network(name)
    program = Program(record(model, x), fold=False)
    for kind in program.kinds.values():
        if not kind.inputs or not kind.on_windows or kind.maps is None:
            continue
        height, width = kind.maps.frame
        cell = Boxes.of(torch.tensor([[0, 0, 1, 1], [height // 2, width // 3, 1, 1], [height - 1, width - 1, 1, 1]]))
        for below, box in zip(kind.below, kind.read(cell), strict=True):
            cells = torch.stack(torch.meshgrid(*map(torch.arange, below.frame), indexing="ij"), -1).reshape(-1, 2)
            touched = kind.touched([Boxes(cells, cells + 1)] * len(kind.inputs))
            for p in range(3):
                hit = (touched.lo <= cell.lo[p]).all(1) & (touched.hi > cell.lo[p]).all(1)
                reads = bounding_boxes(hit.view(1, *below.frame))
                assert torch.equal(reads.lo[0], box.lo[p]), kind.kind
                assert torch.equal(reads.hi[0], box.hi[p]), kind.kind


@pytest.mark.parametrize(
    ("below", "sizes", "rows", "columns"),
    [
        (Maps.planar(6, (4, 5)), (2, 3, 4, 5), 3, 4),
        (Maps.planar(6, (4, 5)), (6, 20), 2, 2),
        (Maps.planar(6, (4, 5)), (1, 6, 4, 5), 3, 4),
        (Maps.planar(6, (4, 5)), (6, 4, 5, 1), 2, 3),
        (Maps((6, 20), 2, 2, (4, 5)), (6, 4, 5), 2, 3),
        (Maps((20, 6), 1, 1, (4, 5)), (20, 2, 3), 1, 1),
        (Maps((20, 6), 1, 1, (4, 5)), (4, 5, 6), 1, 2),
    ],
)
def test_axes_are_followed_through_views(below: Maps, sizes: tuple[int, ...], rows: int, columns: int) -> None:
    found = reshaped(below, sizes)
    assert found is not None
    assert (found.sizes, found.rows, found.columns, found.frame) == (sizes, rows, columns, (4, 5))


@pytest.mark.parametrize("sizes", [(120,), (24, 5), (6, 2, 2, 5), (6, 5, 4), (2, 60)])
def test_views_that_mix_cells_and_channels_hold_no_maps(sizes: tuple[int, ...]) -> None:
    assert reshaped(Maps.planar(6, (4, 5)), sizes) is None


@pytest.mark.parametrize(
    "maps", [Maps.planar(6, (4, 5)), Maps((4, 2, 5, 3), 1, 3, (4, 5)), Maps((20, 6), 1, 1, (4, 5))]
)
def test_frames_and_cells_go_there_and_back(maps: Maps) -> None:
    value = torch.randn(2, *maps.sizes)
    frames = maps.frames(value)
    assert frames.shape == (2, 6, 4, 5)
    assert frames.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(maps.value(frames), value)
    cells = torch.randn(7, 6)
    assert torch.equal(maps.cells(maps.spread(cells)), cells)


def test_a_kind_of_the_users_own() -> None:
    calls = []

    class Doubled(Kind):
        kind = "doubled"

        @classmethod
        def recognise(cls, step: Any, scene: Scene) -> Kind | None:
            return cls(step, scene, scene.maps(step.inputs[0])) if step.name.startswith("neg") else None

        def run_on_windows(self, chunk: Any) -> Any:
            calls.append(self.name)
            return chunk.layout(self.name).windows(-chunk.windows(self.inputs[0]).values)

    try:
        assert register_kind(Doubled) is Doubled
        model, x = Step(lambda m, x: -x).double().eval(), torch.randn(1, 3, *SIZE, dtype=torch.float64)
        model(x)
        sweep = WindowSweep(record(model, x), torch.tensor([[0, 0, 4, 4]]), rates=ON_WINDOWS)
        sweep(x, torch.zeros(3))
        assert calls == ["neg"]
    finally:
        registered.remove(Doubled)
    with pytest.raises(TypeError, match="register_kind: expected kind a subclass of Kind, got 3"):
        register_kind(3)  # type: ignore[arg-type]


def test_every_step_of_a_recording_is_of_a_kind() -> None:
    model, x = network("tokens")
    recording = record(model, x)
    scene = Scene(recording)
    kinds = [recognise(step, scene) for step in recording.steps]
    assert [kind.name for kind in kinds] == [step.name for step in recording.steps]
    assert all(kind.kind for kind in kinds)


def test_nothing_outside_the_folder_asks_for_a_kind_by_name() -> None:
    package = Path(__file__).parent.parent.parent / "zfkernels"
    for folder in ("network", "occlusion"):
        for path in (package / folder).rglob("*.py"):
            if "kinds" in path.parts:
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Compare):
                    assert not any(
                        isinstance(part, ast.Attribute) and part.attr == "kind" for part in ast.walk(node)
                    ), path
                if (
                    isinstance(node, ast.ImportFrom)
                    and node.module
                    and node.module.startswith("zfkernels.network.kinds")
                ):
                    module = importlib.import_module(node.module)
                    named = [getattr(module, alias.name) for alias in node.names]
                    assert not [n for n in named if isinstance(n, type) and issubclass(n, Kind) and n is not Kind], path


def test_filters_are_made_once_for_several_sizes_of_images() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3)).double().eval()
    made: dict[Any, Any] = {}
    kinds = [Program(record(model, (3, side, 20)), made=made).kinds for side in (20, 25)]
    weights = [[kind.weight for kind in found.values() if kind.multiply_adds] for found in kinds]
    assert len(weights[0]) == 2
    assert all(one is other for one, other in zip(*weights, strict=True))

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(self.conv(x) * 0.5) * 0.25

    first, second = (k for k in Program(record(Twice().eval(), (3, 20, 20)), made=made).kinds.values() if k.inputs)
    assert not torch.equal(first.weight, second.weight)
