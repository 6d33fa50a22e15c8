"""zfkernels transfer, zfkernels probe"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

import click

from zfkernels.cli import options

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zfkernels.data import ImageSource
    from zfkernels.features import Features
    from zfkernels.models import Preprocess
    from zfkernels.results import Transfer

Command = TypeVar("Command", bound=Callable[..., Any])

TRANSFER_FILES = ("transfer.png", "transfer.csv", "transfer.json")
PROBE_FILES = ("probe.png", "probe.csv", "probe.json")
COLUMNS = ("network", "layer", "classifier", "train_per_class", "fold", "accuracy")
PUBLISHED = {15: 83.8, 30: 86.5}  # table 4, Caltech-101, pretrained on ImageNet


def _shared(command: Command) -> Command:
    """What both commands take."""
    decorators = (
        options.model_options(default="zfnet64"),
        click.option("--data", required=True, help="Folder or archive whose images lie in a folder for each class."),
        click.option("--exclude", default="BACKGROUND_Google", help="Classes to leave out, separated by commas."),
        click.option("--per-class", type=click.IntRange(min=2), help="Use so many images of each class, the first."),
        click.option("--test-per-class", type=click.IntRange(min=1), default=50, help="At most so many to test."),
        click.option("--folds", type=click.IntRange(min=1), default=5, help="Random splits."),
        click.option("--grid", type=click.IntRange(min=1), default=2, help="Cells a side that maps are averaged over."),
        click.option("--seed", type=int, default=0, help="Of the splits."),
        click.option("--cache", type=click.Path(path_type=Path), help="Folder for the features, computed once."),
        options.out_option,
        options.format_option,
        options.batch_size_option,
        options.workers_option,
        options.json_option,
    )
    for decorator in reversed(decorators):
        command = decorator(command)
    return command


@click.command()
@_shared
@click.option("--layer", help="Whose values are the features; the last rectifier if not given.")
@click.option("--classifier", type=click.Choice(["softmax", "svm"]), default="softmax", help="What is trained on them.")
@click.option("--train-per-class", type=options.Numbers(), default="15,30", help="Images of each class to train.")
@click.option("--scratch-epochs", type=click.IntRange(min=1),
              help="Also train the same network from fresh weights, for so many epochs (zfnet64).")  # fmt: skip
@click.option("--scratch-folds", type=click.IntRange(min=1), default=1, help="In so many of the folds.")
def transfer(
    model: str, weights: str, device: str, backend: str | None, data: str, exclude: str, per_class: int | None,
    test_per_class: int, folds: int, grid: int, seed: int, cache: Path | None, out: Path,
    batch_size: int, workers: int | None, as_json: bool, layer: str | None, classifier: str,
    train_per_class: tuple[int, ...], scratch_epochs: int | None, scratch_folds: int,
) -> None:  # fmt: skip
    """Tables 4 and 5, figure 9: a new classifier on features of a trained network.

    Writes to --out transfer.png, transfer.csv (each fold) and transfer.json.
    """
    from zfkernels.analysis.transfer import transfer as measure
    from zfkernels.cli.tables import write_csv, write_json
    from zfkernels.output import staged
    from zfkernels.viz import transfer_figure

    files = options.in_format(TRANSFER_FILES)
    options.check_out("transfer", out, files, data)
    network, preprocess = options.load_model(model, weights, device)
    name = layer or last_rectifier(network, preprocess)
    chosen = choose("transfer", data, exclude, per_class, preprocess)
    features = _features(network, preprocess, (name,), chosen, grid, cache, batch_size, workers, not as_json)
    split: dict[str, Any] = {"test_per_class": test_per_class, "seed": seed, "names": features.classes}
    found = measure(
        features.values[name], features.labels, train_per_class=train_per_class, folds=folds, classifier=classifier,
        progress=not as_json, **split,
    )  # fmt: skip
    results: dict[str, tuple[str | None, Transfer]] = {f"{model}, {name}, {classifier}": (name, found)}
    if scratch_epochs is not None:
        fresh = _scratch(
            model, chosen[0], features, train_per_class, scratch_folds, scratch_epochs, not as_json, **split
        )
        results[f"{model} from scratch, {scratch_epochs} epochs"] = None, fresh
    record = _record(model, chosen[0], features, grid, seed, test_per_class, results)
    with staged(out, files, "transfer") as folder:
        published = {n: PUBLISHED[n] for n in train_per_class if n in PUBLISHED}
        figure = transfer_figure(
            {title: result for title, (_, result) in results.items()}, published=published, data=chosen[0].name
        )
        figure.savefig(folder / files[0], dpi=130)
        write_csv(folder / files[1], COLUMNS, _rows(model, results))
        write_json(folder / files[2], record)
    options.report({"out": str(out), **record}, _text(record, out / files[0]), as_json)


@click.command()
@_shared
@click.option("--layers", help="Names, separated by commas; the rectifiers if not given.")
@click.option("--classifiers", default="softmax", help="softmax, svm, or both, separated by a comma.")
@click.option("--train-per-class", type=click.IntRange(min=1), default=30, help="Images of each class to train.")
def probe(
    model: str, weights: str, device: str, backend: str | None, data: str, exclude: str, per_class: int | None,
    test_per_class: int, folds: int, grid: int, seed: int, cache: Path | None, out: Path,
    batch_size: int, workers: int | None, as_json: bool, layers: str | None, classifiers: str, train_per_class: int,
) -> None:  # fmt: skip
    """Table 7: how well classes can be told from the features of each layer.

    Writes to --out probe.png, probe.csv (each fold) and probe.json.
    """
    from zfkernels.analysis.layer_probe import layer_probe
    from zfkernels.cli.tables import write_csv, write_json
    from zfkernels.output import staged
    from zfkernels.viz import probe_figure

    files = options.in_format(PROBE_FILES)
    options.check_out("probe", out, files, data)
    network, preprocess = options.load_model(model, weights, device)
    names = tuple(layers.split(",")) if layers else rectifiers(network, preprocess)
    chosen = choose("probe", data, exclude, per_class, preprocess)
    features = _features(network, preprocess, names, chosen, grid, cache, batch_size, workers, not as_json)
    results = {
        classifier: layer_probe(
            features.values, features.labels, train_per_class=(train_per_class,), test_per_class=test_per_class,
            folds=folds, classifier=classifier, seed=seed, names=features.classes, progress=not as_json,
        )
        for classifier in classifiers.split(",")
    }  # fmt: skip
    flat: dict[str, tuple[str | None, Transfer]] = {
        f"{layer}, {classifier}": (layer, found)
        for classifier, result in results.items()
        for layer, found in zip(result.layers, result.transfers, strict=True)
    }
    record = _record(model, chosen[0], features, grid, seed, test_per_class, flat)
    with staged(out, files, "probe") as folder:
        titled = {f"{model}, {classifier}": result for classifier, result in results.items()}
        probe_figure(titled, data=chosen[0].name).savefig(folder / files[0], dpi=130)
        write_csv(folder / files[1], COLUMNS, _rows(model, flat))
        write_json(folder / files[2], record)
    options.report({"out": str(out), **record}, _text(record, out / files[0]), as_json)


def rectifiers(network: nn.Module, preprocess: Preprocess) -> tuple[str, ...]:
    """The names of all rectifiers, in order."""
    from zfkernels.network.network import trace_model

    table = trace_model(network, (preprocess.size, preprocess.size)).layer_info()
    names = tuple(info.name for info in table if info.is_rectifier)
    if not names:
        raise ValueError("probe: expected a model with rectifiers, or --layers, got neither")
    return names


def last_rectifier(network: nn.Module, preprocess: Preprocess) -> str:
    return rectifiers(network, preprocess)[-1]


def choose(
    command: str, data: str, exclude: str, per_class: int | None, preprocess: Preprocess
) -> tuple[ImageSource, list[int]]:
    """The source, and the images of it whose class, the folder that they lie in, is not left out.

    Raises:
        ValueError: There is none; or the first one, whose size is likely to be that of all, is smaller than what the
            network takes.
    """
    from PIL.Image import Image

    from zfkernels.data import UnreadableImageError

    source, left_out = options.open_data(data, None), exclude.split(",")
    seen: Counter[str] = Counter()
    ids = []
    for image_id in sorted(source.order):
        name = PurePosixPath(source.keys[image_id]).parent.name
        seen[name] += 1
        if name not in left_out and (per_class is None or seen[name] <= per_class):
            ids.append(image_id)
    if not ids:
        raise ValueError(f"{command}: expected data with images of other classes than {', '.join(left_out)}, got none")
    with contextlib.suppress(UnreadableImageError):  # it will be left out and named
        picture, _ = source.load(ids[0])
        if isinstance(picture, Image) and min(picture.size) < preprocess.size:
            raise ValueError(
                f"{command}: expected images of at least {preprocess.size} pixels, which the network takes "
                f"(--size: a smaller input), got {source.keys[ids[0]]} of {picture.width}x{picture.height}"
            )
    return source, ids


def _features(
    network: nn.Module, preprocess: Preprocess, layers: tuple[str, ...], chosen: tuple[ImageSource, list[int]],
    grid: int, cache: Path | None, batch_size: int, workers: int | None, progress: bool,
) -> Features:  # fmt: skip
    from zfkernels.features import extract_features

    source, ids = chosen
    return extract_features(
        network, source, preprocess, layers, grid=grid, cache=cache, ids=ids, batch_size=batch_size, workers=workers,
        progress=progress,
    )  # fmt: skip


def _scratch(
    model: str, source: ImageSource, features: Features, train_per_class: tuple[int, ...], folds: int, epochs: int,
    progress: bool, **split: Any,
) -> Transfer:  # fmt: skip
    """The same network, trained on the same images of each fold alone."""
    import torch

    from zfkernels.analysis.transfer import class_accuracy, folds_of
    from zfkernels.results import Transfer
    from zfkernels.training import SMALL, new_network
    from zfkernels.training.scratch import predict, train_from_scratch

    if model != "zfnet64":
        raise ValueError(f"transfer: expected model zfnet64 to train from scratch, got {model}")
    recipe = SMALL.with_budget(epochs, 64)
    pixels, classes = _pixels(source, features.ids, recipe.stored_size), len(features.classes)
    found = torch.zeros(len(train_per_class), folds, classes, dtype=torch.float64)
    for s, count in enumerate(train_per_class):
        splits = folds_of(features.labels, train_per_class=count, folds=folds, **split)
        for fold, (train, test) in enumerate(splits):
            torch.manual_seed(split["seed"] + fold)
            network = train_from_scratch(
                new_network(model, classes), pixels[train], features.labels[train], recipe=recipe,
                seed=split["seed"] + fold, progress=progress,
            )  # fmt: skip
            found[s, fold] = class_accuracy(predict(network, pixels[test], recipe), features.labels[test], classes)
    return Transfer("scratch", torch.tensor(list(train_per_class)), found.mean(2), found.mean(1))


def _pixels(source: ImageSource, ids: Tensor, side: int) -> Tensor:  # uint8 [N, 3, side, side]
    import torch
    from torchvision.transforms.v2 import functional as F

    pictures = (source.load(n)[0] for n in ids.tolist())
    return torch.stack([F.pil_to_tensor(F.center_crop(F.resize(p, [side]), [side])) for p in pictures])


def _rows(model: str, results: dict[str, tuple[str | None, Transfer]]) -> Any:
    for layer, result in results.values():
        for s, count in enumerate(result.train_per_class.tolist()):
            for fold, value in enumerate(result.accuracy[s].tolist()):
                yield model, layer, result.classifier, count, fold, value


def _record(
    model: str, source: ImageSource, features: Features, grid: int, seed: int, test_per_class: int,
    results: dict[str, tuple[str | None, Transfer]],
) -> dict[str, Any]:  # fmt: skip
    return {
        "model": model, "data": source.name, "images": len(features.labels), "classes": len(features.classes),
        "grid": grid, "seed": seed, "test_per_class": test_per_class, "skipped": list(features.skipped),
        "results": [
            {
                "network": model, "title": title, "layer": layer, "classifier": result.classifier,
                "train_per_class": result.train_per_class.tolist(), "folds": result.accuracy.shape[1],
                "mean": result.mean.tolist(), "std": result.std.tolist(),
            }
            for title, (layer, result) in results.items()
        ],
    }  # fmt: skip


def _text(record: dict[str, Any], figure: Path) -> str:
    from zfkernels.cli.tables import left_out

    lines = [f"{record['images']} images of {record['classes']} classes; mean accuracy of the classes in %"]
    for entry in record["results"]:
        numbers = zip(entry["train_per_class"], entry["mean"], entry["std"], strict=True)
        shown = "   ".join(f"{n} a class: {100 * mean:.1f} ± {100 * std:.1f}" for n, mean, std in numbers)
        lines.append(f"{entry['title']:40} {shown}")
    return "\n".join([*lines, *left_out(record["skipped"]), f"look at {figure}"])
