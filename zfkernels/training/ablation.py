"""Table 3 at small scale: the same training for networks that lack layers, or have narrower or wider ones."""

from __future__ import annotations

import csv
import dataclasses
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from zfkernels.data import ImageSource, open_source
from zfkernels.models import inference_form
from zfkernels.output import check_out, claim, local_paths, replacing, write_json
from zfkernels.training.evaluation import evaluate
from zfkernels.training.networks import Variant
from zfkernels.training.recipe import SMALL, Recipe
from zfkernels.training.run import train

WIDE = (48, 96, 299, 597, 320)  # layers 3, 4, 5 grown as 384, 384, 256 grow to 512, 1024, 512
VARIANTS = {
    "base": Variant("zfnet64", paper=(33.1, 38.4, 16.5)),
    "no-3-4": Variant("without layers 3, 4", maps=(48, 96, 160), paper=(41.8, 45.4, 22.1)),
    "no-7": Variant("without layer 7", units=(384,), paper=(27.4, 40.0, 18.4)),
    "no-6-7": Variant("without layers 6, 7", units=(), paper=(27.4, 44.8, 22.4)),
    "no-3-4-6-7": Variant("without layers 3, 4, 6, 7", maps=(48, 96, 160), units=(), paper=(71.1, 71.3, 50.1)),
    "half-units": Variant("half the units in 6, 7", units=(192, 192), paper=(38.2, 40.2, 17.6)),
    "double-units": Variant("twice the units in 6, 7", units=(768, 768), paper=(22.0, 38.8, 17.0)),
    "wide-maps": Variant("512-1024-512 in 3, 4, 5", maps=WIDE, paper=(18.8, 37.5, 16.0)),
    "wide-both": Variant("512-1024-512, twice the units", maps=WIDE, units=(768, 768), paper=(10.0, 38.3, 16.9)),
    "first-7x7-2": Variant("first filters 7x7/2, second stride 2", strides=(2, 2), paper=(33.1, 38.4, 16.5)),
    "first-11x11-4": Variant(
        "first filters 11x11/4, second stride 1", first_filter=11, strides=(4, 1), paper=(35.1, 40.5, 18.1)
    ),
}
"""The rows. The paper removes layers from its replica of Krizhevsky's network and changes widths in its own, so that
the rows without layers compare with 35.1/40.5/18.1. The two last rows are the two first layers trained alike.

Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 5.1, table 3; the last rows, table 2 and section 4.1.
"""
TABLES = ("ablation.json", "ablation.csv")
MEASURED = ("train_error", "val_error", "val_top5_error")
COLUMNS = (
    "variant", "title", "parameters", "seeds",
    *(f"{name}_{part}" for name in MEASURED for part in ("mean", "std")), "gap_mean", *(f"paper_{n}" for n in MEASURED),
)  # fmt: skip


def ablate(
    data: str | Path | ImageSource,
    out: str | Path,
    *,
    variants: Sequence[str] = tuple(VARIANTS),
    seeds: Sequence[int] = (0,),
    scale: float = 1.0,
    recipe: Recipe = SMALL,
    limit_classes: int | None = None,
    limit_per_class: int | None = None,
    cache: str | Path | None = None,
    workers: int = 0,
    devices: int | str = "auto",
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Trains every variant with every seed and tabulates the errors.

    A run that is finished is not repeated and one that was broken off goes on, so that the same call resumes the
    series. All variants are trained with the first seed, then all with the next. Writes ``ablation.csv`` and
    ``ablation.json`` after each run, and each run's files into ``<variant>/seed-<n>/``.

    Args:
        data: As of ``train``.
        out: Folder of the series.
        variants: Names of ``VARIANTS``.
        seeds: Of weights, order, crops and dropout.
        scale: Multiplies the maps and units of all variants: smaller networks, trained sooner.
        recipe: The same for all.
        limit_classes, limit_per_class, cache, workers, devices, progress: As of ``train``.

    Returns:
        For each variant that has a finished run its mean and standard deviation over seeds (0 for one seed), errors in
        [0, 1] by centre crops: ``train_error`` on the training images in eval mode, ``val_error``, ``val_top5_error``;
        ``gap_mean`` is the validation error minus the training error.

    Raises:
        ValueError: No such variant, no seeds, or ``out`` has a series with other settings, lies in or around the data,
            or holds something under the name of a result that this package did not write.
        Diverged: As of ``train``.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), table 3.
    """
    unknown = [name for name in variants if name not in VARIANTS]
    if unknown:
        raise ValueError(f"ablate: expected variants of {', '.join(VARIANTS)}, got {unknown[0]!r}")
    if not variants or not seeds:
        raise ValueError(f"ablate: expected at least one variant and one seed, got {list(variants)} and {list(seeds)}")
    out, source = check_out("ablate", out, local_paths(data)), open_source(data)
    settings = {
        "data": source.name,
        "scale": scale,
        "recipe": dataclasses.asdict(recipe),
        "limit_classes": limit_classes,
        "limit_per_class": limit_per_class,
    }
    claim(out, (*variants, *TABLES), "ablate", known=_same_settings(out / TABLES[0], settings))
    limits: dict[str, Any] = {"limit_classes": limit_classes, "limit_per_class": limit_per_class}
    for seed in seeds:
        for name in variants:
            folder = out / name / f"seed-{seed}"
            if not (folder / "result.json").exists():
                result = _one(name, source, folder, seed, scale, recipe, limits, cache, workers, devices, progress)
                write_json(folder / "result.json", result)
            rows = _table(out)
            write_json(out / TABLES[0], {"settings": settings, "rows": rows})
            _write_csv(out / TABLES[1], rows)
    return _table(out)


def _one(
    name: str, source: ImageSource, folder: Path, seed: int, scale: float, recipe: Recipe, limits: dict[str, Any],
    cache: str | Path | None, workers: int, devices: int | str, progress: bool,
) -> dict[str, Any]:  # fmt: skip
    """Trains one network and measures it on both splits."""
    from zfkernels.training.images import LabelledImages

    classes = LabelledImages(source, "train", recipe.stored_size, classes=limits["limit_classes"]).classes
    torch.manual_seed(seed)
    network = VARIANTS[name].network(len(classes), scale)
    train(
        network, source, folder, recipe=recipe, cache=cache, workers=workers, seed=seed, devices=devices,
        keep_epochs=(), progress=progress, **limits,
    )  # fmt: skip
    plain = inference_form(network)
    errors = {}
    for split in ("train", "val"):
        found = evaluate(
            plain, source, split=split, recipe=recipe, cache=cache, progress=progress,
            limit_classes=limits["limit_classes"],
            limit_per_class=limits["limit_per_class"] if split == "train" else None,
        )  # fmt: skip
        errors[split] = (1 - found["top1"], 1 - found["top5"])
    return {
        "variant": name,
        "seed": seed,
        "parameters": sum(parameter.numel() for parameter in plain.parameters()),
        "train_error": errors["train"][0],
        "val_error": errors["val"][0],
        "val_top5_error": errors["val"][1],
    }


def _table(out: Path) -> list[dict[str, Any]]:
    rows = []
    for name, variant in VARIANTS.items():
        runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(out.glob(f"{name}/seed-*/result.json"))]
        if not runs:
            continue
        row: dict[str, Any] = {
            "variant": name,
            "title": variant.title,
            "parameters": runs[0]["parameters"],
            "seeds": [run["seed"] for run in runs],
        }
        for key in MEASURED:
            values = [run[key] for run in runs]
            row[f"{key}_mean"] = statistics.fmean(values)
            row[f"{key}_std"] = statistics.stdev(values) if len(values) > 1 else 0.0
        row["gap_mean"] = row["val_error_mean"] - row["train_error_mean"]
        for key, value in zip(MEASURED, variant.paper or (None,) * 3, strict=True):
            row[f"paper_{key}"] = None if value is None else round(value / 100, 4)
        rows.append(row)
    return rows


def _same_settings(path: Path, settings: dict[str, Any]) -> bool:
    """Whether there is a table of the same settings; runs of others do not belong into it."""
    if path.exists():
        known = json.loads(path.read_text(encoding="utf-8"))["settings"]
        current = json.loads(json.dumps(settings))
        for key, value in current.items():
            if known.get(key) != value:
                raise ValueError(
                    f"ablate: expected out a folder of a series with the same settings, got {path.parent} with "
                    f"{key} = {known.get(key)} instead of {value}"
                )
    return path.exists()


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with replacing(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows({**row, "seeds": " ".join(map(str, row["seeds"]))} for row in rows)
