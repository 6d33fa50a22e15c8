"""The plan of a sweep in words, and the multiply-adds that the sweep really executes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support import zoo
from support.toys import SIZE, Body, Net, toy
from torch.profiler import ProfilerActivity, profile

import zfkernels as zf
from zfkernels.network.kinds import products
from zfkernels.occlusion import cost
from zfkernels.occlusion.arguments import grid
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
    assert row(zf.explain_plan(toy("upsampling"), SIZE, 4), "body.0")[3:] == ("windows", "4% of the frame")


def test_what_is_cheaper_on_whole_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cost.RATES, "cpu", replace(cost.RATES["cpu"], windows=40e9, frames=60e9))
    report = zf.explain_plan(zoo.unloaded("resnet18").to_empty(device="cpu"), 224, 16, 104)
    dense = [found for found in report.rows if found.mode == "dense" and found.frame]
    assert dense[0].why.endswith("% of the frame can change")
    assert all(f"; whole frames from {dense[0].layer} on" in found.why for found in dense[1:])


def test_the_table_holds_every_step_and_the_sums() -> None:
    report = zf.explain_plan(toy("residual"), SIZE, (4, 3), (5, 6))
    lines = str(report).splitlines()
    assert len(lines) == 1 + len(report.rows) + 2
    assert len({line.index("frame") for line in lines[:1]}) == 1
    for line, found in zip(lines[1:], report.rows, strict=False):
        assert line.startswith(found.layer)
        assert found.mode in line
        assert line.endswith(found.why)
    plan = report.plan
    assert torch.equal(report.positions, grid(SIZE, (4, 3), (5, 6)).reshape(-1, 2))
    assert lines[-2] == f"square 4x3, {len(report.positions)} positions; largest window of each layer"
    assert f"({plan.dense / plan.exact:.2f}x fewer)" in lines[-1]


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
