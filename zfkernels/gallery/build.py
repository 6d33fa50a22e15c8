"""build_gallery: from a network and a data set to a gallery on disk."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from zfkernels._extras import require
from zfkernels.data import open_source
from zfkernels.gallery.layers import select_layers
from zfkernels.gallery.page import sprite_path, write_page
from zfkernels.gallery.reader import Gallery
from zfkernels.gallery.record import data_record, describe, layer_record, model_record, versions
from zfkernels.gallery.staging import staged
from zfkernels.gallery.sweep import sweep
from zfkernels.gallery.table import Winners, write_table
from zfkernels.gallery.tiles import BLOCKS, Painter, Tiles, draw_winners, tile_size
from zfkernels.methods.deconvnet import DeconvNet
from zfkernels.models import Preprocess, preprocess_of, refuse_nan_weights
from zfkernels.trace import Trace
from zfkernels.viz import SpriteGrid, map_sprite

WEBP_QUALITY = 88
# gallery.json comes last: where it is, the rest is too.
ENTRIES = ("maps", "topk.parquet", "index.html", "gallery.json")


def build_gallery(
    model: nn.Module,
    dataset: Any,
    *,
    layers: str | Sequence[str],
    out: str | os.PathLike[str],
    top_k: int = 9,
    batch_size: int = 64,
    workers: int | None = None,
    engine: str = "local",
    projections: bool = True,
    resume: bool = True,
    progress: bool = True,
    preprocess: Preprocess | None = None,
    title: str | None = None,
) -> Gallery:
    """The strongest activations of every feature map over a data set, each projected back to pixels, on a page.

    Streams the images once and keeps, for each map, the strongest activation of each of the ``top_k`` images that
    excite it most; then reads those images again and projects each activation through a DeconvNet. Memory does not
    grow with the number of images.

    ``out`` receives ``topk.parquet`` (one row for each activation: layer, channel, rank, value, image_id, image, label,
    row, col, top, left, bottom, right; rank 0 is the strongest, ties go to the lowest image_id, the place is the first
    in row-major order), ``index.html`` with ``maps/`` (the gallery) and ``gallery.json`` (model, hash of the weights,
    data, versions, dead maps, skipped images with the reason). They appear when the run is complete.

    Args:
        model: A traceable network in eval mode that takes float images [N, 3, H, W]; it runs where its weights are.
        dataset: A folder, an archive, ``"embedded"``, a map-style data set or an ``ImageSource``; see
            ``zfkernels.data.open_source``.
        layers: Names of the layers to show.
        out: Folder of the results; made if need be. Results of an earlier run in it are replaced.
        top_k: Activations of each map, at most one for each image; ≥ 1.
        batch_size: Images that go through the network together.
        workers: Processes that decode images; None takes one for each core, at most 8.
        engine: ``"local"``, this machine.
        projections: False shows the image patches alone.
        resume: Accepted for later: a run is not yet resumable and always starts anew.
        progress: Shows progress bars on stderr.
        preprocess: How pictures become the network's input; also undoes the normalisation where images are shown.
            None: ``zfkernels.models.preprocess_of(model)``.
        title: Heading of the page; None takes the name of the model's class.

    Returns:
        The gallery, opened.

    Raises:
        TypeError: ``model`` or ``dataset`` is of another type.
        ValueError: A layer that does not exist (near matches are listed), no images, weights with NaN in them, images
            that do not fit the network, or an argument out of range.
        OSError: ``out`` cannot be written to.
        ImportError: pyarrow, Pillow or tqdm is missing.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 4, figure 2.
    """
    for module in ("pyarrow", "PIL", "tqdm"):
        require(module, "viz")
    if engine != "local":
        raise ValueError(f"build_gallery: expected engine 'local', got {engine!r}")
    if top_k < 1:
        raise ValueError(f"build_gallery: expected top_k ≥ 1, got {top_k}")
    net = DeconvNet(model)
    refuse_nan_weights(model, "build_gallery")
    _check_channels(net.trace)
    preprocess = preprocess or preprocess_of(model)
    source = open_source(dataset)
    image_size = source.tensor_size or (preprocess.size, preprocess.size)
    chosen = select_layers(net.trace, [layers] if isinstance(layers, str) else list(layers), image_size)
    blocks = BLOCKS if projections else BLOCKS[1:]
    title = title or type(model).__name__
    seconds: dict[str, float] = {}
    with staged(Path(out), ENTRIES, "build_gallery") as folder:
        with _stage("sweep", seconds, len(source), progress) as advance:
            swept = sweep(
                net.trace, chosen, source, preprocess,
                top_k=top_k, batch_size=batch_size, workers=workers, advance=advance,
            )  # fmt: skip
        winners = [
            Winners.of(layer, ranking, net, image_size) for layer, ranking in zip(chosen, swept.rankings, strict=True)
        ]
        images = len({n for found in winners for n in found.image_id.tolist()})
        (folder / "tiles").mkdir()
        tiles = Tiles(folder / "tiles", chosen, top_k, blocks, image_size)
        with _stage("project", seconds, images, progress) as advance:
            labels = draw_winners(
                Painter(net, preprocess, blocks), chosen, winners, source, tiles,
                batch_size=batch_size, workers=workers, advance=advance,
            )  # fmt: skip
        with _stage("write", seconds, sum(layer.info.channels for layer in chosen), progress) as advance:
            _write_sprites(folder, winners, tiles, top_k, advance)
        shutil.rmtree(folder / "tiles")
        write_table(folder / "topk.parquet", chosen, winners, source.keys, labels)
        write_page(
            folder / "index.html",
            title=title,
            facts=describe(source, swept, chosen, top_k),
            layers=chosen,
            winners=winners,
            grids=[SpriteGrid(top_k, tile_size(layer, image_size), len(blocks)) for layer in chosen],
            blocks=blocks,
            keys=source.keys,
            labels=labels,
        )
        record = {
            "title": title,
            "model": model_record(model),
            "data": data_record(source, swept),
            "image_size": list(image_size),
            "preprocess": asdict(preprocess),
            "top_k": top_k,
            "blocks": list(blocks),
            "layers": [layer_record(*row) for row in zip(chosen, winners, swept.rankings, strict=True)],
            "seconds": {name: round(spent, 3) for name, spent in seconds.items()},
            "versions": versions(),
        }
        (folder / "gallery.json").write_text(json.dumps(record, indent=1, ensure_ascii=False), encoding="utf-8")
    return Gallery.open(out)


def _check_channels(trace: Trace) -> None:
    for step in trace.steps:
        if step.kind == "conv" and trace.by_name[step.inputs[0]].kind == "input":
            channels = step.params.weight.shape[1] * step.params.groups
            if channels != 3:
                raise ValueError(
                    "build_gallery: expected model that takes images of 3 channels (red, green, blue), "
                    f"got {step.label} with {channels}"
                )


def _write_sprites(
    folder: Path, winners: Sequence[Winners], tiles: Tiles, top_k: int, advance: Callable[[int], object]
) -> None:
    """One picture for each map that fired."""

    def write(layer: int, channel: int, drawn: int) -> None:
        path = folder / sprite_path(layer, channel)
        sprite = map_sprite(tiles.of_map(layer, channel), [rank < drawn for rank in range(top_k)])
        sprite.save(path, "WEBP", quality=WEBP_QUALITY)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for index, found in enumerate(winners):
            (folder / sprite_path(index, 0)).parent.mkdir(parents=True)
            channels, drawn = found.channel[found.drawn].unique(return_counts=True)
            pending = [pool.submit(write, index, *pair) for pair in zip(channels.tolist(), drawn.tolist(), strict=True)]
            for done in pending:
                done.result()
                advance(1)


@contextmanager
def _stage(name: str, seconds: dict[str, float], total: int, progress: bool) -> Iterator[Callable[[int], object]]:
    """Times a stage and shows its progress; yields the function to be told of it."""
    from tqdm import tqdm

    start = time.perf_counter()
    with tqdm(total=total, desc=name, disable=not progress, unit="map" if name == "write" else "image") as bar:
        yield bar.update
    seconds[name] = time.perf_counter() - start
