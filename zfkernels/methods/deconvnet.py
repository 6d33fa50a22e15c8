"""DeconvNet: project an activation down to the pixels that it answers to.

An activation is sent down layer by layer, as its value and zeros elsewhere: unpool with the switches of its own image,
rectify, filter with the transposed filters. Only cells that can be other than zero are computed: the signal is a
window that grows from one cell to the activation's receptive field, and thousands of them travel in one batch.

Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 2.1, figure 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from zfkernels.checks import is_int_tensor
from zfkernels.methods.checks import refuse_difference, trace_for
from zfkernels.methods.descent import Clean, Descent
from zfkernels.methods.pullback import DECONVNET, Rules
from zfkernels.methods.reach import Placement, frame_of, needed_boxes, one_placement
from zfkernels.network import refuse_training, without_autocast
from zfkernels.ops import max_pool2d_with_switches
from zfkernels.progress import progress_bar
from zfkernels.results import Look, Projections
from zfkernels.trace import LayerInfo, Step, Trace, trace_model
from zfkernels.windows import Boxes, Windows

SAVED_KINDS = ("pointwise", "mul", "channels", "adaptive_pool", "other")  # their rule needs the clean inputs


class DeconvNet:
    """A network, ready to be looked at.

    Args:
        model: any nn.Module in eval mode; it is left untouched. It is recorded when images are first seen, and again
            when their size or its weights, flags or hooks have changed.
        overlap: what happens where pooling windows overlap and select the same pixel: ``"sum"``, the exact adjoint of
            max-pooling, or ``"last"``, the last window in row-major order wins (as ``F.max_unpool2d``).
        rules: which steps follow the paper's rules and which their derivative.
        backend: variant of the ops, asked for by name; None chooses by device.

    Raises:
        TypeError: no nn.Module.
        ValueError: the model is in training mode.
    """

    def __init__(
        self, model: nn.Module, *, overlap: str = "sum", rules: Rules = DECONVNET, backend: str | None = None
    ) -> None:
        if overlap not in ("sum", "last"):
            raise ValueError(f"DeconvNet: expected overlap one of ('sum', 'last'), got {overlap!r}")
        if not isinstance(model, nn.Module):
            raise TypeError(f"DeconvNet: expected model an nn.Module, got {type(model).__name__}")
        refuse_training(model)
        self.model = model
        self.overlap, self.rules, self.backend = overlap, rules, backend

    @property
    def trace(self) -> Trace:
        """The network for images of ``model.input_size`` (else 224)."""
        return trace_model(self.model)

    def trace_at(self, image_size: tuple[int, int]) -> Trace:
        """The network for images of this size (height, width)."""
        return trace_model(self.model, image_size)

    @cached_property
    def layers(self) -> list[LayerInfo]:
        """The table of layers: name, kind, channels, size, stride, receptive field (at ``model.input_size`` or 224)."""
        return self.trace.layer_info()

    def receptive_field(self, layer: str, positions: Tensor, image_size: tuple[int, int]) -> Tensor:
        """Receptive fields of cells at ``positions`` int [P, 2] of a layer, for images of ``image_size``.

        Returns:
            int64 [P, 4]: top, left, bottom, right in pixels, half-open, clipped to the image.
        """
        trace = self.trace_at(image_size)
        boxes = needed_boxes(trace, trace.shapes(image_size), trace.resolve(layer), positions)[trace.input.name]
        return torch.cat([boxes.lo, boxes.hi], 1).expand(len(positions), 4)

    @torch.no_grad()
    def project(
        self,
        images: Tensor,  # [N, C, H, W]
        layer: str,
        channels: int | Sequence[int] | None = None,
        position: str | tuple[int, int] = "max",
        units: Tensor | None = None,  # int [P, 4]
        batch_size: int = 256,
        progress: bool = False,
    ) -> Projections:
        """Projects activations of one layer down to pixels.

        The activation's value is injected, a negative one included (rectification happens below it); a zero one gives
        a zero projection. Going down: rectifiers pass max(signal, 0); contrast normalisation passes everything;
        batch normalisation multiplies with its scale; average pooling, addition and concatenation pass their adjoint;
        other non-linearities their gradient. Biases do not take part, and the pixels are not rectified.

        Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 2.1.

        Args:
            images: [N, C, H, W], in the model's input units, of its dtype.
            layer: a module's path (a container: its output; used several times: its last call, or ``"path:k"``), or
                the name of a recorded step.
            channels: maps: None (all), one, or several.
            position: ``"max"``, the strongest place of each map in each image (ties: the first in row-major order), or
                (row, column).
            units: int [P, 4] (image, channel, row, column), in any order, instead of ``channels`` and ``position``.
            batch_size: projections that travel together; memory grows with it.
            progress: show a progress bar.

        Returns:
            :class:`Projections`, one for each image and channel (image-major), or for each unit.

        Raises:
            TypeError: images that are no tensor of the model's dtype.
            ValueError: unknown layer, channel or position outside the layer, images of a wrong shape.
            UnrecordableError: what the model does depends on the values that it computes; the message names the
                module and the line.
        """
        return self.forward(images, [layer]).project(layer, channels, position, units, batch_size, progress)

    @torch.no_grad()
    @without_autocast()
    def forward(
        self,
        images: Tensor,  # [N, C, H, W]
        layers: Sequence[str],
    ) -> Forward:
        """One forward pass, from which activations of several layers can be projected.

        Args:
            images: as for :meth:`project`.
            layers: names as for :meth:`project`.

        Raises:
            TypeError, ValueError: as :meth:`project`.
        """
        trace = trace_for("project", self.model, images)
        mixes = refuse_difference("project", trace, images).mixes
        targets = {layer: trace.by_name[trace.resolve(layer)] for layer in layers}
        clean, values = self._forward(trace, images, list(targets.values()))
        found = {layer: (step, values[step.name]) for layer, step in targets.items()}
        if mixes and len(images) > 1:
            _refuse_mixed(trace, images, found)
        return Forward(self, trace, images, clean, found, bool(mixes))

    @without_autocast()
    def _project(
        self,
        trace: Trace,
        images: Tensor,
        clean: Clean,
        target: Step,
        activations: Tensor,
        layer: str,
        channels: int | Sequence[int] | None,
        position: str | tuple[int, int],
        units: Tensor | None,
        batch_size: int,
        progress: bool,
    ) -> Projections:
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"project: expected batch_size a positive int, got {batch_size!r}")
        maps = _as_maps(activations, target)
        chosen = _units(maps, layer, channels, position, units)
        value = maps[chosen[:, 0], chosen[:, 1], chosen[:, 2], chosen[:, 3]]
        boxes = needed_boxes(trace, clean.shapes, target.name, chosen[:, 2:].cpu() if target.layout else None)
        placements = self._place(trace, boxes, clean.shapes, len(chosen), images.device)
        pixels = []
        with progress_bar(len(chosen), "projections", progress) as advance:
            for start in range(0, len(chosen), batch_size):
                stop = min(start + batch_size, len(chosen))
                here = {name: placement.rows(start, stop) for name, placement in placements.items()}
                descent = Descent(trace, target, clean, here, self.rules, self.overlap, self.backend)
                pixels.append(descent.project(chosen[start:stop], value[start:stop]).values)
                advance(stop - start)
        ground = placements[trace.input.name]
        field = boxes[trace.input.name]
        values = torch.cat(pixels) if pixels else images.new_zeros((0, images.shape[1], *ground.size))
        return Projections(
            layer, Windows(values, ground.origins, chosen[:, 0], ground.frame), chosen[:, 0], chosen[:, 1],
            chosen[:, 2:], value, torch.cat([field.lo, field.hi], 1).expand(len(chosen), 4),
            Look.of(self.model),
        )  # fmt: skip

    @torch.no_grad()
    @without_autocast()
    def pull_back(
        self,
        images: Tensor,  # [N, C, H, W]
        layer: str,
        signal: Callable[[Tensor], Tensor],
    ) -> Tensor:  # [N, C, H, W]
        """Sends a signal at a whole layer down to the pixels, all of its cells together.

        :meth:`project` sends activations down one by one; here they meet on their way, and a rectifier sees their sum.
        Only the windows that the signal's cells other than zero can reach are computed.

        Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 2.1.

        Args:
            images: [N, C, H, W], in the model's input units, of its dtype.
            layer: as for :meth:`project`.
            signal: from the layer's value [N, ...] to what is injected, of the same shape.

        Returns:
            [N, C, H, W], of ``images``' dtype.

        Raises:
            TypeError: images that are no tensor of the model's dtype.
            ValueError: unknown layer, images or a signal of a wrong shape.
        """
        trace = trace_for("pull_back", self.model, images)
        refuse_difference("pull_back", trace, images)
        target = trace.by_name[trace.resolve(layer)]
        clean, values = self._forward(trace, images, [target])
        value = values[target.name]
        injected = signal(value)
        if injected.shape != value.shape:
            raise ValueError(
                f"pull_back: expected signal of the layer's shape {tuple(value.shape)}, got {tuple(injected.shape)}"
            )
        if frame_of(target, tuple(value.shape)) is None:
            boxes = needed_boxes(trace, clean.shapes, target.name, None)
        else:
            injected = injected if target.layout == "NCHW" else injected.permute(0, 3, 1, 2)
            (top, bottom), (left, right) = (_extent(injected, axis) for axis in (2, 3))
            injected = injected[:, :, top:bottom, left:right]
            corner = torch.tensor([[top, left]])
            boxes = needed_boxes(trace, clean.shapes, target.name, corner, (bottom - top, right - left))
        placements = self._place(trace, boxes, clean.shapes, len(images), images.device)
        descent = Descent(trace, target, clean, placements, self.rules, self.overlap, self.backend)
        return descent.run(torch.arange(len(images), device=images.device), injected).paste()

    def _forward(self, trace: Trace, images: Tensor, targets: Sequence[Step]) -> tuple[Clean, dict[str, Tensor]]:
        """One forward pass up to ``targets``; keeps switches, and inputs where a derivative will need them."""
        clean = Clean({trace.input.name: tuple(images.shape)}, {}, {})

        def watch(step: Step, inputs: tuple[Any, ...]) -> Any:
            result = None
            if step.kind == "max_pool":
                s = step.sliding
                result, clean.switches[step.name] = max_pool2d_with_switches(
                    inputs[0], s.kernel, s.stride, s.padding, s.dilation,
                    ceil_mode=step.params.ceil_mode, backend=self.backend,
                )  # fmt: skip
            elif step.kind in SAVED_KINDS or self.rules.by_derivative(step):
                clean.values.update(zip(step.inputs, inputs, strict=True))
            for name, value in zip(step.inputs, inputs, strict=True):
                if isinstance(value, Tensor):
                    clean.shapes[name] = tuple(value.shape)
            return result

        names = [target.name for target in targets]
        values = {name: value for name, value in trace.run(images, names, hook=watch).items() if name in names}
        for name, value in values.items():
            if not isinstance(value, Tensor) or value.shape[:1] != images.shape[:1]:
                got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise ValueError(f"DeconvNet: expected a layer that is one tensor [{len(images)}, ...], got {got}")
            clean.shapes[name] = tuple(value.shape)
        return clean, values

    def _place(
        self,
        trace: Trace,
        boxes: dict[str, Boxes],
        shapes: dict[str, tuple[int, ...]],
        count: int,
        device: torch.device,
    ) -> dict[str, Placement]:
        placements = {}
        for name, box in boxes.items():
            frame = frame_of(trace.by_name[name], shapes[name])
            assert frame is not None  # boxes exist for maps only
            one = one_placement(box, frame)
            placements[name] = Placement(one.origins.expand(count, 2).to(device), one.size, frame)
        return placements


@dataclass(frozen=True)
class Forward:
    """One forward pass of some images through a network; :meth:`DeconvNet.forward` makes one."""

    net: DeconvNet
    trace: Trace
    images: Tensor
    clean: Clean
    values: dict[str, tuple[Step, Tensor]]
    alone: bool = False  # each projection by itself: the model's images depend on each other

    def activations(self, layer: str) -> Tensor:
        """The layer's maps [N, C, h, w]; of a layer without maps [N, C, 1, 1]."""
        return _as_maps(self.values[layer][1], self.values[layer][0])

    @torch.no_grad()
    def project(
        self,
        layer: str,
        channels: int | Sequence[int] | None = None,
        position: str | tuple[int, int] = "max",
        units: Tensor | None = None,
        batch_size: int = 256,
        progress: bool = False,
    ) -> Projections:
        """Projects activations of one of the layers; arguments and result as those of :meth:`DeconvNet.project`."""
        step, value = self.values[layer]
        below = {other.name for other in self.trace.needed_for([step.name])}
        shapes = {name: shape for name, shape in self.clean.shapes.items() if name in below}
        clean = Clean(shapes, self.clean.switches, self.clean.values)  # as if the pass had ended at this layer
        batch_size = 1 if self.alone else batch_size
        return self.net._project(
            self.trace, self.images, clean, step, value, layer, channels, position, units, batch_size, progress
        )


def _refuse_mixed(trace: Trace, images: Tensor, values: dict[str, tuple[Step, Tensor]]) -> None:
    """Raises ValueError for layers whose value for an image depends on the other images of the batch."""
    alone = trace.run(images[:1], [step.name for step, _ in values.values()])
    for layer, (step, value) in values.items():
        if not torch.allclose(alone[step.name], value[:1], rtol=1e-3, atol=1e-6):
            raise ValueError(
                f"project: expected one image at a time for layer {layer!r}, whose value for an image depends on the "
                f"others, got {len(images)} images"
            )


def _as_maps(value: Tensor, step: Step) -> Tensor:
    """A layer's value as maps [N, C, h, w]; a layer without maps has one cell for each unit."""
    if step.layout == "NHWC" and value.dim() == 4:
        return value.permute(0, 3, 1, 2)
    return value if step.layout and value.dim() == 4 else value.flatten(1)[:, :, None, None]


def _extent(maps: Tensor, axis: int) -> tuple[int, int]:
    """First and last + 1 of the cells along ``axis`` that are not zero on every map; (0, 1) if all are."""
    used = (maps != 0).movedim(axis, 0).flatten(1).any(1).nonzero().flatten().tolist()
    return (used[0], used[-1] + 1) if used else (0, 1)


def _units(
    maps: Tensor,
    layer: str,
    channels: int | Sequence[int] | None,
    position: str | tuple[int, int],
    units: Tensor | None,
) -> Tensor:
    """The units to project: int64 [P, 4] (image, channel, row, column)."""
    count, depth, height, width = maps.shape
    if units is not None:
        if channels is not None or position != "max":
            raise ValueError("project: expected units, or channels and position, got both")
        if not is_int_tensor(units):
            got = units.dtype if isinstance(units, Tensor) else type(units).__name__
            raise TypeError(f"project: expected units an int tensor [P, 4], got {got}")
        if units.dim() != 2 or units.shape[1] != 4:
            raise ValueError(f"project: expected units of shape [P, 4], got {tuple(units.shape)}")
        units = units.to(maps.device, torch.int64)
    else:
        wanted = [*range(depth)] if channels is None else [channels] if isinstance(channels, int) else [*channels]
        if not all(isinstance(index, int) for index in wanted):
            raise TypeError(f"project: expected channels None, an int or several ints, got {channels!r}")
        image, channel = (
            t.flatten()
            for t in torch.meshgrid(torch.arange(count), torch.tensor(wanted, dtype=torch.int64), indexing="ij")
        )
        _check_range(channel, depth, "channel", layer)
        image, channel = image.to(maps.device), channel.to(maps.device)
        if position == "max":
            place = maps.flatten(2).argmax(2)[image, channel]
            row, column = place // width, place % width
        elif isinstance(position, tuple) and len(position) == 2 and all(isinstance(index, int) for index in position):
            row, column = (torch.full_like(image, index) for index in position)
        else:
            raise ValueError(f"project: expected position 'max' or (row, column), got {position!r}")
        units = torch.stack([image, channel, row, column], 1)
    for index, (limit, what) in enumerate(
        zip((count, depth, height, width), ("image", "channel", "row", "column"), strict=True)
    ):
        _check_range(units[:, index], limit, what, layer)
    return units


def _check_range(index: Tensor, limit: int, what: str, layer: str) -> None:
    wrong = index[(index < 0) | (index >= limit)]
    if len(wrong):
        raise ValueError(f"project: expected {what} from 0 to {limit - 1} of layer {layer!r}, got {int(wrong[0])}")
