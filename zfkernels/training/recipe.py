"""What a training run does: the paper's recipe and the one of the small network."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from torch import nn

SCHEDULES = ("plateau", "cosine", "constant")


@dataclass(frozen=True)
class Recipe:
    """The numbers of one training run.

    Attributes:
        epochs: Passes over the training split.
        batch_size: Images in a batch (of each process).
        learning_rate: The highest learning rate.
        schedule: ``"plateau"``: divided by 10 when the validation error stalls; ``"cosine"``: a linear warm-up, then
            half a cosine down to 0 over the planned epochs; ``"constant"``: the warm-up, then the highest rate to
            the end. With it, features that settle do not settle because the rate falls.
        warmup_epochs: Length of the warm-up of ``"cosine"`` and ``"constant"``; fractions are fine.
        momentum, weight_decay, label_smoothing: As in torch.
        max_rms: The root mean square that filters are renormalised to after each step; None: not at all.
        stored_size: Images are scaled to this shorter side and centre-cropped to it.
        padding: Zeros (the mean colour) around the stored image that training crops may reach into.
        crops: ``"ten"``: four corners and the centre, each also mirrored; ``"random"``: any place, mirrored or not.
        mean, std: Normalisation of pixels in [0, 1] for each channel; ``mean=None``: the mean image of the training
            split, pixel by pixel.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    schedule: str
    warmup_epochs: float
    momentum: float
    weight_decay: float
    label_smoothing: float
    max_rms: float | None
    stored_size: int
    padding: int
    crops: str
    mean: tuple[float, float, float] | None
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        for name, choices in (("schedule", SCHEDULES), ("crops", ("ten", "random"))):
            if getattr(self, name) not in choices:
                raise ValueError(f"Recipe: expected {name} one of {', '.join(choices)}, got {getattr(self, name)!r}")
        for name in ("epochs", "batch_size", "learning_rate", "stored_size"):
            if not getattr(self, name) > 0:
                raise ValueError(f"Recipe: expected {name} > 0, got {getattr(self, name)}")

    def with_budget(self, epochs: int | None, batch_size: int | None, schedule: str | None = None) -> Recipe:
        """The same recipe with other epochs, batch size and schedule; None keeps a value.

        The learning rate is scaled with the batch size.
        """
        size = batch_size or self.batch_size
        rate = self.learning_rate * size / self.batch_size
        return dataclasses.replace(
            self,
            epochs=epochs or self.epochs,
            batch_size=size,
            learning_rate=rate,
            schedule=schedule or self.schedule,
        )


PAPER = Recipe(
    epochs=70,
    batch_size=128,
    learning_rate=1e-2,
    schedule="plateau",
    warmup_epochs=0,
    momentum=0.9,
    weight_decay=5e-4,
    label_smoothing=0.0,
    max_rms=0.1,
    stored_size=256,
    padding=0,
    crops="ten",
    mean=None,
    std=(1 / 255,) * 3,
)
"""The recipe for 224x224 networks on ImageNet. Pixels stay in the range -128 to 128, which the limit of 0.1 on the
filters' root mean square presupposes. The weight decay is Krizhevsky's; the paper names none.

Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 3.
"""

SMALL = Recipe(
    epochs=20,
    batch_size=128,
    learning_rate=0.05,
    schedule="cosine",
    warmup_epochs=1,
    momentum=0.9,
    weight_decay=5e-4,
    label_smoothing=0.1,
    max_rms=None,
    stored_size=64,
    padding=6,
    crops="random",
    mean=(0.4805, 0.4488, 0.3979),
    std=(0.2747, 0.2678, 0.2800),
)
"""The recipe for ``zfnet64(training_form=True)`` on 64x64 images.

Filters are not renormalised: batch normalisation makes the network blind to the scale of a filter.
"""


def default_recipe(model: nn.Module) -> Recipe:
    """``PAPER`` for a network that takes 224x224 images or larger ones, ``SMALL`` for one that takes smaller ones."""
    return PAPER if input_size_of(model) >= 224 else SMALL


def input_size_of(model: nn.Module) -> int:
    """The side length in pixels that a network says it takes.

    Raises:
        ValueError: It has no ``input_size``.
    """
    size = getattr(model, "input_size", None)
    if not isinstance(size, int):
        raise ValueError(f"input_size_of: expected model with an integer attribute input_size, got {size!r}")
    return size
