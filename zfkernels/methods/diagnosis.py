"""Diagnosis of a network by its filters: dead and dominating ones, their frequencies, aliasing, duplicates.

Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 4.1 ("Architecture Selection"), figure 6.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zfkernels.methods.checks import trace_for
from zfkernels.progress import progress_bar
from zfkernels.results import Diagnosis, FilterDiagnosis
from zfkernels.trace import Conv, Step, Trace

SPECTRUM = 64  # samples of a filter's spectrum along each axis
NYQUIST = 0.5  # cycles per pixel


@torch.no_grad()
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
    trace = trace_for("diagnose", model, images)
    convolutions = [step for step in trace.steps if isinstance(step.params, Conv)]
    if not convolutions or convolutions[0].inputs != (trace.input.name,):
        raise ValueError("diagnose: expected model one that begins with a convolution, got another one")
    if len(images) == 0:
        raise ValueError("diagnose: expected at least one image, got none")
    observed = [_rectifier(trace, step) for step in convolutions]
    active = [torch.zeros(step.params.weight.shape[0], dtype=torch.float64) for step in convolutions]
    strength = [torch.zeros_like(count) for count in active]
    aliased, variation = _Aliasing(convolutions[0]), []
    second = convolutions[1] if len(convolutions) > 1 else None
    with progress_bar(len(images), "images", progress) as advance:
        for batch in images.split(batch_size):
            values = trace.run(batch, observed)
            for n, name in enumerate(observed):
                maps = values[name].flatten(2)
                active[n] += (maps.amax(2) > 0).sum(0).double().cpu()
                strength[n] += maps.clamp(min=0).sum((0, 2), dtype=torch.float64).cpu()
            aliased.update(batch)
            if second is not None:
                variation.append(_shift_variation(trace, second, batch))
            advance(len(batch))
    layers = tuple(
        FilterDiagnosis(
            step.label, trace.by_name[name].label, _filters(step).square().mean(1).sqrt(), share / len(images),
            total / len(images), _duplicates(_filters(step)),
        )
        for step, name, share, total in zip(convolutions, observed, active, strength, strict=True)
    )  # fmt: skip
    first = convolutions[0].params
    return Diagnosis(
        layers, first.weight.detach().cpu(), first.sliding.stride, frequency_bands(first.weight), _flat_bands(),
        aliased.share(), torch.cat(variation).nanmean(0) if variation else torch.zeros(0, dtype=torch.float64),
        second.label if second else None,
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

    def __init__(self, step: Step) -> None:
        self.params: Conv = step.params
        maps = self.params.weight.shape[0]
        self.beyond = torch.zeros(maps, dtype=torch.float64)
        self.total = torch.zeros(maps, dtype=torch.float64)

    def update(self, images: Tensor) -> None:
        conv, sliding = self.params, self.params.sliding
        dense = F.conv2d(images, conv.weight, None, 1, sliding.padding, sliding.dilation, conv.groups)
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


def _shift_variation(trace: Trace, step: Step, images: Tensor) -> Tensor:
    """float64 [N, C]: how much the mean of each map of a layer changes while the image moves by less than its step.

    A layer that samples finely enough sees the same, only moved. The images move diagonally, and all shifts see the
    same crop size; a map that is silent counts as NaN.
    """
    info = {row.name: row for row in trace.layer_info((images.shape[2], images.shape[3]))}[step.label]
    stride = max(info.stride or (1, 1))
    height, width = images.shape[2] - stride, images.shape[3] - stride
    name = _rectifier(trace, step)
    means = []
    for shift in range(stride):
        moved = images[:, :, shift : shift + height, shift : shift + width]
        means.append(trace.run(moved, [name])[name].mean((2, 3), dtype=torch.float64).cpu())
    stacked = torch.stack(means)  # [shifts, N, C]
    mean = stacked.mean(0)
    return torch.where(mean > 0, stacked.std(0, correction=0) / mean, float("nan"))


def _rectifier(trace: Trace, step: Step) -> str:
    """The rectifier that reads a convolution, directly or behind a batch normalisation; else the convolution."""
    name = step.name
    while len(trace.users[name]) == 1:
        user = trace.by_name[trace.users[name][0]]
        if user.kind == "relu":
            return user.name
        if user.kind != "batch_norm":
            break
        name = user.name
    return step.name


def _filters(step: Step) -> Tensor:  # float64 [C, weights of a filter]
    weight: Tensor = step.params.weight
    return weight.detach().flatten(1).double().cpu()


def _duplicates(filters: Tensor) -> Tensor:
    normal = F.normalize(filters)
    first, second = torch.triu_indices(len(filters), len(filters), 1)
    alike = (normal @ normal.T)[first, second] >= FilterDiagnosis.DUPLICATE
    return torch.stack([first[alike], second[alike]], 1)
