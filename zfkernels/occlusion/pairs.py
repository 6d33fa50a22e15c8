"""Two squares at once: only the cells that both can reach are computed anew, all others come from the single sweeps.

A cell that a alone can reach has the value of a's single sweep, one that b alone can reach that of b's; so windows of a
pair are the intersections of those of its two squares, and what a step reads around them is gathered from the pair's
own windows, then a's, then b's, then the clean maps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zfkernels.checks import check_images, is_int_tensor, recording_for
from zfkernels.geometry import Pair
from zfkernels.network import Ref, without_autocast
from zfkernels.network.recording import INPUT
from zfkernels.occlusion.arguments import check_finite, check_positive
from zfkernels.occlusion.chunks import WindowChunk
from zfkernels.occlusion.cover import Cover
from zfkernels.occlusion.engine import WindowSweep, chunk_sizes
from zfkernels.occlusion.fills import cover_of, of_image
from zfkernels.occlusion.halos import HaloChunk
from zfkernels.occlusion.plan import SweepPlan
from zfkernels.occlusion.sweeper import examine
from zfkernels.occlusion.where import Where
from zfkernels.ops import fixed_weights
from zfkernels.progress import progress_bar
from zfkernels.signed import signed
from zfkernels.windows import Layout, Windows, layout_of

NAME = "occlusion_pairs"


@dataclass(frozen=True)
class OcclusionPairs:
    """What a network says while two squares hide parts of the image.

    Attributes:
        positions: int64 [P, 2], row and column of each square.
        window: (height, width) of the square.
        pairs: int64 [K, 2], which two positions each pair is.
        outputs: [N, K, classes], with both squares.
        singles: [N, P, classes], with one square.
        clean: [N, classes].
    """

    positions: Tensor
    window: Pair
    pairs: Tensor
    outputs: Tensor
    singles: Tensor
    clean: Tensor

    def interaction(self) -> Tensor:
        """[N, K, classes]: f(a, b) - f(a) - f(b) + f(clean): 0 where the effects of both squares add up."""
        first, second = (self.singles[:, self.pairs[:, side]] for side in (0, 1))
        return self.outputs - first - second + self.clean[:, None]


@torch.no_grad()
@without_autocast()
@signed(NAME)
def occlusion_pairs(
    model: nn.Module,
    images: Tensor,  # [N, C, H, W]
    *,
    window: int | Pair,
    positions: Tensor,  # int [P, 2]
    pairs: Tensor | None = None,  # int [K, 2]
    fill: Any = 0.0,
    memory: int | None = None,
    progress: bool = False,
    backend: str | None = None,
) -> OcclusionPairs:
    """The model's outputs with two squares at once.

    Args:
        model: an nn.Module in eval mode that can be recorded and returns [N, classes].
        images: [N, C, H, W], in the model's input units.
        window: (height, width) of the squares, in pixels.
        positions: int [P, 2] (row, column) of the squares.
        pairs: int [K, 2], two positions each, by number; None: all pairs of different positions, (0, 1), (0, 2), ….
        fill: as of :func:`zfkernels.occlusion_sweep`; one fill. Where squares overlap, the second of a pair shows.
        memory: bytes that the values of pairs that travel together may take; those of the single squares are kept
            beside them, of one image at a time.
        progress: show a progress bar.
        backend: variant of the ops, asked for by name; None chooses by device.

    Returns:
        :class:`OcclusionPairs`.

    Raises:
        TypeError: images or arguments of a wrong type or dtype.
        ValueError: images with NaN or infinity, pairs out of range, a model that returns something else or whose images
            depend on each other.
        UnrecordableError: a model that decides by values.
    """
    check_images(NAME, images, model if isinstance(model, nn.Module) else None)
    check_finite(NAME, images)
    check_positive(NAME, "memory", memory)
    recording = recording_for(NAME, model, images)
    changes = Where(window, positions=positions).at((images.shape[2], images.shape[3]))
    chosen = _pairs(pairs, len(changes.boxes))
    cover = cover_of(fill, images, changes)
    verdict = examine(recording, images, changes.boxes, cover)
    if verdict.differs or verdict.mixes:
        reason = verdict.differs or verdict.mixes
        raise ValueError(f"{NAME}: expected model that runs on windows, got one of which {reason}")
    output = recording.outputs
    shape = recording.by_name[output.name].shape if isinstance(output, Ref) else ()
    if len(shape) != 2:
        raise ValueError(f"{NAME}: expected model that returns [N, classes], got one that returns something else")
    sweep = WindowSweep(recording, changes.boxes, backend=backend)
    found = []
    with progress_bar(len(images) * len(chosen), "pairs", progress) as advance:
        for image in range(len(images)):
            one = images[image : image + 1]
            shown = cover_of(of_image(fill, image, images), one, changes)
            found.append(PairSweep(sweep, chosen)(one, shown, memory, advance))
    clean, singles, outputs = (torch.cat(parts) for parts in zip(*found, strict=True))
    return OcclusionPairs(changes.boxes[:, :2], changes.window, chosen, outputs, singles, clean)


def _pairs(pairs: Any, count: int) -> Tensor:
    if pairs is None:
        return torch.combinations(torch.arange(count))
    if not is_int_tensor(pairs):
        got = pairs.dtype if isinstance(pairs, Tensor) else type(pairs).__name__
        raise TypeError(f"{NAME}: expected pairs an int tensor [K, 2], got {got}")
    if pairs.dim() != 2 or pairs.shape[1] != 2 or not len(pairs):
        raise ValueError(f"{NAME}: expected pairs of shape [K, 2], at least one, got {tuple(pairs.shape)}")
    if bool(((pairs < 0) | (pairs >= count)).any()):
        raise ValueError(f"{NAME}: expected pairs of positions from 0 to {count - 1}, got some out of range")
    return pairs.to("cpu", torch.int64)


class PairSweep:
    """Pairs of the squares of a sweep, over one image at a time.

    Args:
        sweep: of the single squares.
        pairs: int64 [K, 2].
    """

    def __init__(self, sweep: WindowSweep, pairs: Tensor) -> None:
        self.sweep, self.pairs = sweep, pairs

    def __call__(
        self, image: Tensor, cover: Cover, memory: int | None, advance: Callable[[int], object]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Clean outputs [1, classes], with one square [1, P, classes], with two [1, K, classes]."""
        sweep, device = self.sweep, image.device
        (output,) = sweep.program.outputs
        plan, places = sweep.planned(device, image.dtype)
        image = image.contiguous(memory_format=torch.channels_last)
        names = {kind.name for kind in plan.head if kind.maps is not None}
        values = sweep.program.run(image, {*names, output})
        frames = {name: sweep.frames(name, values[name]) for name in names} | {INPUT: image}
        every = torch.arange(len(sweep.boxes))
        at = places.at(every, torch.zeros_like(every), 1, device)
        occluder = cover.to(image).over(image, at.layouts[plan.place[INPUT]], at.position, at.corners)
        most = max(len(self.pairs), len(sweep.boxes))
        size, batch = chunk_sizes(plan, most, None, sweep.budget(plan, device, memory), NAME)
        single = WindowChunk(plan, at.layouts, at.image, occluder, frames, sweep.backend)
        outputs = []
        with fixed_weights():
            single.run({kind.name for kind in plan.head})
            singles = single.outputs(output, batch)
            for pairs in self.pairs.split(size):
                pair = PairChunk(plan, single, pairs)
                pair.run()
                outputs.append(pair.outputs(output, batch))
                advance(len(pairs))
        return values[output], singles[None], torch.cat(outputs)[None]


class PairChunk(HaloChunk):
    """Runs the head of a plan on some pairs.

    Args:
        plan: of the sweep of single squares.
        single: its values, all of the head's.
        pairs: int64 [K, 2], on the CPU.
    """

    def __init__(self, plan: SweepPlan, single: WindowChunk, pairs: Tensor) -> None:
        device, of_all = single.image.device, torch.zeros(len(pairs), dtype=torch.int64)
        boxes = [common_boxes(place.boxes[pairs[:, 0]], place.boxes[pairs[:, 1]]) for place in plan.places]
        layouts = tuple(
            layout_of(NAME, "boxes", box, of_all, place.frame).to(device, non_blocking=True)
            for box, place in zip(boxes, plan.places, strict=True)
        )
        self.single, self.rows = single, pairs.to(device)
        super().__init__(plan, layouts, boxes, of_all, single.clean, single.backend)
        # The second square lies over the first.
        second = single.windows(INPUT), self.rows[:, 1]
        self.hold(INPUT, self.gather([second], None, self.layout(INPUT)))

    def around(self, name: str, layout: Layout, boxes: Tensor, start: int, stop: int) -> Windows:
        """Cells of a step with both squares: of the pair's windows, of the first's, of the second's, the clean ones."""
        number = torch.arange(start, stop, device=self.image.device)
        single, rows = self.single.windows(name), self.rows[start:stop]
        sources = [(self.values[name], number), (single, rows[:, 0]), (single, rows[:, 1])]
        return self.gather(sources, self.frames(name), layout)


def common_boxes(first: Tensor, second: Tensor) -> Tensor:
    """The cells that two boxes, int32 [K, 4] each, have in common; none: an empty box."""
    low = torch.maximum(first[:, :2], second[:, :2])
    size = torch.minimum(first[:, :2] + first[:, 2:], second[:, :2] + second[:, 2:]) - low
    some = (size > 0).all(1, keepdim=True)
    return torch.cat([torch.where(some, low, 0), torch.where(some, size, 0)], 1)
