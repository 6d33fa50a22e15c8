"""zfnet64: the design of ZFNet at 64x64 pixels, small enough to ship with trained weights."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from torch import nn

from zfkernels.models.network import (
    BandedResponseNorm,
    ConvNet,
    contrast_normalization,
    fully_connected,
    initialize_,
)
from zfkernels.models.weights_info import Weights

MAPS = (48, 96, 224, 224, 160)  # of the convolutions
UNITS = (384, 384)  # of the fully connected layers 6 and 7


def zfnet64(
    num_classes: int = 200,
    *,
    weights: str | Path | None = None,
    maps: tuple[int, ...] = MAPS,
    units: tuple[int, ...] = UNITS,
    first_filter: int = 7,
    strides: tuple[int, int] = (2, 1),
    dropout: float = 0.2,
    training_form: bool = False,
) -> ConvNet:
    """ZFNet scaled down to 64x64 images and 200 classes: 1.9 million parameters.

    Side lengths: 32 (conv1), 16 (pool, normalised), 16 (conv2), 8 (pool, normalised), 8, 8, 8 (conv3-5), 3 (pool).

    Differs from the paper: conv2 has stride 1 and padding 2 (stride 2 would leave 4x4 cells for layers 3 to 5), there
    are fewer maps and units, and fresh weights are drawn after He et al. (2015), so that a short training gets off the
    ground.

    Args:
        num_classes: Outputs of the last layer.
        weights: ``"DEFAULT"`` for those that ship with the package (Tiny-ImageNet), the path of a safetensors file,
            or None for freshly drawn ones. The dtype is float32 either way.
        maps: Feature maps of the convolutions: layers 1, 2, 3, 4 and 5; three or four numbers leave out layers of 3x3
            filters in the middle (``(48, 96, 128)``: without layers 3 and 4).
        units: Units of the fully connected layers 6 and 7; one number: without layer 7; none: without both.
        first_filter: Height and width of the first layer's filters.
        strides: Of the first two convolutions. ``first_filter=11, strides=(4, 1)`` against ``7`` and ``(2, 2)`` is
            Krizhevsky's design against the paper's, with 4x4 cells left for layers 3 to 5.
        dropout: Probability of dropping a unit of layers 6 and 7 in training.
        training_form: The form to train quickly: a batch normalisation follows each convolution, and contrast
            normalisation is computed as a convolution. ``inference_form`` turns the trained network into the plain
            one; the shipped weights are of that form.

    Returns:
        A network that takes normalised [N, 3, 64, 64] images (``get_preprocess("zfnet64")`` makes them) and returns
        [N, num_classes] before the softmax.

    Raises:
        FileNotFoundError: ``weights`` names a file that does not exist.
        ValueError: ``maps`` are fewer than three.
        RuntimeError: The weights do not fit the network.
    """
    if len(maps) < 3:
        raise ValueError(f"zfnet64: expected maps of at least three layers, got {maps}")
    first, second, *later = maps

    def normalization(maps: int) -> nn.LocalResponseNorm:
        return BandedResponseNorm(maps) if training_form else contrast_normalization()

    features = nn.Sequential(
        *_convolution(3, first, first_filter, training_form, stride=strides[0], padding=first_filter // 2),
        nn.MaxPool2d(3, stride=2, padding=1),
        normalization(first),
        *_convolution(first, second, 5, training_form, stride=strides[1], padding=2),
        nn.MaxPool2d(3, stride=2, padding=1),
        normalization(second),
        *(
            module
            for maps_in, maps_out in pairwise((second, *later))
            for module in _convolution(maps_in, maps_out, 3, training_form, padding=1)
        ),
        nn.MaxPool2d(3, stride=2),
    )
    side = _side(64, strides)
    classifier = fully_connected((later[-1] * side * side, *units), num_classes, dropout)
    options: dict[str, int | tuple[int, ...]] = {
        "num_classes": num_classes, "maps": tuple(maps), "units": tuple(units), "first_filter": first_filter,
        "strides": tuple(strides),
    }  # fmt: skip
    model = ConvNet(features, classifier, input_size=64, options=options)
    if weights is None:
        initialize_(model, std=None)
        # The output feeds a softmax, not a rectifier: small weights start it near the uniform distribution.
        initialize_(classifier[-1:], std=1e-2)
        return model
    file = Weights.shipped("zfnet64").file if weights == "DEFAULT" else Path(weights)
    if not file.is_file():
        raise FileNotFoundError(f"zfnet64: expected weights 'DEFAULT' or an existing safetensors file, got {weights}")
    from safetensors.torch import load_file

    model.load_state_dict(load_file(file))
    return model


def _convolution(
    maps_in: int, maps_out: int, size: int, batch_norm: bool, *, stride: int = 1, padding: int
) -> list[nn.Module]:
    convolution = nn.Conv2d(maps_in, maps_out, size, stride=stride, padding=padding)
    return [convolution, *([nn.BatchNorm2d(maps_out)] if batch_norm else []), nn.ReLU(inplace=True)]


def _side(size: int, strides: tuple[int, int]) -> int:
    """Height and width of the maps behind the last pool."""
    for stride in strides:  # "same" padding of odd filters, then a 3x3/2 pool with padding 1
        size = (size - 1) // stride + 1
        size = (size - 1) // 2 + 1
    return (size - 3) // 2 + 1
