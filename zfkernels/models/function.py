"""Anybody's preprocessing: a transform of torchvision's or timm's, a HuggingFace processor, a function."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zfkernels.models.preprocess import Preprocess

Normalization = tuple[tuple[float, ...], tuple[float, ...]]
LEVELS = (0, 51, 255)  # of the plain pictures that a normalisation is measured on
PLAIN = (400, 300)  # their width and height
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


@dataclass(frozen=True)
class PreprocessFunction:
    """A function from a picture or an array to what a network takes.

    Attributes:
        function: From a picture (``PIL.Image``) or a NumPy array to a floating-point tensor or array [C, H, W]; or a
            HuggingFace processor.
    """

    function: Callable[..., Any]

    def __call__(self, image: Any) -> Tensor:  # float32 [C, H, W]
        """The picture or array as the network takes it.

        Raises:
            TypeError: The function returns no floating-point tensor.
            ValueError: It returns one of another shape than [C, H, W].
        """
        if hasattr(self.function, "model_input_names"):  # a processor of transformers
            value = self.function(images=image, return_tensors="pt")["pixel_values"][0]
        else:
            value = self.function(image)
        value = value if isinstance(value, Tensor) else torch.as_tensor(value)
        if not value.is_floating_point():
            raise TypeError(f"preprocess: expected a function that returns floating-point numbers, got {value.dtype}")
        if value.dim() != 3:
            raise ValueError(f"preprocess: expected a function that returns [C, H, W], got {tuple(value.shape)}")
        return value.detach().to(torch.float32)

    def record(self) -> dict[str, str]:
        """What tells it from another one, in words that are the same in each process."""
        return {"function": name_of(self.function)}

    def normalization(self, mode: str) -> Normalization | None:
        """Means and standard deviations, for pixels in [0, 1], of the channels that it makes of pictures of a mode of
        Pillow's; None where it is not (pixels - mean) / std for each channel."""
        from PIL import Image

        bands = len(Image.new(mode, (1, 1)).getbands())
        try:
            values = [self(Image.new(mode, PLAIN, (level,) * bands if bands > 1 else level)) for level in LEVELS]
        except Exception:  # noqa: BLE001  # of anybody's code, that takes no such picture
            return None
        return normalization_of(values)


def normalization_of(values: list[Tensor]) -> Normalization | None:
    """The normalisation that made ``values``, [C, H, W] each, of plain pictures of the grey levels ``LEVELS``."""
    black, dark, white = (value.double().mean((1, 2)) for value in values)
    step = white - black
    even = max(float((value - value.double().mean((1, 2), keepdim=True)).abs().max()) for value in values)
    bent = float((dark - black - step * LEVELS[1] / 255).abs().max())
    if bool((step <= 0).any()) or max(even, bent) > 1e-3 * float(step.abs().max()):
        return None
    return tuple((-black / step).tolist()), tuple((1 / step).tolist())


def name_of(function: Any) -> str:
    """A function's name, or what an object says of itself, without addresses: the same in each process."""
    named = getattr(function, "__qualname__", None)
    return _ADDRESS.sub("", f"{function.__module__}.{named}" if named else repr(function))


@dataclass(frozen=True)
class Planes:
    """An array as a network of ``channels`` channels takes it: [C, H, W], its values as they are."""

    channels: int

    def __call__(self, image: Any) -> Tensor:  # float32 [C, H, W]
        """The planes of an array [H, W], [H, W, C] or [C, H, W].

        Raises:
            ValueError: It has another number of channels.
        """
        import numpy as np

        array = np.asarray(image)
        array = array[None] if array.ndim == 2 else array
        if array.ndim == 3 and array.shape[0] != self.channels and array.shape[2] == self.channels:
            array = array.transpose(2, 0, 1)
        if array.ndim != 3 or array.shape[0] != self.channels:
            raise ValueError(f"an array {tuple(array.shape)} instead of one of {self.channels} channels")
        return torch.from_numpy(np.array(array, np.float32, order="C"))

    def record(self) -> dict[str, int]:
        """What tells it from another one."""
        return {"channels": self.channels}


AnyPreprocess = Preprocess | PreprocessFunction | Planes


def as_preprocess(name: str, value: Any) -> AnyPreprocess:
    """``value`` as a preprocessing.

    Raises:
        TypeError: It cannot be called.
    """
    if isinstance(value, (Preprocess, PreprocessFunction, Planes)):
        return value
    if not callable(value):
        raise TypeError(
            f"{name}: expected preprocess a function from a picture to a tensor [C, H, W], got {type(value).__name__}"
        )
    return PreprocessFunction(value)
