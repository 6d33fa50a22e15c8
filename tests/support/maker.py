"""Makes the tensors of the samples: the same numbers in every dtype, up to rounding, in all layouts and patterns."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from zfkernels import ops
from zfkernels.geometry import Pair
from zfkernels.windows import Layout, Windows

Pool = tuple[
    int | Pair, int | Pair | None, int | Pair, int | Pair, bool
]  # kernel, stride, padding, dilation, ceil_mode


class Maker:
    """Makes tensors: random ones from a fixed seed, and maps with the sample's pattern and layout."""

    def __init__(self, dtype: torch.dtype, device: str, pattern: str, layout: str) -> None:
        self.dtype, self.device, self.pattern, self.layout = dtype, device, pattern, layout
        self.generator = torch.Generator().manual_seed(0)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator).to(self.device, self.dtype)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=self.generator).to(self.device)

    def maps(self, *shape: int) -> Tensor:
        return laid_out(PATTERNS[self.pattern](self, shape), self.layout)

    def switches(self, images: int, channels: int, size: Pair, pool: Pool) -> Tensor:
        """Those of a pooling of random maps of ``size``; with the pattern "junk" any byte, most nearly right."""
        kernel, stride, padding, dilation, ceil_mode = pool
        maps = self.normal(images, channels, *size)
        _, switches = ops.max_pool2d_with_switches(
            maps, kernel, stride, padding, dilation, ceil_mode=ceil_mode, backend="reference"
        )
        if self.pattern == "junk":
            cells = kernel**2 if isinstance(kernel, int) else kernel[0] * kernel[1]
            near, far = self.integers(0, 2 * cells, *switches.shape), self.integers(0, 256, *switches.shape)
            switches = torch.where(self.integers(0, 4, *switches.shape) > 0, near, far).to(torch.uint8)
        return laid_out(switches, self.layout)

    def origins(self, count: int, size: Pair, frame: Pair) -> Tensor:
        """The corners and the middles of the borders, then anywhere inside."""
        room = [frame[0] - size[0] + 1, frame[1] - size[1] + 1]
        random = torch.stack([self.integers(0, r, count) for r in room], 1).int()
        last = torch.tensor(room, dtype=torch.int32, device=self.device) - 1
        steps = torch.tensor([(0, 0), (2, 2), (0, 2), (2, 0), (0, 1), (1, 0), (2, 1), (1, 2)], device=self.device)
        borders = (steps * last // 2).int()[:count]
        return torch.cat([borders, random[len(borders) :]])

    def boxes(self, count: int, frame: Pair) -> Tensor:
        """None of its cells, the whole frame, a corner, a row, a column, then anything inside."""
        height, width = frame
        rare = [[0, 0, 0, 0], [0, 0, height, width], [height - 1, width - 1, 1, 1], [height // 2, 0, 1, width],
                [0, width // 2, height, 1], [height, width, 0, 0], [0, 0, 1, 1]]  # fmt: skip
        first, last = (
            torch.stack([self.integers(0, length, count) for length in frame], 1).sort(0)[0][:, [0, 1]],
            torch.stack([self.integers(1, length + 1, count) for length in frame], 1),
        )
        first = torch.minimum(first[torch.randperm(count, generator=self.generator).to(self.device)], last - 1)
        found = torch.cat([first, last - first], 1).int()
        known = torch.tensor(rare, dtype=torch.int32, device=self.device).view(-1, 4)[:count]
        return torch.cat([known, found[len(known) :]])

    def windows(self, count: int, channels: int, frame: Pair, images: int, boxes: Tensor | None = None) -> Windows:
        image = torch.arange(count, device=self.device) % max(images, 1)
        layout = Layout.of(self.boxes(count, frame) if boxes is None else boxes, image, frame)
        values = PATTERNS[self.pattern](self, (layout.cells, channels))
        return layout.windows(flat_laid_out(values, self.layout))


def _nonfinite(make: Maker, shape: tuple[int, ...]) -> Tensor:
    values = make.normal(*shape)
    for start, step, value in ((0, 7, float("nan")), (1, 11, float("inf")), (2, 13, float("-inf"))):
        values.view(-1)[start::step] = value
    return values


PATTERNS: dict[str, Callable[[Maker, tuple[int, ...]], Tensor]] = {
    "normal": lambda make, shape: make.normal(*shape),
    "junk": lambda make, shape: make.normal(*shape),
    "ones": lambda make, shape: torch.ones(shape, dtype=make.dtype, device=make.device),
    "arange": lambda make, shape: (
        (torch.arange(torch.Size(shape).numel(), device=make.device) % 23 - 9).to(make.dtype).view(shape)
    ),
    "ties": lambda make, shape: make.integers(-1, 2, *shape).to(make.dtype),
    "nonfinite": _nonfinite,
    "minus infinity": lambda make, shape: torch.full(shape, float("-inf"), dtype=make.dtype, device=make.device),
}
LAYOUTS = ("contiguous", "channels_last", "transposed", "sliced", "sliced channels_last")


def laid_out(maps: Tensor, layout: str) -> Tensor:
    """The same numbers, otherwise in memory."""
    if layout == "contiguous":
        return maps
    if layout == "channels_last":
        return maps.contiguous(memory_format=torch.channels_last)
    if layout == "transposed":
        return maps.transpose(2, 3).contiguous().transpose(2, 3)
    n, c, h, w = maps.shape
    format = torch.channels_last if layout == "sliced channels_last" else torch.contiguous_format
    larger = torch.full((n, c + 2, 2 * h + 1, w + 3), 7, dtype=maps.dtype, device=maps.device)
    view = larger.contiguous(memory_format=format)[:, 1 : c + 1, 1::2, 2 : w + 2]
    return view.copy_(maps)


def flat_laid_out(values: Tensor, layout: str) -> Tensor:
    """The same values [cells, C], otherwise in memory."""
    if layout == "transposed":
        return values.t().contiguous().t()
    if layout.startswith("sliced"):
        larger = values.new_full((2 * len(values) + 1, values.shape[1] + 3), 7)
        view = larger[:-1:2] if layout == "sliced" else larger[: len(values)]
        return view[:, 2:-1].copy_(values)
    return values
