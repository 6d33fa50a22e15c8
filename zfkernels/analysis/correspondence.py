"""Correspondence: does a network relate the same part in different images?

The same part is masked in each of N images. If the features change alike, the network knows that it is the same part.

    eps_i = features of image i - features of image i with the part masked
    delta = mean over pairs i ≠ j of H(sign(eps_i), sign(eps_j)) / dimension,   signs in {-1, 0, 1}

Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 4.3 ("Correspondence Analysis"), table 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from zfkernels.checks import check_batch_size, check_number, network_for
from zfkernels.network.network import Network
from zfkernels.progress import progress_bar
from zfkernels.results import Correspondence
from zfkernels.signed import signed

RANDOM = "random"
ONE_PLACE = "random, one place"


@torch.no_grad()
@signed("correspondence")
def correspondence(
    model: nn.Module,
    images: Tensor,  # [N, C, H, W]
    parts: Mapping[str, Tensor],  # of each part int or float [N, 2]
    *,
    layers: Sequence[str],
    window: int | tuple[int, int],
    fill: float = 0.0,
    regions: Mapping[str, Tensor] | None = None,  # of each region [N, 4]
    random_draws: int = 20,
    seed: int = 0,
    tolerance: float = 1e-6,
    batch_size: int = 64,
    progress: bool = False,
) -> Correspondence:
    """How alike the features of different images change when the same part of each is masked.

    Two random parts are always there, for comparison: ``"random"``, a place of its own for each image, as in the paper,
    and ``"random, one place"``, the same place in all images. Masks at one place change the same units, and so the same
    signs, whatever they hide; a part that lies at about the same place in all images has to be compared with these.

    Differs from the paper: the size and the colour of the mask are not in it, and neither is the number of random
    places; ``random_draws`` sets of them are drawn here. The paper has no ``"random, one place"``.

    Args:
        model: Any model in eval mode that can be recorded.
        images: N ≥ 2 of them, in the model's input units.
        parts: Row and column in pixels of the middle of each part in each image. The mask is moved into the image
            where it would hang over the border.
        layers: L names, as of ``DeconvNet.project``.
        window: Side, or height and width, of the mask in pixels.
        fill: Of the mask, in the model's input units; 0 is the mean colour of most models.
        regions: Further random parts: boxes (top, left, bottom, right) of each image in which the mask's middle is
            drawn.
        random_draws: Sets of random places.
        seed: Of the random places.
        tolerance: Changes of at most this share of the layer's largest magnitude have the sign 0: they are rounding.
        batch_size: Images that go through the network together.
        progress: Whether to show a progress bar.

    Raises:
        TypeError: Images that are no tensor of the model's dtype.
        ValueError: Fewer than two images; a part outside an image; an unknown layer; a window larger than the images.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), table 1.
    """
    network = network_for("correspondence", model, images)
    check_batch_size("correspondence", batch_size)
    check_number("correspondence", "fill", fill)
    size = (window, window) if isinstance(window, int) else window
    frame = (images.shape[2], images.shape[3])
    _check_arguments(images, layers, size, frame, random_draws)
    corners = {name: _corners(name, middle, len(images), size, frame)[None] for name, middle in parts.items()}
    generator = torch.Generator().manual_seed(seed)
    anywhere = torch.tensor([[size[0] // 2, size[1] // 2, frame[0] - size[0] // 2, frame[1] - size[1] // 2]])
    boxes = {**(regions or {}), **dict.fromkeys((RANDOM, ONE_PLACE), anywhere.expand(len(images), 4))}
    for name, box in boxes.items():
        middles = [_draw(name, box, len(images), frame, generator) for _ in range(random_draws)]
        corners[name] = torch.stack([_corners(name, middle, len(images), size, frame) for middle in middles])
    steps = [network.resolve(layer) for layer in layers]
    clean = _features(network, images, steps, batch_size)
    floors = [tolerance * float(value.abs().max()) for value in clean]
    pairs = {}
    with progress_bar(sum(len(drawn) for drawn in corners.values()), "masks", progress) as advance:
        for name, drawn in corners.items():
            measured = []
            for places in drawn.unbind():
                masked = _features(network, _mask(images, places, size, fill), steps, batch_size)
                layerwise = zip(clean, masked, floors, strict=True)
                measured.append(torch.stack([_sign_distances(a - b, floor) for a, b, floor in layerwise]))
                advance(1)
            pairs[name] = torch.stack(measured)
    return Correspondence(tuple(layers), tuple(corners), pairs)


def _features(network: Network, images: Tensor, steps: Sequence[str], batch_size: int) -> list[Tensor]:
    """Of each step [N, D]."""
    parts = [network.run(batch, steps) for batch in images.split(batch_size)]
    return [torch.cat([part[step].flatten(1) for part in parts]) for step in steps]


def _mask(images: Tensor, corners: Tensor, size: tuple[int, int], fill: float) -> Tensor:
    masked = images.clone()
    for n, (top, left) in enumerate(corners.tolist()):
        masked[n, :, top : top + size[0], left : left + size[1]] = fill
    return masked


def _sign_distances(
    change: Tensor,  # [N, D]
    floor: float,
) -> Tensor:  # float64 [N (N - 1) / 2]
    """The share of units whose change has another sign, for each pair of images."""
    count, units = change.shape
    signs = torch.where(change.abs() > floor, change.sign(), 0)
    alike = change.new_zeros(count, count)
    for sign in (-1, 0, 1):
        chosen = (signs == sign).to(change)
        alike += chosen @ chosen.T
    first, second = torch.triu_indices(count, count, 1)
    return 1 - alike[first, second].double().cpu() / units


def _corners(name: str, middle: Tensor, count: int, size: tuple[int, int], frame: tuple[int, int]) -> Tensor:
    """Upper left corners, int64 [N, 2], of masks around ``middle``, inside the image."""
    if middle.shape != (count, 2):
        raise ValueError(f"correspondence: expected part {name!r} of shape [{count}, 2], got {list(middle.shape)}")
    outside = ~((middle >= 0) & (middle < torch.tensor(frame))).all(1)
    if outside.any():
        image = int(outside.nonzero()[0, 0])
        raise ValueError(
            f"correspondence: expected part {name!r} inside the image of {frame[0]}x{frame[1]} pixels, "
            f"got row and column {middle[image].tolist()} in image {image}"
        )
    corner = (middle - torch.tensor(size) / 2).round().long()
    return torch.minimum(corner.clamp(min=0), torch.tensor(frame) - torch.tensor(size))


def _draw(name: str, boxes: Tensor, count: int, frame: tuple[int, int], generator: torch.Generator) -> Tensor:
    """A random pixel, int64 [N, 2], of the part of each box that lies inside the image; for ONE_PLACE the same one."""
    if boxes.shape != (count, 4):
        raise ValueError(f"correspondence: expected region {name!r} of shape [{count}, 4], got {list(boxes.shape)}")
    limit = torch.tensor(frame)
    low = torch.minimum(boxes[:, :2].clamp(min=0).long(), limit - 1)
    high = torch.maximum(torch.minimum(boxes[:, 2:].long(), limit), low + 1)
    share = torch.rand(1 if name == ONE_PLACE else count, 2, generator=generator, dtype=torch.float64)
    return low + (share * (high - low)).long()


def _check_arguments(
    images: Tensor, layers: Sequence[str], size: tuple[int, int], frame: tuple[int, int], draws: int
) -> None:
    if len(images) < 2:
        raise ValueError(f"correspondence: expected at least 2 images, got {len(images)}")
    if len(layers) == 0:
        raise ValueError("correspondence: expected at least one of layers, got none")
    if not all(0 < side <= limit for side, limit in zip(size, frame, strict=True)):
        raise ValueError(f"correspondence: expected window from 1 to the images' {frame}, got {size}")
    if draws < 1:
        raise ValueError(f"correspondence: expected random_draws ≥ 1, got {draws}")
