"""What occlusion sweeps refuse, word for word, what they take beside the obvious, and what they keep in memory."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from support.hiding import assert_exact, dense_outputs, everywhere, occluded
from support.peak import peak_bytes
from support.toys import MAPS, SIZE, Body, Net, conv, images, toy
from torch import Tensor, nn

import zfkernels as zf
from zfkernels.occlusion import sweeper as sweepers
from zfkernels.occlusion.where import Where


def spoilt() -> Tensor:
    x = images()
    x[1, 2, 3, 4] = float("nan")
    return x


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"window": 26}, ValueError, "window no larger than the images (25, 31), got (26, 26)"),
    ({"window": (5, 32)}, ValueError, "window no larger than the images (25, 31), got (5, 32)"),
    ({"window": 0}, ValueError, "window at least 1, got 0"),
    ({"window": 2.5}, TypeError, "window an int or a pair of ints, got 2.5"),
    ({"stride": 0}, ValueError, "stride at least 1, got 0"),
    ({"stride": (3, -1)}, ValueError, "stride at least 1, got (3, -1)"),
    (
        {"positions": torch.zeros(0, 2, dtype=torch.int64)},
        ValueError,
        "positions of shape [P, 2], at least one, got (0",
    ),
    ({"positions": torch.zeros(3, 2)}, TypeError, "positions an int tensor [P, 2], got torch.float32"),
    ({"positions": torch.ones(3, 2, dtype=torch.bool)}, TypeError, "positions an int tensor [P, 2], got torch.bool"),
    ({"positions": [[0, 0]]}, TypeError, "positions an int tensor [P, 2], got list"),
    ({"positions": torch.tensor([[0, 31]])}, ValueError, "positions inside the images (25, 31), got some outside"),
    ({"positions": torch.tensor([[0, 0]]), "stride": 2}, ValueError, "stride or positions, got both"),
    ({"images": spoilt()}, ValueError, "images of finite values, got NaN or infinity"),
    ({"images": images().float()}, TypeError, "images of the model's dtype torch.float64, got torch.float32"),
    ({"images": images()[:, :2]}, ValueError, "images of 3 channels, got 2"),
    ({"images": images()[0]}, ValueError, "images of shape [N, C, H, W], got (3, 25, 31)"),
    ({"precision": torch.float16}, TypeError, "images of float32, float64 or bfloat16 on a CPU, got torch.float16"),
    (
        {"precision": "half a bit"},
        ValueError,
        "precision None or a floating dtype such as 'bfloat16', got 'half a bit'",
    ),
    ({"fill": "grey"}, ValueError, "fill a number, a tensor, a function or one of ('mean', 'blur'), got 'grey'"),
    ({"fill": torch.zeros(2)}, ValueError, "fill of shape [3], (3, 25, 31), (2, 3, 25, 31) or (56, 3, 4, 4), got (2,)"),
    ({"targets": [7]}, ValueError, "targets from 0 to 6, got [7]"),
    ({"targets": 3.5}, TypeError, "targets a class or a list of classes, got 3.5"),
    ({"targets": [True]}, TypeError, "targets a class or a list of classes, got [True]"),
    ({"fill": (0.5, 0.5)}, ValueError, "fill of shape [3], (3, 25, 31), (2, 3, 25, 31) or (56, 3, 4, 4), got (2,)"),
    ({"batch_size": 0}, ValueError, "batch_size a positive int or None, got 0"),
    ({"model": "vgg16"}, TypeError, "model an nn.Module or a function, got str"),
    ({"model": lambda x: x.mean()}, ValueError, "a model whose output is made of tensors [2, ...], got ()"),
    ({"model": lambda x: "cat"}, ValueError, "a model whose output is made of tensors [2, ...], got str"),
    (
        {"model": nn.Sequential(conv(3)).double(), "targets": [1]},
        ValueError,
        "targets of an output that is one tensor [N, classes], got (2, 6, 25, 31)",
    ),
]


@pytest.mark.parametrize(("arguments", "error", "message"), REFUSED, ids=[message for _, _, message in REFUSED])
def test_bad_input(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as refusal:
        zf.occlusion_sweep(**{"model": toy("residual"), "images": images(), "window": 4, **arguments})
    assert str(refusal.value).startswith("occlusion_sweep: expected ")
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_training_mode_is_refused_with_the_remedy() -> None:
    for model in (toy("relu_then_norm").train(), Net(nn.Dropout()).train()):
        with pytest.raises(ValueError, match=r"in training mode; call model\.eval\(\) first"):
            zf.occlusion_sweep(model, images(), window=4)


def test_a_data_set_of_something_else() -> None:
    with pytest.raises(
        TypeError, match=r"expected dataset of images \[C, H, W\] or tuples that start with one, got str"
    ):
        next(zf.occlusion_sweeps(toy("residual"), ["photo.png"], window=4))
    with pytest.raises(ValueError, match="expected start a number of images, got -1"):
        next(zf.occlusion_sweeps(toy("residual"), images(), window=4, start=-1))


def test_a_data_set_is_swept_with_the_same_arguments() -> None:
    one, many = (list(inspect.signature(f).parameters) for f in (zf.occlusion_sweep, zf.occlusion_sweeps))
    assert {*many} - {*one} == {"dataset", "start"}
    assert {*one} - {*many} == {"images"}


@pytest.mark.parametrize("form", ["list", "generator"])
def test_progress_over_a_data_set(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = list(images(3)) if form == "list" else (image for image in images(3))
    assert len(list(zf.occlusion_sweeps(toy("residual"), dataset, window=12, start=1, progress=True))) == 2
    assert ("2/2" if form == "list" else "2 images") in capsys.readouterr().err


def test_images_that_require_grad() -> None:
    x = images().requires_grad_()
    found = zf.occlusion_sweep(toy("residual"), x, window=8, layer="top")
    assert found.activity is not None
    assert not any(tensor.requires_grad for tensor in (found.outputs, found.clean, found.activity))
    assert x.grad is None


@pytest.mark.parametrize("model", ["residual", "view", "function"])
def test_no_images(model: str) -> None:
    network: Any = toy("residual").forward if model == "function" else toy(model)
    found = zf.occlusion_sweep(network, images(0), window=8, stride=7)
    assert found.outputs.shape == (0, 4, 5, 7)
    assert found.clean.shape == (0, 7)


def test_bfloat16() -> None:
    model, x = toy("residual"), images(1)
    found = zf.occlusion_sweep(model, x, window=9, precision="bfloat16")
    assert found.outputs.dtype == torch.bfloat16
    exact = zf.occlusion_sweep(model, x, window=9)
    assert next(model.parameters()).dtype == torch.float64
    torch.testing.assert_close(found.outputs.double(), exact.outputs, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("form", ["one image", "a batch of one"])
def test_one_image_as_the_fill_of_all(form: str) -> None:
    model, x, positions = toy("residual"), images(2), everywhere(SIZE, (6, 5))
    shown = torch.randn(3, *SIZE, dtype=torch.float64)
    fill = shown if form == "one image" else shown[None]
    found = zf.occlusion_sweep(model, x, window=(6, 5), positions=positions, fill=fill)
    assert_exact(found, *dense_outputs(model, x, positions, (6, 5), shown.expand_as(x)))


def test_activity_of_the_images_themselves() -> None:
    model, x, positions = toy("residual"), images(2), everywhere(SIZE, (6, 5))
    found = zf.occlusion_sweep(model, x, window=(6, 5), positions=positions, fill=2.0, layer="input")
    sums = occluded(x, positions, (6, 5), 2.0).sum((3, 4))
    assert found.channel is not None
    expected = torch.stack([sums[n, :, channel] for n, channel in enumerate(found.channel.tolist())])
    torch.testing.assert_close(found.activity, expected)


def test_a_hook_that_changes_an_activation_takes_part() -> None:
    model, x, positions = toy("residual"), images(2), everywhere(SIZE, (6, 5))
    model.body.a.register_forward_hook(lambda module, inputs, output: output * 2)
    found = zf.occlusion_sweep(model, x, window=(6, 5), positions=positions)
    assert_exact(found, *dense_outputs(model, x, positions, (6, 5), 0.0))


def test_images_of_many_sizes_do_not_fill_the_memory() -> None:
    sweeper = sweepers.Sweeper(toy("residual"), Where(12))
    for side in range(24, 31):
        sweeper.sweep(images(1)[:, :, :25, :side], 0.0)
    assert list(sweeper.runs) == [(25, side) for side in range(31 - sweepers.SIZES, 31)]
    filters = [
        [id(kind.weight) for kind in run.program.kinds.values() if hasattr(kind, "weight")]
        for run in sweeper.runs.values()
    ]
    assert all(ids == filters[0] for ids in filters)  # they are made ready once, not for each size


def test_memory_does_not_grow_with_the_number_of_positions() -> None:
    model = Net(Body(lambda m, x: m.a(x), a=conv())).double().eval()
    x = torch.randn(1, 3, 96, 96, dtype=torch.float64)
    few, many = (
        torch.cartesian_prod(*[torch.arange(0, 88, 22)] * 2),
        torch.cartesian_prod(*[torch.arange(0, 88, 5)] * 2),
    )

    def peak(positions: Tensor) -> int:
        return peak_bytes(lambda: zf.occlusion_sweep(model, x, window=8, positions=positions, batch_size=4))

    peak(few)  # the recording is compared with the model once
    frame = MAPS * 48 * 48 * 8  # bytes of one layer of one image
    assert frame < (least := peak(few)) < 25 * frame
    assert peak(many) < least + (len(many) - len(few)) * frame / 100  # the plan and the results


def test_numbers_for_each_channel_and_one_target() -> None:
    model, x = toy("residual"), images(1)
    found = zf.occlusion_sweep(model, x, window=8, fill=(0.5, 0, 1), targets=3)
    expected = zf.occlusion_sweep(model, x, window=8, fill=torch.tensor([0.5, 0, 1]), targets=[3])
    assert found == expected
    assert found.outputs.shape[-1] == 1
