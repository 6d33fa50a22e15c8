"""Drives a sweep: clean pass, groups of positions in chunks, and the network's tail on whole batches.

The head of the network runs group by group on windows. Behind the step that the plan names as its tail, frames or
vectors of many groups go on together, so that filters and fully-connected layers are read once for hundreds of
positions.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zfkernels.methods.pullback import from_layout
from zfkernels.methods.sweep import Square, Sweep
from zfkernels.methods.whole_images import Advance
from zfkernels.ops import fixed_weights
from zfkernels.plan import Group, SweepPlan, frame_of, plan_sweep
from zfkernels.trace import Step, Trace
from zfkernels.windows import Pair, Windows, crop

TAIL_BATCH, TAIL_BYTES = 256, 2**26  # values that go through the tail together
UNKNOWN_MEMORY = 2**30  # bytes that are taken to be free where the system does not say


class Swept(NamedTuple):
    """What a sweep found.

    Attributes:
        clean: of each tensor of the model's output [N, ...], for the clean images.
        outputs: of each [N, P, ...].
        channel: int64 [N], the watched map of each image; None without a watched layer.
        activity: [N, P], its spatial sum; None likewise.
    """

    clean: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    channel: Tensor | None
    activity: Tensor | None


class Incremental:
    """The sweep of one network, image size and set of positions; call it with batches of images.

    Args:
        trace: the network, folded (:func:`zfkernels.trace.fold`), for images of this size.
        size: (H, W) of the images.
        positions: int64 [P, 2].
        window: (height, width) of the square.
        watched: name of a step to watch, or None.
        backend: variant of the ops; None chooses by device.
    """

    def __init__(
        self,
        trace: Trace,
        size: Pair,
        positions: Tensor,
        window: Pair,
        watched: str | None = None,
        backend: str | None = None,
    ) -> None:
        self.trace, self.watched, self.backend = trace, watched, backend
        self.size, self.positions, self.window = size, positions, window
        self.plan: SweepPlan | None = None

    def __call__(
        self,
        images: Tensor,
        fill: Tensor,
        targets: Tensor | None,
        batch_size: int | None,
        advance: Advance,
        whole_images: int | None = None,
    ) -> Swept:
        """The sweep of a batch of images.

        Windows travel together by ``batch_size``, or as many as the free memory holds, and in no more room than so
        many ``whole_images`` would take.
        """
        trace = self.trace
        last_format = images.contiguous(memory_format=torch.channels_last)
        kept = {step.name for step in trace.steps if _is_kept(step)} | {trace.output, self.watched or trace.output}
        clean = trace.run(last_format, kept)
        outputs = _parts(clean[trace.output])
        check_targets(outputs, targets)
        shapes = {name: tuple(value.shape) for name, value in clean.items() if isinstance(value, Tensor)}
        plan = self.plan = self.plan or plan_sweep(trace, shapes, self.positions, self.window, self.watched)
        count = (len(images), len(self.positions))
        result = tuple(
            part.new_empty((*count, *(part.shape[1:] if targets is None else (len(targets),)))) for part in outputs
        )
        watch = None
        if self.watched is not None:
            watch = _Watch(trace.by_name[self.watched].layout, clean[self.watched], len(self.positions))
        sweep = Sweep(trace, plan.tail, self.watched, last_format, clean, Square(self.window, fill), self.backend)
        tail = _Tail(trace, plan.tail, result, targets)
        batch_size = batch_size or self._automatic(trace, shapes, images, whole_images)
        with fixed_weights():
            for group, chunk, image in _chunks(plan, len(images), batch_size):
                member = group.members[chunk]
                places = self.positions[member].to(images.device, torch.int32)
                image = image.to(images.device)
                value, watched = sweep.run(group, chunk, places, image)
                tail.add(image, member, value)
                if watch is not None:
                    watch.record(image, member, watched)
                advance(len(member))
            tail.flush()
        return Swept(outputs, result, *((watch.channel, watch.activity) if watch else (None, None)))

    def _automatic(
        self, trace: Trace, shapes: dict[str, tuple[int, ...]], images: Tensor, whole_images: int | None
    ) -> int:
        """As many windows as an eighth of the free memory holds, at most 128, in the room of ``whole_images``."""
        assert self.plan is not None
        largest, whole = 1, 1
        for name, shape in shapes.items():
            frame = frame_of(trace.by_name[name], shape)
            if frame is not None:
                channels = shape[1] if trace.by_name[name].layout == "NCHW" else shape[3]
                reached = [group for group in self.plan.groups if name not in group.unchanged]
                sizes = [group.windows[name].size if name in group.windows else frame for group in reached]
                largest = max([largest, *(channels * height * width for height, width in sizes)])
                whole = max(whole, channels * frame[0] * frame[1])
        count = min(128, _free_memory(images.device) // 8 // (6 * largest * images.element_size()))
        return max(1, count if whole_images is None else min(count, whole_images * whole // largest))


class _Watch:
    """The strongest map of each image at one layer, ``channel`` [N], and its spatial sums, ``activity`` [N, P]."""

    def __init__(self, layout: str, clean: Tensor, positions: int) -> None:
        self.layout, self.clean = layout, clean
        self.sums = self._sums(clean)
        self.channel = self.sums.argmax(1)
        self.activity = self.sums.gather(1, self.channel[:, None]).repeat(1, positions)

    def record(self, image: Tensor, position: Tensor, value: Windows | Tensor | None) -> None:
        """Takes the layer's value for some positions; None: no square reaches it."""
        if value is None:
            return
        if isinstance(value, Windows):
            before = crop(from_layout(self.clean, self.layout), value.origins, image, value.size)
            sums = self.sums[image] + (value.values - before).sum((2, 3))
        else:
            sums = self._sums(value)
        self.activity[image, position.to(image.device)] = sums.gather(1, self.channel[image, None])[:, 0]

    def _sums(self, value: Tensor) -> Tensor:
        """[N, C]: sums over each map; the units of a layer without."""
        maps = self.layout and value.dim() == 4
        return from_layout(value, self.layout).sum((2, 3)) if maps else value.flatten(1)


class _Tail:
    """Collects the head's values and runs the rest of the network on large batches of them."""

    def __init__(self, trace: Trace, start: str, result: tuple[Tensor, ...], targets: Tensor | None) -> None:
        needed = trace.needed_for({trace.output})
        self.steps = needed[[step.name for step in needed].index(start) + 1 :]
        self.output, self.start, self.result, self.targets = trace.output, start, result, targets
        self.waiting: list[tuple[Tensor, ...]] = []
        self.several = False

    def add(self, image: Tensor, position: Tensor, value: Tensor | tuple[Tensor, ...]) -> None:
        """Takes in the value of the first step for some positions: its tensors, [K, ...] each."""
        self.several = isinstance(value, tuple)
        self.waiting.append((image, position.to(image.device), *_parts(value)))
        count = sum(len(entry[0]) for entry in self.waiting)
        if count >= TAIL_BATCH or count * sum(part[0].nbytes for part in _parts(value)) >= TAIL_BYTES:
            self.flush()

    def flush(self) -> None:
        if not self.waiting:
            return
        image, position, *value = (torch.cat(parts) for parts in zip(*self.waiting, strict=True))
        self.waiting = []
        values: dict[str, Any] = {self.start: tuple(value) if self.several else value[0]}
        for step in self.steps:
            values[step.name] = step.call(*(values[name] for name in step.inputs))
        for result, out in zip(self.result, _parts(values[self.output]), strict=True):
            result[image, position] = out if self.targets is None else out[:, self.targets]


def check_targets(outputs: tuple[Tensor, ...], targets: Tensor | None) -> None:
    """Refuses ``targets`` unless the output is one tensor [N, classes] and all of them are among the classes."""
    if targets is None:
        return
    if len(outputs) != 1 or outputs[0].dim() != 2:
        got = tuple(outputs[0].shape) if len(outputs) == 1 else f"{len(outputs)} tensors"
        raise ValueError(f"occlusion_sweep: expected targets of an output that is one tensor [N, classes], got {got}")
    classes = outputs[0].shape[1]
    if ((targets < 0) | (targets >= classes)).any():
        raise ValueError(f"occlusion_sweep: expected targets from 0 to {classes - 1}, got {targets.tolist()}")


def _parts(value: Any) -> tuple[Tensor, ...]:
    return value if isinstance(value, tuple) else (value,)


def _is_kept(step: Step) -> bool:
    """Steps whose clean value the sweep may need: all with maps, and global pooling."""
    return bool(step.layout) or step.kind in ("global_pool", "input")


def _chunks(plan: SweepPlan, images: int, batch_size: int) -> Iterator[tuple[Group, Tensor, Tensor]]:
    """(group, members of it, image of each) in chunks of at most ``batch_size``."""
    for group in plan.groups:
        count = len(group.members)
        for chunk in torch.arange(images * count).split(batch_size) if images else ():
            yield group, chunk % count, chunk // count


def _free_memory(device: torch.device) -> int:
    """Bytes. What Linux calls free leaves out the caches of files: an eighth of all memory is taken to be there; other
    systems do not say what is free."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    known = getattr(os, "sysconf_names", {})
    free, all_of_it = (os.sysconf(n) if n in known else 0 for n in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES"))
    pages = max(free, all_of_it // 8)
    return pages * os.sysconf("SC_PAGE_SIZE") if pages > 0 else UNKNOWN_MEMORY
