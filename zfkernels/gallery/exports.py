"""A gallery in the tools where people keep their runs and data sets: Weights & Biases, MLflow, FiftyOne."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch

from zfkernels._extras import require
from zfkernels.gallery.page import image_path
from zfkernels.gallery.reader import Gallery
from zfkernels.gallery.workplace import ENTRIES

EXTRA = "exports"


def to_wandb(gallery: Gallery, run: Any = None, *, name: str = "gallery", maps: int = 8) -> Any:
    """Logs a sheet of each layer, and the whole gallery as an artifact, to a run of Weights & Biases.

    Args:
        gallery: What to log.
        run: The run; None takes the one that was started last in this process.
        name: Of the artifact.
        maps: Maps of a layer on a sheet: ``Gallery.first_maps``.

    Returns:
        The artifact.

    Raises:
        ImportError: wandb is missing.
        ValueError: There is no run.
    """
    wandb = require("wandb", EXTRA)
    run = wandb.run if run is None else run
    if run is None:
        raise ValueError("to_wandb: expected run a run of wandb's, got None, and none was started")
    artifact = wandb.Artifact(name, type="gallery", metadata={"title": gallery.info["title"], "layers": gallery.layers})
    for entry in ENTRIES:
        add = artifact.add_dir if (gallery.path / entry).is_dir() else artifact.add_file
        add(str(gallery.path / entry), name=entry)
    for layer, sheet in _sheets(gallery, maps):
        run.log({f"{name}/{layer}": wandb.Image(sheet)})
    run.log_artifact(artifact)
    return artifact


def to_mlflow(gallery: Gallery, *, name: str = "gallery", maps: int = 8) -> None:
    """Logs a sheet of each layer, and the whole gallery, as artifacts of MLflow's current run.

    Args:
        gallery: What to log.
        name: Of the folder among the artifacts.
        maps: Maps of a layer on a sheet: ``Gallery.first_maps``.

    Raises:
        ImportError: mlflow is missing.
    """
    mlflow = require("mlflow", EXTRA)
    for entry in ENTRIES:
        if (gallery.path / entry).is_dir():
            mlflow.log_artifacts(str(gallery.path / entry), f"{name}/{entry}")
        else:
            mlflow.log_artifact(str(gallery.path / entry), name)
    for layer, sheet in _sheets(gallery, maps):
        mlflow.log_image(sheet, f"{name}/sheets/{_field(layer)}.png")


def to_fiftyone(gallery: Gallery, name: str) -> Any:
    """A data set of FiftyOne's with the winning images, and what each map saw in them.

    Each layer is a field of detections: the parts of the image that its maps answered to, labelled ``map N``, with
    ``rank`` and ``activation``. A second field, with ``_heat`` in its name, is a heat map: the whole map that answers
    most to the image, from 0 (nothing) to 255.

    Args:
        gallery: What to show.
        name: Of the data set.

    Raises:
        ImportError: fiftyone is missing.
    """
    fiftyone = require("fiftyone", EXTRA)
    height, width = gallery.info["image_size"]
    samples: dict[int, Any] = {}
    for layer in gallery.layers:
        rows = [row for channel in gallery.maps(layer) for row in gallery.winners(layer, channel)]
        by_image: dict[int, list[dict[str, Any]]] = {}
        for row in rows:
            by_image.setdefault(row["image_id"], []).append(row)
        for image_id, found in by_image.items():
            if image_id not in samples:
                path = str(gallery.path / image_path(image_id))
                samples[image_id] = fiftyone.Sample(filepath=path, key=found[0]["image"], label=found[0]["label"])
            boxes = [
                fiftyone.Detection(
                    label=f"map {row['channel']}",
                    bounding_box=[row["left"] / width, row["top"] / height,
                                  (row["right"] - row["left"]) / width, (row["bottom"] - row["top"]) / height],
                    rank=row["rank"],
                    activation=row["value"],
                )
                for row in found
            ]  # fmt: skip
            samples[image_id][_field(layer)] = fiftyone.Detections(detections=boxes)
            most = max(found, key=lambda row: row["value"])
            heat = gallery.activations(layer, most["channel"])[most["rank"]].to(torch.float32).mean(0)
            samples[image_id][f"{_field(layer)}_heat"] = fiftyone.Heatmap(map=heat.numpy(), range=[0, 255])
    dataset = fiftyone.Dataset(name)
    dataset.add_samples([samples[image_id] for image_id in sorted(samples)])
    return dataset


def _sheets(gallery: Gallery, maps: int) -> Iterator[tuple[str, Any]]:
    for layer in gallery.layers:
        if chosen := gallery.first_maps(layer, maps):
            yield layer, gallery.figure({layer: chosen})


def _field(layer: str) -> str:
    """The name of a layer as that of a field or a file, which begins with a letter."""
    name = re.sub(r"\W", "_", layer)
    return name if name[:1].isalpha() else f"layer_{name}"
