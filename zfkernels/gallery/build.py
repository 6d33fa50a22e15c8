"""build_gallery: from a network and a data set to a gallery on disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zfkernels._extras import require
from zfkernels.data import Batch, ImageSource, open_source, split, stream
from zfkernels.gallery.checkpoint import Checkpoint, Progress, write_json, write_whole
from zfkernels.gallery.draw import Studio, draw, write_sprites
from zfkernels.gallery.events import Event, Reporter, Stage
from zfkernels.gallery.layers import Layer, select_layers
from zfkernels.gallery.page import write_page
from zfkernels.gallery.ranks import Ranks
from zfkernels.gallery.reader import Gallery
from zfkernels.gallery.record import data_record, describe, layer_record, left_out, peak_memory, run_record
from zfkernels.gallery.sweep import Sweeper, Swept, collect, sweep
from zfkernels.gallery.table import Winners, write_table
from zfkernels.gallery.tiles import BLOCKS, Painter, Tiles, tile_size
from zfkernels.gallery.workplace import Workplace, workplace
from zfkernels.methods.deconvnet import DeconvNet
from zfkernels.models import Preprocess, preprocess_of, refuse_nan_weights
from zfkernels.trace import Trace, UnrecordableError, first_channels, trace_model
from zfkernels.viz import SpriteGrid

ENGINES = ("local", "ray")
DRAW_BATCH = 16  # images whose maps are all kept at once
SWEPT = "swept"  # a file: the first pass is complete


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
    address: str | None = None,
    projections: bool = True,
    resume: bool = True,
    progress: bool | Callable[[Event], object] = True,
    preprocess: Preprocess | None = None,
    title: str | None = None,
) -> Gallery:
    """The strongest activations of every feature map over a data set, each projected back to pixels, on a page.

    Streams the images once and keeps, for each map, the strongest activation of each of the ``top_k`` images that
    excite it most; then reads those images again and projects each activation through a DeconvNet. Memory does not
    grow with the number of images, and neither result depends on batches, workers, ranks or machines of one kind.

    A run that was interrupted, at whatever moment, is taken up by the same call and gives the same bytes in
    ``topk.parquet``. ``out`` keeps its state in a hidden folder until everything is there. Started by torchrun, the
    processes share the images of both passes.

    ``out`` receives ``topk.parquet`` (one row for each activation: layer, channel, rank, value, image_id, image, label,
    row, col, top, left, bottom, right; rank 0 is the strongest, ties go to the lowest image_id, the place is the first
    in row-major order), ``index.html`` with ``maps/`` and ``images/`` (the gallery) and ``gallery.json`` (model, hash
    of the weights, data, versions, dead maps, skipped images with the reason, where the time went).

    Args:
        model: A traceable network in eval mode that takes float images [N, 3, H, W]; it runs where its weights are.
        dataset: A folder, an archive, shards, an address of fsspec's, ``"embedded"``, a map-style or iterable data set,
            or an ``ImageSource``; see ``zfkernels.data.open_source``.
        layers: Names of the layers to show.
        out: Folder of the results; made if need be.
        top_k: Activations of each map, at most one for each image; ≥ 1.
        batch_size: Images that are loaded together, and go through a GPU together. A CPU takes them in blocks of its
            own; on a GPU another batch size may round otherwise.
        workers: Processes that decode images; None takes one for each core, at most 8.
        engine: ``"local"``, this machine; or ``"ray"``, the first pass on a Ray cluster.
        address: Of the Ray cluster; None takes the one that this program is connected to, or starts one here.
        projections: False shows the image patches alone.
        resume: False throws away what an earlier run left in ``out``; True takes it up, and refuses one of another
            model, other data or options.
        progress: True shows bars on stderr; a function is called with events, dicts with ``"event"``: ``"stage"``
            (stage, total, done, unit), ``"progress"`` (stage, done, total, rate per second, seconds_left), ``"done"``
            (stage, done, seconds), ``"skipped"`` (image, reason).
        preprocess: How pictures become the network's input; also undoes the normalisation where images are shown.
            None: ``zfkernels.models.preprocess_of(model)``.
        title: Heading of the page; None takes the name of the model's class.

    Returns:
        The gallery, opened.

    Raises:
        TypeError: ``model`` or ``dataset`` is of another type.
        ValueError: A layer that does not exist (near matches are listed), no images, weights with NaN in them, images
            that do not fit the network, an argument out of range, or ``out`` with another run.
        OSError: ``out`` cannot be written to, another run works in it, or the disk is full.
        RuntimeError: The images changed during the run.
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
    net = DeconvNet(model)
    refuse_nan_weights(model, "build_gallery")
    preprocess = preprocess or preprocess_of(model)
    source = open_source(dataset)
    image_size = source.tensor_size or (preprocess.size, preprocess.size)
    trace = _trace(model, image_size)
    chosen = tuple(select_layers(trace, [layers] if isinstance(layers, str) else list(layers), image_size))
    if projections:
        _rehearse(net, chosen, image_size)
    title = title or type(model).__name__
    options = {"top_k": top_k, "batch_size": batch_size, "projections": projections, "title": title,
               "image_size": list(image_size)}  # fmt: skip
    ranks = Ranks.here()
    with workplace(Path(out)) if ranks.rank == 0 else nullcontext(Workplace(Path(out))) as place:
        run = _Run(
            net, source, chosen, preprocess, image_size, options, workers, place.state, ranks,
            Reporter.of(progress, ranks.rank == 0), BLOCKS if projections else BLOCKS[1:],
        )  # fmt: skip
        record = run_record(trace, source, chosen, preprocess, options) if ranks.rank == 0 else {}

        def begin() -> bool:
            place.begin(record, resume)
            return place.complete

        if not ranks.first(begin):
            swept, sweeping = run.first_pass(engine, address)
            if swept.images == 0:
                ranks.first(lambda: shutil.rmtree(place.state))
                key, reason = left_out(source, swept)[0]
                raise ValueError(
                    f"build_gallery: expected dataset with images that can be read, got none: {key}: {reason}"
                )
            winners = [
                Winners.of(layer, ranking, net, image_size)
                for layer, ranking in zip(chosen, swept.rankings, strict=True)
            ]
            tiles, drawing = run.second_pass(winners)
            if ranks.rank == 0:
                run.finish(record, swept, winners, tiles, sweeping, drawing)
                place.publish()
        ranks.wait()
    return Gallery.open(out)


@dataclass(frozen=True)
class _Run:
    """One gallery in the making."""

    net: DeconvNet
    source: ImageSource
    layers: tuple[Layer, ...]
    preprocess: Preprocess
    image_size: tuple[int, int]
    options: dict[str, Any]
    workers: int | None
    state: Path
    ranks: Ranks
    reporter: Reporter
    blocks: tuple[str, ...]

    def first_pass(self, engine: str, address: str | None) -> tuple[Swept, list[Progress]]:
        """Every image through the network, in this process and those beside it."""
        top_k, batch_size = self.options["top_k"], self.options["batch_size"]
        sweeper = Sweeper(self.net.trace_at(self.image_size), self.layers, top_k, batch_size)
        swept = self.state / SWEPT
        if not swept.exists():
            batches = split(self.source.order, batch_size) if self.source.random_access else None

            def work(checkpoint: Checkpoint, skip: Callable[[int], bool], stage: Stage) -> None:
                sweeper.load(checkpoint.progress.tensors)
                if engine == "ray":
                    from zfkernels.gallery.ray_engine import ray_sweep

                    ray_sweep(sweeper, self.source, self.preprocess, batches, checkpoint, skip, stage, address)
                else:
                    sweep(self._stream(None, batch_size, skip), sweeper, checkpoint, stage)

            self._pass("sweep", batches, sweeper.tensors, work)
            self.ranks.first(lambda: write_whole(swept, b""))
        progresses = list(_load(self.state, "sweep").values())
        result = collect(sweeper, progresses)
        for key, reason in left_out(self.source, result):
            self.reporter.say("skipped", image=key, reason=reason)
        return result, progresses

    def second_pass(self, winners: Sequence[Winners]) -> tuple[Studio, list[Progress]]:
        """The images of the winners once more."""
        wanted = {n for found in winners for n in found.image_id.tolist()}
        if self.source.random_access:
            ids = [image_id for image_id in self.source.order if image_id in wanted]
        else:
            ids = sorted(wanted)
        batches = split(ids, DRAW_BATCH)

        def tiles(make: bool) -> Tiles:
            return Tiles(self.state / "tiles", self.layers, winners, self.blocks, self.image_size, make)

        if self.ranks.rank == 0:
            tiles(make=True)
        self.ranks.wait()
        painter = Painter(self.preprocess, self.blocks)
        studio = Studio(self.net, painter, self.layers, winners, tiles(make=False), self.state, self.source.keys)

        def gather() -> dict[str, Tensor]:
            studio.tiles.flush()
            return {}

        def work(checkpoint: Checkpoint, skip: Callable[[int], bool], stage: Stage) -> None:
            draw(self._stream(ids, DRAW_BATCH, skip), studio, checkpoint, stage)

        self._pass("project", batches, gather, work)
        return studio, list(_load(self.state, "project").values())

    def finish(
        self,
        record: dict[str, Any],
        swept: Swept,
        winners: Sequence[Winners],
        studio: Studio,
        sweeping: Sequence[Progress],
        drawing: Sequence[Progress],
    ) -> None:
        """Writes everything that the page and other tools read."""
        labels = {image_id: label for progress in drawing for image_id, label in progress.notes.items()}
        maps = sum(len(list(found.by_map())) for found in winners)
        (self.state / "maps").mkdir(exist_ok=True)
        (self.state / "images").mkdir(exist_ok=True)
        sizes = [tile_size(layer, self.image_size) for layer in self.layers]
        with self.reporter.stage("write", maps, "map") as stage:
            write_sprites(studio, stage.advance)
            write_table(self.state / "topk.parquet", self.layers, winners, self.source.keys, labels)
            write_page(
                self.state,
                title=self.options["title"],
                facts=describe(self.source, swept, self.layers, self.options["top_k"]),
                layers=self.layers,
                winners=winners,
                rankings=swept.rankings,
                grids=[SpriteGrid(self.options["top_k"], size, len(self.blocks)) for size in sizes],
                blocks=self.blocks,
                image_size=self.image_size,
                keys=self.source.keys,
                labels=labels,
            )
        spent = {"sweep": _spent(sweeping), "project": _spent(drawing)}
        seconds = {name: round(max(sum(p.seconds.values()) for p in parts), 3)
                   for name, parts in (("sweep", sweeping), ("project", drawing))}  # fmt: skip
        seconds["write"] = round(self.reporter.seconds["write"], 3)
        write_json(
            self.state / "gallery.json",
            {
                "title": self.options["title"],
                "model": record["model"],
                "data": data_record(self.source, swept),
                "image_size": list(self.image_size),
                "preprocess": asdict(self.preprocess),
                "top_k": self.options["top_k"],
                "blocks": list(self.blocks),
                "layers": [layer_record(*row) for row in zip(self.layers, winners, swept.rankings, sizes, strict=True)],
                "seconds": seconds,
                "spent": spent,
                "peak_memory_bytes": peak_memory(),
                "versions": record["versions"],
                "run": record,
            },
        )

    def _pass(
        self,
        name: str,
        batches: Sequence[Sequence[int]] | None,
        gather: Callable[[], dict[str, Tensor]],
        work: Callable[[Checkpoint, Callable[[int], bool], Stage], None],
    ) -> None:
        """Does what is left of a pass, this process its share, and keeps on disk how far it is."""
        own = self.state / f"{name}-{self.ranks.rank:03d}.safetensors"
        before = _load(self.state, name)
        done = {number for progress in before.values() for number in progress.done.nonzero()[:, 0].tolist()}
        self.ranks.wait()  # all have read what is there before anybody adds to it
        checkpoint = Checkpoint(own, before.get(own, Progress()), gather)
        share = None if batches is None else [len(b) for n, b in enumerate(batches) if self.ranks.mine(n)]
        old = sum(len(b) for n, b in enumerate(batches or ()) if self.ranks.mine(n) and n in done)
        with self.reporter.stage(name, None if share is None else sum(share), "image", old) as stage:
            work(checkpoint, _Skip(frozenset(done), self.ranks), stage)
            checkpoint.save()
        self.ranks.wait()

    def _stream(self, ids: Sequence[int] | None, batch_size: int, skip: Callable[[int], bool]) -> Iterable[Batch]:
        return stream(self.source, self.preprocess, ids=ids, batch_size=batch_size, workers=self.workers, skip=skip)


@dataclass(frozen=True)
class _Skip:
    """Whether a batch is not for this process: done before, or another one's."""

    done: frozenset[int]
    ranks: Ranks

    def __call__(self, number: int) -> bool:
        return number in self.done or not self.ranks.mine(number)


def _load(state: Path, name: str) -> dict[Path, Progress]:
    """What all processes, of this run and of interrupted ones, have done of a pass."""
    return {path: Progress.load(path) for path in sorted(state.glob(f"{name}-*.safetensors"))}


def _spent(progresses: Sequence[Progress]) -> dict[str, float]:
    """Where the time of a pass went, in seconds of all its processes."""
    names = dict.fromkeys(name for progress in progresses for name in progress.seconds)
    return {name: round(sum(progress.seconds.get(name, 0.0) for progress in progresses), 3) for name in names}


def _rehearse(net: DeconvNet, layers: Sequence[Layer], image_size: tuple[int, int]) -> None:
    """Projects one activation of each layer: what cannot be done is refused now and not after the first pass."""
    parameter = next(net.model.parameters(), torch.empty(0))
    forward = net.forward(parameter.new_zeros(1, 3, *image_size), [layer.name for layer in layers])
    for layer in layers:
        forward.project(layer.name, units=torch.zeros(1, 4, dtype=torch.int64))


def _trace(model: nn.Module, image_size: tuple[int, int]) -> Trace:
    """The network for the gallery's images."""
    channels = first_channels(model)
    if channels != 3:
        raise ValueError(
            "build_gallery: expected model that takes images of 3 channels (red, green, blue), "
            f"got one whose first convolution takes {channels}"
        )
    try:
        return trace_model(model, image_size)
    except UnrecordableError as error:
        raise ValueError(
            f"build_gallery: expected images that fit the model, got {image_size[0]}x{image_size[1]} pixels ({error})"
        ) from error
