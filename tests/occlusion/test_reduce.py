"""Outputs that are maps: whole, and reduced on windows, against the network on every occluded image, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from segmenters import segmenter
from support.hiding import dense_outputs
from sweeping import ON_FRAMES, ON_WINDOWS, squares, sweep_of
from torch import Tensor

import zfkernels as zf
from zfkernels.occlusion import class_area, dice, largest_probability, region_mean

SIZE, WINDOW = (40, 48), (7, 9)
POSITIONS = torch.tensor([[0, 0], [3, 40], [17, 20], [33, 5], [34, 44]])


def pictures(count: int = 2, size: tuple[int, int] = SIZE) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    coarse = torch.randn(count, 3, 5, 6, generator=generator, dtype=torch.float64)
    return torch.nn.functional.interpolate(coarse, size, mode="bilinear") * 2


def close(found: Tensor, expected: Tensor, clean: Tensor) -> None:
    """Within 1e-8 of the effect, which must be something."""
    effect = (expected - clean[:, None]).abs().amax()
    assert effect > 1e-6 * clean.abs().amax()
    assert found.shape == expected.shape
    assert (found - expected).abs().amax() <= 1e-8 * effect


def by_hand(name: str, maps: Tensor, clean: Tensor, mask: Tensor) -> Tensor:
    """Of maps [P, C, H, W] of one image with clean maps [C, H, W], written plainly."""
    classes, reference = maps.argmax(1), clean.argmax(0)
    if name == "region_mean":
        return (maps * mask).sum((2, 3)) / mask.sum()
    if name == "largest_probability":
        return maps.softmax(1).flatten(1).amax(1, keepdim=True)
    found = torch.stack([classes == c for c in range(maps.shape[1])], 1).double()
    if name == "class_area":
        return found.sum((2, 3))
    other = torch.stack([reference == c for c in range(maps.shape[1])]).double()
    both, sizes = (found * other).sum((2, 3)), found.sum((2, 3)) + other.sum((1, 2))
    return torch.where(sizes > 0, 2 * both / sizes.clamp(min=1), 1.0)


MASK = torch.zeros(SIZE, dtype=torch.bool)
MASK[5:20, 10:44] = True
REDUCERS = {
    "region_mean": region_mean(MASK), "class_area": class_area(), "dice": dice(),
    "largest_probability": largest_probability(),
}  # fmt: skip


@pytest.mark.parametrize("rates", [ON_WINDOWS, ON_FRAMES], ids=["windows", "frames"])
@pytest.mark.parametrize("name", REDUCERS)
def test_reducers(name: str, rates: Any) -> None:
    x = pictures()
    model = segmenter("unet", x)
    maps, clean = dense_outputs(model, x, POSITIONS, WINDOW, 0.3)
    expected = torch.stack([by_hand(name, *each, MASK.double()) for each in zip(maps, clean, strict=True)])
    whole = torch.stack([by_hand(name, each[None], each, MASK.double())[0] for each in clean])
    sweep = sweep_of(model, x, squares(POSITIONS, WINDOW), reduce=REDUCERS[name], rates=rates)
    assert bool(sweep.plan(x.device, x.dtype).tail) == (rates is ON_FRAMES)
    found = sweep(x, torch.full((3,), 0.3, dtype=x.dtype), batch_size=3)
    torch.testing.assert_close(found.clean, whole, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.outputs, expected, rtol=1e-9, atol=1e-9)
    assert not torch.equal(expected, whole[:, None].expand_as(expected))


@pytest.mark.parametrize("name", ["unet", "fcn_resnet50", "lraspp_mobilenet_v3_large"])
def test_maps_themselves(name: str) -> None:
    x = pictures(1)
    model = segmenter(name, x)
    found = zf.occlusion_sweep(model, x, window=WINDOW, positions=POSITIONS[:3], fill=0.3)

    def pick(out: Any) -> Tensor:
        return out["out"] if isinstance(out, dict) else out

    expected, clean = dense_outputs(lambda image: pick(model(image)), x, POSITIONS[:3], WINDOW, 0.3)
    close(pick(found.outputs), expected, clean)
    reduced = zf.occlusion_sweep(model, x, window=WINDOW, positions=POSITIONS[:3], fill=0.3, reduce=class_area())
    areas = torch.stack([(expected.argmax(2) == c).sum((2, 3)) for c in range(expected.shape[2])], -1)
    assert torch.equal(reduced.outputs, areas.to(x))
    assert torch.equal(reduced.drop(0), reduced.clean[:, :1] - reduced.outputs[..., 0])


@pytest.mark.parametrize("reference", ["of all", "of each"])
def test_a_reference_and_a_mask_of_each_image(reference: str) -> None:
    x = pictures()
    model = segmenter("unet", x)
    shape = SIZE if reference == "of all" else (2, *SIZE)
    given = torch.randint(0, 4, shape, generator=torch.Generator().manual_seed(0))
    maps, _ = dense_outputs(model, x, POSITIONS, WINDOW, 0.3)
    for reduce in (dice(given), region_mean(given.double())):
        found = zf.occlusion_sweep(model, x, window=WINDOW, positions=POSITIONS, fill=0.3, reduce=reduce)
        for n in range(2):
            mine = given if reference == "of all" else given[n]
            one = torch.nn.functional.one_hot(mine, 4).permute(2, 0, 1).double()
            name = "dice" if isinstance(reduce, dice) else "region_mean"
            expected = by_hand(name, maps[n], one, mine.double())
            torch.testing.assert_close(found.outputs[n], expected, rtol=1e-9, atol=1e-9)


def test_one_map_is_a_class_where_it_is_above_zero() -> None:
    x = pictures(1)
    net = segmenter("unet", x)

    class Single(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)[:, 1:2]

    maps, clean = dense_outputs(Single().eval(), x, POSITIONS, WINDOW, 0.3)
    area = zf.occlusion_sweep(Single().eval(), x, window=WINDOW, positions=POSITIONS, fill=0.3, reduce=class_area())
    assert torch.equal(area.outputs, (maps > 0).sum((3, 4)).to(x))
    overlap = zf.occlusion_sweep(Single().eval(), x, window=WINDOW, positions=POSITIONS, fill=0.3, reduce=dice())
    both, sizes = ((maps > 0) & (clean > 0)).sum((3, 4)), (maps > 0).sum((3, 4)) + (clean > 0).sum((2, 3))
    torch.testing.assert_close(overlap.outputs, 2 * both / sizes.to(x), rtol=1e-12, atol=0)


def test_a_function_sees_chunks_of_the_models_own_form() -> None:
    x = pictures()
    model = segmenter("two heads", x)
    seen = []

    def strongest(outputs: Any, image: Tensor, clean: Any) -> Tensor:
        seen.append(len(image))
        change = outputs["maps"] - clean["maps"].index_select(0, image)
        return torch.cat([change.abs().flatten(1).amax(1, keepdim=True), outputs["scores"][0]], 1)

    found = zf.occlusion_sweep(
        model, x, window=WINDOW, positions=POSITIONS, fill=0.3, reduce=strongest, batch_size=3
    )  # fmt: skip
    assert max(seen[1:]) == 3
    assert sum(seen) == 2 + 2 * len(POSITIONS)
    maps, clean = dense_outputs(lambda image: model(image)["maps"], x, POSITIONS, WINDOW, 0.3)
    scores, _ = dense_outputs(lambda image: model(image)["scores"][0], x, POSITIONS, WINDOW, 0.3)
    change = (maps - clean[:, None]).abs().flatten(2).amax(2, keepdim=True)
    torch.testing.assert_close(found.outputs, torch.cat([change, scores], 2), rtol=1e-8, atol=1e-10)
    whole = zf.occlusion_sweep(
        lambda image: model(image), x, window=WINDOW, positions=POSITIONS, fill=0.3, reduce=strongest
    )  # fmt: skip
    torch.testing.assert_close(found.outputs, whole.outputs, rtol=1e-8, atol=1e-10)


def test_a_part_of_the_output_by_name() -> None:
    x = pictures(1)
    model = segmenter("two heads", x)
    sweep = sweep_of(model, x, squares(POSITIONS, WINDOW), reduce=class_area("maps"), rates=ON_WINDOWS)
    names = {leaf for kind in sweep.program.kinds.values() for leaf in kind.step.scope}
    assert "head" not in names  # what nobody wants is not computed
    maps, _ = dense_outputs(lambda image: model(image)["maps"], x, POSITIONS, WINDOW, 0.0)
    found = sweep(x, torch.zeros(3, dtype=x.dtype))
    assert torch.equal(found.outputs[0], torch.stack([(maps[0].argmax(1) == c).sum((1, 2)) for c in range(4)], 1).to(x))
    with pytest.raises(ValueError, match=r"class_area: expected output a part of what the model returns, got 'mask'"):
        zf.occlusion_sweep(model, x, window=WINDOW, reduce=class_area("mask"))


REFUSED = [
    (lambda out, image, clean: out[:1], "expected reduce to return a tensor [2, ...] for 2 outputs, got (1, 4"),
    (lambda out, image, clean: 3, "expected reduce to return a tensor [2, ...] for 2 outputs, got int"),
    (region_mean(MASK[:, :-1]), "region_mean: expected mask of the output's size (40, 48), for one or 2 images, got"),
    (dice(torch.zeros(3, *SIZE, dtype=torch.int64)), "dice: expected reference of the output's size (40, 48), for"),
]


@pytest.mark.parametrize(("reduce", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_reducers_that_do_not_fit(reduce: Any, message: str) -> None:
    x = pictures()
    with pytest.raises(ValueError, match="expected") as refusal:
        zf.occlusion_sweep(segmenter("unet", x), x, window=WINDOW, reduce=reduce)
    assert message in str(refusal.value)


def test_more_results_than_memory_are_refused_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zfkernels.occlusion.collect._memory", lambda device: 2**20)
    x = pictures()
    model = segmenter("unet", x)
    with pytest.raises(ValueError, match=r"expected results that fit into the memory .* reduce= keeps"):
        zf.occlusion_sweep(model, x, window=WINDOW, stride=4)
    assert zf.occlusion_sweep(model, x, window=WINDOW, stride=4, reduce=class_area()).outputs.shape == (2, 10, 11, 4)


@pytest.mark.parametrize("ending", ["sigmoid", "raw", "no axis", "softmax"])
def test_probabilities_of_what_the_network_ends_in(ending: str) -> None:
    class Head(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = torch.nn.Conv2d(3, 6, 3), torch.nn.Linear(6, 4 if ending == "softmax" else 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.head(torch.relu(self.conv(x)).mean((2, 3)))
            if ending == "softmax":
                return y.softmax(1)
            y = y.sigmoid() if ending == "sigmoid" else y
            return y[:, 0] if ending == "no axis" else y

    x = pictures()
    model = Head().double().eval()
    found = zf.occlusion_sweep(model, x, window=WINDOW, positions=POSITIONS)
    outputs, clean = dense_outputs(model, x, POSITIONS, WINDOW, 0.0)
    outputs, clean = (value if ending != "no axis" else value[..., None] for value in (outputs, clean))
    if ending in ("raw", "no axis"):
        outputs, clean = outputs.sigmoid(), clean.sigmoid()
    torch.testing.assert_close(found.probability(0), outputs[..., 0], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.clean_probability(0), clean[:, 0], rtol=1e-9, atol=1e-12)
    assert found.probability(0).std() > 0
