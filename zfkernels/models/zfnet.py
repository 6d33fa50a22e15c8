"""ZFNet, the network of the paper, and its variant with more maps in layers 3 to 5."""

from __future__ import annotations

from torch import nn

from zfkernels.models.network import ConvNet, contrast_normalization, fully_connected, initialize_


def zfnet(
    num_classes: int = 1000,
    *,
    maps: tuple[int, int, int] = (384, 384, 256),
    units: int = 4096,
    dropout: float = 0.5,
) -> ConvNet:
    """The network of figure 3 for 224x224 images, with freshly drawn weights (standard deviation 1e-2, biases 0).

    Side lengths: 110 (conv1), 55 (pool, normalised), 26 (conv2), 13 (pool, normalised), 13, 13, 13 (conv3-5), 6 (pool).

    Args:
        num_classes: Outputs of the last layer.
        maps: Feature maps of layers 3, 4 and 5.
        units: Units of each of the fully connected layers 6 and 7.
        dropout: Probability of dropping a unit of layers 6 and 7 in training.

    Returns:
        A network that takes [N, 3, 224, 224] and returns [N, num_classes] before the softmax.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 4.1, figure 3.
    """
    third, fourth, fifth = maps
    features = nn.Sequential(
        nn.Conv2d(3, 96, 7, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
        contrast_normalization(),
        nn.Conv2d(96, 256, 5, stride=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
        contrast_normalization(),
        nn.Conv2d(256, third, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(third, fourth, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(fourth, fifth, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2),
    )
    classifier = fully_connected((fifth * 6 * 6, units, units), num_classes, dropout)
    options: dict[str, int | tuple[int, ...]] = {"num_classes": num_classes, "maps": maps, "units": units}
    return initialize_(ConvNet(features, classifier, input_size=224, options=options))


def zfnet_large(num_classes: int = 1000, *, units: int = 4096, dropout: float = 0.5) -> ConvNet:
    """ZFNet with 512, 1024 and 512 maps in layers 3, 4 and 5. See ``zfnet`` for the arguments.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 4.1, table 2.
    """
    return zfnet(num_classes, maps=(512, 1024, 512), units=units, dropout=dropout)
