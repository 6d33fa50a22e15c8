"""The plan of a sweep in words, and the multiply-adds that the sweep really executes."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from support import zoo
from support.toys import SIZE, Body, Net, images, toy
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

import zfkernels as zf
from zfkernels.network import record
from zfkernels.network.kinds import products
from zfkernels.network.recording import INPUT
from zfkernels.occlusion import cost
from zfkernels.occlusion.arguments import grid
from zfkernels.occlusion.calls import count_calls
from zfkernels.occlusion.engine import WindowSweep
from zfkernels.occlusion.explain import PlanReport


def executed(function: object) -> int:
    """Multiply-adds of convolutions and matrix products, those inside registered ops too."""
    with profile(activities=[ProfilerActivity.CPU], with_flops=True) as profiler:
        function()  # type: ignore[operator]
    return sum(event.flops or 0 for event in profiler.events()) // 2


# The images have the networks' own size; the squares lie at borders and between.
@pytest.mark.parametrize("name", ["vgg16", "resnet18", "alexnet", "squeezenet1_0"])
def test_multiply_adds_that_are_executed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_by_onednn", lambda x: False)  # torch's profiler counts its own functions alone
    size, window, stride = (224, 224), 16, 104
    model = zoo.unloaded(name).to_empty(device="cpu")
    for tensor in model.state_dict().values():
        tensor.zero_()
    x = torch.randn(1, 3, *size)
    with torch.no_grad():
        clean = executed(lambda: model(x))
    report = zf.explain_plan(model, size, window, stride)
    plan, count = report.plan, len(report.positions)
    assert clean == pytest.approx(plan.dense / count, rel=1e-6)  # the profiler sees the network's convolutions
    sweep = executed(lambda: zf.occlusion_sweep(model, x, window=window, stride=stride, backend="reference")) - clean
    assert plan.exact <= plan.planned <= 1.06 * plan.exact
    assert sweep == pytest.approx(plan.planned, rel=0.01)
    assert plan.exact < plan.dense / 2
    assert sum(found.dense_multiply_adds for found in report.rows) == pytest.approx(plan.dense / count, rel=1e-6)
    assert sum(found.multiply_adds for found in report.rows) == pytest.approx(plan.planned / count, rel=1e-6)


def row(report: PlanReport, layer: str) -> tuple[object, ...]:
    found = next(row for row in report.rows if row.layer == layer)
    return found.kind, found.frame, found.window, found.mode, found.why


def test_reasons() -> None:
    report = zf.explain_plan(toy("residual"), SIZE, 4)
    assert row(report, "body.a") == ("convolution", (13, 16), (5, 5), "windows", "10% of the frame")
    assert row(report, "mean")[1:4] == (None, None, "windows")
    assert row(report, "classes") == ("fully connected", None, None, "dense", "no maps")
    report = zf.explain_plan(toy("squeeze"), SIZE, 4)
    assert row(report, "body")[3:] == ("dense", "no rule for windows: runs on whole frames")
    assert row(report, "top.0")[3:] == ("dense", "body runs on whole frames")
    report = zf.explain_plan(toy("upsampling"), SIZE, 4)
    by_blocks, by_cells = (
        "blocks of cells, put in order by PyTorch's indexing", "cells picked by PyTorch's indexing",
    )  # fmt: skip
    assert row(report, "body.0")[3:] == ("windows", f"4% of the frame; {by_blocks}")
    assert {row.kind for row in report.rows if row.why.endswith(by_cells)} == {"resampling"}


def test_what_is_cheaper_on_whole_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cost.RATES, "cpu", replace(cost.RATES["cpu"], windows=20e9, frames=60e9))
    report = zf.explain_plan(zoo.unloaded("resnet18").to_empty(device="cpu"), 224, 16, 104)
    dense = [found for found in report.rows if found.mode == "dense" and found.frame]
    assert dense[0].why.endswith("% of the frame can change")
    assert all(f"; whole frames from {dense[0].layer} on" in found.why for found in dense[1:])


def test_the_table_holds_every_step_and_the_sums() -> None:
    report = zf.explain_plan(toy("residual"), SIZE, (4, 3), (5, 6))
    lines = str(report).splitlines()
    assert len(lines) == 1 + len(report.rows) + 4
    assert len({line.index("frame") for line in lines[:1]}) == 1
    for line, found in zip(lines[1:], report.rows, strict=False):
        assert line.startswith(found.layer)
        assert found.mode in line
        assert line.endswith(found.why)
    plan = report.plan
    assert torch.equal(report.positions, grid(SIZE, (4, 3), (5, 6)).reshape(-1, 2))
    assert lines[-4] == f"square 4x3, {len(report.positions)} positions; smallest and largest box of each layer"
    assert f"({plan.dense / plan.exact:.2f}x fewer)" in lines[-3]
    assert lines[-1] == f"estimate for one image: {plan.seconds:.3g} s, by constants for 'cpu', not measured"


def test_boxes_are_exact() -> None:
    report = zf.explain_plan(toy("residual"), SIZE, 4, 3)
    shown = next(row for row in report.rows if row.layer == "body.a")
    step = report.plan.program.recording.layers["body.a"].name
    name = next(kind.name for kind in report.plan.head if step in {part.name for part in kind.steps})
    sizes = report.plan.places[report.plan.place[name]].boxes[:, 2:].tolist()
    assert list(shown.smallest) == min(sizes, key=math.prod)
    assert list(shown.window) == max(sizes, key=math.prod)
    assert shown.smallest[0] * shown.smallest[1] < shown.window[0] * shown.window[1]
    line = next(line for line in str(report).splitlines() if line.startswith("body.a "))
    assert f" {shown.smallest[0]}x{shown.smallest[1]}-{shown.window[0]}x{shown.window[1]} " in line


class Counted(TorchDispatchMode):
    """Operations called while a chunk runs."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["residual", "upsampling", "squeeze"])
def test_calls_are_those_that_a_chunk_makes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for taking the outputs: a chunk of the sweep itself, on numbers."""
    monkeypatch.setitem(cost.RATES, "cpu", replace(cost.RATES["cpu"], budget=200_000))
    model = toy(name)
    report = zf.explain_plan(model, SIZE, 4, 3)
    calls, counted = report.calls, Counted()
    assert calls.chunks == -(-len(report.positions) // calls.at_once) > 1
    run, head = WindowSweep._run, []

    def watched(*args: Any) -> None:
        head.append(args[1])
        with counted if len(head) == 1 else contextlib.nullcontext():
            run(*args)

    monkeypatch.setattr(WindowSweep, "_run", watched)
    found = zf.occlusion_sweep(model, images(1), window=4, stride=3)
    assert found.batch_size == calls.at_once
    assert len(head) == calls.chunks
    assert sum(each.startswith("zfkernels.") for each in counted.names) == calls.ours > 0
    assert calls.ours < calls.launches < calls.operations == len(counted.names) - 4  # three views and a copy
    said = f"{calls.chunks} chunks of {calls.at_once} positions, each {calls.operations} operations on the host: "
    assert said in str(report)


def test_calls_of_what_looks_at_numbers_are_unknown() -> None:
    model = toy("residual")
    sweep = WindowSweep(record(model, (3, *SIZE)), torch.tensor([[2, 2, 4, 4]]))
    kind = next(kind for kind in sweep.program.kinds.values() if kind.maps is not None and kind.inputs)
    run = kind.run_on_windows
    kind.run_on_windows = lambda chunk: (float(chunk.frames(INPUT).sum()), run(chunk))[1]
    assert count_calls(sweep, torch.device("cpu"), torch.float64, 2**20) is None


def test_bad_input() -> None:
    model = toy("residual")
    with pytest.raises(ValueError, match=r"explain_plan: expected window no larger than the images \(25, 31\), got"):
        zf.explain_plan(model, SIZE, 26)
    with pytest.raises(ValueError, match="explain_plan: expected stride at least 1, got 0"):
        zf.explain_plan(model, SIZE, 4, 0)
    with pytest.raises(TypeError, match=r"expected model an nn\.Module, got function"):
        zf.explain_plan(lambda x: x, SIZE, 4)  # type: ignore[arg-type]


def test_what_runs_on_whole_images_says_why() -> None:
    for forward, reason in (
        (lambda m, x: x if x.sum() > 0 else -x, "it decides by the values that it computes"),
        (lambda m, x: x - x.mean(), "its output for an image depends on the other images of the batch"),
    ):
        report = zf.explain_plan(Net(Body(forward)).eval(), SIZE, 4)
        assert report.plan is None
        assert str(report) == f"square 4x4: the sweep runs on whole images: {reason}"


def test_a_report_is_short_where_it_is_shown_by_itself() -> None:
    report = zf.explain_plan(toy("residual"), SIZE, 4)
    assert repr(report) == f"<PlanReport: {report.summary()}>"
    assert report.summary().startswith(f"{len(report.positions)} positions of a square of 4x4: ")
    page = report._repr_html_()
    assert page.count("<tr>") == len(report.rows) + 1
    assert len(page) < 400 * len(report.rows)


def test_a_plan_as_a_figure() -> None:
    report = zf.explain_plan(toy("residual"), SIZE, 4)
    axes = report.plot().axes[0]
    assert axes.get_title(loc="left").replace("\n", " ") == report.summary()
    multiplying = [row for row in report.rows if row.dense_multiply_adds]
    assert [label.get_text() for label in axes.get_xticklabels()] == [row.layer for row in multiplying]
    heights = [patch.get_height() for patch in axes.patches[: len(multiplying)]]
    assert heights == pytest.approx([row.dense_multiply_adds / 1e6 for row in multiplying])
    assert sum(patch.get_height() for patch in axes.patches[len(multiplying) :]) == pytest.approx(
        sum(row.multiply_adds for row in multiplying) / 1e6
    )
    with pytest.raises(ValueError, match="plot: expected a plan with layers that multiply, got square 4x4: the sweep"):
        zf.explain_plan(Net(Body(lambda m, x: x - x.mean())).eval(), SIZE, 4).plot()


def test_the_boxes_of_one_square_as_a_figure() -> None:
    report = zf.explain_plan(toy("residual"), SIZE, (4, 3), (5, 6))
    for position in (3, 9, None):
        figure = report.plot_boxes(position)
        row, column = report.positions[len(report.positions) // 2 if position is None else position].tolist()
        assert figure.get_suptitle() == f"What a square of 4x3 at row {row}, column {column} can change"
        image, first, *_ = figure.axes
        found = [(box.get_y(), box.get_x(), box.get_height(), box.get_width()) for box in image.patches]
        assert found[0] == (0, 0, *SIZE)
        assert found[1] == (row, column, min(4, SIZE[0] - row), min(3, SIZE[1] - column))
        kind = next(kind for kind in report.plan.head if kind.inputs)
        places = report.plan.places[report.plan.place[kind.name]]
        chosen = places.boxes[len(report.positions) // 2 if position is None else position].tolist()
        box = first.patches[1]
        assert [box.get_y(), box.get_x(), box.get_height(), box.get_width()] == chosen
        assert first.get_title().splitlines()[1] == f"{chosen[2]}x{chosen[3]} of 13x16"
    with pytest.raises(IndexError, match=f"^plot_boxes: expected position below {len(report.positions)}, got 99$"):
        report.plot_boxes(99)
    with pytest.raises(ValueError, match="plot_boxes: expected a plan with layers on windows, got square 4x4"):
        zf.explain_plan(Net(Body(lambda m, x: x - x.mean())).eval(), SIZE, 4).plot_boxes()
