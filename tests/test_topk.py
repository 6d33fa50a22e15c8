"""The running top-k against a scalar loop over everything seen."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from zfkernels.analysis.topk import Ranking, TopK


def brute_force(activations: Tensor, image_ids: list[int], k: int) -> list[list[tuple[float, int, int, int]]]:
    """Per map the (value, image id, row, column) of rank 0 … k - 1, by loops."""
    ranking = []
    for channel in range(activations.shape[1]):
        best = []
        for n, image_id in enumerate(image_ids):
            place = None
            for row in range(activations.shape[2]):
                for column in range(activations.shape[3]):
                    value = activations[n, channel, row, column].item()
                    if not math.isnan(value) and value > -math.inf and (place is None or value > place[0]):
                        place = (value, image_id, row, column)
            if place is not None:
                best.append(place)
        best.sort(key=lambda place: (-place[0], place[1]))
        ranking.append(best[:k])
    return ranking


def as_lists(ranking: Ranking) -> list[list[tuple[float, int, int, int]]]:
    return [
        [
            (ranking.values[c, r].item(), ranking.image_ids[c, r].item(), *ranking.positions[c, r].tolist())
            for r in range(ranking.values.shape[1])
            if ranking.taken[c, r]
        ]
        for c in range(ranking.values.shape[0])
    ]


def feed(topk: TopK, activations: Tensor, ids: Tensor, batch_size: int) -> TopK:
    for start in range(0, len(ids), batch_size):
        topk.update(activations[start : start + batch_size], ids[start : start + batch_size])
    return topk


@settings(deadline=None, max_examples=60)
@given(
    images=st.integers(1, 14),
    channels=st.integers(1, 4),
    size=st.tuples(st.integers(1, 4), st.integers(1, 5)),
    k=st.integers(1, 6),
    levels=st.integers(1, 4),
    batch_size=st.integers(1, 7),
    seed=st.integers(0, 1000),
)
def test_equals_brute_force_with_ties(
    images: int, channels: int, size: tuple[int, int], k: int, levels: int, batch_size: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    # Few levels, so that values tie within a map and between images; ids out of order and with gaps.
    activations = torch.randint(-1, levels, (images, channels, *size), generator=generator).float()
    ids = torch.randperm(images * 3, generator=generator)[:images]
    topk = feed(TopK(channels, k), activations, ids, batch_size)
    assert as_lists(topk.compute()) == brute_force(activations, ids.tolist(), k)


@pytest.mark.parametrize("batch_size", [1, 3, 16, 64])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_equals_brute_force_on_random_maps(batch_size: int, dtype: torch.dtype) -> None:
    activations = torch.randn(40, 3, 5, 7, dtype=torch.float64).to(dtype)
    topk = feed(TopK(3, 9), activations, torch.arange(40), batch_size)
    assert as_lists(topk.compute()) == brute_force(activations, list(range(40)), 9)


def test_layouts_of_memory_do_not_matter() -> None:
    activations = torch.randint(0, 3, (12, 4, 6, 5)).float()
    expected = feed(TopK(4, 3), activations, torch.arange(12), 5).compute()
    for same in (activations.to(memory_format=torch.channels_last), activations.mT.contiguous().mT):
        result = feed(TopK(4, 3), same, torch.arange(12), 5).compute()
        assert as_lists(result) == as_lists(expected)


def test_order_split_and_merge_do_not_matter() -> None:
    activations = torch.randint(0, 4, (30, 5, 3, 3)).float()
    expected = as_lists(feed(TopK(5, 4), activations, torch.arange(30), 30).compute())
    for seed in range(5):
        order = torch.randperm(30, generator=torch.Generator().manual_seed(seed))
        parts = [feed(TopK(5, 4), activations[part], part, 4) for part in order.split(11)]
        merged = parts.pop(seed % 3)
        for part in parts:
            merged.merge(part)
        assert as_lists(merged.compute()) == expected


@settings(deadline=None, max_examples=40)
@given(
    images=st.integers(1, 16), k=st.integers(1, 5), kinds=st.integers(1, 6), levels=st.integers(1, 5),
    batch_size=st.integers(1, 7), seed=st.integers(0, 1000),
)  # fmt: skip
def test_one_image_stands_for_its_group(
    images: int, k: int, kinds: int, levels: int, batch_size: int, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    activations = torch.randint(levels, (images, 2, 2, 3), generator=draw).double()
    ids, groups = torch.randperm(images, generator=draw), torch.randint(kinds, (images,), generator=draw)
    expected = []
    for ranking in brute_force(activations, ids.tolist(), images):
        seen: set[int] = set()
        firsts = []
        for place in ranking:
            if int(groups[place[1]]) not in seen:
                seen.add(int(groups[place[1]]))
                firsts.append(place)
        expected.append(firsts[:k])
    assert as_lists(feed(TopK(2, k, groups), activations, ids, batch_size).compute()) == expected
    half = images // 2
    first, second = (
        feed(TopK(2, k, groups), activations[part], ids[part], batch_size) for part in (slice(half), slice(half, None))
    )
    first.merge(second)
    assert as_lists(first.compute()) == expected


def test_nans_are_counted_and_never_ranked() -> None:
    activations = torch.rand(6, 2, 3, 3)
    activations[1, 0, 0, 0] = activations[2, 0, 2, 1] = torch.nan
    activations[4, 1] = torch.nan
    result = feed(TopK(2, 6), activations, torch.arange(6), 4).compute()
    assert result.nans.tolist() == [2, 9]
    assert not result.values.isnan().any()
    assert as_lists(result) == brute_force(activations, list(range(6)), 6)
    assert result.taken.sum(1).tolist() == [6, 5]


def test_a_map_fires_where_its_maximum_is_above_zero() -> None:
    maxima = torch.tensor([[0.0, -1.0, 2.0, torch.nan], [0.5, 0.0, 1e-30, 0.0]])
    result = feed(TopK(4, 3), maxima, torch.arange(2), 1).compute()
    assert result.fired.tolist() == [1, 0, 2, 0]


def test_fewer_images_than_k() -> None:
    result = feed(TopK(2, 9), torch.rand(3, 2, 2, 2), torch.arange(3), 2).compute()
    assert result.taken.sum(1).tolist() == [3, 3]
    assert result.values[0, 3:].eq(-math.inf).all()
    assert result.image_ids[0, 3:].eq(-1).all()


def test_layers_without_spatial_size() -> None:
    activations = torch.randn(7, 3)
    result = feed(TopK(3, 2), activations, torch.arange(7), 3).compute()
    assert torch.equal(result.values, activations.double().T.topk(2).values)
    assert result.positions.eq(0).all()


def test_state_is_saved_and_resumed() -> None:
    activations, ids = torch.randn(20, 3, 4, 4), torch.arange(20)
    first = feed(TopK(3, 5), activations[:9], ids[:9], 4)
    resumed = TopK(3, 5)
    resumed.load_state_dict(first.state_dict())
    feed(first, activations[9:], ids[9:], 4)  # must not write into the saved state
    feed(resumed, activations[9:], ids[9:], 3)
    assert as_lists(resumed.compute()) == as_lists(first.compute()) == brute_force(activations, list(range(20)), 5)


def test_empty_batch_changes_nothing() -> None:
    topk = TopK(2, 2)
    topk.update(torch.empty(0, 2, 3, 3), torch.empty(0, dtype=torch.int64))
    assert not topk.compute().taken.any()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: TopK(0), ValueError, "TopK: expected channels ≥ 1, got 0"),
        (lambda: TopK(1, 0), ValueError, "TopK: expected k ≥ 1, got 0"),
        (lambda: TopK(2).update(torch.ones(1, 2, 1, 1).int(), torch.tensor([0])), TypeError, "floating point"),
        (lambda: TopK(2).update(torch.ones(1, 3, 1, 1), torch.tensor([0])), ValueError, r"\[N, 2, h, w\]"),
        (lambda: TopK(2).update(torch.ones(1, 2, 0, 1), torch.tensor([0])), ValueError, r"got \[1, 2, 0, 1\]"),
        (lambda: TopK(2).update(torch.ones(1, 2, 1, 1), torch.tensor([0, 1])), ValueError, "image_ids of shape"),
        (lambda: TopK(2).update(torch.ones(1, 2, 1, 1), torch.tensor([-1])), ValueError, "image_ids ≥ 0, got -1"),
        (lambda: TopK(2).merge(TopK(3)), ValueError, "expected other with 2 channels"),
        (lambda: TopK(2).load_state_dict(TopK(3).state_dict()), ValueError, "expected state of shape"),
    ],
)
def test_bad_input(call, error, message) -> None:
    with pytest.raises(error, match=message):
        call()
