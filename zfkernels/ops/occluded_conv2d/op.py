"""``occluded_conv2d``: schema, fake kernel, refusal of gradients, variants and the public function."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from zfkernels.ops import _checks as check
from zfkernels.ops._library import define, no_gradient
from zfkernels.ops.occluded_conv2d import reference
from zfkernels.windows import Pair, Windows

NAME = "occluded_conv2d"


def occluded_conv2d(
    images: Tensor,  # [N, C, H, W]
    weight: Tensor,  # [C_out, C / groups, kh, kw]
    bias: Tensor | None,  # [C_out]
    positions: Tensor,  # int [P, 2]
    *,
    window: int | Pair,
    fill: float | Tensor = 0.0,
    image: Tensor | None = None,
    out_size: Pair | None = None,
    out_origins: Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    relu: bool = False,
    backend: str | None = None,
) -> Windows:
    """The first convolution of an occlusion sweep: one image, hundreds of positions of a square, one call.

    For each position, the outputs that the square can change, as if the image had been occluded and convolved whole.
    No occluded image exists in memory. A square may hang over the bottom or right border: it is clipped.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 4.2, figure 7.

    Args:
        images: [N, C, H, W], the clean images.
        weight: [C_out, C / groups, kh, kw].
        bias: [C_out] or None.
        positions: int [P, 2], row and column of the upper left corner of each square, inside the image.
        window: (height, width) of the square, in pixels.
        fill: what the square shows, in the units of ``images``: a number, a tensor [C], or one of the images' shape
            (equal to the image in channels that stay untouched).
        image: int64 [P], the image that each position belongs to; None: the only one.
        out_size: (h', w') of the resulting windows; by default as many outputs as a square can touch.
        out_origins: int32 [P, 2], where they lie in the output; by default the first output that each square touches.
        stride: of the convolution, as are ``padding``, ``dilation`` and ``groups``.
        padding: zeros around the image, in pixels.
        dilation: in pixels.
        groups: number of groups.
        relu: apply the ReLU to the result.
        backend: variant asked for by name; None chooses by device.

    Returns:
        Windows [P, C_out, h', w'], channels last, of ``images``' dtype. Not differentiable, and says so.

    Raises:
        TypeError: wrong type or dtype.
        ValueError: wrong shape, device or geometry; a window larger than the image.
        BackendError: ``backend`` cannot run here.
    """
    check.tensor(NAME, "images", images, "[N, C, H, W]")
    check.filters(NAME, weight, bias, "images", images, groups)
    layer = check.convolution(NAME, weight, stride, padding, dilation)
    frame = (images.shape[2], images.shape[3])
    square = check.pair(NAME, "window", window, minimum=1)
    if square[0] > frame[0] or square[1] > frame[1]:
        raise ValueError(f"{NAME}: expected window no larger than the images {frame}, got {square}")
    check.tensor(NAME, "positions", positions, "[P, 2]", (torch.int32, torch.int64))
    check.equal(NAME, "positions' shape", tuple(positions.shape), (positions.shape[0], 2))
    check.same(NAME, "positions", positions, "images", images, dtype=False)
    positions = positions.to(torch.int32)
    fill = check.fill(NAME, fill, images)
    if image is None:
        if images.shape[0] != 1:
            raise ValueError(f"{NAME}: expected image [P] with {images.shape[0]} images, got None")
        image = torch.zeros(positions.shape[0], dtype=torch.int64, device=images.device)
    check.per_window(NAME, "image", image, "[P]", (torch.int64,), "positions", positions)
    check.flag(NAME, "relu", relu)
    out_frame = check.layer_output(NAME, "images", layer, frame)
    out_origins, size = check.output_windows(NAME, positions, square, frame, layer, out_frame, out_size, out_origins)
    out = op(
        images, weight, bias, positions, image, fill, square, out_origins, size,
        layer.stride, layer.padding, layer.dilation, groups, relu, backend=backend,
    )  # fmt: skip
    return Windows(out, out_origins, image, out_frame)


def _fake(images: Tensor, weight: Tensor, bias: Any, positions: Tensor, *args: Any) -> Tensor:
    return check.empty_channels_last(images, (positions.shape[0], weight.shape[0], *args[4]))


op = define(
    f"{NAME}(Tensor images, Tensor weight, Tensor? bias, Tensor positions, Tensor image, Tensor fill, int[2] window,"
    " Tensor out_origins, SymInt[2] out_size, int[2] stride, int[2] padding, int[2] dilation, int groups, bool relu)"
    " -> Tensor",
    fake=_fake,
    backward=no_gradient(NAME),
)
op.reference(reference.occluded_conv2d)
op.native("cpp", (torch.float32, torch.float64))
op.native("cuda", (torch.float32, torch.float16, torch.bfloat16))
op.triton((torch.float32, torch.float16, torch.bfloat16))
# By static figures that no one has measured: benchmarks/gpu_static_report.md, "Triton or CUDA".
op.prefer("cuda", "triton", "cuda", "reference")
