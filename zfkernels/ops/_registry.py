"""One op = one schema, one fake kernel, one autograd formula, several variants and this router.

An op is defined once, with :func:`define`; its variants are added to the returned :class:`Op`. The registered
implementation of ``torch.ops.zfkernels.<op>`` is the router: it picks a variant by device, or takes the one that was
asked for by name. A variant that was asked for and cannot run is an error, never a silent change of plan.

The package's own functions call the op through :class:`Op`, which goes to the router without the dispatcher where that
could only have arrived there: :mod:`zfkernels.ops._direct`.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from zfkernels import _installation
from zfkernels.ops import _native as native
from zfkernels.ops._autograd import autograd_kernel
from zfkernels.ops._backends import BACKENDS, BackendError, requested_backend
from zfkernels.ops._direct import PLAIN_TYPES, flat, only_a_kernel_runs
from zfkernels.ops._guards import geometry_guard

LIBRARY = torch.library.Library("zfkernels", "DEF")
PREFERENCE = {"cpu": ("cpp", "reference"), "cuda": ("cuda", "triton", "reference")}
Refuses = Callable[..., str | None]
_ops: dict[str, Op] = {}


@dataclass(frozen=True)
class Variant:
    """One implementation of an op.

    ``load`` returns the callable and is called when the variant first runs, so that importing the package needs
    neither Triton nor the extension. ``missing`` says why the variant cannot run on this machine at all, ``refuses``
    why it cannot take these arguments (the op's own, in order); both return None when all is well.
    """

    name: str
    load: Callable[[], Callable[..., Any]]
    missing: Callable[[], str | None]
    refuses: Refuses


@dataclass
class Op:
    """A registered op and its variants; see :func:`define`.

    Attributes:
        names: Of its arguments, in order.
        flags: The arguments that are texts, with the word that compiled kernels are told of: they take "is it that
            word?" in place of a text, which headers of torch before 2.14 never free.
    """

    name: str
    names: Sequence[str] = ()
    flags: Mapping[str, str] = field(default_factory=dict)
    variants: dict[str, Variant] = field(default_factory=dict)
    preference: dict[str, tuple[str, ...]] = field(default_factory=lambda: dict(PREFERENCE))

    def __call__(self, *args: Any, backend: str | None = None) -> Any:
        """What ``torch.ops.zfkernels.<op>`` returns for these arguments."""
        call = self.route if only_a_kernel_runs(args) else getattr(torch.ops.zfkernels, self.name)
        return call(*args, backend=backend)

    def reference(self, function: Callable[..., Any]) -> None:
        """Adds the pure PyTorch variant: any device, any floating dtype."""
        self._add("reference", lambda: function, lambda: None, lambda *args: None)

    def native(self, name: str, dtypes: Sequence[torch.dtype], refuses: Refuses | None = None) -> None:
        """Adds the compiled variant of this op: ``cpp`` (library ``_C``) or ``cuda`` (library ``_C_cuda``).

        ``refuses`` takes the op's arguments by name.
        """
        device, library = {"cpp": ("cpu", "_C"), "cuda": ("cuda", "_C_cuda")}[name]

        def missing() -> str | None:
            problem = native.load_native(library)
            if problem is None and not native.has_kernel(self.name, device):
                problem = f"the extension zfkernels.{library} was built without this op"
            if problem is None and device == "cuda" and not torch.cuda.is_available():
                problem = "torch finds no NVIDIA GPU with a driver"
            return problem

        def load() -> Callable[..., Any]:
            return self.encoded(native.native_kernel(library, self.name))

        self._add(name, load, missing, self._takes({device}, dtypes, refuses))

    def encoded(self, kernel: Callable[..., Any]) -> Callable[..., Any]:
        """A compiled kernel as a function of the op's own arguments."""
        words = [(self.names.index(name), word) for name, word in self.flags.items()]
        if not words:
            return kernel

        def run(*args: Any) -> Any:
            values = list(args)
            for place, word in words:
                values[place] = args[place] == word
            return kernel(*values)

        return run

    def triton(self, dtypes: Sequence[torch.dtype], refuses: Refuses | None = None) -> None:
        """Adds the Triton variant: function ``<op>`` of the module ``triton_kernel`` in the op's folder.

        ``refuses`` takes the op's arguments by name.
        """

        def load() -> Callable[..., Any]:
            return getattr(importlib.import_module(f"zfkernels.ops.{self.name}.triton_kernel"), self.name)

        devices = {"cpu", "cuda"} if os.environ.get("TRITON_INTERPRET") == "1" else {"cuda"}
        self._add("triton", load, _triton_missing, self._takes(devices, dtypes, refuses))

    def prefer(self, device: str, *order: str) -> None:
        """Sets which variants are tried, and in which order, for tensors on a device where none is asked for."""
        self.preference[device] = order

    def _add(self, name: str, load: Any, missing: Any, refuses: Any) -> None:
        self.variants[name] = Variant(name, cache(load), cache(missing), refuses)

    def _takes(self, devices: set[str], dtypes: Sequence[torch.dtype], refuses: Refuses | None) -> Refuses:
        def check(*args: Any) -> str | None:
            for arg in flat(args):
                if type(arg) not in PLAIN_TYPES and isinstance(arg, Tensor):
                    device = _device_of(arg)
                    if device not in devices:
                        return f"it runs on {sorted(devices)}, the tensors are on {device}"
                    dtype = arg.dtype
                    if dtype not in dtypes and dtype.is_floating_point:
                        return f"it takes {[str(d).removeprefix('torch.') for d in dtypes]}, got {dtype}"
            return refuses(**self.named(args)) if refuses is not None else None

        return check

    def named(self, args: Sequence[Any]) -> dict[str, Any]:
        """The op's arguments by name."""
        return dict(zip(self.names, args, strict=True))

    def why_not(self, backend: str, args: Sequence[Any] | None = None) -> str | None:
        """Why ``backend`` cannot run this op here (with these arguments, if given), or None if it can."""
        variant = self.variants.get(backend)
        if variant is None:
            return "it has no such variant"
        return variant.missing() or (variant.refuses(*args) if args is not None else None)

    def route(self, *args: Any, backend: str | None = None) -> Any:
        """Runs the variant asked for by argument, context manager or environment, else the first that can."""
        backend = requested_backend(backend)
        if backend is None:
            for name in self.preference.get(_device_of(args[0]), ("reference",)):
                if self.why_not(name, args) is None:
                    if name == "reference":
                        self._say_what_is_missing(args)
                    return self.variants[name].load()(*args)
        reason = self.why_not(backend or "reference", args)
        if reason is not None:
            usable = [name for name in self.variants if self.why_not(name, args) is None]
            raise BackendError(f"{self.name}: backend {backend!r} cannot run: {reason}; choices here: {usable}")
        return self.variants[backend or "reference"].load()(*args)

    def _say_what_is_missing(self, args: Sequence[Any]) -> None:
        """Says once that the reference runs where a kernel would, were it installed."""
        order = self.preference.get(_device_of(args[0]), ())
        kernels = [self.variants[name] for name in order if name in self.variants]
        reasons = [kernel.missing() for kernel in kernels if kernel.refuses(*args) is None and kernel.missing()]
        if reasons:
            _installation.warn("; ".join(map(str, reasons)))


def define(
    schema: str,
    *,
    fake: Callable[..., Any],
    backward: Callable[..., Any],
    setup_context: Callable[..., Any] | None = None,
    tangent: Callable[..., Any] | None = None,
    guard: Callable[..., None] | None = None,
    flops: Callable[..., int] | None = None,
    flags: Mapping[str, str] | None = None,
) -> Op:
    """Registers ``torch.ops.zfkernels.<op>``, and the schema of its compiled kernels in ``torch.ops.zfkernels_C``.

    ``fake``, ``guard`` and ``flops`` take the op's arguments by name, without ``backend``.

    Args:
        schema: signature of the op, without the keyword ``backend``, which is added here.
        fake: shapes and strides of the outputs.
        backward: autograd formula (or a function that refuses in words).
        setup_context: saves what ``backward`` needs.
        tangent: forward-mode formula: (arguments, tangents, output) to the tangents of the outputs; None: the op
            refuses tangents in words.
        guard: raises where a kernel would leave its tensors. The package's own functions have checked all of it
            before; others may call the registered op. Geometry is guarded for every op.
        flops: with shapes in place of tensors, 2 x the op's multiply-adds, for PyTorch's FlopCounterMode; None: it has
            none.
        flags: for each text among the arguments the word that compiled kernels are told of.
    """
    name = schema[: schema.index("(")]
    arguments, returns = schema.rsplit(") -> ", 1)
    LIBRARY.define(f"{arguments}, *, str? backend=None) -> {returns}", tags=(torch.Tag.pt2_compliant_tag,))
    overload = getattr(torch.ops.zfkernels, name).default
    op = Op(name, [argument.name for argument in overload._schema.arguments[:-1]], flags or {})
    _ops[name] = op
    native_arguments = arguments.replace("SymInt", "int")
    for text, word in op.flags.items():
        native_arguments = native_arguments.replace(f"str {text}", f"bool {word}")
    native.NATIVE.define(f"{native_arguments}) -> {returns}")
    guard_geometry, named, route = geometry_guard(name, op.names), op.named, op.route

    def run(*args: Any, backend: str | None = None) -> Any:
        guard_geometry(*args)
        if guard is not None:
            guard(**named(args))
        return route(*args, backend=backend)

    LIBRARY.impl(name, run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"zfkernels::{name}", lambda *args, backend=None: fake(**named(args)), lib=LIBRARY)
    kernel = autograd_kernel(overload, backward, setup_context, tangent)
    LIBRARY.impl(name, kernel, "Autograd", with_keyset=True)
    if flops is not None:
        count = flops  # of the shapes that PyTorch's counter hands over in place of tensors
        register_flop_formula(overload._overloadpacket)(lambda *args, out_shape, backend=None: count(**named(args)))
    return op


def no_gradient(op: str) -> Callable[..., Any]:
    """The autograd formula of an op that has none: it refuses in words."""

    def refuse(ctx: Any, *grads: Any) -> Any:
        raise RuntimeError(f"{op}: it has no gradient; expected tensors that do not require grad (or torch.no_grad())")

    return refuse


def availability() -> list[tuple[str, str, str | None]]:
    """The table op x variant: ``(op, variant, reason why it cannot run here, or None)``."""
    return [(op.name, name, op.why_not(name)) for op in _ops.values() for name in BACKENDS]


def registered() -> dict[str, Op]:
    """All ops by name; tests and benchmarks take their parameters from it."""
    return dict(_ops)


def _triton_missing() -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if os.environ.get("TRITON_INTERPRET") != "1" and not torch.cuda.is_available():
        return "no GPU is available to torch (TRITON_INTERPRET=1 runs Triton kernels on the CPU, slowly)"
    return None


def _device_of(tensor: Tensor) -> str:
    if tensor.is_cpu:  # at a tenth of the price of naming the device
        return "cpu"
    return tensor.device.type
