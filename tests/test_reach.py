"""What an activation depends on, against brute force."""

from __future__ import annotations

import pytest
import torch
from footprint import assert_boxes, bounding_boxes, toy_footprints
from toys import SIZE, TOYS, toy

from zfkernels.methods.reach import needed_boxes
from zfkernels.trace import Trace, trace_model

# Steps that are not followed cell by cell, and layers that dilation or strides make read with gaps: their boxes, and
# those of all steps behind them, may be larger than what can be reached.
NOT_EXACT = {
    "same_padding": [], "reflecting": ["pad"], "adaptive": ["body.1"], "means": ["mean"], "cat_rows": ["body"],
    "difference": ["body"], "smooth_functions": ["body"], "upsampling": ["body.0"], "ruler": ["mul"],
    "dilated": ["body.2"],
}  # fmt: skip


def behind(trace: Trace, roots: list[str]) -> set[str]:
    """The named layers and all that depend on them."""
    found = {trace.resolve(root) for root in roots}
    for step in trace.steps:
        if found & set(step.inputs):
            found.add(step.name)
    return found


@pytest.mark.parametrize("name", TOYS)
def test_needed_boxes_are_what_a_cell_depends_on(name: str) -> None:
    trace, masks = trace_model(toy(name), SIZE), toy_footprints(name)
    shapes = trace.shapes(SIZE)
    loose = behind(trace, NOT_EXACT.get(name, []))
    steps = masks.keys() & {step.name for step in trace.steps if step.layout}
    assert len(steps) > 2
    for step in steps:
        cells = torch.cartesian_prod(*(torch.arange(length) for length in masks[step].shape[2:]))
        found = needed_boxes(trace, shapes, step, cells)[trace.input.name]
        assert_boxes(found, bounding_boxes(masks[step].flatten(2).permute(2, 0, 1)), step not in loose, step)


def test_a_layer_without_maps_needs_all() -> None:
    trace = trace_model(toy("residual"), SIZE)
    found = needed_boxes(trace, trace.shapes(SIZE), trace.resolve("classes"), None)
    assert all((box.lo == 0).all() for box in found.values())
    assert found[trace.input.name].hi.tolist() == [list(SIZE)]
