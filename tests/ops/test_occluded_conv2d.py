"""The first convolution of an occlusion sweep against occluding whole images and convolving them; what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from comparing import assert_refused
from samples import Sample
from torch import Tensor
from variants import samples

from zfkernels.ops import occluded_conv2d, window_conv2d, window_max_pool2d
from zfkernels.windows import Pair, Windows

OP = "occluded_conv2d"


def occluded(images: Tensor, positions: Tensor, window: Any, fill: Any, image: Tensor | None) -> Tensor:
    """The occluded images, [P, C, H, W]."""
    height, width = window if isinstance(window, tuple) else (window, window)
    source = torch.zeros(len(positions), dtype=torch.int64) if image is None else image
    whole = images[source].clone()
    for p, (top, left) in enumerate(positions.tolist()):
        square = (p, slice(None), slice(top, top + height), slice(left, left + width))
        if isinstance(fill, Tensor) and fill.dim() == 4:
            whole[square] = fill[source[p]][square[1:]]
        else:
            whole[square] = fill[:, None, None] if isinstance(fill, Tensor) else fill
    return whole


FINITE = {s.values[1].name for s in samples([OP])} - {"NaN and infinity", "somewhere", "no images"}


@pytest.mark.parametrize(("op", "sample"), samples([OP], FINITE))
def test_the_windows_hold_all_that_the_square_changes(op: str, sample: Sample) -> None:
    arguments = sample.arguments(torch.float64)
    result = occluded_conv2d(**arguments)
    names = ("stride", "padding", "dilation", "groups")
    geometry = {name: arguments[name] for name in names if name in arguments}
    relu = torch.relu if arguments.get("relu") else lambda maps: maps

    def convolve(maps: Tensor) -> Tensor:
        return relu(F.conv2d(maps, arguments["weight"], arguments["bias"], **geometry))

    names = ("images", "positions", "window", "fill")
    expected = convolve(occluded(*(arguments[name] for name in names), arguments.get("image")))
    torch.testing.assert_close(result.paste(convolve(arguments["images"])), expected, rtol=1e-10, atol=1e-10)


def test_a_chain_of_windows_is_the_network_on_occluded_images() -> None:
    images = torch.rand(2, 3, 33, 30, dtype=torch.float64)
    first, second = (torch.randn(*shape, dtype=torch.float64) for shape in ((5, 3, 5, 3), (4, 5, 3, 3)))
    bias = torch.randn(5, dtype=torch.float64)
    rows, columns = torch.meshgrid(torch.arange(0, 33, 4), torch.arange(0, 30, 3), indexing="ij")
    positions = torch.stack([rows.flatten(), columns.flatten()], 1)
    image = torch.arange(len(positions)) % 2

    def network(images: Tensor) -> list[Tensor]:
        one = F.conv2d(images, first, bias, (2, 1), (1, 2)).relu()
        two = F.max_pool2d(one, 3, 2, ceil_mode=True)
        return [one, two, F.conv2d(two, second, None, padding=1)]

    clean, dense = network(images), network(occluded(images, positions, (6, 5), 0.5, image))
    sweep: list[Windows] = []
    options: Any = {"stride": (2, 1), "padding": (1, 2), "relu": True}
    sweep.append(occluded_conv2d(images, first, bias, positions, window=(6, 5), fill=0.5, image=image, **options))
    sweep.append(window_max_pool2d(sweep[0], clean[0], 3, 2, ceil_mode=True))
    sweep.append(window_conv2d(sweep[1], clean[1], second, padding=1))
    for windows, frames, expected in zip(sweep, clean, dense, strict=True):
        assert windows.size < windows.frame
        torch.testing.assert_close(windows.paste(frames), expected, rtol=1e-10, atol=1e-10)


def test_one_image_needs_no_index_and_positions_may_be_int32() -> None:
    images, weight = torch.randn(1, 2, 9, 9), torch.randn(3, 2, 3, 3)
    positions = torch.tensor([[0, 0], [5, 7], [8, 8]])
    a = occluded_conv2d(images, weight, None, positions, window=3)
    b = occluded_conv2d(images, weight, None, positions.int(), window=(3, 3), image=torch.zeros(3, dtype=torch.int64))
    assert torch.equal(a.values, b.values)
    assert torch.equal(a.origins, b.origins)
    assert a.image.tolist() == [0, 0, 0]
    assert a.frame == (7, 7)


FRAME: Pair = (9, 8)
BASE = {
    "images": torch.ones(1, 4, *FRAME),
    "weight": torch.ones(6, 4, 3, 3),
    "bias": torch.ones(6),
    "positions": torch.zeros(5, 2, dtype=torch.int64),
    "window": 3,
}
TWO = torch.ones(2, 4, *FRAME)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"images": 3}, TypeError, "images a tensor [N, C, H, W], got int"),
        ({"images": torch.ones(4, 9, 8)}, ValueError, "images of shape [N, C, H, W], got (4, 9, 8)"),
        ({"images": TWO}, ValueError, "image [P] with 2 images, got None"),
        ({"images": torch.ones(1, 4, 2, 8), "window": 2}, ValueError,
         "images large enough for one output of Sliding(kernel=(3, 3), stride=(1, 1), padding=(0, 0), dilation=(1, 1)),"
         " got (2, 8)"),
        ({"weight": torch.ones(6, 4, 3)}, ValueError, "weight of shape [C_out, C / groups, kh, kw], got (6, 4, 3)"),
        ({"weight": torch.ones(6, 4, 3, 3).half()}, TypeError,
         "weight of the dtype of images, torch.float32, got torch.float16"),
        ({"weight": torch.ones(6, 3, 3, 3)}, ValueError,
         "weight's second dimension, channels / groups, 4, got 3"),
        ({"weight": torch.ones(0, 4, 3, 3)}, ValueError, "groups a divisor of 4 and 0 channels, got 1"),
        ({"bias": 0.0}, TypeError, "bias a tensor [C_out], got float"),
        ({"bias": torch.ones(4)}, ValueError, "bias's shape (6,), got (4,)"),
        ({"bias": torch.ones(6).double()}, TypeError, "bias of the dtype of images, torch.float32, got torch.float64"),
        ({"bias": torch.ones(6, device="meta")}, ValueError, "bias on the device of images, cpu, got meta"),
        ({"positions": [(0, 0)]}, TypeError, "positions a tensor [P, 2], got list"),
        ({"positions": torch.zeros(5, 2)}, TypeError, "positions of dtype int32, int64, got torch.float32"),
        ({"positions": torch.zeros(5, 3).int()}, ValueError, "positions' shape (5, 2), got (5, 3)"),
        ({"positions": torch.zeros(5, 2, device="meta").int()}, ValueError,
         "positions on the device of images, cpu, got meta"),
        ({"window": 2.5}, TypeError, "window an int or a pair of ints, got 2.5"),
        ({"window": (0, 3)}, ValueError, "window at least 1, got (0, 3)"),
        ({"window": (9, 9)}, ValueError, "window no larger than the images (9, 8), got (9, 9)"),
        ({"fill": "mean"}, TypeError, "fill a number or a tensor, got str"),
        ({"fill": torch.ones(4).to_sparse()}, TypeError, "fill a dense tensor, got one of layout torch.sparse_coo"),
        ({"fill": torch.ones(3)}, ValueError, "fill a number, [4] or (1, 4, 9, 8), got (3,)"),
        ({"fill": torch.ones(4).double()}, TypeError, "fill of the dtype of images, torch.float32, got torch.float64"),
        ({"image": [0] * 5}, TypeError, "image a tensor [P], got list"),
        ({"image": torch.zeros(5).int()}, TypeError, "image of dtype int64, got torch.int32"),
        ({"image": torch.zeros(4).long()}, ValueError, "the shape of image (5,), got (4,)"),
        ({"out_size": 0}, ValueError, "out_size at least 1, got 0"),
        ({"out_size": (8, 3)}, ValueError, "out_size no larger than the output (7, 6), got (8, 3)"),
        ({"out_origins": torch.zeros(5, 2)}, TypeError, "out_origins of dtype int32, got torch.float32"),
        ({"out_origins": torch.zeros(1, 2).int()}, ValueError, "the shape of out_origins (5, 2), got (1, 2)"),
        ({"stride": (1, 0)}, ValueError, "stride at least 1, got (1, 0)"),
        ({"padding": "same"}, TypeError, "padding an int or a pair of ints, got 'same'"),
        ({"dilation": 0}, ValueError, "dilation at least 1, got 0"),
        ({"groups": 3}, ValueError, "groups a divisor of 4 and 6 channels, got 3"),
        ({"groups": True}, TypeError, "groups an int, got True"),
        ({"relu": "yes"}, TypeError, "relu a bool, got 'yes'"),
    ],
)  # fmt: skip
def test_bad_arguments(changes: dict[str, Any], error: type, message: str) -> None:
    assert_refused(occluded_conv2d, BASE | changes, error, message)
