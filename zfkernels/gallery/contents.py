"""gallery.json as it may be read: of the right form, and with no size that would take more memory than a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from zfkernels.gallery.tiles import BLOCKS
from zfkernels.viz import SpriteGrid

MAX_BYTES = 1 << 28
LARGEST_SPRITE = 16383  # pixels of a side, as WebP has it
MOST = 10**9  # maps of a layer, activations of a map


def read_contents(path: Path) -> dict[str, Any]:
    """What the file gallery.json at ``path`` says.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not of the form that ``build_gallery`` writes; the message says where.
    """
    if not path.is_file():
        raise FileNotFoundError(f"Gallery.open: expected path the folder of a gallery, got {path.parent}")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES >> 20} MiB")
        info = json.loads(path.read_text(encoding="utf-8"))
        _check(info)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"Gallery.open: expected {path} the record of a gallery, got {error}") from error
    return info


def _check(info: Any) -> None:
    _expect(isinstance(info, dict), "record", info)
    blocks, layers = info.get("blocks"), info.get("layers")
    _expect(isinstance(blocks, list) and blocks and blocks == [b for b in BLOCKS if b in blocks], "blocks", blocks)
    _expect(_is_count(info.get("top_k")), "top_k", info.get("top_k"))
    _expect(isinstance(info.get("table_sha256"), str), "table_sha256", info.get("table_sha256"))
    _expect(isinstance(info.get("title"), str), "title", info.get("title"))
    data = info.get("data")
    _expect(isinstance(data, dict) and isinstance(data.get("name"), str), "data", data)
    _expect(_is_pair(info.get("image_size")), "image_size", info.get("image_size"))
    _expect(isinstance(layers, list) and layers, "layers", layers)
    for layer in layers:
        _expect(isinstance(layer, dict) and isinstance(layer.get("name"), str), "layer", layer)
        for name, fits in (("maps", _is_count), ("tile", _is_pair)):
            _expect(fits(layer.get(name)), f"{name} of {layer['name']!r}", layer.get(name))
        for name in ("dead", "only_nan"):
            channels = layer.get(name)
            known = isinstance(channels, list) and all(type(n) is int and 0 <= n < layer["maps"] for n in channels)
            _expect(known, f"{name} of {layer['name']!r}", channels)
        _expect(isinstance(layer.get("rectified"), bool), f"rectified of {layer['name']!r}", layer.get("rectified"))
        _expect(isinstance(layer.get("filters", False), bool), f"filters of {layer['name']!r}", layer.get("filters"))
        size = SpriteGrid(info["top_k"], tuple(layer["tile"]), len(blocks)).size
        _expect(max(size) <= LARGEST_SPRITE, f"tile of {layer['name']!r}", f"pictures of {size[0]}x{size[1]} pixels")
    names = [layer["name"] for layer in layers]
    _expect(len(set(names)) == len(names), "layers", names)


def _is_count(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MOST


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(_is_count(n) and n <= LARGEST_SPRITE for n in value)


def _expect(fits: Any, what: str, got: object) -> None:
    if not fits:
        text = repr(got)
        raise ValueError(f"{what} {text if len(text) <= 60 else text[:57] + '…'}")
