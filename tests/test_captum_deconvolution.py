"""zf.Deconvolution and zf.NeuronDeconvolution against Captum itself: numbers, selectors, refusals, autograd."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.toys import MAPS, Deciding, Net, conv, decide, toy
from support.toys import images as toy_images
from support.zoo import SIZES, network, photos, wake
from torch import Tensor, nn

import zfkernels as zf
from zfkernels.captum_api import deconvolution
from zfkernels.captum_api.autograd import run_and_differentiate
from zfkernels.deconvnet import DeconvNet
from zfkernels.deconvnet.descent import Descent

captum = pytest.importorskip("captum.attr", reason="captum, which these tests compare with, is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # captum warns on every call


@pytest.fixture
def pulls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The layers that signals were sent down from by the DeconvNet."""
    seen: list[str] = []
    pull_back = DeconvNet.pull_back

    def watched(self: DeconvNet, images: Tensor, layer: str, signal: Any) -> Tensor:
        seen.append(layer)
        return pull_back(self, images, layer, signal)

    monkeypatch.setattr(DeconvNet, "pull_back", watched)
    return seen


@pytest.fixture
def autograd_runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Who ran a network with autograd."""
    seen: list[str] = []

    def watched(name: str, *args: Any) -> Any:
        seen.append(name)
        return run_and_differentiate(name, *args)

    monkeypatch.setattr(deconvolution, "run_and_differentiate", watched)
    return seen


def same(ours: Any, theirs: Any) -> None:
    assert type(ours) is type(theirs)
    for mine, other in zip(*((x if isinstance(x, tuple) else (x,)) for x in (ours, theirs)), strict=True):
        assert mine.dtype == other.dtype
        assert mine.shape == other.shape
        assert other.abs().max() > 0
        assert (mine - other).abs().max() <= 1e-9 * other.abs().max()


def copy_of(inputs: Any) -> Any:
    """Captum changes the inputs' requires_grad while it runs."""
    return tuple(x.detach().clone() for x in inputs) if isinstance(inputs, tuple) else inputs.detach().clone()


def compare(model: nn.Module, inputs: Any, target: Any = None, *args: Any) -> None:
    ours = zf.Deconvolution(model).attribute(inputs, target, *args)
    same(ours, captum.Deconvolution(model).attribute(copy_of(inputs), target, *args))


def compare_neuron(model: nn.Module, layer: nn.Module, inputs: Any, *args: Any) -> None:
    ours = zf.NeuronDeconvolution(model, layer).attribute(inputs, *args)
    same(ours, captum.NeuronDeconvolution(model, layer).attribute(copy_of(inputs), *args))


# Their rectifiers are all modules, which Captum asks for.
NETWORKS = ["alexnet", "resnet18", "squeezenet1_0", "vgg16_bn", "mobilenet_v2", "mobilenet_v3_small", "zfnet64"]


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str, pulls: list[str]) -> None:
    model, images = network(name), photos(2, SIZES[name])
    compare(model, images, 3)
    layers = [module for module in model.modules() if isinstance(module, (nn.Conv2d, nn.MaxPool2d))]
    for layer in (layers[1], layers[len(layers) // 2], layers[-1]):
        compare_neuron(model, layer, images, (1, 0, 0))
    assert len(pulls) == 4


@pytest.mark.parametrize("name", ["squeezenet1_0", "squeezenet1_1"])
def test_real_weights(name: str, shared_data: Any) -> None:
    models = pytest.importorskip("torchvision.models")
    model = models.get_model(name).eval()
    model.load_state_dict(torch.load(shared_data / f"{name}_imagenet.pt", weights_only=True))
    image = photos(1, (224, 224)).float()
    everything, target = slice(None), 192  # many classes of the pruned weights of 1.0 have a zero projection
    neurons = [("features.3", (everything, 20, 20)), ("features.9", (everything, 6, 6)), ("features", (100, 6, 6))]
    found = [zf.Deconvolution(model).attribute(image, target)]
    expected = [captum.Deconvolution(model).attribute(image.clone(), target)]
    for path, neuron in neurons:
        layer = model.get_submodule(path)
        found.append(zf.NeuronDeconvolution(model, layer).attribute(image, neuron))
        expected.append(captum.NeuronDeconvolution(model, layer).attribute(image.clone(), neuron))
    for mine, other in zip(found, expected, strict=True):
        assert mine.dtype == torch.float32
        assert other.abs().max() > 0
        assert (mine - other).abs().max() <= 1e-4 * other.abs().max()


@pytest.mark.parametrize("name", ["contrast", "relu6", "smooth", "rare", "avg_pool_inner", "squeeze", "dilated"])
def test_difficulties(name: str, pulls: list[str]) -> None:
    model = toy(name)
    compare(model, toy_images(2), 5)
    compare_neuron(model, model.body, toy_images(2), (slice(None), slice(2, 5), 3))
    assert len(pulls) == 2


@pytest.mark.parametrize(
    "target",
    [2, -1, torch.tensor(2), torch.tensor([1, 4]), [1, 4], (3,), [(3,), (0,)], torch.tensor([3])],
    ids=str,
)
def test_targets(target: Any, pulls: list[str]) -> None:
    compare(toy("max_pool"), toy_images(2), target)
    assert pulls


def test_one_output_for_each_image(pulls: list[str]) -> None:
    model = nn.Sequential(toy("max_pool"), nn.ReLU(), nn.Linear(7, 1).double())
    compare(model, toy_images(2))
    assert pulls


def test_output_with_maps(pulls: list[str]) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3)).double()
    compare(model, toy_images(2), (2, 20, 3))
    compare(model, toy_images(2), [(2, 20, 3), (0, 1, 9)])
    assert pulls


RESIDUAL_LAYERS: list[tuple[str, Any, bool]] = [
    ("stem", (2, 3, 4), False),
    ("stem.0", (1, 9, 2), True),
    ("body", (slice(None), 5, slice(0, 9, 2)), False),
    ("body.relu", (3, 2, 5), False),  # used twice: the last call
    ("body.relu", (3, 2, 5), True),
    ("body.b", (slice(1, 3),), False),
    ("body.b", lambda maps: maps[:, 2].amax((1, 2)), False),
    ("body.b", lambda maps: maps[maps > 0].sum(), True),
    ("body.b", lambda maps: -maps[:, 2, 3, 4], False),
    ("top.2", (4, 1, 1), False),
    ("classes", 6, False),
    ("classes", (2,), True),
    ("classes", -3, False),
    ("", 1, False),
    ("", (2, 3, 4), True),
]


@pytest.mark.parametrize(("path", "selector", "at_input"), RESIDUAL_LAYERS)
def test_neurons(path: str, selector: Any, at_input: bool, pulls: list[str]) -> None:
    model = toy("residual")
    compare_neuron(model, model.get_submodule(path), toy_images(2), selector, None, at_input)
    assert pulls


def test_a_neuron_is_projected_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    run = Descent.run

    def watched(self: Descent) -> Any:
        pixels = run(self)
        sizes.append(tuple(pixels.boxes[0, 2:].tolist()))
        return pixels

    monkeypatch.setattr(Descent, "run", watched)
    model = toy("residual")
    zf.NeuronDeconvolution(model, model.stem[0]).attribute(toy_images(1), (0, 3, 3))
    assert sizes == [(3, 3)]


class Relu(nn.Module):
    """A rectifier as a module, as two functions or as two methods, one of each in place."""

    FORMS = (
        nn.ReLU(), nn.ReLU(inplace=True), F.relu, lambda x: F.relu(x, True), lambda x: F.relu(inplace=True, input=x),
        torch.relu, torch.relu_, lambda x: x.relu(), lambda x: x.relu_(),
    )  # fmt: skip

    def __init__(self, form: int) -> None:
        super().__init__()
        self.rectify = self.FORMS[form]

    def forward(self, x: Tensor) -> Tensor:
        return self.rectify(x)


def rectified(form: int) -> nn.Module:
    torch.manual_seed(0)
    return Net(nn.Sequential(conv(), Relu(form), conv(), Relu(form), nn.MaxPool2d(2))).double().eval()


@pytest.mark.parametrize("form", range(len(Relu.FORMS)))
def test_every_form_of_relu_follows_the_rule(form: int, autograd_runs: list[str]) -> None:
    images = toy_images(2)
    expected = captum.Deconvolution(rectified(0)).attribute(images.clone(), 4)
    same(zf.Deconvolution(rectified(form)).attribute(images, 4), expected)
    assert not autograd_runs
    deciding = rectified(form)
    deciding.register_forward_hook(decide)
    same(zf.Deconvolution(deciding).attribute(images, 4), expected)
    assert autograd_runs
    if form > 1:  # what the docstring says of Captum; if this fails, Captum has learned it
        theirs = captum.Deconvolution(rectified(form)).attribute(images.clone(), 4)
        assert (theirs - expected).abs().max() > 0.1 * expected.abs().max()


class Shortcut(nn.Module):
    """y = w (relu(x) + x) summed: by the rule relu(w) + w goes down, whatever x is."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.weight = nn.Parameter(torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64).view(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (self.weight * (self.relu(x) + x)).sum((2, 3))


def test_the_share_of_a_shortcut_is_kept() -> None:
    images = torch.randn(1, 3, 4, 4, dtype=torch.float64)
    weight = Shortcut().weight.detach()
    for target in range(3):
        expected = torch.zeros_like(images)
        expected[0, target] = (weight.relu() + weight)[target]
        assert torch.equal(zf.Deconvolution(Shortcut()).attribute(images, target), expected)
    theirs = captum.Deconvolution(Shortcut()).attribute(images.clone(), 1)
    assert torch.count_nonzero(theirs) == 0  # what the docstring says of Captum


class Branching(nn.Module):
    """What torch.fx cannot trace, with two inputs, a layer of two outputs, and in-place layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3), nn.ReLU(inplace=True))
        self.pair = Pair()
        self.last = nn.Linear(4, 5)
        self.unused = nn.Linear(1, 1)
        self.double()

    def forward(self, images: Tensor, gates: Tensor | None = None, power: int = 1) -> Tensor:
        x = self.first(images)
        if x.sum() > -1e9:
            x = sum(self.pair(x)).mean((2, 3))
        return self.last(x if gates is None else x * gates**power)


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.sin(), x * 2


def test_run_with_autograd(autograd_runs: list[str]) -> None:
    images, gates = torch.randn(2, 3, 9, 9).double(), torch.rand(2, 4).double()
    model = wake(Branching(), images)
    compare(model, images, [1, 2])
    compare(model, (images,), torch.tensor([1, 2]))
    compare(model, images, (0,), (gates, 2))
    compare(model, (images, gates), 3, 3)
    compare(toy("max_pool"), (toy_images(2),), 3)  # this one on the kernels
    assert len(autograd_runs) == 4
    compare_neuron(model, model.first, images, (2, 3, 3))
    compare_neuron(model, model.first[1], images, (2, slice(None), 3), None, True)
    compare_neuron(model, model.first[0], images, lambda maps: -maps[:, 2, 3, 3])  # a ReLU changes it in place
    compare_neuron(model, model.last, (images, gates), (2,))
    compare_neuron(model, model.pair, images, lambda maps: (maps[0] * maps[1])[:, 1, 2, 2], (gates,))
    compare_neuron(model, model.pair, images, (1, 2, 2), None, True)
    compare_neuron(model, model.last, images, 2, gates)
    assert len(autograd_runs) == 11


def test_autograd_follows_what_is_changed_in_place(autograd_runs: list[str]) -> None:
    for name in ("inplace_no_result", "inplace_shortcut"):
        model = toy(name)
        expected = zf.Deconvolution(model).attribute(toy_images(2), 3)
        assert not autograd_runs
        model.register_forward_hook(decide)
        same(zf.Deconvolution(model).attribute(toy_images(2), 3), expected)
        assert autograd_runs.pop()


class Tupled(nn.Module):
    """A layer of two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pair, self.relu = conv(3), Pair(), nn.ReLU()
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.pair(self.conv(x))
        return self.relu(a * b).mean((2, 3))


def test_layer_of_two_outputs(autograd_runs: list[str]) -> None:
    model = Tupled()
    compare_neuron(model, model.pair, toy_images(1), lambda maps: (maps[0] * maps[1])[:, 1, 2, 2])
    assert autograd_runs
    with pytest.raises(AssertionError, match="expected neuron_selector a function for a layer of 2 tensors"):
        zf.NeuronDeconvolution(model, model.pair).attribute(toy_images(1), (1, 2, 2))


def test_dataparallel_is_unwrapped(pulls: list[str]) -> None:
    model, images = toy("residual"), toy_images(2)
    wrapped = nn.DataParallel(model)
    assert torch.equal(zf.Deconvolution(wrapped).attribute(images, 1), zf.Deconvolution(model).attribute(images, 1))
    zf.NeuronDeconvolution(wrapped, model.stem, [0]).attribute(images, (1, 2, 3))
    assert len(pulls) == 3


def test_nothing_is_left_behind() -> None:
    images = toy_images(1).requires_grad_()
    for model in (toy("residual"), Branching()):
        before = {key: value.clone() for key, value in model.state_dict().items()}
        layer = model.stem if isinstance(model, Net) else model.first
        found = zf.Deconvolution(model).attribute(images, 1)
        zf.NeuronDeconvolution(model, layer).attribute(images, lambda maps: maps.sum())
        assert not found.requires_grad
        assert images.grad is None
        assert all(parameter.grad is None for parameter in model.parameters())
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


IMAGES = torch.zeros(2, 3, 25, 31, dtype=torch.float64)
STEM = (0, 0, 0)
REFUSED: list[tuple[str, Any, tuple[Any, ...], str]] = [
    # layer ("": Deconvolution), inputs, arguments, message; Captum refuses all of these too
    ("", [IMAGES], (1,), "expected inputs a tensor or a tuple of tensors, got list"),
    ("", IMAGES, (None,), "that names one element for each example, got (2, 7)"),
    ("", IMAGES, ([1],), "expected target a list of 2 entries, got 1"),
    ("", IMAGES, ((1, 1),), "expected target at most 1 ints"),
    ("", IMAGES, ("cat",), "expected target an int, tuple, tensor or list, got str"),
    ("", IMAGES.long(), (1,), "expected inputs of a floating dtype, got torch.int64"),
    ("stem", IMAGES, (1,), "that names one element for each example, got (2, 13, 16)"),
    ("stem", IMAGES, ((0, 0, 0, 0),), "expected neuron_selector at most 3 ints or slices"),
    ("stem", IMAGES, ("cat",), "expected neuron_selector an int, tuple or function, got str"),
    ("stem", IMAGES, (slice(0, 2),), "expected neuron_selector an int, tuple or function, got slice"),
    ("stem", IMAGES, (lambda maps: maps[:, 0],), "that names one element for each example, got (2, 13, 16)"),
    ("stem", IMAGES, (lambda maps: 3.0,), "expected a selector that returns a tensor, got float"),
    ("stem", IMAGES, ((9, 0, 0),), "expected neuron_selector from 0 to 5, got 9"),
    ("", IMAGES, (7,), "expected target from 0 to 6, got 7"),
]


@pytest.mark.parametrize(("path", "inputs", "arguments", "message"), REFUSED, ids=[case[3] for case in REFUSED])
def test_refused_as_captum_does(path: str, inputs: Any, arguments: tuple[Any, ...], message: str) -> None:
    model = toy("max_pool")
    for library in (captum, zf):
        layer = (model.get_submodule(path),) if path else ()
        method = (library.NeuronDeconvolution if path else library.Deconvolution)(model, *layer)
        with pytest.raises((AssertionError, IndexError, RuntimeError, TypeError, AttributeError)) as refusal:
            method.attribute(inputs, *arguments)
    assert isinstance(refusal.value, (ValueError, TypeError, IndexError))
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda m: zf.Deconvolution(m.forward), AssertionError, "expected model an nn.Module, got method"),
        (lambda m: zf.NeuronDeconvolution(m.forward, m.stem), AssertionError, "expected model an nn.Module"),
        (lambda m: zf.NeuronDeconvolution(m, "stem"), AssertionError, "expected layer an nn.Module, got str"),
        (lambda m: zf.NeuronDeconvolution(m, nn.ReLU()), AssertionError, "expected layer a module of the model"),
        (lambda m: zf.NeuronDeconvolution(Branching(), nn.ReLU()), AssertionError, "expected layer a module of the"),
    ],
)
def test_what_is_no_module_is_refused(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make(toy("max_pool")).attribute(IMAGES, STEM)


def test_what_cannot_be_seen_is_refused() -> None:
    model = Branching()
    with pytest.raises(AssertionError, match="expected layer one that the model runs"):
        zf.NeuronDeconvolution(model, model.unused).attribute(torch.randn(1, 3, 9, 9).double(), 0)
    script = torch.jit.script(Deciding().double().eval())
    with pytest.raises(TypeError, match="whose rectifiers Python sees"):
        zf.Deconvolution(script).attribute(IMAGES, STEM)
    dropout = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(3 * 25 * 31, MAPS)).double()
    with pytest.raises(ValueError, match=r"call model.eval\(\) first"):
        zf.Deconvolution(dropout).attribute(IMAGES, 1)
