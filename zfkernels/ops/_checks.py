"""Argument checks that the ops share; every message reads ``<op>: expected <argument> <what>, got <value>``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from zfkernels.windows import Boxes, Pair, Sliding, Windows, outputs_touched, place


FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def pair(op: str, argument: str, value: Any, *, minimum: int) -> Pair:
    """An int, or a sequence of one or two, as ``(rows, columns)``."""
    items = tuple(value) if isinstance(value, Sequence) else (value,)
    if len(items) == 1:
        items *= 2
    if len(items) != 2 or not all(isinstance(i, (int, torch.SymInt)) and not isinstance(i, bool) for i in items):
        raise TypeError(f"{op}: expected {argument} an int or a pair of ints, got {value!r}")
    if items[0] < minimum or items[1] < minimum:
        raise ValueError(f"{op}: expected {argument} at least {minimum}, got {value!r}")
    return items


def tensor(op: str, argument: str, value: Any, shape: str, dtypes: Sequence[torch.dtype] = FLOATING) -> Tensor:
    """A tensor of one of ``dtypes`` whose number of dimensions is that of ``shape``, such as ``[N, C, H, W]``."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{op}: expected {argument} a tensor {shape}, got {type(value).__name__}")
    if value.dtype not in dtypes:
        names = ", ".join(str(d).removeprefix("torch.") for d in dtypes)
        raise TypeError(f"{op}: expected {argument} of dtype {names}, got {value.dtype}")
    if value.dim() != shape.count(",") + 1:
        raise ValueError(f"{op}: expected {argument} of shape {shape}, got {tuple(value.shape)}")
    return value


def same(op: str, argument: str, value: Tensor, other_argument: str, other: Tensor, *, dtype: bool = True) -> None:
    """``value`` on the device (and of the dtype) of ``other``."""
    if value.device != other.device:
        raise ValueError(f"{op}: expected {argument} on {other_argument}'s device {other.device}, got {value.device}")
    if dtype and value.dtype != other.dtype:
        raise TypeError(f"{op}: expected {argument} of {other_argument}'s dtype {other.dtype}, got {value.dtype}")


def equal(op: str, argument: str, value: Any, expected: Any) -> None:
    """``value == expected``, for shapes and counts."""
    if value != expected:
        raise ValueError(f"{op}: expected {argument} {expected}, got {value}")


def choice(op: str, argument: str, value: Any, choices: Sequence[str]) -> None:
    """``value`` one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{op}: expected {argument} one of {tuple(choices)}, got {value!r}")


def empty_like_format(like: Tensor, size: Sequence[int]) -> Tensor:
    """An empty tensor of ``size`` in the memory format of ``like``: channels last if only that fits, else contiguous."""
    last = not like.is_contiguous() and like.is_contiguous(memory_format=torch.channels_last)
    format = torch.channels_last if last else torch.contiguous_format
    return torch.empty(tuple(size), dtype=like.dtype, device=like.device, memory_format=format)


def empty_channels_last(like: Tensor, size: Sequence[int]) -> Tensor:
    """An empty tensor of ``size``, channels last, as all windows are."""
    return torch.empty(tuple(size), dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def convolution(op: str, weight: Tensor, stride: Any, padding: Any, dilation: Any) -> Sliding:
    """The checked geometry of a convolution with ``weight`` [C_out, C_in / groups, kh, kw]."""
    return Sliding(
        (weight.shape[2], weight.shape[3]),
        pair(op, "stride", stride, minimum=1),
        pair(op, "padding", padding, minimum=0),
        pair(op, "dilation", dilation, minimum=1),
    )


def origins(op: str, argument: str, value: Any, windows: Windows) -> None:
    """int32 [P, 2], one row for each window."""
    tensor(op, argument, value, "[P, 2]", (torch.int32,))
    same(op, argument, value, "the windows", windows.values, dtype=False)
    equal(op, f"{argument}' shape", tuple(value.shape), (windows.values.shape[0], 2))


def windows(op: str, value: Any) -> None:
    """A :class:`Windows` whose fields fit together."""
    if not isinstance(value, Windows):
        raise TypeError(f"{op}: expected windows a zfkernels.Windows, got {type(value).__name__}")
    tensor(op, "windows.values", value.values, "[P, C, h, w]")
    origins(op, "windows.origins", value.origins, value)
    tensor(op, "windows.image", value.image, "[P]", (torch.int64,))
    equal(op, "windows.image's shape", tuple(value.image.shape), (value.values.shape[0],))


def frames(op: str, value: Any, windows: Windows) -> None:
    """Frames [N, C, H, W] around ``windows``."""
    tensor(op, "frames", value, "[N, C, H, W]")
    same(op, "frames", value, "windows", windows.values)
    equal(op, "frames' channels and size", tuple(value.shape[1:]), (windows.values.shape[1], *windows.frame))


def filters(op: str, weight: Any, bias: Any, input_name: str, input: Tensor, groups: int) -> None:
    """weight [C_out, C / groups, kh, kw] and bias [C_out] that fit ``input`` [N, C, H, W]."""
    tensor(op, "weight", weight, "[C_out, C / groups, kh, kw]")
    same(op, "weight", weight, input_name, input)
    if groups < 1 or weight.shape[0] % groups or input.shape[1] % groups:
        raise ValueError(f"{op}: expected groups to divide {input.shape[1]} and {weight.shape[0]} channels, got {groups}")
    equal(op, "weight's second dimension, channels / groups,", weight.shape[1], input.shape[1] // groups)
    if bias is not None:
        tensor(op, "bias", bias, "[C_out]")
        same(op, "bias", bias, input_name, input)
        equal(op, "bias's shape", tuple(bias.shape), (weight.shape[0],))


def layer_output(op: str, layer: Sliding, frame: Pair, ceil_mode: bool = False) -> Pair:
    """Size of the layer's output, at least one cell."""
    size = layer.output_size(frame, ceil_mode)
    if size[0] < 1 or size[1] < 1:
        raise ValueError(f"{op}: expected a frame at least as large as the layer's extent {layer.extent}, got {frame}")
    return size


def output_windows(
    op: str, windows: Windows, layer: Sliding, frame: Pair, out_size: Any, out_origins: Tensor | None
) -> tuple[Tensor, Pair]:
    """Origins and size of the output windows; by default all that the windows can touch."""
    most = layer.most_touched(windows.size)
    size = pair(op, "out_size", out_size or (min(most[0], frame[0]), min(most[1], frame[1])), minimum=1)
    if size[0] > frame[0] or size[1] > frame[1]:
        raise ValueError(f"{op}: expected out_size no larger than the output {frame}, got {size}")
    if out_origins is None:
        lo = windows.origins.long()
        hi = lo + torch.tensor(windows.size, device=lo.device)
        out_origins = place(outputs_touched(Boxes(lo, hi), layer, frame).lo, size, frame)
    origins(op, "out_origins", out_origins, windows)
    return out_origins, size


def fill(op: str, value: Any, images: Tensor) -> Tensor:
    """A fill as a tensor [C] or of the images' shape."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return images.new_full((images.shape[1],), value)
    if not isinstance(value, Tensor):
        raise TypeError(f"{op}: expected fill a number or a tensor, got {type(value).__name__}")
    same(op, "fill", value, "images", images)
    if value.shape != images.shape and value.shape != images.shape[1:2]:
        raise ValueError(
            f"{op}: expected fill a number, [{images.shape[1]}] or {tuple(images.shape)}, got {tuple(value.shape)}"
        )
    return value
