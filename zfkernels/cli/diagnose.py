"""zfkernels diagnose"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zfkernels.cli import options

if TYPE_CHECKING:
    from zfkernels.results import Diagnosis

NOISE = 0.1  # share of the power that filters must have moved between bands to differ from white noise
FILES = ("diagnosis.png", "diagnosis.csv", "diagnosis.json")
COLUMNS = (
    "network", "layer", "map", "rms", "images_in_which_active", "strength", "dead", "dominating", "low", "middle",
    "high", "aliased",
)  # fmt: skip


@click.command()
@options.model_options(default="zfnet64")
@click.option("--against", help="A second network, as --model; the same as --model if only --against-weights is given.")
@click.option("--against-weights", help="Its weights, as --weights.")
@options.data_option
@click.option("--limit", type=click.IntRange(min=1), default=500, help="Use so many of the images, evenly spaced.")
@click.option("--names", help="What to call the networks, separated by a comma.")
@options.out_option
@options.format_option
@options.batch_size_option
@options.json_option
def diagnose(
    model: str,
    weights: str,
    device: str,
    backend: str | None,
    against: str | None,
    against_weights: str | None,
    data: str,
    limit: int,
    names: str | None,
    out: Path,
    batch_size: int,
    as_json: bool,
) -> None:
    """Figure 6: what the filters of one network, or of two, tell about it.

    Dead and dominating filters, the frequencies of the first layer's filters, what its stride aliases, near
    duplicates; a verdict in words with the numbers behind it. Writes to --out diagnosis.png, diagnosis.csv and
    diagnosis.json.
    """
    from zfkernels.analysis.diagnosis import diagnose as measure
    from zfkernels.cli.images import load_images
    from zfkernels.cli.tables import left_out, write_csv, write_json
    from zfkernels.output import staged
    from zfkernels.results.result import plural
    from zfkernels.viz import diagnosis_figure

    files = options.in_format(FILES)
    options.check_out("diagnose", out, files, data)
    networks = [(model, weights)]
    if against is not None or against_weights is not None:
        networks.append((against or model, against_weights or "DEFAULT"))
    titles = names.split(",") if names else _titles(networks)
    if len(titles) != len(networks) or len(set(titles)) < len(titles):
        raise click.BadParameter(f"expected {len(networks)} different names, got {titles}", param_hint="--names")
    results: dict[str, Diagnosis] = {}
    with options.use_backend(backend):
        for title, (name, file) in zip(titles, networks, strict=True):
            network, preprocess = options.load_model(name, file, device)
            loaded = load_images("diagnose", data, limit, preprocess, device)
            results[title] = measure(network, loaded.images, batch_size=batch_size, progress=not as_json)
    verdicts = {title: verdict(result) for title, result in results.items()}
    record = {
        "data": loaded.source,
        "images": len(loaded.keys),
        "skipped": loaded.skipped,
        "networks": {title: {**numbers(results[title]), "verdict": verdicts[title]} for title in titles},
    }
    with staged(out, files, "diagnose") as folder:
        title = f"{plural(len(loaded.keys), 'image')} of {loaded.source}"
        diagnosis_figure(results, title=title).savefig(folder / files[0], dpi=110)
        write_csv(folder / files[1], COLUMNS, (row for title in titles for row in _rows(title, results[title])))
        write_json(folder / files[2], record)
    text = [f"{plural(len(loaded.keys), 'image')} of {loaded.source}; dead: never active in any of them"]
    text += [f"{title}: {' '.join(verdicts[title])}" for title in titles]
    options.report(
        {"out": str(out), **record}, "\n".join([*text, *left_out(loaded.skipped), f"look at {out / files[0]}"]), as_json
    )


def _titles(networks: list[tuple[str, str]]) -> list[str]:
    names = [name for name, _ in networks]
    return names if len(set(names)) == len(names) else [f"{name} ({Path(file).stem})" for name, file in networks]


def numbers(result: Diagnosis) -> dict[str, Any]:
    """What a diagnosis says, for programs."""
    prevailing = result.prevailing.bincount(minlength=3).tolist()
    bands = ("low", "middle", "high")
    return {
        "filters": list(result.filters.shape),
        "stride": list(result.stride),
        "power_by_band": dict(zip(bands, result.power_by_band.tolist(), strict=True)),
        "power_of_white_noise": dict(zip(bands, result.flat.tolist(), strict=True)),
        "filters_by_prevailing_band": dict(zip(bands, prevailing, strict=True)),
        "aliased_share": float(result.aliased.mean()),
        "shift_variation_of_layer_2": float(result.shift_variation.nanmedian()) if result.second else None,
        "layers": [
            {
                "layer": layer.layer,
                "maps": len(layer.rms),
                "dead": layer.dead.nonzero().flatten().tolist(),
                "dominating": layer.dominating.nonzero().flatten().tolist(),
                "largest_rms": float(layer.rms.max()),
                "median_rms": float(layer.rms.median()),
                "strength_of_the_strongest_tenth": layer.concentration,
                "near_duplicates": layer.duplicates.tolist(),
            }
            for layer in result.layers
        ],
    }


def verdict(result: Diagnosis) -> list[str]:
    """Sentences, each with its numbers. The thresholds are those of ``FilterDiagnosis`` and those named here."""
    found = numbers(result)
    first, count = result.layers[0], len(result.layers[0].rms)
    sentences = []
    dead = [f"{len(row['dead'])} of {row['maps']} in {row['layer']}" for row in found["layers"] if row["dead"]]
    sentences.append(f"Dead filters: {', '.join(dead)}." if dead else "No dead filter in any layer.")
    ratio = float(first.rms.max() / first.rms.median())
    count_dominating = int(first.dominating.sum())
    sentences.append(
        f"First layer: largest RMS {float(first.rms.max()):.3f}, {ratio:.1f} times the median"
        + (f"; {count_dominating} of {count} dominate." if count_dominating else "; none dominates.")
    )
    low, middle, high = result.power_by_band.tolist()
    bands = result.prevailing.bincount(minlength=3).tolist()
    if float((result.power_by_band - result.flat).abs().sum()) / 2 < NOISE:
        missing = "close to white noise, as before training"
    else:
        missing = "few middle frequencies" if bands[1] < count / 6 else "middle frequencies are covered"
    sentences.append(
        f"Power {low:.0%} low, {middle:.0%} middle, {high:.0%} high; {bands[0]}, {bands[1]} and {bands[2]} filters "
        f"stand out there: {missing}."
    )
    aliased = float(result.aliased.mean())
    judged = "strong" if aliased > 0.25 else "moderate" if aliased > 0.1 else "weak"
    sentences.append(f"The stride of {result.stride[0]} aliases {aliased:.0%} of the first layer's power: {judged}.")
    if result.second:
        sentences.append(
            f"Shifts below its step change the mean of a map of {result.second} by "
            f"{float(result.shift_variation.nanmedian()):.1%} (median)."
        )
    pairs = [f"{len(row['near_duplicates'])} in {row['layer']}" for row in found["layers"] if row["near_duplicates"]]
    sentences.append(f"Near-duplicate pairs: {', '.join(pairs)}." if pairs else "No near-duplicate filters.")
    return sentences


def _rows(title: str, result: Diagnosis) -> Any:
    for n, layer in enumerate(result.layers):
        for k in range(len(layer.rms)):
            spectrum = [*result.bands[k].tolist(), float(result.aliased[k])] if n == 0 else [""] * 4
            yield (
                title, layer.layer, k, float(layer.rms[k]), float(layer.active[k]), float(layer.strength[k]),
                int(layer.dead[k]), int(layer.dominating[k]), *spectrum,
            )  # fmt: skip
