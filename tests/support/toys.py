"""Small networks that hold one difficulty each: what people write in ``forward`` and torchvision's networks do not.

All take images [N, 3, H, W] of any size from ``SIZE`` down to 16 and return [N, CLASSES].
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from support.zoo import CLASSES

SIZE = (25, 31)
MAPS = 6


class Net(nn.Module):
    """A stem, the difficulty, two more layers, and a mean over the frame before the classes."""

    def __init__(self, body: nn.Module, maps: int = MAPS) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, MAPS, 3, stride=2, padding=1), nn.ReLU())
        self.body = body
        self.top = nn.Sequential(nn.Conv2d(maps, 5, 3), nn.ReLU(), nn.MaxPool2d(2))
        self.classes = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.classes(self.top(self.body(self.stem(x))).mean((2, 3)))


class Body(nn.Module):
    """``forward`` as a function of (module, x), with submodules by name."""

    def __init__(self, forward: Callable[[Any, Tensor], Tensor], **submodules: nn.Module) -> None:
        super().__init__()
        self.function = forward
        for name, module in submodules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def conv(inputs: int = MAPS, outputs: int = MAPS, size: int = 3, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, padding=options.pop("padding", size // 2), **options)


def body(forward: Callable[[Any, Tensor], Tensor], maps: int = MAPS, **submodules: nn.Module) -> Callable[[], Net]:
    return lambda: Net(Body(forward, **submodules), maps)


def chain(*layers: nn.Module, maps: int = MAPS) -> Callable[[], Net]:
    return lambda: Net(nn.Sequential(*layers), maps)


def _squeeze_by_view(m: Any, x: Tensor) -> Tensor:
    batch, maps = x.shape[0], x.shape[1]
    gate = torch.sigmoid(m.fc(F.adaptive_avg_pool2d(x, 1).view(batch, maps)))
    return x * gate.view(batch, maps, 1, 1).expand_as(x)


def _shuffle_by_view(m: Any, x: Tensor) -> Tensor:
    batch, maps, height, width = x.size()
    return m.conv(x.view(batch, 2, maps // 2, height, width).transpose(1, 2).reshape(batch, maps, height, width))


def _in_place_without_result(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x)
    m.relu(y)
    return y


def _in_place_seen_by_the_shortcut(m: Any, x: Tensor) -> Tensor:
    y = m.first(x)
    out = m.second(F.relu(y, inplace=True))
    out += y
    return out


class Normalised(nn.Module):
    """Normalises its images itself, with buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.1, 0.2, -0.3]).view(3, 1, 1))
        self.register_buffer("std", torch.tensor([[0.5], [0.7], [1.2]]).view(1, 3, 1, 1))
        self.net = Net(chain(conv(), nn.ReLU(), nn.MaxPool2d(2))().body)

    def forward(self, x: Tensor) -> Tensor:
        return self.net((x - self.mean) / self.std)


class Ruler(nn.Module):
    """Constants of several shapes: along the columns, one for each map, and coordinates as further maps."""

    def __init__(self) -> None:
        super().__init__()
        height, width = (SIZE[0] + 1) // 2, (SIZE[1] + 1) // 2
        self.along = nn.Parameter(torch.linspace(-1, 1, width))
        self.each = nn.Parameter(torch.randn(MAPS, 1, 1))
        self.register_buffer("coordinates", torch.linspace(0, 1, height * width).view(1, 1, height, width))
        self.conv = conv(MAPS + 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.each * (x * self.along + 1)
        return self.conv(torch.cat([x, x[:, :1] * 0 + self.coordinates], 1))


class Sized(nn.Module):
    """Written for one size of image: flattens with ``view`` and ends in two fully-connected layers."""

    def __init__(self, flatten: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.features = nn.Sequential(conv(3, stride=2), nn.ReLU(), nn.MaxPool2d(3, 2), conv())
        self.function = flatten
        self.fc = nn.Linear(MAPS * 6 * 7, 8)
        self.classes = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.classes(F.relu(self.fc(self.function(self.features(x)))))


def _permuted(forward: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    return lambda m, x: forward(m, x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


TOYS: dict[str, Callable[[], nn.Module]] = {
    # rectifiers
    "functional_relu": body(lambda m, x: F.relu(m.conv(x)), conv=conv()),
    "method_relu": body(lambda m, x: m.conv(x).relu_() + x.relu(), conv=conv()),
    "torch_relu": body(lambda m, x: torch.relu(m.conv(x)), conv=conv()),
    "inplace_leaky": body(lambda m, x: F.leaky_relu_(m.conv(x), 0.2) + x, conv=conv()),
    "relu6": chain(conv(), nn.ReLU6(inplace=True), conv(), nn.LeakyReLU(0.3, inplace=True)),
    "reused_relu": body(lambda m, x: m.b(m.relu(m.a(m.relu(x)))), a=conv(), b=conv(), relu=nn.ReLU(inplace=True)),
    "reused_block": body(
        lambda m, x: m.block(m.block(x)), block=nn.Sequential(conv(), nn.BatchNorm2d(MAPS), nn.ReLU())
    ),
    "relu_then_norm": chain(conv(), nn.ReLU(), nn.BatchNorm2d(MAPS), nn.ReLU(), nn.MaxPool2d(2)),
    "inplace_no_result": body(_in_place_without_result, conv=conv(), relu=nn.ReLU(inplace=True)),
    "inplace_shortcut": body(_in_place_seen_by_the_shortcut, first=conv(), second=conv()),
    # geometry
    "dilated": chain(
        conv(dilation=2, padding=2), nn.ReLU(), nn.MaxPool2d(2, stride=1, dilation=2), conv(dilation=3, padding=1)
    ),
    "grouped": chain(conv(groups=2), nn.ReLU(), conv(groups=MAPS), nn.BatchNorm2d(MAPS), nn.ReLU()),
    "oblong": chain(
        nn.Conv2d(MAPS, MAPS, (3, 1), (2, 1), (0, 2)),
        nn.ReLU(),
        nn.MaxPool2d((1, 3), (1, 2), (0, 1)),
        nn.Conv2d(MAPS, MAPS, (1, 4)),
    ),
    "same_padding": chain(conv(size=5, padding="same"), nn.ReLU(), nn.MaxPool2d(2), conv(padding="valid")),
    "reflecting": chain(conv(padding_mode="reflect"), nn.ReLU()),
    "skipping": chain(conv(size=1, stride=2, padding=0), nn.ReLU(), nn.MaxPool2d(1, 2), conv()),
    "max_pool": chain(nn.MaxPool2d(3, 2, 1, ceil_mode=True), nn.MaxPool2d(2, 1)),
    "pool_first": body(lambda m, x: m.b(F.max_pool2d(m.a(x), 3, stride=2)), a=conv(), b=conv()),
    # average pooling
    "avg_pool": chain(nn.AvgPool2d(3, 2, 1), conv()),
    "avg_pool_ceil": chain(nn.AvgPool2d(3, 2, 1, ceil_mode=True), conv()),
    "avg_pool_inner": chain(nn.AvgPool2d((3, 2), 2, (1, 0), ceil_mode=True, count_include_pad=False), conv()),
    "avg_pool_divisor": body(lambda m, x: F.avg_pool2d(x, 2, 1, divisor_override=3)),
    "adaptive": chain(conv(), nn.AdaptiveAvgPool2d((9, 7))),
    "means": body(lambda m, x: x * x.mean(-1, keepdim=True).mean(2, keepdim=True)),
    # branches
    "residual": body(lambda m, x: m.relu(m.b(m.relu(m.a(x))) + x), a=conv(), b=conv(), relu=nn.ReLU(inplace=True)),
    "inplace_sum": body(lambda m, x: m.a(x).add_(x), a=conv()),
    "twice": body(lambda m, x: m.a(x + x) * m.b(torch.cat([x, x], 1)), a=conv(), b=conv(2 * MAPS)),
    "cat_keywords": body(lambda m, x: torch.cat(tensors=[m.a(x), x], dim=-3), 2 * MAPS, a=conv()),
    "cat_rows": body(lambda m, x: torch.cat([m.a(x), x], 2), a=conv()),
    "difference": body(lambda m, x: (1 - m.a(x)) - 0.5 * x / 2, a=conv()),
    "product": body(lambda m, x: m.a(x) * m.b(x), a=conv(), b=nn.Sequential(conv(), nn.Sigmoid())),
    "split": body(
        lambda m, x: torch.cat([m.a(x.chunk(2, 1)[0]), torch.chunk(x, 2, dim=1)[1], x.split(2, 1)[2]], 1),
        8,
        a=conv(3, 3),
    ),
    "shuffle_by_view": body(_shuffle_by_view, conv=conv()),
    # gates
    "squeeze": body(
        lambda m, x: x * m.gate(x),
        gate=nn.Sequential(nn.AdaptiveAvgPool2d(1), conv(size=1), nn.SiLU(), conv(size=1), nn.Sigmoid()),
    ),
    "squeeze_by_view": body(_squeeze_by_view, fc=nn.Linear(MAPS, MAPS)),
    "spatial_gate": body(lambda m, x: m.gate(x) * x, gate=nn.Sequential(conv(outputs=1), nn.Sigmoid())),
    "context": body(lambda m, x: x + m.context(x), context=nn.Sequential(nn.AdaptiveAvgPool2d(1), conv(size=1))),
    # other functions of a cell
    "smooth": chain(
        nn.SiLU(), conv(), nn.GELU(), conv(), nn.Hardswish(), nn.Hardsigmoid(), conv(), nn.Tanh(), nn.Mish()
    ),
    "smooth_functions": body(
        lambda m, x: torch.sigmoid(m.a(F.silu(x))) + F.gelu(x, approximate="tanh") - x.tanh().exp().neg(), a=conv()
    ),
    "rare": chain(nn.ELU(), conv(), nn.Softplus(), nn.PReLU(MAPS), conv(), nn.Hardtanh(), nn.LogSigmoid()),
    "contrast": chain(nn.LocalResponseNorm(5, alpha=0.5), conv(), nn.ReLU(), nn.LocalResponseNorm(3, 0.3, k=2.0)),
    "channels_last": body(
        _permuted(lambda m, x: m.b(F.gelu(m.a(m.norm(x)))) * m.scale.weight[0]),
        norm=nn.LayerNorm(MAPS),
        a=nn.Linear(MAPS, 9),
        b=nn.Linear(9, MAPS),
        scale=nn.Linear(MAPS, 1),
    ),
    # what spreads over the frame
    "group_norm": chain(conv(), nn.GroupNorm(2, MAPS), nn.ReLU(), conv()),
    "upsampling": chain(nn.ConvTranspose2d(MAPS, MAPS, 2, 2), nn.ReLU(), nn.Upsample(scale_factor=0.5)),
    "normalised": Normalised,
    "ruler": lambda: Net(Ruler()),
    # ways into the classifier
    "view": lambda: Sized(lambda x: x.view(x.size(0), -1)),
    "reshape": lambda: Sized(lambda x: x.reshape(x.shape[0], MAPS * 6 * 7)),
    "flatten_columns_first": lambda: Sized(lambda x: x.permute(0, 2, 3, 1).flatten(1)),
    "flatten_twice": lambda: Sized(lambda x: torch.flatten(x.flatten(2), start_dim=1)),
}


def toy(name: str) -> nn.Module:
    """A network of ``TOYS`` in float64 and eval mode, with running statistics that normalise something."""
    torch.manual_seed(0)
    model = copy.deepcopy(TOYS[name]()).double().eval()
    for module in model.modules():
        if hasattr(module, "reset_parameters"):  # layers of TOYS were made before the seed was set
            module.reset_parameters()
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, -1, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.2, 2)
    return model


def images(count: int = 2) -> Tensor:
    """float64 [count, 3, *SIZE]"""
    return torch.randn(count, 3, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


class Deciding(nn.Module):
    """What can be scripted and decides by values."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) if bool(x.sum() > 0) else x


def decide(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    """A hook that decides by values, so that autograd has to do."""
    return output if output.isfinite().all() else -output
