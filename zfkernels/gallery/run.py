"""One gallery in the making: both passes, what each process does of them, and what is written in the end."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from zfkernels.data import Batch, ImageSource, split, stream
from zfkernels.deconvnet import DeconvNet
from zfkernels.gallery.account import check_batches, check_drawn, check_sweep
from zfkernels.gallery.checkpoint import SUFFIX, Checkpoint, Progress
from zfkernels.gallery.draw import Studio, draw, write_sprites
from zfkernels.gallery.events import Reporter, Stage
from zfkernels.gallery.hiding import Hiding
from zfkernels.gallery.layers import Layer
from zfkernels.gallery.matrix import FILE, ROWS, Matrix
from zfkernels.gallery.maxima import Maxima, nearest
from zfkernels.gallery.originals import Originals
from zfkernels.gallery.page import write_page
from zfkernels.gallery.pictures import Pictures
from zfkernels.gallery.prepare import Prepared
from zfkernels.gallery.ranks import Ranks
from zfkernels.gallery.record import data_record, describe, layer_record, left_out, peak_memory
from zfkernels.gallery.show import Show
from zfkernels.gallery.statistics import write_statistics
from zfkernels.gallery.sweep import Sweeper, Swept, collect, sweep
from zfkernels.gallery.table import Winners, table_digest, write_table
from zfkernels.gallery.tiles import Painter, Tiles, tile_size
from zfkernels.network.network import trace_model
from zfkernels.output import write_json, write_whole
from zfkernels.output.workplace import Workplace
from zfkernels.viz import SpriteGrid

DRAW_BATCH = 16  # images whose maps are all kept at once
NEAREST = 5  # maps that answer most like a map, shown of each
SWEPT = "swept"  # a file: the first pass is complete


@dataclass(frozen=True)
class Run:
    """One gallery in the making.

    Attributes:
        net: Of the network.
        source: Of the images.
        layers: What is shown.
        preprocess: Makes the network's input.
        show: Makes pictures of it.
        image_size: Height and width of it.
        top_k: Activations that are kept of each map, not more than there are images.
        batch_size, workers: See ``zfkernels.gallery.build_gallery``.
        strict: An image that cannot be used ends the run.
        place: Where the state lies.
        ranks: This process among others.
        reporter: Says how far the run is.
        blocks: What is drawn of an activation.
        maxima: Whether the whole matrix of maxima is kept.
    """

    net: DeconvNet
    source: ImageSource
    layers: tuple[Layer, ...]
    preprocess: Prepared
    show: Show
    image_size: tuple[int, int]
    top_k: int
    batch_size: int
    workers: int | None
    strict: bool
    place: Workplace
    ranks: Ranks
    reporter: Reporter
    blocks: tuple[str, ...]
    maxima: bool = False

    def first_pass(self, engine: str, address: str | None) -> tuple[Swept, list[Progress]]:
        """Every image through the network, in this process and those beside it.

        Raises:
            RuntimeError: An image was not seen, or twice.
            ValueError: A checkpoint is damaged; with ``strict``, an image cannot be used.
        """
        network = trace_model(self.net.model, self.preprocess.shape)
        sweeper = Sweeper(network, self.layers, self.top_k, self.batch_size, self.source.groups)
        batches = split(self.source.order, self.batch_size) if self.source.random_access else None
        complete = self.place.state / SWEPT
        matrix = self._matrix() if self.maxima else None
        if matrix is not None and not complete.exists():
            self.ranks.first(lambda: self._make_room(matrix))

        def gather() -> dict[str, Tensor]:
            if matrix is None:
                return sweeper.tensors()
            matrix.flush()
            return {**sweeper.tensors(), **matrix.tensors()}

        def work(checkpoint: Checkpoint, skip: Callable[[int], bool], stage: Stage) -> None:
            sweeper.load(checkpoint.progress.tensors)
            if matrix is not None:
                matrix.load(checkpoint.progress.tensors)
            if engine == "ray":
                from zfkernels.gallery.ray_engine import ray_sweep

                ray_sweep(sweeper, self.source, self.preprocess, batches, checkpoint, skip, stage, address)
            else:
                sweep(self._stream(None, self.batch_size, skip), sweeper, checkpoint, stage, matrix)

        if not complete.exists():
            self._pass("sweep", batches, gather, work)
        progresses = list(self._load("sweep").values())
        result = collect(sweeper, progresses)
        skipped = sum(len(progress.notes) for progress in progresses)
        count = check_batches(progresses, None if batches is None else len(batches), self.place.state)
        check_sweep(result, skipped, count, self.batch_size, self.source, self.place.state)
        if result.skipped:
            self._refuse_if_strict(result.skipped[0])
        self.ranks.first(lambda: None if complete.exists() else write_whole(complete, b""))
        for key, reason in left_out(self.source, result):
            self.reporter.say("skipped", image=key, reason=reason)
        return result, progresses

    def _matrix(self) -> Matrix:
        return Matrix(self.place.state / FILE, self.source.order, sum(layer.info.channels for layer in self.layers))

    def _make_room(self, matrix: Matrix) -> None:
        """Makes the file of the matrix; where an earlier one is gone, all images are read again."""
        if not matrix.is_there():
            for path in self._load("sweep"):
                self.place.discard(path)
            matrix.reserve()

    def _write_maxima(self, swept: Swept, sweeping: Sequence[Progress]) -> list[list[tuple[int, float]]]:
        """Puts the matrix among the results; the maps that answer most alike, of each map."""
        matrix, folder = self._matrix(), self.place.state / "maps"
        matrix.leave_out(image_id for image_id, _ in swept.skipped)
        matrix.write_rows(folder / ROWS, self.source.keys, [p.tensors for p in sweeping if p.tensors])
        matrix.path.replace(folder / FILE)
        maps = [(layer.name, channel) for layer in self.layers for channel in range(layer.info.channels)]
        found = Maxima.open(folder, maps)
        return nearest(found.values, range(len(maps)), found.used, NEAREST)

    def second_pass(self, winners: Sequence[Winners]) -> tuple[Studio, list[Progress]]:
        """The images of the winners once more.

        Raises:
            RuntimeError: An image changed, was not seen, or twice.
            ValueError: A checkpoint is damaged.
        """
        wanted = {n for found in winners for n in found.image_id.tolist()}
        if self.source.random_access:
            ids = [image_id for image_id in self.source.order if image_id in wanted]
        else:
            ids = sorted(wanted)
        batches = split(ids, DRAW_BATCH)
        state = self.place.state
        tiles = Tiles(state / "tiles", self.layers, winners, self.blocks, self.image_size)
        painter = Painter(self.show, self.blocks)
        hiding = Hiding(self.net.model, self.layers, self.preprocess.shape) if "occlusions" in self.blocks else None
        studio = Studio(
            self.net, painter, self.layers, winners, tiles, Pictures(state), self.source.keys, self.top_k, hiding
        )
        self.ranks.first(lambda: self._prepare(tiles))

        def work(checkpoint: Checkpoint, skip: Callable[[int], bool], stage: Stage) -> None:
            studio.add(checkpoint.progress.tensors)
            draw(self._stream(ids, DRAW_BATCH, skip, self._originals()), studio, checkpoint, stage)

        self._pass("project", batches, studio.tensors, work)
        progresses = list(self._load("project").values())
        for progress in progresses:
            studio.add(progress.tensors)
        check_batches(progresses, len(batches), state)
        check_drawn(wanted, progresses, studio, state)
        return studio, progresses

    def _prepare(self, tiles: Tiles) -> None:
        """Makes room for the tiles. Where what was drawn before is not there any more, all is drawn again."""
        pictures, before = Pictures(self.place.state), self._load("project")
        for progress in before.values():
            pictures.add(progress.tensors)
        if not (tiles.are_there() and pictures.are_whole()):
            for path in before:
                self.place.discard(path)
        tiles.reserve()

    def finish(
        self,
        record: dict[str, Any],
        swept: Swept,
        studio: Studio,
        sweeping: Sequence[Progress],
        drawing: Sequence[Progress],
    ) -> None:
        """Writes everything that the page and other tools read."""
        state, winners = self.place.state, studio.winners
        labels = {image_id: label for progress in drawing for image_id, label in progress.notes.items()}
        maps = sum(len(list(found.by_map())) for found in winners)
        if (state / "maps" / FILE).exists():
            (state / "maps" / FILE).replace(state / FILE)
        shutil.rmtree(state / "maps", ignore_errors=True)  # of an earlier attempt
        (state / "maps").mkdir()
        (state / "images").mkdir(exist_ok=True)
        sizes = [tile_size(layer, self.image_size) for layer in self.layers]
        with self.reporter.stage("write", maps, "map") as stage:
            write_sprites(state, studio, stage.advance)
            write_table(state / "topk.parquet", self.layers, winners, self.source.keys, labels)
            write_statistics(state / "maps.parquet", self.layers, swept.rankings, swept.statistics)
            alike = self._write_maxima(swept, sweeping) if self.maxima else None
            write_page(
                state,
                title=record["options"]["title"],
                facts=describe(self.source, swept, self.layers, record["options"]["top_k"]),
                layers=self.layers,
                winners=winners,
                rankings=swept.rankings,
                statistics=swept.statistics,
                grids=[SpriteGrid(self.top_k, size, len(self.blocks)) for size in sizes],
                blocks=self.blocks,
                image_size=self.image_size,
                keys=self.source.keys,
                labels=labels,
                alike=alike,
            )
        spent = {"sweep": _spent(sweeping), "project": _spent(drawing)}
        seconds = {name: round(max(sum(p.seconds.values()) for p in parts), 3)
                   for name, parts in (("sweep", sweeping), ("project", drawing))}  # fmt: skip
        seconds["write"] = round(self.reporter.seconds["write"], 3)
        write_json(
            state / "gallery.json",
            {
                "title": record["options"]["title"],
                "model": record["model"],
                "data": data_record(self.source, swept),
                "image_size": list(self.image_size),
                "preprocess": self.preprocess.record(),
                "top_k": self.top_k,
                "table_sha256": table_digest(state / "topk.parquet"),
                "statistics_sha256": table_digest(state / "maps.parquet"),
                "labels": list(swept.statistics[0].labels),
                "maxima": self.maxima,
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
        own = self.place.state / f"{name}-{self.ranks.rank:03d}{SUFFIX}"
        before = self._load(name)
        done = {number for progress in before.values() for number in progress.numbers}
        self.ranks.wait()  # all have read what is there before anybody adds to it
        checkpoint = Checkpoint(own, self.place.run_digest, before.get(own, Progress()), gather)
        share = None if batches is None else [len(b) for n, b in enumerate(batches) if self.ranks.mine(n)]
        old = sum(len(b) for n, b in enumerate(batches or ()) if self.ranks.mine(n) and n in done)
        with self.reporter.stage(name, None if share is None else sum(share), "image", old) as stage:
            work(checkpoint, _Skip(frozenset(done), self.ranks), stage)
            checkpoint.save()
        self.ranks.wait()

    def _originals(self) -> Originals | None:
        """What cuts patches from the pictures themselves; None where the network's input is shown otherwise."""
        if self.show.how not in ("rgb", "grey") or self.show.channels not in (1, 3):
            return None
        return Originals(self.preprocess.function, self.image_size, "RGB" if self.show.how == "rgb" else "L")

    def _stream(
        self,
        ids: Sequence[int] | None,
        batch_size: int,
        skip: Callable[[int], bool],
        keep: Originals | None = None,
    ) -> Iterator[Batch]:
        batches: Iterable[Batch] = stream(
            self.source, self.preprocess, ids=ids, batch_size=batch_size, workers=self.workers, skip=skip,
            say=self.reporter.waiting, keep=keep,
        )  # fmt: skip
        for batch in batches:
            if batch.skipped:
                self._refuse_if_strict(batch.skipped[0])
            yield batch

    def _refuse_if_strict(self, skipped: tuple[int, str]) -> None:
        if self.strict:
            image_id, reason = skipped
            raise ValueError(
                f"build_gallery: expected images that can all be used (strict), got {self.source.keys[image_id]}: "
                f"{reason}"
            )

    def _load(self, name: str) -> dict[Path, Progress]:
        """What all processes, of this run and of interrupted ones, have done of a pass."""
        run = self.place.run_digest
        return {path: Progress.load(path, run) for path in sorted(self.place.state.glob(f"{name}-*{SUFFIX}"))}


@dataclass(frozen=True)
class _Skip:
    """Whether a batch is not for this process: done before, or another one's."""

    done: frozenset[int]
    ranks: Ranks

    def __call__(self, number: int) -> bool:
        return number in self.done or not self.ranks.mine(number)


def _spent(progresses: Sequence[Progress]) -> dict[str, float]:
    """Where the time of a pass went, in seconds of all its processes."""
    names = dict.fromkeys(name for progress in progresses for name in progress.seconds)
    return {name: round(sum(progress.seconds.get(name, 0.0) for progress in progresses), 3) for name in names}
