"""zfkernels train, zfkernels evaluate"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zfkernels.cli import options

if TYPE_CHECKING:
    from zfkernels.data import ImageSource
    from zfkernels.training import Recipe

labelled_option = click.option(
    "--data", required=True, help="Folder or .zip archive laid out as <split>/<class>/<image>, splits train and val."
)
batch_option = click.option(
    "--batch-size", type=click.IntRange(min=1), help="The recipe's if not given; the learning rate goes with it."
)
cache_option = click.option(
    "--cache", type=click.Path(path_type=Path), help="Folder for a decoded copy of the images; decoded on access else."
)

CURVE = Path("learning_curve.png")


@click.command()
@click.option("--model", type=click.Choice(["zfnet64", "zfnet", "zfnet_large", "alexnet2012"]), default="zfnet64")
@labelled_option
@options.out_option
@options.format_option
@click.option("--epochs", type=click.IntRange(min=1), help="The recipe's if not given.")
@batch_option
@click.option(
    "--schedule",
    type=click.Choice(["plateau", "cosine", "constant"]),
    help="How the learning rate falls: in steps, along a cosine, or not at all. The recipe's if not given.",
)
@click.option(
    "--max-minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="End after this time; the learning rate of cosine is at 0 by then.",
)
@click.option("--seed", type=int, default=0, help="Of the fresh weights, the order of images, crops and dropout.")
@click.option("--scale", type=click.FloatRange(min=0, min_open=True), default=1.0, help="Of the maps of zfnet64.")
@click.option("--classes", type=click.IntRange(min=2), help="Use so many of the classes, evenly spaced.")
@click.option("--per-class", type=click.IntRange(min=1), help="Train on so many images of each class, the first.")
@click.option("--keep-epochs", type=options.Numbers(), default="0,1,2,5,10,20,30,40,64", help="Whose weights to keep.")
@click.option("--devices", default="auto", help="As Lightning's: auto, or a number of devices.")
@click.option("--nodes", type=click.IntRange(min=1), default=1, help="Machines that train together.")
@cache_option
@click.option("--workers", type=click.IntRange(min=0), default=2, help="Processes that load batches.")
@click.option("--fresh", is_flag=True, help="Start anew even where --out has a checkpoint.")
@options.json_option
def train(
    model: str,
    data: str,
    out: Path,
    epochs: int | None,
    batch_size: int | None,
    schedule: str | None,
    max_minutes: float | None,
    seed: int,
    scale: float,
    classes: int | None,
    per_class: int | None,
    keep_epochs: tuple[int, ...],
    devices: str,
    nodes: int,
    cache: Path | None,
    workers: int,
    fresh: bool,
    as_json: bool,
) -> None:
    """Trains a network with the paper's recipe, or zfnet64 with that for small images.

    Goes on from the last checkpoint in --out where there is one. At the end it draws learning_curve.png there.
    """
    import torch

    from zfkernels import training
    from zfkernels.data import open_source
    from zfkernels.output import staged
    from zfkernels.training.images import LabelledImages
    from zfkernels.training.recipe import default_recipe
    from zfkernels.viz import learning_curve_figure

    options.check_out("train", out, (CURVE.name,), data)
    source = open_source(data)
    outputs = len(LabelledImages(source, "train", 1, classes=classes).classes)
    torch.manual_seed(seed)
    network = training.new_network(model, outputs, scale=scale)
    recipe = default_recipe(network).with_budget(epochs, batch_size, schedule)
    recipe = fitting(recipe, batch_size, source, classes, per_class)
    result = training.train(
        network, source, out, recipe=recipe, cache=cache, workers=workers, seed=seed,
        devices=int(devices) if devices.isdecimal() else devices, nodes=nodes,
        max_minutes=max_minutes, keep_epochs=keep_epochs, limit_classes=classes, limit_per_class=per_class,
        resume=not fresh, progress=not as_json,
    )  # fmt: skip
    with open(out / CURVE.with_suffix(".csv"), encoding="utf-8") as file:
        curve = [{column: float(value) for column, value in row.items()} for row in csv.DictReader(file)]
    (figure,) = options.in_format((CURVE.name,))
    with staged(out, (figure,), "train") as folder:
        learning_curve_figure(curve, title=f"{model}, trained on {source.name}").savefig(folder / figure, dpi=130)
    text = f"epoch {result['epoch']:.0f}: top-1 {result['val_top1']:.1%}, top-5 {result['val_top5']:.1%}; look at {out}"
    options.report(result, text, as_json)


def fitting(
    recipe: Recipe, asked: int | None, data: str | ImageSource, classes: int | None, per_class: int | None
) -> Recipe:
    """The recipe with batches that the training images can fill, unless --batch-size ``asked`` for others."""
    from zfkernels.training.images import LabelledImages

    if asked is not None:
        return recipe
    images = len(LabelledImages(data, "train", 1, classes=classes, per_class=per_class))
    if images < recipe.batch_size:
        click.echo(f"{images} training images: batches of {images} instead of {recipe.batch_size}", err=True)
        return recipe.with_budget(None, images)
    return recipe


@click.command()
@options.model_options(default="zfnet64", classes=False)
@labelled_option
@click.option("--split", default="val", help="Folder of the data set to measure on.")
@click.option("--with", "others", multiple=True, help="Weights of a further network of an ensemble; may be repeated.")
@click.option("--limit", type=click.IntRange(min=1), help="Use so many of the split's images, evenly spaced.")
@click.option("--crops", type=click.Choice(["center", "ten"]), default="center", help="Views that are averaged.")
@cache_option
@options.batch_size_option
@click.option("--workers", type=click.IntRange(min=0), default=0, help="Processes that load batches.")
@options.json_option
def evaluate(
    model: str,
    weights: str,
    device: str,
    backend: str | None,
    data: str,
    split: str,
    others: tuple[str, ...],
    limit: int | None,
    crops: str,
    cache: Path | None,
    batch_size: int,
    workers: int,
    as_json: bool,
) -> None:
    """Top-1 and top-5 accuracy of a network, or of several whose probabilities are averaged."""
    from zfkernels import training
    from zfkernels.results.result import plural

    networks = [options.load_model(model, file, device)[0] for file in (weights, *others)]
    with options.use_backend(backend):
        result = training.evaluate(
            networks, data, split=split, crops=crops, batch_size=batch_size, cache=cache, workers=workers,
            device=device, limit=limit, progress=not as_json,
        )  # fmt: skip
    text = f"top-1 {result['top1']:.1%}, top-5 {result['top5']:.1%} of {plural(int(result['images']), 'image')}"
    options.report(result, text, as_json)
