"""What an activation depends on, against brute force."""

from __future__ import annotations

import pytest
import torch
from support.footprint import assert_boxes, bounding_boxes, toy_footprints
from support.toys import SIZE, TOYS, toy

import zfkernels as zf
from zfkernels.geometry import Boxes
from zfkernels.network import INPUT
from zfkernels.network.network import Network, trace_model

# Steps that are not followed cell by cell, and layers that dilation or strides make read with gaps: their boxes, and
# those of all steps behind them, may be larger than what can be reached.
NOT_EXACT = {
    "same_padding": ["conv2d"], "adaptive": ["body.1"], "means": ["mean"], "cat_rows": ["body"],
    "difference": ["body"], "ruler": ["mul"], "dilated": ["body.2"],
}  # fmt: skip


def behind(network: Network, roots: list[str]) -> set[str]:
    """The named layers and all that depend on them."""
    found = {network.resolve(root) for root in roots}
    for kind in network.kinds.values():
        if found & set(kind.inputs):
            found.add(kind.name)
    return found


@pytest.mark.parametrize("name", TOYS)
def test_receptive_fields_are_what_a_cell_depends_on(name: str) -> None:
    model, masks = toy(name), toy_footprints(name)
    net, network = zf.DeconvNet(model), trace_model(model, SIZE)
    loose = behind(network, NOT_EXACT.get(name, []))
    steps = [step for step in masks if step != INPUT and len(network.shape(step)) == 4 and step in network.kinds]
    assert len(steps) > 2
    for step in steps:
        cells = torch.cartesian_prod(*(torch.arange(length) for length in masks[step].shape[2:]))
        field = net.receptive_field(step, cells, SIZE)
        expected = bounding_boxes(masks[step].flatten(2).permute(2, 0, 1))
        assert_boxes(Boxes(field[:, :2], field[:, 2:]), expected, step not in loose, step)


def test_a_layer_without_maps_needs_all() -> None:
    found = zf.DeconvNet(toy("residual")).receptive_field("classes", torch.zeros(1, 2), SIZE)
    assert found.tolist() == [[0, 0, *SIZE]]
