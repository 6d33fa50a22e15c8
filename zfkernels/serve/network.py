"""One network, loaded once: its layers, its classes, and its clean pass over a photo."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import zfkernels
from zfkernels.models import Preprocess

OUTPUT = ""  # the name of the whole network among its layers


@dataclass(frozen=True)
class CleanPass:
    """What a network computed for one photo.

    Attributes:
        image: [1, 3, H, W], as the network takes it.
        forward: The pass, from which activations of every layer can be projected.
        scores: [classes], the raw outputs; None for a network that says something else.
        size: Bytes that it holds, about.
    """

    image: Tensor
    forward: Any
    scores: Tensor | None
    size: int

    def maps(self, layer: str) -> Tensor:
        """[C, h, w]: the values of a layer; of a layer without maps h = w = 1."""
        return self.forward.activations(layer)[0]


class Network:
    """A network in eval mode, ready to be asked about photos of one size. Its methods are for one thread at a time.

    Args:
        model: The network; it is left untouched.
        preprocess: From a picture to what it takes.
        name: What people call it.
        backend: Variant of the kernels; None chooses by device.

    Attributes:
        layers: The table of layers: name, kind, channels, size, stride, receptive field.
        size: (H, W) of the images.
        answers: Whether its output is scores of classes.

    Raises:
        ValueError: A network that does not take images of three channels, or has no layers.
        UnrecordableError: What it does depends on the values that it computes.
    """

    def __init__(self, model: nn.Module, preprocess: Preprocess, name: str, backend: str | None = None) -> None:
        self.model, self.preprocess, self.name, self.backend = model, preprocess, name, backend
        self.net = zfkernels.DeconvNet(model, backend=backend)
        self.size = preprocess.size, preprocess.size
        parameter = next(model.parameters(), torch.empty(0))
        self.device, self.dtype = parameter.device, parameter.dtype
        trace = zfkernels.trace_model(model, self.size)
        if trace.channels != 3:
            raise ValueError(
                f"serve: expected model that takes images of 3 channels (red, green, blue), got {name}, which takes "
                f"{trace.channels}"
            )
        self.layers = tuple(trace.layer_info())
        self.by_name = {info.name: info for info in self.layers}
        if not self.layers:
            raise ValueError(f"serve: expected model a network with layers, got {name} with none")
        self.class_names = tuple(getattr(model, "class_names", ()))
        self.answers = self._has_answers()
        self.clean(torch.zeros(1, 3, *self.size))  # everything that is made once is made now

    def _has_answers(self) -> bool:
        """Whether the network's output is one tensor [N, classes]."""
        try:
            forward = self.net.forward(torch.zeros(1, 3, *self.size).to(self.device, self.dtype), [OUTPUT])
        except ValueError:  # its output is something else
            return False
        return forward.activations(OUTPUT).shape[2:] == (1, 1)

    @torch.no_grad()
    def clean(self, image: Tensor) -> CleanPass:
        """The pass over an image [1, 3, H, W], all layers kept."""
        image = image.to(self.device, self.dtype)
        forward = self.net.forward(image, [*self.by_name, *([OUTPUT] if self.answers else [])])
        kept = [forward.activations(layer) for layer in self.by_name]
        scores = forward.activations(OUTPUT).flatten() if self.answers else None
        return CleanPass(image, forward, scores, _bytes([image, *kept]))

    @torch.no_grad()
    def again(self, image: Tensor, layer: str | None) -> tuple[Tensor | None, Tensor | None]:
        """The scores [classes] and the values [C, h, w] of a layer for another image [1, 3, H, W]."""
        wanted = [*([layer] if layer is not None else []), *([OUTPUT] if self.answers else [])]
        forward = self.net.forward(image, wanted)
        scores = forward.activations(OUTPUT).flatten() if self.answers else None
        return scores, None if layer is None else forward.activations(layer)[0]

    def class_name(self, number: int) -> str:
        """What people call a class."""
        return self.class_names[number] if number < len(self.class_names) else f"class {number}"

    def check_layer(self, layer: str, channel: int | None = None) -> None:
        """Raises a ValueError unless there is such a layer, and such a map in it."""
        if layer not in self.by_name:
            raise ValueError(f"serve: expected layer one of the network's, got {layer!r}")
        count = self.by_name[layer].channels
        if channel is not None and not 0 <= channel < count:
            raise ValueError(f"serve: expected map from 0 to {count - 1} of layer {layer!r}, got {channel}")


def _bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the memory behind tensors, what they share counted once."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())
