"""Training and evaluation of classifiers (extra ``train``)."""

from zfkernels._extras import require

require("lightning", "train")

from zfkernels.training.callbacks import EpochWeights, RenormalizeFilters  # noqa: E402
from zfkernels.training.data import ImageClasses  # noqa: E402
from zfkernels.training.evaluation import evaluate  # noqa: E402
from zfkernels.training.evolution import FeatureEvolution, TrainingImages  # noqa: E402
from zfkernels.training.export import save_weights  # noqa: E402
from zfkernels.training.module import Classifier, Diverged  # noqa: E402
from zfkernels.training.networks import new_network  # noqa: E402
from zfkernels.training.recipe import PAPER, SMALL, Recipe  # noqa: E402
from zfkernels.training.run import train  # noqa: E402

__all__ = [
    "PAPER",
    "SMALL",
    "Classifier",
    "Diverged",
    "EpochWeights",
    "FeatureEvolution",
    "ImageClasses",
    "Recipe",
    "RenormalizeFilters",
    "TrainingImages",
    "evaluate",
    "new_network",
    "save_weights",
    "train",
]
