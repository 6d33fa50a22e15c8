"""What ``zfkernels occlude`` finds in photos, for its picture: the network, a layer, and who else excites its maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zfkernels.cli import options

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from zfkernels.analysis.topk import Ranking
    from zfkernels.data import ImageSource
    from zfkernels.models import Preprocess
    from zfkernels.network.network import Network
    from zfkernels.viz import OcclusionRow

OTHERS = 3
FILLS = {"neutral": "the data's mean colour", "mean": "the photo's mean colour"}
EDGE = 0.01  # of a projection's strength that may lie beyond each side of its tile


@dataclass(frozen=True)
class Square:
    """The occluder: its side and step in pixels, and a grey, "neutral" or "mean"."""

    window: int
    stride: int
    fill: float | str


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
                key, other = load_image(self.source, image_id, self.preprocess)
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


def load_image(source: ImageSource, image_id: int, preprocess: Preprocess) -> tuple[str, Tensor]:
    """The key of an image, and the image as the network takes it, [1, 3, H, W]."""
    import torch

    key = source.keys[image_id]
    try:
        image, _ = source.load(image_id)
        return key, (image if isinstance(image, torch.Tensor) else preprocess(image))[None]
    except ValueError as error:
        raise ValueError(f"occlude: expected images that can be read, got {key}: {error}") from error


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
