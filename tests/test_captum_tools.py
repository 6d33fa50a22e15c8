"""The drop-ins as Captum's users use them: in Captum's tools, under its names, on the models that they have."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.toys import decide, toy
from support.toys import images as toy_images
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import zfkernels as zf
from zfkernels.captum_api import deconvolution
from zfkernels.captum_api.bound import Bound

captum = pytest.importorskip("captum.attr", reason="captum, which these tests compare with, is not installed")
metrics = pytest.importorskip("captum.metrics")
pytestmark = pytest.mark.filterwarnings("ignore")  # captum warns on every call
WINDOW = {"sliding_window_shapes": (3, 9, 13), "strides": (3, 9, 13)}


def same(ours: Tensor, theirs: Tensor, budget: float = 1e-9) -> None:
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    assert theirs.abs().max() > 0
    assert (ours - theirs).abs().max() <= budget * theirs.abs().max()


def pairs(model: nn.Module) -> list[tuple[Any, Any, dict[str, Any]]]:
    """Ours, Captum's and the arguments of a call."""
    layer = model.get_submodule("stem")
    return [
        (zf.Deconvolution(model), captum.Deconvolution(model), {"target": 2}),
        (
            zf.NeuronDeconvolution(model, layer),
            captum.NeuronDeconvolution(model, layer),
            {"neuron_selector": (1, 4, 4)},
        ),
        (zf.Occlusion(model), captum.Occlusion(model), {"target": 2, **WINDOW}),
    ]


def test_the_names_that_tools_ask_for() -> None:
    for ours, theirs, _ in pairs(toy("residual")):
        assert ours.get_name() == theirs.get_name()
        assert ours.has_convergence_delta() == theirs.has_convergence_delta()
        assert ours.multiplies_by_inputs == theirs.multiplies_by_inputs
        assert ours.forward_func is theirs.forward_func
        with pytest.raises(NotImplementedError, match="expected attribute, got a call of attribute_future"):
            ours.attribute_future()


def test_isinstance_takes_ours_for_captums() -> None:
    for ours, theirs, _ in pairs(toy("residual")):
        assert isinstance(ours, type(theirs))
        assert isinstance(ours, captum.Attribution)
        assert isinstance(ours, captum.GradientAttribution) == isinstance(theirs, captum.GradientAttribution)
        assert type(ours).__module__.startswith("zfkernels.")
        assert isinstance(ours, type(ours))
        assert type(copy.deepcopy(ours)) is type(ours)
    method = zf.Deconvolution(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)))
    twin = pickle.loads(pickle.dumps(method))
    assert type(twin) is type(method)
    assert torch.equal(*(each.attribute(torch.ones(1, 3, 2, 2), 1) for each in (twin, method)))


def test_captum_is_not_imported_for_it() -> None:
    script = (
        "import sys, torch, zfkernels as zf\n"
        "method = zf.Deconvolution(torch.nn.Linear(2, 2))\n"
        "assert method.__class__ is zf.Deconvolution and 'captum' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("kind", ["smoothgrad", "vargrad"])
def test_noise_tunnel(kind: str) -> None:
    images = toy_images(2)
    for ours, theirs, arguments in pairs(toy("residual")):
        found = []
        for method in (ours, theirs):
            torch.manual_seed(0)
            tunnel = captum.NoiseTunnel(method)
            found.append(tunnel.attribute(images.clone(), nt_type=kind, nt_samples=3, stdevs=0.1, **arguments))
        same(found[0], found[1], 2e-7 if isinstance(ours, zf.Occlusion) else 1e-9)  # Occlusion rounds to float32


def test_what_captum_calls_unwrapped_keeps_no_graph() -> None:
    model, images = toy("residual"), toy_images(1).requires_grad_()
    for ours, _, arguments in pairs(model):
        result = type(ours).attribute.__wrapped__(ours, images, **arguments)  # type: ignore[attr-defined]
        assert torch.equal(result, ours.attribute(images, **arguments))
        assert not result.requires_grad


def test_infidelity_and_sensitivity() -> None:
    model, images = toy("residual"), toy_images(2)

    def perturb(inputs: Tensor) -> tuple[Tensor, Tensor]:
        noise = torch.randn_like(inputs) * 0.01
        return noise, inputs - noise

    for library in (zf, captum):
        torch.manual_seed(0)
        method = library.Deconvolution(model)
        attributions = method.attribute(images.clone(), target=2)
        infidelity = metrics.infidelity(model, perturb, images.clone(), attributions, target=2)
        sensitivity = metrics.sensitivity_max(method.attribute, images.clone(), target=2, n_perturb_samples=2)
        if library is zf:
            expected = infidelity, sensitivity
    torch.testing.assert_close((infidelity, sensitivity), expected)


@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last])
def test_results_have_the_memory_format_of_the_inputs(format: torch.memory_format) -> None:
    model, images = toy("residual"), toy_images(2).contiguous(memory_format=format)
    for ours, _, arguments in pairs(model):
        assert ours.attribute(images, **arguments).stride() == images.stride()
    if format is torch.contiguous_format:
        zf.Deconvolution(model).attribute(images, 2).view(2, -1)


@pytest.mark.parametrize("shape", [(2, 5), (2, 4, 3, 5, 2), (2, 1, 6, 1)])
def test_results_of_other_shapes_can_be_viewed(shape: tuple[int, ...]) -> None:
    images = torch.randn(shape, dtype=torch.float64)
    found = zf.Deconvolution(nn.Sequential(nn.Flatten(), nn.ReLU())).attribute(images, 1)
    assert found.view(2, -1).shape == (2, images[0].numel())


def test_methods_of_modules_are_as_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = toy("residual"), toy_images(2)
    expected = zf.Occlusion(model).attribute(images, target=2, **WINDOW)
    runs: list[Any] = []
    forward = Bound.forward

    def watched(self: Bound, *args: Any) -> Any:
        runs.append(args)
        return forward(self, *args)

    monkeypatch.setattr(Bound, "forward", watched)
    counts: list[int] = []
    model.register_forward_hook(lambda module, inputs, output: counts.append(1) or output * 2)  # no part of forward
    for method in (model.forward, model.eval().forward):
        same(zf.Occlusion(method).attribute(images, target=2, **WINDOW), expected)
    assert 0 < len(runs) <= 8  # of each method: recorded at two sizes, checked on two batches; none for a place
    assert not counts
    assert model.stem.training is False


def test_a_method_does_not_change_the_modes_of_its_module() -> None:
    model = toy("residual")
    model.training = True  # of the outermost module alone, as where a part of a network is frozen
    modes = [module.training for module in model.modules()]
    zf.Occlusion(model.forward).attribute(toy_images(1), target=2, **WINDOW)
    assert [module.training for module in model.modules()] == modes


def test_numbers_of_numpy() -> None:
    model, images = toy("residual"), toy_images(2)
    one, window = np.int64(1), tuple(np.array([3, 9, 13]))
    expected = zf.Occlusion(model).attribute(images, (3, 9, 13), 3, target=1, perturbations_per_eval=2)
    found = zf.Occlusion(model).attribute(images, window, np.int32(3), target=one, perturbations_per_eval=np.int64(2))
    assert torch.equal(found, expected)
    assert torch.equal(
        zf.Deconvolution(model).attribute(images, [one, one]), zf.Deconvolution(model).attribute(images, 1)
    )
    neuron = zf.NeuronDeconvolution(model, model.stem)
    assert torch.equal(neuron.attribute(images, (one, one, 2)), neuron.attribute(images, (1, 1, 2)))
    with pytest.raises(AssertionError, match="expected perturbations_per_eval an int"):
        zf.Occlusion(model).attribute(images, (3, 9, 13), target=1, perturbations_per_eval=np.float64(2))


def test_numbers_of_numpy_for_sweeps_and_projections() -> None:
    model, images = toy("residual"), toy_images(2)
    expected = zf.occlusion_sweep(model, images, window=(9, 8), stride=5, targets=[1, 2]).outputs
    window, classes = tuple(np.array([9, 8])), [np.int64(1), np.int32(2)]
    found = zf.occlusion_sweep(model, images, window=window, stride=np.int64(5), targets=classes)
    assert torch.equal(found.outputs, expected)
    net, maps = zf.DeconvNet(model), np.array([0, 2])
    expected = net.project(images, "stem", [0, 2], (1, 3)).dense()
    assert torch.equal(net.project(images, "stem", maps, (np.int64(1), np.int64(3))).dense(), expected)
    assert torch.equal(net.project(images, "stem", np.int64(2)).dense(), net.project(images, "stem", 2).dense())


class Last(nn.Module):
    """A network whose output is changed by a function."""

    def __init__(self, change: Any) -> None:
        super().__init__()
        self.net, self.change = toy("max_pool"), change

    def forward(self, x: Tensor) -> Tensor:
        return self.change(self.net(x))


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("change", [lambda y: y[:, 1], lambda y: y[:1, 1]], ids=["[N]", "[1]"])
def test_outputs_without_classes(change: Any, images: int) -> None:
    model, batch = Last(change), toy_images(images)
    same(zf.Deconvolution(model).attribute(batch), captum.Deconvolution(model).attribute(batch.clone()))
    ours = zf.Occlusion(model).attribute(batch, **WINDOW)
    same(ours, captum.Occlusion(model).attribute(batch, **WINDOW), 2e-7)


def test_an_output_that_is_one_number() -> None:
    batch = toy_images(2)
    expected = sum(captum.Deconvolution(Last(lambda y: y)).attribute(batch.clone(), target=k) for k in (1, 2))
    model = Last(lambda y: y[:, 1:3].sum())  # Captum raises an IndexError for this one
    half = Last(lambda y: y[:, 1].sum())
    same(zf.Deconvolution(half).attribute(batch), zf.Deconvolution(half.net).attribute(batch, 1))
    assert zf.Deconvolution(model).attribute(batch).shape == expected.shape
    ours = zf.Occlusion(model).attribute(batch, **WINDOW)
    same(ours, captum.Occlusion(model).attribute(batch, **WINDOW), 2e-7)


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("images", [1, 2])
def test_instance_norm(images: int, format: torch.memory_format, recorded: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.InstanceNorm2d(6, affine=True), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.Tanh(), nn.Flatten(),
        nn.Linear(4 * 21 * 27, 5),
    ).double()  # fmt: skip
    batch = toy_images(images)
    expected = captum.Deconvolution(model).attribute(batch.clone(), 2)
    if not recorded:
        model.register_forward_hook(decide)
    same(zf.Deconvolution(model).attribute(batch.contiguous(memory_format=format), 2), expected)


class Checkpointed(nn.Module):
    """Parts that are run again on the way back, as memory-efficient DenseNets have."""

    def __init__(self, reduced: bool) -> None:
        super().__init__()
        self.net, self.reduced = toy("residual"), reduced

    def forward(self, x: Tensor) -> Tensor:
        x = self.net.stem(x)
        x = checkpoint(self.net.body, x, use_reentrant=False) if self.reduced else self.net.body(x)
        return self.net.classes(self.net.top(x).mean((2, 3)))


def test_checkpointed_parts() -> None:
    batch, plain = toy_images(2), Checkpointed(False)
    model = Checkpointed(True)
    model.load_state_dict(plain.state_dict())
    expected = zf.Deconvolution(plain).attribute(batch, 2)
    same(zf.Deconvolution(model).attribute(batch, 2), expected)
    model.register_forward_hook(decide)
    same(zf.Deconvolution(model).attribute(batch, 2), expected)
    plain.register_forward_hook(decide)
    same(zf.Deconvolution(plain).attribute(batch, 2), expected)


def test_rectifiers_in_a_row() -> None:
    """What the docstring says of Captum; where it holds no longer, Captum has learned it."""
    weight = torch.tensor([1.0, -2.0], dtype=torch.float64)

    class Row(nn.Module):
        def __init__(self, count: int) -> None:
            super().__init__()
            self.relus = nn.Sequential(*(nn.ReLU() for _ in range(count)))

        def forward(self, x: Tensor) -> Tensor:
            return (self.relus(x) * weight).sum(1, keepdim=True)

    inputs = torch.tensor([[-1.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    for count in (1, 2, 3):
        assert zf.Deconvolution(Row(count)).attribute(inputs, 0).tolist() == [[1, 0], [1, 0]]
    assert captum.Deconvolution(Row(1)).attribute(inputs.clone(), 0).tolist() == [[1, 0], [1, 0]]
    assert captum.Deconvolution(Row(2)).attribute(inputs.clone(), 0).tolist() == [[0, 0], [1, 0]]


def test_progress_is_titled_as_captums(capsys: pytest.CaptureFixture[str]) -> None:
    for library in (zf, captum):
        library.Occlusion(toy("residual")).attribute(toy_images(1), target=1, show_progress=True, **WINDOW)
        assert "Occlusion attribution:   0%|" in capsys.readouterr().err


def test_a_selector_keeps_its_own_gradient() -> None:
    """The rule is the model's: a rectifier in a function that picks neurons is differentiated."""
    model, batch = toy("max_pool"), toy_images(1)
    expected = zf.NeuronDeconvolution(model, model.stem).attribute(batch, lambda maps: F.relu(maps - 0.1).sum())
    model.register_forward_hook(decide)
    same(zf.NeuronDeconvolution(model, model.stem).attribute(batch, lambda maps: F.relu(maps - 0.1).sum()), expected)
    assert deconvolution.run_and_differentiate  # the second call went through it: the model decides by values
