"""What a study of a training's evolution returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from zfkernels.results.result import Result, Variables, plural

if TYPE_CHECKING:
    from matplotlib.figure import Figure


SETTLED = 0.9  # cosine with the end from which features are said to have settled


@dataclass(frozen=True, eq=False, repr=False)
class LayerEvolution(Result):
    """The strongest activation of M maps of one layer over a training set, at E epochs.

    Attributes:
        layer: Its name.
        maps: int64 [M].
        image: int64 [E, M], the image that excites the map most; -1 where none excites it (a dead map).
        value: float64 [E, M], the activation.
        position: int64 [E, M, 2], row and column in the map.
        tiles: [E, M, 3, h, w], its projection in the model's input units: the receptive field, or the whole image where
            that is no larger. Zero outside the image.
        fixed: [E, M], cosine of the projection of the map in the image that excites it most at the last epoch, with
            that of the last epoch; NaN where a projection is zero; None where the last epoch was not known yet.
    """

    layer: str
    maps: Tensor
    image: Tensor
    value: Tensor
    position: Tensor
    tiles: Tensor
    fixed: Tensor | None = None

    @property
    def jumps(self) -> Tensor:
        """bool [E, M]: whether the strongest image is another one than at the epoch before; false for the first."""
        changed = torch.zeros_like(self.image, dtype=torch.bool)
        changed[1:] = self.image[1:] != self.image[:-1]
        return changed

    @property
    def similarity(self) -> Tensor:
        """[E, M]: cosine of each tile with that of the last epoch; it drops where the strongest image changes."""
        flat = self.tiles.flatten(2)
        return cosine(flat, flat[-1:])

    @property
    def settled(self) -> Tensor:
        """[E, M]: ``fixed`` where the last epoch was known, else ``similarity``; NaN where a projection is zero."""
        return self.similarity if self.fixed is None else self.fixed

    @property
    def convergence(self) -> Tensor:
        """[E]: mean of ``settled`` over the maps that some image excites at the last epoch, where it is 1.

        A projection that is zero at an earlier epoch counts as 0. NaN where all maps are dead at the end.
        """
        alive = ~self.settled[-1].isnan()
        return self.settled[:, alive].nan_to_num(0).clamp(max=1).mean(1)

    def headline(self) -> str:
        """The result in one line."""
        epochs, maps = self.image.shape
        return f"{plural(maps, 'map')} of {self.layer} at {plural(epochs, 'epoch')}"

    def overview(self) -> list[dict[str, Any]]:
        """A row for each map: the image that excites it most at the end, and how often another one became it."""
        return [
            {"map": number, "image at the end": int(self.image[-1, m]), "value at the end": float(self.value[-1, m]),
             "jumps": int(self.jumps[:, m].sum())}
            for m, number in enumerate(self.maps.tolist())
        ]  # fmt: skip

    def variables(self) -> Variables:
        """The tensors by name, with the names of their dimensions."""
        found: dict[str, tuple[tuple[str, ...], Tensor]] = {
            "maps": (("map",), self.maps),
            "image": (("epoch", "map"), self.image),
            "value": (("epoch", "map"), self.value),
            "position": (("epoch", "map", "place"), self.position),
            "tiles": (("epoch", "map", "color", "row", "column"), self.tiles),
            "similarity": (("epoch", "map"), self.similarity),
        }
        return found if self.fixed is None else {**found, "fixed": (("epoch", "map"), self.fixed)}

    def columns(self) -> Mapping[str, Sequence[Any]]:
        """A line for each epoch (by its place) and map."""
        epochs, maps = self.image.shape
        found = {
            "map": self.maps.repeat(epochs),
            "step": torch.arange(epochs).repeat_interleave(maps),
            "image": self.image.flatten(),
            "value": self.value.flatten(),
            "row": self.position[..., 0].flatten(),
            "column": self.position[..., 1].flatten(),
            "jump": self.jumps.flatten(),
            "similarity": self.similarity.flatten(),
        }
        return {name: values.tolist() for name, values in found.items()}


@dataclass(frozen=True, eq=False, repr=False)
class Evolution(Result):
    """The evolution of several layers.

    Attributes:
        epochs: int64 [E], counted from 1; 0 is the network before training.
        layers: One for each layer, lower ones first.
    """

    epochs: Tensor
    layers: tuple[LayerEvolution, ...]

    def settled_from(self, least: float = SETTLED) -> dict[str, int | None]:
        """Of each layer the first epoch from which ``convergence`` stays at ``least`` or more; None: all maps are dead.

        Raises:
            ValueError: ``least`` is not above 0 and at most 1.
        """
        if not 0 < least <= 1:
            raise ValueError(f"Evolution.settled_from: expected least above 0 and at most 1, got {least}")
        found: dict[str, int | None] = {}
        last = len(self.epochs) - 1
        for layer in self.layers:
            below = (layer.convergence < least).nonzero()[:, 0].tolist()
            alive = bool(layer.convergence.isfinite().all())
            found[layer.layer] = int(self.epochs[min(max(below, default=-1) + 1, last)]) if alive else None
        return found

    def last_changes(self) -> dict[str, Tensor]:
        """int64 [M] of each layer: the last epoch at which another image than before is a map's strongest one; the
        first epoch where that never happens."""
        found = {}
        for layer in self.layers:
            steps = torch.arange(len(self.epochs))[:, None] * layer.jumps
            found[layer.layer] = self.epochs[steps.amax(0)]
        return found

    def plot(self) -> Figure:
        """How soon the projections settle, and how often another image becomes the strongest, by layer."""
        from zfkernels.viz import convergence_figure

        return convergence_figure(self)

    def headline(self) -> str:
        """The result in one line."""
        epochs = ", ".join(str(epoch) for epoch in self.epochs.tolist())
        return f"{plural(len(self.layers), 'layer')} at epochs {epochs}"

    def overview(self) -> list[dict[str, Any]]:
        """A row for each layer."""
        settled, changes = self.settled_from(), self.last_changes()
        return [
            {
                "layer": layer.layer, "maps": len(layer.maps), "dead at the end": int((layer.image[-1] < 0).sum()),
                "jumps of a map": float(layer.jumps.double().sum(0).mean()),
                "cosine at the first epoch": float(layer.convergence[0]),
                f"cosine {SETTLED} from epoch": settled[layer.layer],
                "last change of the strongest image, median": int(changes[layer.layer].median()),
            }
            for layer in self.layers
        ]  # fmt: skip

    def variables(self) -> Variables:
        """The tensors by name, a layer's with its name; each layer has dimensions of its own beside the epochs."""
        found: dict[str, tuple[tuple[str, ...], Tensor]] = {}
        for layer in self.layers:
            for name, (dims, values) in layer.variables().items():
                own = tuple(dim if dim == "epoch" else f"{dim} of {layer.layer}" for dim in dims)
                found[f"{name} of {layer.layer}"] = own, values
        return found

    def coordinates(self) -> Mapping[str, Sequence[Any]]:
        """The epochs."""
        return {"epoch": self.epochs.tolist()}

    def columns(self) -> Mapping[str, Sequence[Any]]:
        """A line for each layer, epoch and map."""
        tables = [layer.columns() for layer in self.layers]
        epochs = self.epochs.tolist()
        found: dict[str, Sequence[Any]] = {
            "layer": [layer.layer for layer, table in zip(self.layers, tables, strict=True) for _ in table["map"]],
            "epoch": [epochs[step] for table in tables for step in table["step"]],
        }
        return found | {name: [v for table in tables for v in table[name]] for name in tables[0] if name != "step"}


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine along the last dimension; NaN where one of the two is zero."""
    return (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))
