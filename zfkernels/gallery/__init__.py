"""The strongest activations of every feature map over a whole data set, projected to pixels, on a page."""

from zfkernels.gallery.build import build_gallery
from zfkernels.gallery.layers import default_layers
from zfkernels.gallery.reader import Gallery

__all__ = ["Gallery", "build_gallery", "default_layers"]
