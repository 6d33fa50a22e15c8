"""The strongest activations of every feature map over a whole data set, projected to pixels, on a page."""

from zfkernels.gallery.build import build_gallery
from zfkernels.gallery.compare import compare_galleries
from zfkernels.gallery.exports import to_fiftyone, to_mlflow, to_wandb
from zfkernels.gallery.layers import default_layers
from zfkernels.gallery.reader import Gallery

__all__ = [
    "Gallery",
    "build_gallery",
    "compare_galleries",
    "default_layers",
    "to_fiftyone",
    "to_mlflow",
    "to_wandb",
]
