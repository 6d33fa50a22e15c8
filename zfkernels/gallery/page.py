"""index.html: the gallery as a static site that opens from the file system, with nothing to build or to fetch.

The page knows the layers; what it shows of a layer it loads as a script of its own, since a page from the file system
may load scripts but not read files.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from zfkernels.analysis.topk import Ranking
from zfkernels.gallery.layers import Layer
from zfkernels.gallery.statistics import MapStatistics, shown
from zfkernels.gallery.table import Winners
from zfkernels.gallery.tiles import view_size
from zfkernels.geometry import Pair
from zfkernels.viz import SpriteGrid

SCALE = 1.5  # pixels of a sprite for each pixel of the page, for screens of high density


def sprite_path(layer: int, channel: int) -> str:
    """Where the sprite of a map lies in the gallery; names from models or data are never used as paths."""
    return f"maps/{layer:03d}/{channel:05d}.webp"


def image_path(image_id: int) -> str:
    """Where an image lies in the gallery, as the network sees it."""
    return f"images/{image_id // 1000:04d}/{image_id:07d}.webp"


def script_path(layer: int) -> str:
    """Where the page finds what it shows of a layer."""
    return f"maps/{layer:03d}/layer.js"


def write_page(
    folder: Path,
    *,
    title: str,
    facts: Sequence[str],
    layers: Sequence[Layer],
    winners: Sequence[Winners],
    rankings: Sequence[Ranking],
    statistics: Sequence[MapStatistics],
    grids: Sequence[SpriteGrid],
    blocks: Sequence[str],
    image_size: Pair,
    keys: Sequence[str],
    labels: Mapping[int, str | None],
    alike: Sequence[Sequence[tuple[int, float]]] | None = None,
) -> None:
    """Writes the page and the scripts of its layers. Everything that comes from the model or the data is escaped.

    ``alike``: of each map, those of all layers one after the other that answer most alike, and their correlations.
    """
    places = [[n, channel] for n, layer in enumerate(layers) for channel in range(layer.info.channels)]
    rows = list(zip(layers, winners, rankings, grids, strict=True))
    for index, (_, found, ranking, _) in enumerate(rows):
        content = layer_data(found, ranking, statistics[index], keys, labels)
        if alike is not None:
            first = places.index([index, 0])
            for row in content["maps"]:
                row.append([[*places[n], round(value, 3)] for n, value in alike[first + row[0]]])
        text = as_script(content)
        path = folder / script_path(index)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"showLayer({index}, {text});\n", encoding="utf-8", errors="backslashreplace")
    summary = {
        "blocks": list(blocks),
        "imageSize": list(image_size),
        "selective": any(bool(found.selectivity.isfinite().any()) for found in statistics),
        "layers": [_layer(layer, found, grid, image_size) for layer, found, _, grid in rows],
    }
    site = files("zfkernels.gallery") / "site"
    scripts = ("picture.js", "theme.js", "gallery.js")
    page = Template((site / "index.html").read_text(encoding="utf-8")).substitute(
        title=escape(title),
        facts="".join(f"<li>{escape(fact)}</li>" for fact in facts),
        style=(site / "style.css").read_text(encoding="utf-8"),
        script="\n".join((site / name).read_text(encoding="utf-8") for name in scripts),
        data=as_script(summary),
    )
    (folder / "index.html").write_text(page, encoding="utf-8", errors="backslashreplace")


def _layer(layer: Layer, found: Winners, grid: SpriteGrid, image_size: Pair) -> dict[str, Any]:
    info, (height, width) = layer.info, grid.size
    facts = [info.kind, f"{info.channels} {'map' if info.channels == 1 else 'maps'}"]
    if info.size is not None:
        facts += [f"{info.size[0]}×{info.size[1]}", f"receptive field {layer.field[0]}×{layer.field[1]} px"]
    return {
        "name": layer.name,
        "facts": " · ".join(facts),
        "maps": info.channels,
        "size": info.size or (1, 1),
        "dead": found.dead,
        "onlyNan": found.only_nan(info.channels),
        "filters": layer.filters,
        "views": [
            [branch.channels.start, branch.channels.stop, *view_size(branch.field, image_size)]
            for branch in layer.branches
        ],
        "sprite": [width, height],
        "tile": list(grid.tile),
        "side": grid.side,
        "gaps": [grid.TILE_GAP, grid.block_gap],
        "width": round((2 * grid.block[1] + grid.block_gap) / SCALE),
    }


def layer_data(
    found: Winners,
    ranking: Ranking,
    statistics: MapStatistics,
    keys: Sequence[str],
    labels: Mapping[int, str | None],
) -> dict[str, Any]:
    """What the page says of the maps of one layer.

    ``images``: path, name and label of each. ``maps``: channel, share of the images in which it fired, share of its
    commonest label among the labelled winners (or None), its drawn winners by rank: image, value, row, column, top,
    left, bottom, right; and its statistics (``zfkernels.gallery.statistics.shown``).
    """
    places: dict[int, int] = {}
    maps = []
    values = [f"{value:.4g}" for value in found.value.tolist()]
    for channel, rows in found.by_map():
        rows = rows[found.drawn[rows]]
        ids = found.image_id[rows].tolist()
        cells = zip(found.position[rows].tolist(), found.field[rows].tolist(), strict=True)
        units = [
            [places.setdefault(image_id, len(places)), values[row], *place, *field]
            for image_id, row, (place, field) in zip(ids, rows.tolist(), cells, strict=True)
        ]
        share = round(int(ranking.fired[channel]) / max(ranking.images, 1), 6)
        maps.append([channel, share, _purity([labels.get(n) for n in ids]), units, shown(statistics, channel)])
    return {"images": [[image_path(n), keys[n], labels.get(n)] for n in places], "maps": maps}


def _purity(labels: Sequence[str | None]) -> float | None:
    known = [label for label in labels if label is not None]
    return round(max(Counter(known).values()) / len(known), 3) if known else None


def as_script(data: Any) -> str:
    """JSON that cannot end the script element that it stands in, and is JavaScript too."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
