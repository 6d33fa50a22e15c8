"""Every figure can be read: nothing lies over anything else or is cut off, and letters have a size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")

from matplotlib.figure import Figure
from PIL import Image
from support.figures import problems, smallest_letters
from support.some_results import (
    correspondence,
    diagnosis,
    evolution,
    invariance,
    layer_probe,
    occlusion,
    projections,
    transfer,
    values,
    watched,
)

from zfkernels import viz
from zfkernels.results import Look
from zfkernels.viz.occlusion import OcclusionRow

LONG = "a photo with a name that is longer than its picture.jpeg"


def row(tile: int = 7) -> OcclusionRow:
    """Tiles as small as those of an early layer."""
    sweep = watched()
    probability = sweep.probability()[0]
    best = sweep.best_class()[0]
    return OcclusionRow(
        LONG, torch.full((3, 24, 24), 90, dtype=torch.uint8), sweep.positions, (6, 6),
        torch.tensor([120, 110, 100], dtype=torch.uint8), "the data's mean colour, 6 pixels", "features.1, map 63",
        sweep.activity[0],  # type: ignore[index]
        torch.zeros(2, 4, tile, tile, 3, dtype=torch.uint8).numpy(), sweep.look.name(3),
        float(sweep.clean_probability()), probability, best, dict(enumerate(sweep.look.classes)),
    )  # fmt: skip


def curve() -> list[dict[str, float]]:
    names = ("train_loss", "val_loss", "val_top1", "val_top5", "learning_rate")
    return [{"epoch": n + 1, **dict.fromkeys(names, 0.5 / (n + 1))} for n in range(4)]


def ablation() -> list[dict[str, object]]:
    errors = {f"{split}_error_{what}": 0.2 for split in ("train", "val") for what in ("mean", "std")}
    titles = ("zfnet64", "512-1024-512, twice the units", "first filters 11x11/4, second stride 1")
    return [{**errors, "title": title, "parameters": 1_500_000, "seeds": [0, 1]} for title in titles]


def plan(layers: int) -> Figure:
    rows = [(f"layer{n}.0.conv{n % 3}", n < 2 * layers / 3, 2e6 * (n % 7 + 1), 4e5 * (n % 5)) for n in range(layers)]
    words = (
        "12,321 positions of a square of 16x16: 4.56x fewer multiply-adds than dense; 106 of 131 layers on whole frames"
    )
    return viz.plan_figure(rows, title=words)


def boxes(layers: int) -> Figure:
    shown = [
        viz.LayerBox(f"features.denseblock{n}.denselayer2", (224, 224), (9 * n, 4, 20 + 3 * n, 130), n < layers / 2)
        for n in range(layers)
    ]
    return viz.boxes_figure(shown, title="What a square of 16x16 at row 88, column 120 can change")


def gallery(layers: int) -> Figure:
    sprite = Image.new("RGBA", (130, 62))
    maps = [(f"map {n}\n12.5 to 0.25", sprite) for n in (3, 14, 159, 265)]
    return viz.gallery_figure([(f"features.{n} of a long name", maps) for n in range(layers)], note=LONG)


FIGURES: dict[str, Callable[[], Figure]] = {
    "map": lambda: watched(2).plot(values(2, 3, 24, 24), names=[LONG, LONG]),
    "map without photos": lambda: watched(1).plot(),
    "map of one class": lambda: occlusion(outputs=values(2, 2, 3, 1), clean=values(2, 1)).plot(),
    "map without effect": lambda: occlusion(outputs=torch.ones(2, 2, 3, 3), clean=torch.ones(2, 3)).plot(),
    "projections": lambda: projections(2, 4).plot(values(2, 3, 24, 24), names=[LONG, LONG]),
    "projections without photos": lambda: projections(3, 9).plot(),
    "sheet": lambda: viz.occlusion_sheet([row(), row(40)]),
    "invariance": lambda: invariance().plot([LONG] * 7),
    "invariance with a title": lambda: viz.invariance_figure([invariance()], {}, [LONG] * 7, title=LONG),
    "correspondence": lambda: correspondence().plot("zfnet64"),
    "correspondence with a title": lambda: viz.correspondence_figure({"zfnet64": correspondence()}, title=LONG),
    "diagnosis": lambda: diagnosis().plot("zfnet64"),
    "diagnosis with a title": lambda: viz.diagnosis_figure({"a": diagnosis(), "b": diagnosis()}, title=LONG),
    "diagnosis of many layers": lambda: diagnosis(11).plot("vgg"),
    "evolution": lambda: evolution(5).plot(),
    "evolution with a title": lambda: viz.convergence_figure(evolution(5), title=LONG),
    "transfer": lambda: transfer().plot("zfnet64, features.8, softmax"),
    "probe": lambda: layer_probe(5).plot("zfnet64, softmax"),
    "probes": lambda: viz.probe_figure({LONG: layer_probe(5), "b": layer_probe(3), "c": layer_probe(3)}, data="photos"),
    "learning curve": lambda: viz.learning_curve_figure(curve(), title="zfnet64"),
    "plan": lambda: plan(16),
    "plan of many layers": lambda: plan(200),
    "plan of one layer": lambda: plan(1),
    "boxes": lambda: boxes(19),
    "boxes of one layer": lambda: boxes(1),
    "gallery": lambda: gallery(3),
    "gallery of one layer": lambda: gallery(1),
    "ablation": lambda: viz.ablation_figure(ablation(), title=LONG),
}


@pytest.mark.parametrize("name", list(FIGURES))
def test_nothing_overlaps_and_nothing_is_cut(name: str) -> None:
    figure = FIGURES[name]()
    assert problems(figure) == []
    assert smallest_letters(figure) >= 4  # points at 7 inches


def test_a_figure_shows_itself_in_a_notebook() -> None:
    picture = FIGURES["transfer"]()._repr_png_()  # type: ignore[attr-defined]
    assert picture.startswith(b"\x89PNG")


def test_the_check_sees_what_is_wrong() -> None:
    figure = Figure(figsize=(3, 2))
    figure.text(0.1, 0.5, "the first words")
    assert problems(figure) == []
    figure.text(0.15, 0.5, "the second")
    figure.text(0.9, 0.9, "beyond the border")
    assert problems(figure) == ["'beyond the border' is cut off", "'the first words' lies over 'the second'"]
    figure.add_axes((0, 0.3, 0.5, 0.4))
    assert "'the second' lies over panel 0" in problems(figure)


def test_shares() -> None:
    from zfkernels.viz.panels import share

    assert [share(n, 1000) for n in (0, 1, 250, 999, 1000)] == ["0%", "<1%", "25%", ">99%", "100%"]


def test_a_sheet_has_a_title_and_says_what_it_shows() -> None:
    sprite = Image.new("RGBA", (120, 60))
    rows, heads = [("features.1", [("3", sprite)])], ["projections", "patches"]
    plain = viz.feature_sheet(rows, columns=1)
    told = viz.feature_sheet(rows, columns=1, title="a network", note="many words " * 9)
    headed = viz.feature_sheet(rows, columns=1, heads={"features.1": heads})
    assert headed.height == plain.height + 18
    written = (np.asarray(headed.convert("L"))[48:70] < 200).any(0).nonzero()[0]
    assert written.min() >= 18  # over the first block and over the second
    assert any(78 <= column < 90 for column in written)
    assert told.width == plain.width
    assert told.height >= plain.height + 30 + 5 * 20  # the words are wrapped at the width of the page


def test_true_colors() -> None:
    images = torch.rand(1, 3, 4, 5)
    mean, std = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1), torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)
    pixels = (images * 255).round().to(torch.uint8)
    look = Look((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    from zfkernels.viz.pixels import STRETCHED, true_colors

    assert torch.equal(true_colors((images - mean) / std, look)[0], pixels)
    assert true_colors((images - mean) / std, Look(), look)[1] == ""
    assert torch.equal(true_colors((images - mean) / std, Look(), look)[0], pixels)
    assert torch.equal(true_colors((images - mean) / std, Look(), lambda x: x * std + mean)[0], pixels)
    assert torch.equal(true_colors(images, Look())[0], pixels)  # values in [0, 1] are pixels
    stretched, note = true_colors((images - mean) / std, Look())
    assert note == STRETCHED
    assert (stretched.min(), stretched.max()) == (0, 255)
    assert true_colors(torch.rand(1, 1, 4, 5), Look())[0].shape == (1, 3, 4, 5)
    with pytest.raises(TypeError, match="an object with mean and std or a function back to pixels, got int"):
        true_colors(images, Look(), 3)
    with pytest.raises(ValueError, match=r"expected images of shape \[N, C, H, W\], got \(3, 4, 5\)"):
        true_colors(images[0], Look())


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: watched(2).plot(values(1, 3, 24, 24)), "plot: expected images of the sweep's 2 images, got 1"),
        (lambda: watched(2).plot(names=["a"]), "plot: expected names of the sweep's 2 images, got 1"),
        (lambda: watched(2).plot(target="cat"), "near matches"),
        (lambda: projections(2).plot(values(1, 3, 24, 24)), "plot: expected images of at least 2 images, got 1"),
        (lambda: projections(2).plot(count=0), "plot: expected at least one projection to show, got 6 and count 0"),
    ],
)
def test_what_cannot_be_drawn(draw: Callable[[], Figure], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw()
