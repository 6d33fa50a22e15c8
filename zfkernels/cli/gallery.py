"""zfkernels gallery"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import click

from zfkernels.cli import options


@click.command()
@options.model_options(default="zfnet64")
@options.data_option
@options.limit_option
@click.option(
    "--layers",
    help="Names or patterns (features.*, kind:rectifier), separated by commas; every rectifier with maps if not given.",
)
@click.option("--show", help="How images are shown: rgb, grey, or the numbers of three channels (3,2,1).")
@options.out_option
@click.option("--top-k", type=click.IntRange(min=1), default=9, help="Activations of each map, one for each image.")
@click.option("--projections/--no-projections", default=True, help="Project the activations, or show patches alone.")
@click.option("--occlusion", is_flag=True, help="Add to each activation where hiding a part of the image lowers it.")
@options.batch_size_option
@options.workers_option
@click.option("--title", help="Heading of the page; the name of the model if not given.")
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", help="This machine, or a Ray cluster.")
@click.option("--address", help="Address of the Ray cluster; one is started here if not given.")
@click.option("--fresh", is_flag=True, help="Start anew; otherwise an interrupted run in --out is taken up.")
@click.option("--strict", is_flag=True, help="End at the first image that cannot be used; else leave it out.")
@click.option("--maxima", is_flag=True, help="Keep the largest activation of every map on every image (float16).")
@click.option("--compare", type=click.Path(path_type=Path), help="Folder of another gallery to show beside this one.")
@click.option(
    "--match",
    type=click.Choice(["same", "correlation"]),
    default="same",
    help="With --compare: the same maps of both, or those that answer most alike (both need --maxima).",
)
@click.option("--tensorboard", type=click.Path(path_type=Path), help="Folder to write images for TensorBoard to.")
@click.option("--json", "as_json", is_flag=True, help="Print events and, on the last line, the result, as JSON lines.")
def gallery(
    model: str,
    weights: str,
    device: str,
    backend: str | None,
    data: str,
    limit: int | None,
    layers: str | None,
    show: str | None,
    out: Path,
    top_k: int,
    projections: bool,
    occlusion: bool,
    batch_size: int,
    workers: int | None,
    title: str | None,
    engine: str,
    address: str | None,
    fresh: bool,
    strict: bool,
    maxima: bool,
    compare: Path | None,
    match: str,
    tensorboard: Path | None,
    as_json: bool,
) -> None:
    """The strongest activations of every feature map, projected to pixels.

    Streams the images of --data, keeps the images that excite each map most, and writes topk.parquet, gallery.json and
    index.html to --out. The same command goes on where an interrupted one stopped. Started by torchrun, its processes
    share the work; --device cuda then gives each its own GPU.
    """
    from zfkernels.gallery import Gallery, build_gallery, compare_galleries

    options.check_out("gallery", out, (), data)
    other = None if compare is None else Gallery.open(compare)
    network, preprocess = options.load_any_model(model, weights, device)
    names = [name.strip() for name in layers.split(",")] if layers else None
    with options.use_backend(backend):
        result = build_gallery(
            network,
            options.open_data(data, limit),
            layers=names,
            out=out,
            top_k=top_k,
            batch_size=batch_size,
            workers=workers,
            engine=engine,
            address=address,
            projections=projections,
            occlusion=occlusion,
            resume=not fresh,
            strict=strict,
            progress=options.say_json if as_json else True,
            preprocess=preprocess,
            show=_shown(show),
            title=title or model,
            maxima=maxima,
        )
    if os.environ.get("RANK", "0") != "0":  # one of torchrun's processes speaks for all
        return
    if tensorboard is not None:
        result.to_tensorboard(tensorboard)
    found, text = summary(result.info, out), describe(result.info, out)
    if other is not None:
        page, pairs = compare_galleries(result, other, out, match=match)
        found |= {"comparison": str(page), "pairs": len(pairs)}
        text += f"\n{len(pairs):,} pairs of maps beside {compare}: open {page}"
    options.report(found, text, as_json)


def _shown(text: str | None) -> str | tuple[int, ...] | None:
    """What ``--show`` says, as ``build_gallery`` takes it."""
    parts = [] if text is None else [part.strip() for part in text.split(",")]
    return tuple(map(int, parts)) if parts and all(part.isdecimal() for part in parts) else text


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--layer", required=True, help="Name of the layer.")
@click.option("--channel", required=True, type=click.IntRange(min=0), help="Number of the map.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="File to write: .png, .pdf or .svg.")
def figure(folder: Path, layer: str, channel: int, out: Path) -> None:
    """One map of the gallery in FOLDER as the paper's figure 2 has it."""
    from zfkernels.gallery import Gallery

    Gallery.open(folder).export(layer, channel, out)
    options.report({}, str(out), False)


def summary(info: dict[str, Any], out: Path) -> dict[str, Any]:
    """What a program wants to know of a finished gallery."""
    return {
        "page": str(out / "index.html"),
        "table": str(out / "topk.parquet"),
        "images": info["data"]["images"],
        "skipped": info["data"]["skipped"],
        "layers": {
            layer["name"]: {name: layer[name] for name in ("maps", "dead", "only_nan")} for layer in info["layers"]
        },
        "seconds": info["seconds"],
        "spent": info["spent"],
        "peak_memory_bytes": info["peak_memory_bytes"],
    }


def describe(info: dict[str, Any], out: Path) -> str:
    """The same for people."""
    maps = sum(layer["maps"] for layer in info["layers"])
    dead = sum(len(layer["dead"]) for layer in info["layers"])
    nan = sum(len(layer["only_nan"]) for layer in info["layers"])
    lines = [
        f"{info['data']['images']:,} images, {maps:,} maps in {len(info['layers'])} layers, {dead:,} of them dead"
        + (f", {nan:,} NaN on every image" if nan else "")
    ]
    skipped = info["data"]["skipped"]
    if skipped:
        lines.append(f"{len(skipped):,} left out:")
        reasons = Counter(entry["reason"] for entry in skipped)
        example = {entry["reason"]: entry["image"] for entry in skipped}
        lines += [f"  {count:,} × {reason}, such as {example[reason]}" for reason, count in reasons.most_common(8)]
        if len(reasons) > 8:
            lines.append(f"  and {len(reasons) - 8} other reasons, see gallery.json")
    seconds = info["seconds"]
    for stage, spent in seconds.items():
        parts = ", ".join(f"{what} {part:.1f}" for what, part in info["spent"].get(stage, {}).items())
        lines.append(f"{stage} {spent:.1f} s" + (f" ({parts})" if parts else ""))
    rate = info["data"]["images"] / max(seconds["sweep"], 1e-9)
    lines.append(f"{rate:.1f} images/s in the sweep; at most {info['peak_memory_bytes'] / 2**20:,.0f} MiB in a process")
    lines.append(f"open {out / 'index.html'}")
    return "\n".join(lines)
