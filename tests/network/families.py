"""Small networks that stand for families of timm, pytorchcv, transformers, segmentation-models-pytorch and MONAI."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = 8


class Family(nn.Module):
    """A stem, a block that is the family's own, a second convolution and a classifier."""

    def __init__(self, block: nn.Module, channels: int = CHANNELS) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, CHANNELS, 3, 2, 1, bias=False), nn.BatchNorm2d(CHANNELS)
        self.block, self.last = block, nn.Conv2d(channels, 10, 3, padding=1)
        self.head = nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Any:
        y = F.relu(self.last(self.block(F.relu(self.norm(self.stem(x))))))
        return self.head(y.mean((2, 3)))


class Function(nn.Module):
    """A block that is written as a function of itself and of maps."""

    def __init__(self, function: Callable[[Any, Tensor], Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


class StandardisedConv2d(nn.Conv2d):
    """Weights are standardised each time, as in ResNetV2 and normaliser-free networks."""

    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.reshape(1, self.out_channels, -1)
        weight = F.batch_norm(flat, None, None, training=True, momentum=0.0, eps=1e-6).reshape_as(self.weight)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class OctaveConv2d(nn.Conv2d):
    """Returns maps of two sizes."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        low = F.avg_pool2d(x, 2)
        return super().forward(x), F.conv2d(low, self.weight, self.bias, 1, 1)


class Output(OrderedDict):
    """What transformers' models return: a dictionary with attributes."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


class Wrapped(nn.Module):
    """A model that returns a dictionary, and of several sizes of maps the last."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None, return_dict: bool = True) -> Any:
        logits = self.model(pixel_values)
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return Output(loss=loss, logits=logits) if return_dict else (logits,)


def _gate_on_channels(m: Any, x: Tensor) -> Tensor:
    return x * m.expand(F.relu(m.reduce(x.mean((2, 3), keepdim=True)))).sigmoid()


def _gate_by_conv1d(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x.mean((2, 3)).view(x.shape[0], 1, -1))
    return x * y.view(x.shape[0], -1, 1, 1).sigmoid().expand_as(x)


def _response_norm(m: Any, x: Tensor) -> Tensor:
    y = x.permute(0, 2, 3, 1)
    g = y.norm(p=2, dim=(1, 2), keepdim=True)
    return (y + y * (g / (g.mean(dim=-1, keepdim=True) + 1e-6))).permute(0, 3, 1, 2)


def _tokens(m: Any, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    y = torch.cat([m.token.weight.expand(n, 1, c), x.flatten(2).transpose(1, 2)], 1)
    q, k, v = m.qkv(y).view(n, -1, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
    y = y + F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, -1, c)
    return y[:, 1:].transpose(1, 2).reshape(n, c, h, w)


def _windows_of_tokens(m: Any, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    y = torch.roll(x.permute(0, 2, 3, 1), (-2, -2), (1, 2)).reshape(n, h // 4, 4, w // 4, 4, c)
    y = y.permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)
    y = (y @ y.transpose(1, 2)).softmax(-1) @ m.value(y)
    y = y.view(n, h // 4, w // 4, 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(n, h, w, c)
    return x + torch.roll(y, (2, 2), (1, 2)).permute(0, 3, 1, 2)


def _normed_tokens(m: Any, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    y = m.norm(m.batch_norm(x).flatten(2).transpose(1, 2))
    return x + m.conv(y.permute(0, 2, 1).reshape(n, c, h, w))


def _mixer(m: Any, x: Tensor) -> Tensor:
    return x + m.mix(x.flatten(2)).view(x.shape)


def _pyramid(m: Any, x: Tensor) -> Tensor:
    levels = [F.interpolate(F.adaptive_avg_pool2d(x, s), x.shape[2:], mode="bilinear") for s in (1, 2)]
    return torch.cat([x, *levels], 1)


def _shortcut_of_zeros(m: Any, x: Tensor) -> Tensor:
    short = F.avg_pool2d(x, 1, stride=2)
    zeros = torch.zeros(short.shape[0], CHANNELS, *short.shape[2:], dtype=x.dtype)
    return m.conv(x) + torch.cat([short.data, zeros.data], 1)


def _shifted_paths(m: Any, x: Tensor) -> Tensor:
    return torch.cat([F.avg_pool2d(x, 1, 2), F.avg_pool2d(F.pad(x, (-1, 1, -1, 1)), 1, 2)], 1)


def _coordinates(m: Any, x: Tensor) -> Tensor:
    lines = [torch.linspace(-1, 1, side, dtype=x.dtype) for side in x.shape[2:]]
    grid = torch.stack(torch.meshgrid(*lines, indexing="ij"))[None]
    return m.conv(torch.cat([x, grid.repeat(x.shape[0], 1, 1, 1)], 1))


def _up_and_down(m: Any, x: Tensor) -> Tensor:
    y = m.up(F.relu(m.down(x)))
    if y.shape[2:] != x.shape[2:]:
        y = F.pad(y, (0, x.shape[3] - y.shape[3], 0, x.shape[2] - y.shape[2]), mode="replicate")
    return torch.cat([y, x], 1)


def _split_attention(m: Any, x: Tensor) -> Tensor:
    halves = x.view(x.shape[0], 2, CHANNELS // 2, *x.shape[2:])
    weights = m.fc(halves.sum(1).mean((2, 3), keepdim=True)).view(x.shape[0], 2, -1, 1, 1).softmax(1)
    return (halves * weights).sum(1)


def _blurred(m: Any, x: Tensor) -> Tensor:
    line = torch.tensor([1.0, 2.0, 1.0], dtype=x.dtype)
    filters = (line[:, None] * line / 16)[None, None].repeat(CHANNELS, 1, 1, 1)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), filters, stride=2, groups=CHANNELS)


def _shuffled(m: Any, x: Tensor) -> Tensor:
    one, other = x.chunk(2, 1)
    y = torch.cat([one, m.conv(other)], 1)
    return y.view(x.shape[0], 2, -1, *x.shape[2:]).transpose(1, 2).contiguous().view(x.shape)


def conv(**options: Any) -> nn.Conv2d:
    return nn.Conv2d(options.pop("channels", CHANNELS), CHANNELS, 3, padding=1, **options)


# Name -> the block, the channels that it makes, the operation that windows end at.
BLOCKS: dict[str, tuple[Callable[[], nn.Module], int, str]] = {
    "contrast": (lambda: Function(lambda m, x: F.local_response_norm(x, 5, alpha=0.7, k=2.0)), 8, "mean"),
    "shortcut_of_zeros": (
        lambda: Function(_shortcut_of_zeros, conv=nn.Conv2d(CHANNELS, 16, 3, 2, 1)), 16, "mean",
    ),
    "shifted_paths": (lambda: Function(_shifted_paths), 16, "mean"),
    "coordinates": (lambda: Function(_coordinates, conv=conv(channels=CHANNELS + 2)), 8, "mean"),
    "standardised": (lambda: StandardisedConv2d(CHANNELS, CHANNELS, 3), 8, "mean"),
    "octave": (
        lambda: Function(
            lambda m, x: (lambda high, low: high + F.interpolate(low, scale_factor=2))(*m.conv(x)),
            conv=OctaveConv2d(CHANNELS, CHANNELS, 3, padding=1),
        ), 8, "mean",
    ),
    "up_and_down": (
        lambda: Function(_up_and_down, down=nn.Conv2d(8, 8, 3, 2, 1), up=nn.ConvTranspose2d(8, 8, 2, 2)), 16, "mean",
    ),
    "blurred": (lambda: Function(_blurred), 8, "mean"),
    "shuffled": (lambda: Function(_shuffled, conv=nn.Conv2d(4, 4, 3, padding=1, groups=4)), 8, "mean"),
    "gate_on_channels": (
        lambda: Function(_gate_on_channels, reduce=nn.Conv2d(8, 4, 1), expand=nn.Conv2d(4, 8, 1)), 8, "mean",
    ),
    "gate_by_conv1d": (lambda: Function(_gate_by_conv1d, conv=nn.Conv1d(1, 1, 3, padding=1)), 8, "mean"),
    "split_attention": (lambda: Function(_split_attention, fc=nn.Conv2d(4, 8, 1)), 4, "mean"),
    "response_norm": (lambda: Function(_response_norm), 8, "linalg_vector_norm"),
    "pyramid": (lambda: Function(_pyramid), 24, "adaptive_avg_pool2d"),
    "tokens": (
        lambda: Function(_tokens, token=nn.Embedding(1, 8), qkv=nn.Linear(8, 24)), 8, "cat",
    ),
    "normed_tokens": (
        lambda: Function(
            _normed_tokens, batch_norm=nn.BatchNorm2d(8), norm=nn.LayerNorm(8), conv=conv(groups=8),
        ), 8, "mean",
    ),
    "windows_of_tokens": (lambda: Function(_windows_of_tokens, value=nn.Linear(8, 8)), 8, "roll"),
    "mixer": (lambda: Function(_mixer, mix=nn.Linear(16 * 16, 16 * 16)), 8, "linear"),
}  # fmt: skip


def family(name: str) -> tuple[nn.Module, str]:
    """A network of ``BLOCKS`` in float64 and eval mode, and the operation that its windows end at."""
    torch.manual_seed(0)
    block, channels, end = BLOCKS[name]
    model = Family(block(), channels).double().eval()
    nn.init.normal_(model.norm.running_mean, 0, 0.1)
    return (Wrapped(model) if name == "shuffled" else model), end
