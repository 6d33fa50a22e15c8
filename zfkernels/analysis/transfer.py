"""Transfer: a new classifier on features of a network that was trained on something else.

Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 5.2, tables 4 and 5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zfkernels._extras import require
from zfkernels.progress import progress_bar
from zfkernels.results import Transfer

CLASSIFIERS = ("softmax", "svm")


def folds_of(
    labels: Tensor,  # int64 [N]
    *,
    train_per_class: int,
    test_per_class: int = 50,
    folds: int = 5,
    seed: int = 0,
    names: Sequence[str] | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The paper's folds: in each, of every class ``train_per_class`` random images to train, others to test.

    The order of a class is drawn once for each fold, so that a larger ``train_per_class`` contains a smaller one's
    images.

    Args:
        labels: The class of each image, from 0 on.
        train_per_class: Images of each class to train.
        test_per_class: At most so many of the rest to test.
        folds: How many folds.
        seed: Of the random choice.
        names: Of the classes, to name one that has too few images.

    Yields:
        Indices to train and indices to test, int64.

    Raises:
        ValueError: A class with at most ``train_per_class`` images, which is named; one class only; a number below 1.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 5.2.
    """
    for name, value in (("train_per_class", train_per_class), ("test_per_class", test_per_class), ("folds", folds)):
        if value < 1:
            raise ValueError(f"transfer: expected {name} ≥ 1, got {value}")
    counts = torch.bincount(labels)
    if len(counts) < 2:
        raise ValueError(f"transfer: expected labels of at least 2 classes, got {len(counts)}")
    few = (counts <= train_per_class).nonzero().flatten().tolist()
    if few:
        named = ", ".join(f"{names[n] if names else n} ({counts[n]})" for n in few[:5])
        more = f" and {len(few) - 5} more" if len(few) > 5 else ""
        raise ValueError(
            f"transfer: expected more than {train_per_class} images of each class, {train_per_class} to train and the "
            f"rest to test, got fewer of {named}{more}"
        )
    members = [(labels == label).nonzero().flatten() for label in range(len(counts))]
    for fold in range(folds):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + fold)
        shuffled = [found[torch.randperm(len(found), generator=generator)] for found in members]
        train = torch.cat([found[:train_per_class] for found in shuffled])
        yield train, torch.cat([found[train_per_class:][-test_per_class:] for found in shuffled])


def transfer(
    features: Tensor,  # [N, D]
    labels: Tensor,  # int64 [N]
    *,
    train_per_class: Sequence[int] = (15, 30),
    test_per_class: int = 50,
    folds: int = 5,
    classifier: str = "softmax",
    regularization: float = 1.0,
    seed: int = 0,
    names: Sequence[str] | None = None,
    progress: bool = False,
) -> Transfer:
    """Trains a new classifier on features, and measures it on other images.

    Differs from the paper: features are standardised with the training images' mean and deviation; the network below
    is not trained on. The paper trains its softmax by gradient descent, here scikit-learn finds the minimum.

    Args:
        features: Of each image.
        labels: The class of each image, from 0 on.
        train_per_class: Images of each class to train, one result for each number.
        test_per_class: As of ``folds_of``.
        folds: The same.
        seed: The same.
        names: The same.
        classifier: ``"softmax"``: multinomial logistic regression; ``"svm"``: a linear support vector machine, one
            class against the others.
        regularization: Strength of the L2 penalty, in units of scikit-learn's default for standardised features of
            this dimension: C = 1 / (regularization * D).
        progress: Whether to show a progress bar.

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError: As of ``folds_of``; features that are no finite [N, D]; an unknown classifier.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), tables 4, 5 and 7.
    """
    if classifier not in CLASSIFIERS:
        raise ValueError(f"transfer: expected classifier one of {', '.join(CLASSIFIERS)}, got {classifier!r}")
    if features.dim() != 2 or len(features) != len(labels) or not bool(features.isfinite().all()):
        raise ValueError(
            f"transfer: expected features finite and of shape [{len(labels)}, D], got {list(features.shape)}"
        )
    if not train_per_class or not regularization > 0:
        raise ValueError(
            f"transfer: expected a train_per_class and regularization > 0, got {train_per_class}, {regularization}"
        )
    make = _maker(classifier, 1 / (regularization * features.shape[1]), seed)
    classes = int(labels.max()) + 1
    found = torch.zeros(len(train_per_class), folds, classes, dtype=torch.float64)
    with progress_bar(len(train_per_class) * folds, "fits", progress) as advance:
        for s, count in enumerate(train_per_class):
            splits = folds_of(
                labels, train_per_class=count, test_per_class=test_per_class, folds=folds, seed=seed, names=names
            )
            for fold, (train, test) in enumerate(splits):
                found[s, fold] = class_accuracy(_predict(make, features, labels, train, test), labels[test], classes)
                advance(1)
    return Transfer(classifier, torch.tensor(list(train_per_class)), found.mean(2), found.mean(1))


def class_accuracy(
    predicted: Tensor,  # int64 [M]
    labels: Tensor,  # int64 [M]
    classes: int,
) -> Tensor:  # float64 [classes]
    """The share of each class's images that were told right; their mean is the paper's figure."""
    right = torch.bincount(labels[predicted == labels], minlength=classes)
    return right.double() / torch.bincount(labels, minlength=classes)


def _predict(make: Callable[[], Any], features: Tensor, labels: Tensor, train: Tensor, test: Tensor) -> Tensor:
    known, unknown = features[train].float(), features[test].float()
    mean, std = known.mean(0), known.std(0)
    std = torch.where(std > 0, std, 1.0)
    model = make().fit(((known - mean) / std).numpy(), labels[train].numpy())
    return torch.from_numpy(np.asarray(model.predict(((unknown - mean) / std).numpy())))


def _maker(classifier: str, strength: float, seed: int) -> Callable[[], Any]:
    if classifier == "svm":
        svm = require("sklearn.svm", "probe")
        # The dual problem is solved 2.3 times sooner here even where images outnumber features, with the same result.
        return lambda: svm.LinearSVC(C=strength, dual=True, random_state=seed, max_iter=3000)
    linear = require("sklearn.linear_model", "probe")
    return lambda: linear.LogisticRegression(C=strength, max_iter=300)
