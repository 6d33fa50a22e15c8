"""What an occlusion sweep with several fills returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from zfkernels.results.occlusion import OcclusionMap, Target
from zfkernels.results.result import Result, Variables, plural


@dataclass(frozen=True, eq=False, repr=False)
class OcclusionFills(Result):
    """The same sweep with several fills: how much of a map is the image's, and how much the fill's.

    Attributes:
        maps: one for each fill.
        names: of the fills.
    """

    maps: tuple[OcclusionMap, ...]
    names: tuple[str, ...]

    @property
    def outputs(self) -> Any:
        """The outputs of all fills: each tensor [F, N, rows, cols, ...]."""
        return pytree.tree_map(lambda *parts: torch.stack(parts), *(each.outputs for each in self.maps))

    @property
    def clean(self) -> Any:
        """The outputs for the clean images, as of each map."""
        return self.maps[0].clean

    def drops(self, target: Target = None) -> Tensor:
        """[F, N, rows, cols]: clean minus occluded output of a class, as :meth:`OcclusionMap.drop`."""
        return torch.stack([each.drop(target) for each in self.maps])

    def mean(self, target: Target = None) -> Tensor:
        """[N, rows, cols]: the mean of the drops over the fills."""
        return self.drops(target).mean(0)

    def spread(self, target: Target = None) -> Tensor:
        """[N, rows, cols]: the standard deviation of the drops over the fills (of these fills: divided by F)."""
        return self.drops(target).std(0, correction=0)

    def agreement(self, target: Target = None) -> Tensor:
        """[N, F, F]: Spearman's correlation of the drops of two fills over the positions; equal drops share a rank."""
        drops = self.drops(target).flatten(2).double()  # [F, N, P]
        ranks = _ranks(drops)
        centred = ranks - ranks.mean(2, keepdim=True)
        scaled = centred / centred.norm(dim=2, keepdim=True)
        return torch.einsum("fnp,gnp->nfg", scaled, scaled)

    def headline(self) -> str:
        """The result in one line."""
        return f"{plural(len(self.maps), 'fill')} ({', '.join(self.names)}): {self.maps[0].headline()}"

    def overview(self) -> list[dict[str, Any]]:
        """For each fill and image, where hiding hurts it most."""
        return [{"fill": name, **row} for name, each in zip(self.names, self.maps, strict=True)
                for row in each.overview()]  # fmt: skip

    def variables(self) -> Variables:
        """The tensors by name; outputs and activities with the dimension "fill" in front."""
        found: dict[str, tuple[tuple[str, ...], Tensor]] = {}
        each = [one.variables() for one in self.maps]
        for name, (dims, tensor) in each[0].items():
            varies = name.startswith("outputs") or name == "activity"
            stacked = torch.stack([variables[name][1] for variables in each]) if varies else tensor
            found[name] = (("fill", *dims) if varies else dims, stacked)
        return found

    def coordinates(self) -> dict[str, Sequence[Any]]:
        """As of each map, and the fills by their names."""
        return {**self.maps[0].coordinates(), "fill": self.names}

    def columns(self) -> dict[str, Sequence[Any]]:
        """A line for each fill, image and place."""
        found: dict[str, list[Any]] = {}
        for name, each in zip(self.names, self.maps, strict=True):
            columns = each.columns()
            for column, values in {"fill": [name] * len(next(iter(columns.values()))), **columns}.items():
                found.setdefault(column, []).extend(values)
        return dict(found)


def joined(maps: Sequence[Any]) -> Any:
    """Maps of one image each, over the same positions, as one map of all images."""
    first = maps[0]
    if isinstance(first, OcclusionFills):
        fills = tuple(joined([each.maps[f] for each in maps]) for f in range(len(first.maps)))
        return OcclusionFills(fills, first.names)

    def cat(*parts: Any) -> Any:
        return torch.cat(parts) if isinstance(parts[0], Tensor) else parts[0]

    changes: dict[str, Any] = {
        name: pytree.tree_map(cat, *(getattr(each, name) for each in maps)) for name in ("outputs", "clean")
    }
    watched = first.activity is not None
    if watched:
        changes |= {name: cat(*(getattr(each, name) for each in maps)) for name in ("activity", "clean_activity")}
    if watched and first.strongest_activity is not None:
        changes["channel"] = cat(*(each.channel for each in maps))
    if first.boxes is not None:
        changes["boxes"] = torch.stack([each.boxes for each in maps])
    return replace(first, **changes)


def _ranks(values: Tensor) -> Tensor:
    """Ranks along the last axis, float64; equal values share the mean of theirs."""
    smaller = (values[..., None, :] < values[..., :, None]).sum(-1)
    equal = (values[..., None, :] == values[..., :, None]).sum(-1)
    return smaller.double() + (equal.double() + 1) / 2
