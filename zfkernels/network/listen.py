"""Runs a model once on a fake batch of images and notes what reaches ATen, and what each module returns.

Only the images are fake. What does not depend on them is computed for real, so that whatever the model keeps for later
(grids, parametrised weights) is real. A dispatch mode and a profile function see it; both are local to the thread.
"""

from __future__ import annotations

import logging
import operator
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from types import FrameType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    UnsupportedOperatorException,
)
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from zfkernels.network.contexts import users_context, without_autocast
from zfkernels.network.events import Events, UnwritableError, Value, Viewing, map_tensors
from zfkernels.network.functional import functional, is_random, is_viewing, written
from zfkernels.network.refusals import UnrecordableError
from zfkernels.network.tree import map_leaves

aten = torch.ops.aten
_CALL = nn.Module.__call__.__code__
_BY_VALUES = (DataDependentOutputException, DynamicOutputShapeException)
_DECIDES = {"_local_scalar_dense", "item", "is_nonzero", "equal", "allclose"}
_TRAINING = [argument.name for argument in aten.batch_norm.default._schema.arguments].index("training")
_DROPOUTS = {"dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"}
_PAUSES = sys.version_info < (3, 12)  # later Pythons pay for switching a profile function more than for its calls


_here = threading.local()


class _Quiet(logging.Filter):
    """What fails for fake images raises an error: in the thread that records PyTorch need not log it too."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not getattr(_here, "listening", False)


logging.getLogger("torch._subclasses.fake_tensor").addFilter(_Quiet())


class _Plain(TorchFunctionMode):
    """Changes nothing; while it is active, PyTorch's attention avoids its fused operation, which has no gradient."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class Listener(TorchDispatchMode):
    """Notes one run of a model.

    Args:
        fake: the mode that fake tensors live in.
        paths: path of each module by its id.
    """

    def __init__(self, fake: FakeTensorMode, paths: Mapping[int, str]) -> None:
        super().__init__()
        self.fake, self.paths = fake, paths
        self.notes = Events()
        self.layers: list[tuple[str, int, Any]] = []  # path, call, what it returned, with values for tensors
        self.calls: Counter[str] = Counter()
        self.problem: UnrecordableError | None = None
        self.frames: list[tuple[FrameType, str | None, int]] = []

    def listen(self, model: nn.Module, images: Tensor) -> Any:
        """The output of ``model`` for fake ``images``, with :class:`Value` in place of tensors.

        Raises:
            UnrecordableError: the model decides by values, draws random numbers, writes to tensors that it keeps, or
                fails.
        """
        self.notes.add_input(images)
        before = sys.getprofile()
        error: Exception | None = None
        try:
            with torch.inference_mode(), without_autocast(), users_context(), _Plain(), self:
                _here.listening = True
                sys.setprofile(self._profile)
                try:
                    result = model(images)
                finally:
                    sys.setprofile(None)
                    _here.listening = False
                    _restore_profile(before)
        except Exception as raised:  # noqa: BLE001 - whatever the model's own code raises
            error = raised
        if self.problem is not None:
            raise self.problem from error
        if error is not None:
            reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            raise UnrecordableError(reason, *self._where(error)) from error
        return self._read(result)

    def _read(self, value: Any) -> Any:
        return map_leaves(lambda leaf: self.notes.read(leaf) if isinstance(leaf, Tensor) else leaf, value)

    # Modules ----------------------------------------------------------------------------------------------------------

    def _profile(self, frame: FrameType, event: str, result: Any) -> None:
        if frame.f_code is not _CALL:
            return
        if event == "call":
            module = frame.f_locals.get("self")
            path = self.paths.get(id(module))
            self.frames.append((frame, path, len(self.notes.events)))
            if path is not None:
                self.notes.scope = (*self.notes.scope, (path, self.calls[path]))
                self.calls[path] += 1
        elif event == "return" and self.frames and self.frames[-1][0] is frame:
            _, path, start = self.frames.pop()
            if path is None:
                return
            self._keep_whole(frame.f_locals, start, result)
            self.layers.append((*self.notes.scope[-1], self._read(result)))
            self.notes.scope = self.notes.scope[:-1]

    def _keep_whole(self, arguments: Mapping[str, Any], start: int, result: Any) -> None:
        """Local response normalisation stays one operation."""
        module, given = arguments.get("self"), arguments.get("args", ())
        if type(module) is nn.LocalResponseNorm and len(given) == 1 and self.notes.is_moving(result):
            sizes = (module.size, module.alpha, module.beta, module.k)
            source = self.notes.read(given[0])
            self.notes.fold(start, F.local_response_norm, (source, *sizes), result)

    def _where(self, error: BaseException) -> tuple[str, str]:
        """The module and the line of the model's own code that an error came from."""
        module, line, place = "", "", error.__traceback__
        while place is not None:
            frame = place.tb_frame
            if frame.f_code is _CALL:
                module = self.paths.get(id(frame.f_locals.get("self")), module)
            elif not _is_inner(frame.f_code.co_filename):
                line = f"{frame.f_code.co_filename}:{place.tb_lineno}"
            place = place.tb_next
        return module, line

    # Operations -------------------------------------------------------------------------------------------------------

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if _PAUSES:
            sys.setprofile(None)
        try:
            with torch._C.DisableTorchFunction():
                return self._note(func, args, kwargs or {})
        except UnrecordableError as problem:
            self.problem = self.problem or problem
            raise
        finally:
            if _PAUSES:
                sys.setprofile(self._profile)

    def _refuse(self, reason: str) -> UnrecordableError:
        return UnrecordableError(reason, _module_of(self.frames), _line_here())

    def _note(self, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tensors: list[Tensor] = []
        map_tensors(tensors.append, (args, kwargs))
        moving = any(self.notes.is_moving(tensor) for tensor in tensors)
        name = op._schema.name.partition("::")[2]
        if moving and name in _DECIDES:
            raise self._refuse("it decides by the values that it computes")
        if is_random(op, args, kwargs):
            raise self._refuse(f"it draws random numbers ({name})")
        if name.rstrip("_") in _DROPOUTS:
            return args[0]  # it is switched off
        if name == "detach_":
            return self._run(op, args, kwargs, moving and isinstance(args[0], FakeTensor))
        if torch.Tag.inplace_view in op.tags:
            return self._reshape_in_place(op, args, kwargs)
        if written(op):
            return self._write(op, args, kwargs, moving)
        result = self._run(op, args, kwargs, moving and not self._is_real_view(op, tensors))
        if isinstance(result, Tensor):
            if not any(result is tensor for tensor in tensors):
                self._see(op, args, kwargs, tensors, result)
        elif isinstance(result, (tuple, list)) and any(isinstance(part, Tensor) for part in result):
            self._see_several(op, args, kwargs, tensors, result)
        return result

    def _run(self, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any], fake: bool) -> Any:
        if not fake:
            with torch.inference_mode(False), torch.no_grad():
                return op(*args, **kwargs)
        try:
            with self.fake:
                # In eval mode; the general way takes 100 times longer.
                if op is aten.batch_norm.default and not args[_TRAINING]:
                    return aten.empty_like.default(args[0])
                return op(*args, **kwargs)
        except _BY_VALUES:
            raise self._refuse("it decides by the values that it computes") from None
        except (UnsupportedOperatorException, NotImplementedError) as error:
            raise self._refuse(f"nothing is known of the shape that {op} returns") from error

    def _is_real_view(self, op: Any, tensors: list[Tensor]) -> bool:
        """A view of a real tensor that the images were written into: it must share that tensor's memory."""
        return is_viewing(op) and not any(isinstance(tensor, FakeTensor) for tensor in tensors)

    def _values(self, tree: Any) -> Any:
        return map_tensors(self.notes.read, tree)

    def _see(
        self, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any], tensors: list[Tensor], result: Tensor
    ) -> None:
        notes = self.notes
        given, named = self._values(args), self._values(kwargs)
        event = notes.add(op, given, named, result)
        base = notes.is_view_of(result, iter(tensors))
        if base is None:
            notes.own(result, event)
        elif args and base is args[0]:
            notes.see(Viewing(op, given[1:], named, base, result), event)
        else:
            raise self._refuse(f"{op} returns a part of an argument behind the first")

    def _see_several(
        self, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any], tensors: list[Tensor], results: Any
    ) -> None:
        notes = self.notes
        given, named = self._values(args), self._values(kwargs)
        several = notes.add(op, given, named, None)
        for index, result in enumerate(results):
            if not isinstance(result, Tensor) or any(result is tensor for tensor in tensors):
                continue
            event = notes.add(operator.getitem, (Value(several), index), {}, result)
            base = notes.is_view_of(result, iter(tensors))
            if base is None:
                notes.own(result, event)
            else:
                notes.see(Viewing(op, given[1:], named, base, result, index), event)

    def _reshape_in_place(self, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """``unsqueeze_`` and the like: the same tensor in another shape."""
        plain, target = functional(op), args[0]
        if plain is None or id(target) not in self.notes.views:
            raise self._refuse(f"{op} changes a tensor that the model keeps")
        moving = self.notes.is_moving(target)
        given = self._values(args)
        before = self._run(aten.alias.default, (target,), {}, moving and isinstance(target, FakeTensor))
        view = self.notes.views[id(target)]
        self._run(op, args, kwargs, moving and isinstance(target, FakeTensor))
        view.event = self.notes.add(plain, given, self._values(kwargs), target)
        view.chain = (*view.chain, Viewing(plain, given[1:], kwargs, before, target))
        return target

    def _write(self, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any], moving: bool) -> Any:
        notes = self.notes
        places = written(op)
        position, name = places[0]
        target = args[position] if position < len(args) else kwargs.get(name)
        plain = functional(op)
        if len(places) > 1 or plain is None or not isinstance(target, Tensor):
            raise self._refuse(f"{op} changes its arguments in a way that is not known")
        if id(target) not in notes.views or not notes.is_ours(target):
            raise self._refuse(f"{op} changes a tensor that the model keeps")
        out = op._schema.arguments[position].kwarg_only
        rest = {key: value for key, value in kwargs.items() if not (out and key == name)}
        given, named = self._values(args), self._values(rest)
        if out or _promotes(target, args, rest):
            result = self._run(plain, args, rest, moving)
            if result.shape != target.shape:
                raise self._refuse(f"{op} changes the size of its result")
            dtype = result.dtype
        else:
            dtype = target.dtype
        notes.before_write(target)
        if not moving:
            self._run(op, args, kwargs, fake=False)
        event = self._written(plain, given, named, target, args)
        if dtype != target.dtype:
            event = notes.add(aten.to.dtype, (Value(event), target.dtype), {}, target)
        try:
            notes.write(target, event)
        except UnwritableError as error:
            raise self._refuse(f"{op} writes through a view made by {error}") from None
        return target

    def _written(
        self, plain: Any, given: tuple[Any, ...], named: dict[str, Any], target: Tensor, args: tuple[Any, ...]
    ) -> int:
        """The event of what is written; of a plain copy the copied value itself."""
        source = args[1] if len(args) > 1 else None
        if plain is aten.copy.default and isinstance(source, Tensor) and isinstance(given[1], Value):
            like = (source.shape, source.dtype, source.device)
            if like == (target.shape, target.dtype, target.device):
                return given[1].event
        return self.notes.add(plain, given, named, target)


def _promotes(target: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the same operation out of place might return another dtype."""
    others: list[Tensor] = []
    map_tensors(others.append, (args, kwargs))
    return not target.is_floating_point() or any(other.dtype != target.dtype for other in others)


def _restore_profile(before: Any) -> None:
    if before is None or callable(before):
        sys.setprofile(before)
    else:  # cProfile's, which is no function
        before.enable()


def _module_of(frames: list[tuple[FrameType, str | None, int]]) -> str:
    return next((path for _, path, _ in reversed(frames) if path), "")


def _line_here() -> str:
    frame: FrameType | None = sys._getframe()
    while frame is not None and _is_inner(frame.f_code.co_filename):
        frame = frame.f_back
    return "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


_INNER = (*torch.__path__, __file__.rpartition("/")[0])


def _is_inner(filename: str) -> bool:
    return filename.startswith(_INNER) or filename.startswith("<")
