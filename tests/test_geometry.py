"""The geometry of boxes against brute force: which cells of random networks can reach which, counted on ones."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from zfkernels.geometry import Boxes, Pair, Sliding, boxes, inputs_read, outputs_touched, place, union

EXAMPLES = settings(deadline=None, max_examples=100)


@dataclass(frozen=True)
class Layer:
    """A real layer of one channel and the geometry that is said to describe it."""

    kind: str
    sliding: Sliding
    ceil_mode: bool = False

    def __call__(self, maps: Tensor) -> Tensor:
        s = self.sliding
        if self.kind == "conv":
            return F.conv2d(maps, torch.ones(1, 1, *s.kernel), None, s.stride, s.padding, s.dilation)
        if self.kind == "max":
            return F.max_pool2d(maps, s.kernel, s.stride, s.padding, s.dilation, self.ceil_mode)
        return F.avg_pool2d(maps, s.kernel, s.stride, s.padding, self.ceil_mode)

    def output_size(self, frame: Pair) -> Pair:
        return self.sliding.output_size(frame, self.ceil_mode)

    def touched(self, changed: Boxes, frame: Pair) -> Boxes:
        return outputs_touched(changed, self.sliding, self.output_size(frame))

    def read(self, wanted: Boxes, frame: Pair) -> Boxes:
        return inputs_read(wanted, self.sliding, frame)


@dataclass(frozen=True)
class Branches:
    """Layers side by side on the same input, of the same output size; their results are added or concatenated."""

    layers: tuple[Layer, ...]
    join: str

    def __call__(self, maps: Tensor) -> Tensor:
        results = [layer(maps) for layer in self.layers]
        return torch.cat(results, 1).sum(1, keepdim=True) if self.join == "cat" else sum(results, torch.zeros(()))

    def output_size(self, frame: Pair) -> Pair:
        return self.layers[0].output_size(frame)

    def touched(self, changed: Boxes, frame: Pair) -> Boxes:
        return union(*(layer.touched(changed, frame) for layer in self.layers))

    def read(self, wanted: Boxes, frame: Pair) -> Boxes:
        return union(*(layer.read(wanted, frame) for layer in self.layers))


def pairs(low: int, high: int) -> st.SearchStrategy[Pair]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def layers(draw: st.DrawFn, *, solid: bool = False) -> Layer:
    """Any layer that PyTorch takes; a solid one leaves no gaps between the cells that it touches or reads."""
    kind = draw(st.sampled_from(["conv", "max", "avg"]))
    kernel = draw(pairs(1, 4))
    stride = draw(st.tuples(*(st.integers(1, min(k, 3) if solid else 4) for k in kernel)))
    dilation = (1, 1) if solid or kind == "avg" else draw(pairs(1, 3))
    most = [3, 3] if kind == "conv" else [k // 2 for k in kernel]
    padding = draw(st.tuples(*(st.integers(0, m) for m in most)))
    return Layer(kind, Sliding(kernel, stride, padding, dilation), kind != "conv" and draw(st.booleans()))


@st.composite
def branches(draw: st.DrawFn, *, solid: bool = False) -> Branches:
    stride = draw(st.integers(1, 2))
    found = []
    for _ in range(draw(st.integers(2, 3))):
        kernel = draw(st.sampled_from([3, 5] if solid else [1, 3, 5]))
        dilation = 1 if solid else draw(st.integers(1, 2))
        padding = (kernel - 1) * dilation // 2
        kind = draw(st.sampled_from(["conv", "max"])) if dilation == 1 else "conv"
        found.append(Layer(kind, Sliding(*((v, v) for v in (kernel, stride, padding, dilation)))))
    return Branches(tuple(found), draw(st.sampled_from(["add", "cat"])))


def networks(*, solid: bool = False) -> st.SearchStrategy[list[Layer | Branches]]:
    return st.lists(st.one_of(layers(solid=solid), branches(solid=solid)), min_size=1, max_size=4)


FRAMES = pairs(1, 13)


def reach(network: list[Layer | Branches], frame: Pair) -> tuple[Tensor, list[Pair]]:
    """bool [H, W, H', W'], whether a cell of the input reaches one of the output, and the sizes of all layers.

    A one in one cell, zeros elsewhere, positive weights: what is not zero in the output counts the ways to get there.
    """
    maps = torch.eye(frame[0] * frame[1]).view(-1, 1, *frame)
    sizes = [frame]
    for layer in network:
        size = layer.output_size(sizes[-1])
        assume(min(size) > 0)
        maps = (layer(maps) > 0).float()
        assert tuple(maps.shape[2:]) == size
        sizes.append(size)
    return maps.view(*frame, *sizes[-1]) > 0, sizes


@st.composite
def some_boxes(draw: st.DrawFn, frame: Pair) -> Boxes:
    ends = [st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True).map(sorted) for n in frame]
    drawn = draw(st.lists(st.tuples(*ends), min_size=1, max_size=4))
    found = torch.tensor([*drawn, [[0, 0], [0, 0]]])  # the last one is empty
    return Boxes(found[:, :, 0], found[:, :, 1])


def hulls(cells: Tensor) -> Boxes:
    """The smallest boxes around the cells of bool [P, H, W], zeros around nothing."""
    found = []
    for mask in cells:
        where = mask.nonzero()
        found.append(torch.stack([where.amin(0), where.amax(0) + 1]) if len(where) else torch.zeros(2, 2).long())
    return Boxes(*torch.stack(found, 1))


def filled(where: Boxes, frame: Pair) -> Tensor:
    """bool [P, H, W]: the cells inside the boxes."""
    masks = torch.zeros(len(where.lo), *frame, dtype=torch.bool)
    for mask, (top, left), (bottom, right) in zip(masks, where.lo.tolist(), where.hi.tolist(), strict=True):
        mask[top:bottom, left:right] = True
    return masks


def reached(reach: Tensor, changed: Tensor) -> Tensor:
    """bool [P, H', W']: the outputs that some of the cells bool [P, H, W] reach."""
    return torch.einsum("phw,hwyx->pyx", changed.float(), reach.float()) > 0


def assert_same(actual: Boxes, expected: Boxes) -> None:
    assert torch.equal(actual.lo, expected.lo), (actual, expected)
    assert torch.equal(actual.hi, expected.hi), (actual, expected)


@EXAMPLES
@given(layer=st.one_of(layers(), branches()), frame=FRAMES, data=st.data())
def test_one_step_is_exact_both_ways(layer: Layer | Branches, frame: Pair, data: st.DataObject) -> None:
    reaches, (_, out) = reach([layer], frame)
    changed, wanted = data.draw(some_boxes(frame)), data.draw(some_boxes(out))
    assert_same(layer.touched(changed, frame), hulls(reached(reaches, filled(changed, frame))))
    backwards = reaches.permute(2, 3, 0, 1)
    assert_same(layer.read(wanted, frame), hulls(reached(backwards, filled(wanted, out))))


def carried(network: list[Layer | Branches], sizes: list[Pair], box: Boxes, forwards: bool) -> Boxes:
    """A box of the input carried to the output, or a box of the output to the input."""
    steps = list(zip(network, sizes, strict=False))
    for layer, frame in steps if forwards else reversed(steps):
        box = layer.touched(box, frame) if forwards else layer.read(box, frame)
    return box


@EXAMPLES
@given(network=networks(), frame=FRAMES, data=st.data())
def test_nothing_outside_the_box_is_reachable(
    network: list[Layer | Branches], frame: Pair, data: st.DataObject
) -> None:
    reaches, sizes = reach(network, frame)
    changed, wanted = data.draw(some_boxes(frame)), data.draw(some_boxes(sizes[-1]))
    touched = carried(network, sizes, changed, True)
    assert not (reached(reaches, filled(changed, frame)) & ~filled(touched, sizes[-1])).any()
    read = carried(network, sizes, wanted, False)
    assert not (reached(reaches.permute(2, 3, 0, 1), filled(wanted, sizes[-1])) & ~filled(read, frame)).any()


@EXAMPLES
@given(network=networks(solid=True), frame=FRAMES, data=st.data())
def test_every_edge_of_the_box_is_reachable(network: list[Layer | Branches], frame: Pair, data: st.DataObject) -> None:
    reaches, sizes = reach(network, frame)
    changed, wanted = data.draw(some_boxes(frame)), data.draw(some_boxes(sizes[-1]))
    assert_same(carried(network, sizes, changed, True), hulls(reached(reaches, filled(changed, frame))))
    backwards = reached(reaches.permute(2, 3, 0, 1), filled(wanted, sizes[-1]))
    assert_same(carried(network, sizes, wanted, False), hulls(backwards))


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_the_size_of_an_output_is_torchs(ceil_mode: bool) -> None:
    """Of every small pooling: a window must begin inside the input, not exactly behind it."""
    behind = 0
    for kernel, stride, dilation, length in itertools.product(range(1, 5), range(1, 5), (1, 2), range(1, 13)):
        for padding in range(min(kernel // 2, 2) + 1):
            layer = Sliding((kernel, 1), (stride, 1), (padding, 0), (dilation, 1))
            size = layer.output_size((length, 1), ceil_mode)
            if size[0] >= 1:
                arguments = layer.kernel, layer.stride, layer.padding, layer.dilation, ceil_mode
                assert F.max_pool2d(torch.zeros(1, 1, length, 1), *arguments).shape[2:] == size, (layer, length)
                behind += size[0] * stride == length + padding
    assert behind > 0


@EXAMPLES
@given(layer=layers(), size=pairs(1, 5))
def test_most_touched_and_span_are_the_largest(layer: Layer, size: Pair) -> None:
    """Far from any border: over all phases of the stride, the largest number of outputs that a window can touch."""
    lo = torch.cartesian_prod(torch.arange(60, 65), torch.arange(60, 65))
    touched = outputs_touched(Boxes(lo, lo + torch.tensor(size)), layer.sliding, (100, 100)).size
    assert (touched <= torch.tensor(layer.sliding.most_touched(size))).all()
    if layer.sliding.dilation == (1, 1) and max(layer.sliding.stride) <= 4:
        assert tuple(touched.amax(0).tolist()) == layer.sliding.most_touched(size)
    read = inputs_read(Boxes(lo, lo + torch.tensor(size)), layer.sliding, (1000, 1000)).size
    assert (read == torch.tensor(layer.sliding.span(size))).all()


@EXAMPLES
@given(frame=FRAMES, data=st.data())
def test_union_is_the_hull_and_ignores_empty_boxes(frame: Pair, data: st.DataObject) -> None:
    parts = [data.draw(some_boxes(frame)) for _ in range(3)]
    count = min(len(part.lo) for part in parts)
    parts = [Boxes(part.lo[-count:].roll(i, 0), part.hi[-count:].roll(i, 0)) for i, part in enumerate(parts)]
    together = torch.stack([filled(part, frame) for part in parts]).any(0)
    assert_same(union(*parts), hulls(together))


@EXAMPLES
@given(frame=FRAMES, size=pairs(1, 15), data=st.data())
def test_boxes_are_clipped_to_the_frame(frame: Pair, size: Pair, data: st.DataObject) -> None:
    corner = st.tuples(*(st.integers(-3, n + 3) for n in frame))
    origins = torch.tensor(data.draw(st.lists(corner, min_size=1, max_size=4)), dtype=torch.int32)
    cells = torch.zeros(len(origins), *frame, dtype=torch.bool)
    for p, (top, left) in enumerate(origins.tolist()):
        for y in range(max(top, 0), min(top + size[0], frame[0])):
            for x in range(max(left, 0), min(left + size[1], frame[1])):
                cells[p, y, x] = True
    assert_same(boxes(origins, size, frame), hulls(cells))


@EXAMPLES
@given(frame=FRAMES, data=st.data())
def test_placed_windows_lie_in_the_frame_and_hold_their_box(frame: Pair, data: st.DataObject) -> None:
    box = data.draw(some_boxes(frame))
    least = box.size.amax(0).clamp(min=1).tolist()
    size = data.draw(st.tuples(*(st.integers(s, n) for s, n in zip(least, frame, strict=True))))
    origins = place(box.lo, size, frame)
    assert origins.dtype == torch.int32
    assert (origins >= 0).all()
    assert (origins + torch.tensor(size) <= torch.tensor(frame)).all()
    assert (origins <= box.lo).all()
    assert (origins + torch.tensor(size) >= box.hi).all()
    fits = (box.lo + torch.tensor(size) <= torch.tensor(frame)).all(1)
    assert torch.equal(origins[fits], box.lo[fits].int())  # moved only where it must be
