"""A sweep on a GPU waits for nothing and sends nothing between its first launch and its last: tried without a GPU.

The host side runs on fake CUDA tensors, every operation of PyTorch is looked at, launches are written down in place of
being run. What ran before with arguments of the same form has made the tables of constants.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from support.capturing import CUDA, OnDevice, move_constants, route_to_kernels
from support.narrow import Branches, narrow
from sweeping import ON_WINDOWS, squares, sweep_of
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

pytest.importorskip("triton")

from zfkernels.occlusion import places
from zfkernels.occlusion.cover import Cover
from zfkernels.occlusion.engine import WindowSweep
from zfkernels.occlusion.places import Places
from zfkernels.occlusion.watch import Watched
from zfkernels.ops import _triton_launch

SIDE = 96


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeTensorMode:
    """A mode in which what the host packs is real, and what it sends is not."""
    packed = Places._packed

    def really(self: Places, images: int, size: int) -> Iterator[Any]:
        with unset_fake_temporarily():
            found = list(packed(self, images, size))
        return iter(found)

    route_to_kernels(monkeypatch)
    monkeypatch.setattr(Places, "_packed", really)
    monkeypatch.setattr(places, "sent", lambda words, device: torch.empty_like(words, device=device))
    return FakeTensorMode(allow_non_fake_inputs=True)


def prepared(model: nn.Module, fake: FakeTensorMode, **options: Any) -> WindowSweep:
    """A sweep whose constants are fake CUDA tensors."""
    boxes = squares(torch.randint(0, 80, (9, 2)), (9, 9))
    sweep = sweep_of(model, torch.zeros(1, 3, SIDE, SIDE), boxes, backend="triton", **options)
    sweep.planned(CUDA, torch.float32)
    for kind in sweep.program.kinds.values():
        assert all(lines.mixes in (True, False) for lines in getattr(kind, "lines", ()))  # known from a run before
    with fake:
        for kind in sweep.program.kinds.values():
            move_constants(kind)
    return sweep


def covers(form: str) -> Cover:
    fill = torch.empty(3, device=CUDA)
    if form == "image":
        return Cover(torch.empty(2, 3, SIDE, SIDE, device=CUDA))
    if form == "each":
        return Cover(fill, each=torch.empty(9, 3, 9, 9, device=CUDA))
    if form == "disc":
        return Cover(fill, mask=torch.empty(9, 9, dtype=torch.bool, device=CUDA))
    return Cover(fill)


@pytest.mark.parametrize(
    ("name", "form", "batch_size"), [("resnet18", "colour", None), ("vgg16", "image", 7), ("branches", "disc", 7)]
)
def test_nothing_is_read_or_sent_in_a_sweep(fake: FakeTensorMode, name: str, form: str, batch_size: int | None) -> None:
    model = Branches().eval() if name == "branches" else narrow(name)
    watched = [Watched({"branches": "relu"}.get(name, "relu"), None, "value")] if name == "branches" else []
    options: dict[str, Any] = {"rates": ON_WINDOWS} if name == "branches" else {}
    sweep = prepared(model, fake, watched=watched, **options)
    with fake, torch.no_grad():
        images, targets = torch.empty(2, 3, SIDE, SIDE, device=CUDA), torch.empty(2, dtype=torch.int64, device=CUDA)
        cover = covers(form)
        assert sweep.repeats(images, batch_size, None)
        with _triton_launch.record():  # what ran before has made what stays
            sweep(sweep.clean(images), cover, targets=targets, batch_size=batch_size, again=True)
        with _triton_launch.record() as launches, OnDevice() as mode:
            found = sweep(sweep.clean(images), cover, targets=targets, batch_size=batch_size, again=True)
    assert found.outputs.shape == (2, 9, 2)
    assert found.outputs.device.type == "cuda"
    head = sum(kind.multiply_adds > 0 for kind in sweep.plan(CUDA, torch.float32).head)
    chunks = -(-18 // (batch_size or 18))
    assert len(launches) >= chunks * min(head, 3)
    assert len(mode.operations) > 20


def test_layouts_that_do_not_stay_are_sent_before_the_first_launch_of_their_chunk(
    fake: FakeTensorMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "SHARE", 10**12)
    sweep = prepared(narrow("resnet18"), fake)
    run, chunks, sent = WindowSweep._run, [], []
    send, over = places.sent, Cover.over

    def quiet(*args: Any) -> None:
        with OnDevice() as mode:
            run(*args)
        chunks.append(len(mode.operations))

    def hidden(*args: Any) -> Any:
        with OnDevice():
            return over(*args)

    def noted(words: Tensor, device: torch.device) -> Tensor:
        sent.append(len(chunks))
        return send(words, device)

    monkeypatch.setattr(WindowSweep, "_run", quiet)
    monkeypatch.setattr(Cover, "over", hidden)
    monkeypatch.setattr(places, "sent", noted)
    with fake, torch.no_grad(), _triton_launch.record():
        images = torch.empty(1, 3, SIDE, SIDE, device=CUDA)
        assert not sweep.repeats(images, 4, None)
        sweep(sweep.clean(images), covers("each"), batch_size=4, again=True)
    assert sent == [0, 1, 2]
    assert len(chunks) == 3
    assert min(chunks) > 20


def test_layouts_begin_at_addresses_that_kernels_are_compiled_for() -> None:
    """A kernel is compiled once more for a pointer that is no multiple of 16 bytes."""
    sweep = sweep_of(narrow("vgg16"), torch.zeros(1, 3, SIDE, SIDE), squares(torch.randint(0, 80, (9, 2)), (9, 9)))
    _, of = sweep.planned(torch.device("cpu"), torch.float32)
    for chunk in of.chunks(3, 5, torch.device("cpu"), 2**30):
        start = chunk.position.data_ptr() % 16
        for layout in chunk.layouts:
            kept = (layout.boxes, layout.offsets, layout.image)
            assert {(tensor.data_ptr() - start) % 16 for tensor in kept} == {0}
            assert all(tensor.is_contiguous() for tensor in kept)
            assert layout.offsets[-1] == layout.cells == len(layout.owner)
