"""Sweeps and projections of networks as people write them, against the network run on each occluded image alone and
against back-propagation with the DeconvNet's rule."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import threading
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from habits import IN_PLACE, Function, Network, images, network
from torch import Tensor, nn

import zfkernels as zf
from zfkernels.network import check, record, tensors_of

POSITIONS = torch.tensor([[0, 0], [4, 3], [9, 8], [11, 2]])
WINDOW, FILL = (4, 3), 0.3


@dataclasses.dataclass
class Output:
    logits: Tensor
    maps: Tensor | None = None


def _scores(m: Any, x: Tensor) -> Tensor:
    return m.head(F.max_pool2d(m.relu(m.conv(x)), 2).mean((2, 3)))


def _with_mask(m: Any, x: Tensor, mask: Any = None) -> Tensor:
    return _scores(m, x if mask is None else x * mask)


def _only_tensors(m: Any, x: Tensor) -> Tensor:
    return _scores(m, x * 3 + 1 if isinstance(x, Tensor) and x.dtype is torch.float64 else x)


def _writes_into_its_input(m: Any, x: Tensor) -> Tensor:
    x.mul_(2).sub_(0.3)
    return _scores(m, x)


def _normalising_function(m: Any, x: Tensor) -> Tensor:
    n = m.norm
    y = F.batch_norm(m.conv(x), n.running_mean, n.running_var, n.weight, n.bias, False, 0.1, n.eps)
    return m.head(F.relu(y).mean((2, 3)))


def _padded_and_resized(m: Any, x: Tensor) -> Tensor:
    y = F.relu(m.conv(F.pad(x, (2, 2, 2, 2), mode="reflect")))
    return m.head(F.interpolate(y, scale_factor=2, mode="bilinear").mean((2, 3)))


def _gate(m: Any, x: Tensor) -> Tensor:
    y = F.relu(m.conv(x))
    return m.head((y * torch.sigmoid(y.mean((2, 3), keepdim=True))).amax((2, 3)))


SAME: dict[str, Function] = {
    "scores": _scores,
    "optional_argument": _with_mask,
    "only_tensors": _only_tensors,
    "writes_into_its_input": _writes_into_its_input,
    "normalising_function": _normalising_function,
    "padded_and_resized": _padded_and_resized,
    "gate": _gate,
    "mask": lambda m, x: _scores(m, x) + x.new_zeros(5).add(0.5),
    "reshaped": lambda m, x: m.head(F.avg_pool2d(m.conv(x), (12, 10)).view(-1, 4)),
    "tuple": lambda m, x: (_scores(m, x), m.conv(x)),
    "dictionary": lambda m, x: {"logits": _scores(m, x), "more": [m.conv(x).mean((2, 3))]},
    "dataclass": lambda m, x: Output(_scores(m, x), m.conv(x)),
    "maps": lambda m, x: torch.cat([m.conv(x), x], 1),
    "no_classes": lambda m, x: torch.sigmoid(_scores(m, x)).amax(1),
    "instance_norm": lambda m, x: m.head(F.relu(F.instance_norm(m.conv(x))).mean((2, 3))),
    **{name: (lambda m, x, f=function: m.head(f(m, x).mean((2, 3)))) for name, function in IN_PLACE.items()
       if name in ("alias", "alias_after_identity", "write_through_slice", "inplace_shortcut")},
}  # fmt: skip
WHOLE: dict[str, tuple[Function, str]] = {
    "standardised": (lambda m, x: _scores(m, (x - x.mean()) / x.std()), "depends on the other images of the batch"),
    "maximum": (lambda m, x: _scores(m, x).amax(0, keepdim=True), "has no row of its own for each image"),
    "one_number": (lambda m, x: _scores(m, x).sum(), "has no row of its own for each image"),
    "decides": (lambda m, x: _scores(m, x) if x.sum() > 1e9 else _scores(m, x) * 2, "decides by the values"),
    "decides_and_mixes": (lambda m, x: _scores(m, x / float(x.std())), "decides by the values"),
}


def make(name: str) -> Network:
    function = SAME[name] if name in SAME else WHOLE[name][0]
    return network(function, head=nn.Linear(6 if name == "write_through_slice" else 4, 5))


@torch.no_grad()
def one_by_one(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Of each tensor of the output [N, P, ...]."""
    rows = []
    for image in x:
        outputs = []
        for row, column in POSITIONS.tolist():
            hidden = image.clone()
            hidden[:, row : row + WINDOW[0], column : column + WINDOW[1]] = FILL
            parts = model(hidden[None])
            parts = [parts.logits, parts.maps] if isinstance(parts, Output) else tensors_of(parts)
            outputs.append([part[0] if part.dim() else part for part in parts])
        rows.append([torch.stack(column) for column in zip(*outputs, strict=True)])
    return [torch.stack(column) for column in zip(*rows, strict=True)]


def assert_sweep(model: nn.Module, x: Tensor) -> None:
    untouched = x.clone()
    expected = one_by_one(model, x)
    found = zf.occlusion_sweep(model, x, window=WINDOW, positions=POSITIONS, fill=FILL)
    assert torch.equal(x, untouched)
    assert [part.shape for part in tensors_of(found.outputs)] == [part.shape for part in expected]
    for part, other in zip(tensors_of(found.outputs), expected, strict=True):
        torch.testing.assert_close(part, other, rtol=0, atol=1e-10 * float(other.abs().max()))


@pytest.mark.parametrize("name", SAME)
def test_sweeps_are_those_of_the_network_itself(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # none of them runs on whole images
        assert_sweep(make(name), images())


@pytest.mark.parametrize("name", WHOLE)
def test_what_runs_on_whole_images_is_right_and_says_why(name: str) -> None:
    model = make(name)
    with pytest.warns(RuntimeWarning, match=f"Network runs on whole images: .*{WHOLE[name][1]}"):
        assert_sweep(model, images())
    report = zf.explain_plan(model, (12, 10), WINDOW)
    assert report.plan is None
    assert WHOLE[name][1] in str(report)


def test_outputs_have_the_form_of_the_models_own() -> None:
    found = zf.occlusion_sweep(make("dataclass"), images(), window=4, stride=4)
    assert isinstance(found.outputs, Output)
    assert found.outputs.maps.shape == (2, 3, 3, 4, 12, 10)
    assert found.clean.logits.shape == (2, 5)
    with pytest.raises(ValueError, match=r"probability: expected the sweep of a model that returns \[N, classes\]"):
        found.probability(1)


def projected_by_autograd(model: nn.Module, image: Tensor, channel: int) -> Tensor:
    kept: list[Tensor] = []
    handle = model.conv.register_forward_hook(lambda module, given, result: kept.append(result))
    x = image[None].clone().requires_grad_()
    model(x * 1)  # which may write into it
    handle.remove()
    maps = kept[0][0, channel]
    value = maps.flatten()[maps.argmax()]
    (gradient,) = torch.autograd.grad(value, x, value.detach())
    return gradient[0]


@pytest.mark.parametrize("name", ["only_tensors", "dictionary", "padded_and_resized", "standardised", "tuple"])
def test_projections_do_not_care_what_the_model_returns(name: str) -> None:
    model, x = make(name), images(1)
    found = zf.DeconvNet(model).project(x, "conv", channels=[1, 3]).dense()
    for projection, channel in zip(found, (1, 3), strict=True):
        torch.testing.assert_close(projection, projected_by_autograd(model, x[0], channel), rtol=1e-9, atol=1e-11)


def test_images_that_depend_on_each_other_are_projected_one_at_a_time() -> None:
    net = zf.DeconvNet(make("standardised"))
    with pytest.raises(ValueError, match=r"expected one image at a time for layer 'conv', .* got 2 images"):
        net.project(images(2), "conv")
    assert len(zf.DeconvNet(make("maximum")).project(images(2), "conv")) == 8  # they do so behind the layer


def test_what_has_no_projection_is_refused_with_module_and_line() -> None:
    with pytest.raises(ValueError, match=rf"it decides by the values that it computes \(.*{__file__}:\d+\)"):
        zf.DeconvNet(make("decides")).project(images(), "conv")


def test_a_recording_that_is_not_the_model_is_noticed() -> None:
    model, x = make("scores"), images(1)
    recording = record(model, x)
    assert not check(recording, x, x.flip(3)).differs
    other = dataclasses.replace(recording, model=make("only_tensors"), memo={})
    assert "not what was recorded" in check(other, x, x.flip(3)).differs


def test_pickled_and_copied_deconvnets() -> None:
    net, x = zf.DeconvNet(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2)).double()), images(1)
    expected = net.project(x, "2").dense()
    for other in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        assert torch.equal(other.project(x, "2").dense(), expected)


def test_threads_serve_while_others_sweep_and_project() -> None:
    shared, x = make("inplace_shortcut"), images()
    with torch.no_grad():
        expected = shared(x)
    problems: list[Any] = []
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            try:
                with torch.no_grad():
                    if not torch.equal(shared(x), expected):
                        problems.append("another value")
            except Exception as error:  # noqa: BLE001 - any error is what this test looks for
                problems.append(error)

    threads = [threading.Thread(target=serve) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for count in range(5):
            model = copy.deepcopy(shared) if count % 2 else shared
            assert_sweep(model, x[:1])
            zf.DeconvNet(model).project(x, "conv", channels=0)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert problems == []


def test_autocast_around_a_call_changes_nothing() -> None:
    model, x = make("scores").float(), images().float()

    def results() -> list[Tensor]:
        sweep = zf.occlusion_sweep(model, x, window=WINDOW, positions=POSITIONS)
        projection = zf.DeconvNet(model).project(x, "conv", channels=1)
        captum = zf.Occlusion(model).attribute(x, (3, 4, 4), 4, target=1)
        return [sweep.outputs, projection.dense(), captum, zf.Deconvolution(model).attribute(x, 2)]

    expected = results()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = results()
    assert all(map(torch.equal, found, expected))


def test_inference_mode_around_a_call_changes_nothing() -> None:
    model, x = make("scores").float(), images().float()  # made outside, and inside, where tensors have no versions
    expected = zf.occlusion_sweep(model, x, window=WINDOW, positions=POSITIONS).outputs
    with torch.inference_mode():
        for used, shown in ((model, x), (copy.deepcopy(model), x.clone())):
            found = zf.occlusion_sweep(used, shown, window=WINDOW, positions=POSITIONS)
            assert torch.equal(found.outputs, expected)
            assert zf.DeconvNet(used).project(shown, "conv", channels=1).activation.shape == (len(x),)


def test_changed_weights_are_seen() -> None:
    model, x = make("scores"), images()
    net = zf.DeconvNet(model)
    before = net.project(x, "conv").activation
    with torch.no_grad():
        model.conv.weight.mul_(2)
        model.conv.bias.mul_(2)
    torch.testing.assert_close(net.project(x, "conv").activation, before * 2)


def test_images_that_a_model_does_not_take_are_one_sentence() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 14 * 14, 5)).eval()
    with pytest.raises(ValueError, match=r"^occlusion_sweep: expected images that Sequential takes, got shape .*mat1"):
        zf.occlusion_sweep(model, torch.randn(1, 3, 20, 20), window=4, stride=4, fill=0.0)


def test_outputs_whose_size_depends_on_what_is_hidden_are_one_sentence() -> None:
    model = network(lambda m, x: torch.ones(1, 2 - int(x[0, 0, 0, 0] == FILL)))
    with (
        pytest.warns(RuntimeWarning, match="whole images"),
        pytest.raises(ValueError, match=r"^occlusion_sweep: expected outputs of one size .* \[1, 1\] after \[1, 2\]"),
    ):
        zf.occlusion_sweep(model, images()[:1], window=WINDOW, positions=POSITIONS, fill=FILL)
