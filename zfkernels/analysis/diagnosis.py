"""Diagnosis of a network by its filters: dead and dominating ones, their frequencies, aliasing, duplicates.

Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 4.1 ("Architecture Selection"), figure 6.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zfkernels.checks import check_batch_size, network_for
from zfkernels.network import INPUT
from zfkernels.network.kinds import Kind
from zfkernels.network.network import Network
from zfkernels.progress import progress_bar
from zfkernels.results import Diagnosis, FilterDiagnosis
from zfkernels.signed import signed

SPECTRUM = 64  # samples of a filter's spectrum along each axis
NYQUIST = 0.5  # cycles per pixel


@torch.no_grad()
@signed("diagnose")
def diagnose(
    model: nn.Module,
    images: Tensor,  # [N, C, H, W]
    *,
    batch_size: int = 32,
    progress: bool = False,
) -> Diagnosis:
    """Looks for what the paper found wrong with Krizhevsky's first layers, and for filters that do nothing.

    Differs from the paper: it judges by eye; here each of its findings has a number.

    Args:
        model: Any model in eval mode that can be recorded and that has a convolution.
        images: Natural images, in the model's input units; the more, the surer is a verdict that a filter is dead.
        batch_size: Images that go through the network together.
        progress: Whether to show a progress bar.

    Raises:
        TypeError: Images that are no tensor of the model's dtype.
        ValueError: No images, or a model without a convolution of the images.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 4.1, figure 6.
    """
    network = network_for("diagnose", model, images)
    check_batch_size("diagnose", batch_size)
    convolutions = [kind for kind in network.kinds.values() if kind.filters is not None]
    if not convolutions or convolutions[0].inputs != (INPUT,):
        raise ValueError("diagnose: expected model one that begins with a convolution, got another one")
    if len(images) == 0:
        raise ValueError("diagnose: expected at least one image, got none")
    observed = [_rectifier(network, kind) for kind in convolutions]
    active = [torch.zeros(len(_filters(kind)), dtype=torch.float64) for kind in convolutions]
    strength = [torch.zeros_like(count) for count in active]
    aliased, variation = _Aliasing(convolutions[0]), []
    second = convolutions[1] if len(convolutions) > 1 else None
    with progress_bar(len(images), "images", progress) as advance:
        for batch in images.split(batch_size):
            values = network.run(batch, observed)
            for n, name in enumerate(observed):
                maps = values[name].flatten(2)
                active[n] += (maps.amax(2) > 0).sum(0).double().cpu()
                strength[n] += maps.clamp(min=0).sum((0, 2), dtype=torch.float64).cpu()
            aliased.update(batch)
            if second is not None:
                variation.append(_shift_variation(network, second, batch))
            advance(len(batch))
    layers = tuple(
        FilterDiagnosis(
            network.labels[kind.name], network.labels[name], _filters(kind).flatten(1).square().mean(1).sqrt(),
            share / len(images), total / len(images), _duplicates(_filters(kind).flatten(1)),
        )
        for kind, name, share, total in zip(convolutions, observed, active, strength, strict=True)
    )  # fmt: skip
    filters, slides = convolutions[0].filters, convolutions[0].slides
    assert filters is not None
    assert slides is not None
    return Diagnosis(
        layers, filters.contiguous().cpu(), slides.stride, frequency_bands(filters), _flat_bands(),
        aliased.share(), torch.cat(variation).nanmean(0) if variation else torch.zeros(0, dtype=torch.float64),
        network.labels[second.name] if second else None,
    )  # fmt: skip


def frequency_bands(
    filters: Tensor,  # [C, channels, k, k]
) -> Tensor:  # float64 [C, 3]
    """The share of each filter's power in low, middle and high frequencies.

    The bands are thirds of the range up to half a cycle per pixel, by distance from zero; what lies in the corners
    beyond it counts as high. Channels add up their power. Zero for a filter of zeros.
    """
    power = _spectrum(filters.double().cpu()).sum(1)  # [C, S, S]
    shares = torch.stack([power[:, mask].sum(1) for mask in _band_masks()], 1)
    total = shares.sum(1, keepdim=True)
    return torch.where(total > 0, shares / total, 0)


def _spectrum(filters: Tensor) -> Tensor:
    return torch.fft.fft2(filters, s=(SPECTRUM, SPECTRUM)).abs().square()


def _band_masks() -> list[Tensor]:
    frequency = torch.fft.fftfreq(SPECTRUM, dtype=torch.float64)
    distance = torch.hypot(frequency[:, None], frequency[None, :])
    low, high = NYQUIST / 3, 2 * NYQUIST / 3
    return [distance < low, (distance >= low) & (distance < high), distance >= high]


def _flat_bands() -> Tensor:
    return torch.stack([mask.double().mean() for mask in _band_masks()])


class _Aliasing:
    """The power of the first layer's maps at stride 1, in all and beyond the frequencies that its stride keeps."""

    def __init__(self, kind: Kind) -> None:
        assert kind.filters is not None
        assert kind.slides is not None
        self.filters, self.sliding = kind.filters, kind.slides
        maps = len(self.filters)
        self.beyond = torch.zeros(maps, dtype=torch.float64)
        self.total = torch.zeros(maps, dtype=torch.float64)

    def update(self, images: Tensor) -> None:
        sliding, groups = self.sliding, images.shape[1] // self.filters.shape[1]
        dense = F.conv2d(images, self.filters, None, 1, sliding.padding, sliding.dilation, groups)
        dense = dense - dense.mean((2, 3), keepdim=True)
        # A window falls to zero at the border: without it the jump from one side of the image to the other counts too.
        for axis in (2, 3):
            window = torch.hann_window(dense.shape[axis], periodic=False, dtype=dense.dtype, device=dense.device)
            dense = dense * window.view(-1, *[1] * (3 - axis))
        power = torch.fft.fft2(dense).abs().square().sum(0, dtype=torch.float64).cpu()
        rows, columns = (torch.fft.fftfreq(length).abs() > NYQUIST / stride
                         for length, stride in zip(power.shape[1:], sliding.stride, strict=True))  # fmt: skip
        self.beyond += power[:, rows[:, None] | columns[None, :]].sum(1)
        self.total += power.sum((1, 2))

    def share(self) -> Tensor:
        return torch.where(self.total > 0, self.beyond / self.total, 0)


def _shift_variation(network: Network, kind: Kind, images: Tensor) -> Tensor:
    """float64 [N, C]: how much the mean of each map of a layer changes while the image moves by less than its step.

    A layer that samples finely enough sees the same, only moved. The images move diagonally, and all shifts see the
    same crop size; a map that is silent counts as NaN.
    """
    stride = max(network.info(kind.name).stride or (1, 1))
    height, width = images.shape[2] - stride, images.shape[3] - stride
    name = _rectifier(network, kind)
    means = []
    for shift in range(stride):
        moved = images[:, :, shift : shift + height, shift : shift + width]
        means.append(network.run(moved, [name])[name].mean((2, 3), dtype=torch.float64).cpu())
    stacked = torch.stack(means)  # [shifts, N, C]
    mean = stacked.mean(0)
    return torch.where(mean > 0, stacked.std(0, correction=0) / mean, float("nan"))


def _rectifier(network: Network, kind: Kind) -> str:
    """The rectifier that reads a convolution, directly or behind a batch normalisation; else the convolution."""
    name = kind.name
    while len(network.readers[name]) == 1:
        reader = network.kinds[network.readers[name][0]]
        if reader.is_rectifier:
            return reader.name
        if reader.affine is None:
            break
        name = reader.name
    return kind.name


def _filters(kind: Kind) -> Tensor:  # float64 [C, C_in / groups, kh, kw]
    assert kind.filters is not None
    return kind.filters.double().cpu()


def _duplicates(filters: Tensor) -> Tensor:
    normal = F.normalize(filters)
    first, second = torch.triu_indices(len(filters), len(filters), 1)
    alike = (normal @ normal.T)[first, second] >= FilterDiagnosis.DUPLICATE
    return torch.stack([first[alike], second[alike]], 1)
