"""The first pass on a Ray cluster: actors run the network, this program merges what they find.

Where there are GPUs, tasks on the CPUs of the cluster decode the batches for them; else each actor decodes its own.

Ray Data repeats what a lost worker or machine had in hand. Each batch reaches this program once, by its number, so that
nothing is counted twice; its checkpoints are those of the local engine, and either engine takes up the other's run.
"""

from __future__ import annotations

import copy
import json
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from zfkernels._extras import require
from zfkernels.data import Batch, ImageSource, load_batch
from zfkernels.gallery.checkpoint import Checkpoint, Progress
from zfkernels.gallery.events import Stage
from zfkernels.gallery.layers import Layer
from zfkernels.gallery.prepare import Prepared
from zfkernels.gallery.sweep import Sweeper
from zfkernels.geometry import Pair
from zfkernels.network.network import trace_model

GATHER = 4  # batches whose partial results an actor merges before it sends them
Table = dict[str, np.ndarray]
_HOST_AND_PORT = re.compile(r"(ray://)?(?P<host>[^:/]+):(?P<port>\d+)")


class _Decode:
    """Row numbers of batches → their images, padded to one shape; −1 stands for an id that is not there."""

    def __init__(self, source: ImageSource, preprocess: Prepared, batches: Any, batch_size: int) -> None:
        self.source, self.preprocess, self.batches, self.batch_size = source, preprocess, batches, batch_size

    def __call__(self, table: Table) -> Table:
        (number,) = table["number"].tolist()
        batch = load_batch(self.source, self.preprocess, number, self.batches[number])
        shape = batch.images.shape[1:] if len(batch.ids) else (3, 1, 1)
        images = np.zeros((1, self.batch_size, *shape), np.float32)
        ids = np.full((1, self.batch_size), -1, np.int64)
        images[0, : len(batch.ids)], ids[0, : len(batch.ids)] = batch.images.numpy(), batch.ids.numpy()
        return {
            "number": table["number"],
            "images": images,
            "ids": ids,
            "skipped": np.array([json.dumps(batch.skipped)]),
            "labels": np.array([json.dumps(batch.labels)]),
        }


class _Sweep:
    """Images of some batches → the partial top-k of all layers and what was skipped.

    Args:
        model, layers, top_k, batch_size, groups: As ``Sweeper`` takes them.
        device: Where the network runs.
        image_size: Height and width of the images.
        decode: Makes images of the numbers of batches, where nobody has done so before.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[Layer],
        top_k: int,
        batch_size: int,
        groups: Sequence[int] | None,
        device: str,
        image_size: Pair,
        decode: _Decode | None,
    ) -> None:
        self.decode = decode
        self.sweeper = Sweeper(trace_model(model.to(device), image_size), layers, top_k, batch_size, groups)

    def __call__(self, table: Table) -> Table:
        from safetensors.torch import save

        self.sweeper.reset()
        progress = Progress()
        skipped: list[Any] = []
        for row in range(len(table["number"])):
            one = {name: column[row : row + 1] for name, column in table.items()}
            if self.decode is not None:
                with progress.timed("waiting for images"):
                    one = self.decode(one)
            images, ids = one["images"][0], one["ids"][0]
            there = ids >= 0
            tensors = torch.from_numpy(np.ascontiguousarray(images[there])), torch.from_numpy(ids[there])
            labels = json.loads(one["labels"][0])
            self.sweeper.update(Batch(*tensors, labels, [], int(one["number"][0])), progress)
            skipped += json.loads(one["skipped"][0])
        meta = {"numbers": table["number"].tolist(), "skipped": skipped, "seconds": progress.seconds}
        return {"state": np.array([save(self.sweeper.tensors())], object), "meta": np.array([json.dumps(meta)])}


def ray_sweep(
    sweeper: Sweeper,
    source: ImageSource,
    preprocess: Prepared,
    batches: Sequence[Sequence[int]] | None,
    checkpoint: Checkpoint,
    skip: Callable[[int], bool],
    stage: Stage,
    address: str | None,
) -> None:
    """The first pass of ``build_gallery`` with ``engine="ray"``.

    Raises:
        ImportError: Ray is missing.
        ValueError: The data can only be walked through.
        OSError: There is no cluster at ``address``.
        RuntimeError: The cluster gave up.
    """
    from safetensors.torch import load

    ray = require("ray", "distributed")
    require("ray.data", "distributed")
    if batches is None:
        raise ValueError(
            f"build_gallery: expected engine 'local' for a data set that can only be walked through, got {source.name}"
        )
    left = [{"number": number} for number in range(len(batches)) if not skip(number)]
    if not left:
        return
    progress = checkpoint.progress
    with _cluster(ray, address):
        size = max(len(batch) for batch in batches)
        for row in _pipeline(ray, sweeper, source, preprocess, batches, size, left):
            meta = json.loads(row["meta"])
            sweeper.merge(load(row["state"]))
            for number in meta["numbers"]:
                progress.finish(number)
            progress.notes.update((image_id, reason) for image_id, reason in meta["skipped"])
            for what, spent in meta["seconds"].items():
                progress.seconds[what] = progress.seconds.get(what, 0.0) + spent
            checkpoint.update()
            stage.advance(sum(len(batches[number]) for number in meta["numbers"]))


def _pipeline(
    ray: Any,
    sweeper: Sweeper,
    source: ImageSource,
    preprocess: Prepared,
    batches: Sequence[Sequence[int]],
    size: int,
    left: list[dict[str, int]],
) -> Iterator[dict[str, Any]]:
    """Rows of partial results, in whatever order."""
    resources = ray.cluster_resources()
    gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
    actors = gpus or max(1, cpus)
    decode = _Decode(source, preprocess, batches, size)
    model = copy.deepcopy(sweeper.network.model).cpu()
    numbers = ray.data.from_items(left, override_num_blocks=-(-len(left) // GATHER))
    if gpus:
        shared = ray.put(decode)  # once to each machine, not once to each task

        def decoded(table: Table) -> Table:
            return ray.get(shared)(table)

        numbers = numbers.map_batches(decoded, batch_size=1, num_cpus=1)
    found = numbers.map_batches(
        _Sweep,
        fn_constructor_args=(
            model, sweeper.layers, sweeper.top_k, size, source.groups, "cuda" if gpus else "cpu", sweeper.network.size,
            None if gpus else decode
        ),
        batch_size=GATHER,
        num_cpus=0 if gpus else 1,
        num_gpus=1 if gpus else 0,
        concurrency=(1, actors) if actors > 1 else 1,
    )  # fmt: skip
    try:
        yield from found.iter_rows()
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise RuntimeError(f"build_gallery: the Ray cluster gave up: {reason}") from error


@contextmanager
def _cluster(ray: Any, address: str | None) -> Iterator[None]:
    """The cluster at ``address``, the one that this program is connected to, or one of its own."""
    began = not ray.is_initialized()
    if began:
        try:
            if found := _HOST_AND_PORT.fullmatch(address or ""):  # Ray itself would try for minutes
                socket.create_connection((found["host"], int(found["port"])), timeout=10).close()
            ray.init(address=address, include_dashboard=False if address is None else None, log_to_driver=False)
        except (OSError, OverflowError) as error:
            raise OSError(f"build_gallery: expected address of a Ray cluster, got {address!r} ({error})") from error
    context = ray.data.DataContext.get_current()
    bars, context.enable_progress_bars = context.enable_progress_bars, False
    try:
        yield
    finally:
        context.enable_progress_bars = bars
        if began:
            ray.shutdown()
