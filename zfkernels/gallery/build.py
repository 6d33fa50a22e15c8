"""build_gallery: from a network and a data set to a gallery on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from zfkernels._extras import require
from zfkernels.data import ImageSource, open_source
from zfkernels.deconvnet import DeconvNet
from zfkernels.gallery.contents import LARGEST_SPRITE
from zfkernels.gallery.events import Event, Reporter
from zfkernels.gallery.layers import Layer, default_layers, select_layers
from zfkernels.gallery.prepare import prepare
from zfkernels.gallery.ranks import Ranks
from zfkernels.gallery.reader import Gallery
from zfkernels.gallery.record import left_out, run_record
from zfkernels.gallery.run import Run
from zfkernels.gallery.show import Show
from zfkernels.gallery.table import Winners
from zfkernels.gallery.tiles import blocks_of, tile_size
from zfkernels.gallery.workplace import gallery_place, workplace
from zfkernels.models import refuse_nan_weights
from zfkernels.network import UnrecordableError, first_channels
from zfkernels.network.network import Network, trace_model
from zfkernels.output import check_out, local_paths
from zfkernels.viz import SpriteGrid

ENGINES = ("local", "ray")


def build_gallery(
    model: nn.Module,
    dataset: Any,
    *,
    layers: str | Sequence[str] | None,
    out: str | os.PathLike[str],
    top_k: int = 9,
    batch_size: int = 64,
    workers: int | None = None,
    engine: str = "local",
    address: str | None = None,
    projections: bool = True,
    occlusion: bool = False,
    resume: bool = True,
    strict: bool = False,
    progress: bool | Callable[[Event], object] = True,
    preprocess: Callable[[Any], Any] | None = None,
    show: str | Sequence[int] | Callable[[Tensor], Tensor] | None = None,
    title: str | None = None,
    maxima: bool = False,
) -> Gallery:
    """The strongest activations of every feature map over a data set, each projected back to pixels, on a page.

    Streams the images once and keeps, for each map, the strongest activation of each of the ``top_k`` images that
    excite it most; then reads those images again and projects each activation through a DeconvNet. Memory does not
    grow with the number of images, and neither result depends on batches, workers, ranks or machines of one kind.

    If a run was interrupted, at any moment, the same call continues it and gives the same bytes in ``topk.parquet``.
    The hidden folder ``.zfkernels`` in ``out`` has the state of the run until everything is there. After that it has a
    list of the files that this package wrote; no other file is ever replaced. Started by torchrun, the
    processes share the images of both passes.

    ``out`` receives ``topk.parquet`` (one row for each activation: layer, channel, rank, value, image_id, image, label,
    row, col, top, left, bottom, right; rank 0 is the strongest, ties go to the lowest image_id, the place is the first
    in row-major order), ``maps.parquet`` (one row for each map: the share of the images in which it fired, a histogram
    of its maxima, its means by label, the labels that it responds to most), ``index.html`` with ``maps/`` and
    ``images/`` (the gallery) and ``gallery.json`` (model, hash of the weights, data, versions, dead maps, skipped
    images with the reason, where the time went).

    Args:
        model: A network in eval mode that takes float images [N, C, H, W] of any number of channels and returns
            anything; it runs where its weights are.
        dataset: A folder, an archive, shards, a stack of arrays, an address of fsspec's, ``"embedded"``, a map-style or
            iterable data set, a table of paths and labels, or an ``ImageSource``; see ``zfkernels.data.open_source``.
        layers: Names of the layers to show, or patterns of them: ``"features.*"``, ``"*conv*"``; ``"kind:rectifier"``
            is every layer of that kind, as the table of layers has it. None: every rectifier that has maps, or every
            convolution where there is none.
        out: Folder of the results, apart from the data; made if need be.
        top_k: Activations of each map, at most one for each image; ≥ 1.
        batch_size: Images that are loaded together, and go through a GPU together. A CPU takes them in blocks of its
            own; on a GPU another batch size may round otherwise.
        workers: Processes that decode images; None takes one for each core, at most 8.
        engine: ``"local"``, this machine; or ``"ray"``, the first pass on a Ray cluster.
        address: Of the Ray cluster; None takes the one that this program is connected to, or starts one here.
        projections: False shows the image patches alone.
        occlusion: True adds to each activation a heat map: where a small square over the image lowers it.
        resume: False throws away what an earlier run left in ``out``; True continues that run, and refuses one of
            another model, other data or options.
        strict: True ends the run at the first image that cannot be used; False leaves it out and lists it.
        progress: True shows bars on stderr; a function is called with events, dicts with ``"event"``: ``"stage"``
            (stage, total, done, unit), ``"progress"`` (stage, done, total, rate per second, seconds_left), ``"done"``
            (stage, done, seconds), ``"skipped"`` (image, reason), ``"waiting"`` (sentence: no images for a minute;
            called in another thread).
        preprocess: How pictures and arrays become the network's input: any function to a floating-point tensor
            [C, H, W], a transform of torchvision's or timm's, a HuggingFace processor. It gets pictures of 8 bits in
            RGB (in grey for a network of one channel), deeper ones and arrays with their values as they are; tensors of
            a data set are ready and do not pass it. None: ``zfkernels.models.preprocess_of(model)``; arrays are then
            taken as they are.
        show: How images and projections are shown: ``"rgb"`` (the first three channels), ``"grey"`` (the mean of all),
            the numbers of three channels, or a function from images [N, C, H, W] to uint8, or floats in [0, 1],
            [N, 3, H, W] or [N, 1, H, W]; projections are then shown as with "grey". None: "rgb" where there are three
            channels, else "grey"; of more than three channels the page also has each one's projection by itself. A
            normalisation that can be told from ``preprocess`` is undone; otherwise each image
            is stretched over its own range.
        title: Heading of the page; None takes the name of the model's class.
        maxima: True also keeps the largest activation of every map on every image, 2 bytes each, in a matrix on the
            disk (``Gallery.maxima``); the page then names the maps that respond most alike.

    Returns:
        The gallery, opened.

    Raises:
        TypeError: ``model`` or ``dataset`` is of another type.
        ValueError: A layer that does not exist (near matches are listed), no images, weights with NaN in them, images
            that do not fit the network, an argument out of range; ``out`` with another run, with a damaged state, with
            something of a result's name that this package did not write, or in or around the data; with ``strict``, an
            image that cannot be used.
        OSError: ``out`` cannot be written to, another run works in it, or the disk is full.
        RuntimeError: The images changed during the run, or some were not seen.
        ImportError: pyarrow, Pillow, tqdm or Ray is missing.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 4, figure 2.
    """
    for module in ("pyarrow", "PIL", "tqdm", "filelock"):
        require(module, "viz")
    if engine not in ENGINES:
        raise ValueError(f"build_gallery: expected engine one of {ENGINES}, got {engine!r}")
    if top_k < 1:
        raise ValueError(f"build_gallery: expected top_k ≥ 1, got {top_k}")
    if batch_size < 1:
        raise ValueError(f"build_gallery: expected batch_size ≥ 1, got {batch_size}")
    path = check_out("build_gallery", out, local_paths(dataset))
    net = DeconvNet(model)
    refuse_nan_weights(model, "build_gallery")
    source = open_source(dataset)
    if maxima and (engine != "local" or not source.random_access):
        got = f"engine {engine!r}" if engine != "local" else f"{source.name}, which can only be walked through"
        raise ValueError(f"build_gallery: expected maxima of a data set with a length, on this machine, got {got}")
    ranks = Ranks.here()
    reporter = Reporter.of(progress, ranks.rank == 0)
    prepared, image = prepare(source, model, preprocess, first_channels(model), reporter.waiting)
    shown, image_size = Show.of(show, len(image), prepared.function), (image.shape[1], image.shape[2])
    network = _network(model, image)
    names = default_layers(network) if layers is None else [layers] if isinstance(layers, str) else list(layers)
    chosen = tuple(select_layers(network, names))
    if projections:
        _rehearse(net, chosen, image)
    blocks = blocks_of(projections, occlusion, len(image))
    kept = min(top_k, _things(source) or top_k)
    _check_sprites(chosen, kept, len(blocks), image_size)
    title = title or type(model).__name__
    options = {"top_k": top_k, "batch_size": batch_size, "projections": projections, "title": title,
               "image_size": list(image_size), "show": shown.record(), "maxima": maxima,
               **({"occlusion": True} if occlusion else {})}  # fmt: skip
    with workplace(path) if ranks.rank == 0 else nullcontext(gallery_place(path)) as place:
        run = Run(
            net, source, chosen, prepared, shown, image_size, kept, batch_size, workers, strict, place, ranks,
            reporter, blocks, maxima,
        )  # fmt: skip
        record = run_record(network, source, chosen, prepared, options) if ranks.rank == 0 else {}

        def begin() -> bool:
            place.begin(record, resume)
            return place.complete

        if not ranks.first(begin):
            swept, sweeping = run.first_pass(engine, address)
            if swept.images == 0:
                ranks.first(place.forget)
                key, reason = left_out(source, swept)[0]
                raise ValueError(
                    f"build_gallery: expected dataset with images that can be read, got none: {key}: {reason}"
                )
            winners = [
                Winners.of(layer, ranking, net, image_size)
                for layer, ranking in zip(chosen, swept.rankings, strict=True)
            ]
            studio, drawing = run.second_pass(winners)
            if ranks.rank == 0:
                run.finish(record, swept, studio, sweeping, drawing)
                place.publish()
        ranks.wait()
    return Gallery.open(path)


def _things(source: ImageSource) -> int | None:
    """How many images can win at most: one of each group; None where nobody knows that."""
    if source.count is None or source.groups is None:
        return source.count
    return len({source.groups[image_id] for image_id in source.order})


def _check_sprites(layers: Sequence[Layer], top_k: int, blocks: int, image_size: tuple[int, int]) -> None:
    """Refuses more tiles of a map than a picture can hold: now, and not after both passes."""

    def fits(layer: Layer, side: int) -> bool:
        return max(SpriteGrid(side * side, tile_size(layer, image_size), blocks).size) <= LARGEST_SPRITE

    for layer in layers:
        side = SpriteGrid(top_k, tile_size(layer, image_size), blocks).side
        if not fits(layer, side):
            most = next(n for n in range(1, side) if not fits(layer, n + 1)) ** 2
            raise ValueError(
                f"build_gallery: expected top_k from 1 to {most}, the tiles of a map of {layer.name} that one picture "
                f"holds, got {top_k}"
            )


def _rehearse(net: DeconvNet, layers: Sequence[Layer], image: Tensor) -> None:
    """Projects one activation of each layer: what cannot be done is refused now and not after the first pass."""
    parameter = next(net.model.parameters(), torch.empty(0))
    forward = net.forward(parameter.new_zeros(1, *image.shape), [layer.name for layer in layers])
    for layer in layers:
        forward.project(layer.name, units=torch.zeros(1, 4, dtype=torch.int64))


def _network(model: nn.Module, image: Tensor) -> Network:
    """The network for images like ``image`` [C, H, W]."""
    channels, size = first_channels(model), tuple(image.shape)
    try:
        return trace_model(model, size)
    except UnrecordableError as error:
        if channels != len(image):
            raise ValueError(
                f"build_gallery: expected images of {channels} channels, as the model takes them, got {len(image)}; "
                f"preprocess= makes them"
            ) from error
        raise ValueError(
            f"build_gallery: expected images that fit the model, got {size[1]}x{size[2]} pixels ({error}); preprocess= "
            f"makes them of the right size"
        ) from error
