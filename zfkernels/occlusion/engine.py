"""Runs a planned sweep: a clean pass, then chunk by chunk one pass through the steps for all positions of the chunk.

The head of the network runs on windows, the tail on whole values, in batches. Nothing is done position by position; the
sizes of everything are known before a chunk's first launch, and no value of a tensor is read in between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from zfkernels.geometry import Boxes
from zfkernels.network.program import Program, run_steps
from zfkernels.network.recording import INPUT, Recording, Ref
from zfkernels.network.tree import leaves
from zfkernels.occlusion.arguments import NAME
from zfkernels.occlusion.chunks import WindowChunk
from zfkernels.occlusion.collect import Outputs, Reduce, SweepValues, check_targets
from zfkernels.occlusion.cost import Rates, rates_of
from zfkernels.occlusion.cover import Cover
from zfkernels.occlusion.places import Places
from zfkernels.occlusion.plan import SweepPlan, plan_sweep
from zfkernels.occlusion.reduce import MapReducer, Reduction
from zfkernels.occlusion.watch import Watch, Watched
from zfkernels.ops import fixed_weights

Advance = Callable[[int], object]


@dataclass(frozen=True)
class Clean:
    """What a sweep keeps of the clean pass.

    Attributes:
        images: [N, C, H, W], channels last.
        values: of the outputs and the watched steps, by name.
        frames: maps [N, C, H, W] of the steps that the head reads, the images among them.
        output: the model's output, of its own form.
    """

    images: Tensor
    values: Mapping[str, Any]
    frames: Mapping[str, Tensor]
    output: Any


class WindowSweep:
    """The sweep of one network over one set of boxes; call it with batches of images of the size recorded.

    Args:
        recording: the network.
        boxes: int [..., 4] (top, left, height, width), what is hidden, one at a time; clipped to the images.
        watched: steps to watch.
        reduce: what is kept of a chunk's outputs, see :mod:`.reduce`; None: all.
        outputs: whether the network's outputs are wanted at all.
        backend: variant of the ops; None chooses by device.
        rates: what the cut is chosen by; None: those of the images' device.
        made: what sweeps of one model over images of several sizes share.
    """

    def __init__(
        self,
        recording: Recording,
        boxes: Tensor,
        watched: Sequence[Watched] = (),
        *,
        reduce: Reduce | None = None,
        outputs: bool = True,
        backend: str | None = None,
        rates: Rates | None = None,
        made: dict[Any, Any] | None = None,
    ) -> None:
        self.recording, self.watched, self.reduce, self.backend, self.rates = recording, watched, reduce, backend, rates
        self.shape = tuple(boxes.shape[:-1])
        self.boxes = boxes.cpu().to(torch.int64).reshape(-1, 4)
        self.squares = Boxes.of(self.boxes, recording.size)
        self.reduced = self._reduced()
        wanted = recording.output_names if self.reduced is None else (self.reduced,)
        names = {watch.name for watch in watched}
        self.program = Program(recording, names, outputs=wanted if outputs else (), forwards=True, made=made)
        if self.reduced is not None:
            maps = self.program.kinds[self.reduced].maps
            self.reduced = self.reduced if maps is not None and maps.is_planar else None
        self.wanted = {*self.program.outputs, *names}
        self.plans: dict[tuple[str, int], tuple[SweepPlan, Places]] = {}
        self.watched_on: dict[torch.device, Sequence[Watched]] = {}

    def _reduced(self) -> str | None:
        """The output that a reducer of maps looks at."""
        if not isinstance(self.reduce, MapReducer):
            return None
        picked = self.reduce.pick(self.recording.outputs)
        return picked.name if isinstance(picked, Ref) else None

    def plan(self, device: torch.device, dtype: torch.dtype) -> SweepPlan:
        """What a sweep does with images on ``device``."""
        return self.planned(device, dtype)[0]

    def planned(self, device: torch.device, dtype: torch.dtype) -> tuple[SweepPlan, Places]:
        """The plan, and the layouts of its chunks."""
        key = device.type, dtype.itemsize
        if key not in self.plans:
            rates, names = self.rates or rates_of(device.type), {watch.name for watch in self.watched}
            reduced = () if self.reduced is None else (self.reduced,)
            plan = plan_sweep(self.program, self.squares, rates, dtype.itemsize, names, reduced)
            self.plans[key] = plan, Places(plan, self.boxes[:, :2])
        return self.plans[key]

    @torch.no_grad()
    def clean(self, images: Tensor) -> Clean:
        """The clean pass; several sweeps of the same images may share it.

        Raises:
            ValueError: a network that puts the images of a batch together.
        """
        if self.program.mixing is not None:
            raise ValueError(
                f"{NAME}: expected a network that computes each image alone, got step {self.program.mixing!r} over all"
            )
        plan = self.plan(images.device, images.dtype)
        images = images.contiguous(memory_format=torch.channels_last)
        values = self.program.run(images, plan.frames | self.wanted)
        frames = {name: self.frames(name, values[name]) for name in plan.frames} | {INPUT: images}
        return Clean(images, {name: values[name] for name in self.wanted}, frames, self._rebuilt(values))

    @torch.no_grad()
    def __call__(
        self,
        images: Tensor | Clean,
        cover: Tensor | Cover,
        *,
        targets: Tensor | None = None,
        batch_size: int | None = None,
        memory: int | None = None,
        advance: Advance = lambda count: None,
        again: bool = False,
    ) -> SweepValues:
        """Sweeps over images.

        Args:
            images: [N, C, H, W], of the size recorded; or their clean pass.
            cover: what is shown in place of what is hidden: a :class:`Cover`; or [C], or an image for each image
                [N, C, H, W].
            targets: int64 [T], for a model whose output is one tensor [N, classes]: the classes to keep.
            batch_size: positions that travel together; None: as many as ``memory`` holds.
            memory: bytes that the values of one chunk may take; None: see :meth:`budget`.
            advance: called with the number of positions that are done.
            again: a call of the same form has gone well: nothing is read on the host, nothing copied from it.

        Raises:
            ValueError: ``memory`` for less than one position, more results than memory, a reducer that returns a wrong
                count, a network that puts the images of a batch together.
        """
        clean = images if isinstance(images, Clean) else self.clean(images)
        images, device = clean.images, clean.images.device
        plan, places = self.planned(device, images.dtype)
        if targets is not None and not again:
            check_targets([clean.values[name] for name in self.program.outputs], targets, NAME)
        total = len(images) * len(self.boxes)
        budget = self.budget(plan, device, memory)
        sizes, start = chunk_sizes(plan, total, batch_size, budget), 0
        outputs = self._outputs(clean, total, targets, again)
        watches = [
            Watch(self.program, watched, clean.values[watched.name], total) for watched in self._watched_on(device)
        ]
        reduction = self._reduction(plan, clean)
        cover = (Cover(cover) if isinstance(cover, Tensor) else cover).to(images)
        with fixed_weights():
            for at in places.chunks(len(images), sizes[0], device, budget):
                occluder = cover.over(images, at.layouts[plan.place[INPUT]], at.position, at.corners)
                run = WindowChunk(plan, at.layouts, at.image, occluder, clean.frames, self.backend)
                self._run(run, start, sizes[1], outputs, reduction, watches, advance)
                start += sizes[0]
        shape = (len(images), *self.shape)
        if outputs is None:
            return SweepValues(None, None, tuple(watch.result(shape) for watch in watches), sizes[0])
        found = tuple(watch.result(shape) for watch in watches)
        return SweepValues(outputs.clean, outputs.result(shape), found, sizes[0])

    def repeats(self, images: Tensor, batch_size: int | None, memory: int | None) -> bool:
        """Whether further sweeps of such images need nothing of the host but launches, so that a graph replays them.

        So it is where the layouts of all chunks stay on the device, and no function of a user's is called.
        """
        plan, places = self.planned(images.device, images.dtype)
        total, budget = len(images) * len(self.boxes), self.budget(plan, images.device, memory)
        size = chunk_sizes(plan, total, batch_size, budget)[0]
        return self.reduce is None and places.stay(len(images), size, images.device, budget)

    def budget(self, plan: SweepPlan, device: torch.device, memory: int | None) -> int:
        """Bytes that the values of one chunk may take: ``memory``; None: the device's own, or those of one position."""
        return memory or max((self.rates or rates_of(device.type)).budget, plan.least_bytes)

    def _watched_on(self, device: torch.device) -> Sequence[Watched]:
        """What is watched, with its maps on a device: copied there once."""
        if device not in self.watched_on:
            self.watched_on[device] = [
                replace(watched, units=watched.units.to(device)) if isinstance(watched.units, Tensor) else watched
                for watched in self.watched
            ]
        return self.watched_on[device]

    def _run(
        self,
        run: WindowChunk,
        start: int,
        batch: int,
        outputs: Outputs | None,
        reduction: Reduction | None,
        watches: Sequence[Watch],
        advance: Advance,
    ) -> None:
        """One chunk, whose first entry is ``start``: the head at once, the tail in batches."""
        run.run()
        plan, count = run.plan, len(run.image)
        for watch in watches:
            if watch.name in plan.place:
                frames = run.clean.get(watch.name)
                found = watch.of_windows(run.windows(watch.name), frames, run.image, run.backend)
                watch.record(start, found, run.image)
        if reduction is not None and outputs is not None and self.reduced is not None:
            outputs.take(start, outputs.reduced(reduction.windows(run.windows(self.reduced), run.backend), count))
            if not plan.tail:
                advance(count)
                return
        for first in range(0, count, batch):
            last = min(first + batch, count)
            values = {name: run.whole(name, first, last) for name in plan.cut}
            run_steps(plan.tail, values, last - first, self.wanted)
            image = run.image[first:last]
            if outputs is not None and reduction is None:
                outputs.store(start + first, self._rebuilt(values), image)
            for watch in watches:
                if watch.name not in plan.place:
                    watch.record(start + first, watch.of(values[watch.name], image), image)
            advance(last - first)

    def _outputs(self, clean: Clean, total: int, targets: Tensor | None, fits: bool) -> Outputs | None:
        if not self.program.outputs:
            return None
        moving = [isinstance(leaf, Ref) for leaf in leaves(self.recording.outputs) if isinstance(leaf, (Ref, Tensor))]
        return Outputs(
            clean.output, moving, len(clean.images), total, targets, self.reduce, clean.images.device, fits
        )  # fmt: skip

    def _reduction(self, plan: SweepPlan, clean: Clean) -> Reduction | None:
        """How windows of the output are reduced, if they are."""
        if self.reduced is None or self.reduced not in plan.place or not isinstance(self.reduce, MapReducer):
            return None
        return Reduction(self.reduce, clean.values[self.reduced])

    def _rebuilt(self, values: Mapping[str, Any]) -> Any:
        """The output in the model's form; what nobody wants of it is left as a name."""
        if not self.program.outputs:
            return None
        missing = {name: Ref(name) for name in self.recording.output_names if name not in values}
        return self.recording.rebuild({**missing, **values})

    def frames(self, name: str, value: Tensor) -> Tensor:
        """Maps [N, C, H, W] of a step's whole value."""
        maps = self.program.kinds[name].maps
        assert maps is not None
        return maps.frames(value)


def chunk_sizes(plan: SweepPlan, total: int, batch_size: int | None, memory: int, name: str = NAME) -> tuple[int, int]:
    """How many positions run through the head together, and how many through the tail.

    Raises:
        ValueError: ``memory`` is too little for one position.
    """
    if plan.least_bytes > memory and batch_size is None:
        raise ValueError(
            f"{name}: expected memory at least {plan.least_bytes} bytes, which one position takes, got {memory}"
        )
    fit = max(1, memory // plan.least_bytes)
    chunk = max(1, min(batch_size or fit, total))
    return chunk, min(chunk, fit)
