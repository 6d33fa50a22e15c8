"""Occlusion sweeps over a data set, kept on disk: written image by image, taken up after a crash, read as arrays."""

from zfkernels.store.reader import SweepStore
from zfkernels.store.write import store_sweeps

__all__ = ["SweepStore", "store_sweeps"]
