"""The benchmarks' chart: a dozen lines that people can read, of every kind, and nothing over anything else."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("click")

from support.figures import problems, smallest_letters

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import chart  # noqa: E402
import report  # noqa: E402

RECORD = BENCHMARKS / "results" / "amd-epyc-family25-avx2-2-cores.csv"


@pytest.mark.parametrize(
    ("group", "words"),
    [
        ("occlusion-vgg16-224-window16-stride4-256-float32", "occlusion map, vgg16: 256 places of 16, stride 4"),
        (
            "occlusion-alexnet-224-window16-stride1-in64-1256",
            "occlusion map, alexnet: 1,256 places of 16, stride 1 in 64 x 64 pixels",
        ),
        ("projections-alexnet-features.0-all-maps-9-images-float32", "projections, alexnet features.0: all maps"),
        (
            "unpool_relu_conv_transpose2d-zfnet1-batch16-96to3-7x7s2-110to224",
            "DeconvNet stage, zfnet 1: 96 to 3, 7x7/2, 110 to 224",
        ),
        ("window_conv2d-vgg16.conv1_2-512x18x18", "convolution on windows, vgg16.conv1_2: 512 of 18x18"),
        ("occluded_conv2d-7x7s2-window32-stride1-1089", "first convolution under squares: 7x7/2, 1,089 squares"),
        ("max_pool2d_with_switches-vgg16.5-4x512x14x14", "pooling with switches, vgg16.5: 4x512x14x14"),
        ("unpool_relu_conv_transpose2d-alexnet2-64-windows", "DeconvNet stage, alexnet 2: 64 windows"),
        ("something_new-a-b", "something_new, a: b"),
        ("something_new", "something_new, "),
    ],
)
def test_a_group_in_words(group: str, words: str) -> None:
    assert chart.in_words(group) == words


def test_some_of_every_kind() -> None:
    groups = [f"a-{n}" for n in range(9)] + ["b-0"] + [f"c-{n}" for n in range(5)]
    kept = chart.some(groups, 7)
    assert Counter(group[0] for group in kept) == {"a": 3, "b": 1, "c": 3}
    assert len(set(kept)) == 7
    assert sorted(kept, key=groups.index) == kept
    assert chart.some(groups, 99) == groups


def test_the_chart_of_a_record() -> None:
    rows = report.load(RECORD)
    speedups, notes = report.speedups(rows), report.machines(rows)
    with RECORD.open() as file:
        assert set(speedups) == {line["group"] for line in csv.DictReader(file)}
    figure = chart.figure_of(speedups, notes)
    assert problems(figure) == []
    assert smallest_letters(figure) >= 5
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    assert len(axes.get_yticks()) == chart.LINES
    assert axes.get_xlabel().endswith(f"; 12 of {len(speedups)} benchmarks")
    assert len(report.table(rows).splitlines()) > len(speedups)


def test_few_and_slow() -> None:
    figure = chart.figure_of({"occlusion-a-224-window16-stride4-8": 0.5, "max_pool2d_with_switches-b1-1x2": 1.0})
    assert problems(figure) == []
    labels = [text.get_text() for text in figure.axes[0].texts]
    assert labels == ["1x", "0.5x"]


def test_a_benchmark_that_there_is_none_of_is_named(tmp_path: Path) -> None:
    pytest.importorskip("pytest_benchmark")
    from bench import bench
    from click.testing import CliRunner

    result = CliRunner().invoke(bench, ["--only", "nosuchthing", "--out", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "Error: bench: expected --only to pick a benchmark, got 'nosuchthing'" in result.output
    assert not (tmp_path / "out").exists()
