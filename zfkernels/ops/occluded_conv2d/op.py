"""``occluded_conv2d`` on windows: schema, fake kernel, refusal of gradients, variants and public function."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from zfkernels.geometry import Boxes, Pair, outputs_touched
from zfkernels.ops import _checks as check
from zfkernels.ops import _window_arguments as arguments
from zfkernels.ops import _window_guards as guards
from zfkernels.ops._registry import define, no_gradient
from zfkernels.ops.occluded_conv2d import reference
from zfkernels.windows import Layout, Windows

NAME = "occluded_conv2d"


def occluded_conv2d(
    images: Tensor,  # [N, C, H, W]
    weight: Tensor,  # [C_out, C / groups, kh, kw]
    bias: Tensor | None,  # [C_out]
    boxes: Tensor,  # int [P, 4]
    *,
    fill: float | Tensor | Windows = 0.0,
    mask: Windows | None = None,
    image: Tensor | None = None,
    out_boxes: Tensor | Layout | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    relu: bool = False,
    backend: str | None = None,
) -> Windows:
    """The first convolution of an occlusion sweep: one image, hundreds of boxes, one call.

    For each box, the outputs that hiding it can change, as if the image had been occluded and convolved whole. No
    occluded image exists in memory.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 4.2, figure 7.

    Args:
        images: [N, C, H, W], the clean images.
        weight: [C_out, C / groups, kh, kw].
        bias: [C_out] or None.
        boxes: int32 or int64 [P, 4] (top, left, height, width), what is hidden, in pixels; clipped to the image.
        fill: what a box shows, in the units of ``images``: a number; [C]; an image [N, C, H, W]; for each box a pixel
            [P, C], or P Windows in the frame of the images (pixels of a box outside its window stay as they are).
        mask: P Windows of bool, values [cells, 1], in the frame of the images: only the pixels of a box where its mask
            is True are hidden; None: all of them.
        image: int64 [P], the image that each box belongs to; None: the only one.
        out_boxes: which outputs: int32 [P, 4] (top, left, height, width) in the output, or a Layout of it, with which
            no tensor is read on the host; None: exactly the outputs that each box can change.
        stride: of the convolution, as are ``padding``, ``dilation`` and ``groups``.
        padding: zeros around the image, in pixels.
        dilation: in pixels.
        groups: number of groups.
        relu: apply the ReLU to the result.
        backend: variant asked for by name; None chooses by device.

    Returns:
        P windows of the output, values [cells, C_out] of ``images``' dtype. Not differentiable, and says so.

    Raises:
        TypeError: wrong type or dtype.
        ValueError: wrong shape, device or geometry; on a CPU also an image that does not exist.
        BackendError: ``backend`` cannot run here.
    """
    check.tensor(NAME, "images", images, "[N, C, H, W]")
    check.filters(NAME, weight, bias, "images", images, groups)
    layer = check.convolution(NAME, weight, stride, padding, dilation)
    check.flag(NAME, "relu", relu)
    frame = (images.shape[2], images.shape[3])
    check.tensor(NAME, "boxes", boxes, "[P, 4]", (torch.int32, torch.int64))
    arguments.boxes(NAME, "boxes", boxes, images, boxes.shape[0], (torch.int32, torch.int64))
    boxes = boxes.to(torch.int32)
    image, needed = _image(image, boxes, images, out_boxes)
    fills = _fill(fill, images, boxes)
    masks = _mask(mask, images, boxes)
    out_frame = check.layer_output(NAME, "images", layer, frame)
    at = arguments.outputs(
        NAME, out_boxes, lambda: outputs_touched(Boxes.of(boxes, frame), layer, out_frame),
        images, image, needed, out_frame,
    )  # fmt: skip
    out = op(
        images, weight, bias, boxes, image, *fills, *masks, at.boxes, at.offsets, at.owner, at.cells,
        layer.stride, layer.padding, layer.dilation, groups, relu, backend=backend,
    )  # fmt: skip
    return at.windows(out)


def _image(image: Any, boxes: Tensor, images: Tensor, out_boxes: Any) -> tuple[Tensor, int | None]:
    """The image of each box, int64 [P], and how many images there have to be, where that is known."""
    if image is None:
        if images.shape[0] != 1:
            raise ValueError(f"{NAME}: expected image [P] with {images.shape[0]} images, got None")
        return torch.zeros(boxes.shape[0], dtype=torch.int64, device=images.device), 1
    check.per_window(NAME, "image", image, "[P]", (torch.int64,), "boxes", boxes)
    if isinstance(out_boxes, Layout) and out_boxes.image is image and out_boxes.images is not None:
        needed = out_boxes.images
    elif image.shape[0] == 0:
        needed = 0
    elif arguments.readable(image):
        low, high = torch.stack(image.aminmax()).tolist()
        if low < 0:
            raise ValueError(f"{NAME}: expected image at least 0, got {low}")
        needed = high + 1
    else:
        return image, None
    arguments.enough_images(NAME, "image", needed, "images", images)
    return image, needed


def _fill(fill: Any, images: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
    if isinstance(fill, Windows):
        fill = arguments.windows(NAME, "fill", fill)
        _fits("fill", fill, images, boxes, images.shape[1])
        check.same(NAME, "fill", fill.values, "images", images)
        return fill.values, fill.boxes, fill.offsets
    if isinstance(fill, (int, float)) and not isinstance(fill, bool):
        return images.new_full((images.shape[1],), fill), None, None
    if not isinstance(fill, Tensor):
        raise TypeError(f"{NAME}: expected fill a number, a tensor or zfkernels.Windows, got {type(fill).__name__}")
    check.dense(NAME, "fill", fill)
    check.same(NAME, "fill", fill, "images", images)
    channels = (images.shape[1],)
    if tuple(fill.shape) not in (channels, (boxes.shape[0], *channels), tuple(images.shape)):
        raise ValueError(
            f"{NAME}: expected fill a number, [{channels[0]}], {(boxes.shape[0], *channels)},"
            f" {tuple(images.shape)} or Windows, got {tuple(fill.shape)}"
        )
    return fill, None, None


def _mask(mask: Any, images: Tensor, boxes: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    if mask is None:
        return None, None, None
    mask = arguments.windows(NAME, "mask", mask, (torch.bool,))
    _fits("mask", mask, images, boxes, 1)
    return mask.values, mask.boxes, mask.offsets


def _fits(argument: str, windows: Windows, images: Tensor, boxes: Tensor, channels: int) -> None:
    """One window for each box, in the frame of the images."""
    check.equal(NAME, f"the number of {argument}", len(windows), boxes.shape[0])
    check.equal(NAME, f"{argument}.frame", tuple(windows.frame), (images.shape[2], images.shape[3]))
    check.equal(NAME, f"{argument}'s channels", windows.values.shape[1], channels)
    check.same(NAME, argument, windows.values, "images", images, dtype=False)


def _fake(*, images: Tensor, weight: Tensor, cells: int, **_: Any) -> Tensor:
    return images.new_empty(cells, weight.shape[0])


def _guard(
    *, images: Any, weight: Any, bias: Any, boxes: Any, image: Any, fill: Any, fill_boxes: Any, fill_offsets: Any,
    mask: Any, mask_boxes: Any, mask_offsets: Any, groups: int, **out: Any,
) -> None:  # fmt: skip
    check.tensor(NAME, "images", images, "[N, C, H, W]")
    check.filters(NAME, weight, bias, "images", images, groups)
    arguments.boxes(NAME, "boxes", boxes, images, len(boxes))
    check.per_window(NAME, "image", image, "[P]", (torch.int64,), "boxes", boxes)
    if fill_boxes is None:
        _fill(fill, images, boxes)
    else:
        guards.places(NAME, fill, fill_boxes, fill_offsets, image)
    if mask is not None:
        guards.places(NAME, mask, mask_boxes, mask_offsets, image, (torch.bool,))
    guards.outputs(NAME, image=image, **out)


def _flops(*, weight: Any, cells: int, **_: Any) -> int:
    """As if each output were computed by itself: what neighbouring boxes share is counted for each of them."""
    return 2 * cells * math.prod(weight)


op = define(
    f"{NAME}(Tensor images, Tensor weight, Tensor? bias, Tensor boxes, Tensor image, Tensor fill,"
    " Tensor? fill_boxes, Tensor? fill_offsets, Tensor? mask, Tensor? mask_boxes, Tensor? mask_offsets,"
    " Tensor out_boxes, Tensor out_offsets, Tensor owner, SymInt cells, int[2] stride, int[2] padding, int[2] dilation,"
    " int groups, bool relu) -> Tensor",
    fake=_fake,
    backward=no_gradient(NAME),
    guard=_guard,
    flops=_flops,
)
op.reference(reference.occluded_conv2d)
op.native("cpp", (torch.float32, torch.float64, torch.bfloat16))
op.native("cuda", (torch.float32, torch.float16, torch.bfloat16))
op.triton((torch.float32, torch.float16, torch.bfloat16))
# By static figures that no one has measured: benchmarks/gpu_static_report.md, "Triton or CUDA".
op.prefer("cuda", "triton", "cuda", "reference")
