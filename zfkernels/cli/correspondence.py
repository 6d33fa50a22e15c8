"""zfkernels correspondence"""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zfkernels.cli import options

if TYPE_CHECKING:
    from torch import Tensor

    from zfkernels.data import ImageSource
    from zfkernels.models import Preprocess
    from zfkernels.results import Correspondence

FILES = ("correspondence.png", "correspondence.csv", "correspondence.json")
COLUMNS = ("model", "layer", "masked", "mean", "std", "random_below", "one_place_below")
BOX = ("head_ymin", "head_xmin", "head_ymax", "head_xmax")


@click.command()
@options.model_options(default="zfnet64")
@options.data_option
@click.option("--landmarks", type=click.Path(path_type=Path), required=True,
              help="CSV: filename, and NAME_x, NAME_y in pixels of the picture for each part.")  # fmt: skip
@click.option("--layers", help="Names, separated by commas; four rectifiers from early to late if not given.")
@click.option("--window", type=click.FloatRange(min=0, min_open=True), default=1 / 7,
              help="Side of the mask: pixels of the network's input, or a share of it up to 1.")  # fmt: skip
@click.option("--random", "random_draws", type=click.IntRange(min=2), default=20, help="Sets of random places.")
@click.option("--seed", type=int, default=0, help="Of the random places.")
@options.out_option
@options.format_option
@options.batch_size_option
@options.json_option
def correspondence(
    model: str,
    weights: str,
    device: str,
    backend: str | None,
    data: str,
    landmarks: Path,
    layers: str | None,
    window: float,
    random_draws: int,
    seed: int,
    out: Path,
    batch_size: int,
    as_json: bool,
) -> None:
    """Table 1: does a network relate the same part of different images?

    The same part is masked in each image; features that then change alike have a small distance. Random places, in the
    whole image and, if the landmarks have head_xmin … head_ymax, on the head, are the comparison. Writes to --out
    correspondence.png, correspondence.csv and correspondence.json.
    """
    from zfkernels.analysis.correspondence import correspondence as measure
    from zfkernels.cli.tables import write_csv, write_json
    from zfkernels.network.network import trace_model
    from zfkernels.output import staged
    from zfkernels.viz import correspondence_figure

    files = options.in_format(FILES)
    options.check_out("correspondence", out, files, data)
    network, preprocess = options.load_model(model, weights, device)
    source = options.open_data(data, None)
    images, keys, parts, regions = read_landmarks(landmarks, source, preprocess)
    side = max(1, round(window * preprocess.size if window <= 1 else window))
    names = layers.split(",") if layers else spread(trace_model(network, (preprocess.size, preprocess.size)))
    with options.use_backend(backend):
        result = measure(
            network, images.to(device), parts, layers=names, window=side, regions=regions, random_draws=random_draws,
            seed=seed, batch_size=batch_size, progress=not as_json,
        )  # fmt: skip
    rows = list(_rows(model, result))
    record = {
        "model": model, "images": keys, "window": side, "random_draws": random_draws, "seed": seed,
        "rows": [dict(zip(COLUMNS, row, strict=True)) for row in rows],
    }  # fmt: skip
    with staged(out, files, "correspondence") as folder:
        title = f"{len(keys)} images of {source.name}, mask of {side}x{side} pixels"
        correspondence_figure({model: result}, title=title).savefig(folder / files[0], dpi=130)
        write_csv(folder / files[1], COLUMNS, rows)
        write_json(folder / files[2], record)
    text = [f"{len(keys)} images, mask of {side} pixels; lower: the network relates the part more"]
    text += [
        f"{layer:16} " + "   ".join(f"{row[2]} {row[3]:.3f} ± {row[4]:.3f}" for row in rows if row[1] == layer)
        for layer in names
    ]
    options.report({"out": str(out), **record}, "\n".join([*text, f"look at {out / files[0]}"]), as_json)


def read_landmarks(
    path: Path, source: ImageSource, preprocess: Preprocess
) -> tuple[Tensor, list[str], dict[str, Tensor], dict[str, Tensor]]:
    """The images that a table of landmarks names, and its points and head boxes in pixels of the network's input.

    Raises:
        FileNotFoundError: There is no such table.
        ValueError: It names no part, an image that is not there, or a point outside its image.
    """
    import torch
    from PIL import Image

    if not path.is_file():
        raise FileNotFoundError(f"correspondence: expected landmarks an existing CSV file, got {path}")
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = list(rows[0]) if rows else []
    names = [name[:-2] for name in columns if name.endswith("_x") and f"{name[:-2]}_y" in columns]
    if "filename" not in columns or not names:
        raise ValueError(f"correspondence: expected landmarks with columns filename, NAME_x and NAME_y, got {columns}")
    index = {Path(key).name: n for n, key in enumerate(source.keys)}
    images, keys = [], []
    points: dict[str, list[list[float]]] = {name: [] for name in names}
    boxes: list[list[float]] = []
    for row in rows:
        if row["filename"] not in index:
            raise ValueError(f"correspondence: expected data with the image {row['filename']!r} of the landmarks")
        picture, _ = source.load(index[row["filename"]])
        if not isinstance(picture, Image.Image):
            raise TypeError(f"correspondence: expected data of pictures, got one of {type(picture).__name__}s")
        images.append(preprocess(picture))
        keys.append(row["filename"])
        for name in names:
            point = _number(row, f"{name}_y"), _number(row, f"{name}_x")
            moved = _to_input(point, picture.size, preprocess)
            if not all(0 <= place < preprocess.size for place in moved):
                raise ValueError(
                    f"correspondence: expected {name} of {row['filename']} inside what the network sees of the picture "
                    f"of {picture.width}x{picture.height} pixels, got row {point[0]:g} and column {point[1]:g}"
                )
            points[name].append(list(moved))
        if all(name in columns for name in BOX):
            corners = [_number(row, name) for name in BOX]
            boxes.append([*_to_input((corners[0], corners[1]), picture.size, preprocess),
                          *_to_input((corners[2], corners[3]), picture.size, preprocess)])  # fmt: skip
    regions = {"random, head": torch.tensor(boxes)} if boxes else {}
    parts = {name.replace("_", " "): torch.tensor(found) for name, found in points.items()}
    return torch.stack(images), keys, parts, regions


def _to_input(point: tuple[float, float], size: tuple[int, int], preprocess: Preprocess) -> tuple[float, float]:
    """Row and column of a picture of (width, height) as row and column of the network's input."""
    scale = preprocess.resize / min(size)
    row, column = (
        place * scale - (round(length * scale) - preprocess.size) / 2
        for place, length in zip(point, reversed(size), strict=True)
    )
    return row, column


def _number(row: dict[str, str], column: str) -> float:
    try:
        number = float(row[column])
    except (ValueError, TypeError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"correspondence: expected {column} of {row['filename']} a number, got {row[column]!r}")
    return number


def spread(network: Any) -> list[str]:
    """Four rectifiers, evenly spaced from the first to the last."""
    names = [info.name for info in network.layer_info() if info.is_rectifier]
    if not names:
        raise ValueError("correspondence: expected a model with rectifiers, or --layers, got neither")
    return list(dict.fromkeys(names[round(n * (len(names) - 1) / 3)] for n in range(4)))


def _rows(model: str, result: Correspondence) -> Any:
    from zfkernels.analysis.correspondence import ONE_PLACE, RANDOM

    for n, layer in enumerate(result.layers):
        for part in result.parts:
            below = [float(result.share_below(part, random)[n]) for random in (RANDOM, ONE_PLACE)]
            yield model, layer, part, float(result.mean(part)[n]), float(result.std(part)[n]), *below
