"""Networks and dense baselines that the benchmarks of the methods share."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from functools import cache

import click
import torch
from torch import Tensor, nn

from zfkernels.models import get_model


def chosen(text: str | None, known: Iterable[str]) -> list[str]:
    """The networks of ``--networks``, all that are known where it is not given."""
    names = list(dict.fromkeys(known))
    picked = names if text is None else text.split(",")
    if set(picked) - set(names):
        raise click.UsageError(f"expected --networks of {', '.join(names)}, got {text!r}")
    return picked


def existing(text: str, *others: str) -> list[str]:
    """The networks of ``--networks``, torchvision's and, as ``timm:name``, timm's, and those that ``others`` name."""
    import torchvision

    names = [name for name in text.split(",") if name]
    known = {*others, *torchvision.models.list_models(torchvision.models)}
    if any(name.startswith("timm:") for name in names):
        try:
            import timm
        except ImportError as error:
            raise click.UsageError(f"expected timm for --networks {text} (pip install timm)") from error
        known |= {f"timm:{name}" for name in timm.list_models()}
    for name in names:
        if name not in known:
            of = ", ".join(["torchvision's", "timm's as timm:name", *others])
            raise click.UsageError(f"expected --networks of {of}, got {name!r}")
    return names


@cache
def network(name: str) -> nn.Module:
    """A network with fresh weights, whose activations keep their scale from layer to layer; timm's as ``timm:name``."""
    torch.manual_seed(0)
    if name.startswith("timm:"):
        import timm

        model = timm.create_model(name.removeprefix("timm:"), pretrained=False).eval()
    else:
        model = get_model(name, weights=None).eval()
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return model


@cache
def channels_last(name: str) -> nn.Module:
    return copy.deepcopy(network(name)).to(memory_format=torch.channels_last)


def dense_occlusion(
    model: nn.Module, image: Tensor, positions: Tensor, window: int, memory_format: torch.memory_format, batch: int = 32
) -> Tensor:
    """Outputs [P, classes] of the whole network on whole occluded images, in batches: what anybody would write."""
    outputs = []
    with torch.inference_mode():
        for chunk in positions.split(batch):
            images = image.expand(len(chunk), -1, -1, -1).clone(memory_format=memory_format)
            for index, (row, column) in enumerate(chunk.tolist()):
                images[index, :, row : row + window, column : column + window] = 0
            outputs.append(model(images))
    return torch.cat(outputs)
