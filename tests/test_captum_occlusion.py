"""zf.Occlusion against Captum itself: numbers, forms of arguments, refusals, and what is held at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.toys import images as toy_images
from support.toys import toy
from support.zoo import SIZES, network, photos
from torch import Tensor, nn

import zfkernels as zf
from zfkernels.captum_api import occlusion
from zfkernels.occlusion.chunks import WindowChunk
from zfkernels.occlusion.engine import WindowSweep

captum = pytest.importorskip("captum.attr", reason="captum, which these tests compare with, is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # captum warns on every call


@pytest.fixture
def sweeps(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Grows by one entry for each incremental sweep."""
    seen: list[Any] = []

    class Watched(WindowSweep):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            seen.append(self)
            return super().__call__(*args, **kwargs)

    monkeypatch.setattr(occlusion, "WindowSweep", Watched)
    return seen


def compare(forward: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
    ours = zf.Occlusion(forward).attribute(inputs, *args, **kwargs)
    theirs = captum.Occlusion(forward).attribute(inputs, *args, **kwargs)
    assert type(ours) is type(theirs)
    for mine, other in zip(*((x if isinstance(x, tuple) else (x,)) for x in (ours, theirs)), strict=True):
        assert mine.dtype == other.dtype == torch.float32
        # both are computed in float64 and then rounded: 1e-9 of the largest, and the last bit of a float32
        torch.testing.assert_close(mine, other, atol=1e-9 * other.abs().max().item(), rtol=1.2e-7)
        assert other.abs().max() > 0
    return ours


PER_CHANNEL = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64).view(3, 1, 1)
IMAGE_CASES: dict[str, dict[str, Any]] = {
    "square": {"sliding_window_shapes": (3, 8, 8), "strides": (3, 8, 8), "target": 3},
    "overlapping, clipped": {"sliding_window_shapes": (3, 9, 12), "strides": (3, 7, 5), "target": -2},
    "stride 1": {"sliding_window_shapes": (3, 21, 26), "target": 5},
    "one stride": {"sliding_window_shapes": (3, 12, 16), "strides": 3, "target": 3},
    "one stride in a tuple": {"sliding_window_shapes": (3, 12, 16), "strides": (3,), "target": 3},
    "channel by channel": {"sliding_window_shapes": (1, 13, 13), "strides": (1, 13, 13), "target": 0},
    "two channels": {"sliding_window_shapes": (2, 13, 13), "strides": (2, 13, 11), "target": 0},
    "overlapping channels": {"sliding_window_shapes": (2, 16, 16), "strides": (1, 16, 16), "target": 0},
    "whole image": {"sliding_window_shapes": (3, 25, 31), "strides": 7, "target": 1},
    "number": {"sliding_window_shapes": (3, 9, 13), "strides": (3, 9, 13), "target": 1, "baselines": -0.7},
    "int": {"sliding_window_shapes": (1, 9, 13), "strides": (1, 9, 13), "target": 1, "baselines": 2},
    "0-d": {"sliding_window_shapes": (3, 9, 13), "strides": (3, 9, 9), "target": 1, "baselines": torch.tensor(0.3)},
    "per channel": {"sliding_window_shapes": (2, 9, 13), "strides": (2, 9, 9), "target": 1, "baselines": PER_CHANNEL},
    "channels of an image": {"sliding_window_shapes": (3, 9, 13), "strides": (3, 9, 9), "baselines": PER_CHANNEL[None]},
    "tuples": {"sliding_window_shapes": ((3, 9, 13),), "strides": ((3, 9, 13),), "target": 1, "baselines": (0.1,)},
    "tensor of one": {"sliding_window_shapes": (3, 9, 13), "strides": (3, 9, 13), "target": torch.tensor(4)},
    "tensor": {"sliding_window_shapes": (3, 9, 13), "strides": (3, 9, 13), "target": torch.tensor([4, 2])},
    "list": {"sliding_window_shapes": (3, 9, 13), "strides": (3, 9, 13), "target": [6, 1]},
    "list of tuples": {"sliding_window_shapes": (3, 9, 13), "strides": (3, 9, 13), "target": [(6,), (1,)]},
    "tuple target": {"sliding_window_shapes": (3, 9, 13), "strides": (3, 9, 13), "target": (2,)},
    "several classes": {"sliding_window_shapes": (3, 12, 12), "strides": (3, 9, 9), "target": (slice(1, 4),)},
    "all classes": {"sliding_window_shapes": (3, 12, 12), "strides": (3, 9, 9)},
    "several at once": {"sliding_window_shapes": (3, 7, 7), "strides": 3, "target": 1, "perturbations_per_eval": 5},
}


@pytest.mark.parametrize("case", IMAGE_CASES.values(), ids=IMAGE_CASES)
def test_images(case: dict[str, Any], sweeps: list[Any]) -> None:
    compare(toy("residual"), toy_images(2), **case)
    assert sweeps


@pytest.mark.parametrize("shape", [(2, 3, 25, 31), (1, 3, 25, 31), (1, 1, 31), (25, 31)])
def test_baselines_of_image_shape(shape: tuple[int, ...], sweeps: list[Any]) -> None:
    baselines = torch.randn(shape, dtype=torch.float64)
    compare(toy("residual"), toy_images(2), (2, 9, 13), (2, 9, 13), baselines=baselines, target=1)
    assert len(sweeps) == 2


@pytest.mark.parametrize("name", ["alexnet", "resnet18", "mobilenet_v3_small", "googlenet"])
def test_networks(name: str, sweeps: list[Any]) -> None:
    compare(network(name), photos(1, SIZES[name]), (3, 30, 37), (3, 27, 33), target=2)
    assert sweeps


def test_real_weights(shared_data: Any, sweeps: list[Any]) -> None:
    models = pytest.importorskip("torchvision.models")
    model = models.squeezenet1_1().eval()
    model.load_state_dict(torch.load(shared_data / "squeezenet1_1_imagenet.pt", weights_only=True))
    image = photos(1, (224, 224)).float()
    target = int(model(image).argmax())
    case = {"sliding_window_shapes": (3, 64, 64), "strides": (3, 48, 56), "target": target}
    ours = zf.Occlusion(model).attribute(image, **case)
    theirs = captum.Occlusion(model).attribute(image, perturbations_per_eval=4, **case)
    assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()
    assert sweeps


def test_images_that_require_grad_and_are_not_contiguous(sweeps: list[Any]) -> None:
    image = toy_images(1).transpose(2, 3).requires_grad_()
    ours = compare(toy("residual"), image, (3, 9, 13), (3, 9, 13), target=1)
    assert not ours.requires_grad
    assert image.requires_grad
    assert sweeps


class Sum(nn.Module):
    """Two inputs and two further arguments."""

    def forward(self, a: Tensor, b: Tensor, weight: Tensor, power: int) -> Tensor:
        mixed = (a.flatten(1).sum(1, keepdim=True) * b.flatten(1).tanh()).sum(1) + b.flatten(1)[:, 0] ** power
        return torch.stack([mixed * weight, mixed.square()], 1)


class Branching(nn.Module):
    """What torch.fx cannot trace."""

    def __init__(self) -> None:
        super().__init__()
        self.net = toy("max_pool")

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) if x.sum() > -1e9 else self.net(-x)


def hooked() -> nn.Module:
    model = toy("max_pool")
    model.register_forward_hook(lambda module, inputs, output: output.softmax(1))
    return model


@pytest.mark.parametrize(
    ("forward", "case"),
    [
        (lambda x: toy("max_pool")(x), {"target": 3}),
        (toy("max_pool").forward, {"target": torch.tensor([1, 2]), "perturbations_per_eval": 3}),
        (Branching(), {"target": 3, "perturbations_per_eval": 4}),
        (hooked(), {"target": 3}),
        (lambda x: toy("max_pool")(x)[:, 4], {"perturbations_per_eval": 2}),
        (lambda x: toy("max_pool")(x)[:, :1], {"perturbations_per_eval": 2}),
        (nn.Conv2d(3, 4, 3, 5).double(), {"target": (1, 2, 3)}),
        (nn.Conv2d(3, 4, 3, 5).double(), {"target": [(1, 2, 3), (0, 1, 1)], "perturbations_per_eval": 3}),
        (nn.Conv2d(3, 4, 3, 5).double(), {"target": (1, slice(0, 2), 3)}),
        (lambda x: x.square().sum(), {}),
        (lambda x: x.square().sum().item(), {}),
        (lambda x: x.square().sum((0, 2, 3)), {}),
        (lambda x: x.square().sum((1, 2, 3)).long(), {}),
        (nn.DataParallel(toy("max_pool")), {"target": 3}),
    ],
    ids=[
        "function", "method", "untraceable", "hooked", "a column", "columns", "a cell", "a cell each", "a row", "a sum",
        "a number", "sums", "integers", "parallel",
    ],
)  # fmt: skip
def test_other_functions(forward: Any, case: dict[str, Any]) -> None:
    compare(forward, toy_images(2), (2, 9, 13), (1, 7, 13), **case)


def test_a_wrapped_module_is_swept_incrementally(sweeps: list[Any]) -> None:
    zf.Occlusion(nn.DataParallel(toy("max_pool"))).attribute(toy_images(1), (3, 9, 9), (3, 9, 9), target=1)
    assert sweeps


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_several_inputs_and_further_arguments(at_once: int) -> None:
    inputs = (torch.randn(3, 2, 5, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64))
    further = (torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64), 3)
    windows, strides = ((2, 2), (3,)), ((1, 2), 1)
    for baselines in (None, (0.5, torch.randn(3, 4, dtype=torch.float64)), (torch.randn(1, 2, 5).double(), 1)):
        case = {"strides": strides, "baselines": baselines, "perturbations_per_eval": at_once, "target": [0, 1, 0]}
        ours = compare(Sum(), inputs, windows, additional_forward_args=further, **case)
        assert isinstance(ours, tuple)


def test_three_inputs_one_number_each() -> None:
    inputs = tuple(torch.randn(2, length, dtype=torch.float64) for length in (3, 2, 4))
    compare(lambda a, b, c: a.sum(1) * b.prod(1) + c.norm(dim=1), inputs, ((2,), (1,), (2,)), (1, 1, 2))


def test_ints_and_further_tensor_without_axes() -> None:
    table = torch.randn(7, dtype=torch.float64)
    case = {"additional_forward_args": torch.tensor(2.0), "baselines": 0, "perturbations_per_eval": 2}
    compare(lambda x, factor: factor * table[x].sum(1), torch.randint(1, 7, (2, 5)), (2,), (1,), **case)


def test_inputs_of_one_axis() -> None:
    compare(lambda x: x.square(), torch.randn(4, dtype=torch.float64), ((),))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nan_spoils_its_image_only(dtype: torch.dtype) -> None:
    images = toy_images(2).to(dtype)
    images[0, 1, 9, 9] = torch.nan
    case = {"sliding_window_shapes": (3, 9, 9), "strides": (3, 9, 9), "target": 1}
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)
    rectified = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), *head).to(dtype).eval()
    for forward in (toy("max_pool").to(dtype), rectified, lambda x: rectified(x)):
        ours = zf.Occlusion(forward).attribute(images, **case)
        theirs = captum.Occlusion(forward).attribute(images, **case)
        assert ours[0].isnan().all()
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5, equal_nan=True)


def test_windows_travel_in_the_room_of_whole_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """The values of a chunk that are alive at once, against those of a whole image."""
    model, image = toy("residual"), photos(1, (129, 129))
    chunks: list[tuple[int, int, int]] = []
    run = WindowChunk.run

    def watched(self: WindowChunk) -> None:
        run(self)
        plan = self.plan
        chunks.append((len(self.image), len(self.image) * plan.least_bytes, plan.whole_bytes))

    monkeypatch.setattr(WindowChunk, "run", watched)
    found, sizes = [], []
    for at_once in (1, 2):
        chunks.clear()
        found.append(zf.Occlusion(model).attribute(image, (3, 12, 12), (3, 6, 6), None, 0, None, at_once))
        assert all(taken <= at_once * whole for _, taken, whole in chunks)
        sizes.append(max(count for count, _, _ in chunks))
    assert 5 < sizes[0] < sizes[1]
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-9)


def test_whole_copies_held_at_once() -> None:
    batches = []

    def forward(x: Tensor) -> Tensor:
        batches.append(len(x))
        return x.sum((1, 2, 3))

    zf.Occlusion(forward).attribute(toy_images(2), (3, 5, 5), (3, 5, 5), perturbations_per_eval=4)
    assert max(batches) == 4 * 2
    assert sum(batches) == 2 + 2 * 5 * 7


def test_progress(capsys: pytest.CaptureFixture[str]) -> None:
    for forward in (toy("max_pool"), lambda x: x.sum((1, 2))):
        zf.Occlusion(forward).attribute(toy_images(2), (3, 9, 13), (3, 9, 13), target=1, show_progress=True)
        assert "18/18" in capsys.readouterr().err


IMAGE = torch.zeros(2, 3, 8, 8)
REFUSED: list[tuple[Any, Any, dict[str, Any], str]] = [
    # function, inputs, arguments, message; Captum refuses all of these by assertion too
    (None, [IMAGE], {"sliding_window_shapes": (3, 2, 2)}, "expected inputs a tensor or a tuple of tensors, got list"),
    (None, IMAGE, {"sliding_window_shapes": (2, 2)}, "expected sliding_window_shapes 3 ints"),
    (None, IMAGE, {"sliding_window_shapes": ((3, 2, 2), (1,))}, "expected sliding_window_shapes one tuple for each"),
    (None, IMAGE, {"sliding_window_shapes": (3, 9, 2)}, "expected sliding_window_shapes no larger than (3, 8, 8)"),
    (None, IMAGE, {"sliding_window_shapes": (3, 2, 2), "strides": (3, 2)}, "expected strides 3 ints"),
    (None, IMAGE, {"sliding_window_shapes": (3, 2, 2), "strides": [3, 2, 2]}, "expected strides 3 ints"),
    (None, IMAGE, {"sliding_window_shapes": (3, 2, 2), "strides": 3}, "expected strides no larger than the window"),
    (None, (IMAGE, IMAGE), {"sliding_window_shapes": ((3, 2, 2), (3, 2, 2)), "strides": 1}, "expected strides an int"),
    (None, IMAGE, {"sliding_window_shapes": (3, 2, 2), "baselines": "mean"}, "expected baselines numbers or tensors"),
    (None, IMAGE, {"sliding_window_shapes": (3, 2, 2), "perturbations_per_eval": 0}, "perturbations_per_eval an int"),
    (None, IMAGE, {"sliding_window_shapes": (3, 2, 2), "perturbations_per_eval": 1.5}, "perturbations_per_eval an int"),
    (None, IMAGE, {"sliding_window_shapes": (3, 2, 2), "target": [1]}, "expected target a list of 2 entries, got 1"),
    (None, IMAGE, {"sliding_window_shapes": (3, 2, 2), "target": ["cat", "dog"]}, "a list of ints or tuples"),
    (None, IMAGE, {"sliding_window_shapes": (3, 2, 2), "target": "cat"}, "expected target an int, tuple, tensor"),
    (None, IMAGE, {"sliding_window_shapes": (3, 2, 2), "target": (1, 2)}, "expected target at most 1 ints"),
    (None, IMAGE, {"sliding_window_shapes": (3, 2, 2), "target": torch.tensor([1, 2, 0])}, "an int tensor of 1 or 2"),
    (lambda x: x, IMAGE, {"sliding_window_shapes": (3, 2, 2), "target": [1, 1]}, "an output [N, classes]"),
    (lambda x: x.sum(), IMAGE, {"sliding_window_shapes": (3, 2, 2), "perturbations_per_eval": 2}, "one number, got 2"),
    (lambda x: x.sum((0, 1)), IMAGE, {"sliding_window_shapes": (3, 4, 4), "perturbations_per_eval": 2}, "to return"),
    (lambda x: "cat", IMAGE, {"sliding_window_shapes": (3, 2, 2)}, "to return a tensor or a number, got str"),
]  # fmt: skip


@pytest.mark.parametrize(("forward", "inputs", "arguments", "message"), REFUSED, ids=[case[3] for case in REFUSED])
def test_refused_as_captum_does(forward: Any, inputs: Any, arguments: dict[str, Any], message: str) -> None:
    forward = forward or (lambda *x: x[0].sum((2, 3)))
    with pytest.raises(AssertionError):
        captum.Occlusion(forward).attribute(inputs, **arguments)
    with pytest.raises(AssertionError) as refusal:
        zf.Occlusion(forward).attribute(inputs, **arguments)
    assert isinstance(refusal.value, (ValueError, TypeError))
    assert str(refusal.value).startswith("Occlusion: expected ")
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("model", "arguments", "error", "message"),
    [
        (None, {"strides": 0}, ValueError, "expected strides at least 1, got (0, 0, 0)"),
        (None, {"sliding_window_shapes": (3, 0, 2)}, ValueError, "expected sliding_window_shapes at least 1"),
        (None, {"baselines": torch.zeros(3, 8, 7)}, ValueError, "that broadcast to an input of shape (2, 3, 8, 8)"),
        (None, {"baselines": (0, 0)}, ValueError, "expected baselines one for each input, got 2 for 1"),
        (None, {"target": 5}, IndexError, "expected target from 0 to 2, got 5"),
        (None, {"target": [0, -4]}, IndexError, "expected target from 0 to 2, got -4"),
        (None, {"target": torch.tensor([0.0, 1.0])}, ValueError, "expected target an int tensor"),
        (nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2)), {}, ValueError, "call model.eval() first"),
        (nn.Conv2d(3, 2, 3).double().eval(), {}, TypeError, "expected images of the model's dtype torch.float64"),
    ],
)
def test_refused(model: Any, arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"sliding_window_shapes": (3, 2, 2), **arguments}
    with pytest.raises(error) as refusal:
        zf.Occlusion(model or (lambda x: x.sum((2, 3)))).attribute(IMAGE, **arguments)
    assert message in str(refusal.value)


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(TypeError, match="expected forward_func a function, got str"):
        zf.Occlusion("resnet18")  # type: ignore[arg-type]
