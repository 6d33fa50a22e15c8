"""The network of Krizhevsky et al. (2012) that the paper starts from."""

from __future__ import annotations

from torch import nn

from zfkernels.models.network import ConvNet, contrast_normalization, fully_connected, initialize_


def alexnet2012(num_classes: int = 1000, *, units: int = 4096, dropout: float = 0.5) -> ConvNet:
    """Krizhevsky's network for 224x224 images: 11x11 filters with stride 4; layers 2, 4 and 5 grouped in two.

    Contrast normalisation comes before the pool here, after it in ``zfnet``. Weights are drawn as the paper draws them
    (standard deviation 1e-2, biases 0).

    Args:
        num_classes: Outputs of the last layer.
        units: Units of each of the fully connected layers 6 and 7.
        dropout: Probability of dropping a unit of layers 6 and 7 in training.

    Returns:
        A network that takes [N, 3, 224, 224] and returns [N, num_classes] before the softmax.

    Source: Krizhevsky, Sutskever & Hinton 2012; the baseline of Zeiler & Fergus 2013 (arXiv 1311.2901), section 4.1.
    """
    features = nn.Sequential(
        nn.Conv2d(3, 96, 11, stride=4, padding=2),
        nn.ReLU(inplace=True),
        contrast_normalization(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(96, 256, 5, padding=2, groups=2),
        nn.ReLU(inplace=True),
        contrast_normalization(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(256, 384, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 384, 3, padding=1, groups=2),
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, 3, padding=1, groups=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2),
    )
    classifier = fully_connected((256 * 6 * 6, units, units), num_classes, dropout)
    options: dict[str, int | tuple[int, ...]] = {"num_classes": num_classes, "units": units}
    return initialize_(ConvNet(features, classifier, input_size=224, options=options))
