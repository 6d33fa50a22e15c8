"""zfkernels project"""

from __future__ import annotations

import dataclasses
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import click

from zfkernels.cli import options

if TYPE_CHECKING:
    from torch import Tensor

    from zfkernels.deconvnet import DeconvNet
    from zfkernels.gallery.layers import Layer
    from zfkernels.results import Projections

RESULTS = ("figures", "projections.json")


@click.command()
@options.model_options(default="zfnet64")
@options.data_option
@options.limit_option
@click.option("--layer", required=True, help="Name of the layer.")
@click.option("--channels", help="Maps, separated by commas; the strongest ones of each image if not given.")
@click.option("--maps", type=click.IntRange(min=1), default=9, help="How many of the strongest maps.")
@options.out_option
@options.format_option
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

    Writes to --out a picture of each image (figures/) with its projections over the patches that caused them, and
    projections.json, which says where they lie.
    """
    from zfkernels.cli.tables import left_out, write_json
    from zfkernels.data import stream
    from zfkernels.deconvnet import DeconvNet
    from zfkernels.gallery.layers import select_layers
    from zfkernels.output import staged
    from zfkernels.results.result import plural

    options.check_out("project", out, RESULTS, data)
    network, preprocess = options.load_model(model, weights, device)
    net = DeconvNet(network)
    (pattern,) = options.in_format(("{:06d}.png",))
    source = options.open_data(data, limit)
    size = source.tensor_size or (preprocess.size, preprocess.size)
    (chosen,) = select_layers(net.network_at(size), [layer])
    wanted = _channels(channels, chosen)
    found, skipped = [], [{"image": key, "reason": reason} for key, reason in source.ignored]
    with staged(out, RESULTS, "project") as folder, options.use_backend(backend):
        (folder / "figures").mkdir()
        for batch in stream(source, preprocess, batch_size=batch_size, workers=workers):
            skipped += [{"image": source.keys[image_id], "reason": reason} for image_id, reason in batch.skipped]
            images = batch.images.to(device)
            for image, image_id in zip(images, batch.ids.tolist(), strict=True):
                result = _project_one(net, chosen, image[None], wanted, maps)
                name = f"figures/{pattern.format(image_id)}"
                title = PurePosixPath(source.keys[image_id]).name
                figure = result.plot(image[None], count=len(result), preprocess=preprocess, names=[title])
                figure.savefig(folder / name, dpi=130)
                rows = [
                    {"channel": row[0], "value": row[1], "position": row[2], "receptive_field": row[3]}
                    for row in zip(
                        result.channel.tolist(), result.activation.tolist(), result.position.tolist(),
                        result.receptive_field.tolist(), strict=True,
                    )
                ]  # fmt: skip
                found.append({"image": source.keys[image_id], "figure": name, "activations": rows})
        if not found:
            raise ValueError(f"project: expected images that can be read, got none: {skipped[0]['reason']}")
        record = {"model": model, "layer": layer, "images": found, "skipped": skipped}
        write_json(folder / RESULTS[1], record)
    text = [plural(len(found), "image"), *left_out((entry["image"], entry["reason"]) for entry in skipped)]
    options.report({"out": str(out), **record}, "\n".join([*text, f"look at {out / 'figures'}"]), as_json)


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


def _project_one(net: DeconvNet, layer: Layer, image: Tensor, channels: list[int] | None, maps: int) -> Projections:
    """The strongest activation of each chosen map in one image [1, 3, H, W], projected."""
    import torch

    from zfkernels.analysis.topk import TopK

    topk = TopK(layer.info.channels, 1)
    topk.update(net.network.activations(image, [layer.name])[layer.name], torch.zeros(1, dtype=torch.int64))
    ranking = topk.compute()
    values, positions = ranking.values[:, 0], ranking.positions[:, 0]
    channel = values.topk(min(maps, len(values))).indices if channels is None else torch.tensor(channels)
    units = torch.cat([torch.zeros_like(channel)[:, None], channel[:, None], positions[channel]], 1)
    field = layer.receptive_fields(net, channel, positions[channel], (image.shape[2], image.shape[3]))
    return dataclasses.replace(net.project(image, layer.name, units=units), receptive_field=field)
