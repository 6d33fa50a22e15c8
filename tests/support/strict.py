"""Strict checking of Triton kernels that run in the interpreter (``TRITON_INTERPRET=1``), and a count of their traffic.

    with strict.watch() as launches:
        kernel[grid](...)

Inside, each tensor of a launch lies far from the others, so that what falls out of one never falls into another. A
launch raises :class:`Violation` where it reads or writes outside its tensors, where two programs (or two lanes of one
store) write the same element, where a program reads what another one writes, and where ``tl.multiple_of`` says what is
not so. ``tl.device_assert`` is alive, and so is Triton's check of sums and products of integers that
overflow; masked lanes of a load without ``other`` hold garbage, bfloat16 and TF32 round as on a GPU. Each
:class:`Launch` counts what each tensor argument was read and written for.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import mmap
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter
from triton.runtime.errors import InterpreterError

SECTOR = 32  # bytes: what a GPU moves at least
ROOM = 1 << 35  # bytes of addresses for each tensor, which lies in their middle: reserved, not taken
NOBODY, SEVERAL = -1, -2


class Violation(AssertionError):
    """An interpreted kernel broke a rule of memory; the message names the kernel, the tensor and the program."""


@dataclasses.dataclass
class Traffic:
    """What one launch moved for one tensor, in bytes.

    Attributes:
        requested: what the active lanes asked for.
        cold: the distinct sectors of the launch: each comes from memory once where the cache holds everything.
        programs: the distinct sectors of each program, summed over programs: none is kept from program to program.
        instructions: the distinct sectors of each load or store, summed: no cache at all.
    """

    requested: int = 0
    cold: int = 0
    programs: int = 0
    instructions: int = 0


@dataclasses.dataclass
class Launch:
    """One launch of a kernel: its grid and its traffic by argument; ``multiply_adds`` are those of ``tl.dot``."""

    kernel: str
    grid: tuple[int, ...] = ()
    loads: dict[str, Traffic] = dataclasses.field(default_factory=dict)
    stores: dict[str, Traffic] = dataclasses.field(default_factory=dict)
    multiply_adds: int = 0


class _Region:
    """The memory of one tensor argument, from its first element to its last."""

    def __init__(self, name: str, tensor: torch.Tensor) -> None:
        self.name, self.base, self.item = name, tensor.data_ptr(), tensor.element_size()
        self.count = 1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
        self.end = self.base + self.count * self.item
        self.writer = np.full(self.count, NOBODY, np.int64)
        self.reader = np.full(self.count, NOBODY, np.int64)
        sectors = (self.end - 1) // SECTOR - self.base // SECTOR + 1
        self.seen = {"load": np.zeros(sectors, bool), "store": np.zeros(sectors, bool)}
        self.last = {"load": np.full(sectors, NOBODY, np.int64), "store": np.full(sectors, NOBODY, np.int64)}


class _Apart:
    """Copies of tensors in memory of their own, each where it lies in a page; those that overlap stay together."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        self._copied: list[tuple[int, int, int]] = []  # where to, where from, bytes
        self._held: list[mmap.mmap] = []
        spans = sorted((t.data_ptr(), _end(t), name) for name, t in tensors.items() if t.numel())
        while spans:
            first, end, together = *spans[0][:2], []
            while spans and spans[0][0] < end:
                _, other, name = spans.pop(0)
                end = max(end, other)
                together.append(name)
            room = self._room()
            start = room.data_ptr() + (len(room) // 2 & -mmap.PAGESIZE) + first % mmap.PAGESIZE
            ctypes.memmove(start, first, end - first)
            self._copied.append((start, first, end - first))
            for name in together:
                tensor = tensors[name]
                at = start - room.data_ptr() + tensor.data_ptr() - first
                own = room[at : at + _end(tensor) - tensor.data_ptr()].view(tensor.dtype)
                self.tensors[name] = own.as_strided(tensor.shape, tensor.stride())

    def _room(self) -> torch.Tensor:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000  # MAP_NORESERVE, which Python does not name
        self._held.append(mmap.mmap(-1, ROOM, flags=flags))
        return torch.frombuffer(self._held[-1], dtype=torch.uint8)

    def put_back(self) -> None:
        for start, first, size in self._copied:
            ctypes.memmove(first, start, size)


def _end(tensor: torch.Tensor) -> int:
    """The address behind the last element."""
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    return tensor.data_ptr() + (1 + sum((n - 1) * s for n, s in steps)) * tensor.element_size()


class _Watch:
    """State of one launch while it runs."""

    def __init__(self, launch: Launch, tensors: dict[str, torch.Tensor]) -> None:
        self.launch, self.program = launch, 0
        regions = [_Region(name, t) for name, t in tensors.items() if t.numel()]
        self.regions = sorted(regions, key=lambda region: region.base)
        self.bases = np.array([region.base for region in self.regions], np.int64)
        self.ends = np.array([region.end for region in self.regions], np.int64)

    def touch(self, kind: str, pointers: Any, mask: np.ndarray) -> None:
        addresses, active = np.broadcast_arrays(pointers.data, mask)
        addresses = addresses.ravel()[active.ravel().astype(bool)].astype(np.int64)
        size = max(1, pointers.get_element_ty().primitive_bitwidth // 8)
        place = np.searchsorted(self.bases, addresses, "right") - 1
        after = np.minimum(place + 1, len(self.bases) - 1)  # what lies shortly before a tensor is meant for it
        outside = (place < 0) | (addresses >= self.ends[place])
        place = np.where(outside & (addresses >= self.bases[after] - ROOM // 4), after, place)
        for index in np.unique(place):
            self._access(kind, int(index), addresses[place == index], size)

    def _access(self, kind: str, index: int, addresses: np.ndarray, size: int) -> None:
        region = self.regions[index] if index >= 0 else None
        if region is None:
            self._fail(f"{kind} out of bounds before all tensors")
        if int(addresses.min()) < region.base or int(addresses.max()) + size > region.end:
            worst = int(addresses.min()) if int(addresses.min()) < region.base else int(addresses.max())
            near = f"{(worst - region.base) // region.item} of {region.name}, which has {region.count}"
            self._fail(f"{kind} out of bounds at element {near}")
        elements = (addresses - region.base) // region.item
        self._count(kind, region, addresses, size)
        (self._load if kind == "load" else self._store)(region, elements)

    def _load(self, region: _Region, elements: np.ndarray) -> None:
        writers = region.writer[elements]
        self._conflict(region, elements, (writers != NOBODY) & (writers != self.program), "reads what another writes:")
        readers = region.reader[elements]
        region.reader[elements] = np.where((readers == NOBODY) | (readers == self.program), self.program, SEVERAL)

    def _store(self, region: _Region, elements: np.ndarray) -> None:
        ordered = np.sort(elements)
        if (twice := ordered[1:][ordered[1:] == ordered[:-1]]).size:
            self._fail(f"two lanes of one store write element {twice[0]} of {region.name}")
        writers, readers = region.writer[elements], region.reader[elements]
        self._conflict(region, elements, (writers != NOBODY) & (writers != self.program), "writes what another wrote:")
        self._conflict(region, elements, (readers != NOBODY) & (readers != self.program), "writes what another read:")
        region.writer[elements] = self.program

    def _conflict(self, region: _Region, elements: np.ndarray, wrong: np.ndarray, what: str) -> None:
        if wrong.any():
            self._fail(f"a program {what} element {elements[wrong][0]} of {region.name}")

    def hint(self, values: np.ndarray, multiple: int) -> None:
        if (values.astype(np.int64) % multiple).any():
            self._fail(f"a hint says multiples of {multiple}, got {int(values.flat[0])} and others")

    def _fail(self, what: str) -> None:
        raise Violation(f"{self.launch.kernel}: program {self.program} of {self.launch.grid}: {what}")

    def _count(self, kind: str, region: _Region, addresses: np.ndarray, size: int) -> None:
        table = self.launch.loads if kind == "load" else self.launch.stores
        traffic = table.setdefault(region.name, Traffic())
        first = region.base // SECTOR
        sectors = np.unique(np.concatenate([addresses // SECTOR, (addresses + size - 1) // SECTOR])) - first
        seen, last = region.seen[kind], region.last[kind]
        traffic.requested += addresses.size * size
        traffic.instructions += SECTOR * sectors.size
        traffic.cold += SECTOR * int((~seen[sectors]).sum())
        traffic.programs += SECTOR * int((last[sectors] != self.program).sum())
        seen[sectors], last[sectors] = True, self.program


def _garbage(pointers: Any, mask: np.ndarray) -> Any:
    """What masked lanes hold where the kernel does not say: NaN or large numbers."""
    dtype = interpreter._get_np_dtype(pointers.get_element_ty())
    data = np.full(np.broadcast(pointers.data, mask).shape, 0xAB, np.uint8)
    return np.repeat(data[..., None], dtype.itemsize, -1).view(dtype)[..., 0] if dtype.kind != "b" else data > 0


def _as_float32(handle: Any) -> np.ndarray:
    if handle.dtype.scalar == tl.bfloat16:
        return (handle.data.astype(np.uint32) << 16).view(np.float32)
    return handle.data.astype(np.float32)


def _to_bfloat16(data: np.ndarray) -> np.ndarray:
    """To the nearest, ties to even."""
    bits = np.ascontiguousarray(data, np.float32).view(np.uint32)
    rounded = ((bits + ((bits >> 16) & 1) + np.uint32(0x7FFF)) >> 16).astype(np.uint16)
    return np.where(np.isnan(data), np.uint16(0x7FC0), rounded)


def _to_tf32(data: np.ndarray) -> np.ndarray:
    """Ten bits of mantissa, to the nearest, ties away from zero, as cvt.rna.tf32 has it."""
    bits = np.ascontiguousarray(data).view(np.uint32)
    rounded = ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)
    return np.where(np.isfinite(data), rounded, data)


def _patches(current: Callable[[], _Watch]) -> dict[str, Callable[..., Any]]:
    """Replacements for methods of the interpreter's builder."""
    builder = interpreter.InterpreterBuilder
    load, store, grid = builder.create_masked_load, builder.create_masked_store, builder.set_grid_idx
    cast, dot = builder.cast_impl, builder.create_dot
    handle = interpreter.TensorHandle

    def masked_load(self: Any, pointers: Any, mask: Any, other: Any, *rest: Any) -> Any:
        current().touch("load", pointers, mask.data)
        if other is None and not mask.data.all():
            other = handle(_garbage(pointers, mask.data), pointers.get_element_ty())
        return load(self, pointers, mask, other, *rest)

    def masked_store(self: Any, pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
        current().touch("store", pointers, mask.data)
        return store(self, pointers, value, mask, *rest)

    def set_grid_idx(self: Any, x: int, y: int, z: int) -> Any:
        grid_x, grid_y, grid_z = self.grid_dim
        current().launch.grid = (grid_x, grid_y, grid_z)
        current().program = (x * grid_y + y) * grid_z + z
        return grid(self, x, y, z)

    def cast_impl(self: Any, source: Any, target: Any) -> Any:
        if source.dtype.scalar == tl.float32 and target.scalar == tl.bfloat16:
            return handle(_to_bfloat16(source.data), target.scalar)
        if source.dtype.scalar == tl.bfloat16 and target.scalar == tl.float32:
            return handle(_as_float32(source), target.scalar)
        return cast(self, source, target)

    def fp_to_fp(self: Any, source: Any, target: Any, rounding: Any) -> Any:
        return cast_impl(self, source, target)

    def create_dot(self: Any, a: Any, b: Any, acc: Any, precision: Any, *rest: Any) -> Any:
        current().launch.multiply_adds += a.data.size * b.data.shape[-1]
        if {a.dtype.scalar, b.dtype.scalar} - {tl.float16, tl.bfloat16, tl.float32}:
            return dot(self, a, b, acc, precision, *rest)
        x, y = _as_float32(a), _as_float32(b)
        if a.dtype.scalar == tl.float32 and str(precision).upper().endswith("TF32"):
            x, y = _to_tf32(x), _to_tf32(y)
        return handle((np.matmul(x, y) + acc.data).astype(acc.data.dtype), acc.dtype.scalar)

    def refuse(self: Any, *args: Any) -> Any:
        raise Violation("atomics are not watched: no kernel of this package needs one")

    casts = {"cast_impl": cast_impl, "create_fp_to_fp": fp_to_fp}
    memory = {"create_masked_load": masked_load, "create_masked_store": masked_store, "create_atomic_rmw": refuse}
    return {**memory, **casts, "create_dot": create_dot, "set_grid_idx": set_grid_idx}


@contextlib.contextmanager
def watch() -> Iterator[list[Launch]]:
    """Checks and counts all launches inside; yields their list."""
    builder, executor = interpreter.InterpreterBuilder, interpreter.GridExecutor
    call, options, launches = executor.__call__, interpreter.interpreter_builder.options, []
    active: list[_Watch] = []
    patches = _patches(lambda: active[-1])
    saved = {name: getattr(builder, name) for name in patches}
    set_attr = interpreter.TensorHandle.set_attr

    def checked_attr(self: Any, key: str, value: Any) -> None:
        if key == "tt.divisibility":
            active[-1].hint(self.data, value[-1])
        else:
            raise Violation(f"the hint {key} is not watched: no kernel of this package needs one")
        set_attr(self, key, value)

    def launch(self: Any, *args: Any, **kwargs: Any) -> Any:
        launches.append(Launch(self.fn.__name__))
        given = {**dict(zip(self.arg_names, args, strict=False)), **kwargs}
        tensors = {name: value for name, value in given.items() if isinstance(value, torch.Tensor)}
        assert all(tensor.device.type == "cpu" for tensor in tensors.values()), "the interpreter would copy others"
        apart = _Apart(tensors)
        given.update(apart.tensors)
        active.append(_Watch(launches[-1], apart.tensors))
        try:
            result = call(self, **given)
            apart.put_back()
            return result
        except InterpreterError as error:
            if isinstance(error.__cause__, AssertionError):
                raise error.__cause__ from None
            raise
        finally:
            active.pop()

    for name, function in patches.items():
        setattr(builder, name, function)
    executor.__call__ = launch
    interpreter.TensorHandle.set_attr = checked_attr
    interpreter.interpreter_builder.options = dataclasses.replace(options, debug=True)  # device_assert is alive
    try:
        yield launches
    finally:
        for name, function in saved.items():
            setattr(builder, name, function)
        executor.__call__ = call
        interpreter.TensorHandle.set_attr = set_attr
        interpreter.interpreter_builder.options = options
