"""Recording a network: it runs twice, as it is, on fake batches of two sizes; what reached ATen becomes its steps."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from zfkernels.network.align import Alignment
from zfkernels.network.listen import Listener
from zfkernels.network.recording import INPUT, Recording, Ref, Step
from zfkernels.network.refusals import UnrecordableError, refuse_training
from zfkernels.network.stand_in import stand_in, unwrapped
from zfkernels.network.tree import leaves

DEFAULT_CHANNELS = 3
KEPT = 4  # recordings of one model, the latest
_PRIMES = (11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97)
_lock = threading.Lock()
_known: weakref.WeakKeyDictionary[nn.Module, dict[Any, _Kept]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class _Kept:
    """A recording without its model, so that the model can go; or why there is none."""

    steps: tuple[Step, ...] = ()
    outputs: Any = None
    layers: Any = None
    problem: UnrecordableError | None = None
    memo: dict[Any, Any] = field(default_factory=dict)


def record(model: nn.Module, images: Tensor | tuple[int, ...]) -> Recording:
    """The network that ``model`` is for images of one size, dtype and device.

    The model is not run on the images: they tell size and type. It is left as it was, attributes that its ``forward``
    sets included, shares its parameters with the recording, and may be run by other threads meanwhile. A recording is
    kept for each model as long as nothing changes: parameters, buffers, flags, hooks, modules.

    Args:
        model: any nn.Module in eval mode that can be called with one batch of images.
        images: [N, C, H, W]; or (C, H, W), for images of the dtype and on the device of the model's parameters.

    Returns:
        The :class:`Recording`.

    Raises:
        TypeError: ``model`` is no nn.Module.
        ValueError: dropout or batch normalisation in training mode, or without running statistics.
        UnrecordableError: the model decides by the values that it computes, draws random numbers, changes tensors that
            it keeps, does other things for another number of images, or fails on such images; the message says where.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"record: expected model an nn.Module, got {type(model).__name__}")
    shape, dtype, device = _kind_of(model, images)
    refuse_training(model)
    key = (shape, dtype, device, _state(model))
    with _lock:
        kept = _known.setdefault(model, {}).get(key)
    if kept is None:
        try:
            kept = _record(model, shape, dtype, device)
        except UnrecordableError as problem:
            kept = _Kept(problem=problem.with_traceback(None))
        with _lock:
            entries = _known.setdefault(model, {})
            entries[key] = kept
            for old in list(entries)[:-KEPT]:
                del entries[old]
    if kept.problem is not None:
        raise UnrecordableError(kept.problem.reason, kept.problem.module, kept.problem.line)
    return Recording(model, kept.steps, kept.outputs, kept.layers, (shape[1], shape[2]), shape[0], kept.memo)


def first_channels(model: Any) -> int:
    """How many channels the first convolution of a model takes."""
    modules = model.modules() if isinstance(model, nn.Module) else ()
    first = next((module for module in modules if isinstance(module, nn.Conv2d)), None)
    return DEFAULT_CHANNELS if first is None else first.in_channels


def _kind_of(model: nn.Module, images: Any) -> tuple[tuple[int, int, int], torch.dtype, torch.device]:
    if isinstance(images, Tensor):
        if images.dim() != 4:
            raise ValueError(f"record: expected images of shape [N, C, H, W], got {tuple(images.shape)}")
        return tuple(images.shape[1:]), images.dtype, images.device  # type: ignore[return-value]
    if not isinstance(images, tuple) or len(images) != 3 or not all(isinstance(side, int) for side in images):
        raise TypeError(f"record: expected images a tensor [N, C, H, W] or (C, H, W), got {images!r}")
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    return images, like.dtype, like.device


def _record(model: nn.Module, shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device) -> _Kept:
    inner, prefix = unwrapped(model)
    batches = _batches(inner, shape)
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    runs, results = [], []
    for batch in batches:
        twin, paths = stand_in(inner)
        with fake:
            images = torch.empty((batch, *shape), dtype=dtype, device=device)
        listener = Listener(fake, paths)
        results.append(listener.listen(twin, images))
        runs.append(listener)
    first, second = runs
    alignment = Alignment((first.notes, second.notes), batches, first.calls)
    outputs = alignment.tree(*results)
    layers: dict[str, Any] = {}
    for (path, call, value), (_, _, other) in zip(first.layers, second.layers, strict=True):
        kept = alignment.tree(value, other)
        layers[path] = kept
        if first.calls[path] > 1:
            layers[f"{path}:{call}"] = kept
    aliases = {id(module): path for path, module in inner.named_modules()}
    for path, module in inner.named_modules(remove_duplicate=False):
        for name in [name for name in layers if name.partition(":")[0] == aliases[id(module)]]:
            layers.setdefault(path + name[len(aliases[id(module)]) :], layers[name])
    if prefix:
        layers.update({prefix + name if name else prefix[:-1]: value for name, value in list(layers.items())})
    return _Kept(_alive(alignment.steps, [outputs, *layers.values()]), outputs, layers)


def _batches(model: nn.Module, shape: tuple[int, ...]) -> tuple[int, int]:
    """Two numbers of images that are no size in the model, so that none is taken for another."""
    sizes = {side for tensor in itertools.chain(model.parameters(), model.buffers()) for side in tensor.shape}
    first, second = itertools.islice((p for p in _PRIMES if p not in sizes and p not in shape), 2)
    return first, second


def _alive(steps: list[Step], wanted: Any) -> tuple[Step, ...]:
    """The steps that outputs and layers depend on."""
    needed = {INPUT, *(leaf.name for leaf in leaves(wanted) if isinstance(leaf, Ref))}
    for step in reversed(steps):
        if step.name in needed:
            needed.update(step.inputs)
    return tuple(step for step in steps if step.name in needed)


def _state(model: nn.Module) -> tuple[Any, ...]:
    """What a recording stands on: another state may be another network."""
    return tuple(part for module in model.modules() for part in _state_of(module))


def _state_of(module: nn.Module) -> Iterator[Any]:
    yield id(type(module))
    for name, value in module.__dict__.items():
        if isinstance(value, dict):
            yield tuple((key, _mark(part)) for key, part in value.items())
        else:
            yield name, _mark(value)


def _mark(value: Any) -> Any:
    if isinstance(value, (bool, int, float, str)) or value is None:
        return value
    if isinstance(value, Tensor):
        return id(value), value.data_ptr(), -1 if value.is_inference() else value._version
    return tuple(map(_mark, value)) if type(value) in (tuple, list) else id(value)
