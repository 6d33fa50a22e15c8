"""What the two hot kernels read and write, counted in the interpreter: against the floor and the unfused chain."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from support import strict
from support.chains import Shape, occluded, stage
from support.comparing import call

from zfkernels.ops import _triton_launch

# Calls, and how many times the floor was counted at most: distinct bytes, bytes of all programs.
RECORDED = (
    (stage("3x3", (32, 16), 3, 1, 21, 2), 1.01, 3.31),
    (stage("5x5 stride 2", (32, 16), 5, 2, 31, 3), 1.19, 3.1),
    (stage("pixels", (32, 3), 7, 2, 31, 3), 1.38, 4.21),
    (occluded("7x7 stride 2", 32, 7, 2, 48, 16), 1.16, 2.36),
    (occluded("3x3", 32, 3, 1, 40, 16), 1.07, 1.41),
    (occluded("11x11 stride 4", 32, 11, 4, 64, 24), 1.23, 2.87),
)


@pytest.fixture
def _tiles_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a program owns on a GPU, in place of the larger tiles that the interpreter gets."""
    stage = importlib.import_module("zfkernels.ops.unpool_relu_conv_transpose2d.triton_kernel")
    monkeypatch.setattr(stage, "INTERPRETED", False)
    monkeypatch.setattr(_triton_launch, "INTERPRETED", False)


@pytest.mark.usefixtures("_tiles_of_a_gpu")
@pytest.mark.parametrize(
    ("shape", "distinct", "all_programs"), [pytest.param(*row, id=f"{row[0].op}-{row[0].name}") for row in RECORDED]
)
def test_traffic(shape: Shape, distinct: float, all_programs: float, record_property: Any) -> None:
    with strict.watch() as launches:
        call(shape.op, shape.arguments, "triton")
    (launch,) = launches
    moved = [*launch.loads.values(), *launch.stores.values()]
    cold, programs = (sum(getattr(t, name) for t in moved) for name in ("cold", "programs"))
    saved = (shape.floor + shape.unfused) / cold
    report = f"cold {cold / shape.floor:.3f}x the floor, programs {programs / shape.floor:.3f}x, saved {saved:.2f}x"
    record_property("traffic", report)
    print(f"\n{shape.op} {shape.name}: {report}")
    assert cold <= min(1.5, distinct) * shape.floor
    assert programs <= all_programs * shape.floor
    assert saved > 1
