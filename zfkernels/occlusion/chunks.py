"""A chunk of positions: where its windows lie, known before its first launch, and the values of its steps."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zfkernels.geometry import Pair
from zfkernels.network.kinds import Occluder
from zfkernels.network.maps import Maps
from zfkernels.network.recording import INPUT
from zfkernels.occlusion.plan import SweepPlan
from zfkernels.ops import window_gather
from zfkernels.windows import Layout, Windows


class Places:
    """The boxes of a plan as one tensor, from which the layouts of any chunk are taken at once.

    Args:
        plan: of the sweep.
        corners: int64 [P, 2], of what is hidden, before it is clipped to the images.
    """

    def __init__(self, plan: SweepPlan, corners: Tensor) -> None:
        self.frames = [place.frame for place in plan.places]
        self.boxes = torch.stack([place.boxes for place in plan.places])  # [L, P, 4]
        self.cells = torch.stack([place.cells for place in plan.places])  # [L, P]
        self.corners = corners
        self.latest: tuple[Any, ChunkLayouts] | None = None

    def of(self, start: int, stop: int, images: int, device: torch.device) -> ChunkLayouts:
        """The layouts of entries ``start`` to ``stop`` of all positions of the first image, of the second, …."""
        key = start, stop, images, device
        if self.latest is None or self.latest[0] != key:  # the next image of a data set has the same
            count = self.boxes.shape[1]
            entry = torch.arange(start, stop)
            self.latest = key, self.at(entry % count, entry // count, images, device)
        return self.latest[1]

    def at(self, position: Tensor, image: Tensor, images: int, device: torch.device) -> ChunkLayouts:
        """The layouts of entries ``position`` of ``image``, int64 [K] each, on the CPU.

        All is computed and copied before anything is launched; nothing on ``device`` is waited for.
        """
        corners = self.corners[position]
        boxes, cells = self.boxes[:, position], self.cells[:, position]
        offsets = torch.nn.functional.pad(cells.cumsum(1), (1, 0))
        total = offsets[:, -1].tolist()
        boxes, cells, offsets, image, position, corners = (
            part.to(device, non_blocking=True) for part in (boxes, cells, offsets, image, position, corners)
        )
        rows = torch.arange(len(position), device=device, dtype=torch.int32)
        layouts = []
        for index, frame in enumerate(self.frames):
            owner = rows.repeat_interleave(cells[index], output_size=total[index])
            layouts.append(Layout(boxes[index], offsets[index], image, frame, total[index], owner, images))
        return ChunkLayouts(tuple(layouts), image, position, corners)


@dataclass(frozen=True)
class ChunkLayouts:
    """Where the windows of a chunk of K entries lie.

    Attributes:
        layouts: one for each of the plan's places.
        image: int64 [K], the image of each entry.
        position: int64 [K], its position.
        corners: int64 [K, 2], of what is hidden, before it is clipped to the image.
    """

    layouts: tuple[Layout, ...]
    image: Tensor
    position: Tensor
    corners: Tensor


class WindowChunk:
    """Runs the head of a plan on one chunk: what the kinds of steps see of it (see ``kinds.Chunk``).

    Args:
        plan: of the sweep.
        at: layouts of the chunk.
        occluder: what is hidden.
        clean: frames of the clean images by step, [N, C, H, W].
        backend: variant of the ops; None chooses by device.
    """

    def __init__(
        self, plan: SweepPlan, at: ChunkLayouts, occluder: Occluder, clean: Mapping[str, Tensor], backend: str | None
    ) -> None:
        self.plan, self.at, self.backend = plan, at, backend
        self.image = at.image
        self.hidden, self.clean = occluder, clean
        self.values: dict[str, Any] = {}

    def layout(self, name: str) -> Layout:
        return self.at.layouts[self.plan.place[name]]

    def windows(self, name: str) -> Windows:
        if name == INPUT and name not in self.values:  # only where something other than the first convolution reads it
            self.values[name] = self.plan.program.kinds[name].run_on_windows(self)
        return self.values[name]

    def frames(self, name: str) -> Tensor:
        return self.clean[name]

    def gather(self, sources: Sequence[Any], frames: Tensor | None, layout: Layout) -> Windows:
        return window_gather(sources, frames, layout, backend=self.backend)

    def occluder(self, name: str) -> Occluder | None:
        return self.hidden if name == INPUT else None

    def run(self, keep: Collection[str] | None = None) -> None:
        """Computes the head's steps in order; then :attr:`values` holds those to ``keep``, by default the plan's."""
        head, keep = self.plan.head, self.plan.kept if keep is None else keep
        last = {name: index for index, kind in enumerate(head) for name in (kind.name, *kind.inputs)}
        for index, kind in enumerate(head):
            if kind.name != INPUT:
                self.values[kind.name] = kind.run_on_windows(self)
            for name in {kind.name, *kind.inputs}:
                if last[name] <= index and name not in keep:
                    self.values.pop(name, None)

    def whole(self, name: str, start: int, stop: int) -> Tensor:
        """The value of a step of the head for entries ``start`` to ``stop`` as a whole value [stop - start, ...]."""
        maps, value = self.plan.program.kinds[name].maps, self.windows(name)
        if maps is None:
            return value[start:stop]  # type: ignore[index]
        height, width = maps.frame
        if self.plan.places[self.plan.place[name]].is_whole:
            cells = value.values[start * height * width : stop * height * width]
        else:
            layout = whole_frames(self.image[start:stop], maps.frame, self.layout(name).images)
            rows = None if stop - start == len(value) else torch.arange(start, stop, device=self.image.device)
            source = value if rows is None else (value, rows)
            cells = self.gather([source], self.clean[name], layout).values
        return maps.value(as_frames(cells, maps))


def whole_frames(image: Tensor, frame: Pair, images: int | None) -> Layout:
    """Windows that are whole frames, one for each of ``image`` int64 [K]; nothing is waited for."""
    count, cells = len(image), frame[0] * frame[1]
    box = torch.zeros(count, 4, dtype=torch.int32, device=image.device)
    box[:, 2], box[:, 3] = frame[0], frame[1]
    offsets = torch.arange(count + 1, device=image.device) * cells
    owner = torch.arange(count, dtype=torch.int32, device=image.device)[:, None].expand(-1, cells).flatten()
    return Layout(box, offsets, image, frame, count * cells, owner, images)


def as_frames(cells: Tensor, maps: Maps) -> Tensor:
    """[K, C, H, W], channels last, of the cells of K whole frames."""
    return cells.view(-1, *maps.frame, maps.channels).permute(0, 3, 1, 2)
