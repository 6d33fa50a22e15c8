"""The strongest activations of every feature map over a stream of images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

EMPTY = -1  # the image id of a place that is not taken yet
# Channels, values, image ids and positions of activations that may enter the lists.
Candidates = tuple[Tensor, Tensor, Tensor, Tensor]


def strongest(activations: Tensor) -> tuple[Tensor, Tensor | None]:
    """The maximum [N, C] of each map of ``activations`` [N, C, h, w], and its first place in row-major order.

    The maximum of a map with a NaN is NaN. On a CPU, max-pooling over whole maps finds maximum and place in one pass.
    On other devices the place is None; it is looked up later, only for the few maxima that may enter a list.
    """
    if activations.device.type != "cpu":
        return activations.amax((2, 3)).cpu(), None
    values, places = F.max_pool2d(activations, activations.shape[2:], return_indices=True)
    return values.flatten(1), places.flatten(1)


@dataclass(frozen=True)
class Ranking:
    """The strongest activations of C feature maps, at most one for each image (of each group, where there are groups).

    Attributes:
        values: float64 [C, k], falling; -inf where fewer than k images were seen.
        image_ids: int64 [C, k]; -1 where fewer than k images were seen.
        positions: int64 [C, k, 2]: row and column of the activation in its map.
        nans: int64 [C]: how many activations of each map were NaN.
        fired: int64 [C]: in how many images the largest activation of each map was above zero.
        images: how many images were seen.
    """

    values: Tensor
    image_ids: Tensor
    positions: Tensor
    nans: Tensor
    fired: Tensor
    images: int

    @property
    def taken(self) -> Tensor:
        """bool [C, k]: whether there is an activation of this rank."""
        return self.image_ids >= 0


class TopK:
    """Running top-k of every feature map of one layer: each image counts with the largest activation of its map.

    The result does not depend on the order of the images, their batches, or how the stream was split and merged: ties
    between images go to the lowest id, ties within a map to the first place in row-major order. NaN activations are
    counted and never ranked. Each image may be fed once. The state lies on the CPU in constant memory.

    What beats the last entry of its list waits until there are as many such candidates as entries: sorting them in
    costs more than finding them. After N images that has happened about log2(N / k) times.

    Args:
        channels: Number of feature maps, C.
        k: Activations to keep for each map, ≥ 1.
        groups: int64 [images], of each image by id the group that it belongs to, such as the photo that it is a crop
            of: the strongest of a group stands for all of it. None: each image for itself.

    Raises:
        ValueError: ``channels`` or ``k`` below 1.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 4, figure 2.
    """

    def __init__(self, channels: int, k: int = 9, groups: Tensor | None = None) -> None:
        if channels < 1:
            raise ValueError(f"TopK: expected channels ≥ 1, got {channels}")
        if k < 1:
            raise ValueError(f"TopK: expected k ≥ 1, got {k}")
        self.channels, self.k, self.groups = channels, k, groups
        self.reset()

    def reset(self) -> None:
        """Forgets everything seen so far."""
        self._values = torch.full((self.channels, self.k), float("-inf"), dtype=torch.float64)
        self._ids = torch.full((self.channels, self.k), EMPTY)
        self._positions = torch.zeros(self.channels, self.k, 2, dtype=torch.int64)
        self._nans = torch.zeros(self.channels, dtype=torch.int64)
        self._fired = torch.zeros(self.channels, dtype=torch.int64)
        self._images = torch.zeros((), dtype=torch.int64)
        self._largest_last = EMPTY  # among the last ids of all lists: only ids below it can win a tie
        self._waiting: list[Candidates] = []
        self._waits = 0  # how many candidates that is

    def update(
        self,
        activations: Tensor,  # [N, C, h, w] or [N, C], on any device
        image_ids: Tensor,  # int64 [N], ≥ 0, not fed before
    ) -> Tensor:  # [N, C], on the CPU
        """Takes in the activations of N images; returns the maximum of each map, NaN aside, -inf where all are NaN.

        Raises:
            TypeError: ``activations`` is not of floating point.
            ValueError: A shape does not fit, or an id is negative.
        """
        activations = self._checked(activations, image_ids)
        if len(image_ids) == 0:
            return activations.new_zeros(0, self.channels, device="cpu")
        values, places = strongest(activations)
        ids = image_ids.cpu()
        enters = ~(values <= self._values[:, -1])  # a NaN too
        if int(ids.min()) < self._largest_last:
            enters |= (values == self._values[:, -1]) & (ids[:, None] < self._ids[:, -1])
        image, channel = enters.nonzero(as_tuple=True)
        if len(image) and values[image, channel].isnan().any():
            nan = activations.isnan()
            self._nans += nan.sum((0, 2, 3)).cpu()
            activations = activations.masked_fill(nan, float("-inf"))
            values, places = strongest(activations)
            enters &= values > float("-inf")
            image, channel = enters.nonzero(as_tuple=True)
        self._fired += (values > 0).sum(0)
        self._images += len(ids)
        if len(image) == 0:
            return values
        if self.groups is not None:
            may = self._beats_its_group(values[image, channel], ids[image], channel)
            image, channel = image[may], channel[may]
        if places is None:
            maps = activations[image.to(activations.device), channel.to(activations.device)]
            place = maps.flatten(1).argmax(1).cpu()
        else:
            place = places[image, channel]
        columns = activations.shape[3]
        positions = torch.stack([place // columns, place % columns], 1)
        self._waiting.append((channel, values[image, channel].double(), ids[image], positions))
        self._waits += len(image)
        if self._waits >= self._ids.numel():
            self._settle()
        return values

    def merge(self, other: TopK) -> None:
        """Takes in what ``other`` has seen, as if this one had seen it.

        Raises:
            ValueError: ``other`` has another number of maps or another k.
        """
        if (other.channels, other.k) != (self.channels, self.k):
            raise ValueError(
                f"TopK.merge: expected other with {self.channels} channels and k = {self.k}, "
                f"got {other.channels} and {other.k}"
            )
        self._nans += other._nans
        self._fired += other._fired
        self._images += other._images
        self._waiting += (other._own(), *other._waiting)
        self._settle()

    def compute(self) -> Ranking:
        """The ranking of what was seen so far."""
        self._settle()
        return Ranking(
            self._values.clone(), self._ids.clone(), self._positions.clone(), self._nans.clone(), self._fired.clone(),
            int(self._images),
        )  # fmt: skip

    def state_dict(self) -> dict[str, Tensor]:
        """The state as tensors, to be saved; ``load_state_dict`` takes it."""
        self._settle()
        return {
            "values": self._values.clone(),
            "image_ids": self._ids.clone(),
            "positions": self._positions.clone(),
            "nans": self._nans.clone(),
            "fired": self._fired.clone(),
            "images": self._images.clone(),
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Replaces the state by a saved one.

        Raises:
            ValueError: The state is of another number of maps or another k.
        """
        if state["values"].shape != self._values.shape:
            raise ValueError(
                f"TopK.load_state_dict: expected state of shape {tuple(self._values.shape)}, "
                f"got {tuple(state['values'].shape)}"
            )
        self._values, self._ids = state["values"].clone(), state["image_ids"].clone()
        self._positions, self._nans = state["positions"].clone(), state["nans"].clone()
        self._fired, self._images = state["fired"].clone(), state["images"].clone()
        self._largest_last = int(self._ids[:, -1].max())
        self._waiting, self._waits = [], 0

    def _own(self) -> Candidates:
        """The entries of all lists, by channel."""
        return self._entries(self._values, self._ids, self._positions)

    def _entries(self, values: Tensor, ids: Tensor, positions: Tensor) -> Candidates:
        channel = torch.arange(self.channels).repeat_interleave(self.k)
        return channel, values.flatten(), ids.flatten(), positions.flatten(0, 1)

    def _vacant(self) -> Candidates:
        """As many entries that nobody has taken."""
        ids = torch.full_like(self._ids, EMPTY)
        return self._entries(torch.full_like(self._values, float("-inf")), ids, torch.zeros_like(self._positions))

    def _beats_its_group(self, values: Tensor, ids: Tensor, channel: Tensor) -> Tensor:
        """bool: whether a candidate is no weaker than what its list has of its group already."""
        assert self.groups is not None
        there = self.groups[self._ids.clamp(min=0)].masked_fill(self._ids == EMPTY, EMPTY)
        same = there[channel] == self.groups[ids, None]
        return values >= self._values[channel].masked_fill(~same, float("-inf")).amax(1)

    def _strongest_of_groups(self, channel: Tensor, ids: Tensor) -> Tensor:
        """bool: whether an entry, of those sorted by channel and rank, is the first of its channel and group."""
        assert self.groups is not None
        group = self.groups[ids.clamp(min=0)]
        _, key = (
            (channel * (1 + self.groups.max()) + group).masked_fill(ids == EMPTY, EMPTY).unique(return_inverse=True)
        )
        rank = torch.arange(len(key))
        first = torch.full_like(key, len(key)).scatter_reduce(0, key, rank, "amin")
        return (first[key] == rank) | (ids == EMPTY)

    def _settle(self) -> None:
        """Sorts what waits into the lists."""
        if not self._waiting:
            return
        spare = () if self.groups is None else (self._vacant(),)  # in place of entries of one group
        columns = zip(self._own(), *spare, *self._waiting, strict=True)
        channel, values, ids, positions = (torch.cat(column) for column in columns)
        order = ids.argsort()
        order = order[values[order].argsort(descending=True, stable=True)]
        order = order[channel[order].argsort(stable=True)]
        if self.groups is not None:
            order = order[self._strongest_of_groups(channel[order], ids[order])]
        first = torch.searchsorted(channel[order], torch.arange(self.channels))
        best = order[first[:, None] + torch.arange(self.k)]  # there are k or more of each channel: its own entries
        self._values, self._ids, self._positions = values[best], ids[best], positions[best]
        self._largest_last = int(self._ids[:, -1].max())
        self._waiting, self._waits = [], 0

    def _checked(self, activations: Tensor, image_ids: Tensor) -> Tensor:
        if not activations.is_floating_point():
            raise TypeError(f"TopK.update: expected activations of floating point, got {activations.dtype}")
        if activations.dim() == 2:
            activations = activations[:, :, None, None]
        if activations.dim() != 4 or activations.shape[1] != self.channels or 0 in activations.shape[2:]:
            raise ValueError(
                f"TopK.update: expected activations of shape [N, {self.channels}, h, w] or [N, {self.channels}], "
                f"got {list(activations.shape)}"
            )
        if image_ids.shape != activations.shape[:1]:
            raise ValueError(
                f"TopK.update: expected image_ids of shape [{len(activations)}], got {list(image_ids.shape)}"
            )
        if (image_ids < 0).any():
            raise ValueError(f"TopK.update: expected image_ids ≥ 0, got {int(image_ids.min())}")
        return activations
