"""Windows against cell-by-cell loops: layouts, pasting, padding, indexing; boxes of units and positions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import window_oracle
from torch import Tensor
from torch.utils import _pytree as pytree

import zfkernels.windows
from zfkernels.geometry import Boxes, Pair, Sliding, inputs_read, outputs_touched
from zfkernels.windows import Layout, Windows, crop

EXAMPLES = settings(deadline=None, max_examples=40)
Box = tuple[int, int, int, int]


@st.composite
def boxes_in(draw: st.DrawFn, frame: Pair) -> Box:
    """Any box inside a frame: an empty one anywhere, one cell, the whole frame."""
    first = [draw(st.integers(0, length)) for length in frame]
    size = [draw(st.integers(0, length - at)) for length, at in zip(frame, first, strict=True)]
    return first[0], first[1], size[0], size[1]


@st.composite
def windows(draw: st.DrawFn) -> Windows:
    frame = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    boxes = draw(st.lists(boxes_in(frame), max_size=5))
    image = draw(st.lists(st.integers(0, 2), min_size=len(boxes), max_size=len(boxes)))
    layout = Layout.of(as_boxes(boxes), torch.tensor(image, dtype=torch.int64), frame)
    channels = draw(st.integers(1, 3))
    return layout.windows(torch.arange(layout.cells * channels, dtype=torch.float64).view(-1, channels) + 1)


def as_boxes(boxes: list[Box]) -> Tensor:
    return torch.tensor(boxes, dtype=torch.int32).view(-1, 4)


@EXAMPLES
@given(windows())
def test_layouts_count_the_cells(given: Windows) -> None:
    layout = given.layout
    owner = [p for p, (_, _, height, width) in enumerate(given.boxes.tolist()) for _ in range(height * width)]
    assert layout.owner.tolist() == owner
    assert layout.cells == len(owner) == int(given.offsets[-1])
    assert given.offsets.tolist() == [sum(o < p for o in owner) for p in range(len(given) + 1)]
    assert layout.images == (int(given.image.max()) + 1 if len(given) else 0)
    dtypes = [leaf.dtype for leaf in (layout.boxes, layout.offsets, layout.image, layout.owner)]
    assert dtypes == [torch.int32, torch.int64, torch.int64, torch.int32]


@EXAMPLES
@given(windows(), st.booleans())
def test_windows_are_pasted_cell_by_cell(given: Windows, framed: bool) -> None:
    frames = -torch.arange(3.0 * given.values.shape[1] * given.frame[0] * given.frame[1], dtype=torch.float64)
    frames = frames.view(3, given.values.shape[1], *given.frame)
    before = frames.clone()
    pasted = given.paste(frames if framed else None)
    assert torch.equal(pasted, window_oracle.pasted(given, frames if framed else None))
    assert torch.equal(frames, before)


@EXAMPLES
@given(windows(), st.data())
def test_crops_are_those_of_the_whole_layer(given: Windows, data: st.DataObject) -> None:
    """Also crops that hang over the frame, or lie beyond it."""
    size = data.draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    count = data.draw(st.integers(0, 4)) if len(given) else 0
    rows = torch.tensor([data.draw(st.integers(0, len(given) - 1)) for _ in range(count)], dtype=torch.int64)
    origins = torch.tensor([[data.draw(st.integers(-8, 8)) for _ in "yx"] for _ in range(count)]).view(-1, 2)
    whole = torch.nn.functional.pad(given.paste(), (16, 16, 16, 16))
    expected = [
        whole[row, :, y + 16 : y + 16 + size[0], x + 16 : x + 16 + size[1]]
        for row, (y, x) in zip(rows.tolist(), origins.tolist(), strict=True)
    ]
    found = given.crops(origins, size, rows)
    assert found.shape == (count, given.values.shape[1], *size)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_crops_are_zero_beyond_a_window() -> None:
    boxes = as_boxes([(0, 0, 2, 2), (1, 1, 1, 1)])
    given = Layout.of(boxes, torch.zeros(2, dtype=torch.int64), (4, 5)).windows(torch.arange(1.0, 6.0)[:, None])
    assert given.crops(torch.tensor([[0, 0], [0, 0]]), (2, 3)).tolist() == [
        [[[1.0, 2.0, 0.0], [3.0, 4.0, 0.0]]], [[[0.0, 0.0, 0.0], [0.0, 5.0, 0.0]]],
    ]  # fmt: skip


@EXAMPLES
@given(windows())
def test_windows_are_read_one_by_one(given: Windows) -> None:
    padded, mask = given.padded(-7), given.mask
    for p, (top, left, height, width) in enumerate(given.boxes.tolist()):
        window = given[p]
        assert window.shape == (given.values.shape[1], height, width)
        cells = window_oracle.cells(given, p)
        assert all(window[:, y - top, x - left].tolist() == values for (y, x), values in cells.items())
        assert torch.equal(window, given[p - len(given)])
        assert torch.equal(padded[p, :, :height, :width], window)
        assert mask[p].sum() == height * width
        assert mask[p, 0, :height, :width].all()
    assert (padded.masked_select(~mask) == -7).all()
    with pytest.raises(IndexError, match=f"^Windows: expected an index below {len(given)}, got {len(given)}$"):
        given[len(given)]


@EXAMPLES
@given(windows())
def test_windows_are_a_pytree(given: Windows) -> None:
    doubled = pytree.tree_map_only(Tensor, lambda t: t * 2 if t.is_floating_point() else t, given)
    assert isinstance(doubled, Windows)
    assert torch.equal(doubled.values, 2 * given.values)
    assert (doubled.frame, doubled.images) == (given.frame, given.images)
    layout = pytree.tree_map(lambda leaf: leaf, given.layout)
    assert (layout.frame, layout.cells, layout.images) == (given.frame, given.layout.cells, given.images)
    assert [leaf.device.type for leaf in pytree.tree_leaves(layout.to("meta"))] == ["meta"] * 4


@EXAMPLES
@given(windows(), st.data())
def test_boxes_stay_what_they_are(given: Windows, data: st.DataObject) -> None:
    """To corners and back; clipping equals counting the cells inside."""
    has_cells = given.boxes[:, 2:].prod(1, keepdim=True) > 0
    assert torch.equal(Boxes.of(given.boxes).flat, torch.where(has_cells, given.boxes, 0))
    shift = torch.tensor(data.draw(st.tuples(st.integers(-4, 4), st.integers(-4, 4))))
    moved = given.boxes + torch.cat([shift, torch.zeros(2)]).int()
    for (top, left, height, width), clipped in zip(
        moved.tolist(), Boxes.of(moved, given.frame).flat.tolist(), strict=True
    ):
        inside = [
            (y, x)
            for y in range(top, top + height)
            for x in range(left, left + width)
            if 0 <= y < given.frame[0] and 0 <= x < given.frame[1]
        ]
        assert cells_of(clipped) == inside


@EXAMPLES
@given(windows())
def test_both_directions_leave_exact_boxes(given: Windows) -> None:
    """Of every window the smallest box of outputs that it touches, and of inputs that it reads; no padding of sizes."""
    layer = Sliding((3, 2), (2, 1), (1, 1))
    out = layer.output_size(given.frame)
    if min(out) < 1:
        return
    for p, (touched, read) in enumerate(
        zip(
            outputs_touched(Boxes.of(given.boxes), layer, out).flat.tolist(),
            inputs_read(Boxes.of(torch.tensor([[0, 0, *out]])), layer, given.frame).flat.tolist() * len(given),
            strict=True,
        )
    ):
        cells = set(window_oracle.cells(given, p))
        found = [o for o in cells_of((0, 0, *out)) if cells & set(taps(layer, o))]
        assert touched == hull(found)
        frame = set(cells_of((0, 0, *given.frame)))
        inside = [cell for o in cells_of((0, 0, *out)) for cell in taps(layer, o) if cell in frame]
        assert read == hull(inside)


def cells_of(box: Any) -> list[Pair]:
    top, left, height, width = box
    return [(y, x) for y in range(top, top + height) for x in range(left, left + width)]


def taps(layer: Sliding, output: Pair) -> list[Pair]:
    first = [o * s - p for o, s, p in zip(output, layer.stride, layer.padding, strict=True)]
    return [(first[0] + ky, first[1] + kx) for ky in range(layer.kernel[0]) for kx in range(layer.kernel[1])]


def hull(cells: list[Pair]) -> list[int]:
    if not cells:
        return [0, 0, 0, 0]
    top, left = (min(cell[axis] for cell in cells) for axis in (0, 1))
    return [top, left, *(max(cell[axis] for cell in cells) + 1 - first for axis, first in ((0, top), (1, left)))]


def test_windows_of_one_size() -> None:
    crops = torch.arange(24.0).view(2, 3, 2, 2)
    found = Windows.of(crops, torch.tensor([[0, 1], [2, 0]]), torch.tensor([1, 0]), (4, 3))
    assert found.boxes.tolist() == [[0, 1, 2, 2], [2, 0, 2, 2]]
    assert torch.equal(found[0], crops[0])
    assert torch.equal(found[1], crops[1])


def test_crops_of_frames() -> None:
    frames = torch.arange(2 * 3 * 5 * 6.0).view(2, 3, 5, 6)
    cut = crop(frames, torch.tensor([[0, 2], [3, 4], [1, 0]], dtype=torch.int32), torch.tensor([1, 0, 1]), (2, 2))
    assert torch.equal(cut, torch.stack([frames[1, :, :2, 2:4], frames[0, :, 3:, 4:], frames[1, :, 1:3, :2]]))
    assert cut.is_contiguous(memory_format=torch.channels_last)


def test_whole_frames() -> None:
    layout = Layout.whole(torch.tensor([2, 0]), (3, 4))
    assert layout.boxes.tolist() == [[0, 0, 3, 4]] * 2
    assert (layout.cells, layout.images, layout.image.tolist()) == (24, 3, [2, 0])


def test_a_layout_counts_further_than_2_31(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of each cell's window would take gigabytes: one number stands for it."""
    monkeypatch.setattr(
        zfkernels.windows, "owners", lambda offsets, cells: torch.zeros(1, dtype=torch.int32).expand(cells)
    )
    count = 70_000
    layout = Layout.of(
        torch.tensor([[0, 0, 224, 224]]).expand(count, 4), torch.zeros(count, dtype=torch.int64), (224, 224)
    )
    assert layout.cells == count * 224 * 224 > 2**31
    assert layout.offsets.tolist()[-2:] == [(count - 1) * 224 * 224, layout.cells]
    assert layout.owner.shape == (layout.cells,)
    values = torch.ones(1, 1).expand(layout.cells, 1)
    assert layout.windows(values)[count - 1].shape == (1, 224, 224)


@pytest.mark.parametrize(
    ("boxes", "image", "message"),
    [
        ([[0, 0, 4, 1]], [0], "boxes inside the frame (3, 4), got [0, 0, 4, 1]"),
        ([[0, 0, 1, 1], [0, 3, 1, 2]], [0, 0], "boxes inside the frame (3, 4), got [0, 3, 1, 2]"),
        ([[-1, 0, 1, 1]], [0], "boxes inside the frame (3, 4), got [-1, 0, 1, 1]"),
        ([[0, 0, 2, -1]], [0], "boxes inside the frame (3, 4), got [0, 0, 2, -1]"),
        ([[0, 0, 1, 1]], [-2], "image at least 0, got -2"),
        ([[0, 0, 1, 1]], [0, 0], "image [1], got (2,)"),
        ([[0, 0, 1]], [0], "boxes [P, 4], got (1, 3)"),
    ],
)
def test_bad_layouts(boxes: Any, image: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Layout.of(torch.tensor(boxes), torch.tensor(image), (3, 4))
    assert str(caught.value) == f"Layout.of: expected {message}"
