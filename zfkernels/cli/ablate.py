"""zfkernels ablate"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zfkernels.cli import options
from zfkernels.cli.train import batch_option, cache_option, fitting, labelled_option

FIGURE = "ablation.png"


@click.command()
@labelled_option
@options.out_option
@options.format_option
@click.option("--variants", help="Rows of the table, separated by commas; all if not given (see --list).")
@click.option("--list", "as_list", is_flag=True, is_eager=True, expose_value=False, callback=lambda *a: _list(*a),
              help="List the variants and end.")  # fmt: skip
@click.option("--seeds", type=options.Numbers(), default="0", help="Of the runs of each variant.")
@click.option("--scale", type=click.FloatRange(min=0, min_open=True), default=1.0, help="Multiplies maps and units.")
@click.option("--epochs", type=click.IntRange(min=1), help="The recipe's if not given.")
@batch_option
@click.option("--classes", type=click.IntRange(min=2), help="Use so many of the classes, evenly spaced.")
@click.option("--per-class", type=click.IntRange(min=1), help="Train on so many images of each class, the first.")
@click.option("--devices", default="auto", help="As Lightning's: auto, or a number of devices.")
@cache_option
@click.option("--workers", type=click.IntRange(min=0), default=2, help="Processes that load batches.")
@options.json_option
def ablate(
    data: str,
    out: Path,
    variants: str | None,
    seeds: tuple[int, ...],
    scale: float,
    epochs: int | None,
    batch_size: int | None,
    classes: int | None,
    per_class: int | None,
    devices: str,
    cache: Path | None,
    workers: int,
    as_json: bool,
) -> None:
    """Table 3: trains networks that lack layers, or have other widths, all alike, and compares their errors.

    The same command goes on where it was broken off. Writes to --out ablation.csv and ablation.json after each run,
    and ablation.png at the end.
    """
    from zfkernels.data import open_source
    from zfkernels.output import staged
    from zfkernels.results.result import plural
    from zfkernels.training import SMALL
    from zfkernels.training.ablation import VARIANTS, ablate
    from zfkernels.viz import ablation_figure

    (figure,) = options.in_format((FIGURE,))
    options.check_out("ablate", out, (figure,), data)
    source = open_source(data)
    recipe = fitting(SMALL.with_budget(epochs, batch_size), batch_size, source, classes, per_class)
    rows = ablate(
        source, out, variants=variants.split(",") if variants else tuple(VARIANTS), seeds=seeds, scale=scale,
        recipe=recipe, limit_classes=classes, limit_per_class=per_class,
        cache=cache, workers=workers,
        devices=int(devices) if devices.isdecimal() else devices, progress=not as_json,
    )  # fmt: skip
    title = f"{source.name}, {plural(recipe.epochs, 'epoch')}, maps and units times {scale:g}"
    with staged(out, (figure,), "ablate") as folder:
        ablation_figure(rows, title=title).savefig(folder / figure, dpi=130)
    text = [f"{'error in %':32} {'train':>12} {'val':>12} {'val top-5':>12}  paper"]
    text += [_line(row) for row in rows]
    options.report({"out": str(out), "rows": rows}, "\n".join([*text, f"look at {out / figure}"]), as_json)


def _line(row: dict[str, Any]) -> str:
    def percent(name: str) -> str:
        return f"{100 * row[f'{name}_mean']:.1f}" + (
            f" ± {100 * row[f'{name}_std']:.1f}" if len(row["seeds"]) > 1 else ""
        )

    names = ("train_error", "val_error", "val_top5_error")
    paper = [row[f"paper_{name}"] for name in names]
    known = "" if None in paper else " / ".join(f"{100 * value:.1f}" for value in paper)
    return f"{row['title']:32} " + " ".join(f"{percent(name):>12}" for name in names) + f"  {known}"


def _list(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        from zfkernels.training.ablation import VARIANTS

        for name, variant in VARIANTS.items():
            click.echo(f"{name:14} {variant.title}")
        context.exit()
