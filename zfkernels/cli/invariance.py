"""zfkernels invariance"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zfkernels.cli import options

if TYPE_CHECKING:
    from torch import Tensor

    from zfkernels.cli.images import Loaded
    from zfkernels.models import Preprocess
    from zfkernels.results import Invariance

FILES = ("invariance.png", "invariance.csv", "invariance.json")
COLUMNS = ("transform", "amount", "image", "class", "layer", "distance", "relative", "probability")


@click.command()
@options.model_options(default="zfnet64", classes=False)
@options.data_option
@options.limit_option
@click.option(
    "--layers", help="Names, separated by commas; the first rectifier and the last layer but one if not given."
)
@click.option("--transforms", default="vertical,scale,rotation",
              help="Of vertical, horizontal, scale, rotation, brightness.")  # fmt: skip
@click.option("--classes", type=click.Choice(["model", "labels"]), default="model",
              help="The class whose probability counts: what the model says of the image, or its label.")  # fmt: skip
@options.out_option
@options.format_option
@options.batch_size_option
@options.json_option
def invariance(
    model: str,
    weights: str,
    device: str,
    backend: str | None,
    data: str,
    limit: int | None,
    layers: str | None,
    transforms: str,
    classes: str,
    out: Path,
    batch_size: int,
    as_json: bool,
) -> None:
    """Figure 5: how features and the class move when images are moved, scaled, turned or lit otherwise.

    Writes to --out invariance.png, invariance.csv (all distances and probabilities) and invariance.json (for each
    transformation and layer one number: 1 minus the mean distance, in units of that between two images; by class too).
    """
    import torch

    from zfkernels.analysis.invariance import invariance as measure
    from zfkernels.cli.images import known_classes, load_images
    from zfkernels.cli.tables import left_out, write_csv, write_json
    from zfkernels.network.network import trace_model
    from zfkernels.output import staged
    from zfkernels.results.result import plural
    from zfkernels.viz import invariance_figure

    files = options.in_format(FILES)
    options.check_out("invariance", out, files, data)
    network, preprocess = options.load_model(model, weights, device)
    loaded = load_images("invariance", data, limit, preprocess, device)
    if len(loaded.keys) < 2:
        raise ValueError("invariance: expected at least two images, whose distance is the unit of all others, got one")
    names = layers.split(",") if layers else ends(trace_model(network, (preprocess.size, preprocess.size)))
    targets = (
        None if classes == "model" else known_classes("invariance", model, options.class_names(network), loaded.labels)
    )
    mean, std = torch.tensor(preprocess.mean), torch.tensor(preprocess.std)
    black, white = -mean / std, (1 - mean) / std
    with options.use_backend(backend):
        results = [
            measure(network, loaded.images, transform, layers=names, targets=targets, batch_size=batch_size,
                    progress=not as_json, black=black, white=white)
            for transform in transforms.split(",")
        ]  # fmt: skip
    for result in results:
        for layer, distance in zip(result.layers, result.reference.tolist(), strict=True):
            if not distance > 0:
                raise ValueError(
                    f"invariance: expected images that differ in {layer}, whose distance is the unit of all others, "
                    f"got a distance of {distance:g} between them"
                )
    strips = {result.transform: _strip(result, loaded, preprocess, black, white) for result in results}
    record = _record(model, options.class_names(network), loaded, results)
    with staged(out, files, "invariance") as folder:
        captions = [Path(key).stem for key in loaded.keys]
        title = f"{model}, {plural(len(loaded.keys), 'image')} of {loaded.source}"
        figure = invariance_figure(results, strips, captions, class_names=options.class_names(network), title=title)
        figure.savefig(folder / files[0], dpi=130)
        write_csv(folder / files[1], COLUMNS, _rows(results, loaded.keys))
        write_json(folder / files[2], record)
    text = [f"{plural(len(loaded.keys), 'image')}; 1: does not notice, 0: as far as another image"]
    text += [
        f"{entry['transform']}: " + ", ".join(f"{layer} {value:.2f}" for layer, value in entry["invariance"].items())
        + f"; {entry['probability_kept']:.0%} of the probability kept"
        for entry in record["results"]
    ]  # fmt: skip
    options.report(
        {"out": str(out), **record}, "\n".join([*text, *left_out(loaded.skipped), f"look at {out / files[0]}"]), as_json
    )


def ends(network: Any) -> list[str]:
    """The first rectifier, and the last layer before the classes that is one: the paper's layers 1 and 7."""
    rectifiers = [info.name for info in network.layer_info() if info.is_rectifier]
    if len(rectifiers) < 2:
        raise ValueError("invariance: expected a model with two rectifiers or more, or --layers, got neither")
    return [rectifiers[0], rectifiers[-1]]


def _strip(result: Invariance, loaded: Loaded, preprocess: Preprocess, black: Tensor, white: Tensor) -> Tensor:
    """Pictures of the first images under a few amounts, uint8 [images, STRIP, 3, H, W]."""
    import torch

    from zfkernels.analysis.invariance import transform_images
    from zfkernels.viz.invariance import SHOWN, STRIP

    images = loaded.images[:SHOWN].cpu()
    chosen = torch.linspace(0, len(result.amounts) - 1, STRIP).round().long()
    changed = [
        transform_images(images, result.transform, float(result.amounts[n]), black=black, white=white) for n in chosen
    ]
    return preprocess.to_pixels(torch.stack(changed, 1))


def _rows(results: list[Invariance], keys: list[str]) -> Any:
    for result in results:
        relative = result.relative
        for t, amount in enumerate(result.amounts.tolist()):
            for n, key in enumerate(keys):
                for k, layer in enumerate(result.layers):
                    yield (
                        result.transform, amount, key, int(result.targets[n]), layer, float(result.distance[t, k, n]),
                        float(relative[t, k, n]), float(result.probability[t, n]),
                    )  # fmt: skip


def _record(model: str, names: Sequence[str], loaded: Loaded, results: list[Invariance]) -> dict[str, Any]:
    entries = []
    for result in results:
        layers = result.layers
        by_class = {
            names[n] if n < len(names) else f"class {n}": dict(zip(layers, values.tolist(), strict=True))
            for n, values in result.by_class().items()
        }
        entries.append({
            "transform": result.transform,
            "amounts": result.amounts.tolist(),
            "invariance": dict(zip(layers, result.stability.mean(1).tolist(), strict=True)),
            "distance_between_images": dict(zip(layers, result.reference.tolist(), strict=True)),
            "mean_relative": {layer: result.relative[:, n].mean(1).tolist() for n, layer in enumerate(layers)},
            "mean_probability": result.probability.mean(1).tolist(),
            "probability_kept": float(result.kept.mean()),
            "by_class": by_class,
        })  # fmt: skip
    return {
        "model": model, "data": loaded.source, "images": len(loaded.keys), "results": entries,
        "skipped": loaded.skipped,
    }  # fmt: skip
