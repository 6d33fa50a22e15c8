"""Freshly drawn networks in the form in which they are trained."""

from __future__ import annotations

from collections.abc import Callable

from zfkernels.models import ConvNet, alexnet2012, zfnet, zfnet64, zfnet_large

NETWORKS: dict[str, Callable[..., ConvNet]] = {
    "zfnet64": zfnet64,
    "zfnet": zfnet,
    "zfnet_large": zfnet_large,
    "alexnet2012": alexnet2012,
}


def new_network(name: str, num_classes: int) -> ConvNet:
    """A network of the package to be trained: ``zfnet64`` in its training form, the others as the paper has them.

    Args:
        name: One of ``NETWORKS``.
        num_classes: Outputs of the last layer.

    Raises:
        ValueError: No such network.
    """
    if name not in NETWORKS:
        raise ValueError(f"new_network: expected name one of {', '.join(NETWORKS)}, got {name!r}")
    return zfnet64(num_classes, training_form=True) if name == "zfnet64" else NETWORKS[name](num_classes)
