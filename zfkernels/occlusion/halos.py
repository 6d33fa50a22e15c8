"""Chunks whose windows lie in maps other than the clean ones: what a step reads around a window is gathered first."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from zfkernels.geometry import Boxes, Pair
from zfkernels.network.kinds import Kind, Occluder
from zfkernels.occlusion.chunks import WindowChunk
from zfkernels.occlusion.plan import SweepPlan
from zfkernels.windows import Layout, Windows, layout_of


class HaloChunk(WindowChunk, ABC):
    """Runs the head of a plan on entries around whose windows lie the maps that :meth:`around` makes.

    A step that reads around its windows is given its *halos* instead: larger windows that hold all that it reads. A
    subclass puts the windows of the images into the chunk (:meth:`hold`) before it runs.

    Args:
        plan: of the sweep.
        layouts: one for each of the plan's places, on the device of ``clean``.
        boxes: int32 [K, 4] of each of them, on the CPU.
        image: int64 [K], the image of each entry, on the CPU.
        clean: frames by step, [N, C, H, W].
        backend: variant of the ops; None chooses by device.
    """

    def __init__(
        self,
        plan: SweepPlan,
        layouts: Sequence[Layout],
        boxes: Sequence[Tensor],
        image: Tensor,
        clean: Mapping[str, Tensor],
        backend: str | None,
    ) -> None:
        super().__init__(plan, layouts, layouts[0].image, None, clean, backend)
        self.boxes, self.images_of = boxes, image
        self.halos = {(kind.name, name): halo for kind in plan.head for name, halo in self._read(kind)}

    def _read(self, kind: Kind) -> Iterator[tuple[str, tuple[Layout, Tensor]]]:
        """For each input that a step reads around its windows: its name, and layout and boxes of what is read."""
        if not kind.needs_frames:
            return
        known = kind.maps is not None and type(kind).read is not Kind.read
        read = kind.read(Boxes.of(self.boxes[self.plan.place[kind.name]])) if known else None
        for n, name in enumerate(kind.inputs):
            if self._is_whole(name):
                continue
            frame = self.layout(name).frame
            boxes = whole_boxes(len(self.image), frame) if read is None else read[n].flat
            layout = layout_of("occlusion", "boxes", boxes, self.images_of, frame)
            yield name, (layout.to(self.image.device, non_blocking=True), boxes)

    @abstractmethod
    def around(self, name: str, layout: Layout, boxes: Tensor, start: int, stop: int) -> Windows:
        """The cells of a step in boxes of the entries ``start`` to ``stop``.

        Args:
            name: the step.
            layout: of the boxes.
            boxes: int32 [stop - start, 4], on the CPU.
        """

    def windows(self, name: str) -> Windows:
        """The windows of step ``name`` as the running step reads them: with their surroundings, if it reads these."""
        halo = self.halos.get((self.asking.name, name))
        if halo is None and self.asking.maps is not None and not self._is_whole(name):
            own, wanted = self.plan.place[name], self.plan.place[self.asking.name]
            if own != wanted and self.layouts[own].frame == self.layouts[wanted].frame:
                halo = self.layouts[wanted], self.boxes[wanted]
        return self.values[name] if halo is None else self.around(name, *halo, 0, len(self.image))

    def pasted(self, name: str, layout: Layout, start: int, stop: int) -> Windows:
        return self.around(name, layout, whole_boxes(stop - start, layout.frame), start, stop)

    def gather(self, sources: Sequence[Any], frames: Tensor | None, layout: Layout) -> Windows:
        """As in every chunk, except that windows that already lie in these boxes are not copied."""
        only = sources[0] if len(sources) == 1 else None
        if isinstance(only, Windows) and only.boxes is layout.boxes:
            return only
        return super().gather(sources, frames, layout)

    def occluder(self, name: str) -> Occluder | None:
        return None

    def _is_whole(self, name: str) -> bool:
        """Whether all windows of a step are whole frames, so that nothing lies around them."""
        return self.plan.places[self.plan.place[name]].is_whole


def whole_boxes(count: int, frame: Pair) -> Tensor:
    """int32 [count, 4]: as many whole frames."""
    return torch.tensor([0, 0, *frame], dtype=torch.int32).expand(count, 4)
