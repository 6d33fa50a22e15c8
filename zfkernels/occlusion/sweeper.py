"""A network made ready for sweeps, on windows or, where it cannot run on them, on whole images."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from zfkernels.checks import check_images, is_int_tensor, recording_for
from zfkernels.geometry import Pair
from zfkernels.network import (
    Recording,
    UnrecordableError,
    Verdict,
    batch_matters,
    check,
    refuse_training,
    run_model,
    undisturbed,
)
from zfkernels.network.program import Program
from zfkernels.occlusion.arguments import NAME, check_finite, check_positive, dtype_of, targets_of
from zfkernels.occlusion.collect import Reduce, SweepValues
from zfkernels.occlusion.cover import Cover, hide
from zfkernels.occlusion.engine import WindowSweep
from zfkernels.occlusion.fills import cover_of, describe, of_image, several
from zfkernels.occlusion.precision import say_if_no_faster
from zfkernels.occlusion.watch import STATISTICS, Watched
from zfkernels.occlusion.where import Changes, Where
from zfkernels.occlusion.whole_images import WholeSweep
from zfkernels.progress import progress_bar
from zfkernels.replay import Replayed, capturable, new_pool
from zfkernels.results import Look, OcclusionFills, OcclusionMap
from zfkernels.results.fills import joined
from zfkernels.signed import warn_user

SIZES = 4  # sizes of images whose plans are kept


@dataclass(frozen=True)
class Wanted:
    """What is recorded beside or in place of the outputs; see ``occlusion_sweep``."""

    layer: str | None = None
    units: str | int | Sequence[int] | Tensor | None = None
    statistic: str = "sum"
    reduce: Reduce | None = None
    outputs: bool = True

    def __post_init__(self) -> None:
        if not self.outputs and (self.layer is None or self.reduce is not None):
            raise ValueError(f"{NAME}: expected outputs=False with a layer and without reduce")
        if self.statistic not in STATISTICS:
            raise ValueError(f"{NAME}: expected statistic one of {STATISTICS}, got {self.statistic!r}")
        if self.units is not None and self.layer is None:
            raise ValueError(f"{NAME}: expected units with a layer, got layer=None")
        if self.reduce is not None and not callable(self.reduce):
            raise TypeError(f"{NAME}: expected reduce a function, got {type(self.reduce).__name__}")

    def watched(self, recording: Recording) -> tuple[Watched, ...]:
        """The step that is watched."""
        if self.layer is None:
            return ()
        name = recording.resolve(self.layer)
        if self.units is None:
            return (Watched(name, "strongest", self.statistic),)
        if isinstance(self.units, str):
            if self.units != "all":
                raise ValueError(f"{NAME}: expected units None, 'all' or maps, got {self.units!r}")
            return (Watched(name, None, self.statistic),)
        units = torch.as_tensor([self.units] if isinstance(self.units, int) else self.units)
        count = channels_of(recording, name)
        if not is_int_tensor(units) or units.dim() != 1 or not len(units):
            raise TypeError(f"{NAME}: expected units None, 'all' or a list of maps, got {self.units!r}")
        if bool(((units < 0) | (units >= count)).any()):
            raise ValueError(f"{NAME}: expected units from 0 to {count - 1}, got {units.tolist()}")
        return (Watched(name, units.long(), self.statistic),)


class Sweeper:
    """A network made ready for sweeps: recorded and planned once for each size of image.

    With ``replay``, and on a GPU, sweeps of further images of a size are replays of one CUDA graph: the clean pass and
    all chunks, whose ragged layouts stay as they are. (Chunks padded to one size would compute more, and one graph for
    each chunk would be launched more often.) All graphs share their memory.
    """

    def __init__(
        self,
        model: nn.Module | Callable[[Tensor], Any],
        where: Where,
        wanted: Wanted | None = None,
        precision: torch.dtype | str | None = None,
        backend: str | None = None,
        replay: bool = False,
    ) -> None:
        self.precision = None if precision is None else dtype_of(precision)
        if self.precision is not None and isinstance(model, nn.Module):
            model = copy.deepcopy(model).to(self.precision)
        self.model, self.backend, self.look = model, backend, Look.of(model)
        self.where, self.wanted = where, wanted or Wanted()
        if not callable(model):
            raise TypeError(f"{NAME}: expected model an nn.Module or a function, got {type(model).__name__}")
        if isinstance(model, nn.Module):
            refuse_training(model)
        elif self.wanted.layer is not None:
            raise ValueError(
                f"{NAME}: expected layer=None for a model that is not an nn.Module, got {self.wanted.layer!r}"
            )
        self.warned = False
        self.made: dict[Any, Any] = {}  # filters that all sizes of images share
        self.runs: dict[Pair, WindowSweep | WholeSweep] = {}  # by size of image, the latest last
        self.replay = replay
        self.replays: dict[Pair, Replayed] = {}  # of some of these
        self.pool: Any = None

    @undisturbed()
    def sweep(
        self,
        images: Tensor,
        fill: Any,
        targets: Any = None,
        batch_size: int | None = None,
        memory: int | None = None,
        progress: bool = False,
    ) -> OcclusionMap | OcclusionFills:
        """The map of a batch of images; arguments as :func:`occlusion_sweep`'s."""
        if self.precision is not None and isinstance(images, Tensor) and images.is_floating_point():
            images = images.to(self.precision)
            say_if_no_faster(NAME, self.precision, images.device)
        check_images(NAME, images, self.model if isinstance(self.model, nn.Module) else None)
        images = images.detach()
        check_finite(NAME, images)
        for name, number in (("batch_size", batch_size), ("memory", memory)):
            check_positive(NAME, name, number)
        regions = self.where.regions
        if regions is not None and self.where.is_of_each:
            if len(regions) != len(images):
                raise ValueError(f"{NAME}: expected regions of {len(images)} images, got {len(regions)}")
            maps = [
                self._sweep(images[n : n + 1], of_image(fill, n, images), targets, batch_size, memory, progress, n)
                for n in range(len(images))
            ]
            return joined(maps)
        return self._sweep(images, fill, targets, batch_size, memory, progress)

    def _sweep(
        self,
        images: Tensor,
        fill: Any,
        targets: Any,
        batch_size: int | None,
        memory: int | None,
        progress: bool,
        number: int = 0,
    ) -> Any:
        changes = self.where.at((images.shape[2], images.shape[3]), number)
        if targets is not None and not self.wanted.outputs:
            raise ValueError(f"{NAME}: expected targets=None with outputs=False, got {targets!r}")
        fills = several(fill)
        covers = [cover_of(each, images, changes).to(images) for each in (fills or [fill])]
        wanted = None if targets is None else targets_of(targets, images.device)
        run = self._run(images, changes, covers[0])
        count = len(covers) * len(images) * changes.boxes[..., 0].numel()
        with progress_bar(count, "positions", progress) as advance:
            replayed = self._replayed(run, images, batch_size, memory)
            if replayed is not None:
                found = replayed(images, covers, wanted, batch_size, memory)
                advance(count)
            else:
                clean = run.clean(images)
                found = [
                    run(clean, cover, targets=wanted, batch_size=batch_size, memory=memory, advance=advance)
                    for cover in covers
                ]
        maps = [self._map(changes, wanted, each) for each in found]
        return maps[0] if fills is None else OcclusionFills(tuple(maps), tuple(describe(each) for each in fills))

    def _replayed(
        self, run: WindowSweep | WholeSweep, images: Tensor, batch_size: int | None, memory: int | None
    ) -> Replayed | None:
        """What sweeps images of this size by replaying a graph, where that can be."""
        if not self.replay or self.where.is_of_each or not capturable(images.device):
            return None
        if not isinstance(run, WindowSweep) or not run.repeats(images, batch_size, memory):
            return None
        size = (images.shape[2], images.shape[3])
        if size not in self.replays:
            self.pool = self.pool or new_pool()
            self.replays[size] = Replayed("occlusion_sweeps", partial(_swept, run), self.pool)
        return self.replays[size]

    def _map(self, changes: Changes, targets: Tensor | None, found: SweepValues) -> OcclusionMap:
        activity = found.activities[0] if found.activities else None
        return OcclusionMap(
            changes.boxes[..., :2],
            changes.window,
            found.outputs if self.wanted.outputs else (),
            found.clean if self.wanted.outputs else (),
            targets,
            None if activity is None else activity.units,
            None if activity is None else activity.activity,
            self.look,
            None if activity is None else activity.clean,
            changes.boxes if self.where.window is None else None,
            found.batch_size,
        )

    def _run(self, images: Tensor, changes: Changes, cover: Cover) -> WindowSweep | WholeSweep:
        """The sweep of images of one size; those of the latest few sizes are kept, so that a data set of images of many
        sizes takes no more memory."""
        if self.where.is_of_each:
            return self._new_run(images, changes, cover)
        size = (images.shape[2], images.shape[3])
        run = self.runs.pop(size, None) or self._new_run(images, changes, cover)
        self.runs[size] = run
        if len(self.runs) > SIZES:
            oldest = next(iter(self.runs))
            del self.runs[oldest]
            self.replays.pop(oldest, None)
        return run

    def _new_run(self, images: Tensor, changes: Changes, cover: Cover) -> WindowSweep | WholeSweep:
        boxes, reduce = changes.boxes, self.wanted.reduce
        if not isinstance(self.model, nn.Module):
            return WholeSweep(self.model, boxes, False, reduce)
        try:
            recording = recording_for(NAME, self.model, images)
        except UnrecordableError as error:
            if self.wanted.layer is not None:
                raise
            _refuse_what_fails(self.model, images)
            self._warn(error.reason)
            return WholeSweep(self.model, boxes, _mixes(self.model, images), reduce)
        watched = self.wanted.watched(recording)
        verdict = examine(recording, images, boxes, cover)
        reason = verdict.mixes or verdict.differs
        if reason:
            if self.wanted.layer is not None:
                raise ValueError(f"{NAME}: expected layer=None for a model of which {reason}")
            self._warn(reason)
            return WholeSweep(self.model, boxes, bool(verdict.mixes) or _mixes(self.model, images), reduce)
        return WindowSweep(
            recording, boxes, watched, reduce=reduce, outputs=self.wanted.outputs, backend=self.backend, made=self.made
        )

    def _warn(self, reason: str) -> None:
        if not self.warned:
            name = type(self.model).__name__
            warn_user(NAME, f"{name} runs on whole images: {reason}", RuntimeWarning)
        self.warned = True


def _swept(
    run: WindowSweep,
    images: Tensor,
    covers: Sequence[Cover],
    targets: Tensor | None,
    batch_size: int | None,
    memory: int | None,
    *,
    again: bool,
) -> list[SweepValues]:
    """A sweep with each of some covers, as :class:`~zfkernels.replay.Replayed` calls it."""
    clean = run.clean(images)
    return [run(clean, cover, targets=targets, batch_size=batch_size, memory=memory, again=again) for cover in covers]


def channels_of(recording: Recording, name: str) -> int:
    """How many maps (or units) a step has."""
    kind = Program(recording, {name}, fold=False).kinds[name]
    return kind.maps.channels if kind.maps is not None else math.prod(kind.sizes or (1,))


def examine(recording: Recording, images: Tensor, boxes: Tensor, cover: Cover) -> Verdict:
    """Whether the recording is what the model computes, found out on the first image and an occluded one.

    Args:
        recording: of the model.
        images: [N, C, H, W].
        boxes: int [..., 4], what is hidden; the one in the middle is tried.
        cover: what is shown.
    """
    if not len(images):
        return Verdict()
    boxes = boxes.reshape(-1, 4)
    middle = torch.tensor([len(boxes) // 2])
    image = torch.zeros(1, dtype=torch.int64, device=images.device)
    return check(recording, images[:1], hide(images, image, middle.to(images.device), boxes[middle], cover))


def _refuse_what_fails(model: nn.Module, images: Tensor) -> None:
    """Raises ValueError for images that the model itself does not take."""
    try:
        run_model(model, images[:1])
    except Exception as error:
        name, shape = type(model).__name__, tuple(images.shape)
        reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        raise ValueError(f"{NAME}: expected images that {name} takes, got shape {shape} ({reason})") from error


def _mixes(model: nn.Module, images: Tensor) -> bool:
    """Whether the output of a model for an image depends on the others in its batch."""
    return batch_matters(model, images[:1], images[:1].flip(3)) if len(images) else False
