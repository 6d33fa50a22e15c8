"""store_sweeps: from a network and a data set to the occlusion maps of every image on disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zfkernels.data import Batch, ImageSource, open_source, reason_of, stream
from zfkernels.geometry import Pair
from zfkernels.models import AnyPreprocess, as_preprocess, name_of, preprocess_of, refuse_nan_weights, versions
from zfkernels.models import weights_hash as hash_of_weights
from zfkernels.network import snapshot
from zfkernels.occlusion.collect import Reduce
from zfkernels.occlusion.cost import rates_of
from zfkernels.occlusion.sweeper import Sweeper, Wanted
from zfkernels.occlusion.where import Where
from zfkernels.ops import requested_backend
from zfkernels.output import check_out, local_paths
from zfkernels.output.workplace import Workplace, workplace
from zfkernels.progress import progress_bar
from zfkernels.signed import signed
from zfkernels.store.contents import Contents, contents
from zfkernels.store.finish import ENTRIES, finish
from zfkernels.store.formats import FORMATS, Format, installed_format
from zfkernels.store.journal import Journal
from zfkernels.store.layout import Layout
from zfkernels.store.reader import SweepStore

NAME = "store_sweeps"
KEPT = ("outputs", "maps")


@torch.no_grad()
def store_sweeps(
    model: nn.Module,
    data: Any,
    *,
    out: str | os.PathLike[str],
    window: int | Pair | None = None,
    stride: int | Pair | None = None,
    positions: Tensor | None = None,
    windows: Tensor | None = None,
    regions: Tensor | None = None,
    shape: str | Tensor = "square",
    fill: Any = 0.0,
    layer: str | None = None,
    units: str | int | Sequence[int] | Tensor | None = None,
    statistic: str = "sum",
    targets: int | Sequence[int] | None = None,
    reduce: Reduce | None = None,
    outputs: bool = True,
    target: int | None = None,
    keep: str = "outputs",
    format: str | None = None,
    preprocess: Callable[[Any], Any] | None = None,
    batch_size: int | None = None,
    memory: int | None = None,
    precision: torch.dtype | str | None = None,
    workers: int = 0,
    resume: bool = True,
    progress: bool = False,
    backend: str | None = None,
) -> SweepStore:
    """An occlusion sweep of every image of a data set, kept on disk as arrays with names.

    One image is in memory at a time. If a run was interrupted, at any moment, the same call continues it and ends with
    the same bytes: images that are on disk are not swept again. What the bytes depend on (weights, data,
    options, memory budget, backend, threads, versions) is in ``store.json``, and a run with others is refused.

    ``out`` receives ``maps`` (a Zarr group with an array [images, ...] for each variable, or a folder with an npz file
    for each image), ``class_means.npz`` (the mean drop of the images of each label; where there are none, of each class
    that the network sees), ``summary.png`` (these as a figure) and ``store.json``. An image that cannot be used is
    left out and listed there. The variables, with the names of their dimensions:

        drop [row, column]           clean minus occluded output of the image's class: positive where hiding hurts
        probability [row, column]    of that class (``output`` where only some ``targets`` are kept)
        best_class [row, column], class [], clean [class]
        outputs [row, column, class] with keep="outputs"
        activity, clean_activity     with ``layer``: of its strongest map, or [..., unit] with ``units``

    With several fills all but clean values begin with the dimension "fill"; with ``positions``, ``windows`` or
    ``regions`` there is "place" instead of row and column. With ``reduce``, outputs, clean and drop are of what it
    returns; with ``outputs=False``, drop is that of the maps.

    Args:
        model: an nn.Module in eval mode; it runs where its weights are.
        data: whatever ``zfkernels.data.open_source`` takes: a folder, an archive, a data set, a table, ….
        out: folder of the results, apart from the data.
        target: the class whose drop is kept; None: each image's own, the most probable one with nothing hidden.
        keep: "outputs", all of them at each place; or "maps" alone, which take 1/classes of the room.
        format: "zarr" or "npz"; None: zarr if it is installed.
        preprocess: how pictures become the network's input, as of ``build_gallery``; tensors are taken as they are.
        workers: processes that decode images; 0: this one.
        resume: False throws away what an earlier run left in ``out``.
        progress: show a progress bar of images.

    The other arguments are :func:`zfkernels.occlusion_sweep`'s; ``regions`` are the same for all images.

    Returns:
        :class:`~zfkernels.store.SweepStore`, opened.

    Raises:
        TypeError, ValueError: as :func:`zfkernels.occlusion_sweep`; a model that returns no [N, classes] without
            ``reduce``; no image that can be used; ``out`` with another run, with something that is not ours, or in the
            data.
        OSError: ``out`` cannot be written to, another run works in it, or the disk is full.
        ImportError: a package is missing that ``format`` or the figure needs.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"{NAME}: expected model an nn.Module, got {type(model).__name__}")
    if keep not in KEPT:
        raise ValueError(f"{NAME}: expected keep one of {KEPT}, got {keep!r}")
    format = format or installed_format()
    if format not in FORMATS:
        raise ValueError(f"{NAME}: expected format one of {tuple(FORMATS)}, got {format!r}")
    if regions is not None and isinstance(regions, Tensor) and regions.dim() == 3:
        raise ValueError(f"{NAME}: expected regions [H, W], the same for all images, got {tuple(regions.shape)}")
    path = check_out(NAME, out, local_paths(data))
    refuse_nan_weights(model, NAME)
    model, source = snapshot(model), open_source(data)
    with signed(NAME):
        where = Where(window, stride, positions, windows, regions, shape)
        sweeper = Sweeper(model, where, Wanted(layer, units, statistic, reduce, outputs), precision, backend)
    prepared = preprocess_of(model) if preprocess is None else as_preprocess(NAME, preprocess)
    parameter = next(model.parameters(), torch.empty(0))
    options = {
        "window": window, "stride": stride, "positions": positions, "windows": windows, "regions": regions,
        "shape": shape, "fill": fill, "layer": layer, "units": units, "statistic": statistic, "targets": targets,
        "reduce": reduce, "outputs": outputs, "target": target, "keep": keep, "format": format,
        "batch_size": batch_size, "precision": None if precision is None else str(precision),
        "preprocess": prepared.record(), "memory": memory or rates_of(parameter.device.type).budget,
        "backend": requested_backend(backend) or "chosen by device", "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }  # fmt: skip
    record = {
        "model": {
            "class": f"{type(model).__module__}.{type(model).__qualname__}",
            "weights_sha256": hash_of_weights(model),
            "dtype": str(parameter.dtype),
            "device": parameter.device.type,
        },
        "data": {"name": source.name, "images": source.count, "sha256": source.digest()},
        "options": described(options),
        "versions": versions(),
    }
    ask = _Ask(sweeper, fill, targets, batch_size, memory, target, keep, reduce is not None, outputs)
    with workplace(path, NAME, ENTRIES) as place:
        place.begin(record, resume)
        if not place.complete:
            run = _Run(ask, source, prepared, parameter, place, format)
            run.sweep(workers, progress)
            finish(place, record, source, run.layout, run.journal, format)
            place.publish()
    return SweepStore.open(path)


@dataclass(frozen=True)
class _Ask:
    """What is asked of each image."""

    sweeper: Sweeper
    fill: Any
    targets: Any
    batch_size: int | None
    memory: int | None
    target: int | None
    keep: str
    reduced: bool
    outputs: bool

    def of(self, image: Tensor) -> Contents:
        """The arrays of an image [C, H, W].

        Raises:
            ValueError: It cannot be swept, or the model returns something without a drop.
        """
        with signed(NAME):
            found = self.sweeper.sweep(image[None], self.fill, self.targets, self.batch_size, self.memory)
        clean = found.clean
        fits = isinstance(clean, Tensor) and (self.reduced or clean.dim() in (1, 2))
        if self.outputs and not fits:
            raise ValueError(
                f"{NAME}: expected reduce= for a model that does not return [N, classes], or outputs=False with a "
                f"layer, got {tuple(clean.shape) if isinstance(clean, Tensor) else type(clean).__name__}"
            )
        if self.target is not None and not self.reduced and self.outputs:
            classes = clean.shape[1] if clean.dim() == 2 else 1
            if not 0 <= self.target < classes:
                raise ValueError(f"{NAME}: expected target from 0 to {classes - 1}, got {self.target}")
        return contents(found, self.target, self.keep, self.reduced)


class _Run:
    """A run: the images that are left, one after the other."""

    def __init__(
        self,
        ask: _Ask,
        source: ImageSource,
        preprocess: AnyPreprocess,
        parameter: Tensor,
        place: Workplace,
        format: str,
    ) -> None:
        self.ask, self.source, self.preprocess, self.like = ask, source, preprocess, parameter
        self.folder, self.format = place.state, format
        self.journal = Journal(place.state / "journal")
        self.layout = Layout.load(place.state)
        self.arrays: Format | None = None
        if self.layout is not None:
            self.arrays = FORMATS[format](place.state / ENTRIES[0], self.layout.variables)
        self.rows = None if not source.random_access else {n: row for row, n in enumerate(sorted(source.order))}

    def sweep(self, workers: int, progress: bool) -> None:
        """Sweeps every image that is not in the journal yet."""
        done = len(self.journal.entries)
        total = self.source.count
        with progress_bar(total, "images", progress, done=done) as advance:
            try:
                for batch in self._stream(workers):
                    self._take(batch)
                    advance(1)
            finally:
                self.journal.save()
        if self.layout is None:
            first = next(iter(self.journal.entries.values()), {"key": self.source.name, "reason": "there are none"})
            raise ValueError(
                f"{NAME}: expected data with images that can be swept, got none: {first['key']}: {first['reason']}"
            )

    def _stream(self, workers: int) -> Iterator[Batch]:
        def skip(number: int) -> bool:
            image_id = self.source.order[number] if self.source.random_access else number
            return self._row(image_id) in self.journal.entries

        return stream(self.source, self.preprocess, batch_size=1, workers=workers, skip=skip)

    def _row(self, image_id: int) -> int:
        """Images lie in the order of their ids."""
        return image_id if self.rows is None else self.rows[image_id]

    def _take(self, batch: Batch) -> None:
        """Sweeps an image and keeps what was found, or why it cannot be used."""
        if batch.skipped:
            image_id, reason = batch.skipped[0]
            self._leave_out(image_id, reason)
            return
        image_id = int(batch.ids[0])
        image = batch.images[0].to(self.like.device, self.like.dtype)
        if not bool(image.isfinite().all()):
            self._leave_out(image_id, "values that are NaN or infinite")
            return
        try:
            found = self.ask.of(image)
        except ValueError as error:
            if self.layout is None:  # of the first image: what is asked for cannot be done
                raise
            self._leave_out(image_id, reason_of(error))
            return
        layout = Layout.of(found)
        if self.layout is None:
            self._begin(layout)
        elif layout != self.layout:
            self._leave_out(image_id, f"a sweep of {layout.words()}, where others are {self.layout.words()}")
            return
        assert self.arrays is not None
        row = self._row(image_id)
        files = self.arrays.put(row, {name: array for name, (_, array) in found.own.items()})
        self.journal.add(
            row,
            {"id": image_id, "key": self.source.keys[image_id], "label": batch.labels[0], "class": found.label},
            files,
        )

    def _begin(self, layout: Layout) -> None:
        self.layout = layout
        self.arrays = FORMATS[self.format](self.folder / ENTRIES[0], layout.variables)
        self.arrays.begin(self.source.count or 0)
        layout.save(self.folder)

    def _leave_out(self, image_id: int, reason: str) -> None:
        self.journal.add(
            self._row(image_id), {"id": image_id, "key": self.source.keys[image_id], "reason": reason}
        )  # fmt: skip


def described(value: Any) -> Any:
    """A value of an argument as JSON has it, the same for the same value: tensors by their digest."""
    if isinstance(value, Tensor):
        data = value.detach().cpu().contiguous()
        digest = hashlib.sha256(data.flatten().view(torch.uint8).numpy().tobytes()).hexdigest()
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)} {digest}"
    if isinstance(value, (list, tuple)):
        return [described(part) for part in value]
    if isinstance(value, Mapping):
        return {str(key): described(part) for key, part in value.items()}
    if callable(value):
        parts = {key: described(part) for key, part in getattr(value, "__dict__", {}).items()}
        return {"function": getattr(value, "__name__", None) or name_of(type(value)), **parts}
    return value
