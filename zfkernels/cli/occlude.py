"""zfkernels occlude"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zfkernels.cli import options

if TYPE_CHECKING:
    from torch import Tensor

    from zfkernels.models import Preprocess

FILES = ("occlusion.png", "occlusion.npz", "occlusion.json")
ROWS = 32  # images that one picture holds
# What --data has and a picture of photos has not.
OF_A_STORE = (
    "limit", "workers", "fresh", "store_format", "keep", "units", "statistic", "maps_only", "shape", "windows",
    "regions", "reduce", "memory",
)  # fmt: skip
OF_A_PICTURE = ("others",)


class Length(click.ParamType):
    """A length in pixels, or a share of the image's side: 32, 0.25, 1/7."""

    name = "length"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Fraction:
        try:
            length = Fraction(str(value))
        except (ValueError, ZeroDivisionError):
            length = Fraction(0)
        if length <= 0 or (length > 1 and length.denominator != 1):
            self.fail(f"expected pixels (32) or a share of the image's side (1/7, 0.15), got {value!r}", param, ctx)
        return length


class Fill(click.ParamType):
    """neutral, mean, blur, noise or noise:SEED, a grey from 0 (black) to 1 (white), or the file of a picture."""

    name = "fill"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        text = str(value)
        seed = text.partition(":")[2] if text.startswith("noise:") else "0"
        if text in ("neutral", "mean", "blur") or (text.split(":")[0] == "noise" and seed.isdecimal()):
            return text
        try:
            grey = float(text)
        except ValueError:
            if Path(text).is_file():
                return text
            grey = math.nan
        if not 0 <= grey <= 1:
            self.fail(
                "expected a grey from 0 (black) to 1 (white), neutral, mean, blur, noise, noise:SEED or the file of a "
                f"picture, got {value!r}",
                param,
                ctx,
            )
        return grey


@click.command()
@click.argument("images", metavar="[IMAGE...]", nargs=-1)
@options.model_options(default="zfnet64")
@click.option("--layer", help="Layer whose strongest map is shown; the last rectifier of maps if not given.")
@click.option("--window", type=Length(), default="1/7", help="Side of the square: pixels, or a share of the image's.")
@click.option("--stride", type=Length(), default="1/28", help="Step of the square: pixels, or a share likewise.")
@click.option("--fill", "fills", type=Fill(), multiple=True, default=("neutral",),
              help="What the square shows: neutral, which the network takes as 0 (the mean colour that its "
              "preprocessing subtracts); a grey from 0 (black) to 1 (white); or mean (each image's own). With --data "
              "also blur (the image itself, fading out), noise or noise:SEED, the file of a picture; more than once: "
              "one sweep with each.")  # fmt: skip
@click.option("--target", "targets", multiple=True, help="Class, by number or name; once, or once for each image.")
@click.option("--others", default="embedded", help="Where else to look for the map: folder, archive or embedded.")
@click.option("--data", help="Sweep all these images and keep the numbers: folder, archive, shards, torchvision data "
              "set as NAME:FOLDER, or embedded. In place of IMAGE.")  # fmt: skip
@options.limit_option
@click.option("--workers", type=click.IntRange(min=0), default=0, help="--data: processes that decode images, beside "
              "this one.")  # fmt: skip
@click.option("--fresh", is_flag=True, help="--data: start anew; otherwise an interrupted run in --out is taken up.")
@click.option("--store-format", type=click.Choice(["zarr", "npz"]),
              help="--data: one Zarr group, or an npz file for each image; Zarr if it is installed.")  # fmt: skip
@click.option("--keep", type=click.Choice(["maps", "outputs"]), default="maps",
              help="--data: the maps of each image's class, or also the outputs of all classes.")  # fmt: skip
@click.option("--units", help="--data: maps of --layer to watch, as 3,17; or all.")
@click.option("--statistic", type=click.Choice(["sum", "max", "value"]), default="sum",
              help="--data: of these maps their sum, maximum, or value at the strongest place.")  # fmt: skip
@click.option("--maps-only", is_flag=True, help="--data: leave out what comes after --layer, which is faster.")
@click.option("--shape", default="square", help="--data: square, disc, or a file with a mask of the window's size.")
@click.option("--windows", type=click.Path(path_type=Path),
              help="--data: file of windows in place of the grid: top, left, height, width in each line of a CSV file, "
              "or an .npy array.")  # fmt: skip
@click.option("--regions", type=click.Path(path_type=Path),
              help="--data: file of regions in place of the grid: a picture of labels or an .npy array, of the size of "
              "the network's input.")  # fmt: skip
@click.option("--reduce", metavar="HOW", help="--data: for networks that return maps: class-area, dice, "
              "largest-probability, or region-mean:FILE with a mask.")  # fmt: skip
@click.option("--memory", type=click.IntRange(min=1), help="--data: bytes for the values of one chunk of positions.")
@options.out_option
@options.format_option
@options.json_option
@click.pass_context
def occlude(
    context: click.Context,
    images: tuple[str, ...],
    model: str,
    weights: str,
    device: str,
    backend: str | None,
    layer: str | None,
    window: Fraction,
    stride: Fraction,
    fills: tuple[float | str, ...],
    targets: tuple[str, ...],
    others: str,
    data: str | None,
    out: Path,
    as_json: bool,
    **of_a_store: Any,
) -> None:
    """What a network says of photos while a square hides each part of them in turn.

    Writes to --out occlusion.png, for each IMAGE a row: the photo; the activity of the map that answers most to it;
    projections of that map, from this photo and from those of --others that excite it most; the probability of the
    photo's class (--target, or what the network says of the whole photo); and the most probable class. The numbers are
    in occlusion.json and occlusion.npz.

    With --data in place of IMAGE, the maps of all images of a data set are kept in --out: maps, class_means.npz,
    summary.png and store.json. The same command goes on where an interrupted one stopped.
    """
    if bool(images) == (data is not None):
        raise click.UsageError(f"expected IMAGE or --data, got {'both' if images else 'none of them'}")
    given = [name for name in (OF_A_PICTURE if data else OF_A_STORE) if _was_given(context, name)]
    if given:
        option = f"--{given[0].replace('_', '-')}"
        raise click.UsageError(f"expected {option} with {'IMAGE' if data else '--data'} alone")
    if data is not None:
        from zfkernels.cli.occlude_store import Choices, write_store

        if len(targets) > 1:
            raise click.BadParameter(f"expected one for all images, got {len(targets)}", param_hint="--target")
        square = any(_was_given(context, name) for name in ("window", "stride"))
        choices = Choices(data=data, window=window, stride=stride, square=square, fills=fills, layer=layer,
                          target=targets[0] if targets else None, out=out, **of_a_store)  # fmt: skip
        with options.use_backend(backend):
            write_store(choices, model, weights, device, as_json)
        return
    if len(fills) > 1 or not (isinstance(fills[0], float) or fills[0] in ("neutral", "mean")):
        raise click.BadParameter(
            f"expected neutral, mean or a grey for a picture of photos (--data takes others), got {fills[-1]!r}",
            param_hint="--fill",
        )
    _draw(images, model, weights, device, backend, layer, window, stride, fills[0], targets, others, out, as_json)


def _was_given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT


def _draw(
    images: Sequence[str],
    model: str,
    weights: str,
    device: str,
    backend: str | None,
    layer: str | None,
    window: Fraction,
    stride: Fraction,
    fill: float | str,
    targets: Sequence[str],
    others: str,
    out: Path,
    as_json: bool,
) -> None:
    """The picture of photos."""
    import numpy as np

    from zfkernels.cli.occlude_study import Square, Study
    from zfkernels.cli.tables import write_json
    from zfkernels.output import staged
    from zfkernels.viz import occlusion_sheet

    files = options.in_format(FILES)
    options.check_out("occlude", out, files, *images, others)
    network, preprocess = options.load_model(model, weights, device)
    photos = _read(images, preprocess)
    square = Square(in_pixels(window, preprocess.size), in_pixels(stride, preprocess.size), fill)
    with staged(out, files, "occlude") as folder, options.use_backend(backend):
        study = Study(network, preprocess, model, layer, others)
        chosen = _one_each([study.class_number(text) for text in targets], len(photos))
        results = [
            study.run(name, image.to(device), target, square, progress=not as_json)
            for (name, image), target in zip(photos, chosen, strict=True)
        ]
        arrays = {name: np.stack([result.arrays[name] for result in results]) for name in results[0].arrays}
        record = {
            "model": model,
            "layer": study.layer,
            "window": square.window,
            "stride": square.stride,
            "fill": fill,
            "images": [result.numbers for result in results],
        }
        occlusion_sheet([result.row for result in results]).savefig(folder / files[0], dpi=150)
        np.savez_compressed(folder / files[1], allow_pickle=False, **arrays)
        write_json(folder / files[2], record)
    text = [*(_sentence(result.numbers) for result in results), f"look at {out / files[0]}"]
    options.report({"out": str(out), **record}, "\n".join(text), as_json)


def _read(paths: Sequence[str], preprocess: Preprocess) -> list[tuple[str, Tensor]]:
    """Every image of the command line."""
    from zfkernels.cli.occlude_study import load_image
    from zfkernels.data import open_source

    photos: list[tuple[str, Tensor]] = []
    for path in paths:
        source = open_source(Path(path))
        if len(photos) + len(source) > ROWS:
            raise ValueError(f"occlude: expected at most {ROWS} images for one picture, got more")
        photos += [load_image(source, image_id, preprocess) for image_id in range(len(source))]
    return photos


def _one_each(targets: list[int], count: int) -> list[int] | list[None]:
    if not targets:
        return [None] * count
    if len(targets) not in (1, count):
        raise click.BadParameter(
            f"expected one, or one for each of {count} images, got {len(targets)}", param_hint="--target"
        )
    return targets * (count // len(targets))


def in_pixels(length: Fraction, side: int) -> int:
    """A length of ``--window`` or ``--stride`` in an image of ``side`` pixels."""
    return max(1, round(length * side)) if length < 1 else int(length)


def _sentence(numbers: dict[str, Any]) -> str:
    low = numbers["lowest"]
    return (
        f"{numbers['image']}: {numbers['name']} {numbers['probability']:.3f}, with the square at row "
        f"{low['square'][0]}, column {low['square'][1]} {low['value']:.3f}"
    )
