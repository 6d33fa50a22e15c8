"""Runs a planned sweep: a clean pass, then chunk by chunk one pass through the steps for all positions of the chunk.

The head of the network runs on windows, the tail on whole values, in batches. Nothing is done position by position; the
sizes of everything are known before a chunk's first launch, and no value of a tensor is read in between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from zfkernels.geometry import Boxes
from zfkernels.network.kinds import Occluder
from zfkernels.network.program import Program, run_steps
from zfkernels.network.recording import INPUT, Recording
from zfkernels.occlusion.arguments import NAME
from zfkernels.occlusion.chunks import Places, WindowChunk
from zfkernels.occlusion.collect import Outputs, SweepValues, Watch, check_targets
from zfkernels.occlusion.cost import Rates, rates_of
from zfkernels.occlusion.plan import SweepPlan, plan_sweep
from zfkernels.ops import fixed_weights

Advance = Callable[[int], object]


class WindowSweep:
    """The sweep of one network over one set of boxes; call it with batches of images of the size recorded.

    Args:
        recording: the network.
        boxes: int [..., 4] (top, left, height, width), what is hidden, one at a time; clipped to the images.
        watched: name of a step to watch, or None.
        backend: variant of the ops; None chooses by device.
        rates: what the cut is chosen by; None: those of the images' device.
        made: what sweeps of one model over images of several sizes share.
    """

    def __init__(
        self,
        recording: Recording,
        boxes: Tensor,
        watched: str | None = None,
        backend: str | None = None,
        rates: Rates | None = None,
        made: dict[Any, Any] | None = None,
    ) -> None:
        self.program = Program(recording, {watched} if watched else (), forwards=True, made=made)
        self.shape = tuple(boxes.shape[:-1])
        self.squares = Boxes.of(boxes.cpu().reshape(-1, 4), recording.size)
        self.watched, self.backend, self.rates = watched, backend, rates
        self.wanted = {*self.program.outputs, *([watched] if watched else [])}
        self.plans: dict[tuple[str, int], tuple[SweepPlan, Places]] = {}

    def plan(self, device: torch.device, dtype: torch.dtype) -> SweepPlan:
        """What a sweep does with images on ``device``."""
        return self._planned(device, dtype)[0]

    def _planned(self, device: torch.device, dtype: torch.dtype) -> tuple[SweepPlan, Places]:
        key = device.type, dtype.itemsize
        if key not in self.plans:
            plan = plan_sweep(
                self.program, self.squares, self.rates or rates_of(device.type), dtype.itemsize, self.watched
            )
            self.plans[key] = plan, Places(plan)
        return self.plans[key]

    @torch.no_grad()
    def __call__(
        self,
        images: Tensor,
        fill: Tensor,
        *,
        targets: Tensor | None = None,
        batch_size: int | None = None,
        memory: int | None = None,
        advance: Advance = lambda count: None,
    ) -> SweepValues:
        """Sweeps over images.

        Args:
            images: [N, C, H, W], of the size recorded.
            fill: what is shown in place of what is hidden: [C], or an image for each image [N, C, H, W].
            targets: int64 [T], for a model whose output is one tensor [N, classes]: the classes to keep.
            batch_size: positions that travel together; None: as many as ``memory`` holds.
            memory: bytes that the values of one chunk may take; None: the device's own budget (see :mod:`.cost`).
            advance: called with the number of positions that are done.

        Raises:
            ValueError: ``memory`` for less than one position, a network that puts the images of a batch together.
        """
        if self.program.mixing is not None:
            raise ValueError(
                f"{NAME}: expected a network that computes each image alone, got step {self.program.mixing!r} over all"
            )
        plan, places = self._planned(images.device, images.dtype)
        images = images.contiguous(memory_format=torch.channels_last)
        clean = self.program.run(images, plan.frames | self.wanted)
        parts = {name: clean[name] for name in self.program.outputs}
        if targets is not None:
            check_targets(list(parts.values()), targets, NAME)
        frames = {name: self._frames(name, clean[name]) for name in plan.frames} | {INPUT: images}
        total = len(images) * len(self.squares.lo)
        sizes = chunk_sizes(plan, total, batch_size, memory or (self.rates or rates_of(images.device.type)).budget)
        outputs = Outputs(parts, total, targets)
        watch = None if self.watched is None else Watch(self.program, self.watched, clean[self.watched], total)
        fill = fill.to(images)
        with fixed_weights():
            for start in range(0, total, sizes[0]):
                at = places.of(start, min(start + sizes[0], total), len(images), images.device)
                run = WindowChunk(plan, at, Occluder(images, at.squares, fill), frames, self.backend)
                self._run(run, start, sizes[1], outputs, watch, advance)
        output = self.program.recording.rebuild(parts)
        shape = (len(images), *self.shape)
        held = self.program.recording.rebuild(outputs.by_name(shape))
        if watch is None:
            return SweepValues(output, held, None, None, sizes[0])
        return SweepValues(output, held, watch.channel, watch.activity.view(shape), sizes[0])

    def _run(
        self, run: WindowChunk, start: int, batch: int, outputs: Outputs, watch: Watch | None, advance: Advance
    ) -> None:
        """One chunk, whose first entry is ``start``: the head at once, the tail in batches."""
        run.run()
        plan, count = run.plan, len(run.image)
        if watch is not None and watch.name in plan.place:
            watch.record(start, run.sums(watch.name))
        for first in range(0, count, batch):
            last = min(first + batch, count)
            values = {name: run.whole(name, first, last) for name in plan.cut}
            run_steps(plan.tail, values, last - first, self.wanted)
            outputs.store(start + first, values)
            if watch is not None and watch.name not in plan.place:
                watch.record(start + first, watch.sums(values[watch.name]))
            advance(last - first)

    def _frames(self, name: str, value: Tensor) -> Tensor:
        maps = self.program.kinds[name].maps
        assert maps is not None
        return maps.frames(value)


def chunk_sizes(plan: SweepPlan, total: int, batch_size: int | None, memory: int) -> tuple[int, int]:
    """How many positions run through the head together, and how many through the tail.

    Raises:
        ValueError: ``memory`` is too little for one position.
    """
    least = max(plan.head_bytes, plan.tail_bytes)
    if least > memory and batch_size is None:
        raise ValueError(f"{NAME}: expected memory at least {least} bytes, which one position takes, got {memory}")
    head = batch_size or memory // max(1, plan.head_bytes)
    chunk = max(1, min(head, total))
    return chunk, max(1, min(memory // max(1, plan.tail_bytes), chunk))
