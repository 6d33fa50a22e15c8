"""zfkernels evolve"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from zfkernels.cli import options

FILES = ("evolution.png", "convergence.png", "evolution.csv", "evolution.json")
COLUMNS = ("layer", "map", "epoch", "image", "value", "row", "column", "jump", "similarity", "similarity_same_image")


@click.command()
@click.option("--run", required=True, type=click.Path(path_type=Path), help="Folder of a training: --out of train.")
@click.option("--model", default="zfnet64", help="What was trained.")
@click.option("--data", required=True, help="What it was trained on: folder or archive with <split>/<class>/<image>.")
@click.option("--layers", help="Names, separated by commas; the rectifiers with maps if not given.")
@click.option("--maps", type=click.IntRange(min=1), default=6, help="Random maps of each layer to show.")
@click.option("--follow", type=click.IntRange(min=1), default=32, help="Random maps of each layer in the curves.")
@click.option("--epochs", type=options.Numbers(), help="Of those that were kept; all if not given.")
@click.option("--seed", type=int, default=0, help="Of the choice of maps.")
@click.option("--cache", type=click.Path(path_type=Path), help="Folder for a decoded copy of the images.")
@options.out_option
@options.format_option
@options.batch_size_option
@options.json_option
def evolve(
    run: Path,
    model: str,
    data: str,
    layers: str | None,
    maps: int,
    follow: int,
    epochs: tuple[int, ...] | None,
    seed: int,
    cache: Path | None,
    out: Path,
    batch_size: int,
    as_json: bool,
) -> None:
    """Figure 4: the strongest activation of random maps over the training set, epoch by epoch, projected.

    Reads the weights that train kept. Writes to --out evolution.png (maps below each other, epochs beside each other;
    a bar where another image became the strongest), convergence.png, evolution.csv and evolution.json.
    """
    from zfkernels.analysis.evolution import evolution, pick_maps
    from zfkernels.cli.tables import write_csv, write_json
    from zfkernels.data import open_source
    from zfkernels.deconvnet import DeconvNet
    from zfkernels.gallery.layers import default_layers
    from zfkernels.models import get_model
    from zfkernels.output import staged
    from zfkernels.results.evolution import SETTLED
    from zfkernels.results.result import plural
    from zfkernels.training.evolution import TrainingImages
    from zfkernels.viz import convergence_figure, evolution_sheet, save_sheet
    from zfkernels.viz.evolution import some_maps

    files = options.in_format(FILES)
    options.check_out("evolve", out, files, data)
    kept = snapshots(run, epochs)
    networks = [(epoch, get_model(model, path)) for epoch, path in kept]
    source = open_source(data)
    images = TrainingImages.of_run(run, source, networks[0][1], cache=cache, progress=not as_json)
    net = DeconvNet(networks[-1][1])
    names = layers.split(",") if layers else default_layers(net.network_at(images.size))
    chosen = pick_maps(net, names, max(maps, follow), image_size=images.size, seed=seed)
    result = evolution(networks, images, chosen, batch_size=batch_size, progress=not as_json)
    settled, changes = result.settled_from(), result.last_changes()
    record = {
        "run": run.resolve().name, "epochs": result.epochs.tolist(), "images": len(images), "seed": seed,
        "settled": SETTLED,
        "layers": {
            layer.layer: {
                "maps": layer.maps.tolist(),
                "convergence": layer.convergence.tolist(),
                "similarity": layer.similarity.nan_to_num(0).mean(1).tolist(),
                "settled_from_epoch": settled[layer.layer],
                "share_of_jumps": layer.jumps.double().mean(1).tolist(),
                "last_change_of_strongest_image": changes[layer.layer].tolist(),
                "dead": (layer.image < 0).sum(1).tolist(),
            }
            for layer in result.layers
        },
    }  # fmt: skip
    title = f"{model}, trained on {plural(len(images), 'image')} of {source.name}"
    with staged(out, files, "evolve") as folder:
        save_sheet(evolution_sheet(some_maps(result, maps), title=title), folder / files[0])
        convergence_figure(result, title=title).savefig(folder / files[1], dpi=130)
        write_csv(folder / files[2], COLUMNS, _rows(result))
        write_json(folder / files[3], record)
    text = [f"{plural(len(images), 'image')}, epochs {', '.join(str(epoch) for epoch in result.epochs.tolist())}"]
    text += [
        f"{name}: mean cosine with the end {SETTLED} or more from epoch {epoch}; the strongest image of half of the "
        f"maps changes last at epoch {int(changes[name].median())} or before"
        for name, epoch in settled.items()
        if epoch is not None
    ]
    options.report({"out": str(out), **record}, "\n".join([*text, f"look at {out / files[0]}"]), as_json)


def snapshots(run: Path, epochs: tuple[int, ...] | None) -> list[tuple[int, Path]]:
    """The weights that a training kept, by epoch.

    Raises:
        FileNotFoundError: There are none, or none of an epoch that is asked for.
    """
    found = {}
    for path in (run / "evolution").glob("epoch-*.safetensors"):
        match = re.fullmatch(r"epoch-(\d+)\.safetensors", path.name)
        if match:
            found[int(match[1])] = path
    if not found:
        raise FileNotFoundError(f"evolve: expected run a folder with evolution/epoch-NNN.safetensors, got {run}")
    for epoch in epochs or ():
        if epoch not in found:
            raise FileNotFoundError(f"evolve: expected epochs of {sorted(found)}, got {epoch}")
    return sorted((epoch, path) for epoch, path in found.items() if epochs is None or epoch in epochs)


def _rows(result: Any) -> Any:
    for layer in result.layers:
        for e, epoch in enumerate(result.epochs.tolist()):
            for m, number in enumerate(layer.maps.tolist()):
                row, column = layer.position[e, m].tolist()
                yield (
                    layer.layer, number, epoch, int(layer.image[e, m]), float(layer.value[e, m]), row, column,
                    int(layer.jumps[e, m]), float(layer.similarity[e, m]), float(layer.fixed[e, m]),
                )  # fmt: skip
