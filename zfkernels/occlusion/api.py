"""Occlusion sweeps: what a network says while a square slides over the image, exactly and incrementally.

Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 4.2, figure 7. The paper states neither the square's size nor
its stride nor its grey.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zfkernels.geometry import Pair
from zfkernels.network import snapshot
from zfkernels.occlusion.collect import Reduce
from zfkernels.occlusion.sweeper import Sweeper, Wanted
from zfkernels.occlusion.where import Where
from zfkernels.progress import progress_bar
from zfkernels.signed import signed


@torch.no_grad()
@signed("occlusion_sweep")
def occlusion_sweep(
    model: nn.Module | Callable[[Tensor], Tensor],
    images: Tensor,  # [N, C, H, W]
    *,
    window: int | Pair | None = None,
    stride: int | Pair | None = None,
    positions: Tensor | None = None,  # int [P, 2]
    windows: Tensor | None = None,  # int [P, 4]
    regions: Tensor | None = None,  # int [H, W] or [N, H, W]
    shape: str | Tensor = "square",
    fill: Any = 0.0,
    layer: str | None = None,
    units: str | int | Sequence[int] | Tensor | None = None,
    statistic: str = "sum",
    targets: int | Sequence[int] | None = None,
    reduce: Reduce | None = None,
    outputs: bool = True,
    batch_size: int | None = None,
    memory: int | None = None,
    precision: torch.dtype | str | None = None,
    progress: bool = False,
    backend: str | None = None,
) -> Any:
    """The model's outputs with a square at each place of a grid, for every image.

    The result is that of running the whole model on every occluded image, up to rounding; only what the square can
    change is computed. A square that hangs over a border is clipped.

    Args:
        model: an nn.Module in eval mode, or any callable of [N, C, H, W] (which runs on whole images). Its output may
            be a tensor, or tensors in tuples, lists, dictionaries and dataclasses. A module that decides by the values
            that it computes runs on whole images too, one whose images depend on each other on one occluded image at
            a time; a warning says why.
        images: [N, C, H, W], in the model's input units, all of them finite. Gradients do not flow into them.
        window: (height, width) of the square, in pixels, no larger than the image.
        stride: of the grid, in pixels; the window's size by default.
        positions: int [P, 2] (row, column), places of the square instead of a grid, also over the top and left border;
            each holds a pixel of the image.
        windows: in place of ``window``: int [P, 4] (top, left, height, width), changes that each have their own size.
        regions: in place of ``window``: int [H, W], or [N, H, W] for each image its own; one change for each label, in
            the labels' order.
        shape: of what is hidden in the window: "square", "disc" (the ellipse that fills it), or bool [h, w].
        fill: what the square shows, in the model's input units: a number, [C] (a tensor or numbers), an image
            [C, H, W], one for each image [N, C, H, W], one for each position [P, C, h, w]; "mean", the mean of each
            channel of each image; "blur", the image itself, fading out towards the middle of the square
            (:func:`~zfkernels.occlusion.fills.fading`); or a function from an image [C, H, W] to a number, [C] or
            [C, H, W] (:class:`zfkernels.occlusion.noise`). Several fills share the clean pass and the plan: a list of
            any of these, [F, C], or [F, N, C, H, W]. The default, 0, is the mean colour that a normalising
            preprocessing subtracts: for ImageNet's a grey.
        layer: also record the activity of this layer's strongest map.
        units: with ``layer``: "all" maps or a list of them in place of the strongest.
        statistic: what of a map: "sum" or "max" over its cells, or its "value" where it is largest on the clean image.
        targets: keep the outputs of these classes, or of this one, only.
        reduce: what is kept of the outputs: a function of a chunk's outputs (of the form of the model's own, [K, ...]
            each), image int64 [K], and the clean outputs, to a tensor [K, ...]. Ready-made for maps, on windows as long
            as there are any: ``zfkernels.occlusion.region_mean``, ``class_area``, ``dice``, ``largest_probability``.
        outputs: False leaves out what comes after ``layer``: the maps are watched, ``outputs`` and ``clean`` are empty.
        batch_size: positions that travel together; None: as many as ``memory`` holds.
        memory: bytes that the values of positions that travel together may take; None: 64 MiB on a CPU, 2 GiB on a GPU.
            The same arguments, backend and threads give the same bytes.
        precision: torch.bfloat16 runs the sweep in that type, faster only on processors that multiply it (AVX512-BF16,
            AMX); None: the images' own.
        progress: show a progress bar.
        backend: variant of the ops, asked for by name; None chooses by device.

    Returns:
        :class:`~zfkernels.results.OcclusionMap`; with several fills :class:`~zfkernels.results.OcclusionFills`.

    Raises:
        TypeError: images or arguments of a wrong type or dtype.
        ValueError: a window larger than the image, a stride of 0, no positions, NaN in the images, a model in training
            mode with dropout or batch normalisation, targets of an output that is not [N, classes], a reducer that
            returns a wrong count, more results than memory, ``memory`` for less than one position.
    """
    where = Where(window, stride, positions, windows, regions, shape)
    sweeper = Sweeper(model, where, Wanted(layer, units, statistic, reduce, outputs), precision, backend)
    return sweeper.sweep(images, fill, targets, batch_size, memory, progress)


@torch.no_grad()
def occlusion_sweeps(
    model: nn.Module | Callable[[Tensor], Tensor],
    dataset: Iterable[Any],
    *,
    window: int | Pair | None = None,
    stride: int | Pair | None = None,
    positions: Tensor | None = None,
    windows: Tensor | None = None,
    regions: Tensor | None = None,
    shape: str | Tensor = "square",
    fill: Any = 0.0,
    layer: str | None = None,
    units: str | int | Sequence[int] | Tensor | None = None,
    statistic: str = "sum",
    targets: int | Sequence[int] | None = None,
    reduce: Reduce | None = None,
    outputs: bool = True,
    batch_size: int | None = None,
    memory: int | None = None,
    precision: torch.dtype | str | None = None,
    start: int = 0,
    progress: bool = False,
    backend: str | None = None,
) -> Iterator[Any]:
    """:func:`occlusion_sweep` over a whole data set: one map for each image, one image in memory at a time.

    The network is recorded, and a sweep planned, once for each size of image. To resume, pass as ``start`` how many
    maps are already there: a data set with ``__getitem__`` and ``__len__`` is entered there, another one is skipped to.

    All maps are of the model as it is when the first one is asked for: a copy of its weights is kept until the last.

    On a GPU the second image of a size is captured in a CUDA graph, which further ones replay; with ``reduce`` or a
    layout of the positions that takes more than an eighth of ``memory`` everything is launched anew for each image, as
    it is inside :func:`zfkernels.replay.without_graphs`.

    Args:
        dataset: yields images [C, H, W], or tuples that start with one.
        start: number of images to leave out at the beginning.
        progress: show a progress bar of images.

    The other arguments are :func:`occlusion_sweep`'s.

    Yields:
        :class:`~zfkernels.results.OcclusionMap` of one image each, in the data set's order.
    """
    if not isinstance(start, int) or start < 0:
        raise ValueError(f"occlusion_sweeps: expected start a number of images, got {start!r}")
    if isinstance(model, nn.Module):
        model = snapshot(model)
    with signed("occlusion_sweeps"):
        where = Where(window, stride, positions, windows, regions, shape)
        sweeper = Sweeper(
            model, where, Wanted(layer, units, statistic, reduce, outputs), precision, backend, replay=True
        )
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
            with signed("occlusion_sweeps"):
                found = sweeper.sweep(image[None], fill, targets, batch_size, memory)
            yield found
            advance(1)
