"""The ops on windows as scalar loops over float64; see oracle.py, from which the dense layers come.

Each takes the arguments of the public function and returns the dense result: for windows, of the whole frame of each.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from support import oracle
from zfkernels.windows import Layout, Windows


def cells(windows: Windows, p: int) -> dict[tuple[int, int], list[Any]]:
    """The values of each cell of window ``p`` by its place in the layer."""
    top, left, height, width = windows.boxes[p].tolist()
    first = int(windows.offsets[p])
    rows = windows.values[first : first + height * width].tolist()
    return {(top + i // width, left + i % width): values for i, values in enumerate(rows)}


def pasted(windows: Windows, frames: Tensor | None) -> Tensor:
    """The whole layer of each window."""
    whole = []
    for p in range(len(windows)):
        if frames is None:
            copy = oracle.zeros(windows.values.shape[1], *windows.frame)
        else:
            copy = frames[int(windows.image[p])].tolist()
        for (y, x), values in cells(windows, p).items():
            for c, value in enumerate(values):
                copy[c][y][x] = value
        whole.append(copy)
    return oracle.as_tensor(whole, len(whole), windows.values.shape[1], *windows.frame)


def crops(dense: Tensor, result: Windows) -> Tensor:
    """The cells of each dense result that the windows of ``result`` show."""
    found = []
    for p, (top, left, height, width) in enumerate(result.boxes.tolist()):
        found += [dense[p, :, y, x] for y in range(top, top + height) for x in range(left, left + width)]
    return torch.stack(found) if found else dense.new_zeros(result.values.shape)


def window_conv2d(
    windows: Windows, frames: Tensor | None, weight: Tensor, bias: Tensor | None, groups: int, stride: Any = 1,
    padding: Any = 0, dilation: Any = 1, relu: bool = False, out_boxes: Any = None,
) -> Tensor:  # fmt: skip
    return oracle.conv2d(pasted(windows, frames), weight, bias, stride, padding, dilation, groups, relu)


def window_max_pool2d(
    windows: Windows, frames: Tensor | None, kernel_size: Any, stride: Any, padding: Any, dilation: Any,
    ceil_mode: bool, out_boxes: Any = None,
) -> Tensor:  # fmt: skip
    whole = pasted(windows, frames)
    return oracle.max_pool2d_with_switches(whole, kernel_size, stride, padding, dilation, ceil_mode)[0]


def window_avg_pool2d(
    windows: Windows, frames: Tensor | None, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool,
    count_include_pad: bool = True, divisor_override: int | None = None, out_boxes: Any = None,
) -> Tensor:  # fmt: skip
    whole = pasted(windows, frames)
    rows, columns = oracle.geometry(kernel_size, stride, padding, 1)
    n, channels, height, width = whole.shape
    size = oracle.outputs(height, *rows, ceil_mode), oracle.outputs(width, *columns, ceil_mode)
    maps, out = whole.tolist(), oracle.zeros(n, channels, *size)
    for m in range(n):
        for c in range(channels):
            for i in range(size[0]):
                for j in range(size[1]):
                    total, count = 0.0, 0
                    for ky in range(rows[0]):
                        for kx in range(columns[0]):
                            y, x = i * rows[1] - rows[2] + ky, j * columns[1] - columns[2] + kx
                            inside = 0 <= y < height and 0 <= x < width
                            padded = y < height + rows[2] and x < width + columns[2]
                            total += maps[m][c][y][x] if inside else 0.0
                            count += inside or (padded and count_include_pad)
                    out[m][c][i][j] = total / (divisor_override or count)
    return oracle.as_tensor(out, n, channels, *size)


def occluded_conv2d(
    images: Tensor, weight: Tensor, bias: Tensor | None, boxes: Tensor, fill: Any, mask: Windows | None,
    image: Tensor | None, groups: int, stride: Any = 1, padding: Any = 0, dilation: Any = 1, relu: bool = False,
    out_boxes: Any = None,
) -> Tensor:  # fmt: skip
    _, channels, height, width = images.shape
    occluded = []
    for p, (top, left, rows, columns) in enumerate(boxes.tolist()):
        n = 0 if image is None else int(image[p])
        copy = images[n].tolist()
        fills = cells(fill, p) if isinstance(fill, Windows) else {}
        hidden = cells(mask, p) if mask is not None else {}
        for y in range(max(top, 0), min(top + rows, height)):
            for x in range(max(left, 0), min(left + columns, width)):
                if mask is not None and not hidden.get((y, x), [False])[0]:
                    continue
                for c in range(channels):
                    copy[c][y][x] = _fill(fill, fills, copy, p, n, c, y, x)
        occluded.append(copy)
    whole = oracle.as_tensor(occluded, len(occluded), *images.shape[1:])
    return oracle.conv2d(whole, weight, bias, stride, padding, dilation, groups, relu)


def _fill(fill: Any, fills: Any, copy: Any, p: int, n: int, c: int, y: int, x: int) -> float:
    if isinstance(fill, Windows):
        return fills[y, x][c] if (y, x) in fills else copy[c][y][x]
    if isinstance(fill, float):
        return fill
    return float({1: lambda: fill[c], 2: lambda: fill[p, c], 4: lambda: fill[n, c, y, x]}[fill.dim()]())


def window_unpool_relu_conv_transpose2d(
    values: Windows, switches: Tensor | None, weight: Tensor, frames: Tensor | None, out_boxes: Any = None,
    stride: Any = 1, padding: Any = 0, dilation: Any = 1, **options: Any,
) -> Tensor:  # fmt: skip
    maps = pasted(values, frames)
    codes = None if switches is None else switches[values.image]
    return oracle.unpool_relu_conv_transpose2d(
        maps, codes, weight, stride=stride, padding=padding, dilation=dilation, **options
    )


def window_gather(sources: Any, frames: Tensor | None, boxes: Any) -> Tensor:
    pairs = [source if isinstance(source, tuple) else (source, torch.arange(len(source))) for source in sources]
    first, row = pairs[0] if pairs else (None, None)
    image = boxes.image if isinstance(boxes, Layout) else first.image[row]
    frame = first.frame if first is not None else frames.shape[2:]
    channels = first.values.shape[1] if first is not None else frames.shape[1]
    whole = []
    for p in range(len(image)):
        copy = oracle.zeros(channels, *frame) if frames is None else frames[int(image[p])].tolist()
        for windows, rows in reversed(pairs):
            for (y, x), values in cells(windows, int(rows[p])).items():
                for c, value in enumerate(values):
                    copy[c][y][x] = value
        whole.append(copy)
    return oracle.as_tensor(whole, len(whole), channels, *frame)


def window_reduce(windows: Windows, frames: Tensor | None, how: str) -> Tensor:
    whole = pasted(windows, frames).tolist()
    found = [[_over([value for row in channel for value in row], how) for channel in maps] for maps in whole]
    return torch.tensor(found, dtype=torch.float64).reshape(len(found), windows.values.shape[1])


def _over(values: list[float], how: str) -> float:
    total = 0.0 if how == "sum" else float("-inf")
    for value in values:
        if how == "sum":
            total += value
        elif value > total or value != value:
            total = value
    return total
