"""zfkernels gallery"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zfkernels.cli import options


@click.command()
@options.model_options(default="zfnet64")
@options.data_option
@options.limit_option
@click.option("--layers", help="Names, separated by commas; every rectifier with feature maps if not given.")
@options.out_option
@click.option("--top-k", type=click.IntRange(min=1), default=9, help="Activations of each map, one for each image.")
@click.option("--projections/--no-projections", default=True, help="Project the activations, or show patches alone.")
@options.batch_size_option
@options.workers_option
@click.option("--title", help="Heading of the page; the name of the model if not given.")
@options.json_option
def gallery(
    model: str,
    weights: str,
    device: str,
    backend: str | None,
    data: str,
    limit: int | None,
    layers: str | None,
    out: Path,
    top_k: int,
    projections: bool,
    batch_size: int,
    workers: int | None,
    title: str | None,
    as_json: bool,
) -> None:
    """The strongest activations of every feature map, projected to pixels.

    Streams the images of --data, keeps the images that excite each map most, and writes topk.parquet, gallery.json and
    index.html to --out.
    """
    from zfkernels.gallery import build_gallery, default_layers
    from zfkernels.trace import trace_model

    network, preprocess = options.load_model(model, weights, device)
    names = [name.strip() for name in layers.split(",")] if layers else None
    with options.use_backend(backend):
        result = build_gallery(
            network,
            options.open_data(data, limit),
            layers=names or default_layers(trace_model(network), (preprocess.size, preprocess.size)),
            out=out,
            top_k=top_k,
            batch_size=batch_size,
            workers=workers,
            projections=projections,
            progress=not as_json,
            preprocess=preprocess,
            title=title or model,
        )
    options.report(summary(result.info, out), describe(result.info, out), as_json)


def summary(info: dict[str, Any], out: Path) -> dict[str, Any]:
    """What a program wants to know of a finished gallery."""
    return {
        "page": str(out / "index.html"),
        "table": str(out / "topk.parquet"),
        "images": info["data"]["images"],
        "skipped": info["data"]["skipped"],
        "layers": {layer["name"]: {"maps": layer["maps"], "dead": layer["dead"]} for layer in info["layers"]},
        "seconds": info["seconds"],
    }


def describe(info: dict[str, Any], out: Path) -> str:
    """The same for people."""
    maps = sum(layer["maps"] for layer in info["layers"])
    dead = sum(len(layer["dead"]) for layer in info["layers"])
    lines = [f"{info['data']['images']:,} images, {maps:,} maps in {len(info['layers'])} layers, {dead:,} of them dead"]
    skipped = info["data"]["skipped"]
    if skipped:
        lines.append(f"{len(skipped):,} left out, such as {skipped[0]['image']}: {skipped[0]['reason']}")
    lines.append("seconds: " + ", ".join(f"{stage} {spent:.1f}" for stage, spent in info["seconds"].items()))
    lines.append(f"open {out / 'index.html'}")
    return "\n".join(lines)
