"""Invariance: how far features move when an image is moved, scaled, turned or lit otherwise.

Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 4.1 ("Feature Invariance"), figure 5.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import affine

from zfkernels.checks import check_batch_size, check_number, network_for
from zfkernels.progress import progress_bar
from zfkernels.results import Invariance, probabilities
from zfkernels.signed import signed

TRANSFORMS = ("vertical", "horizontal", "scale", "rotation", "brightness")
AMOUNTS = {
    "vertical": tuple(float(n) for n in range(-60, 61, 10)),
    "horizontal": tuple(float(n) for n in range(-60, 61, 10)),
    "scale": tuple(1 + n / 10 for n in range(9)),
    "rotation": tuple(float(n) for n in range(0, 351, 15)),
    "brightness": (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0),
}
"""The ranges of figure 5 (pixels of 224, factors, degrees), and factors of brightness."""


def transform_images(
    images: Tensor,  # [N, C, H, W]
    transform: str,
    amount: float,
    *,
    fill: float = 0.0,
    black: Tensor | None = None,  # [C]
    white: Tensor | None = None,  # [C]
) -> Tensor:  # [N, C, H, W]
    """Images moved, scaled, turned or lit otherwise.

    Args:
        images: In the model's input units.
        transform: ``"vertical"`` or ``"horizontal"``: moved by ``amount`` pixels (rounded) down or to the right;
            ``"scale"``: enlarged about the centre; ``"rotation"``: turned clockwise by degrees about the centre;
            ``"brightness"``: pixels multiplied, from ``black``, and clipped at ``white``.
        amount: Pixels, a factor > 0, degrees, or a factor ≥ 0. What changes nothing returns the images as they are.
        fill: What comes in from outside the image, in the model's input units; 0 is the mean colour of most models.
        black, white: What black and white pixels are in the model's input units; for ``"brightness"`` only.

    Raises:
        ValueError: An unknown transform, an amount out of range, or no ``black`` and ``white`` for ``"brightness"``.
    """
    if transform not in TRANSFORMS:
        raise ValueError(f"transform_images: expected transform one of {', '.join(TRANSFORMS)}, got {transform!r}")
    if transform == "brightness":
        if black is None or white is None or not amount >= 0:
            raise ValueError(
                f"transform_images: expected amount ≥ 0, black and white for brightness, got {amount}, {black}, {white}"
            )
        black, white = (level.to(images).view(-1, 1, 1) for level in (black, white))
        return images if amount == 1 else torch.minimum(black + amount * (images - black), white)
    shift, angle, scale = [0, 0], 0.0, 1.0
    if transform in ("vertical", "horizontal"):
        shift[transform == "vertical"] = round(amount)
    elif transform == "rotation":
        angle = amount % 360
    elif not amount > 0:
        raise ValueError(f"transform_images: expected an amount > 0 for scale, got {amount}")
    else:
        scale = amount
    if (shift, angle, scale) == ([0, 0], 0.0, 1.0):
        return images
    return affine(images, angle, shift, scale, [0.0, 0.0], InterpolationMode.BILINEAR, fill=[fill] * images.shape[1])


@torch.no_grad()
@signed("invariance")
def invariance(
    model: nn.Module,
    images: Tensor,  # [N, C, H, W]
    transform: str,
    amounts: Sequence[float] | None = None,
    *,
    layers: Sequence[str],
    targets: Tensor | None = None,  # int64 [N]
    fill: float = 0.0,
    black: Tensor | None = None,
    white: Tensor | None = None,
    batch_size: int = 64,
    progress: bool = False,
) -> Invariance:
    """Follows the features of images, and the probability of their classes, through a transformation.

    Differs from the paper: what comes in at the border is the mean colour (``fill``), on which the paper is silent;
    distances are kept as they are and also relative to the distance between different images, so that layers compare.

    Args:
        model: Any model in eval mode that can be recorded.
        images: In the model's input units, of its dtype.
        transform: See ``transform_images``.
        amounts: T of them; None: ``AMOUNTS[transform]``, pixels as a share of 224.
        layers: L names, as of ``DeconvNet.project``.
        targets: The class of each image; None: what the model says of the original.
        fill: As of ``transform_images``.
        black: The same.
        white: The same.
        batch_size: Images that go through the network together.
        progress: Whether to show a progress bar.

    Raises:
        TypeError: Images that are no tensor of the model's dtype.
        ValueError: No images, no layers, no amounts, an unknown layer or transform, or targets that are no classes.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), figure 5.
    """
    network = network_for("invariance", model, images)
    check_batch_size("invariance", batch_size)
    check_number("invariance", "fill", fill)
    if transform not in TRANSFORMS:
        raise ValueError(f"invariance: expected transform one of {', '.join(TRANSFORMS)}, got {transform!r}")
    if amounts is None:
        share = images.shape[2 if transform == "vertical" else 3] / 224
        moved = transform in ("vertical", "horizontal")
        amounts = [round(amount * share) if moved else amount for amount in AMOUNTS[transform]]
    for name, given in (("images", images), ("layers", layers), ("amounts", amounts)):
        if len(given) == 0:
            raise ValueError(f"invariance: expected at least one of {name}, got none")
    steps, output = [network.resolve(layer) for layer in layers], network.output
    if output is None or len(network.shape(output)) != 2:
        raise ValueError("invariance: expected a model whose output is one tensor [N, classes]")
    count = len(images)
    distance = torch.zeros(len(amounts), len(layers), count, dtype=torch.float64)
    probability = torch.zeros(len(amounts), count)
    clean = torch.zeros(count)
    classes = torch.zeros(count, dtype=torch.int64) if targets is None else _checked(targets, count)
    spread = [_Spread() for _ in layers]
    with progress_bar(count * (len(amounts) + 1), "images", progress) as advance:
        for start in range(0, count, batch_size):
            here = slice(start, min(start + batch_size, count))
            batch = images[here]
            originals = network.run(batch, [*steps, output])
            outputs = originals[output]
            if targets is None:
                classes[here] = outputs.argmax(1).cpu()
            clean[here] = _probability(outputs, classes[here])
            for measured, step in zip(spread, steps, strict=True):
                measured.update(originals[step])
            advance(len(batch))
            for t, amount in enumerate(amounts):
                changed = transform_images(batch, transform, amount, fill=fill, black=black, white=white)
                values = network.run(changed, [*steps, output])
                for n, step in enumerate(steps):
                    moved_by = (values[step] - originals[step]).flatten(1)
                    distance[t, n, here] = torch.linalg.vector_norm(moved_by, dim=1, dtype=torch.float64).cpu()
                probability[t, here] = _probability(values[output], classes[here])
                advance(len(batch))
    return Invariance(
        transform, torch.tensor(list(amounts), dtype=torch.float64), tuple(layers), distance,
        torch.tensor([measured.rms_distance() for measured in spread], dtype=torch.float64), probability, clean,
        classes,
    )  # fmt: skip


class _Spread:
    """How far apart the feature vectors of different images are, from sums alone."""

    def __init__(self) -> None:
        self.count, self.square, self.total = 0, 0.0, torch.zeros(())

    def update(self, features: Tensor) -> None:
        flat = features.flatten(1).double()
        self.count += len(flat)
        self.square += float(flat.square().sum())
        self.total = self.total.to(flat.device) + flat.sum(0)

    def rms_distance(self) -> float:
        """The root of the mean of |x - y|^2 over pairs of different images."""
        if self.count < 2:
            return float("nan")
        pairs = self.count * (self.count - 1)
        return (2 * max(0.0, self.count * self.square - float(self.total.square().sum())) / pairs) ** 0.5


def _probability(outputs: Tensor, classes: Tensor) -> Tensor:
    if outputs.dim() != 2 or int(classes.max()) >= outputs.shape[1]:
        raise ValueError(
            f"invariance: expected targets classes of the model, whose output is {list(outputs.shape)}, "
            f"got {int(classes.max())}"
        )
    return probabilities(outputs).cpu().gather(1, classes[:, None])[:, 0].float()


def _checked(targets: Tensor, count: int) -> Tensor:
    if targets.shape != (count,) or targets.is_floating_point() or bool((targets < 0).any()):
        raise ValueError(f"invariance: expected targets int64 [{count}] ≥ 0, got {targets.dtype} {list(targets.shape)}")
    return targets.cpu().to(torch.int64)
