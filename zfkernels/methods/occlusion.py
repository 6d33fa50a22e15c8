"""Occlusion sweeps: what a network says while a square slides over the image, exactly and incrementally.

Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 4.2, figure 7. The paper states neither the square's size nor
its stride nor its grey.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zfkernels.methods.checks import check_images
from zfkernels.methods.incremental import Incremental, dense_sweep
from zfkernels.methods.progress import progress_bar
from zfkernels.results import OcclusionMap
from zfkernels.trace import UntraceableError, trace_model
from zfkernels.windows import Pair


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
    fill: float | str | Tensor = 0.0,
    layer: str | None = None,
    targets: Sequence[int] | None = None,
    batch_size: int | None = None,
    precision: torch.dtype | str | None = None,
    progress: bool = False,
    backend: str | None = None,
) -> OcclusionMap:
    """The model's outputs with a square at each place of a grid, for every image.

    The result is that of running the whole model on every occluded image, up to floating-point order; only what the
    square can change is computed. A square that hangs over the bottom or right border is clipped.

    Args:
        model: an nn.Module in eval mode, or any callable [N, C, H, W] → [N, classes] (which runs on whole images).
        images: [N, C, H, W], in the model's input units.
        window: (height, width) of the square, in pixels, no larger than the image.
        stride: of the grid, in pixels; the window's size by default.
        positions: int [P, 2] (row, column), places of the square instead of a grid; none outside the image.
        fill: what the square shows, in the model's input units: a number, [C], a tensor of the images' shape, or
            "mean", the mean of each channel of each image.
        layer: also record the activity of this layer's strongest map.
        targets: keep these classes' outputs only.
        batch_size: windows that travel together; None chooses by the free memory.
        precision: torch.bfloat16 runs the sweep in that type; None: the images' own.
        progress: show a progress bar.
        backend: variant of the ops, asked for by name; None chooses by device.

    Returns:
        :class:`OcclusionMap`.

    Raises:
        TypeError: images or arguments of a wrong type or dtype.
        ValueError: a window larger than the image, a stride of 0, no positions, a model in training mode with dropout
            or batch normalisation, a model whose output is not [N, classes].
    """
    name = "occlusion_sweep"
    try:
        trace = trace_model(model) if isinstance(model, nn.Module) else None
    except UntraceableError:
        if layer is not None:
            raise
        trace = None
    check_images(name, images, trace)
    images = images.detach()
    size = (images.shape[2], images.shape[3])
    square = _pair(name, "window", window)
    if square[0] > size[0] or square[1] > size[1]:
        raise ValueError(f"{name}: expected window no larger than the images {size}, got {square}")
    if positions is None:
        places = grid(size, square, square if stride is None else _pair(name, "stride", stride))
    else:
        places = _positions(name, positions, size)
        if stride is not None:
            raise ValueError(f"{name}: expected stride or positions, got both")
    shown = _fill(name, fill, images)
    if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
        raise ValueError(f"{name}: expected batch_size a positive int or None, got {batch_size!r}")
    if layer is not None and trace is None:
        raise ValueError(f"{name}: expected layer=None for a model that is not an nn.Module, got {layer!r}")
    flat = places.reshape(-1, 2)
    wanted = None if targets is None else torch.as_tensor(list(targets), dtype=torch.int64, device=images.device)
    dtype = _dtype(name, precision, images)
    with progress_bar(len(images) * len(flat), "positions", progress) as advance:
        if trace is None:
            clean, outputs = dense_sweep(model, images, flat, square, shown, wanted, batch_size or 32, advance)
            channel = activity = None
        else:
            run = Incremental(trace, size, flat, square, layer, backend)
            clean, outputs, channel, activity = run(images.to(dtype), shown.to(dtype), wanted, batch_size, advance)
    shape = (len(images), *places.shape[:-1])
    return OcclusionMap(
        places, square, outputs.view(*shape, -1), clean, wanted, channel,
        None if activity is None else activity.view(shape),
    )  # fmt: skip


def _pair(name: str, argument: str, value: Any) -> Pair:
    pair = (value, value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not all(isinstance(v, int) for v in pair):
        raise TypeError(f"{name}: expected {argument} an int or a pair of ints, got {value!r}")
    if min(pair) < 1:
        raise ValueError(f"{name}: expected {argument} at least 1, got {value!r}")
    return pair[0], pair[1]


def _positions(name: str, positions: Any, size: Pair) -> Tensor:
    if not isinstance(positions, Tensor) or positions.is_floating_point():
        raise TypeError(f"{name}: expected positions an int tensor [P, 2], got {type(positions).__name__}")
    if positions.dim() != 2 or positions.shape[1] != 2 or len(positions) == 0:
        raise ValueError(f"{name}: expected positions of shape [P, 2], at least one, got {tuple(positions.shape)}")
    outside = (positions < 0).any() or (positions >= torch.tensor(size, device=positions.device)).any()
    if outside:
        raise ValueError(f"{name}: expected positions inside the images {size}, got some outside")
    return positions.to("cpu", torch.int64)


def _fill(name: str, fill: Any, images: Tensor) -> Tensor:
    if isinstance(fill, str):
        if fill != "mean":
            raise ValueError(f"{name}: expected fill a number, a tensor or 'mean', got {fill!r}")
        return images.mean((2, 3), keepdim=True).expand_as(images)
    if isinstance(fill, (int, float)) and not isinstance(fill, bool):
        return images.new_full((images.shape[1],), fill)
    if not isinstance(fill, Tensor):
        raise TypeError(f"{name}: expected fill a number, a tensor or 'mean', got {type(fill).__name__}")
    if fill.shape not in (images.shape, images.shape[1:2]):
        raise ValueError(
            f"{name}: expected fill of shape [{images.shape[1]}] or {tuple(images.shape)}, got {tuple(fill.shape)}"
        )
    return fill.detach().to(images)


def _dtype(name: str, precision: Any, images: Tensor) -> torch.dtype:
    if precision is None:
        return images.dtype
    dtype = getattr(torch, precision, None) if isinstance(precision, str) else precision
    if dtype not in (torch.bfloat16, torch.float16, torch.float32, torch.float64):
        raise ValueError(f"{name}: expected precision None or a floating dtype such as 'bfloat16', got {precision!r}")
    return dtype
