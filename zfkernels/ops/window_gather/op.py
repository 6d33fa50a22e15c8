"""``window_gather``: schema, fake kernel, refusal of gradients, variants and the public function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from zfkernels.ops import _checks as check
from zfkernels.ops import _window_arguments as arguments
from zfkernels.ops import _window_guards as guards
from zfkernels.ops._registry import define, no_gradient
from zfkernels.ops.window_gather import reference
from zfkernels.windows import Layout, Windows

NAME = "window_gather"


def window_gather(
    sources: Sequence[Windows | tuple[Windows, Tensor]],
    frames: Tensor | None,  # [N, C, H, W]
    boxes: Tensor | Layout,
    *,
    backend: str | None = None,
) -> Windows:
    """The cells of some boxes, from the first source that has them, else from the image's frame, else zero.

    With it windows are cropped, aligned to the boxes of others (to add or concatenate them), overlaid (two squares at
    once) and, with boxes that are whole frames, pasted. All sources are windows of one layer.

    Args:
        sources: Windows, the p-th of which is looked up for the p-th box; or (Windows, row), int64 [P], where box p
            looks up window row[p].
        frames: [N, C, H, W], the layer around the windows, one frame for each image; None: zeros.
        boxes: which cells: int32 [P, 4] (top, left, height, width) inside the frame, of the images of the first
            source's windows; or a Layout, with images of its own, with which no tensor is read on the host.
        backend: variant asked for by name; None chooses by device.

    Returns:
        P windows in ``boxes``, values [cells, C]: copies, equal to the bit. Not differentiable, and says so.

    Raises:
        TypeError: wrong type or dtype.
        ValueError: wrong shape or device, neither sources nor frames, sources of different layers; on a CPU also boxes
            outside the frame, offsets that do not fit them, rows and images that do not exist.
        BackendError: ``backend`` cannot run here.
    """
    if not isinstance(sources, Sequence) or isinstance(sources, (str, Tensor)):
        raise TypeError(f"{NAME}: expected sources a sequence of zfkernels.Windows, got {type(sources).__name__}")
    found: list[Windows] = []
    rows: list[Tensor | None] = []
    for i, source in enumerate(sources):
        given, row = source if isinstance(source, tuple) and len(source) == 2 else (source, None)
        found.append(arguments.windows(NAME, f"sources[{i}]", given))
        rows.append(row)
    if not isinstance(boxes, Layout):
        check.tensor(NAME, "boxes", boxes, "[P, 4]", (torch.int32,))
    for i, row in enumerate(rows):
        _check_row(f"sources[{i}]", row, found[i], len(boxes))
    like = _like(found, frames)
    frame = found[0].frame if found else (frames.shape[2], frames.shape[3])  # type: ignore[union-attr]
    for i, windows in enumerate(found[1:], 1):
        check.same(NAME, f"sources[{i}]", windows.values, "sources[0]", like)
        check.equal(NAME, f"sources[{i}]'s channels", windows.values.shape[1], like.shape[1])
        check.equal(NAME, f"sources[{i}].frame", tuple(windows.frame), tuple(frame))
    if found:
        arguments.frames(NAME, frames, found[0], "sources[0]", of_windows=False)
    image, images = _images(boxes, found, rows)
    at = arguments.outputs(NAME, boxes, None, like, image, images, frame, "boxes")
    if frames is not None:
        arguments.enough_images(NAME, "the images of boxes", images, "frames", frames)
    out = op(
        at.boxes, at.offsets, at.owner, at.cells, at.image, [w.values for w in found], [w.boxes for w in found],
        [w.offsets for w in found], rows, frames, frame, backend=backend,
    )  # fmt: skip
    return at.windows(out)


def _like(found: list[Windows], frames: Any) -> Tensor:
    """A tensor of the device and dtype, with the channels second."""
    if found:
        return found[0].values
    if frames is None:
        raise ValueError(f"{NAME}: expected sources or frames, got neither")
    return check.tensor(NAME, "frames", frames, "[N, C, H, W]")


def _images(boxes: Tensor | Layout, found: list[Windows], rows: list[Tensor | None]) -> tuple[Tensor, int | None]:
    """The image of each box, int64 [P], and how many images there have to be, where that is known."""
    if isinstance(boxes, Layout):
        return boxes.image, boxes.images
    if not found:
        raise ValueError(f"{NAME}: expected boxes a Layout, which has images, with no sources, got a tensor")
    image = found[0].image if rows[0] is None else found[0].image.index_select(0, rows[0])
    return image, found[0].images


def _check_row(source: str, row: Any, windows: Windows, count: int) -> None:
    if row is None:
        check.equal(NAME, f"{source} with a window for each of the boxes,", len(windows), count)
        return
    check.tensor(NAME, f"{source}[1]", row, "[P]", (torch.int64,))
    check.same(NAME, f"{source}[1]", row, "the windows", windows.values, dtype=False)
    check.equal(NAME, f"the shape of {source}[1]", tuple(row.shape), (count,))
    if count and arguments.readable(row):
        low, high = torch.stack(row.aminmax()).tolist()
        if low < 0 or high >= len(windows):
            raise ValueError(f"{NAME}: expected {source}[1] in [0, {len(windows)}), got {low} to {high}")


def _fake(*, values: Sequence[Tensor], frames: Any, cells: int, **_: Any) -> Tensor:
    like = values[0] if len(values) else frames
    return like.new_empty(cells, like.shape[1])


def _guard(
    *, values: Any, boxes: Any, offsets: Any, rows: Any, frames: Any, frame: Any, image: Any, out_boxes: Any, **out: Any
) -> None:
    like = values[0] if values else check.tensor(NAME, "frames", frames, "[N, C, H, W]")
    counts = (len(boxes), len(offsets), len(rows))
    check.equal(NAME, "the numbers of boxes, offsets and rows", counts, (len(values),) * 3)
    for i, row in enumerate(rows):
        numbers = image.new_empty(len(boxes[i]))  # the sources' own images are not read
        guards.places(NAME, values[i], boxes[i], offsets[i], numbers)
        check.same(NAME, "values", values[i], "the first of them", like)
        check.equal(NAME, "the channels of all sources", values[i].shape[1], like.shape[1])
        windows = len(boxes[i]) if row is None else len(check.tensor(NAME, "rows", row, "[P]", (torch.int64,)))
        check.equal(NAME, "a window or a row for each of the boxes,", windows, len(out_boxes))
    guards.around(NAME, frames, like, frame)
    guards.outputs(NAME, image=image, out_boxes=out_boxes, **out)


op = define(
    f"{NAME}(Tensor out_boxes, Tensor out_offsets, Tensor owner, SymInt cells, Tensor image, Tensor[] values,"
    " Tensor[] boxes, Tensor[] offsets, Tensor?[] rows, Tensor? frames, SymInt[2] frame) -> Tensor",
    fake=_fake,
    backward=no_gradient(NAME),
    guard=_guard,
)
op.reference(reference.window_gather)
op.native("cpp", (torch.float32, torch.float64, torch.bfloat16))


def _many_sources(*, values: Sequence[Tensor], **_: Any) -> str | None:
    """A launch's arguments have room for so many sources."""
    return None if len(values) <= 16 else f"it takes at most 16 sources, got {len(values)}"


op.native("cuda", (torch.float32, torch.float16, torch.bfloat16), _many_sources)
op.triton((torch.float32, torch.float16, torch.bfloat16))
