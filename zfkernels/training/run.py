"""One training run from a data set to weights."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import reprlib
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, Timer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info
from torch import nn

from zfkernels.data import ImageSource
from zfkernels.output import check_out, claim, local_paths, write_json
from zfkernels.training.callbacks import EpochWeights, LearningCurve, RenormalizeFilters
from zfkernels.training.data import ImageClasses
from zfkernels.training.evolution import EVOLUTION_EPOCHS
from zfkernels.training.export import save_weights
from zfkernels.training.module import Classifier, Diverged
from zfkernels.training.recipe import Recipe, default_recipe, input_size_of

# What a run writes to from its first epoch to its last.
WRITTEN = (
    "checkpoints", "evolution", "tensorboard", "weights.safetensors", "learning_curve.csv", "summary.json", "run.json",
)  # fmt: skip
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
PRECISIONS = {"bf16-mixed": "computes in bfloat16", "32-true": "has no instructions for bfloat16"}


def train(
    model: nn.Module,
    data: str | Path | ImageSource,
    out: str | Path,
    *,
    recipe: Recipe | None = None,
    cache: str | Path | None = None,
    workers: int = 0,
    seed: int = 0,
    precision: Precision | None = None,
    devices: int | str = "auto",
    nodes: int = 1,
    max_minutes: float | None = None,
    keep_epochs: tuple[int, ...] = EVOLUTION_EPOCHS,
    limit_classes: int | None = None,
    limit_per_class: int | None = None,
    callbacks: Sequence[pl.Callback] = (),
    resume: bool = True,
    progress: bool = True,
) -> dict[str, float]:
    """Trains a network on the ``train`` split of a data set and measures it on ``val`` after each epoch.

    Writes into ``out``: ``checkpoints/last.ckpt`` and ``best.ckpt``, ``evolution/epoch-NNN.safetensors``,
    ``weights.safetensors`` (float32), ``run.json``, ``summary.json``, ``learning_curve.csv`` and TensorBoard events.

    Args:
        model: A network with an ``input_size``, such as ``zfkernels.models.zfnet()``; trained in place.
        data: A folder or zip archive laid out as ``<split>/<class>/<image>`` with splits ``train`` and ``val``.
        out: Folder of the run, created if missing.
        recipe: None: ``PAPER`` for a network for 224x224 images and more, ``SMALL`` for a smaller one.
        cache: Folder for a decoded copy of the images; for data sets that are small enough, it saves most of the
            loading time.
        workers: Processes that load batches.
        seed: Determines the order of images, crops and dropout.
        precision: As Lightning's; None: bfloat16 autocast where the device computes in it, otherwise float32.
        devices, nodes: As Lightning's; several devices train with DistributedDataParallel.
        max_minutes: The run ends after this time even if epochs are left; a ``"cosine"`` learning rate is at 0 by then.
            A run under a limit cannot be repeated exactly.
        keep_epochs: Epochs whose weights are kept for a figure of their evolution.
        limit_classes, limit_per_class: Train on so many of the classes (evenly spaced), and on so many images of each
            (the first); validate on the same classes.
        callbacks: Further callbacks of Lightning's, such as ``FeatureEvolution``.
        resume: Whether to go on from ``checkpoints/last.ckpt`` where ``out`` has one. Seed, limits, names of classes,
            numbers of images and recipe must then be those of that run; the epochs may differ.
        progress: Whether to show progress bars.

    Returns:
        The last line of the learning curve: ``{"epoch", "learning_rate", "train_loss", "val_loss", "val_top1",
        "val_top5", "seconds"}``, accuracies in [0, 1].

    Raises:
        FileNotFoundError: ``data`` does not exist.
        ValueError: It has no images in a split, one class only, or different classes in its splits; fewer training
            images than a batch; ``out`` lies in or around the data, or holds something under the name of a result
            that this package did not write; or the run that it holds has another seed, recipe, or other classes.
        Diverged: The loss became infinite or NaN; the last good checkpoint is kept.
    """
    out = check_out("train", out, local_paths(data))
    recipe = recipe or default_recipe(model)
    images = ImageClasses(
        data, recipe, input_size=input_size_of(model), cache=cache, workers=workers, seed=seed,
        limit_classes=limit_classes, limit_per_class=limit_per_class, progress=progress,
    )  # fmt: skip
    if recipe.batch_size > len(images.train_images):
        raise ValueError(
            f"train: expected batch_size of at most the {len(images.train_images)} training images, got "
            f"{recipe.batch_size}"
        )
    checkpoints = out / "checkpoints"
    curve = LearningCurve(out / "learning_curve.csv")
    used: list[pl.Callback] = [
        EpochWeights(model, out / "evolution", keep_epochs),
        curve,
        ModelCheckpoint(
            checkpoints,
            "best",
            monitor="val_top1",
            mode="max",
            save_last=True,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        ),
        *callbacks,
    ]
    if recipe.max_rms is not None:
        used.insert(0, RenormalizeFilters(recipe.max_rms))
    clock = None
    if max_minutes is not None:
        timer = Timer(timedelta(minutes=max_minutes))
        used.append(timer)
        clock = lambda: timer.time_elapsed() / (60 * max_minutes)  # noqa: E731
    if precision is None:
        precision = "bf16-mixed" if computes_in_bfloat16() else "32-true"
        rank_zero_info(f"train: precision {precision}, as the device {PRECISIONS[precision]}")
    trainer = pl.Trainer(
        max_epochs=recipe.epochs,
        precision=precision,
        devices=devices,
        num_nodes=nodes,
        callbacks=used,
        logger=TensorBoardLogger(out, name="", version="tensorboard"),
        num_sanity_val_steps=0,
        enable_progress_bar=progress,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    record = {
        "seed": seed,
        "precision": precision,
        "recipe": dataclasses.asdict(recipe),
        "limit_classes": limit_classes,
        "limit_per_class": limit_per_class,
        "classes": images.classes,
        "train_images": len(images.train_images),
        "val_images": len(images.val_images),
    }
    last = checkpoints / "last.ckpt"
    goes_on = resume and last.exists()
    if goes_on:
        _refuse_another_run(out / "run.json", record)
    if trainer.is_global_zero:
        claim(out, WRITTEN, "train", known=_is_record(out / "run.json"))
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "run.json", record)
    model = model.to(memory_format=torch.channels_last)
    classifier = Classifier(model, recipe, classes=len(images.classes), clock=clock, seed=seed)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Lightning's bar; stdout is for results
            trainer.fit(classifier, datamodule=images, ckpt_path=last if goes_on else None, weights_only=True)
    except SystemExit:
        if not trainer.interrupted:
            raise
        raise KeyboardInterrupt from None  # what Lightning made an exit of
    except Diverged as error:
        kept = f"the last good checkpoint is {last}" if last.exists() else "there is no checkpoint yet"
        raise Diverged(f"{error}; {kept}") from None
    summary = dict(zip(curve.COLUMNS, curve.rows[-1], strict=True))
    if trainer.is_global_zero:
        save_weights(model, out / "weights.safetensors", dtype=torch.float32)
        write_json(out / "summary.json", {**record, **summary})
    return summary


def _refuse_another_run(path: Path, record: dict[str, Any]) -> None:
    """Refuses to go on from the checkpoint of a run that differs in more than its epochs and its precision."""
    if not _is_record(path):
        return
    now = json.loads(json.dumps(record))
    before = json.loads(path.read_text(encoding="utf-8"))
    for old, new in ((before, now), (before["recipe"], now["recipe"])):
        for name in new:
            if name in old and name not in ("recipe", "epochs", "precision") and old[name] != new[name]:
                raise ValueError(
                    f"train: expected {name} of the run that {path.parent} holds, {reprlib.repr(old[name])}, got "
                    f"{reprlib.repr(new[name])}; resume=False (--fresh) starts anew"
                )


def _is_record(path: Path) -> bool:
    """Whether a file is the record of a training, which this package wrote."""
    try:
        return {"recipe", "train_images", "val_images"} <= json.loads(path.read_text(encoding="utf-8")).keys()
    except (OSError, ValueError, AttributeError):
        return False


def computes_in_bfloat16() -> bool:
    """Whether the device that Lightning would pick has instructions for bfloat16."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))
