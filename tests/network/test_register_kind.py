"""Kinds of steps of the user's own: recognised, swept and projected."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.backprop import assert_projections, projections, some_units
from support.hiding import assert_exact, dense_outputs
from torch import Tensor, nn

import zfkernels as zf
from zfkernels.geometry import Boxes, Sliding, inputs_read, outputs_touched
from zfkernels.network import kinds
from zfkernels.network.kinds import Cellwise, Chunk, Descent, Kind, Scene, Signal, op_name
from zfkernels.network.network import trace_model
from zfkernels.network.recording import Step
from zfkernels.ops import unpool_relu_conv_transpose2d, window_conv2d
from zfkernels.windows import Windows

POSITIONS = torch.tensor([[0, 0], [9, 11], [20, 3]])
BLUR = Sliding((3, 3), padding=(1, 1))


@torch.library.custom_op("zfkernels_tests::squash", mutates_args=())
def squash(x: Tensor) -> Tensor:
    return x / (1 + x.abs())


squash.register_fake(torch.empty_like)
squash.register_autograd(
    lambda ctx, g: g / (1 + ctx.saved_tensors[0].abs()) ** 2,
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(inputs[0]),
)


@torch.library.custom_op("zfkernels_tests::blur", mutates_args=())
def blur(x: Tensor) -> Tensor:
    return F.conv2d(x, _filters(x), padding=1, groups=x.shape[1])


blur.register_fake(torch.empty_like)
blur.register_autograd(lambda ctx, g: blur(g))  # the filter is its own mirror image


def _filters(x: Tensor) -> Tensor:
    line = x.new_tensor([1.0, 2.0, 1.0])
    return (line[:, None] * line / 16).expand(x.shape[1], 1, 3, 3).contiguous()


class Squash(Cellwise):
    """Each cell alone: nothing but ``recognise`` is needed."""

    kind = "squash"

    @classmethod
    def recognise(cls, step: Step, scene: Scene) -> Kind | None:
        maps = scene.maps(step.inputs[0]) if op_name(step) == "squash" else None
        return None if maps is None else cls(step, scene, maps)


class Blur(Kind):
    """A sliding window: boxes both ways, windows forwards, and the way down."""

    kind = "blur"

    @classmethod
    def recognise(cls, step: Step, scene: Scene) -> Kind | None:
        maps = scene.maps(step.inputs[0]) if op_name(step) == "blur" else None
        return None if maps is None else cls(step, scene, maps)

    def touched(self, changed: Sequence[Boxes]) -> Boxes:
        return outputs_touched(changed[0], BLUR, self.maps.frame)

    def read(self, outputs: Boxes) -> tuple[Boxes, ...]:
        return (inputs_read(outputs, BLUR, self.maps.frame),)

    @property
    def needs_frames(self) -> bool:
        return True

    def clean_inputs(self, rules: Any) -> tuple[str, ...]:
        return ()

    def run_on_windows(self, chunk: Chunk) -> Windows:
        frames = chunk.frames(self.inputs[0])
        return window_conv2d(
            chunk.windows(self.inputs[0]), frames, _filters(frames), out_boxes=chunk.layout(self.name), padding=1,
            groups=self.maps.channels,
        )  # fmt: skip

    def send_down(self, signal: Signal, descent: Descent) -> Iterator[tuple[str, Signal]]:
        weight = _filters(signal.values[:, :, None, None])
        yield self.inputs[0], unpool_relu_conv_transpose2d(
            signal, None, weight, padding=1, groups=self.maps.channels, output_size=self.maps.frame, rectify=False,
            out_boxes=descent.layout(self.inputs[0]),
        )  # fmt: skip


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3, stride=2)
        self.classes = nn.Linear(5, 3)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(blur(squash(self.first(x)).relu()))
        return self.classes(x.mean((2, 3)))


@pytest.fixture
def own() -> Own:
    torch.manual_seed(0)
    return Own().eval()


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "_registered", [])
    for kind in (Squash, Blur):
        assert zf.register_kind(kind) is kind


IMAGES = torch.randn(2, 3, 24, 28, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def assert_right(model: nn.Module) -> None:
    found = zf.occlusion_sweep(model, IMAGES, window=5, positions=POSITIONS, fill=0.7)
    assert_exact(found, *dense_outputs(model, IMAGES, POSITIONS, (5, 5), 0.7))
    units = some_units(trace_model(model, IMAGES).activations(IMAGES, ["last"])["last"], 8)
    projected = zf.DeconvNet(model).project(IMAGES, "last", units=units)
    assert_projections(projected.dense(), projections(model, IMAGES, "last", units))


def test_they_run_on_windows(own: Own, registered: None) -> None:
    assert [kind.kind for kind in trace_model(own, IMAGES).kinds.values()][2:5] == ["squash", "rectifier", "blur"]
    assert all(kind.on_windows for kind in trace_model(own, IMAGES).kinds.values() if kind.maps is not None)
    assert_right(own)
    field = zf.DeconvNet(own).receptive_field("last", torch.tensor([[4, 4]]), (24, 28))
    assert field.tolist() == [[7, 7, 14, 14]]


def test_networks_seen_before_are_seen_anew(own: Own, monkeypatch: pytest.MonkeyPatch) -> None:
    net = zf.DeconvNet(own)
    seen = [
        net.project(IMAGES, "last", channels=0).dense(),
        [kind.kind for kind in trace_model(own, IMAGES).kinds.values()],
    ]
    monkeypatch.setattr(kinds, "_registered", [])
    zf.register_kind(Blur)
    assert "blur" not in seen[1]
    assert "blur" in [kind.kind for kind in trace_model(own, IMAGES).kinds.values()]
    torch.testing.assert_close(net.project(IMAGES, "last", channels=0).dense(), seen[0], rtol=0, atol=1e-12)


def test_without_them_the_same_numbers_on_whole_frames(own: Own) -> None:
    assert [kind.on_windows for kind in trace_model(own, IMAGES).kinds.values()][2:5] == [False, True, False]
    assert_right(own)


def test_what_is_no_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="register_kind: expected kind a subclass of Kind, got <class 'int'>"):
        zf.register_kind(int)
