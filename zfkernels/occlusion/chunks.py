"""A chunk of positions that travel together: the values of its steps."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from zfkernels.geometry import Pair
from zfkernels.network.kinds import Occluder
from zfkernels.network.maps import Maps
from zfkernels.network.program import run_steps
from zfkernels.network.recording import INPUT
from zfkernels.occlusion.plan import SweepPlan
from zfkernels.ops import window_gather
from zfkernels.windows import Layout, Windows


class WindowChunk:
    """Runs the head of a plan on one chunk: what the kinds of steps see of it (see ``kinds.Chunk``).

    Args:
        plan: of the sweep.
        layouts: one for each of the plan's places.
        image: int64 [K], the image of each entry.
        occluder: what is hidden; None: the caller gives the windows of the images (:meth:`hold`).
        clean: frames of the clean images by step, [N, C, H, W].
        backend: variant of the ops; None chooses by device.

    Attributes:
        values: of the steps, by name.
        asking: the step that runs.
    """

    def __init__(
        self,
        plan: SweepPlan,
        layouts: Sequence[Layout],
        image: Tensor,
        occluder: Occluder | None,
        clean: Mapping[str, Tensor],
        backend: str | None,
    ) -> None:
        self.plan, self.layouts, self.image, self.backend = plan, layouts, image, backend
        self.hidden, self.clean = occluder, clean
        self.values: dict[str, Any] = {}
        self.asking = plan.head[0]

    def layout(self, name: str) -> Layout:
        return self.layouts[self.plan.place[name]]

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

    def hold(self, name: str, value: Any) -> None:
        """Keeps the value of a step for those that read it."""
        self.values[name] = value

    def run(self, keep: Collection[str] | None = None) -> None:
        """Computes the head's steps in order; then :attr:`values` holds those to ``keep``, by default the plan's."""
        head, keep = self.plan.head, self.plan.kept if keep is None else keep
        last = {name: index for index, kind in enumerate(head) for name in (kind.name, *kind.inputs)}
        for index, kind in enumerate(head):
            self.asking = kind
            if kind.name != INPUT:
                self.hold(kind.name, kind.run_on_windows(self))
            for name in {kind.name, *kind.inputs}:
                if last[name] <= index and name not in keep:
                    self.values.pop(name, None)

    def whole(self, name: str, start: int, stop: int) -> Tensor:
        """The value of a step of the head for entries ``start`` to ``stop`` as a whole value [stop - start, ...]."""
        maps = self.plan.program.kinds[name].maps
        if maps is None:
            return self.values[name][start:stop]
        height, width = maps.frame
        if self.plan.places[self.plan.place[name]].is_whole:
            cells = self.windows(name).values[start * height * width : stop * height * width]
        else:
            layout = whole_frames(self.image[start:stop], maps.frame, self.layout(name).images)
            cells = self.pasted(name, layout, start, stop).values
        return maps.value(as_frames(cells, maps))

    def pasted(self, name: str, layout: Layout, start: int, stop: int) -> Windows:
        """Whole frames, ``layout``, of a step for entries ``start`` to ``stop``."""
        windows = self.windows(name)
        rows = None if stop - start == len(windows) else torch.arange(start, stop, device=self.image.device)
        return self.gather([windows if rows is None else (windows, rows)], self.clean[name], layout)

    def outputs(self, name: str, batch: int) -> Tensor:
        """[K, ...]: the value of any step for all entries; the tail runs in batches of ``batch`` entries."""
        found, count = [], len(self.image)
        for first in range(0, count, batch):
            last = min(first + batch, count)
            values = {cut: self.whole(cut, first, last) for cut in self.plan.cut}
            run_steps(self.plan.tail, values, last - first, {name})
            found.append(values[name])
        return torch.cat(found)


def whole_frames(image: Tensor, frame: Pair, images: int | None) -> Layout:
    """Windows that are whole frames, one for each of ``image`` int64 [K]; nothing is waited for."""
    count, cells = len(image), frame[0] * frame[1]
    size = [torch.full((count, 2), 0, dtype=torch.int32, device=image.device)]
    size += [torch.full((count, 1), side, dtype=torch.int32, device=image.device) for side in frame]
    box = torch.cat(size, 1)
    offsets = torch.arange(count + 1, device=image.device) * cells
    owner = torch.arange(count, dtype=torch.int32, device=image.device)[:, None].expand(-1, cells).flatten()
    return Layout(box, offsets, image, frame, count * cells, owner, images)


def as_frames(cells: Tensor, maps: Maps) -> Tensor:
    """[K, C, H, W], channels last, of the cells of K whole frames."""
    return cells.view(-1, *maps.frame, maps.channels).permute(0, 3, 1, 2)
