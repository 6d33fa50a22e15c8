"""Checks of the arguments that ops on windows share; messages as in :mod:`zfkernels.ops._checks`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from zfkernels.geometry import Boxes, Pair, Sliding, outputs_touched
from zfkernels.ops import _checks as check
from zfkernels.ops._direct import only_a_kernel_runs
from zfkernels.windows import Layout, Windows, layout_of, owners
from zfkernels.windows import check as check_places


def readable(tensor: Tensor) -> bool:
    """Whether looking at the numbers costs next to nothing: on a CPU, and nothing is being traced."""
    return tensor.is_cpu and only_a_kernel_runs((tensor,))


def windows(op: str, argument: str, value: Any, dtypes: tuple[torch.dtype, ...] = check.FLOATING) -> Windows:
    """A :class:`Windows` whose fields fit together; its numbers are looked at once, and only on a CPU."""
    if not isinstance(value, Windows):
        raise TypeError(f"{op}: expected {argument} a zfkernels.Windows, got {type(value).__name__}")
    values = check.tensor(op, f"{argument}.values", value.values, "[cells, C]", dtypes)
    check.pair(op, f"{argument}.frame", value.frame, minimum=1)
    places(op, argument, value.boxes, value.offsets, value.image, values)
    if value.images is None and readable(value.boxes):
        images = check_places(op, argument, value.boxes, value.offsets, value.image, value.frame, values.shape[0])
        value = dataclasses.replace(value, images=images)
    return value


def boxes(
    op: str, argument: str, value: Any, like: Tensor, count: int, dtypes: tuple[torch.dtype, ...] = (torch.int32,)
) -> None:
    """Boxes [P, 4], ``count`` of them on the device of ``like``."""
    check.tensor(op, argument, value, "[P, 4]", dtypes)
    check.equal(op, f"the shape of {argument}", tuple(value.shape), (count, 4))
    check.same(op, argument, value, "the windows", like, dtype=False)


def places(op: str, argument: str, flat: Any, offsets: Any, image: Any, like: Tensor) -> None:
    """Boxes [P, 4], offsets [P + 1] and image [P] that fit together, on the device of ``like``."""
    check.tensor(op, f"{argument}.image", image, "[P]", (torch.int64,))
    check.same(op, f"{argument}.image", image, "the values", like, dtype=False)
    boxes(op, f"{argument}.boxes", flat, like, image.shape[0])
    check.tensor(op, f"{argument}.offsets", offsets, "[P + 1]", (torch.int64,))
    check.equal(op, f"the shape of {argument}.offsets", tuple(offsets.shape), (image.shape[0] + 1,))
    check.same(op, f"{argument}.offsets", offsets, "the values", like, dtype=False)


def frames(op: str, value: Any, around: Windows, argument: str = "windows", *, of_windows: bool = True) -> None:
    """Frames [N, C, H, W] around windows, or None; ``of_windows``: one for the image of each window."""
    if value is None:
        return
    check.tensor(op, "frames", value, "[N, C, H, W]")
    check.same(op, "frames", value, argument, around.values)
    check.equal(op, "frames' channels and size", tuple(value.shape[1:]), (around.values.shape[1], *around.frame))
    if of_windows:
        enough_images(op, f"{argument}.image", around.images, "frames", value)


def pooling(op: str, kernel_size: Any, stride: Any, padding: Any, dilation: Any) -> Sliding:
    """The checked geometry of a pooling."""
    kernel = check.pair(op, "kernel_size", kernel_size, minimum=1)
    step = kernel if stride is None else check.pair(op, "stride", stride, minimum=1)
    room = check.pair(op, "padding", padding, minimum=0)
    if room[0] > kernel[0] // 2 or room[1] > kernel[1] // 2:
        raise ValueError(f"{op}: expected padding at most half of the kernel {kernel}, got {room}")
    return Sliding(kernel, step, room, check.pair(op, "dilation", dilation, minimum=1))


def whole_number(op: str, argument: str, value: Any, *, minimum: int) -> None:
    """An int, at least ``minimum``."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{op}: expected {argument} an int, got {value!r}")
    if value < minimum:
        raise ValueError(f"{op}: expected {argument} at least {minimum}, got {value}")


def enough_images(op: str, argument: str, needed: int | None, of: str, images: Tensor) -> None:
    """Image numbers below the number of ``images``, where they are known."""
    if needed is not None and needed > images.shape[0]:
        raise ValueError(f"{op}: expected {argument} below {images.shape[0]}, the number of {of}, got {needed - 1}")


def outputs_of(op: str, out_boxes: Any, source: Windows, layer: Sliding, frame: Pair) -> Layout:
    """Where the outputs of a sliding ``layer``, of size ``frame``, lie; by default all that each window can change."""
    return outputs(
        op, out_boxes, lambda: outputs_touched(Boxes.of(source.boxes), layer, frame), source.values, source.image,
        source.images, frame,
    )  # fmt: skip


def outputs(
    op: str,
    out_boxes: Any,
    touched: Callable[[], Boxes] | None,
    like: Tensor,
    image: Tensor,
    images: int | None,
    frame: Pair,
    argument: str = "out_boxes",
) -> Layout:
    """Where the results lie in their layer of size ``frame``: as asked for, else the cells ``touched``.

    Args:
        op: the name of the op.
        out_boxes: None, int32 [P, 4] or a :class:`Layout`, which is taken as it is but for its images.
        touched: the boxes that can change; None: ``out_boxes`` must be given.
        like: a tensor of the device.
        image: int64 [P], the image of each window.
        images: how many images there have to be, where that is known.
        frame: (H, W) of the results' layer.
        argument: the name of ``out_boxes``.
    """
    if out_boxes is None and touched is not None:
        return dataclasses.replace(Layout.of(touched(), image, frame), images=images)
    if not isinstance(out_boxes, Layout):
        boxes(op, argument, out_boxes, like, image.shape[0])
        return dataclasses.replace(layout_of(op, argument, out_boxes, image, frame), images=images)
    check.equal(op, f"{argument}.frame", tuple(out_boxes.frame), tuple(frame))
    places(op, argument, out_boxes.boxes, out_boxes.offsets, out_boxes.image, like)
    check.equal(op, f"the number of {argument}", len(out_boxes), image.shape[0])
    check.tensor(op, f"{argument}.owner", out_boxes.owner, "[cells]", (torch.int32,))
    check.equal(op, f"the shape of {argument}.owner", tuple(out_boxes.owner.shape), (out_boxes.cells,))
    check.same(op, f"{argument}.owner", out_boxes.owner, "the windows", like, dtype=False)
    if out_boxes.images is None and readable(out_boxes.boxes):
        check_places(
            op, argument, out_boxes.boxes, out_boxes.offsets, out_boxes.image, out_boxes.frame, out_boxes.cells
        )
        if not torch.equal(out_boxes.owner, owners(out_boxes.offsets, out_boxes.cells)):
            raise ValueError(f"{op}: expected {argument}.owner to fit {argument}.offsets, as Layout.of makes it")
    return dataclasses.replace(out_boxes, image=image, images=images)
