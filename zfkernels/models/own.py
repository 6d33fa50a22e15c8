"""Networks and preprocessing of the user's own, named by module or file."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from zfkernels.models.function import LEVELS, PLAIN, normalization_of
from zfkernels.models.preprocess import Preprocess

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image


def load_object(name: str, what: str) -> Any:
    """What ``package.module:name`` or ``path/to/file.py:name`` names; modules of the current folder are found.

    Args:
        name: The name; a file's own folder is searched for what it imports, as that of a script is.
        what: For the message, such as ``get_model: expected model``.

    Raises:
        ValueError: No such module, file or name; a module that cannot be imported, with the reason.
    """
    place, _, attribute = name.rpartition(":")
    try:
        module = _file_module(Path(place)) if place.endswith(".py") else _module(place)
        return getattr(module, attribute)
    except (Exception, SystemExit) as error:  # of anybody's code
        raise refusal(name, what, error) from error


def refusal(name: str, what: str, error: BaseException) -> ValueError:
    """The sentence for an object of the user's own that raised ``error`` when it was imported or called."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return ValueError(f"{what} package.module:function or path/to/file.py:function, got {name!r} ({reason})")


def _module(name: str) -> ModuleType:
    _search(Path.cwd())  # as `python -m` does; a console script does not
    return importlib.import_module(name)


def _file_module(path: Path) -> ModuleType:
    path = path.resolve()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    known = sys.modules.get(path.stem)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    name = path.stem if known is None else f"_own_{path.stem}_{abs(hash(path)):x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    _search(path.parent)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _search(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


@dataclass(frozen=True)
class OwnPreprocess(Preprocess):
    """A function of the user's own, from a picture to what a network takes; :func:`own_preprocess` makes one.

    Attributes:
        name: ``package.module:function`` or ``path/to/file.py:function``.
    """

    name: str = ""

    def __call__(self, image: Image.Image | np.ndarray) -> Tensor:  # float32 [3, size, size]
        return _called(self.name, image)


def own_preprocess(
    name: str, mean: tuple[float, float, float] | None = None, std: tuple[float, float, float] | None = None
) -> OwnPreprocess:
    """The preprocessing that a name stands for: a function (or transform) from a PIL picture to a tensor [3, S, S].

    Its size and normalisation are measured on plain pictures of ``PLAIN`` pixels, black, dark grey and white.

    Args:
        name: As of :func:`load_object`.
        mean, std: Its normalisation; None: measured.

    Raises:
        TypeError: It returns no floating-point tensor.
        ValueError: There is no such function; it fails on such a picture; it returns another shape, or one that is not
            square; or, without ``mean`` and ``std``, its normalisation is not (pixels - mean) / std for each channel.
    """
    from PIL import Image

    values = [_measured(name, Image.new("RGB", PLAIN, (level,) * 3)) for level in LEVELS]
    size = values[0].shape[-1]
    if mean is None or std is None:
        found = normalization_of(values)
        if found is None:
            raise ValueError(
                f"own_preprocess: expected --mean and --std for {name!r}, whose normalisation is not (pixels - mean) / "
                f"std for each channel"
            )
        mean, std = ((float(m[0]), float(m[1]), float(m[2])) for m in found)
    return OwnPreprocess(size, size, mean, std, name)


@functools.cache
def _function(name: str) -> Any:
    return load_object(name, "own_preprocess: expected preprocess")


def _measured(name: str, plain: Image.Image) -> Tensor:
    function = _function(name)
    try:
        value = function(plain)
    except Exception as error:  # of anybody's code
        raise ValueError(
            f"own_preprocess: expected {name!r} to take a plain picture of {plain.width}x{plain.height} pixels, on "
            f"which its size is measured, got {type(error).__name__}: {error}"
        ) from error
    return _checked(name, value)


def _called(name: str, image: Image.Image | np.ndarray) -> Tensor:
    return _checked(name, _function(name)(image))


def _checked(name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        got = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"own_preprocess: expected {name!r} to return a floating-point tensor [3, S, S], got {got}")
    if value.dim() != 3 or value.shape[0] != 3 or value.shape[1] != value.shape[2]:
        raise ValueError(f"own_preprocess: expected {name!r} to return [3, S, S], got {tuple(value.shape)}")
    return value.to(torch.float32)
