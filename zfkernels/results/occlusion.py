"""What an occlusion sweep returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from zfkernels.results.look import UNKNOWN, Look, class_numbers
from zfkernels.results.probability import activation_of, probabilities
from zfkernels.results.result import Result, Variables, plural

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Target = int | str | Sequence[int | str] | Tensor | None


@dataclass(frozen=True, eq=False, repr=False)
class OcclusionMap(Result):
    """What a network says while a square hides each part of the image in turn.

    Attributes:
        positions: int64 [rows, cols, 2] (or [P, 2]): row and column of the square's upper left corner.
        window: (height, width) of the square; of windows and regions the largest.
        outputs: [N, rows, cols, classes] (or [N, P, classes]), the model's raw outputs; with ``targets``, theirs alone.
            Of a model that returns something else: of the form of its own output, each tensor [N, rows, cols, ...].
            With ``reduce``, what it made of them; with ``outputs=False`` an empty tuple, as ``clean``.
        clean: [N, classes], the raw outputs for the clean images, all classes; or of the form of the model's output.
        targets: int64 [T], the classes that ``outputs`` holds; None: all.
        channel: int64 [N], with ``layer``: the map with the largest spatial sum on the clean image; with ``units`` the
            maps that were watched, int64 [U].
        activity: [N, rows, cols] (or [N, P]), with ``layer``: that map's spatial sum; with ``units``
            [N, rows, cols, U], the statistic of each map.
        clean_activity: [N] or [N, U], the same with nothing hidden.
        boxes: int64 [P, 4] (top, left, height, width), what was hidden, where that is no square of one size; [N, P, 4]
            with regions of each image.
        batch_size: positions that travelled together.
        look: the colours of the model's inputs and the names of its classes, as far as the model says.
    """

    positions: Tensor
    window: tuple[int, int]
    outputs: Any
    clean: Any
    targets: Tensor | None = None
    channel: Tensor | None = None
    activity: Tensor | None = None
    look: Look = UNKNOWN
    clean_activity: Tensor | None = None
    boxes: Tensor | None = None
    batch_size: int = 0

    def probability(self, target: Target = None, activation: str | None = None) -> Tensor:
        """[N, rows, cols]: the probability of a class per position.

        Args:
            target: a class by number or name, or one for each image; None: each image's own, the most probable one
                when nothing is hidden.
            activation: ``"softmax"``, ``"sigmoid"``, or ``"none"`` for a model whose outputs are probabilities. None
                finds out: ``"none"`` where all rows sum to 1 within rounding, or the one value lies in [0, 1];
                ``"sigmoid"`` for one class; else ``"softmax"``.

        Raises:
            TypeError: a target that is no class, such as 3.7 or True.
            ValueError: no such class; a wrong number of them; a softmax of a sweep that kept a few classes only.
        """
        self._check_classes("probability")
        activation = self._activation(activation)
        if self.targets is not None and activation == "softmax":
            raise ValueError("probability: expected a sweep of all classes, got one of `targets` only")
        classes = self._classes("probability", target)
        return self._pick("probability", probabilities(self._scores, activation), classes)

    def clean_probability(self, target: Target = None, activation: str | None = None) -> Tensor:
        """[N]: the same for the clean images."""
        classes = self._classes("clean_probability", target)
        return probabilities(self._clean, self._activation(activation)).gather(1, classes[:, None])[:, 0]

    def best_class(self) -> Tensor:
        """int64 [N, rows, cols]: the most probable class (among ``targets`` if given) per position."""
        self._check_classes("best_class")
        best = self._scores.argmax(-1)
        return best if self.targets is None else self.targets[best]

    def drop(self, target: Target = None) -> Tensor:
        """[N, rows, cols]: clean minus occluded output of a class, positive where hiding hurts.

        Args:
            target: as :meth:`probability`'s.

        Raises:
            TypeError, ValueError: as :meth:`probability`.
        """
        classes = self._classes("drop", target)
        clean = self._clean.gather(1, classes[:, None]).view(-1, *[1] * (self._scores.dim() - 2))
        return clean - self._pick("drop", self._scores, classes)

    def _check_classes(self, method: str) -> None:
        if not self._is_classes:
            got = tuple(self.clean.shape) if isinstance(self.clean, Tensor) else type(self.clean).__name__
            raise ValueError(f"{method}: expected the sweep of a model that returns [N, classes], got {got}")

    def plot(
        self,
        images: Tensor | None = None,  # [N, C, H, W]
        target: Target = None,
        *,
        preprocess: Any = None,
        names: Sequence[str] = (),
    ) -> Figure:
        """A figure with a row for each image: the photo, the effect of hiding each place, the most probable class.

        The colours of the effect are centred on the value with nothing hidden, which the bar marks: red where hiding a
        place lowers it. With ``layer``, the strongest map's activity has a panel too.

        Args:
            images: what was swept; None: the maps alone.
            target: as :meth:`probability`'s.
            preprocess: how pixels became ``images``: an object with ``mean`` and ``std`` (``get_preprocess``,
                torchvision's ``weights.transforms()``), or a function from ``images`` back to pixels in [0, 1];
                None: as the model said.
            names: of the images.

        Raises:
            ValueError: images of another number, or positions that are no grid.
        """
        from zfkernels.viz.occlusion_map import occlusion_map_figure

        return occlusion_map_figure(
            self, images, self._classes("plot", target), preprocess=preprocess, names=tuple(names)
        )

    def headline(self) -> str:
        """The result in one line."""
        places = " x ".join(str(length) for length in self.positions.shape[:-1])
        watched = "" if self.activity is None else ", activity of the strongest map"
        if self.activity is not None and self.strongest_activity is None:
            watched = f", activity of {plural(self.activity.shape[-1], 'map')}"
        leaves = self._leaves()
        count = plural(self._scores.shape[-1], "class") if self._is_classes else plural(len(leaves), "output")
        images = len(next(iter(leaves.values()))) if self.activity is None else len(self.activity)
        height, width = self.window
        square = f"a square of {height} x {width} pixels"
        return f"{plural(images, 'image')}, {places} places of {square}, {count}{watched}"

    def overview(self) -> list[dict[str, Any]]:
        """For each image its own class, its value with nothing hidden, and where hiding hurts it most."""
        if not self._is_classes:
            return [
                {
                    "output": name,
                    "shape of one": " x ".join(map(str, values.shape[self.positions.dim() :])) or "a number",
                }
                for name, values in self._leaves().items()
            ]
        own = self.own_classes()
        what, values = self.shown_values(own)
        clean = self.clean_values(own)
        rows = []
        for n, label in enumerate(own.tolist()):
            lowest = int(values[n].argmin())
            top, left = self.positions.reshape(-1, 2)[lowest].tolist()
            rows.append({
                "image": n, "class": self.look.name(label), what: float(clean[n]),
                "lowest": float(values[n].flatten()[lowest]), "hidden there": f"row {top}, column {left}",
                "class kept": f"{float((self.best_class()[n] == label).double().mean()):.0%}",
            })  # fmt: skip
        return rows

    def shown_values(self, classes: Tensor) -> tuple[str, Tensor]:
        """What is shown of classes int64 [N]: their probability, or the raw output where no softmax can be taken."""
        if self.targets is not None and self._activation(None) == "softmax":
            return "output", self._pick("plot", self._scores, classes)
        return "probability", self.probability(classes)

    def clean_values(self, classes: Tensor) -> Tensor:
        """[N]: the same with nothing hidden."""
        if self.targets is not None and self._activation(None) == "softmax":
            return self._clean.gather(1, classes[:, None])[:, 0]
        return self.clean_probability(classes)

    def own_classes(self) -> Tensor:
        """int64 [N]: of the classes that were kept the largest one with nothing hidden."""
        return self._clean.argmax(1) if self.targets is None else self.targets[self._clean[:, self.targets].argmax(1)]

    def variables(self) -> Variables:
        """The tensors by name, with the names of their dimensions."""
        places = ("row", "column") if self.positions.dim() == 3 else ("place",)
        found: dict[str, tuple[tuple[str, ...], Tensor]] = {
            "positions": ((*places, "corner"), self.positions),
        }
        if self._is_classes:
            found["outputs"] = ("image", *places, "class"), self._scores
            found["clean"] = ("image", "class" if self.targets is None else "all_classes"), self._clean
        else:
            for name, values in self._leaves().items():
                own = (f"{name} axis {n}" for n in range(values.dim() - 1 - len(places)))
                found[name] = ("image", *places, *own), values
        if self.channel is not None and self.activity is not None:
            single = self.strongest_activity is not None
            unit = () if single else ("unit",)
            found["channel"] = (("image",) if single else unit, self.channel)
            found["activity"] = (("image", *places, *unit), self.activity)
            if self.clean_activity is not None:
                found["clean_activity"] = (("image", *unit), self.clean_activity)
        return found

    def coordinates(self) -> Mapping[str, Sequence[Any]]:
        """Rows and columns by the square's first pixel, classes by their numbers."""
        found: dict[str, Sequence[Any]] = {"corner": ("top", "left")}
        if self.positions.dim() == 3:
            found |= {"row": self.positions[:, 0, 0].tolist(), "column": self.positions[0, :, 1].tolist()}
        if self.targets is not None:
            found["class"] = self.targets.tolist()
        return found

    def columns(self) -> Mapping[str, Sequence[Any]]:
        """A line for each image and place: the square's corner, the image's own class, its output, drop and so on."""
        self._check_classes("to_pandas")
        flat, count = self.positions.reshape(-1, 2), len(self._scores)
        own = self.own_classes()
        what, values = self.shown_values(own)
        found = {
            "image": torch.arange(count).repeat_interleave(len(flat)),
            "top": flat[:, 0].repeat(count),
            "left": flat[:, 1].repeat(count),
            "class": own.repeat_interleave(len(flat)),
            what: values.flatten(),
            "drop": self.drop(own).flatten(),
            "best_class": self.best_class().flatten(),
        }
        if self.strongest_activity is not None:
            found["activity"] = self.strongest_activity.flatten()
        return {name: values.tolist() for name, values in found.items()}

    @property
    def _is_classes(self) -> bool:
        return isinstance(self.clean, Tensor) and self.clean.dim() in (1, 2)

    @property
    def _clean(self) -> Tensor:
        """[N, classes]; of a model that returns [N] one class."""
        return self.clean if self.clean.dim() == 2 else self.clean[:, None]

    @property
    def _scores(self) -> Tensor:
        """[N, rows, cols, classes]; likewise."""
        return self.outputs if self.clean.dim() == 2 else self.outputs[..., None]

    @property
    def strongest_activity(self) -> Tensor | None:
        """[N, rows, cols]: :attr:`activity` where it is that of each image's strongest map, else None."""
        if self.activity is None or self.activity.dim() != self.positions.dim():
            return None
        return self.activity

    def _leaves(self) -> dict[str, Tensor]:
        """The tensors of ``outputs`` by their places in it."""
        paths, _ = pytree.tree_flatten_with_path(self.outputs)
        return {f"outputs{pytree.keystr(path)}": values for path, values in paths}

    def _activation(self, activation: str | None) -> str:
        if activation is not None:
            return activation
        return activation_of(self._clean) if self.targets is not None else activation_of(self._clean, self._scores)

    def _classes(self, function: str, target: Target) -> Tensor:
        self._check_classes(function)
        return class_numbers(function, target, self._clean, self.look.classes)

    def _pick(self, function: str, values: Tensor, column: Tensor) -> Tensor:
        if self.targets is not None:
            known = self.targets[None, :] == column[:, None]
            if not known.any(1).all():
                raise ValueError(
                    f"{function}: expected one of the sweep's targets {self.targets.tolist()}, got "
                    f"{column[~known.any(1)].tolist()[0]}"
                )
            column = known.to(torch.int64).argmax(1)
        index = column.view(-1, *[1] * (values.dim() - 1)).expand(*values.shape[:-1], 1)
        return values.gather(-1, index)[..., 0]
