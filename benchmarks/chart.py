"""A dozen of a run's benchmarks as dots on a logarithmic axis, in words; the table has them all."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zfkernels.viz.style import COLORS, GREY, INK, new_figure, plain

LINES = 12
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
# What the first part of a group's name measures, in words.
WORDS = {
    "occlusion": "occlusion map",
    "projections": "projections",
    "unpool_relu_conv_transpose2d": "DeconvNet stage",
    "occluded_conv2d": "first convolution under squares",
    "window_conv2d": "convolution on windows",
    "window_max_pool2d": "pooling on windows",
    "max_pool2d_with_switches": "pooling with switches",
    "max_unpool2d_with_switches": "unpooling",
}


def in_words(group: str) -> str:
    """What a group measures; ``occlusion-vgg16-224-window16-stride4-256`` is an occlusion map of vgg16."""
    kind, *rest = group.removesuffix("-float32").split("-")
    if kind == "occlusion" and len(rest) >= 5:
        network, _, window, stride, *where = rest
        inside = " in 64 x 64 pixels" if "in64" in where else ""
        window, stride = window.removeprefix("window"), stride.removeprefix("stride")
        return f"{WORDS[kind]}, {network}: {int(where[-1]):,} places of {window}, stride {stride}{inside}"
    if kind == "projections" and len(rest) >= 3:
        return f"{WORDS[kind]}, {rest[0]} {rest[1]}: {rest[2]} maps"
    if kind == "occluded_conv2d" and len(rest) >= 4:
        return f"{WORDS[kind]}: {_filter(rest[0])}, {int(rest[-1]):,} squares"
    if kind.startswith("window_") and len(rest) >= 2:
        count, _, size = rest[1].partition("x")
        return f"{WORDS[kind]}, {rest[0]}: {int(count):,} of {size}"
    shape = ", ".join(part for part in rest[1:] if not part.startswith("batch"))
    shape = re.sub(r"(\d)to(\d)", r"\1 to \2", _filter(shape)).replace(", windows", " windows")
    name = re.sub(r"(?<=[a-z])(\d)$", r" \1", rest[0]) if rest else ""
    return f"{WORDS.get(kind, kind)}, {name}{f': {shape}' if shape else ''}"


def _filter(shape: str) -> str:
    """A filter's size and stride as the paper has it: 7x7/2 for 7x7s2."""
    return re.sub(r"(\dx\d+)s(\d)", r"\1/\2", shape)


def some(groups: Sequence[str], count: int) -> list[str]:
    """At most ``count`` of the groups: as many of each kind as of the others, evenly spaced among those of a kind."""
    kinds: dict[str, list[str]] = {}
    for group in groups:
        kinds.setdefault(group.split("-")[0], []).append(group)
    kept = dict.fromkeys(kinds, 0)
    while sum(kept.values()) < min(count, len(groups)):
        kind = min((kind for kind in kinds if kept[kind] < len(kinds[kind])), key=lambda kind: kept[kind])
        kept[kind] += 1
    return [of[(2 * n + 1) * len(of) // (2 * kept[kind])] for kind, of in kinds.items() for n in range(kept[kind])]


def figure_of(speedups: dict[str, float], notes: Sequence[str] = (), count: int = LINES) -> Any:
    """A dot for each of some groups.

    Args:
        speedups: Of each group, in the order of the suite: times the fastest baseline.
        notes: On the machine, below.
        count: How many groups are shown at most.
    """
    shown = [(group, speedups[group]) for group in some(list(speedups), count)[::-1]]
    values = [value for _, value in shown]
    lines = [line for note in notes for line in textwrap.wrap(note, 112)]
    figure = new_figure(8.2, 0.27 * len(shown) + 0.95 + 0.16 * len(lines))
    axes = figure.subplots()
    axes.axvline(1, color=INK, linewidth=1)
    for n, value in enumerate(values):
        color, side = (COLORS[0], 1) if value >= 1 else (COLORS[3], -1)
        axes.plot([1, value], [n, n], color="#d4d4d8", linewidth=1.5, zorder=1)
        axes.plot(value, n, "o", color=color, markersize=6)
        axes.annotate(
            f"{value:.2g}x" if value < 10 else f"{value:.0f}x", (value, n), (7 * side, 0), va="center",
            ha="left" if side > 0 else "right", textcoords="offset points", fontsize=8, color=INK,
        )  # fmt: skip
    left = f"; {len(shown)} of {len(speedups)} benchmarks" if len(shown) < len(speedups) else ""
    plain(axes, x=f"times faster than the fastest baseline, 1: as fast{left}")
    low, high = 0.45 * min(1.0, *values), 1.8 * max(1.0, *values)
    axes.set(xscale="log", xlim=(low, high), ylim=(-0.7, len(shown) - 0.3))
    axes.set_xticks([tick for tick in TICKS if low <= tick <= high], minor=False)
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")
    axes.set_yticks(range(len(shown)), [in_words(group) for group, _ in shown])
    if lines:
        figure.supxlabel("\n".join(lines), fontsize=6.5, color=GREY)
    return figure


def chart(speedups: dict[str, float], notes: Sequence[str], path: Path) -> None:
    """Writes the figure."""
    figure_of(speedups, notes).savefig(path, dpi=130)
