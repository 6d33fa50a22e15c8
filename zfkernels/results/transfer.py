"""What classifiers trained on a network's features reach."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Transfer:
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


@dataclass(frozen=True)
class LayerProbe:
    """How well classes can be told from the features of each of several layers.

    Attributes:
        layers: L names.
        transfers: One for each layer, on the same folds.
    """

    layers: tuple[str, ...]
    transfers: tuple[Transfer, ...]
