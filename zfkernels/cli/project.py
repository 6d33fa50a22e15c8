"""zfkernels project"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zfkernels.cli import options

if TYPE_CHECKING:
    from torch import Tensor

    from zfkernels.gallery.layers import Layer
    from zfkernels.gallery.tiles import Painter
    from zfkernels.methods.deconvnet import DeconvNet

COLUMNS = 3
RESULTS = ("figures", "projections.json")


@click.command()
@options.model_options(default="zfnet64")
@options.data_option
@options.limit_option
@click.option("--layer", required=True, help="Name of the layer.")
@click.option("--channels", help="Maps, separated by commas; the strongest ones of each image if not given.")
@click.option("--maps", type=click.IntRange(min=1), default=9, help="How many of the strongest maps.")
@options.out_option
@options.batch_size_option
@options.workers_option
@options.json_option
def project(
    model: str,
    weights: str,
    device: str,
    backend: str | None,
    data: str,
    limit: int | None,
    layer: str,
    channels: str | None,
    maps: int,
    out: Path,
    batch_size: int,
    workers: int | None,
    as_json: bool,
) -> None:
    """Projections of single images: the strongest activation of some maps of a layer.

    Writes to --out a picture of each image (figures/) with its projections beside the patches that caused them, and
    projections.json, which says where they lie.
    """
    from zfkernels.cli.tables import write_json
    from zfkernels.data import stream
    from zfkernels.gallery.layers import select_layers
    from zfkernels.gallery.tiles import Painter
    from zfkernels.methods.deconvnet import DeconvNet
    from zfkernels.output import staged

    options.check_out("project", out, RESULTS, data)
    network, preprocess = options.load_model(model, weights, device)
    net, painter = DeconvNet(network), Painter(preprocess, ("projections", "patches"))
    source = options.open_data(data, limit)
    size = source.tensor_size or (preprocess.size, preprocess.size)
    (chosen,) = select_layers(net.trace_at(size), [layer], size)
    wanted = _channels(channels, chosen)
    found, skipped = [], [{"image": key, "reason": reason} for key, reason in source.ignored]
    with staged(out, RESULTS, "project") as folder, options.use_backend(backend):
        (folder / "figures").mkdir()
        for batch in stream(source, preprocess, batch_size=batch_size, workers=workers):
            skipped += [{"image": source.keys[image_id], "reason": reason} for image_id, reason in batch.skipped]
            images = batch.images.to(device)
            for image, image_id in zip(images, batch.ids.tolist(), strict=True):
                rows, figure = _project_one(net, painter, chosen, image[None], source.keys[image_id], wanted, maps)
                name = f"figures/{image_id:06d}.png"
                figure.save(folder / name)
                found.append({"image": source.keys[image_id], "figure": name, "activations": rows})
        if not found:
            raise ValueError(f"project: expected images that can be read, got none: {skipped[0]['reason']}")
        record = {"model": model, "layer": layer, "images": found, "skipped": skipped}
        write_json(folder / RESULTS[1], record)
    text = f"{len(found)} images, {len(skipped)} left out; look at {out / 'figures'}"
    options.report({"out": str(out), **record}, text, as_json)


def _channels(text: str | None, layer: Layer) -> list[int] | None:
    if text is None:
        return None
    try:
        channels = [int(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(
            f"expected numbers separated by commas, got {text!r}", param_hint="--channels"
        ) from None
    if not all(0 <= channel < layer.info.channels for channel in channels):
        raise ValueError(f"project: expected --channels from 0 to {layer.info.channels - 1}, got {text}")
    return channels


def _project_one(
    net: DeconvNet, painter: Painter, layer: Layer, image: Tensor, key: str, channels: list[int] | None, maps: int
) -> tuple[list[dict[str, Any]], Any]:
    """What was found in one image [1, 3, H, W], and its picture."""
    import torch

    from zfkernels.methods.topk import TopK
    from zfkernels.viz import as_picture, feature_sheet, map_sprite

    forward = net.forward(image, [layer.name])
    topk = TopK(layer.info.channels, 1)
    topk.update(forward.activations(layer.name), torch.zeros(1, dtype=torch.int64))
    ranking = topk.compute()
    values, positions = ranking.values[:, 0], ranking.positions[:, 0]
    channel = values.topk(min(maps, len(values))).indices if channels is None else torch.tensor(channels)
    units = torch.cat([torch.zeros_like(channel)[:, None], channel[:, None], positions[channel]], 1)
    field = layer.receptive_fields(net, channel, positions[channel], (image.shape[2], image.shape[3]))
    pixels = painter.preprocess.to_pixels(image)
    painted, _ = painter.paint(layer, forward, pixels.float(), units, field)
    tiles = torch.stack([painted[block] for block in painter.blocks]).permute(0, 1, 3, 4, 2).numpy()
    sprites = [(f"{n}  {values[n]:.3g}", map_sprite(tiles[:, [i]], [True])) for i, n in enumerate(channel.tolist())]
    figure = feature_sheet([(key, [("", as_picture(pixels[0]))]), (layer.name, sprites)], columns=COLUMNS)
    rows = [
        {"channel": n, "value": values[n].item(), "position": positions[n].tolist(), "receptive_field": box.tolist()}
        for n, box in zip(channel.tolist(), field, strict=True)
    ]
    return rows, figure
