"""What the networks of this package share: the sequential module, its initialisation, filter renormalisation."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class ConvNet(nn.Module):
    """A plain feed-forward network: ``features`` (convolutions), flatten, ``classifier`` (fully connected).

    Args:
        features: Sequential of convolutions, ReLUs, pools and contrast normalisations.
        classifier: Sequential of the fully connected layers.
        input_size: Height and width in pixels of the images that the network takes.
        options: Whole numbers, or tuples of them, that its function was called with; they go into a file of weights,
            so that ``get_model`` can build the network that the weights fit.
    """

    def __init__(
        self,
        features: nn.Sequential,
        classifier: nn.Sequential,
        *,
        input_size: int,
        options: Mapping[str, int | tuple[int, ...]] | None = None,
    ) -> None:
        super().__init__()
        self.features = features
        self.classifier = classifier
        self.input_size = input_size
        self.options = dict(options or {})

    def forward(
        self,
        images: Tensor,  # [N, 3, input_size, input_size], normalised
    ) -> Tensor:  # [N, classes], before the softmax
        return self.classifier(torch.flatten(self.features(images), 1))


def fully_connected(widths: Sequence[int], num_classes: int, dropout: float) -> nn.Sequential:
    """Layers 6, 7 and the output: each but the last with a rectifier and dropout behind it.

    Args:
        widths: Values that come in, then units of each hidden layer; one number: the output only.
        num_classes: Outputs of the last layer.
        dropout: Probability of dropping a hidden unit in training.
    """
    hidden = (
        (nn.Linear(inputs, outputs), nn.ReLU(inplace=True), nn.Dropout(dropout)) for inputs, outputs in pairwise(widths)
    )
    return nn.Sequential(*(module for layer in hidden for module in layer), nn.Linear(widths[-1], num_classes))


def contrast_normalization() -> nn.LocalResponseNorm:
    """Contrast normalisation across maps with Krizhevsky's constants: n = 5, k = 2, alpha = 1e-4, beta = 0.75.

    Torch divides alpha by n, hence 5e-4. The constants are not in Zeiler & Fergus.
    """
    return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)


class BandedResponseNorm(nn.LocalResponseNorm):
    """``contrast_normalization`` with its sum over neighbouring maps as a convolution by a band matrix.

    Torch's module pools a 5-d tensor, which on a CPU takes a third of a training step of ``zfnet64``. It takes
    [N, channels, H, W]; the exponent is 3/4.
    """

    band: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__(5, alpha=5e-4, beta=0.75, k=2.0)
        maps = torch.arange(channels)
        near = (maps[:, None] - maps).abs() <= self.size // 2
        self.register_buffer("band", near.float().view(channels, channels, 1, 1) * self.alpha / self.size, False)

    def forward(self, input: Tensor) -> Tensor:
        inverse_root = (nn.functional.conv2d(input.square(), self.band) + self.k).rsqrt()
        return input * (inverse_root * inverse_root.sqrt())


def initialize_(model: ModuleT, std: float | None = 1e-2) -> ModuleT:
    """Draws all weights from a normal distribution and sets the biases to 0, in place.

    Args:
        model: The network.
        std: The standard deviation of all weights; None: each layer's own after He et al. (2015).

    Returns:
        The same module.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 3.
    """
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            if std is None:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            else:
                nn.init.normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


def inference_form(model: ConvNet) -> ConvNet:
    """A copy of a network in the form to use it in: convolution, ReLU, pool, ``nn.LocalResponseNorm``.

    Each batch normalisation becomes part of the convolution before it, each ``BandedResponseNorm`` torch's module.

    Args:
        model: A network whose batch normalisations directly follow convolutions.

    Returns:
        A network in eval mode with the same outputs as ``model`` in eval mode, up to floating-point order.
    """
    layers: list[nn.Module] = []
    for layer in copy.deepcopy(model.features).eval():
        previous = layers[-1] if layers else None
        if isinstance(layer, nn.BatchNorm2d) and isinstance(previous, nn.Conv2d):
            layers[-1] = fuse_conv_bn_eval(previous, layer)
        else:
            layers.append(contrast_normalization() if isinstance(layer, BandedResponseNorm) else layer)
    classifier = copy.deepcopy(model.classifier)
    plain = ConvNet(nn.Sequential(*layers), classifier, input_size=model.input_size, options=model.options)
    return plain.eval()


@torch.no_grad()
def renormalize_filters_(model: ModuleT, max_rms: float = 0.1) -> ModuleT:
    """Rescales each convolution filter whose root mean square exceeds ``max_rms`` to exactly that, in place.

    Called after each step of training it keeps a few first-layer filters from dominating. One filter is the weights
    of one output map; biases are left alone.

    Args:
        model: Any module; the convolutions (1-d to 3-d) in it are renormalised.
        max_rms: The largest root mean square that a filter may have, > 0.

    Returns:
        The same module.

    Raises:
        TypeError: ``model`` is not a module.
        ValueError: ``max_rms`` is not a positive number.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 3.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"renormalize_filters_: expected model a torch.nn.Module, got {type(model).__name__}")
    if not max_rms > 0:
        raise ValueError(f"renormalize_filters_: expected max_rms a positive number, got {max_rms}")
    for module in model.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            filters = module.weight.flatten(1)  # [maps, weights of a filter]
            rms = filters.square().mean(1).sqrt()
            scale = torch.where(rms > max_rms, max_rms / rms, 1.0)
            module.weight.mul_(scale.view(-1, *[1] * (module.weight.dim() - 1)))
    return model
