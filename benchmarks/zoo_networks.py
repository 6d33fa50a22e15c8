"""The networks of whole collections by name, with random weights; nothing is downloaded.

A name may say what is added to a network, so that its outputs take other forms: ``+logits``, ``+label`` and ``+mean``
take one tensor of them; ``#bottleneck`` is another configuration.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

CLASSES = 7
SEGMENTATION = ("voc", "cityscapes", "celebamaskhq")  # data sets of pytorchcv's networks whose images' size is fixed


class Taken(nn.Module):
    """A network of which ``take`` chooses one tensor."""

    def __init__(self, model: nn.Module, take: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.model, self.take = model, take

    def forward(self, images: Tensor) -> Tensor:
        return self.take(self.model(images))


def _mean(maps: Any) -> Tensor:
    """The mean of each map of the last tensor; of a dictionary of the first."""
    while not isinstance(maps, Tensor):
        maps = next(iter(maps.values())) if isinstance(maps, dict) else maps[-1]
    return maps.mean((2, 3))


TAKES: dict[str, Callable[[Any], Tensor]] = {
    "logits": lambda output: output["logits" if "logits" in output else 0],
    "label": lambda output: output[1],
    "mean": _mean,
}

# What a configuration of transformers says otherwise than its class: small networks.
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "ResNet": {"layer_type": "basic", "depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512]},
    "ResNet#bottleneck": {"depths": [1, 1, 1, 1], "hidden_sizes": [64, 128, 256, 512]},
    "ConvNext": {"depths": [2, 2, 6, 2], "hidden_sizes": [40, 80, 160, 320]},
    "ConvNextV2": {"depths": [2, 2, 6, 2], "hidden_sizes": [40, 80, 160, 320]},
    "RegNet": {"depths": [1, 2, 4, 1], "hidden_sizes": [32, 64, 160, 384], "groups_width": 16, "embedding_size": 32},
    "EfficientNet": {"width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280},
    "PoolFormer": {"depths": [2, 2, 2, 2]},
    "HGNetV2": {
        "depths": [1, 1, 3, 1],
        "hidden_sizes": [64, 256, 512, 1024],
        "stem_channels": [3, 16, 16],
        "stage_in_channels": [16, 64, 256, 512],
        "stage_mid_channels": [16, 32, 64, 128],
        "stage_out_channels": [64, 256, 512, 1024],
        "stage_num_blocks": [1, 1, 3, 1],
        "stage_numb_of_layers": [3, 3, 3, 3],
    },
    "ViT": {"num_hidden_layers": 4, "hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768},
    "Swin": {"window_size": 3},
    "Dinat": {"depths": [1, 1, 1, 1]},
}


def made(package: str, network: str, size: int) -> tuple[nn.Module, tuple[int, ...]]:
    """A network, and the sizes of images to try it with: the first that it takes.

    Raises:
        ValueError: no such package.
    """
    if package not in MAKERS:
        raise ValueError(f"zoo: expected package one of {', '.join(MAKERS)}, got {package!r}")
    torch.manual_seed(0)
    name, _, take = network.partition("+")
    model, sizes = MAKERS[package](name.strip(), size)
    return Taken(model, TAKES[take.strip()]) if take else model, sizes


def load(package: str) -> None:
    """Imports a package, so that the processes of its networks have it from the start."""
    for name in MODULES.get(package, ()):
        importlib.import_module(name)


def _torchvision(name: str, size: int) -> tuple[nn.Module, tuple[int, ...]]:
    from torchvision import models
    from torchvision.models import detection, feature_extraction, quantization, segmentation

    name, _, extra = name.partition(" ")
    if name == "quantized":
        model = getattr(quantization, extra.split()[0])(weights=None, quantize=False)
    elif extra == "feature_extractor":
        model = feature_extraction.create_feature_extractor(models.get_model(name), ["layer2", "layer4"])
    elif name == "resnet18_fpn":
        model = detection.backbone_utils.resnet_fpn_backbone(backbone_name="resnet18", weights=None)
    elif name == "mobilenet_v3_fpn":
        model = detection.backbone_utils.mobilenet_backbone("mobilenet_v3_large", weights=None, fpn=True)
    elif hasattr(segmentation, name):
        model = models.get_model(name, weights=None, weights_backbone=None)
    elif hasattr(detection, name):
        model = models.get_model(name, weights=None, weights_backbone=None, min_size=size, max_size=size)
    else:
        model = models.get_model(name, weights=None)
    return model, (size, 224)


def _timm(name: str, size: int) -> tuple[nn.Module, tuple[int, ...]]:
    import timm

    model = timm.create_model(name, pretrained=False)
    return model, (size, model.default_cfg["input_size"][-1])


def _pytorchcv(name: str, size: int) -> tuple[nn.Module, tuple[int, ...]]:
    from pytorchcv.model_provider import get_model

    if name.rpartition("_")[2] in SEGMENTATION:
        return get_model(name, pretrained=False, in_size=(224, 224)), (224,)
    model = get_model(name, pretrained=False)
    return model, (size, getattr(model, "in_size", (224,))[-1])


def _transformers(name: str, size: int) -> tuple[nn.Module, tuple[int, ...]]:
    import transformers

    name, _, variant = name.partition("#")
    kind = name.removesuffix("ForImageClassification")
    changes = dict(CONFIGURATIONS.get(f"{kind}#{variant}" if variant else kind, {}))
    made_for = getattr(transformers, f"{kind}Config")
    if hasattr(made_for(), "image_size"):
        changes["image_size"] = size
    return getattr(transformers, name)(made_for(num_labels=CLASSES, **changes)), (size, 224)


def _smp(name: str, size: int) -> tuple[nn.Module, tuple[int, ...]]:
    import segmentation_models_pytorch as smp

    if name.startswith("encoder "):
        return smp.encoders.get_encoder(name.removeprefix("encoder "), weights=None), (size, 224)
    kind, _, extra = name.partition(" ")
    options = {"aux_params": {"classes": CLASSES}} if extra else {}
    encoder = "mit_b0" if kind == "Segformer" else "resnet18"
    model = getattr(smp, kind)(encoder, encoder_weights=None, classes=CLASSES, **options)
    return model, (size, 224)


def _monai(name: str, size: int) -> tuple[nn.Module, tuple[int, ...]]:
    from monai.networks import nets

    kind, _, extra = name.partition(" ")
    maps = {"spatial_dims": 3 if extra == "3d" else 2, "in_channels": 3}
    options: dict[str, Any] = {
        "DenseNet121": {**maps, "out_channels": CLASSES},
        "SEResNet50": {**maps, "num_classes": CLASSES},
        "resnet18": {"spatial_dims": 2, "n_input_channels": 3, "num_classes": CLASSES},
        "resnet50": {"spatial_dims": 2, "n_input_channels": 3, "num_classes": CLASSES},
        "Critic": {"in_shape": (3, size, size), "channels": (8, 16, 32), "strides": (2, 2, 2)},
        "TorchVisionFCModel": {"model_name": "resnet18", "num_classes": CLASSES, "use_conv": False, "pool": None},
        "UNet": {**maps, "out_channels": CLASSES, "channels": (16, 32, 64, 128), "strides": (2, 2, 2)},
        "BasicUNet": {**maps, "out_channels": CLASSES},
        "HighResNet": {**maps, "out_channels": CLASSES},
        "FlexibleUNet": {"in_channels": 3, "out_channels": CLASSES, "backbone": "resnet18", "pretrained": False},
    }[kind]
    return getattr(nets, kind)(**options), (size, 224)


Maker = Callable[[str, int], tuple[nn.Module, tuple[int, ...]]]
MAKERS: dict[str, Maker] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "pytorchcv": _pytorchcv,
    "transformers": _transformers,
    "smp": _smp,
    "monai": _monai,
}
MODULES = {
    "torchvision": ("torchvision",),
    "timm": ("timm",),
    "pytorchcv": ("pytorchcv.model_provider",),
    "transformers": ("transformers",),
    "smp": ("segmentation_models_pytorch",),
    "monai": ("monai.networks.nets",),
}
