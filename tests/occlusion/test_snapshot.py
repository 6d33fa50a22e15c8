"""Maps of a data set are all of the model as it was when the first was asked for."""

from __future__ import annotations

import torch
from support.toys import images as toy_images
from support.toys import toy

import zfkernels as zf
from zfkernels.network import snapshot


def test_weights_that_change_between_two_maps() -> None:
    model, images = toy("residual"), toy_images(3)
    expected = list(zf.occlusion_sweeps(model, list(images), window=8, stride=8))
    maps = zf.occlusion_sweeps(model, list(images), window=8, stride=8)
    found = [next(maps)]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    found += maps
    for ours, before in zip(found, expected, strict=True):
        assert torch.equal(ours.outputs, before.outputs)
    after = zf.occlusion_sweep(model, images[1:2], window=8, stride=8)
    assert not torch.equal(after.outputs, found[1].outputs)


def test_shared_tensors_stay_shared_in_the_copy() -> None:
    model = toy("residual")
    model.body.b.bias = model.stem[0].bias
    twin = snapshot(model)
    assert twin.body.b.bias is twin.stem[0].bias
    assert twin.stem[0].bias is not model.stem[0].bias
    assert torch.equal(twin(toy_images(1)), model(toy_images(1)))
