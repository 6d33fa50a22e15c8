"""Nothing that a caller has set around a call, or a model sets inside, changes the numbers: every method in each."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from support.toys import decide, toy
from support.toys import images as toy_images
from torch import Tensor, nn

import zfkernels as zf

METHODS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "Deconvolution": lambda m, x: zf.Deconvolution(m).attribute(x, 1),
    "NeuronDeconvolution": lambda m, x: zf.NeuronDeconvolution(m, m.get_submodule("stem.0")).attribute(x, (1, 2, 3)),
    "Occlusion": lambda m, x: zf.Occlusion(m).attribute(x, (3, 9, 13), (3, 9, 13), target=1),
    "occlusion_sweep": lambda m, x: zf.occlusion_sweep(m, x, window=8).outputs,
    "occlusion_sweeps": lambda m, x: next(iter(zf.occlusion_sweeps(m, list(x), window=8))).outputs,
    "project": lambda m, x: zf.DeconvNet(m).project(x, "stem.0", channels=[1, 2]).dense(),
}


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def default_device(device: str) -> Iterator[None]:
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextlib.contextmanager
def changing_threads() -> Iterator[None]:
    """Another thread that changes how many threads PyTorch uses."""
    before, done = torch.get_num_threads(), threading.Event()

    def change() -> None:
        while not done.wait(0.001):
            torch.set_num_threads(1 + torch.get_num_threads() % 2)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        torch.set_num_threads(before)


CONTEXTS: dict[str, Callable[[], Any]] = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "autocast to float16": lambda: torch.autocast("cpu", dtype=torch.float16),
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "enable_grad": torch.enable_grad,
    "default dtype float64": lambda: default_dtype(torch.float64),
    "default dtype bfloat16": lambda: default_dtype(torch.bfloat16),
    "default device": lambda: default_device("meta"),
    "device": lambda: torch.device("meta"),
    "threads": changing_threads,
    "anomaly": torch.autograd.detect_anomaly,
}


def network(decides: bool = False) -> nn.Module:
    model = toy("residual").float()
    if decides:
        model.register_forward_hook(decide)
    return model


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("decides", [False, True], ids=["recorded", "as it runs"])
@pytest.mark.parametrize("method", METHODS)
def test_contexts_around_a_call(method: str, decides: bool) -> None:
    if decides and method == "project":
        pytest.skip("a network that decides by values has no projections")
    run, images = METHODS[method], toy_images(2).float()
    expected = run(network(decides), images)
    assert expected.dtype == torch.float32
    for name, context in CONTEXTS.items():
        model = network(decides)
        with context():
            found = run(model, images)
        assert found.dtype == torch.float32, name
        assert found.device.type == "cpu", name
        if name == "threads":  # sums may be split otherwise
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        else:
            assert torch.equal(found, expected), name


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("decides", [False, True], ids=["recorded", "as it runs"])
@pytest.mark.parametrize("method", METHODS)
def test_what_was_made_under_inference_mode(method: str, decides: bool) -> None:
    if decides and method == "project":
        pytest.skip("a network that decides by values has no projections")
    run, images = METHODS[method], toy_images(2).float()
    expected = run(network(decides), images)
    with torch.inference_mode():
        model, made = network(decides), images.clone()
        assert torch.equal(run(model, made), expected)
    assert torch.equal(run(model, made), expected)


@pytest.mark.parametrize("method", METHODS)
def test_frozen_parameters_and_modes(method: str) -> None:
    run, images = METHODS[method], toy_images(2).float()
    expected = run(network(), images)
    frozen = network().requires_grad_(False)
    training = network().train()
    for module in training.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.Dropout)):
            module.eval()
    for model in (frozen, training):
        modes = [module.training for module in model.modules()]
        assert torch.equal(run(model, images), expected)
        assert [module.training for module in model.modules()] == modes
    random = nn.Sequential(training, nn.Dropout())
    with pytest.raises(ValueError, match=r"call model.eval\(\) first"):
        METHODS["occlusion_sweep"](random.train(), images)


class Casting(nn.Module):
    """Autocast inside ``forward``, around all of it or around its first part."""

    def __init__(self, all_of_it: bool) -> None:
        super().__init__()
        net = network()
        self.stem, self.body, self.top, self.classes, self.all_of_it = (
            net.stem,
            net.body,
            net.top,
            net.classes,
            all_of_it,
        )

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            x = self.body(self.stem(x))
            if self.all_of_it:
                return self.classes(self.top(x).mean((2, 3)))
        return self.classes(self.top(x.float()).mean((2, 3)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("all_of_it", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_autocast_inside_forward(method: str, all_of_it: bool) -> None:
    """The casts are a part of the model: its numbers are those of the model as it runs, up to its own rounding."""
    run, images = METHODS[method], toy_images(2).float()
    found, plain = run(Casting(all_of_it), images), run(network(), images)
    assert found.shape == plain.shape
    assert found.isfinite().all()
    difference = (found.float() - plain).square().mean().sqrt() / plain.square().mean().sqrt()
    assert 0 < difference < 0.1  # bfloat16 keeps eight bits


def test_the_default_device_is_the_models_own() -> None:
    """A model that makes tensors finds the default device that its caller has set."""
    seen: list[torch.device] = []

    class Making(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, x: Tensor) -> Tensor:
            seen.append(torch.zeros(1).device)
            return self.net(x)

    model, images = Making(), toy_images(1).float()
    with torch.device("meta"):
        zf.Deconvolution(model).attribute(images, 1)
        zf.Occlusion(lambda x: model(x)).attribute(images, (3, 12, 15), (3, 12, 15), target=1)
    assert {device.type for device in seen} == {"meta"}
