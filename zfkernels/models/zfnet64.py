"""zfnet64: the design of ZFNet at 64x64 pixels, small enough to ship with trained weights."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from zfkernels.models.network import BandedResponseNorm, ConvNet, contrast_normalization, initialize_
from zfkernels.models.weights_info import Weights


def zfnet64(
    num_classes: int = 200,
    *,
    weights: str | Path | None = None,
    maps: tuple[int, int, int, int, int] = (48, 96, 160, 160, 128),
    units: tuple[int, int] = (512, 384),
    dropout: float = 0.2,
    training_form: bool = False,
) -> ConvNet:
    """ZFNet scaled down to 64x64 images and 200 classes: 1.5 million parameters.

    Side lengths: 32 (conv1), 16 (pool, normalised), 16 (conv2), 8 (pool, normalised), 8, 8, 8 (conv3-5), 3 (pool).

    Differs from the paper: conv2 has stride 1 and padding 2 (stride 2 would leave 4x4 cells for layers 3 to 5), there
    are fewer maps and units, and fresh weights are drawn after He et al. (2015), so that a short training gets off the
    ground.

    Args:
        num_classes: Outputs of the last layer.
        weights: ``"DEFAULT"`` for those that ship with the package (Tiny-ImageNet), the path of a safetensors file,
            or None for freshly drawn ones. The dtype is float32 either way.
        maps: Feature maps of the five convolutions.
        units: Units of the fully connected layers 6 and 7.
        dropout: Probability of dropping a unit of layers 6 and 7 in training.
        training_form: The form to train quickly: a batch normalisation follows each convolution, and contrast
            normalisation is computed as a convolution. ``inference_form`` turns the trained network into the plain
            one; the shipped weights are of that form.

    Returns:
        A network that takes normalised [N, 3, 64, 64] images (``get_preprocess("zfnet64")`` makes them) and returns
        [N, num_classes] before the softmax.

    Raises:
        FileNotFoundError: ``weights`` names a file that does not exist.
        RuntimeError: The weights do not fit the network.
    """
    first, second, third, fourth, fifth = maps
    sixth, seventh = units

    def normalization(maps: int) -> nn.LocalResponseNorm:
        return BandedResponseNorm(maps) if training_form else contrast_normalization()

    features = nn.Sequential(
        *_convolution(3, first, 7, training_form, stride=2, padding=3),
        nn.MaxPool2d(3, stride=2, padding=1),
        normalization(first),
        *_convolution(first, second, 5, training_form, padding=2),
        nn.MaxPool2d(3, stride=2, padding=1),
        normalization(second),
        *_convolution(second, third, 3, training_form, padding=1),
        *_convolution(third, fourth, 3, training_form, padding=1),
        *_convolution(fourth, fifth, 3, training_form, padding=1),
        nn.MaxPool2d(3, stride=2),
    )
    output = nn.Linear(seventh, num_classes)
    classifier = nn.Sequential(
        nn.Linear(fifth * 3 * 3, sixth),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(sixth, seventh),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        output,
    )
    model = ConvNet(features, classifier, input_size=64)
    if weights is None:
        initialize_(model, std=None)
        # The output feeds a softmax, not a rectifier: small weights start it near the uniform distribution.
        nn.init.normal_(output.weight, std=1e-2)
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
