"""What the two hot kernels read and write, counted in the interpreter: against the floor and the unfused chain."""

from __future__ import annotations

from typing import Any

import pytest
import strict
from chains import Shape, occluded, stage
from comparing import call

SHAPES = (
    stage("3x3", (32, 16), 3, 1, 29, 2, 8.0),
    stage("5x5 stride 2", (32, 16), 5, 2, 43, 3, 8.0),
    stage("pixels", (32, 3), 7, 2, 43, 3, 40.0),
    occluded("7x7 stride 2", 32, 7, 2, 64, 16, 3.0),
    occluded("3x3", 32, 3, 1, 40, 16, 3.0),
    occluded("11x11 stride 4", 32, 11, 4, 96, 24, 3.0),
)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.op}-{shape.name}")
def test_traffic(shape: Shape, record_property: Any) -> None:
    with strict.watch() as launches:
        call(shape.op, shape.arguments, "triton")
    (launch,) = launches
    moved = [*launch.loads.values(), *launch.stores.values()]
    cold, programs = (sum(getattr(t, name) for t in moved) for name in ("cold", "programs"))
    saved = (shape.floor + shape.unfused) / cold
    report = f"cold {cold / shape.floor:.2f}x the floor, programs {programs / shape.floor:.2f}x, saved {saved:.2f}x"
    record_property("traffic", report)
    print(f"\n{shape.op} {shape.name}: {report}")
    assert cold <= 1.5 * shape.floor
    assert programs <= shape.rereads * shape.floor
    assert saved > 1
