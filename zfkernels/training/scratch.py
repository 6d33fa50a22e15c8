"""Training a network on a few images that lie in memory: the comparison of the paper's tables 4 and 5."""

from __future__ import annotations

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from zfkernels.training.crops import center_crop, random_crop
from zfkernels.training.data import normalize, per_channel
from zfkernels.training.module import Classifier
from zfkernels.training.recipe import Recipe, input_size_of


def train_from_scratch(
    model: nn.Module,
    images: Tensor,  # uint8 [N, 3, S, S]
    labels: Tensor,  # int64 [N]
    *,
    recipe: Recipe,
    seed: int = 0,
    progress: bool = False,
) -> nn.Module:
    """Trains a network on all of the images, for the recipe's epochs, with its crops; no validation, no files.

    Args:
        model: A freshly drawn network with an ``input_size``; trained in place.
        images: Pixels of the recipe's ``stored_size``.
        labels: The class of each image, from 0 on.
        recipe: With a ``mean`` for each channel and the schedule ``"cosine"``, which needs no validation.
        seed: Of order, crops and dropout.
        progress: Whether to show a progress bar.

    Returns:
        The network in eval mode.

    Raises:
        ValueError: A recipe with another schedule or without a mean.
        Diverged: The loss became infinite or NaN.
    """
    if recipe.schedule != "cosine" or recipe.mean is None:
        got = f"{recipe.schedule} and {recipe.mean}"
        raise ValueError(f"train_from_scratch: expected recipe with a cosine schedule and a mean, got {got}")
    mean, std = per_channel(recipe.mean), per_channel(recipe.std)
    side = input_size_of(model)

    def collate(items: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        pixels, numbers = (torch.stack(part) for part in zip(*items, strict=True))
        return random_crop(normalize(pixels, mean, std), side, recipe.padding), numbers

    torch.manual_seed(seed)
    size = min(recipe.batch_size, len(images))
    loader = DataLoader(
        TensorDataset(images, labels), size, shuffle=True, drop_last=True, collate_fn=collate,
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    trainer = pl.Trainer(
        max_epochs=recipe.epochs, accelerator="auto", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=progress, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    model = model.to(memory_format=torch.channels_last)
    trainer.fit(Classifier(model, recipe, classes=int(labels.max()) + 1, seed=seed), loader)
    return model.eval()


@torch.no_grad()
def predict(
    model: nn.Module,
    images: Tensor,  # uint8 [N, 3, S, S]
    recipe: Recipe,
    batch_size: int = 256,
) -> Tensor:  # int64 [N]
    """The class that a network says of each image, of its centre crop."""
    assert recipe.mean is not None
    mean, std, side = per_channel(recipe.mean), per_channel(recipe.std), input_size_of(model)
    like = next(model.parameters())
    parts = [center_crop(normalize(batch, mean, std), side).to(like) for batch in images.split(batch_size)]
    return torch.cat([model(part).argmax(1).cpu() for part in parts])
