"""The classifier that Lightning trains."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from zfkernels.training.recipe import Recipe


class Diverged(RuntimeError):
    """The loss of a training run is no longer finite."""


class Classifier(pl.LightningModule):
    """Cross-entropy training by stochastic gradient descent with momentum.

    Args:
        model: A network that takes [N, 3, H, W] and returns [N, classes].
        recipe: Optimiser, schedule and label smoothing.
        classes: Number of classes.
        clock: Returns the share of the allotted time that has passed; the schedule ``"cosine"`` follows it where it is
            ahead of the steps. None: no limit.
        seed: With the epoch it determines crops and dropout, so that a resumed run repeats an unbroken one.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        *,
        classes: int,
        clock: Callable[[], float] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.model, self.recipe, self.clock, self.seed = model, recipe, clock, seed
        self.time_passed = 0.0
        self.top1 = MulticlassAccuracy(classes, top_k=1, average="micro")
        self.top5 = MulticlassAccuracy(classes, top_k=min(5, classes), average="micro")

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images.contiguous(memory_format=torch.channels_last)).float()

    def on_train_epoch_start(self) -> None:
        torch.manual_seed(self.seed * 1_000_003 + self.current_epoch * self.trainer.world_size + self.global_rank)

    def on_train_batch_start(self, batch: Any, batch_index: int) -> None:
        if self.clock is not None:  # one clock for all processes, so that they keep the same learning rate
            self.time_passed = self.trainer.strategy.broadcast(self.clock())

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        images, labels = batch
        loss = nn.functional.cross_entropy(self(images), labels, label_smoothing=self.recipe.label_smoothing)
        self._check(loss, f"step {batch_index}")
        self.log("train_loss", loss, prog_bar=True, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        images, labels = batch
        outputs = self(images)
        loss = nn.functional.cross_entropy(outputs, labels)
        self._check(loss, "validation")
        self.top1(outputs, labels)
        self.top5(outputs, labels)
        self.log("val_loss", loss, on_epoch=True, sync_dist=True)
        self.log("val_top1", self.top1, on_epoch=True, prog_bar=True)
        self.log("val_top5", self.top5, on_epoch=True, prog_bar=True)

    def _check(self, loss: Tensor, where: str) -> None:
        if not torch.isfinite(loss):
            raise Diverged(f"train: the loss became {loss.item()} in epoch {self.current_epoch + 1}, {where}")

    def configure_optimizers(self) -> Any:
        recipe = self.recipe
        optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )
        if recipe.schedule == "plateau":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.1, patience=3)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val_top1"}}
        steps = int(self.trainer.estimated_stepping_batches)
        warmup = max(1, round(steps * recipe.warmup_epochs / recipe.epochs))

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            if recipe.schedule == "constant":
                return 1.0
            progress = max((step - warmup) / max(1, steps - warmup), self.time_passed)
            return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

        by_step = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": by_step, "interval": "step"}}
