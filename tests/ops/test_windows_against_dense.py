"""The ops on windows against PyTorch's layers on whole frames: any geometry, any boxes, exactly what changes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support import window_oracle
from torch import Tensor

from zfkernels import ops
from zfkernels.geometry import Boxes, Pair, Sliding
from zfkernels.windows import Layout, Windows

EXAMPLES = settings(deadline=None, max_examples=40)
BACKENDS = [
    pytest.param(name, marks=pytest.mark.skipif(reason is not None, reason=str(reason)))
    for op, name, reason in ops.availability()
    if op == "window_conv2d" and name in ("reference", "cpp")
]


def pairs(low: int, high: int) -> st.SearchStrategy[Pair]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


class Case:
    """A layer on a frame, and windows of it; numbers are drawn by torch."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.frame = draw(pairs(1, 8))
        self.images, self.count = draw(st.integers(1, 3)), draw(st.integers(1, 5))
        self.groups = draw(st.sampled_from([1, 1, 2, 3]))
        self.channels = self.groups * draw(st.integers(1, 2)), self.groups * draw(st.integers(1, 2))
        self.layer = Sliding(*(draw(pairs(*limits)) for limits in ((1, 4), (1, 4), (0, 3), (1, 3))))
        self.pool = Sliding(self.layer.kernel, self.layer.stride, draw(st.tuples(*(
            st.integers(0, k // 2) for k in self.layer.kernel))))  # fmt: skip
        self.ceil_mode, self.framed, self.relu = (draw(st.booleans()) for _ in range(3))
        self.image = torch.tensor(draw(st.lists(st.integers(0, self.images - 1), min_size=self.count,
                                                max_size=self.count)))  # fmt: skip
        self.draw = draw
        torch.manual_seed(draw(st.integers(0, 9)))
        self.size = self.layer.output_size(self.frame)

    def boxes(self, frame: Pair) -> Tensor:
        found = []
        for _ in range(self.count):
            first = [self.draw(st.integers(0, length)) for length in frame]
            size = [self.draw(st.integers(0, length - at)) for length, at in zip(frame, first, strict=True)]
            found.append([*first, *size])
        return torch.tensor(found, dtype=torch.int32)

    def windows(self, frame: Pair, channels: int) -> Windows:
        layout = Layout.of(self.boxes(frame), self.image, frame)
        return layout.windows(torch.randn(layout.cells, channels, dtype=torch.float64))

    def frames(self, channels: int, frame: Pair) -> Tensor | None:
        return torch.randn(self.images, channels, *frame, dtype=torch.float64) if self.framed else None

    def convolution(self) -> dict[str, Any]:
        weight = torch.randn(self.channels[1], self.channels[0] // self.groups, *self.layer.kernel, dtype=torch.float64)
        return {
            "weight": weight, "bias": torch.randn(self.channels[1], dtype=torch.float64),
            "stride": self.layer.stride, "padding": self.layer.padding, "dilation": self.layer.dilation,
            "groups": self.groups,
        }  # fmt: skip


cases = st.composite(Case)


def assert_shows(result: Windows, dense: Tensor) -> None:
    """Every window shows its part of its dense result."""
    torch.testing.assert_close(result.values, window_oracle.crops(dense, result), rtol=1e-9, atol=1e-9)


def assert_all_changes(result: Windows, clean: Tensor | None, dense: Tensor) -> None:
    """Nothing changes outside the windows."""
    torch.testing.assert_close(result.paste(clean), dense, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
@EXAMPLES
@given(cases())
def test_convolution(backend: str, case: Case) -> None:
    assume(min(case.size) >= 1)
    windows, frames = case.windows(case.frame, case.channels[0]), case.frames(case.channels[0], case.frame)
    layer = case.convolution()

    def dense(maps: Tensor) -> Tensor:
        out = F.conv2d(maps, **layer)
        return out.relu() if case.relu else out

    truth = dense(windows.paste(frames))
    found = ops.window_conv2d(windows, frames, **layer, relu=case.relu, backend=backend)
    assert_shows(found, truth)
    clean = torch.zeros(case.images, *windows.values.shape[1:], *case.frame, dtype=torch.float64)
    assert_all_changes(found, dense(clean if frames is None else frames), truth)
    asked = case.boxes(case.size)
    assert_shows(ops.window_conv2d(windows, frames, **layer, relu=case.relu, out_boxes=asked, backend=backend), truth)


@pytest.mark.parametrize("backend", BACKENDS)
@EXAMPLES
@given(cases(), st.booleans(), st.sampled_from([None, 3]))
def test_pooling(backend: str, case: Case, counted: bool, divisor: int | None) -> None:
    assume(min(case.pool.output_size(case.frame, case.ceil_mode)) >= 1)
    windows, frames = case.windows(case.frame, case.channels[0]), case.frames(case.channels[0], case.frame)
    geometry = (case.pool.kernel, case.pool.stride, case.pool.padding)
    whole = windows.paste(frames)
    found = ops.window_max_pool2d(windows, frames, *geometry, ceil_mode=case.ceil_mode, backend=backend)
    dense = F.max_pool2d(whole, *geometry, 1, case.ceil_mode)
    assert torch.equal(found.values, window_oracle.crops(dense, found))
    if frames is not None:
        assert torch.equal(found.paste(F.max_pool2d(frames, *geometry, 1, case.ceil_mode)), dense)
    found = ops.window_avg_pool2d(
        windows, frames, *geometry, ceil_mode=case.ceil_mode, count_include_pad=counted, divisor_override=divisor,
        backend=backend,
    )  # fmt: skip
    assert_shows(found, F.avg_pool2d(whole, *geometry, case.ceil_mode, counted, divisor))


@pytest.mark.parametrize("backend", BACKENDS)
@EXAMPLES
@given(cases(), st.sampled_from(["number", "channels", "pixels", "image", "windows"]), st.booleans())
def test_occlusion(backend: str, case: Case, fill: str, masked: bool) -> None:
    assume(min(case.size) >= 1)
    channels, clean = case.channels[0], torch.randn(case.images, case.channels[0], *case.frame, dtype=torch.float64)
    boxes = case.boxes(case.frame)
    boxes[:, :2] += torch.tensor(case.draw(pairs(-2, 2)), dtype=torch.int32)
    hidden = Layout.of(Boxes.of(boxes, case.frame), case.image, case.frame)
    fills: dict[str, Any] = {
        "number": 0.5,
        "channels": torch.randn(channels, dtype=torch.float64),
        "pixels": torch.randn(case.count, channels, dtype=torch.float64),
        "image": torch.randn_like(clean),
        "windows": hidden.windows(torch.randn(hidden.cells, channels, dtype=torch.float64)),
    }
    shown = {
        "number": lambda: torch.full((case.count, channels, *case.frame), 0.5, dtype=torch.float64),
        "channels": lambda: fills[fill][None, :, None, None].expand(case.count, -1, *case.frame),
        "pixels": lambda: fills[fill][:, :, None, None].expand(-1, -1, *case.frame),
        "image": lambda: fills[fill][case.image],
        "windows": lambda: fills[fill].paste(),
    }[fill]()
    mask = hidden.windows(torch.rand(hidden.cells, 1) < 0.5) if masked else None
    inside = hidden.windows(torch.ones(hidden.cells, 1, dtype=torch.bool)) if mask is None else mask
    occluded = torch.where(inside.paste(), shown, clean[case.image])
    layer = case.convolution()
    found = ops.occluded_conv2d(
        clean, boxes=boxes, fill=fills[fill], mask=mask, image=case.image, **layer, backend=backend
    )
    truth = F.conv2d(occluded, **layer)
    assert_shows(found, truth)
    assert_all_changes(found, F.conv2d(clean, **layer), truth)
    asked = ops.occluded_conv2d(
        clean, boxes=boxes, fill=fills[fill], mask=mask, image=case.image, out_boxes=case.boxes(case.size), **layer,
        backend=backend,
    )  # fmt: skip
    assert_shows(asked, truth)


@pytest.mark.parametrize("backend", BACKENDS)
@EXAMPLES
@given(cases(), st.booleans(), st.sampled_from(["sum", "last"]), st.booleans())
def test_transposed_convolution(backend: str, case: Case, unpooled: bool, overlap: str, rectify: bool) -> None:
    if backend == "cpp":
        case.framed = False  # it takes zeros around the windows only
    assume(min(case.size) >= 1)
    assume(min(case.pool.output_size(case.size)) >= 1)
    switches, pooled, options = None, case.size, {}
    if unpooled:
        geometry = (case.pool.kernel, case.pool.stride, case.pool.padding)
        maps = torch.randn(case.images, case.channels[1], *case.size, dtype=torch.float64)
        _, switches = ops.max_pool2d_with_switches(maps, *geometry, backend="reference")
        pooled = (switches.shape[2], switches.shape[3])
        names = ("pool_kernel_size", "pool_stride", "pool_padding")
        options = {**dict(zip(names, geometry, strict=True)), "unpooled_size": case.size}
    layer = case.convolution()
    del layer["bias"]
    options |= {**layer, "output_size": case.frame, "overlap": overlap, "rectify": rectify}
    ours = {**options, "backend": backend}
    windows, frames = case.windows(pooled, case.channels[1]), case.frames(case.channels[1], pooled)
    whole = windows.paste(frames)
    codes = None if switches is None else switches[case.image]
    truth = ops.unpool_relu_conv_transpose2d(whole, codes, **options, backend="reference")
    found = ops.unpool_relu_conv_transpose2d(windows, switches, frames=frames, **ours)
    assert_shows(found, truth)
    base = torch.zeros(case.images, case.channels[1], *pooled, dtype=torch.float64) if frames is None else frames
    clean = ops.unpool_relu_conv_transpose2d(base, switches, **options, backend="reference")
    assert_all_changes(found, clean, truth)
    asked = case.boxes(case.frame)
    assert_shows(ops.unpool_relu_conv_transpose2d(windows, switches, frames=frames, **ours, out_boxes=asked), truth)


@pytest.mark.parametrize("backend", BACKENDS)
@EXAMPLES
@given(cases())
def test_gathering_and_reducing(backend: str, case: Case) -> None:
    channels, frames = case.channels[0], case.frames(case.channels[0], case.frame)
    first, second = case.windows(case.frame, channels), case.windows(case.frame, channels)
    row = torch.randint(0, case.count, (case.count,))
    base = torch.zeros(case.images, channels, *case.frame, dtype=torch.float64) if frames is None else frames
    truth = base[case.image]
    for windows, order in ((second, row), (first, torch.arange(case.count))):
        there = Layout.of(windows.boxes[order], case.image, case.frame)
        values = torch.cat([windows[int(p)].flatten(1).t() for p in order])
        truth = torch.where(there.windows(torch.ones(there.cells, 1, dtype=torch.bool)).paste(),
                            there.windows(values).paste(), truth)  # fmt: skip
    found = ops.window_gather(
        [first, (second, row)], frames, Layout.of(case.boxes(case.frame), case.image, case.frame), backend=backend
    )
    assert torch.equal(found.values, window_oracle.crops(truth, found))
    pasted = ops.window_gather([first], frames, Layout.whole(case.image, case.frame), backend=backend)
    assert torch.equal(pasted.padded(), first.paste(frames))
    whole = first.paste(frames)
    assert torch.equal(ops.window_reduce(first, frames, "max", backend=backend), whole.amax((2, 3)))
    torch.testing.assert_close(ops.window_reduce(first, frames, backend=backend), whole.sum((2, 3)))


def test_what_is_outside_a_maximum_is_not_forgotten() -> None:
    """The frame's maximum counts only where the window does not hide it, and an infinity inside it does not spread."""
    frames = torch.zeros(1, 1, 3, 3)
    frames[0, 0, 1, 1] = math.inf
    layout = Layout.of(torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]]), torch.zeros(3).long(), (3, 3))
    windows = layout.windows(torch.tensor([[-5.0], [2.0]]))
    for backend in (parameter.values[0] for parameter in BACKENDS if ops.registered()["window_reduce"].why_not(
            parameter.values[0]) is None):  # fmt: skip
        assert ops.window_reduce(windows, frames, "max", backend=backend).tolist() == [[0.0], [math.inf], [math.inf]]
        assert ops.window_reduce(windows, frames, "sum", backend=backend)[0].tolist() == [-5.0]


@pytest.mark.skipif(len(BACKENDS) < 2 or ops.registered()["window_gather"].why_not("cpp") is not None,
                    reason="no C++ kernels: the references copy all cells")  # fmt: skip
def test_more_cells_than_fit_into_32_bits() -> None:
    """2.4 x 10^9 cells, most of them in memory that nobody touches: the last ones are read where they lie."""
    frame = (60_000, 40_000)
    try:
        values = torch.empty(frame[0] * frame[1], 1)
    except RuntimeError as error:
        pytest.skip(f"no room for them: {error}")
    values[-1], values[-2] = 7, 5
    boxes = torch.tensor([[0, 0, *frame]], dtype=torch.int32)
    windows = Windows(values, boxes, torch.tensor([0, len(values)]), torch.tensor([0]), frame)
    corner = torch.tensor([[frame[0] - 1, frame[1] - 2, 1, 2]], dtype=torch.int32)
    assert ops.window_gather([windows], None, corner, backend="cpp").values.tolist() == [[5], [7]]
    doubled = ops.window_conv2d(windows, None, torch.full((1, 1, 1, 1), 2.0), out_boxes=corner, backend="cpp")
    assert doubled.values.tolist() == [[10], [14]]
    below = ops.unpool_relu_conv_transpose2d(
        windows, None, torch.full((1, 1, 1, 1), 2.0), out_boxes=corner, backend="cpp"
    )
    assert below.values.tolist() == [[10], [14]]
    for pool, expected in ((ops.window_max_pool2d, [[7]]), (ops.window_avg_pool2d, [[6]])):
        last = torch.tensor([[frame[0] - 1, frame[1] // 2 - 1, 1, 1]], dtype=torch.int32)
        assert pool(windows, None, (1, 2), out_boxes=last, backend="cpp").values.tolist() == expected
