"""zfkernels occlude"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zfkernels.cli import options

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from zfkernels.analysis.topk import Ranking
    from zfkernels.data import ImageSource
    from zfkernels.models import Preprocess
    from zfkernels.network.network import Network
    from zfkernels.viz import OcclusionRow

FILES = ("occlusion.png", "occlusion.npz", "occlusion.json")
ROWS = 32  # images that one picture holds
OTHERS = 3
FILLS = {"neutral": "the data's mean colour", "mean": "the photo's mean colour"}
EDGE = 0.01  # of a projection's strength that may lie beyond each side of its tile


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
    """A grey from 0 (black) to 1 (white), neutral or mean."""

    name = "grey"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        if value in FILLS:
            return str(value)
        try:
            grey = float(value)
        except ValueError:
            grey = math.nan
        if not 0 <= grey <= 1:
            self.fail(f"expected a grey from 0 (black) to 1 (white), neutral or mean, got {value!r}", param, ctx)
        return grey


@dataclass(frozen=True)
class Square:
    """The occluder: its side and step in pixels, and a grey, "neutral" or "mean"."""

    window: int
    stride: int
    fill: float | str


@click.command()
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@options.model_options(default="zfnet64")
@click.option("--layer", help="Layer whose strongest map is shown; the last rectifier of maps if not given.")
@click.option("--window", type=Length(), default="1/7", help="Side of the square: pixels, or a share of the image's.")
@click.option("--stride", type=Length(), default="1/28", help="Step of the square: pixels, or a share likewise.")
@click.option("--fill", type=Fill(), default="neutral",
              help="What the square shows: neutral, which the network takes as 0 (the mean colour that its "
              "preprocessing subtracts); a grey from 0 (black) to 1 (white); or mean (each image's own).")  # fmt: skip
@click.option("--target", "targets", multiple=True, help="Class, by number or name; once, or once for each image.")
@click.option("--others", default="embedded", help="Where else to look for the map: folder, archive or embedded.")
@options.out_option
@options.format_option
@options.json_option
def occlude(
    images: tuple[str, ...],
    model: str,
    weights: str,
    device: str,
    backend: str | None,
    layer: str | None,
    window: Fraction,
    stride: Fraction,
    fill: float | str,
    targets: tuple[str, ...],
    others: str,
    out: Path,
    as_json: bool,
) -> None:
    """What a network says of photos while a square hides each part of them in turn.

    Writes to --out occlusion.png, for each image a row: the photo; the activity of the map that answers most to it;
    projections of that map, from this photo and from those of --others that excite it most; the probability of the
    photo's class (--target, or what the network says of the whole photo); and the most probable class. The numbers are
    in occlusion.json and occlusion.npz.
    """
    import numpy as np

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


@dataclass(frozen=True)
class Result:
    """What was found in one image: for the picture, for occlusion.npz, for occlusion.json."""

    row: OcclusionRow
    arrays: dict[str, np.ndarray]
    numbers: dict[str, Any]


class Study:
    """What is the same for all images: the network, a layer, and the images that excite each map of it most."""

    def __init__(self, network: nn.Module, preprocess: Preprocess, model: str, layer: str | None, others: str) -> None:
        from zfkernels.deconvnet import DeconvNet

        self.network, self.preprocess = network, preprocess
        self.names = tuple(options.class_names(network))
        self.net = DeconvNet(network)
        self.layer = layer or last_maps(self.net.network_at((preprocess.size, preprocess.size)))
        self.source = options.open_data(others, None)
        self.ranking = self._rank_others()

    def _rank_others(self) -> Ranking:
        from zfkernels.analysis.topk import TopK
        from zfkernels.data import EmbeddedPhotos, stream

        ids = list(self.source.order)
        if isinstance(self.source, EmbeddedPhotos):  # of each photo its first crop, which is a largest one
            ids = list({self.source.keys[n].split("/")[0]: n for n in reversed(ids)}.values())
        topk = None
        for batch in stream(self.source, self.preprocess, ids=ids, batch_size=16, workers=0):
            if len(batch.ids):
                maps = self._maps(batch.images)
                topk = topk or TopK(maps.shape[1], OTHERS + 1)  # one more, as the photo itself may be among them
                topk.update(maps, batch.ids)
        if topk is None:
            raise ValueError(f"occlude: expected others with images that can be read, got none in {self.source.name}")
        return topk.compute()

    def _maps(self, images: Tensor) -> Tensor:
        parameter = next(self.network.parameters())
        maps = self.net.network_at((images.shape[2], images.shape[3])).activations(images.to(parameter), [self.layer])[
            self.layer
        ]
        if maps.dim() != 4:
            raise ValueError(f"occlude: expected layer one with feature maps, got {self.layer!r}")
        return maps

    def class_number(self, text: str) -> int:
        """The class that a number or a name stands for."""
        import torch

        from zfkernels.results import class_numbers

        side = self.preprocess.size
        network = self.net.network_at((side, side))
        clean = torch.zeros(1, network.shape(network.recording.output_names[0])[-1])
        return int(class_numbers("occlude", int(text) if text.isdigit() else text, clean, self.names))

    def class_name(self, number: int) -> str:
        """What people call a class."""
        return self.names[number] if number < len(self.names) else f"class {number}"

    def run(self, name: str, image: Tensor, target: int | None, square: Square, progress: bool) -> Result:
        """Hides each part of an image [1, 3, H, W]."""
        from zfkernels.occlusion.api import occlusion_sweep
        from zfkernels.viz import OcclusionRow

        shown = self._shown(square.fill, image)
        sweep = occlusion_sweep(
            self.network, image, window=square.window, stride=square.stride, fill=shown, layer=self.layer,
            progress=progress,
        )  # fmt: skip
        assert sweep.channel is not None
        assert sweep.activity is not None
        channel = int(sweep.channel[0])
        target = int(sweep.clean[0].argmax()) if target is None else target
        clean = float(sweep.clean_probability(target))
        probability, best, activity = (
            values[0].cpu() for values in (sweep.probability(target), sweep.best_class(), sweep.activity)
        )
        others, shown_in = self._others(image, channel)
        classes, counts = best.flatten().unique(return_counts=True)
        share = {n: count / best.numel() for n, count in zip(classes.tolist(), counts.tolist(), strict=True)}
        row = OcclusionRow(
            name, self.preprocess.to_pixels(image)[0].cpu(), sweep.positions, sweep.window,
            self.preprocess.to_pixels(shown[:, None, None])[:, 0, 0].cpu(), in_words(square),
            f"{self.layer}, map {channel}", activity,
            self._tiles(shown_in, channel),
            self.class_name(target), clean, probability, best, {n: self.class_name(n) for n in share},
        )  # fmt: skip
        arrays = {"positions": sweep.positions, "probability": probability, "best_class": best, "activity": activity}
        numbers = {
            "image": name,
            "class": target,
            "name": self.class_name(target),
            "probability": clean,
            "lowest": _lowest(probability, sweep.positions),
            "map": channel,
            "activity": float(self._maps(image)[0, channel].sum()),
            "lowest_activity": _lowest(activity, sweep.positions),
            "most_probable": [
                {"class": n, "name": self.class_name(n), "share": share[n]}
                for n in sorted(share, key=lambda n: -share[n])
            ],
            "others": others,
        }
        return Result(row, {key: value.numpy() for key, value in arrays.items()}, numbers)

    def _shown(self, fill: float | str, image: Tensor) -> Tensor:
        """The colour of the square, [3], as the network takes it."""
        if fill == "mean":
            return image.mean((0, 2, 3))
        if fill == "neutral":
            return image.new_zeros(3)
        mean, std = image.new_tensor(self.preprocess.mean), image.new_tensor(self.preprocess.std)
        return (float(fill) - mean) / std

    def _others(self, image: Tensor, channel: int) -> tuple[list[dict[str, Any]], Tensor]:
        """The other images that excite a map most, and all images to show it in, [k, 3, H, W], this one first."""
        import torch

        images: list[Tensor] = [image]
        others: list[dict[str, Any]] = []
        ranked = zip(self.ranking.values[channel].tolist(), self.ranking.image_ids[channel].tolist(), strict=True)
        for value, image_id in ranked:
            if image_id >= 0 and value > 0 and len(others) < OTHERS:
                key, other = _load(self.source, image_id, self.preprocess)
                if not torch.equal(other.to(image), image):
                    images.append(other.to(image))
                    others.append({"image": key, "activation": value})
        return others, torch.cat(images)

    def _tiles(self, images: Tensor, channel: int) -> np.ndarray:
        """Projections of a map's strongest activation in each image, and the patches that they lie in."""
        import torch

        from zfkernels.viz import stretch_projections
        from zfkernels.windows import crop

        projections = self.net.project(images, self.layer, channels=channel)
        corners, size = _strongest_part(projections.dense())
        cut = projections.windows.crops(corners, size)
        patches = crop(self.preprocess.to_pixels(images), corners, projections.image, size)
        return torch.stack([stretch_projections(cut), patches]).permute(0, 1, 3, 4, 2).cpu().numpy()


def _read(paths: Sequence[str], preprocess: Preprocess) -> list[tuple[str, Tensor]]:
    """Every image of the command line."""
    from zfkernels.data import open_source

    photos: list[tuple[str, Tensor]] = []
    for path in paths:
        source = open_source(Path(path))
        if len(photos) + len(source) > ROWS:
            raise ValueError(f"occlude: expected at most {ROWS} images for one picture, got more")
        photos += [_load(source, image_id, preprocess) for image_id in range(len(source))]
    return photos


def _load(source: ImageSource, image_id: int, preprocess: Preprocess) -> tuple[str, Tensor]:
    """The key of an image, and the image as the network takes it, [1, 3, H, W]."""
    import torch

    key = source.keys[image_id]
    try:
        image, _ = source.load(image_id)
        return key, (image if isinstance(image, torch.Tensor) else preprocess(image))[None]
    except ValueError as error:
        raise ValueError(f"occlude: expected images that can be read, got {key}: {error}") from error


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


def in_words(square: Square) -> str:
    """What the square shows and how large it is."""
    fill = FILLS[square.fill] if isinstance(square.fill, str) else f"grey {square.fill:g}"
    return f"{fill}, {square.window} pixels"


def last_maps(network: Network) -> str:
    """The last rectifier of maps that are not the classes yet; where there is none, the last convolution."""
    table = network.layer_info()
    maps = [info for info in table if info.size is not None and info.channels != table[-1].channels]
    names = [info.name for info in maps if info.is_rectifier] or [info.name for info in maps if info.is_convolution]
    if names:
        return names[-1]
    raise ValueError("occlude: expected a model with feature maps, got one without")


def _strongest_part(projections: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Where most of each projection [P, 3, H, W] lies: corners, int32 [P, 2], of squares of one size."""
    import torch

    from zfkernels.geometry import place

    first, last = [], []
    for axis in (1, 2):
        lines = projections.abs().sum(1).sum(3 - axis).cumsum(1)
        total = lines[:, -1:]
        first.append((lines < EDGE * total).sum(1))
        last.append((lines < (1 - EDGE) * total).sum(1) + 1)
    low, high = torch.stack(first, 1), torch.stack(last, 1)
    frame = (projections.shape[2], projections.shape[3])
    side = min(int((high - low).max()), *frame)
    return place((low + high - side) // 2, (side, side), frame), (side, side)


def _lowest(values: Tensor, positions: Tensor) -> dict[str, Any]:
    """The lowest of values [rows, cols], and where the square lies there."""
    place = int(values.argmin())
    return {"value": float(values.flatten()[place]), "square": positions.flatten(0, 1)[place].tolist()}


def _sentence(numbers: dict[str, Any]) -> str:
    low = numbers["lowest"]
    return (
        f"{numbers['image']}: {numbers['name']} {numbers['probability']:.3f}, with the square at row "
        f"{low['square'][0]}, column {low['square'][1]} {low['value']:.3f}"
    )
