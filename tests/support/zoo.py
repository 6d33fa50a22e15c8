"""Networks to test with: torchvision's, at small sizes and alive, and small ones that hold one difficulty each.

A freshly drawn deep network is nearly dead: returning the clean output would pass most tests on it. Batch
normalisation is therefore calibrated on photos, and all parameters are drawn at random, also those that torchvision
starts at zero or one.
"""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Pair = tuple[int, int]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLASSES = 7
UNITS = 24  # of the fully-connected layers of networks whose own would dwarf the rest

# Name -> (rows, columns) of small images: odd, and not square where the network allows it.
SIZES: dict[str, Pair] = {
    "alexnet": (79, 95),
    "vgg11": (45, 58),
    "vgg16": (45, 58),
    "vgg16_bn": (45, 58),
    "vgg19": (45, 58),
    "resnet18": (65, 79),
    "resnet50": (65, 79),
    "resnext50_32x4d": (65, 79),
    "wide_resnet50_2": (49, 65),
    "squeezenet1_0": (70, 83),
    "squeezenet1_1": (70, 83),
    "googlenet": (65, 79),
    "inception_v3": (89, 95),
    "densenet121": (65, 79),
    "mobilenet_v2": (65, 79),
    "mobilenet_v3_small": (65, 79),
    "mnasnet1_0": (65, 79),
    "shufflenet_v2_x1_0": (65, 79),
    "efficientnet_b0": (65, 79),
    "regnet_y_400mf": (65, 79),
    "convnext_tiny": (65, 79),
    "zfnet64": (64, 64),
    "vit": (32, 32),
}

# Deeper or wider only: nothing in them that vgg11, vgg16_bn and resnet50 lack. They are traced, but not computed with.
COMPUTED = [name for name in SIZES if name not in ("vgg16", "vgg19", "wide_resnet50_2")]
# Stages that go on with the same block: computed with the first two of them.
STAGES = {
    "resnet50": ("layer1", "layer2", "layer3", "layer4"),
    "resnext50_32x4d": ("layer1", "layer2", "layer3", "layer4"),
    "convnext_tiny": ("features.1", "features.3", "features.5", "features.7"),
}


@lru_cache(maxsize=8)
def photos(count: int, size: Pair) -> Tensor:
    """``count`` photos in the units that torchvision's networks take: float64 [count, 3, *size]."""
    data = pytest.importorskip("skimage.data")
    pictures = []
    for name in ("astronaut", "chelsea", "coffee", "rocket")[:count]:
        picture = torch.from_numpy(getattr(data, name)()).permute(2, 0, 1)[None].double() / 255
        side = min(picture.shape[2:])
        whole = F.interpolate(picture[..., :side, :side], size=size, mode="bilinear", antialias=True)
        pictures.append((whole - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1))
    return torch.cat(pictures)


def network(name: str, size: Pair | None = None, dtype: torch.dtype = torch.float64) -> nn.Module:
    """A network of ``SIZES`` in eval mode, with few classes, calibrated on photos of ``size`` (default: its own).

    The stages of ``STAGES`` keep their first two blocks.
    """
    torch.manual_seed(0)
    model = unloaded(name)
    for stage in STAGES.get(name, ()):
        parent, _, key = stage.rpartition(".")
        setattr(model.get_submodule(parent), key, model.get_submodule(stage)[:2])
    model = model.to(dtype).to_empty(device="cpu")
    return wake(model, photos(4, size or SIZES[name]).to(dtype))


def unloaded(name: str) -> nn.Module:
    """A network of ``SIZES`` in eval mode, without weights: their drawing by the constructor takes seconds."""
    with torch.device("cpu" if name.startswith("regnet") else "meta"):  # regnet's constructor computes with tensors
        return _build(name).eval()


@torch.no_grad()
def wake(model: nn.Module, images: Tensor) -> nn.Module:
    """Draws all parameters and calibrates batch normalisation on ``images``; eval mode."""
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)) and name == "weight":
                nn.init.uniform_(parameter, -0.7, 1.5)
            elif parameter.dim() in (2, 4):
                nn.init.kaiming_normal_(parameter)
            else:
                nn.init.normal_(parameter, 0, 0.2)
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the average over all batches since the reset, that is: this one
            module.reset_running_stats()
            module.train()
    model(images)
    return model.eval()


def _build(name: str) -> nn.Module:
    if name == "zfnet64":
        from zfkernels.models import zfnet64

        return zfnet64(CLASSES)
    models = pytest.importorskip("torchvision.models")
    if name == "vit":
        return models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=CLASSES)
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    if name == "googlenet":
        options["aux_logits"] = False
    model = models.get_model(name, weights=None, num_classes=CLASSES, **options)
    if name in ("googlenet", "inception_v3"):
        model.transform_input = True
    if name.startswith(("vgg", "alexnet")):
        inputs = next(module.in_features for module in model.classifier if isinstance(module, nn.Linear))
        model.classifier = nn.Sequential(
            nn.Linear(inputs, UNITS), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(UNITS, CLASSES)
        )
    return model
