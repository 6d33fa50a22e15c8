"""Changes in turn: each changes one square of the image that the change before left, yet all are computed together.

Which cells of a layer a change can reach is known before anything runs. After some changes, a cell has the value from
the latest change that reaches it; if none reaches it, the value of the clean image. So one call computes the windows of
all changes in one step of the network. What it reads around a window (the *halo*) is gathered from the windows of
earlier changes and from the clean maps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zfkernels.geometry import Pair
from zfkernels.network.kinds import Occluder, occluded_windows
from zfkernels.network.kinds.image import as_pixels
from zfkernels.network.recording import INPUT
from zfkernels.occlusion.cover import Cover
from zfkernels.occlusion.engine import WindowSweep, chunk_sizes
from zfkernels.occlusion.halos import HaloChunk, whole_boxes
from zfkernels.occlusion.places import ChunkLayouts
from zfkernels.occlusion.plan import SweepPlan
from zfkernels.windows import Layout, Windows


@torch.no_grad()
def in_turn(
    sweep: WindowSweep,
    images: Tensor,
    cover: Cover,
    order: Tensor,
    memory: int | None = None,
    advance: Callable[[int], object] = lambda count: None,
    name: str = "in_turn",
) -> Tensor:
    """The outputs of a network after each of some changes of its images.

    Args:
        sweep: over the squares that may change, of a network with one output [N, ...].
        images: [N, C, H, W], before any change.
        cover: what a changed square shows.
        order: int64 [N, steps], on the CPU: the square that each step changes, too.
        memory: bytes that the windows of the steps that run together may take; None: see
            :meth:`WindowSweep.budget`.
        advance: called with the number of steps that were done since the last call.
        name: of the function that errors name.

    Returns:
        [N, steps + 1, ...]: before any change, and after each.

    Raises:
        ValueError: ``memory`` is too little for one step.
    """
    (output,) = sweep.program.outputs
    (count, steps), device = order.shape, images.device
    plan, places = sweep.planned(device, images.dtype)
    clean, cover = sweep.clean(images), cover.to(images)
    size, batch = chunk_sizes(plan, count * steps, None, sweep.budget(plan, device, memory), name)
    before = clean.values[output]
    frames, found = dict(clean.frames), [before[:0]]
    if size < count * steps:  # they are written to
        frames = {name: maps.clone(memory_format=torch.channels_last) for name, maps in frames.items()}
    for entries in torch.arange(count * steps).split(size) if count else ():
        image, step = entries // steps, entries % steps
        position = order[image, step]
        at = places.at(position, image, count, device)
        occluder = cover.over(frames[INPUT], at.layouts[plan.place[INPUT]], at.position, at.corners)
        run = TurnChunk(plan, at, position, image, occluder, frames, int(step[-1]) < steps - 1, sweep.backend)
        run.run()
        found.append(run.outputs(output, batch))
        run.write()
        advance(len(entries))
    outputs = torch.cat(found).unflatten(0, (count, steps))
    return torch.cat([before[:, None], outputs], 1)


class TurnChunk(HaloChunk):
    """Runs the head of a plan on some changes, each of the image that the change before in the same image left.

    Args:
        plan: of the sweep of single squares.
        at: layouts of the changes.
        position: int64 [K], the square of each, on the CPU.
        image: int64 [K], ascending, on the CPU.
        occluder: what the changed squares show.
        frames: by step, [N, C, H, W], channels last: as they are before the first change of each image here.
        goes_on: whether the next chunk has further changes of the last image.
        backend: variant of the ops; None chooses by device.
    """

    def __init__(
        self,
        plan: SweepPlan,
        at: ChunkLayouts,
        position: Tensor,
        image: Tensor,
        occluder: Occluder,
        frames: Mapping[str, Tensor],
        goes_on: bool,
        backend: str | None,
    ) -> None:
        boxes = [place.boxes[position] for place in plan.places]
        super().__init__(plan, at.layouts, boxes, image, frames, backend)
        self.goes_on = goes_on
        self.left: dict[str, tuple[Tensor, Tensor]] = {}  # rows of the frames of a step, and what they become
        self.hold(INPUT, occluded_windows(occluder, self.layout(INPUT)))

    def hold(self, name: str, value: Any) -> None:
        super().hold(name, value)
        if self.goes_on and name in self.clean:
            last, (height, width) = len(self.image) - 1, self.layout(name).frame
            found = self._latest(name, whole_boxes(1, (height, width)), last, last + 1)
            changed = (found >= 0).nonzero()[:, 0]
            rows = changed + int(self.images_of[last]) * height * width
            self.left[name] = self._there(rows), value.values.index_select(0, self._there(found[changed]))

    def write(self) -> None:
        """Writes what the changes of the last image left into its frames."""
        for name, (rows, cells) in self.left.items():
            frames = self.clean[name]
            frames.permute(0, 2, 3, 1).view(-1, frames.shape[1]).index_copy_(0, rows, cells)

    def around(self, name: str, layout: Layout, boxes: Tensor, start: int, stop: int) -> Windows:
        found = self._latest(name, boxes, start, stop)
        values, frames = self.values[name].values, as_pixels(self.clean[name])
        if not len(values):  # no square reaches this step
            values = frames[:1]
        cells = values.index_select(0, self._there(found.clamp(min=0)))
        unchanged = (found < 0).nonzero()[:, 0]
        if len(unchanged):
            of_frames = frames.index_select(0, self._there(-1 - found[unchanged]))
            cells.index_copy_(0, self._there(unchanged), of_frames)
        return layout.windows(cells)

    def _there(self, numbers: Tensor) -> Tensor:
        """The same on the device of the values."""
        return numbers.to(self.image.device, non_blocking=True)

    def _latest(self, name: str, boxes: Tensor, start: int, stop: int) -> Tensor:
        frame = self.layout(name).frame
        return latest(self.boxes[self.plan.place[name]], self.images_of, frame, boxes, start, stop)


def latest(own: Tensor, image: Tensor, frame: Pair, boxes: Tensor, start: int, stop: int) -> Tensor:
    """Where the latest values of some cells are after some changes: in a window of a change, or in the clean frames.

    Args:
        own: int32 [K, 4], the boxes of the changes' windows, in the order of the changes.
        image: int64 [K], the image of each, ascending.
        frame: (H, W).
        boxes: int32 [stop - start, 4], the cells that are wanted after each of the changes ``start`` to ``stop - 1``.
        start: the first change after which cells are wanted.
        stop: the number of the last such change, plus 1.

    Returns:
        int64 [cells of the boxes]: n >= 0 is cell n of all windows, one window after the other; n < 0 is cell -1 - n
        of all frames, one image after the other.
    """
    cells = frame[0] * frame[1]
    clean = -1 - np.arange(cells).reshape(frame)
    first = [0, *own[:, 2:].long().prod(1).cumsum(0).tolist()]
    number = np.arange(first[-1])
    images, windows, wanted = image.tolist(), own.tolist(), boxes.tolist()
    found, state = [number[:0]], clean
    for k in range(images.index(images[start]) if start < stop else stop, stop):
        if state is clean or images[k] != images[k - 1]:
            state = clean - images[k] * cells
        top, left, height, width = windows[k]
        state[top : top + height, left : left + width] = number[first[k] : first[k + 1]].reshape(height, width)
        if k >= start:
            top, left, height, width = wanted[k - start]
            found.append(state[top : top + height, left : left + width].flatten())
    return torch.from_numpy(np.concatenate(found))
