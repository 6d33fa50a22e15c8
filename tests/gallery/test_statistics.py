"""What a gallery says of every map: against numbers straight from the network, however the run was cut up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small import OPTIONS, small_network
from torch import Tensor

from zfkernels.gallery import build_gallery, statistics
from zfkernels.gallery.statistics import BINS, Statistics, bins_of, edges, shown
from zfkernels.gallery.sweep import Sweeper

CLASSES = ["cat", "dog", "owl"]


class Labelled:
    """Noise in three classes, which differ in their brightness; every seventh image has no label."""

    def __init__(self, count: int = 40) -> None:
        self.images = torch.rand(count, 3, 20, 20, generator=torch.Generator().manual_seed(0))
        self.labels = [None if n % 7 == 6 else n % 3 for n in range(count)]
        self.images *= torch.tensor([0.3 + 0.5 * n % 3 for n in range(count)]).view(-1, 1, 1, 1)
        self.classes = CLASSES

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int | None]:
        return self.images[index], self.labels[index]


def maxima(images: Tensor, layer: int) -> Tensor:
    with torch.no_grad():
        return small_network()[: layer + 1](images).amax((2, 3)).double()


def test_numbers(tmp_path: Path) -> None:
    data = Labelled()
    gallery = build_gallery(small_network(), data, out=tmp_path, **OPTIONS)
    rows = gallery.statistics.to_pylist()
    assert gallery.info["labels"] == CLASSES
    assert [(row["layer"], row["channel"]) for row in rows][:6] == [("0", n) for n in range(5)] + [("1", 0)]
    lower = torch.tensor(edges(), dtype=torch.float64)
    for row in rows:
        found = maxima(data.images, int(row["layer"]))[:, row["channel"]]
        assert row["images"] == len(data)
        assert row["fired"] == pytest.approx(float((found > 0).double().mean()))
        assert sum(row["histogram"]) == len(data)
        expected = torch.zeros(BINS, dtype=torch.int64)
        for value in found:
            expected[0 if value <= 0 else int((lower[1:] <= value).sum())] += 1
        assert row["histogram"] == expected.tolist()
        means = [found[[label == n for label in data.labels]].mean() for n in range(3)]
        assert row["means"] == pytest.approx([float(mean) for mean in means], rel=1e-5, abs=1e-6)
        order = sorted(range(3), key=lambda n: (-row["means"][n], CLASSES[n]))
        assert row["labels"] == [CLASSES[n] for n in order]
        assert row["label_means"] == pytest.approx([row["means"][n] for n in order])
        positive = sorted((max(mean, 0.0) for mean in row["means"]), reverse=True)
        if positive[0] == 0:
            assert row["selectivity"] is None
        else:
            rest = sum(positive[1:]) / 2
            assert row["selectivity"] == pytest.approx((positive[0] - rest) / (positive[0] + rest), rel=1e-4, abs=1e-6)


def test_the_same_bytes_however_it_is_cut(tmp_path: Path) -> None:
    files = []
    for n, size in enumerate((3, 16, 64)):
        build_gallery(small_network(), Labelled(), out=tmp_path / str(n), batch_size=size, **OPTIONS)
        files.append((tmp_path / str(n) / "maps.parquet").read_bytes())
    assert files[0] == files[1] == files[2]


def seen(parts: list[range], images: Tensor, labels: list[str | None]) -> Statistics:
    whole = Statistics([4])
    for part in parts:
        one = Statistics([4])
        rows = one.see([labels[n] for n in part])
        one.update(images[list(part)], rows)
        again = Statistics([4])
        again.load(one.tensors())
        whole.merge(again)
    return whole


def test_parts_are_merged_in_any_order() -> None:
    images = torch.randn(30, 4, dtype=torch.float32, generator=torch.Generator().manual_seed(1)).double()
    images[3, 1] = -torch.inf  # a map of NaN
    labels = [None if n % 5 == 0 else f"label {n % 4}" for n in range(30)]
    one = seen([range(30)], images, labels).compute()[0]
    for parts in ([range(15, 30), range(15)], [range(n, n + 1) for n in reversed(range(30))]):
        other = seen(parts, images, labels).compute()[0]
        assert one.labels == other.labels
        for name in ("histogram", "counts", "means"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name


def test_too_many_labels_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "MOST_LABELS", 3)
    images = torch.rand(12, 4, dtype=torch.float64)
    for parts in ([range(12)], [range(6), range(6, 12)]):
        found = seen(parts, images, [str(n) for n in range(12)]).compute()[0]
        assert found.labels == ()
        assert int(found.histogram.sum()) == 48
        assert found.selectivity.isnan().all()
        assert shown(found, 0)[1:] == [None, None]


def test_values_beyond_the_bins() -> None:
    found = Statistics([1])
    for value in (-1.0, 0.0, 1e-30, 1.0, 1e30):
        found.update(torch.tensor([[value]], dtype=torch.float64), None)
    histogram = found.compute()[0].histogram[0]
    assert histogram.nonzero()[:, 0].tolist() == [0, 1, 1 + 2 * 20, BINS - 1]
    assert int(histogram[0]) == 2


def test_one_pass_gives_both(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No map is read a second time for its statistics."""
    runs: list[Any] = []
    run = Sweeper._run

    def watched(self: Sweeper, *args: Any) -> None:
        runs.append(args)
        run(self, *args)

    monkeypatch.setattr(Sweeper, "_run", watched)
    build_gallery(small_network(), Labelled(40), out=tmp_path, **{**OPTIONS, "projections": False})
    assert len(runs) == 3  # 40 images in blocks of 16


def test_a_table_that_was_changed_is_refused(tmp_path: Path) -> None:
    gallery = build_gallery(small_network(), Labelled(), out=tmp_path, **OPTIONS)
    (tmp_path / "maps.parquet").write_bytes(b"x")
    with pytest.raises(ValueError, match="got one that was changed"):
        _ = gallery.statistics


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_bins_are_exact_at_their_edges(dtype: torch.dtype) -> None:
    """Against counting edges in float64: at each edge, beside it, far from all, and where nothing is above zero."""
    lower = torch.tensor(edges(), dtype=torch.float64)
    near = lower.to(dtype)
    beside = [near, torch.nextafter(near.float(), torch.tensor(0.0)).to(dtype), near * 1.01]
    if dtype == torch.float64:
        beside.append(torch.nextafter(near, torch.tensor(0.0, dtype=dtype)))
    odd = torch.tensor([-1.0, -0.0, float("-inf"), float("inf"), 1e-30, 6e4], dtype=dtype)
    values = torch.cat([*beside, odd, torch.randn(1000).exp().to(dtype)])
    expected = [0 if value <= 0 else max(1, int((lower[1:] <= value).sum())) for value in values.double()]
    assert bins_of(values).tolist() == expected
