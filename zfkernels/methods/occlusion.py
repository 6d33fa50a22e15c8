"""Occlusion sweeps: what a network says while a square slides over the image, exactly and incrementally.

Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 4.2, figure 7. The paper states neither the square's size nor
its stride nor its grey.
"""

from __future__ import annotations

import copy
import itertools
import numbers
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zfkernels.methods.checks import check_images, is_int_tensor, trace_for
from zfkernels.methods.incremental import Incremental, Swept, check_targets
from zfkernels.methods.progress import progress_bar
from zfkernels.methods.whole_images import Advance, dense_sweep
from zfkernels.network import Ref, Verdict, batch_matters, check, refuse_training, tensors_of, without_autocast
from zfkernels.network.tree import leaves, map_leaves
from zfkernels.occlusion import WindowSweep
from zfkernels.occlusion.precision import say_if_no_faster
from zfkernels.ops import requested_backend
from zfkernels.ops.occluded_conv2d.reference import occluded_crop
from zfkernels.results import Look, OcclusionMap
from zfkernels.trace import Trace, UnrecordableError, fold
from zfkernels.windows import Pair

NAME = "occlusion_sweep"
DENSE_BATCH = 32
SIZES = 4  # sizes of images whose plans are kept


def grid(image: Pair, window: Pair, stride: Pair) -> Tensor:
    """Positions of the square, int64 [rows, cols, 2]: rows ``i * stride`` for i = 0 … ceil((H - h) / stride)."""
    axes = [torch.arange(-(-(image[a] - window[a]) // stride[a]) + 1) * stride[a] for a in (0, 1)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)


@torch.no_grad()
def occlusion_sweep(
    model: nn.Module | Callable[[Tensor], Tensor],
    images: Tensor,  # [N, C, H, W]
    *,
    window: int | Pair,
    stride: int | Pair | None = None,
    positions: Tensor | None = None,  # int [P, 2]
    fill: float | str | Sequence[float] | Tensor = 0.0,
    layer: str | None = None,
    targets: int | Sequence[int] | None = None,
    batch_size: int | None = None,
    precision: torch.dtype | str | None = None,
    progress: bool = False,
    backend: str | None = None,
) -> OcclusionMap:
    """The model's outputs with a square at each place of a grid, for every image.

    The result is that of running the whole model on every occluded image, up to floating-point order; only what the
    square can change is computed. A square that hangs over the bottom or right border is clipped.

    Args:
        model: an nn.Module in eval mode, or any callable of [N, C, H, W] (which runs on whole images). Its output may
            be a tensor, or tensors in tuples, lists, dictionaries and dataclasses. A module that decides by the values
            that it computes runs on whole images too, one whose images depend on each other on one occluded image at
            a time; a warning says why.
        images: [N, C, H, W], in the model's input units, all of them finite. Gradients do not flow into them.
        window: (height, width) of the square, in pixels, no larger than the image.
        stride: of the grid, in pixels; the window's size by default.
        positions: int [P, 2] (row, column), places of the square instead of a grid; none outside the image.
        fill: what the square shows, in the model's input units: a number, [C] (a tensor or numbers), an image
            [C, H, W], one for each image [N, C, H, W], or "mean", the mean of each channel of each image. The default,
            0, is the mean colour that a normalising preprocessing subtracts: for ImageNet's a grey.
        layer: also record the activity of this layer's strongest map.
        targets: keep the outputs of these classes, or of this one, only.
        batch_size: windows that travel together; None chooses by the free memory.
        precision: torch.bfloat16 runs the sweep in that type, faster only on processors that multiply it (AVX512-BF16,
            AMX); None: the images' own.
        progress: show a progress bar.
        backend: variant of the ops, asked for by name; None chooses by device.

    Returns:
        :class:`OcclusionMap`.

    Raises:
        TypeError: images or arguments of a wrong type or dtype.
        ValueError: a window larger than the image, a stride of 0, no positions, NaN in the images, a model in training
            mode with dropout or batch normalisation, targets of an output that is not [N, classes].
    """
    sweeper = Sweeper(model, window, stride, positions, layer, precision, backend)
    return sweeper.sweep(images, fill, targets, batch_size, progress)


@torch.no_grad()
def occlusion_sweeps(
    model: nn.Module | Callable[[Tensor], Tensor],
    dataset: Iterable[Any],
    *,
    window: int | Pair,
    stride: int | Pair | None = None,
    positions: Tensor | None = None,
    fill: float | str | Sequence[float] | Tensor = 0.0,
    layer: str | None = None,
    targets: int | Sequence[int] | None = None,
    batch_size: int | None = None,
    precision: torch.dtype | str | None = None,
    start: int = 0,
    progress: bool = False,
    backend: str | None = None,
) -> Iterator[OcclusionMap]:
    """:func:`occlusion_sweep` over a whole data set: one map for each image, one image in memory at a time.

    The network is recorded, and a sweep planned, once for each size of image. To resume, pass as ``start`` how many
    maps are already there: a data set with ``__getitem__`` and ``__len__`` is entered there, another one is skipped to.

    Args:
        dataset: yields images [C, H, W], or tuples that start with one.
        start: number of images to leave out at the beginning.
        progress: show a progress bar of images.

    The other arguments are :func:`occlusion_sweep`'s.

    Yields:
        :class:`OcclusionMap` of one image each, in the data set's order.
    """
    if not isinstance(start, int) or start < 0:
        raise ValueError(f"occlusion_sweeps: expected start a number of images, got {start!r}")
    sweeper = Sweeper(model, window, stride, positions, layer, precision, backend)
    indexed = isinstance(dataset, Sequence) or (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__"))
    if indexed:
        items: Iterator[Any] = (dataset[i] for i in range(start, len(dataset)))  # type: ignore[index,arg-type]
    else:
        items = itertools.islice(iter(dataset), start, None)
    total = max(0, len(dataset) - start) if indexed else None  # type: ignore[arg-type]
    with progress_bar(total, "images", progress) as advance:
        for item in items:
            image = item[0] if isinstance(item, (tuple, list)) and item else item
            if not isinstance(image, Tensor):
                raise TypeError(
                    f"occlusion_sweeps: expected dataset of images [C, H, W] or tuples that start with one, got "
                    f"{type(image).__name__}"
                )
            yield sweeper.sweep(image[None], fill, targets, batch_size)
            advance(1)


class Sweeper:
    """A network made ready for sweeps: recorded and planned once for each size of image."""

    def __init__(
        self,
        model: nn.Module | Callable[[Tensor], Tensor],
        window: int | Pair,
        stride: int | Pair | None,
        positions: Tensor | None,
        layer: str | None,
        precision: torch.dtype | str | None,
        backend: str | None,
    ) -> None:
        self.precision = None if precision is None else _dtype(precision)
        if self.precision is not None and isinstance(model, nn.Module):
            model = copy.deepcopy(model).to(self.precision)
        self.model, self.backend, self.look = model, backend, Look.of(model)
        self.window = to_pair(NAME, "window", window)
        self.stride = self.window if stride is None else to_pair(NAME, "stride", stride)
        if positions is not None and stride is not None:
            raise ValueError(f"{NAME}: expected stride or positions, got both")
        self.positions = positions
        if not callable(model):
            raise TypeError(f"{NAME}: expected model an nn.Module or a function, got {type(model).__name__}")
        if isinstance(model, nn.Module):
            refuse_training(model)
        elif layer is not None:
            raise ValueError(f"{NAME}: expected layer=None for a model that is not an nn.Module, got {layer!r}")
        self.layer, self.warned = layer, False
        self.made: dict[Any, Any] = {}  # filters that all sizes of images share
        self.runs: dict[Pair, _Windowed | _Grouped | _Whole] = {}  # by size of image, the latest last

    @without_autocast()
    def sweep(
        self, images: Tensor, fill: Any, targets: Any, batch_size: int | None, progress: bool = False
    ) -> OcclusionMap:
        """The map of a batch of images; arguments as :func:`occlusion_sweep`'s."""
        if self.precision is not None and isinstance(images, Tensor) and images.is_floating_point():
            images = images.to(self.precision)
            say_if_no_faster(NAME, self.precision, images.device)
        check_images(NAME, images, self.model if isinstance(self.model, nn.Module) else None)
        images = images.detach()
        if not images.isfinite().all():
            raise ValueError(f"{NAME}: expected images of finite values, got NaN or infinity")
        size = (images.shape[2], images.shape[3])
        if self.window[0] > size[0] or self.window[1] > size[1]:
            raise ValueError(f"{NAME}: expected window no larger than the images {size}, got {self.window}")
        if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
            raise ValueError(f"{NAME}: expected batch_size a positive int or None, got {batch_size!r}")
        places = grid(size, self.window, self.stride) if self.positions is None else _positions(self.positions, size)
        shown = _fill(fill, images)
        flat = places.reshape(-1, 2)
        wanted = None if targets is None else _targets(targets, images.device)
        run = self._run(images, size, flat, shown)
        with progress_bar(len(images) * len(flat), "positions", progress) as advance:
            form, swept = run(images, shown, wanted, batch_size, advance)
        shape = places.shape[:-1]
        watched = None if swept.activity is None else swept.activity.unflatten(1, shape)
        outputs = form([part.unflatten(1, shape) for part in swept.outputs])
        return OcclusionMap(places, self.window, outputs, form(swept.clean), wanted, swept.channel, watched, self.look)

    def _run(self, images: Tensor, size: Pair, positions: Tensor, fill: Tensor) -> _Windowed | _Grouped | _Whole:
        """The sweep of images of one size; those of the latest few sizes are kept, so that a data set of images of many
        sizes takes no more memory."""
        run = self.runs.pop(size, None) or self._new_run(images, size, positions, fill)
        self.runs[size] = run
        if len(self.runs) > SIZES:
            del self.runs[next(iter(self.runs))]
        return run

    def _new_run(self, images: Tensor, size: Pair, positions: Tensor, fill: Tensor) -> _Windowed | _Grouped | _Whole:
        if not isinstance(self.model, nn.Module):
            return _Whole(self.model, positions, self.window, False)
        try:
            trace = trace_for(NAME, self.model, images)
        except UnrecordableError as error:
            if self.layer is not None:
                raise
            self._warn(error.reason)
            return _Whole(self.model, positions, self.window, _mixes(self.model, images))
        watched = None if self.layer is None else trace.resolve(self.layer)
        verdict = examine(trace, images, positions, self.window, fill)
        if verdict.mixes or verdict.differs:
            if self.layer is not None:
                raise ValueError(f"{NAME}: expected layer=None for a model of which {verdict.mixes or verdict.differs}")
            self._warn(verdict.mixes or verdict.differs)
            return _Whole(self.model, positions, self.window, bool(verdict.mixes) or _mixes(self.model, images))
        if images.device.type != "cpu" or requested_backend(self.backend) in ("triton", "cuda"):
            # These have kernels for windows of one size only: positions are grouped.
            folded = fold(trace, {watched} if watched else (), self.made)
            return _Grouped(Incremental(folded, size, positions, self.window, watched, self.backend))
        boxes = torch.cat([positions, torch.tensor(self.window).expand(len(positions), 2)], 1)
        return _Windowed(WindowSweep(trace.recording, boxes, watched, self.backend, made=self.made))

    def _warn(self, reason: str) -> None:
        if not self.warned:
            name = type(self.model).__name__
            warnings.warn(f"{NAME}: {name} runs on whole images: {reason}", RuntimeWarning, stacklevel=5)
        self.warned = True


class _Grouped:
    """Sweeps on windows of one size at a time, and the form of the model's output."""

    def __init__(self, run: Incremental) -> None:
        self.run = run

    def __call__(
        self, images: Tensor, fill: Tensor, targets: Tensor | None, batch_size: int | None, advance: Advance
    ) -> tuple[Callable[[Any], Any], Swept]:
        recording = self.run.trace.recording

        def form(parts: Any) -> Any:
            return recording.rebuild(dict(zip(recording.output_names, parts, strict=True)))

        return form, self.run(images, fill, targets, batch_size, advance)


class _Windowed:
    """Sweeps on windows that each have their own size, and the form of the model's output."""

    def __init__(self, run: WindowSweep) -> None:
        self.run = run

    def __call__(
        self, images: Tensor, fill: Tensor, targets: Tensor | None, batch_size: int | None, advance: Advance
    ) -> tuple[Callable[[Any], Any], Swept]:
        recording = self.run.program.recording
        swept = self.run(images, fill, targets=targets, batch_size=batch_size, advance=advance)

        def form(parts: Any) -> Any:
            return recording.rebuild(dict(zip(recording.output_names, parts, strict=True)))

        def parts(value: Any) -> tuple[Tensor, ...]:
            refs = zip(leaves(recording.outputs), leaves(value), strict=True)
            named = {ref.name: leaf for ref, leaf in refs if isinstance(ref, Ref)}
            return tuple(named[name] for name in recording.output_names)

        return form, Swept(parts(swept.clean), parts(swept.outputs), swept.channel, swept.activity)


class _Whole:
    """Sweeps on whole images, ``alone`` if each has to be run by itself."""

    def __init__(self, model: Any, positions: Tensor, window: Pair, alone: bool) -> None:
        self.model, self.positions, self.window, self.alone = model, positions, window, alone

    def __call__(
        self, images: Tensor, fill: Tensor, targets: Tensor | None, batch_size: int | None, advance: Advance
    ) -> tuple[Callable[[Any], Any], Swept]:
        batch = batch_size or DENSE_BATCH
        clean, outputs = dense_sweep(self.model, images, self.positions, self.window, fill, batch, self.alone, advance)
        check_targets(tuple(tensors_of(clean)), targets)
        found = tensors_of(outputs)

        def form(parts: Any) -> Any:
            rest = iter(parts)
            return map_leaves(lambda leaf: next(rest) if isinstance(leaf, Tensor) else leaf, clean)

        kept = found if targets is None else [part[..., targets] for part in found]
        return form, Swept(tuple(tensors_of(clean)), tuple(kept), None, None)


def examine(trace: Trace, images: Tensor, positions: Tensor, window: Pair, fill: Tensor) -> Verdict:
    """Whether the recording is what the model computes, found out on the first image and its first occluded one."""
    if not len(images):
        return Verdict()
    first, place = images[:1], positions[len(positions) // 2][None].to(images.device, torch.int32)
    shown = fill if fill.dim() == 1 else fill[:1]
    origin = torch.zeros_like(place)
    image = torch.zeros(1, dtype=torch.int64, device=images.device)
    hidden = occluded_crop(first, place, image, shown, window, origin, (images.shape[2], images.shape[3]))
    return check(trace.recording, first, hidden.contiguous())


def _mixes(model: nn.Module, images: Tensor) -> bool:
    """Whether the output of a model for an image depends on the others in its batch."""
    return batch_matters(model, images[:1], images[:1].flip(3)) if len(images) else False


def to_pair(name: str, argument: str, value: Any) -> Pair:
    """An int or a pair of ints of at least 1, as (rows, columns)."""
    pair = (value, value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not all(isinstance(v, int) for v in pair):
        raise TypeError(f"{name}: expected {argument} an int or a pair of ints, got {value!r}")
    if min(pair) < 1:
        raise ValueError(f"{name}: expected {argument} at least 1, got {value!r}")
    return pair[0], pair[1]


def _positions(positions: Any, size: Pair) -> Tensor:
    if not is_int_tensor(positions):
        got = positions.dtype if isinstance(positions, Tensor) else type(positions).__name__
        raise TypeError(f"{NAME}: expected positions an int tensor [P, 2], got {got}")
    if positions.dim() != 2 or positions.shape[1] != 2 or len(positions) == 0:
        raise ValueError(f"{NAME}: expected positions of shape [P, 2], at least one, got {tuple(positions.shape)}")
    outside = (positions < 0).any() or (positions >= torch.tensor(size, device=positions.device)).any()
    if outside:
        raise ValueError(f"{NAME}: expected positions inside the images {size}, got some outside")
    return positions.to("cpu", torch.int64)


def _fill(fill: Any, images: Tensor) -> Tensor:
    if isinstance(fill, str):
        if fill != "mean":
            raise ValueError(f"{NAME}: expected fill a number, a tensor or 'mean', got {fill!r}")
        return images.mean((2, 3), keepdim=True).expand_as(images)
    if isinstance(fill, (int, float)) and not isinstance(fill, bool):
        return images.new_full((images.shape[1],), fill)
    if isinstance(fill, (tuple, list)) and all(isinstance(value, numbers.Real) for value in fill):
        fill = torch.tensor(fill)
    if not isinstance(fill, Tensor):
        raise TypeError(f"{NAME}: expected fill a number, a tensor or 'mean', got {type(fill).__name__}")
    if fill.shape not in (images.shape[1:2], images.shape[1:], (1, *images.shape[1:]), images.shape):
        raise ValueError(
            f"{NAME}: expected fill of shape [{images.shape[1]}], {tuple(images.shape[1:])} or {tuple(images.shape)}, "
            f"got {tuple(fill.shape)}"
        )
    fill = fill.detach().to(images)
    return fill if fill.dim() == 1 else fill.expand_as(images)


def _targets(targets: Any, device: torch.device) -> Tensor:
    classes = targets.tolist() if isinstance(targets, Tensor) else targets
    classes = classes if isinstance(classes, (list, tuple, range)) else [classes]
    if not all(isinstance(target, int) and not isinstance(target, bool) for target in classes):
        raise TypeError(f"{NAME}: expected targets a class or a list of classes, got {targets!r}")
    return torch.tensor(classes, dtype=torch.int64, device=device)


def _dtype(precision: torch.dtype | str) -> torch.dtype:
    dtype = getattr(torch, precision, None) if isinstance(precision, str) else precision
    if dtype not in (torch.bfloat16, torch.float16, torch.float32, torch.float64):
        raise ValueError(f"{NAME}: expected precision None or a floating dtype such as 'bfloat16', got {precision!r}")
    return dtype
