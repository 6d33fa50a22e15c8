"""Two galleries side by side: the same maps at two checkpoints, or the maps of two networks that answer most alike."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from zfkernels.gallery.maxima import COLUMNS, Maxima, best_of, correlations, paired
from zfkernels.gallery.page import as_script
from zfkernels.gallery.reader import Gallery
from zfkernels.output import check_out, staged
from zfkernels.viz import SpriteGrid

MATCHES = ("same", "correlation")
NAME = "compare_galleries"


@dataclass(frozen=True)
class Pair:
    """A map of one gallery and one of the other.

    Attributes:
        layer, channel: In the first.
        other_layer, other_channel: In the second.
        correlation: Of their maxima over the images that both have seen; None where nobody knows it.
        shared: How many of their winning images are the same.
    """

    layer: str
    channel: int
    other_layer: str
    other_channel: int
    correlation: float | None
    shared: int


def compare_galleries(
    one: Gallery, other: Gallery, out: str | os.PathLike[str], *, match: str = "same"
) -> tuple[Path, list[Pair]]:
    """A page with the maps of two galleries beside each other.

    Args:
        one: A gallery; the page shows its pictures from the folder that it is in.
        other: The gallery beside it.
        out: Folder of the page; it receives ``compare.html``.
        match: ``"same"``: the same map of the same layer, as of two checkpoints of one network. ``"correlation"``: for
            each map of ``one`` that of ``other``, of whatever layer, with the largest correlation of maxima over the
            images that both have seen; both galleries have to be built with ``maxima=True``.

    Returns:
        The path of the page, and the pairs.

    Raises:
        ValueError: Galleries that share no images, or, for "same", no layers; another ``match``; ``out`` with a file of
            that name that this package did not write.
        FileNotFoundError: ``match`` is "correlation", and a gallery has no maxima.
        OSError: ``out`` cannot be written to.
    """
    if match not in MATCHES:
        raise ValueError(f"{NAME}: expected match one of {MATCHES}, got {match!r}")
    path = check_out(NAME, out, [])
    _refuse_strangers(one, other)
    pairs = _same(one, other) if match == "same" else _alike(one, other)
    with staged(path, ("compare.html",), NAME) as folder:
        page = _page(one, other, pairs, match, path)
        (folder / "compare.html").write_text(page, encoding="utf-8", errors="backslashreplace")
    return path / "compare.html", pairs


def _refuse_strangers(one: Gallery, other: Gallery) -> None:
    """Refuses galleries that have seen no common image, as far as that can be told."""
    one_data, other_data = (gallery.info.get("run", {}).get("data", {}).get("sha256") for gallery in (one, other))
    if (one_data is None or one_data != other_data) and _keys(one).isdisjoint(_keys(other)):
        raise ValueError(
            f"{NAME}: expected galleries that share images, got {one.path} of {one.info['data']['name']} and "
            f"{other.path} of {other.info['data']['name']}"
        )


def _keys(gallery: Gallery) -> set[str]:
    if gallery.info.get("maxima"):
        return set(gallery.maxima.images)
    return set(gallery.table["image"].to_pylist())


def _same(one: Gallery, other: Gallery) -> list[Pair]:
    layers = [layer for layer in one.layers if layer in other.layers]
    if not layers:
        raise ValueError(f"{NAME}: expected galleries that share layers, got {one.layers} and {other.layers}")
    pairs: list[Pair] = []
    for layer in layers:
        there = set(other.maps(layer))
        channels = [channel for channel in one.maps(layer) if channel in there]
        pairs += _with_facts(one, other, [(layer, channel, layer, channel) for channel in channels])
    return pairs


def _alike(one: Gallery, other: Gallery) -> list[Pair]:
    left, right = one.maxima, other.maxima
    drawn = {(layer, channel) for layer in other.layers for channel in other.maps(layer)}
    columns = np.array([n for n, place in enumerate(right.maps) if place in drawn])
    mine = [(layer, channel) for layer in one.layers for channel in one.maps(layer)]
    rows = _rows(left, right)
    found: list[tuple[str, int, str, int]] = []
    for start in range(0, len(mine), COLUMNS):
        some = mine[start : start + COLUMNS]
        chosen = left.values[:, [left.column(*place) for place in some]]
        best = best_of(correlations(chosen, right.values[:, columns], *rows), 1)
        found += [(*place, *right.maps[columns[row[0][0]]]) for place, row in zip(some, best, strict=True) if row]
    return _with_facts(one, other, found)


def _rows(left: Maxima, right: Maxima) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the images that both have used: of each."""
    there = {right.images[n]: n for n in right.used.tolist()}
    pairs = [(n, there[left.images[n]]) for n in left.used.tolist() if left.images[n] in there]
    if len(pairs) < 2:
        raise ValueError(f"{NAME}: expected galleries that share images, at least two of them, got {len(pairs)}")
    rows = np.array(pairs)
    return rows[:, 0], rows[:, 1]


def _with_facts(one: Gallery, other: Gallery, pairs: Sequence[tuple[str, int, str, int]]) -> list[Pair]:
    known: list[float | None] = [None] * len(pairs)
    if one.info.get("maxima") and other.info.get("maxima"):
        left, right = one.maxima, other.maxima
        columns = [left.column(a, m) for a, m, _, _ in pairs], [right.column(b, n) for _, _, b, n in pairs]
        known = paired(left.values, right.values, columns, _rows(left, right))
    winners = [_winners(gallery) for gallery in (one, other)]
    return [
        Pair(
            *pair,
            known[n],
            len(winners[0][pair[:2]] & winners[1][pair[2:]]),
        )
        for n, pair in enumerate(pairs)
    ]


def _winners(gallery: Gallery) -> dict[tuple[str, int], set[str]]:
    """The winning images of each map, by their keys."""
    found: dict[tuple[str, int], set[str]] = {}
    columns = (gallery.table[name].to_pylist() for name in ("layer", "channel", "image"))
    for layer, channel, image in zip(*columns, strict=True):
        found.setdefault((layer, channel), set()).add(image)
    return found


def _page(one: Gallery, other: Gallery, pairs: Sequence[Pair], match: str, out: Path) -> str:
    sides = [_side(gallery, out) for gallery in (one, other)]
    content = [
        {
            "layer": name,
            "maps": [
                [p.channel, other.layers.index(p.other_layer), p.other_channel, p.correlation, p.shared]
                for p in pairs
                if p.layer == name
            ],
            "index": index,
        }
        for index, name in enumerate(one.layers)
    ]
    words = {
        "same": "the same maps of both",
        "correlation": "for each map of the first the one of the second that answers most like it",
    }
    site = files("zfkernels.gallery") / "site"
    titles = [f"{gallery.info['title']} ({gallery.path.name})" for gallery in (one, other)]
    return Template((site / "compare.html").read_text(encoding="utf-8")).substitute(
        title=escape(" beside ".join(titles)),
        facts="".join(f"<li>{escape(fact)}</li>" for fact in (words[match], one.info["data"]["name"])),
        style=(site / "style.css").read_text(encoding="utf-8"),
        script="\n".join(
            (site / name).read_text(encoding="utf-8") for name in ("picture.js", "theme.js", "compare.js")
        ),
        data=as_script({"sides": sides, "titles": titles, "layers": [part for part in content if part["maps"]]}),
    )


def _side(gallery: Gallery, out: Path) -> dict[str, Any]:
    """What the page needs to show sprites of a gallery."""
    blocks = min(2, len(gallery.info["blocks"]))
    layers = []
    for record in gallery.info["layers"]:
        tile = (record["tile"][0], record["tile"][1])
        whole = SpriteGrid(gallery.info["top_k"], tile, len(gallery.info["blocks"])).size
        shown = SpriteGrid(gallery.info["top_k"], tile, blocks).size
        layers.append({"name": record["name"], "sprite": [whole[1], whole[0]], "shown": shown[1]})
    folder = Path(os.path.relpath(gallery.path.resolve(), out.resolve())).as_posix()
    return {"folder": folder, "layers": layers}
