"""Networks as tables of layers: the same numbers, the right geometry, names, refusals, and a model left as it was."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support import zoo
from support.footprint import bounding_boxes, toy_footprints
from support.hiding import assert_exact, dense_outputs
from support.toys import MAPS, SIZE, TOYS, Body, Net, conv, images, toy
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

import zfkernels as zf
from zfkernels.network import UnrecordableError, record
from zfkernels.network.network import LayerInfo, trace_model
from zfkernels.network.program import Program


def outputs_of_modules(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """What each call of each leaf module returned, by "path:k"."""
    outputs: dict[str, Tensor] = {}
    calls: dict[str, int] = {}

    def record(path: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            calls[path] = calls.get(path, -1) + 1
            if isinstance(output, Tensor):
                outputs[f"{path}:{calls[path]}"] = output.clone()

        return hook

    leaves = [(path, module) for path, module in model.named_modules() if not list(module.children())]
    handles = [module.register_forward_hook(record(path)) for path, module in leaves]
    model(x)
    for handle in handles:
        handle.remove()
    return outputs


@pytest.mark.parametrize("name", TOYS)
@torch.no_grad()
def test_every_step_has_the_value_that_the_network_has_there(name: str) -> None:
    model, x = toy(name), images()
    expected = outputs_of_modules(model, x.clone())
    output = model(x.clone())
    network = trace_model(model, x)
    untouched = x.clone()
    values = network.run(x, [step.name for step in network.recording.steps])
    torch.testing.assert_close(values[network.output], output, rtol=1e-12, atol=1e-12)
    assert torch.equal(x, untouched)
    labels = {label if ":" in label else f"{label}:0": step for step, label in network.labels.items()}
    compared = expected.keys() & labels.keys()
    assert compared
    for label in compared:
        torch.testing.assert_close(values[labels[label]], expected[label], rtol=1e-12, atol=1e-12, msg=label)


@pytest.mark.parametrize("name", TOYS)
@torch.no_grad()
def test_folding_keeps_the_numbers(name: str) -> None:
    model, x = toy(name), images()
    recording = record(model, x)
    expected = recording.run(x, [step.name for step in recording.steps])
    folded = Program(recording)
    for step, value in folded.run(x, folded.kinds).items():
        if isinstance(value, Tensor):
            torch.testing.assert_close(value, expected[step], rtol=1e-11, atol=1e-12, msg=step)


def test_folding_makes_one_step_of_convolution_norm_and_relu_but_keeps_what_is_asked_for() -> None:
    recording = record(toy("reused_block"), (3, *SIZE))
    kinds = Program(recording).kinds.values()
    assert sum(kind.filters is not None for kind in kinds) == 4  # the stem, the block twice, the top
    assert not any(kind.is_rectifier or kind.affine is not None for kind in kinds)
    kept = recording.resolve("body.block.0:0")
    folded = Program(recording, {kept})
    assert sum(kind.affine is not None for kind in folded.kinds.values()) == 1
    x = images()
    # Filters in another memory format: another kernel of PyTorch's, which may sum in another order.
    torch.testing.assert_close(folded.run(x, [kept])[kept], recording.run(x, [kept])[kept], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in zoo.SIZES if name != "vit"])
def test_every_layer_with_maps_of_a_known_network_runs_on_windows(name: str) -> None:
    kinds = trace_model(zoo.unloaded(name)).kinds
    whole = [kind for kind in kinds.values() if kind.maps is not None and not kind.on_windows]
    assert not [kind.name for kind in whole if all(below is not None for below in kind.below)]  # all but gates


def test_table_of_alexnet() -> None:
    rows = {row.name: row for row in zf.DeconvNet(zoo.unloaded("alexnet")).layers}
    assert rows["features.0"] == LayerInfo(
        "features.0", "conv2d", "convolution", 64, (55, 55), (4, 4), (11, 11), False, True
    )
    sliding = ("convolution", "max-pooling")
    table = [(row.size, row.stride, row.receptive_field) for row in rows.values() if row.kind in sliding]
    sides = (55, 27, 27, 13, 13, 13, 13, 6)
    strides = (4, 8, 8, 16, 16, 16, 16, 32)
    fields = (11, 19, 51, 67, 99, 131, 163, 195)
    assert table == [((a, a), (b, b), (c, c)) for a, b, c in zip(sides, strides, fields, strict=True)]
    assert rows["classifier.3"].size is None
    assert rows["classifier.3"].channels == zoo.CLASSES


def test_table_takes_the_size_from_the_model_or_the_caller() -> None:
    network = trace_model(zoo.unloaded("zfnet64"))
    assert network.layer_info()[0].size == (32, 32)
    assert trace_model(toy("residual")).at((30, 44)).layer_info()[0].size == (15, 22)
    assert trace_model(nn.Sequential(nn.Conv2d(1, 2, 3)), (9, 9)).layer_info()[0].channels == 2


def test_table_counts_the_channels_of_layers_with_channels_last() -> None:
    rows = {row.name: row.channels for row in trace_model(toy("channels_last"), SIZE).layer_info()}
    assert rows["body.norm"] == 6
    assert rows["body.a"] == 9


@pytest.mark.parametrize(
    "name",
    ["grouped", "oblong", "skipping", "max_pool", "avg_pool_inner", "residual", "cat_keywords", "contrast", "view"],
)
def test_stride_and_receptive_field_of_inner_cells(name: str) -> None:
    network = trace_model(toy(name), SIZE)
    inside = 0
    for row in network.layer_info():
        step = network.resolve(row.name)
        masks = toy_footprints(name).get(step)
        if masks is None or row.receptive_field is None or row.stride is None:
            continue
        cells = bounding_boxes(masks.permute(2, 3, 0, 1).flatten(0, 1))
        inner = ((cells.lo > 0) & (cells.hi < cells.hi.amax(0))).all(1).view(masks.shape[2:])
        inside += int(inner.sum())
        assert (cells.size.view(*inner.shape, 2)[inner] == torch.tensor(row.receptive_field)).all(), row
        lo = cells.lo.view(*inner.shape, 2)
        below, right = inner[1:] & inner[:-1], inner[:, 1:] & inner[:, :-1]
        assert ((lo[1:] - lo[:-1])[below][:, 0] == row.stride[0]).all(), row
        assert ((lo[:, 1:] - lo[:, :-1])[right][:, 1] == row.stride[1]).all(), row
    assert inside > 100


def test_a_step_that_spreads_has_no_receptive_field() -> None:
    rows = {row.name: row for row in trace_model(toy("squeeze"), SIZE).layer_info()}
    assert rows["stem.0"].receptive_field == (3, 3)
    assert rows["body.gate.0"].receptive_field is None
    assert rows["top.0"].receptive_field is None


@pytest.mark.parametrize(
    ("name", "layer", "expected"),
    [
        ("reused_relu", "stem", "stem.1"),
        ("reused_relu", "body.relu", "body.relu:1"),
        ("reused_relu", "body.relu:0", "body.relu:0"),
        ("reused_relu", "body.relu:1", "body.relu:1"),
        ("reused_block", "body.block", "body.block.2:1"),
        ("reused_block", "body.block:0", "body.block.2:0"),
        ("reused_block", "body.block.0", "body.block.0:1"),
        ("functional_relu", "relu_1", "body"),
        ("functional_relu", "body", "body"),
        ("residual", "add", "add"),
        ("residual", "body", "body.relu:1"),
        ("cat_keywords", "body", "body"),
        ("split", "body", "body"),
        ("split", "getitem", "getitem"),
    ],
)
def test_names_of_layers(name: str, layer: str, expected: str) -> None:
    network = trace_model(toy(name), SIZE)
    assert network.labels[network.resolve(layer)] == expected


def test_every_name_in_the_table_means_its_own_row() -> None:
    for name in ("reused_relu", "reused_block", "residual", "squeeze_by_view"):
        network = trace_model(toy(name), SIZE)
        for row in network.layer_info():
            assert network.labels[network.resolve(row.name)] == row.name


def test_a_module_goes_before_a_step_of_the_same_name() -> None:
    class Rectifiers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu, self.conv = nn.ReLU(), conv(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.relu(self.conv(self.relu(x)))

    network = trace_model(Rectifiers(), SIZE)
    assert [*network.kinds] == ["input", "relu_1", "conv2d", "relu_2"]  # "relu" is the module
    assert network.resolve("relu") == "relu_2"  # its last call
    assert network.resolve("relu:0") == "relu_1"


@pytest.mark.parametrize(("layer", "near"), [("body.convv", "body.conv"), ("stem.O", "stem.0"), ("clases", "classes")])
def test_unknown_layers_are_refused_with_near_matches(layer: str, near: str) -> None:
    with pytest.raises(ValueError, match=rf"expected layer one of .* got '{layer}'; near matches: .*'{near}'"):
        trace_model(toy("functional_relu"), SIZE).resolve(layer)
    with pytest.raises(ValueError, match=r"body\.conv is called once: name body\.conv$"):
        trace_model(toy("functional_relu"), SIZE).resolve("body.conv:1")
    with pytest.raises(TypeError, match="expected layer a name, got 3"):
        trace_model(toy("functional_relu"), SIZE).resolve(3)  # type: ignore[arg-type]


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Failing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise KeyError("no such map\nsecond line")


class TwoImages(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(conv(3), Branching()), r"it decides by the values that it computes \(module '1', .*\.py:\d+\)"),
        (Net(Body(lambda m, x: m.inner(x), inner=Branching())), r"it decides by the values .*module 'body\.inner'"),
        (nn.Sequential(Failing()), r"KeyError: 'no such map.*module '0'"),
        (TwoImages(), r"TypeError: .* missing 1 required positional argument: 'y'"),
    ],
)
def test_what_cannot_be_traced_is_refused_in_one_sentence(model: nn.Module, message: str) -> None:
    with pytest.raises(UnrecordableError, match=message) as refusal:
        trace_model(model.eval(), SIZE)
    assert "\n" not in str(refusal.value)


def test_training_mode_is_refused_with_the_remedy() -> None:
    model = toy("relu_then_norm").train()
    with pytest.raises(ValueError, match=r"got body\.2 \(BatchNorm2d\) in training mode; call model\.eval\(\) first"):
        trace_model(model)
    with pytest.raises(ValueError, match=r"got 1 \(Dropout\) in training mode"):
        trace_model(nn.Sequential(conv(3), nn.Dropout()))
    trace_model(toy("residual").train())  # nothing in it behaves differently
    with pytest.raises(TypeError, match=r"expected model an nn\.Module, got function"):
        trace_model(lambda x: x)  # type: ignore[arg-type]


LOTS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "dropout": (lambda: body_of(lambda m, x: F.dropout(x, 0.5, m.training)), "it draws random numbers"),
    "dropout2d": (lambda: body_of(lambda m, x: F.dropout2d(x, training=m.training)), "it draws random numbers"),
    "alpha": (lambda: body_of(lambda m, x: F.alpha_dropout(x, 0.5, m.training)), "it draws random numbers"),
    "rrelu": (lambda: body_of(lambda m, x: F.rrelu(x, training=m.training)), "it draws random numbers"),
    "depth": (lambda: nn.Sequential(StochasticDepth(0.2, "row")), "it draws random numbers"),
    "convnext": (lambda: zoo.unloaded("convnext_tiny"), "it draws random numbers"),
    "RReLU": (
        lambda: nn.Sequential(conv(3), nn.RReLU()),
        r"in eval mode, got 1 \(RReLU\) in training mode; call model\.eval\(\) first",
    ),
    "InstanceNorm2d": (
        lambda: nn.Sequential(conv(3), nn.InstanceNorm2d(MAPS, track_running_stats=True)),
        r"got 1 \(InstanceNorm2d\) in training mode; call model\.eval\(\) first",
    ),
}


def body_of(forward: Callable[[Any, Tensor], Tensor]) -> nn.Module:
    return Net(Body(forward))


@pytest.mark.parametrize("name", LOTS)
def test_what_draws_lots_or_learns_in_training_mode_is_refused(name: str) -> None:
    make, message = LOTS[name]
    with pytest.raises(ValueError, match=message):
        trace_model(make().train(), (64, 64))
    trace_model(make().eval(), (64, 64))


def test_batch_normalisation_without_running_statistics_is_refused() -> None:
    model = nn.Sequential(conv(3), nn.BatchNorm2d(MAPS, track_running_stats=False)).eval()
    with pytest.raises(ValueError, match=r"expected batch normalisation with running statistics, got 1 \(BatchNorm2d"):
        trace_model(model)


@pytest.mark.parametrize("path", ["", "body", "body.relu"])
@pytest.mark.parametrize("kind", ["register_forward_hook", "register_forward_pre_hook"])
def test_hooks_are_not_overlooked(path: str, kind: str) -> None:
    model = toy("residual")
    change = (lambda m, args: (args[0] * 2,)) if "pre" in kind else (lambda m, args, output: output * 2)
    getattr(model.get_submodule(path), kind)(change)
    network = trace_model(model, SIZE)
    with torch.no_grad():
        torch.testing.assert_close(network.run(images(), [network.output])[network.output], model(images()))


def test_others_may_call_another_function_layer_norm_2d() -> None:
    LayerNorm2d = type("LayerNorm2d", (nn.GroupNorm,), {})
    model, x = Net(nn.Sequential(conv(), LayerNorm2d(1, MAPS), nn.ReLU())).double().eval(), images(2)
    positions = torch.tensor([[0, 0], [9, 11]])
    found = zf.occlusion_sweep(model, x, window=5, positions=positions, fill=0.7)
    assert_exact(found, *dense_outputs(model, x, positions, (5, 5), 0.7))
    assert len(zf.DeconvNet(model).project(x, "body.1")) == 2 * MAPS


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@torch.no_grad()
def test_padding_that_is_not_the_same_on_both_sides_runs_as_it_is() -> None:
    model = nn.Sequential(conv(3, size=4, padding="same")).double()
    network = trace_model(model, images())
    assert not network.kinds[network.output].on_windows
    assert torch.equal(network.run(images(), [network.output])[network.output], model(images()))


@pytest.mark.parametrize("name", ["reused_relu", "relu6", "inplace_shortcut", "reused_block", "squeeze"])
def test_the_model_is_left_as_it_was(name: str) -> None:
    model, x = toy(name), images()
    model.stem.requires_grad_(False)
    before = copy.deepcopy(model)
    output = model(x.clone())

    def state(module: nn.Module) -> tuple[Any, ...]:
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        return module.training, getattr(module, "inplace", None), *map(len, hooks), sorted(module.__dict__)

    net = zf.DeconvNet(model)
    net.project(x, "top", channels=[0])
    zf.occlusion_sweep(model, x, window=8, layer="top")
    assert [state(module) for module in model.modules()] == [state(module) for module in before.modules()]
    for (key, value), (old_key, old) in zip(model.state_dict().items(), before.state_dict().items(), strict=True):
        assert key == old_key
        assert torch.equal(value, old)
    assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in before.parameters()]
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(model(x.clone()), output)


def test_a_bad_size_is_refused() -> None:
    with pytest.raises(UnrecordableError, match=r"RuntimeError: .*module 'fc'"):
        trace_model(toy("view"), SIZE).at((64, 64))
