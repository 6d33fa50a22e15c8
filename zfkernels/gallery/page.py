"""index.html: the gallery as one static page that opens from the file system."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from zfkernels.gallery.layers import Layer
from zfkernels.gallery.table import Winners
from zfkernels.viz import SpriteGrid

SCALE = 1.5  # pixels of a sprite for each pixel of the page, for screens of high density
DEAD_LISTED = 400


def sprite_path(layer: int, channel: int) -> str:
    """Where the sprite of a map lies in the gallery; names from models or data are never used as paths."""
    return f"maps/{layer:03d}/{channel:05d}.webp"


def write_page(
    path: Path,
    *,
    title: str,
    facts: Sequence[str],
    layers: Sequence[Layer],
    winners: Sequence[Winners],
    grids: Sequence[SpriteGrid],
    blocks: Sequence[str],
    keys: Sequence[str],
    labels: Mapping[int, str | None],
) -> None:
    """Writes the page. Everything that comes from the model or the data is escaped."""
    sections = [
        _section(index, layer, found, grid, blocks)
        for index, (layer, found, grid) in enumerate(zip(layers, winners, grids, strict=True))
    ]
    links = "".join(f'<a href="#layer-{n}">{escape(layer.name)}</a>' for n, layer in enumerate(layers))
    site = files("zfkernels.gallery") / "site"
    page = Template((site / "index.html").read_text(encoding="utf-8")).substitute(
        title=escape(title),
        facts="".join(f"<li>{escape(fact)}</li>" for fact in facts),
        links=links,
        sections="".join(sections),
        style=(site / "style.css").read_text(encoding="utf-8"),
        script=(site / "gallery.js").read_text(encoding="utf-8"),
        data=_as_script(_data(winners, grids[0], keys, labels)),
    )
    path.write_text(page, encoding="utf-8")


def _section(index: int, layer: Layer, found: Winners, grid: SpriteGrid, blocks: Sequence[str]) -> str:
    info, (height, width) = layer.info, grid.size
    facts = [info.kind, f"{info.channels} maps"]
    if info.size is not None:
        facts += [f"{info.size[0]}×{info.size[1]}", f"receptive field {layer.field[0]}×{layer.field[1]} px"]
    dead = found.dead
    gone = set(dead)
    alive = [channel for channel in range(info.channels) if channel not in gone]
    maps = "".join(_map(index, layer, channel, width, height, blocks) for channel in alive)
    return (
        f'<section id="layer-{index}" data-layer="{index}" data-gap="{grid.block_gap / width:.4f}" '
        f'style="--map:{round(width / SCALE)}px">'
        f"<h2>{escape(layer.name)}</h2><p>{escape(' · '.join(facts))}</p>"
        f'<div class="maps">{maps}</div>{_dead(dead)}</section>'
    )


def _map(index: int, layer: Layer, channel: int, width: int, height: int, blocks: Sequence[str]) -> str:
    name = escape(f"{layer.name}, map {channel}: {' beside '.join(blocks)}")
    return (
        f'<figure id="map-{index}-{channel}" data-channel="{channel}">'
        f'<img src="{sprite_path(index, channel)}" width="{width}" height="{height}" loading="lazy" decoding="async" '
        f'alt="{name}"><figcaption>{channel}</figcaption></figure>'
    )


def _dead(channels: Sequence[int]) -> str:
    if not channels:
        return ""
    listed = ", ".join(map(str, channels[:DEAD_LISTED])) + (" …" if len(channels) > DEAD_LISTED else "")
    noun = "map" if len(channels) == 1 else "maps"
    return f'<p class="dead">{len(channels)} dead {noun} (never above zero on these images): {listed}</p>'


def _data(
    winners: Sequence[Winners], grid: SpriteGrid, keys: Sequence[str], labels: Mapping[int, str | None]
) -> dict[str, Any]:
    """What the page says about a tile: the images once, and for each layer and map its drawn activations by rank."""
    used = sorted({n for found in winners for n in found.image_id[found.drawn].tolist()})
    place = {image_id: n for n, image_id in enumerate(used)}
    maps: list[dict[int, list[list[object]]]] = []
    for found in winners:
        units: dict[int, list[list[object]]] = {}
        columns = zip(
            found.channel.tolist(), found.image_id.tolist(), found.value.tolist(), found.field.tolist(),
            found.drawn.tolist(), strict=True,
        )  # fmt: skip
        for channel, image_id, value, field, drawn in columns:
            if drawn:
                units.setdefault(channel, []).append([place[image_id], f"{value:.4g}", *field])
        maps.append(units)
    return {
        "blocks": grid.blocks,
        "side": grid.side,
        "images": [[keys[n], labels.get(n)] for n in used],
        "maps": maps,
    }


def _as_script(data: Any) -> str:
    """JSON that cannot end the script element that it stands in."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
