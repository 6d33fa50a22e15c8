"""Lightning callbacks: filter renormalisation, the weights at chosen epochs, the learning curve."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import nn

from zfkernels.models import renormalize_filters_
from zfkernels.output import replacing
from zfkernels.training.export import save_weights


class RenormalizeFilters(pl.Callback):
    """Renormalises the convolution filters after every step of any Lightning training.

    Args:
        max_rms: The largest root mean square that a filter may keep.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 3.
    """

    def __init__(self, max_rms: float = 0.1) -> None:
        self.max_rms = max_rms

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        renormalize_filters_(pl_module, self.max_rms)


class EpochWeights(pl.Callback):
    """Saves a network's float32 weights as ``epoch-NNN.safetensors`` at chosen epochs, to look at its evolution.

    Args:
        model: The network inside the Lightning module.
        folder: Where to write, created if missing.
        epochs: Epochs to keep, counted from 1; 0 is the network before training.
    """

    def __init__(self, model: nn.Module, folder: str | Path, epochs: Iterable[int]) -> None:
        self.model, self.folder, self.epochs = model, Path(folder), frozenset(epochs)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 0:
            self._save(trainer, 0)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer, trainer.current_epoch + 1)

    def _save(self, trainer: pl.Trainer, epoch: int) -> None:
        if epoch in self.epochs and trainer.is_global_zero:
            save_weights(self.model, self.folder / f"epoch-{epoch:03d}.safetensors", dtype=torch.float32)


class LearningCurve(pl.Callback):
    """Writes one line per epoch to a CSV file: learning rate, losses, accuracies, seconds.

    The lines are part of the checkpoint, so that a resumed run goes on with the curve where its weights are.

    Args:
        path: The CSV file.
    """

    COLUMNS = ("epoch", "learning_rate", "train_loss", "val_loss", "val_top1", "val_top5", "seconds")

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.rows: list[list[float]] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = time.monotonic()
        self._learning_rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        measured = [round(float(trainer.callback_metrics[name]), 5) for name in self.COLUMNS[2:6]]
        seconds = round(time.monotonic() - self._started, 1)
        self.rows.append([trainer.current_epoch + 1, round(self._learning_rate, 7), *measured, seconds])
        if trainer.is_global_zero:
            with replacing(self.path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([self.COLUMNS, *self.rows])

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = state_dict["rows"]
