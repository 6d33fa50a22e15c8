"""First pass: every image once through the network, the strongest activations of every map kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zfkernels.analysis.topk import Ranking, TopK
from zfkernels.data import Batch
from zfkernels.gallery.checkpoint import Checkpoint, Progress
from zfkernels.gallery.events import Stage
from zfkernels.gallery.layers import Layer
from zfkernels.gallery.matrix import Matrix
from zfkernels.gallery.statistics import MapStatistics, Statistics
from zfkernels.network import Step
from zfkernels.network.network import Network

# Images that go through the network together on a CPU, whatever the batch: libraries choose other loops for other
# shapes, which round otherwise. It is also where a CPU is fastest: larger maps leave its caches.
CPU_BLOCK = 16


@dataclass
class Swept:
    """What the first pass found.

    Attributes:
        rankings, statistics: One for each layer, in order.
        images: Number of images that went through the network.
        skipped: (image id, reason) of those that did not, by id.
    """

    rankings: list[Ranking]
    statistics: list[MapStatistics]
    images: int
    skipped: list[tuple[int, str]]


class Sweeper:
    """A network and the running top-k of its layers.

    The images go through in blocks of one shape, the last one padded, so that no result depends on which images share a
    batch, or on how many there are: blocks of ``CPU_BLOCK`` on a CPU, whatever the batch size; of the batch size on
    other devices.
    """

    def __init__(
        self,
        network: Network,
        layers: Sequence[Layer],
        top_k: int,
        batch_size: int,
        groups: Sequence[int] | None = None,
    ) -> None:
        self.network, self.layers, self.top_k = network, layers, top_k
        self.groups = groups
        self.parameter = next(network.model.parameters(), torch.empty(0))
        on_cpu = self.parameter.device.type == "cpu"
        self.block = CPU_BLOCK if on_cpu else batch_size
        self.memory_format = torch.channels_last if on_cpu else torch.contiguous_format
        self.steps: dict[str, list[int]] = {}  # which layers each step is
        for index, layer in enumerate(layers):
            self.steps.setdefault(network.resolve(layer.name), []).append(index)
        needed = {name: {step.name for step in network.recording.needed_for([name])} - {name} for name in self.steps}
        self.ends = [name for name in self.steps if not any(name in before for before in needed.values())]
        self.in_place = {name for name in network.kinds if _overwrites(network, name)}
        self.reset()

    def reset(self) -> None:
        """Forgets everything seen so far."""
        groups = None if self.groups is None else torch.tensor(self.groups)
        self.topks = [TopK(layer.info.channels, self.top_k, groups) for layer in self.layers]
        self.statistics = Statistics([layer.info.channels for layer in self.layers])

    def update(self, batch: Batch, progress: Progress) -> Tensor:
        """Takes in a batch, and the time that it takes; returns the maxima [N, maps] of all maps, on the CPU."""
        found: list[list[Tensor]] = [[] for _ in self.layers]  # of each layer, of each block
        for images, ids in zip(batch.images.split(self.block), batch.ids.split(self.block), strict=True):
            if not len(ids):
                continue
            missing = self.block - len(images)
            images = torch.cat([images, images.new_zeros(missing, *images.shape[1:])]) if missing else images
            before = progress.seconds.get("top-k", 0.0)
            with progress.timed("network"):
                self._run(images, ids, found, progress)
            progress.seconds["network"] -= progress.seconds.get("top-k", 0.0) - before
        with progress.timed("statistics"):
            rows = self.statistics.see(batch.labels)
            if not len(batch.ids):
                return torch.empty(0, sum(self.statistics.channels))
            maxima = torch.cat([torch.cat(blocks) for blocks in found], 1)
            self.statistics.update(maxima, rows)
        return maxima

    def _run(self, images: Tensor, ids: Tensor, found: list[list[Tensor]], progress: Progress) -> None:
        images = images.to(self.parameter.device, self.parameter.dtype, memory_format=self.memory_format)

        def watch(step: Step, inputs: tuple[Any, ...]) -> Any:
            value = torch.relu_(*inputs) if step.name in self.in_place else None
            if step.name not in self.steps:
                return value
            if value is None:
                value = step.run(dict(zip(step.inputs, inputs, strict=True)), len(images))
            with progress.timed("top-k"):  # while the maps are warm, and so that none has to be kept
                for index in self.steps[step.name]:
                    found[index].append(self.topks[index].update(value[: len(ids)], ids))
            return value

        with torch.inference_mode():
            self.network.run(images, self.ends, hook=watch)

    def tensors(self) -> dict[str, Tensor]:
        """The state of all layers, to be saved."""
        state = self.statistics.tensors()
        for index, topk in enumerate(self.topks):
            state |= {f"{index}.{key}": value for key, value in topk.state_dict().items()}
        return state

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Replaces the state by a saved one; none at all is the state of the beginning."""
        self.reset()
        if not tensors:
            return
        self.statistics.load(tensors)
        for index, topk in enumerate(self.topks):
            prefix = f"{index}."
            topk.load_state_dict(
                {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
            )

    def merge(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes in the saved state of another one, which has seen other images."""
        other = Sweeper(self.network, self.layers, self.top_k, self.block, self.groups)
        other.load(tensors)
        for topk, more in zip(self.topks, other.topks, strict=True):
            topk.merge(more)
        self.statistics.merge(other.statistics)


def _overwrites(network: Network, name: str) -> bool:
    """Whether a rectifier may write to its input: nobody else reads that, and it is no view of what others read."""
    kind, recording = network.kinds[name], network.recording
    if not kind.rectifies:
        return False
    (source,) = kind.inputs
    alone = recording.users[source] == (name,) and source not in recording.output_names
    return alone and network.kinds[source].makes_new


def sweep(
    batches: Iterable[Batch], sweeper: Sweeper, checkpoint: Checkpoint, stage: Stage, matrix: Matrix | None = None
) -> None:
    """One forward pass for each batch; memory does not grow with the number of images. ``matrix`` takes the maxima."""
    progress = checkpoint.progress
    for batch in progress.waiting(batches):
        maxima = sweeper.update(batch, progress)
        if matrix is not None:
            with progress.timed("maxima"):
                matrix.put(batch.ids, maxima, sweeper.statistics.numbers(batch.labels))
        progress.notes.update(batch.skipped)
        progress.finish(batch.number)
        checkpoint.update()
        stage.advance(len(batch.ids) + len(batch.skipped))


def collect(sweeper: Sweeper, progresses: Sequence[Progress]) -> Swept:
    """What all processes found together, in whatever order."""
    sweeper.reset()
    for progress in progresses:
        if progress.tensors:
            sweeper.merge(progress.tensors)
    rankings = [topk.compute() for topk in sweeper.topks]
    skipped = sorted((image_id, str(reason)) for progress in progresses for image_id, reason in progress.notes.items())
    return Swept(rankings, sweeper.statistics.compute(), rankings[0].images, skipped)
