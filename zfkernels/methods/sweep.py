"""The incremental executor of an occlusion sweep: each step runs on the windows that the square can change.

Everything outside a window comes from the clean activations of the image. Steps that spread over the frame take whole
frames, from windows pasted into the clean one, so that the result is that of the whole network on the occluded image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zfkernels.methods.pullback import as_layout, divisor_map, from_layout
from zfkernels.ops import occluded_conv2d, window_conv2d, window_max_pool2d
from zfkernels.ops.occluded_conv2d.reference import occluded_crop
from zfkernels.plan import Group, Placement
from zfkernels.trace import Step, Trace
from zfkernels.trace.steps import LOCAL_KINDS
from zfkernels.windows import Windows, crop, per_axis

Value = Windows | Tensor | None  # None: a step with maps that the square cannot reach


@dataclass(frozen=True)
class Square:
    """The occluder: its size and what it shows, [C] or [N, C, H, W]."""

    size: tuple[int, int]
    fill: Tensor


class Sweep:
    """Runs chunks of positions through the head of a network, given the clean values of its steps.

    Args:
        trace: the (folded) network.
        last: the step whose value is wanted, [K, ...].
        watched: another one whose value is wanted, or None.
        images: [N, C, H, W].
        clean: the clean value of every step that maps come from.
        square: the occluder.
        backend: variant of the ops; None chooses by device.
    """

    def __init__(
        self,
        trace: Trace,
        last: str,
        watched: str | None,
        images: Tensor,
        clean: Mapping[str, Any],
        square: Square,
        backend: str | None,
    ) -> None:
        self.trace, self.last, self.watched, self.images, self.clean = trace, last, watched, images, clean
        self.square, self.backend = square, backend
        self.steps = trace.needed_for({last, watched or last})
        self.last_use = {name: index for index, step in enumerate(self.steps) for name in (step.name, *step.inputs)}

    def run(self, group: Group, chunk: Tensor, positions: Tensor, image: Tensor) -> tuple[Any, Value]:
        """Values of the last and the watched step for some positions of a group.

        Args:
            group: the plan of these positions.
            chunk: int64 [K], which of the group's members.
            positions: int32 [K, 2], their squares.
            image: int64 [K], their images.

        Returns:
            [K, ...], and the value of the watched step (None: the clean one).
        """
        self.positions, self.image, self.unchanged = positions, image, group.unchanged
        self.places = {
            name: Placement(place.origins[chunk], place.size, place.frame) for name, place in group.windows.items()
        }
        values: dict[str, Value] = {}
        watched: Value = None
        for index, step in enumerate(self.steps):
            if step.kind == "input" or step.name in self.unchanged:
                values[step.name] = None
            else:
                values[step.name] = self._step(step, values)
            if step.name == self.watched:
                watched = None if step.name in self.unchanged else self._value(step.name, values)
            for name in step.inputs:
                if self.last_use[name] <= index and name != self.last:
                    values.pop(name, None)
        return self._dense(self.last, values), watched

    def _step(self, step: Step, values: dict[str, Value]) -> Value:
        place = self.places.get(step.name)
        if place is not None:
            return self._windowed(step, place, values)
        if step.kind == "global_pool" and isinstance(values[step.inputs[0]], Windows):
            return self._mean(step, values)
        return step.call(*(self._dense(name, values) for name in step.inputs))

    def _windowed(self, step: Step, place: Placement, values: dict[str, Value]) -> Windows:
        name = step.inputs[0]
        if step.kind == "conv" and name == self.trace.input.name:
            return self._first_conv(step, place)
        if step.kind in ("add", "cat", "mul"):
            layout = step.layout
            aligned = [as_layout(self._aligned(name, place, values), layout) for name in step.inputs]
            return self._windows(from_layout(step.call(*aligned), layout), place)
        windows = self._value(name, values)
        assert isinstance(windows, Windows)
        if step.kind == "conv":
            conv, s = step.params, step.sliding
            return window_conv2d(
                windows, self.clean[name], conv.weight, conv.bias, out_size=place.size, out_origins=place.origins,
                stride=s.stride, padding=s.padding, dilation=s.dilation, groups=conv.groups, relu=conv.relu,
                backend=self.backend,
            )  # fmt: skip
        if step.kind == "max_pool":
            s = step.sliding
            return window_max_pool2d(
                windows, self.clean[name], s.kernel, s.stride, s.padding, s.dilation, out_size=place.size,
                out_origins=place.origins, ceil_mode=step.params.ceil_mode, backend=self.backend,
            )  # fmt: skip
        if step.kind == "avg_pool":
            return self._avg_pool(step, place, windows)
        assert step.kind in LOCAL_KINDS, step.kind
        if step.kind == "permute":
            return windows
        layout = self.trace.by_name[name].layout
        return self._windows(from_layout(step.call(as_layout(windows.values, layout)), layout), place)

    def _first_conv(self, step: Step, place: Placement) -> Windows:
        conv, s = step.params, step.sliding
        return occluded_conv2d(
            self.images, conv.weight, conv.bias, self.positions, window=self.square.size, fill=self.square.fill,
            image=self.image, out_size=place.size, out_origins=place.origins, stride=s.stride, padding=s.padding,
            dilation=s.dilation, groups=conv.groups, relu=conv.relu, backend=self.backend,
        )  # fmt: skip

    def _avg_pool(self, step: Step, place: Placement, windows: Windows) -> Windows:
        s, frames = step.sliding, self.clean[step.inputs[0]]
        start = place.origins * per_axis(place.origins, s.stride) - per_axis(place.origins, s.padding)
        region = crop(frames, start, self.image, s.span(place.size), windows=windows)
        total = torch.nn.functional.avg_pool2d(region, s.kernel, s.stride, divisor_override=1)
        share = divisor_map(step.params, windows.frame, place.frame, total)
        return self._windows(total * crop(share, place.origins, torch.zeros_like(self.image), place.size), place)

    def _mean(self, step: Step, values: dict[str, Value]) -> Tensor:
        """Mean over the frame: the clean one, and what the windows change."""
        name = step.inputs[0]
        windows = values[name]
        assert isinstance(windows, Windows)
        change = (windows.values - crop(self._frames(name), windows.origins, self.image, windows.size)).sum((2, 3))
        cells = windows.frame[0] * windows.frame[1]
        clean = self.clean[step.name].index_select(0, self.image)
        return clean + (change / cells).view_as(clean)

    def _value(self, name: str, values: dict[str, Value]) -> Value:
        """A step's value; of the images, the squares."""
        if name != self.trace.input.name:
            return values[name]
        place = self.places[name]
        crops = occluded_crop(
            self.images, self.positions, self.image, self.square.fill, self.square.size, place.origins, place.size
        )
        return self._windows(crops, place)

    def _frames(self, name: str) -> Tensor:
        """The clean maps of a step, [N, C, H, W]."""
        return from_layout(self.clean[name], self.trace.by_name[name].layout)

    def _windows(self, values: Tensor, place: Placement) -> Windows:
        return Windows(values, place.origins, self.image, place.frame)

    def _aligned(self, name: str, place: Placement, values: dict[str, Value]) -> Tensor:
        """A step's values in the windows of another step."""
        value = self._value(name, values)
        windows = value if isinstance(value, Windows) else None
        if windows is not None and windows.size == place.size and torch.equal(windows.origins, place.origins):
            return windows.values
        return crop(self._frames(name), place.origins, self.image, place.size, windows=windows)

    def _dense(self, name: str, values: dict[str, Value]) -> Any:
        """A step's value on whole frames, one for each position, in the layout of the network."""
        value = self._value(name, values) if name not in self.unchanged else None
        if isinstance(value, Windows):
            return as_layout(value.paste(self._frames(name)), self.trace.by_name[name].layout)
        if value is None:
            return self.clean[name].index_select(0, self.image)
        return value
