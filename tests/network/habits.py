"""Small networks for the recorder's tests: functions of (module, images), each with one habit that people have."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS, SIZE = 3, (12, 10)
Function = Callable[[Any, Tensor], Any]


class Network(nn.Module):
    """``forward`` as a function of (module, x), with a convolution, a normalisation and a rectifier at hand."""

    def __init__(self, function: Function, **modules: nn.Module) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(CHANNELS, 4, 3, padding=1), nn.ReLU(inplace=True)
        self.norm = nn.BatchNorm2d(4)
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def network(function: Function, **modules: nn.Module) -> Network:
    torch.manual_seed(0)
    model = Network(function, **modules).double().eval()
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    nn.init.uniform_(model.norm.running_var, 0.5, 2)
    nn.init.normal_(model.norm.running_mean)
    return model


def images(count: int = 2, seed: int = 1) -> Tensor:
    return torch.randn(count, CHANNELS, *SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _alias(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x)
    z = y
    z += 1
    return y * 2 + z


def _alias_after_identity(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x)
    z = nn.Identity()(y)
    z.mul_(3)
    return y


def _write_through_slice(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x)
    part = y[:, 1:3, ::2]
    before = part + 0
    part += 1
    y[:, 0].relu_()
    return torch.cat([y, before.repeat(1, 1, 2, 1)], 1)


def _write_through_reshapes(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x)
    flat = y.view(len(y), -1)
    flat[:, 3:50] -= 0.5
    y.permute(0, 2, 3, 1)[..., 2].clamp_(0, 1)
    y.transpose(1, 2)[:, 1] = 7
    y.unsqueeze(1).squeeze(1).neg_()
    return y + flat.view_as(y)


def _write_through_pieces(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x)
    a, b = y.chunk(2, 1)
    b.sigmoid_()
    a.copy_(b)
    y.unbind(2)[3].zero_()
    y.split([1, 3], 1)[1].add_(1)
    torch.diagonal(y, 0, 2, 3).fill_(5)
    return y


def _read_old_view_after_write(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x)
    view = y[:, :2]
    y.relu_()
    kept = view.clone()
    y.add_(1)
    return view + kept


def _write_into_input(m: Any, x: Tensor) -> Tensor:
    x.sub_(0.5)
    x[:, 0] = 0
    return m.conv(x)


def _write_into_constant(m: Any, x: Tensor) -> Tensor:
    canvas = torch.zeros(len(x), CHANNELS, SIZE[0] + 2, SIZE[1] + 2, dtype=x.dtype)
    canvas[:, :, 1:-1, 1:-1] = x
    canvas[..., 0] = 1
    return m.conv(canvas)


def _mask_built_in_place(m: Any, x: Tensor) -> Tensor:
    mask = torch.ones(SIZE, dtype=x.dtype)
    first = x * mask
    mask[2:5] = 0
    return m.conv(first + x * mask)


def _reshape_in_place(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x).mean((2, 3))
    y.unsqueeze_(2)
    y.transpose_(1, 2)
    y += 1
    return y.squeeze_(1)


def _out_argument(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x)
    z = torch.empty_like(y)
    torch.mul(y, 2, out=z)
    return z + y


def _index_put(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x)
    y[:, torch.tensor([0, 2])] = 1.5
    y[y < 0] = 0.25
    return y


def _integers_of_floats(m: Any, x: Tensor) -> Tensor:
    y = (m.conv(x) * 10).long()
    y += 2
    return y * 0.5


def _inplace_shortcut(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x)
    z = m.norm(m.relu(y))
    z += y
    return z


IN_PLACE: dict[str, Function] = {
    f.__name__[1:]: f
    for f in (
        _alias, _alias_after_identity, _write_through_slice, _write_through_reshapes, _write_through_pieces,
        _read_old_view_after_write, _write_into_input, _write_into_constant, _mask_built_in_place, _reshape_in_place,
        _out_argument, _index_put, _integers_of_floats, _inplace_shortcut,
    )
}  # fmt: skip


class Pair(NamedTuple):
    maps: Tensor
    scores: Any


def _sizes(m: Any, x: Tensor) -> Tensor:
    n, _, h, w = x.shape
    y = m.conv(x).view(n, 2, 2, h * w)
    position = torch.arange(h * w, dtype=x.dtype).expand(n, 1, 1, -1)
    token = torch.zeros(n, 2, 2, 1, dtype=x.dtype) + torch.full((n, 1, 1, 1), 3.0, dtype=x.dtype)
    return torch.cat([token, y + position], 3).reshape(n * 2, 2, -1).view(x.size(0), -1) / n**0


def _rows(m: Any, x: Tensor) -> Tensor:
    return torch.stack([m.conv(row[None])[0] for row in x]) if len(x) > 10**6 else m.conv(x)


def _swallowed_shape_error(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x)
    try:
        return y @ y
    except RuntimeError:
        return y @ y.mT


def _several(m: Any, x: Tensor) -> Any:
    values, places = m.conv(x).flatten(2).topk(3, -1)
    return {"values": values, "more": [places, (values * 2,)], "none": None, "name": "toy"}


@functools.lru_cache
def _grid(height: int, width: int) -> Tensor:
    return torch.arange(height * width, dtype=torch.float64).view(height, width)


def _cached_grid(m: Any, x: Tensor) -> Tensor:
    return m.conv(x + _grid(*x.shape[2:]))


def _lstm_over_columns(m: Any, x: Tensor) -> Tensor:
    sequence = m.conv(x).mean(2).permute(0, 2, 1)
    return m.lstm(sequence)[0][:, -1]


OTHERS: dict[str, Callable[[], Network]] = {
    "sizes": lambda: network(_sizes),
    "rows": lambda: network(_rows),
    "swallowed_shape_error": lambda: network(_swallowed_shape_error),
    "several": lambda: network(_several),
    "named": lambda: network(lambda m, x: Pair(m.conv(x), Pair(m.conv(x).amax((2, 3)), [1, "two"]))),
    "cached_grid": lambda: network(_cached_grid),
    "max_values": lambda: network(lambda m, x: m.conv(x).max(1)),
    "contrast": lambda: network(lambda m, x: m.lrn(m.relu(m.conv(x))), lrn=nn.LocalResponseNorm(3)),
    "attention": lambda: network(
        lambda m, x: m.attend(*[m.conv(x).flatten(2).mT] * 3, need_weights=False)[0],
        attend=nn.MultiheadAttention(4, 2, batch_first=True),
    ),
    "encoder": lambda: network(
        lambda m, x: m.layer(m.conv(x).flatten(2).mT), layer=nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    ),
    "lstm": lambda: network(_lstm_over_columns, lstm=nn.LSTM(4, 5, batch_first=True)),
    "scripted": lambda: network(
        lambda m, x: m.part(m.conv(x)), part=torch.jit.script(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4)).eval())
    ),
    "spectral": lambda: network(lambda m, x: m.s(x), s=nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 2, 3))),
    "weight_norm": lambda: network(lambda m, x: m.s(x), s=nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 2, 3))),
    "checkpointed": lambda: network(
        lambda m, x: torch.utils.checkpoint.checkpoint(lambda y: m.relu(m.conv(y)), x, use_reentrant=False)
    ),
    "casts": lambda: network(lambda m, x: m.conv(x.float().double()).half().float()),
    "functional": lambda: network(
        lambda m, x: F.batch_norm(m.conv(x), m.norm.running_mean, m.norm.running_var, m.norm.weight, m.norm.bias)
    ),
}
