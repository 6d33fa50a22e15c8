"""What a kind of step is: how it is recognised, what a change of its inputs touches, how it runs, what it costs.

A kind sees windows, boxes and whole values, never the sweep or the DeconvNet that it serves. The planner and the sweep
see :class:`Kind` alone: nothing outside this folder asks which kind a step is.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from zfkernels.geometry import Boxes, Pair, Sliding, union
from zfkernels.network.kinds.signals import Descent, Rule, Rules, Signal, as_signal, as_value, changed, derivative
from zfkernels.network.maps import Maps
from zfkernels.network.recording import Recording, Ref, Sized, Step
from zfkernels.network.tree import leaves
from zfkernels.windows import Layout, Windows


@dataclass(frozen=True)
class Occluder:
    """What is hidden of the images: the input step's windows before anything is computed.

    Attributes:
        images: [N, C, H, W], channels last.
        boxes: int32 [K, 4] (top, left, height, width), inside the images.
        fill: what is shown instead: [C], an image for each image [N, C, H, W], or windows of the boxes.
        mask: windows of bool [cells, 1]: which pixels of the boxes are hidden; None: all.
    """

    images: Tensor
    boxes: Tensor
    fill: Tensor | Windows
    mask: Windows | None = None


class Chunk(Protocol):
    """What a step that runs on windows can ask for: values of one chunk of K positions."""

    image: Tensor  # int64 [K], the image of each position
    backend: str | None

    def layout(self, name: str) -> Layout:
        """Where the cells of the windows of step ``name`` lie."""

    def windows(self, name: str) -> Windows:
        """The windows of step ``name``."""

    def frames(self, name: str) -> Tensor:
        """The clean maps of step ``name``, [N, C, H, W], channels last."""

    def gather(self, sources: Sequence[Any], frames: Tensor | None, layout: Layout) -> Windows:
        """Windows of ``layout`` from windows and frames, as ``zfkernels.ops.window_gather``."""

    def occluder(self, name: str) -> Occluder | None:
        """What is hidden, if step ``name`` is the images themselves."""


class Scene:
    """What is known of a network while its steps are recognised one after the other.

    Attributes:
        recording: the network.
        kinds: the steps recognised so far, by name.
    """

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.kinds: dict[str, Kind] = {}

    def step(self, name: str) -> Step:
        return self.recording.by_name[name]

    def maps(self, name: str) -> Maps | None:
        """Where the value of a step holds maps; None: it holds none that windows are carried through."""
        return self.kinds[name].maps


class Kind(ABC):
    """One step of a network.

    Attributes:
        kind: what people call this kind of step.
        on_windows: whether it can run on windows; False: on whole values alone.
        rectifies: whether it is max(x, 0) and nothing else.
        is_rectifier: whether it is that or another rectifier (ReLU6, LeakyReLU).
        unpools: whether :meth:`send_down` takes a signal that is still to be unpooled.
        filters: the weight [C_out, C_in / groups, kh, kw] of a convolution.
        joins: of a concatenation of maps, the steps whose maps stand one after the other.
        is_identity: whether it hands on the numbers that it reads, in their order.
        moves: whether its numbers are read and written; False: they only get other axes.
        keeps_sign: whether nothing becomes negative where no input is.
        makes_new: whether its value is memory of its own.
        affine: where it scales and shifts each map [N, C, H, W], by how much: float64 [C] each, on the CPU.
        composed: how it runs on windows where PyTorch's operations have to move cells about; "": that is one call.
        step: the recorded step; of several steps in one, the first of them.
        steps: the recorded steps that are this one.
        name: the step whose value this computes; of several steps in one, the last of them.
        inputs: names of the steps that it reads.
        below: where each input holds its maps.
        sources: the steps recorded for the inputs.
        maps: where the value does; None for a value without (or of a step that windows end at).
        sizes: of the value's axes behind the first; None where the first is not the batch's.
    """

    kind: ClassVar[str] = ""
    on_windows: bool = True
    rectifies: bool = False
    is_rectifier: bool = False
    unpools: bool = False
    filters: Tensor | None = None
    joins: tuple[str, ...] = ()
    is_identity: bool = False
    moves: bool = True
    keeps_sign: bool = False
    makes_new: bool = False
    affine: tuple[Tensor, Tensor] | None = None
    composed: str = ""

    def __init__(self, step: Step, scene: Scene, maps: Maps | None, inputs: tuple[str, ...] | None = None) -> None:
        self.step, self.name, self.maps = step, step.name, maps
        self.steps: tuple[Step, ...] = (step,)
        self.inputs = step.inputs if inputs is None else inputs
        self.below = tuple(scene.maps(name) for name in self.inputs)
        self.sources = tuple(scene.step(name) for name in self.inputs)
        self.sizes = sizes_of(step)

    @classmethod
    @abstractmethod
    def recognise(cls, step: Step, scene: Scene) -> Kind | None:
        """This kind's object for ``step``, or None if the step is of another kind."""

    def followed_by(self, other: Kind) -> Kind | None:
        """Both as one step, where that computes the same with less work; ``other`` alone reads this one."""
        return None

    def activated_by(self, other: Kind) -> Kind | None:
        """Both as one step where only the value is wanted, no way back down; ``other`` alone reads this one."""
        return None

    def touched(self, changed: Sequence[Boxes]) -> Boxes:
        """The box of the value that can change when boxes of the inputs do: the way forwards."""
        return reduce(union, changed)

    def read(self, outputs: Boxes) -> tuple[Boxes, ...]:
        """The box of each input that boxes of the value depend on: the way backwards.

        Where a value or an input holds no maps, a box of one cell stands for all of it.
        """
        return tuple(
            outputs if self.maps is not None and below is not None and below.frame == self.maps.frame
            else whole(outputs, (1, 1) if below is None else below.frame)
            for below in self.below
        )  # fmt: skip

    @property
    def slides(self) -> Sliding | None:
        """The window of its inputs that each cell of the value reads, where it is the same all over the frame."""
        same = self.maps is not None and all(b is not None and b.frame == self.maps.frame for b in self.below)
        return Sliding((1, 1)) if same and self.on_windows else None

    def run(self, values: Mapping[str, Any], batch: int) -> Any:
        """The value on whole inputs."""
        return self.step.run(values, batch)

    def run_on_windows(self, chunk: Chunk) -> Any:
        """Windows of the value (a tensor [K, ...] where :attr:`maps` is None), from those of its inputs."""
        raise NotImplementedError(f"{self.kind}: it runs on whole values")

    def run_with_switches(
        self, values: Mapping[str, Any], batch: int, backend: str | None
    ) -> tuple[Any, Tensor] | None:
        """The value on whole inputs and the places of its maxima, uint8; None of what is no max-pooling."""
        return None

    def rule(self, rules: Rules) -> Rule | None:
        """What a signal becomes at this step on its way down where the DeconvNet has a rule; None: the derivative."""
        return None

    def clean_inputs(self, rules: Rules) -> Collection[str]:
        """Names of the inputs whose values on the clean images the way down needs."""
        return () if self.is_affine or self.rule(rules) is not None else self.inputs

    def send_down(self, signal: Signal, descent: Descent) -> Iterator[tuple[str, Signal]]:
        """The signals at the inputs that one at the value sends down, by name.

        Here by :meth:`rule`, or by the derivative of the step on whole values, which every step has.
        """
        rule = self.rule(descent.rules)
        if rule is not None:
            yield self.inputs[0], changed(signal, rule)
            return
        refuse_last_of_overlapping(self.steps, descent)
        value = as_value(signal, self.name, self.maps, descent)
        clean = [self._given(name, source, descent) for name, source in zip(self.inputs, self.sources, strict=True)]
        below = derivative(
            lambda *given: self.run(dict(zip(self.inputs, given, strict=True)), len(value)), value, clean
        )
        for name, maps, part in zip(self.inputs, self.below, below, strict=True):
            if part is not None:
                yield name, as_signal(part, name, maps, self.name, descent)

    @property
    def is_affine(self) -> bool:
        """Whether the derivative is known to be the same at every input."""
        return False

    def _given(self, name: str, source: Step, descent: Descent) -> Tensor:
        """What the derivative is taken at: the value [R, ...] of an input, anything where that does not matter."""
        image = descent.image(self.name)
        if not self.is_affine:
            return descent.clean(name).index_select(0, image)
        shape = [size.at(len(image)) if isinstance(size, Sized) else size for size in source.shape]
        return torch.zeros((), dtype=source.dtype, device=image.device).expand(shape)

    @property
    def multiply_adds(self) -> int:
        """For one cell of the value; for one image where :attr:`maps` is None."""
        return 0

    @property
    def window_products(self) -> int:
        """The work for one cell on windows, in multiply-adds; below :attr:`multiply_adds` where kernels save some."""
        return self.multiply_adds

    @property
    def parameters(self) -> int:
        """Numbers of a weight that few rows are multiplied with, so that it is memory that bounds the product."""
        return 0

    @property
    def needs_frames(self) -> bool:
        """Whether windows of the value depend on cells of the inputs outside their windows."""
        return False

    def share(self, made: dict[Any, Any]) -> None:  # noqa: B027
        """Takes what is made of parameters from ``made``, or adds it: several sizes of images have it once."""

    def joined(self, other: Kind, **changes: Any) -> Any:
        """A copy that computes the value of ``other``, which reads this step."""
        both = copy.copy(self)
        both.name, both.steps = other.name, self.steps + other.steps
        both.__dict__.update(changes)
        return both


def refuse_last_of_overlapping(steps: Sequence[Step], descent: Descent) -> None:
    """Raises ValueError for max-poolings that are undone by their derivative where their last window is to win."""
    for step in steps:
        if descent.overlap == "last" and op_name(step).startswith("max_pool"):
            raise ValueError(
                f"DeconvNet: expected overlap 'sum' for step {step.name!r} in module "
                f"{(step.scope or ('',))[-1]!r}, a pooling of what are no maps [N, C, H, W], got 'last'"
            )


def aligned(chunk: Chunk, name: str, layout: Layout) -> Windows:
    """The windows of step ``name`` in the boxes of ``layout``; the rest of a box comes from the clean maps."""
    if chunk.layout(name) is layout:
        return chunk.windows(name)
    return chunk.gather([chunk.windows(name)], chunk.frames(name), layout)


def op_name(step: Step) -> str:
    """The operation's name without its overload; a function's own name."""
    op: Any = step.op
    if isinstance(op, torch._ops.OpOverload):
        return op._opname
    return getattr(op, "__name__", "")


def arguments(step: Step) -> dict[str, Any]:
    """The arguments of an operation of ATen by name, defaults included; {} for other functions."""
    op: Any = step.op
    if not isinstance(op, torch._ops.OpOverload):
        return {}
    names = [argument.name for argument in op._schema.arguments]
    known = {a.name: a.default_value for a in op._schema.arguments}
    return {**known, **dict(zip(names, step.args, strict=False)), **step.kwargs}


def signature(step: Step) -> tuple[Any, ...]:
    """What the step does, whatever it is called and reads; constants by identity."""
    parts = leaves((step.args, step.kwargs))
    return (op_name(step), *(id(p) if isinstance(p, Tensor) else p for p in parts if not isinstance(p, Ref)))


def sizes_of(step: Step) -> tuple[int, ...] | None:
    """Sizes of the axes behind the first, None where the first is not the batch's or another depends on it."""
    first, *rest = step.shape or (0,)
    if first != Sized(1, 0) or any(not isinstance(size, int) for size in rest):
        return None
    return tuple(rest)  # type: ignore[arg-type]


def is_constant(value: Any) -> bool:
    """Whether an argument depends neither on the images nor on their number."""
    return not any(isinstance(leaf, (Ref, Sized)) for leaf in leaves(value))


def source(value: Any) -> str | None:
    """The name of the step that an argument stands for."""
    return value.name if isinstance(value, Ref) else None


def pair(value: Any) -> Pair:
    """(rows, columns) of an argument that is an int, a list of one or of two."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return (values[0], values[0]) if len(values) == 1 else (values[0], values[1])


def whole(like: Boxes, frame: Pair) -> Boxes:
    """As many boxes as ``like``: the whole frame for each that is not empty."""
    full = torch.tensor(frame, dtype=torch.int64, device=like.lo.device)
    some = (like.hi > like.lo).all(1, keepdim=True)
    return Boxes(torch.zeros_like(like.lo), torch.where(some, full, 0))


Recogniser = Callable[[Step, Scene], Kind | None]
