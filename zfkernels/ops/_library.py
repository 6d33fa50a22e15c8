"""One op = one schema, one fake kernel, one autograd formula, several variants and this router.

An op is defined once, with :func:`define`; its variants are added to the returned :class:`Op`. The registered
implementation of ``torch.ops.zfkernels.<op>`` is the router: it picks a variant by device, or takes the one that was
asked for by name. A variant that was asked for and cannot run is an error, never a silent change of plan.

The package's own functions call the op through :class:`Op`, which goes to the router without the dispatcher where that
could only have arrived there: its walk through Python's autograd costs more than pooling a small map.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache, reduce
from operator import or_
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils.flop_counter import register_flop_formula

from zfkernels import _installation
from zfkernels.ops._autograd import autograd_kernel
from zfkernels.ops._guards import geometry_guard

LIBRARY = torch.library.Library("zfkernels", "DEF")
BACKENDS = ("reference", "cpp", "triton", "cuda")
PREFERENCE = {"cpu": ("cpp", "reference"), "cuda": ("cuda", "triton", "reference")}

OLDEST_TORCH = (2, 10)
_requested: ContextVar[str | None] = ContextVar(
    "zfkernels_backend", default=os.environ.get("ZFKERNELS_BACKEND") or None
)
_ops: dict[str, Op] = {}


class BackendError(RuntimeError):
    """A backend that was asked for by name cannot run; the message names the op, the reason and the choices."""


@dataclass(frozen=True)
class Variant:
    """One implementation of an op.

    ``load`` returns the callable and is called when the variant first runs, so that importing the package needs
    neither Triton nor the extension. ``missing`` says why the variant cannot run on this machine at all, ``refuses``
    why it cannot take these arguments (the op's own, flat); both return None when all is well.
    """

    name: str
    load: Callable[[], Callable[..., Any]]
    missing: Callable[[], str | None]
    refuses: Callable[..., str | None]


@dataclass
class Op:
    """A registered op and its variants; see :func:`define`."""

    name: str
    variants: dict[str, Variant] = field(default_factory=dict)
    encode: Callable[..., tuple[Any, ...]] | None = None
    preference: dict[str, tuple[str, ...]] = field(default_factory=lambda: dict(PREFERENCE))

    def __call__(self, *args: Any, backend: str | None = None) -> Any:
        """What ``torch.ops.zfkernels.<op>`` returns for these arguments."""
        call = self.route if only_a_kernel_runs(args) else getattr(torch.ops.zfkernels, self.name)
        return call(*args, backend=backend)

    def reference(self, function: Callable[..., Any]) -> None:
        """Adds the pure PyTorch variant: any device, any floating dtype."""
        self._add("reference", lambda: function, lambda: None, lambda *args: None)

    def native(
        self, name: str, dtypes: Sequence[torch.dtype], refuses: Callable[..., str | None] | None = None
    ) -> None:
        """Adds the compiled variant of this op: ``cpp`` (library ``_C``) or ``cuda`` (library ``_C_cuda``).

        Its kernel takes what ``encode``, if it is set, makes of the op's arguments: a text never reaches it.
        """
        device, library = {"cpp": ("cpu", "_C"), "cuda": ("cuda", "_C_cuda")}[name]

        def missing() -> str | None:
            problem = load_native(library)
            if problem is None and not _has_kernel(self.name, device):
                problem = f"the extension zfkernels.{library} was built without this op"
            if problem is None and device == "cuda" and not torch.cuda.is_available():
                problem = "torch finds no NVIDIA GPU with a driver"
            return problem

        def load() -> Callable[..., Any]:
            return self.encoded(_native_kernel(library, self.name))

        self._add(name, load, missing, _takes({device}, dtypes, refuses))

    def encoded(self, kernel: Callable[..., Any]) -> Callable[..., Any]:
        """A compiled kernel as a function of the op's own arguments."""
        encode = self.encode
        return kernel if encode is None else lambda *args: kernel(*encode(*args))

    def triton(self, dtypes: Sequence[torch.dtype], refuses: Callable[..., str | None] | None = None) -> None:
        """Adds the Triton variant: function ``<op>`` of the module ``triton_kernel`` in the op's folder."""

        def load() -> Callable[..., Any]:
            return getattr(importlib.import_module(f"zfkernels.ops.{self.name}.triton_kernel"), self.name)

        devices = {"cpu", "cuda"} if os.environ.get("TRITON_INTERPRET") == "1" else {"cuda"}
        self._add("triton", load, _triton_missing, _takes(devices, dtypes, refuses))

    def prefer(self, device: str, *order: str) -> None:
        """Sets which variants are tried, and in which order, for tensors on a device where none is asked for."""
        self.preference[device] = order

    def _add(self, name: str, load: Any, missing: Any, refuses: Any) -> None:
        self.variants[name] = Variant(name, cache(load), cache(missing), refuses)

    def why_not(self, backend: str, args: Sequence[Any] | None = None) -> str | None:
        """Why ``backend`` cannot run this op here (with these arguments, if given), or None if it can."""
        variant = self.variants.get(backend)
        if variant is None:
            return "it has no such variant"
        return variant.missing() or (variant.refuses(*args) if args is not None else None)

    def route(self, *args: Any, backend: str | None = None) -> Any:
        """Runs the variant asked for by argument, context manager or environment, else the first that can."""
        backend = backend or _requested.get()
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
) -> Op:
    """Registers ``torch.ops.zfkernels.<op>``.

    Args:
        schema: signature of the op, without the keyword ``backend``, which is added here.
        fake: shapes and strides of the outputs; takes the op's arguments without ``backend``.
        backward: autograd formula (or a function that refuses in words).
        setup_context: saves what ``backward`` needs.
        tangent: forward-mode formula: (arguments, tangents, output) to the tangents of the outputs; None: the op
            refuses tangents in words.
        guard: takes the op's arguments and raises where a kernel would leave its tensors. The package's own functions
            have checked all of it before; others may call the registered op. Geometry is guarded for every op.
        flops: from the op's arguments, with shapes in place of tensors, to 2 x its multiply-adds, for PyTorch's
            FlopCounterMode; None: it has none.
    """
    name = schema[: schema.index("(")]
    op = _ops[name] = Op(name)
    arguments, returns = schema.rsplit(") -> ", 1)
    LIBRARY.define(f"{arguments}, *, str? backend=None) -> {returns}", tags=(torch.Tag.pt2_compliant_tag,))
    overload = getattr(torch.ops.zfkernels, name).default
    guard_geometry, route = geometry_guard(name, [argument.name for argument in overload._schema.arguments]), op.route

    def run(*args: Any, backend: str | None = None) -> Any:
        guard_geometry(*args)
        if guard is not None:
            guard(*args)
        return route(*args, backend=backend)

    LIBRARY.impl(name, run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"zfkernels::{name}", lambda *args, backend=None: fake(*args), lib=LIBRARY)
    kernel = autograd_kernel(overload, backward, setup_context, tangent)
    LIBRARY.impl(name, kernel, "Autograd", with_keyset=True)
    if flops is not None:
        register_flop_formula(overload._overloadpacket)(lambda *args, out_shape, backend=None: flops(*args))
    return op


def no_gradient(op: str) -> Callable[..., Any]:
    """The autograd formula of an op that has none: it refuses in words."""

    def refuse(ctx: Any, *grads: Any) -> Any:
        raise RuntimeError(f"{op}: it has no gradient; expected tensors that do not require grad (or torch.no_grad())")

    return refuse


@contextlib.contextmanager
def use_backend(name: str) -> Iterator[None]:
    """All ops called inside run this variant, or raise :class:`BackendError` where they cannot.

    The environment variable ``ZFKERNELS_BACKEND``, read when the package is imported, does the same for a whole
    process; an op's own ``backend=`` argument goes before both, for its forward pass. Backward passes follow the
    setting in force when they run.

    Args:
        name: ``"reference"``, ``"cpp"``, ``"triton"`` or ``"cuda"``.

    Raises:
        ValueError: another name.
    """
    if name not in BACKENDS:
        raise ValueError(f"use_backend: expected name one of {BACKENDS}, got {name!r}")
    token = _requested.set(name)
    try:
        yield
    finally:
        _requested.reset(token)


def requested_backend(backend: str | None = None) -> str | None:
    """The variant asked for by name: ``backend``, else the setting in force; None: each op chooses by device."""
    return backend or _requested.get()


@contextlib.contextmanager
def fixed_weights() -> Iterator[None]:
    """Inside, the weights that this thread hands to ``window_conv2d`` must not change: ``cpp`` packs each only once.

    The copies, as large as the weights, are dropped at the end; a change in between would not be seen.
    """
    native = load_native("_C") is None
    if native:
        torch.ops.zfkernels_C.fix_weights(True)
    try:
        yield
    finally:
        if native:
            torch.ops.zfkernels_C.fix_weights(False)


def availability() -> list[tuple[str, str, str | None]]:
    """The table op x variant: ``(op, variant, reason why it cannot run here, or None)``."""
    return [(op.name, name, op.why_not(name)) for op in _ops.values() for name in BACKENDS]


def registered() -> dict[str, Op]:
    """All ops by name; tests and benchmarks take their parameters from it."""
    return dict(_ops)


@cache
def load_native(library: str) -> str | None:
    """Loads the extension library once; returns why it cannot be loaded, or None."""
    found = _installation.libraries(library)
    if not found:
        return _installation.why_not_built(library)
    if tuple(map(int, torch.__version__.split(".")[:2])) < OLDEST_TORCH:
        return f"the extension zfkernels.{library} needs torch 2.10 or newer, got {torch.__version__}"
    if library == "_C_cuda" and torch.version.cuda is None:
        return "this torch is built without CUDA"
    if library == "_C_cuda":  # its ops live in the namespace that _C defines
        problem = load_native("_C")
        if problem is not None:
            return problem
    try:
        if library == "_C":
            importlib.import_module("zfkernels._C")
        else:
            torch.ops.load_library(str(found[0]))
    except (ImportError, OSError) as error:
        return f"the extension zfkernels.{library} cannot be loaded: {error}"
    wanted = os.environ.get("ZFKERNELS_CPU_VARIANT")
    if library == "_C" and wanted and f"cpu_variant_in_use={wanted}\n" not in _build_info():
        return f"expected ZFKERNELS_CPU_VARIANT one that was built and that this processor runs, got {wanted!r}"
    return None


def build_info() -> str | None:
    """What the extension ``_C`` was built with, or None where it is not built."""
    return _build_info() if load_native("_C") is None else None


def cpu_variants() -> list[str]:
    """The instruction sets that the C++ kernels can use here, the one in use last; none where they are not built."""
    lines = dict(line.split("=", 1) for line in (build_info() or "").splitlines())
    built, used = lines.get("cpu_variants", "").split(","), lines.get("cpu_variant_in_use")
    return built[: built.index(used) + 1] if used in built else []


def _build_info() -> str:
    return importlib.import_module("zfkernels._C").build_info()


def _native_kernel(library: str, name: str) -> Callable[..., Any]:
    """A function of the extension itself where torch lets it take Python's tensors (2.14 on), else the op of torch's.

    The former skips torch's conversions and dispatcher: nothing but the kernel runs, which is all that is left to do.
    """
    extension = importlib.import_module("zfkernels._C") if library == "_C" else None
    return getattr(extension, name, None) or getattr(torch.ops.zfkernels_C, name).default


def _has_kernel(name: str, device: str) -> bool:
    return hasattr(torch.ops.zfkernels_C, name) and torch._C._dispatch_has_kernel_for_dispatch_key(
        f"zfkernels_C::{name}", device.upper()
    )


def _triton_missing() -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if os.environ.get("TRITON_INTERPRET") != "1" and not torch.cuda.is_available():
        return "no GPU is available to torch (TRITON_INTERPRET=1 runs Triton kernels on the CPU, slowly)"
    return None


def _takes(devices: set[str], dtypes: Sequence[torch.dtype], refuses: Callable[..., str | None] | None) -> Any:
    def check(*args: Any) -> str | None:
        for arg in _flat(args):
            if type(arg) not in _PLAIN_TYPES and isinstance(arg, Tensor):
                device = _device_of(arg)
                if device not in devices:
                    return f"it runs on {sorted(devices)}, the tensors are on {device}"
                dtype = arg.dtype
                if dtype not in dtypes and dtype.is_floating_point:
                    return f"it takes {[str(d).removeprefix('torch.') for d in dtypes]}, got {dtype}"
        return refuses(*args) if refuses is not None else None

    return check


_PLAIN_TYPES = frozenset({int, bool, str, tuple, list, torch.Size, type(None)})  # of an op's arguments but tensors


def _keys(*names: str) -> int:
    keys = (torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, name)).raw_repr() for name in names)
    return reduce(or_, keys)


# That every thread includes where nothing was asked for.
_USUAL_KEYS = _keys("BackendSelect", "ADInplaceOrView")
# Of a dense tensor on the CPU or a GPU: no wrapper, no sign that is kept as a bit, no layout of its own.
_PLAIN_KEYS = _keys("CPU", "CUDA", "AutogradCPU", "AutogradCUDA", "AutocastCPU", "AutocastCUDA", "ADInplaceOrView")


def only_a_kernel_runs(args: Sequence[Any]) -> bool:
    """Whether the dispatcher has nothing to do but call the router.

    Not with a gradient or a tangent to find, a mode, transform, trace, profiler or subclass, or a sign kept as a bit.
    """
    if torch.compiler.is_compiling() or torch._C._is_torch_function_mode_enabled() or forward_ad._current_level >= 0:
        return False
    if torch._C._autograd._profiler_enabled():  # it learns from the dispatcher what runs
        return False
    if torch._C._dispatch_tls_local_include_set().raw_repr() & ~_USUAL_KEYS:
        return False
    recording = torch.is_grad_enabled()
    for arg in _flat(args):
        kind = type(arg)
        if kind is Tensor or kind is torch.nn.Parameter:
            if torch._C._dispatch_keys(arg).raw_repr() & ~_PLAIN_KEYS or (recording and arg.requires_grad):
                return False
        elif kind not in _PLAIN_TYPES:
            return False
    return True


def _flat(args: Sequence[Any]) -> Iterator[Any]:
    """The arguments of an op, those in lists of tensors one by one."""
    for arg in args:
        if type(arg) is list:
            yield from arg
        else:
            yield arg


def _device_of(tensor: Tensor) -> str:
    if tensor.is_cpu:  # at a tenth of the price of naming the device
        return "cpu"
    return tensor.device.type
