"""What classifiers trained on a network's features reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from zfkernels.results.result import Result, Variables, plural

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False, repr=False)
class Transfer(Result):
    """Accuracy of a new classifier for features, by the number of training images.

    Attributes:
        classifier: ``"softmax"`` or ``"svm"``.
        train_per_class: int64 [S], training images of each class.
        accuracy: float64 [S, F], mean over classes of the accuracy in each of F folds, in [0, 1].
        class_accuracy: float64 [S, C], of each class, the mean over folds.
    """

    classifier: str
    train_per_class: Tensor
    accuracy: Tensor
    class_accuracy: Tensor

    @property
    def mean(self) -> Tensor:
        """float64 [S]: over folds."""
        return self.accuracy.mean(1)

    @property
    def std(self) -> Tensor:
        """float64 [S]: the standard deviation over folds; 0 for one fold."""
        return self.accuracy.std(1) if self.accuracy.shape[1] > 1 else self.accuracy[:, 0] * 0

    def plot(self, name: str = "") -> Figure:
        """Accuracy by training images of each class; ``name``: of the line."""
        from zfkernels.viz import transfer_figure

        return transfer_figure({name or self.classifier: self})

    def headline(self) -> str:
        """The result in one line."""
        classes, folds = self.class_accuracy.shape[1], self.accuracy.shape[1]
        return f"{self.classifier} for {plural(classes, 'class')}, {plural(folds, 'fold')}"

    def overview(self) -> list[dict[str, Any]]:
        """A row for each number of training images."""
        return [
            {"training images of a class": count, "accuracy": mean, "std over folds": std}
            for count, mean, std in zip(
                self.train_per_class.tolist(), self.mean.tolist(), self.std.tolist(), strict=True
            )
        ]

    def variables(self) -> Variables:
        """The tensors by name, with the names of their dimensions."""
        return {
            "accuracy": (("train_per_class", "fold"), self.accuracy),
            "class_accuracy": (("train_per_class", "class"), self.class_accuracy),
        }

    def coordinates(self) -> Mapping[str, Sequence[Any]]:
        """Numbers of training images."""
        return {"train_per_class": self.train_per_class.tolist()}

    def columns(self) -> Mapping[str, Sequence[Any]]:
        """A line for each number of training images and fold."""
        sizes, folds = self.accuracy.shape
        return {
            "classifier": [self.classifier] * (sizes * folds),
            "train_per_class": self.train_per_class.repeat_interleave(folds).tolist(),
            "fold": list(range(folds)) * sizes,
            "accuracy": self.accuracy.flatten().tolist(),
        }


@dataclass(frozen=True, eq=False, repr=False)
class LayerProbe(Result):
    """How well classes can be told from the features of each of several layers.

    Attributes:
        layers: L names.
        transfers: One for each layer, on the same folds.
    """

    layers: tuple[str, ...]
    transfers: tuple[Transfer, ...]

    def plot(self, name: str = "") -> Figure:
        """Accuracy by layer, for the largest number of training images; ``name``: of the line."""
        from zfkernels.viz import probe_figure

        return probe_figure({name or self.transfers[0].classifier: self})

    def headline(self) -> str:
        """The result in one line."""
        return f"{plural(len(self.layers), 'layer')}: {self.transfers[0].headline()}"

    def overview(self) -> list[dict[str, Any]]:
        """A row for each layer and number of training images."""
        return [
            {"layer": layer, **row}
            for layer, found in zip(self.layers, self.transfers, strict=True)
            for row in found.overview()
        ]

    def variables(self) -> Variables:
        """The tensors by name, a layer's with its name."""
        return {
            f"{name} of {layer}": value
            for layer, found in zip(self.layers, self.transfers, strict=True)
            for name, value in found.variables().items()
        }

    def coordinates(self) -> Mapping[str, Sequence[Any]]:
        """Numbers of training images."""
        return self.transfers[0].coordinates()

    def columns(self) -> Mapping[str, Sequence[Any]]:
        """A line for each layer, number of training images and fold."""
        tables = [found.columns() for found in self.transfers]
        names = [layer for layer, table in zip(self.layers, tables, strict=True) for _ in table["fold"]]
        return {"layer": names, **{name: [v for table in tables for v in table[name]] for name in tables[0]}}
