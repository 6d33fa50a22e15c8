"""What a kind of step is: how it is recognised, what a change of its inputs touches, how it runs, what it costs.

A kind sees windows, boxes and whole values, never the sweep or the DeconvNet that it serves. The planner and the sweep
see :class:`Kind` alone: nothing outside this folder asks which kind a step is.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from zfkernels.geometry import Boxes, Pair, union
from zfkernels.network.maps import Maps
from zfkernels.network.recording import Recording, Ref, Sized, Step
from zfkernels.network.tree import leaves
from zfkernels.ragged import Layout, Windows


@dataclass(frozen=True)
class Occluder:
    """What is hidden of the images: the input step's windows before anything is computed.

    Attributes:
        images: [N, C, H, W], channels last.
        boxes: int32 [K, 4] (top, left, height, width), inside the images.
        fill: what is shown instead: [C], or an image for each image [N, C, H, W].
    """

    images: Tensor
    boxes: Tensor
    fill: Tensor


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
        affine: where it scales and shifts each map [N, C, H, W], by how much: float64 [C] each, on the CPU.
        step: the recorded step; of several steps in one, the first of them.
        steps: the recorded steps that are this one.
        name: the step whose value this computes; of several steps in one, the last of them.
        inputs: names of the steps that it reads.
        below: where each input holds its maps.
        maps: where the value does; None for a value without (or of a step that windows end at).
        sizes: of the value's axes behind the first; None where the first is not the batch's.
    """

    kind: ClassVar[str] = ""
    on_windows: bool = True
    rectifies: bool = False
    affine: tuple[Tensor, Tensor] | None = None

    def __init__(self, step: Step, scene: Scene, maps: Maps | None, inputs: tuple[str, ...] | None = None) -> None:
        self.step, self.name, self.maps = step, step.name, maps
        self.steps: tuple[Step, ...] = (step,)
        self.inputs = step.inputs if inputs is None else inputs
        self.below = tuple(scene.maps(name) for name in self.inputs)
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
        """The box of each input that boxes of the value depend on: the way backwards."""
        return (outputs,) * len(self.inputs)

    def run(self, values: Mapping[str, Any], batch: int) -> Any:
        """The value on whole inputs."""
        return self.step.run(values, batch)

    def run_on_windows(self, chunk: Chunk) -> Any:
        """Windows of the value (a tensor [K, ...] where :attr:`maps` is None), from those of its inputs."""
        raise NotImplementedError(f"{self.kind}: it runs on whole values")

    @property
    def multiply_adds(self) -> int:
        """For one cell of the value; for one image where :attr:`maps` is None."""
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
