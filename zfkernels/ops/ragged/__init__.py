"""The ops on ragged windows: windows in, windows out, each of its own size, one launch for all of them."""

from zfkernels.ops.ragged.occluded_conv2d.op import occluded_conv2d
from zfkernels.ops.ragged.unpool_relu_conv_transpose2d.op import unpool_relu_conv_transpose2d
from zfkernels.ops.ragged.window_avg_pool2d.op import window_avg_pool2d
from zfkernels.ops.ragged.window_conv2d.op import window_conv2d
from zfkernels.ops.ragged.window_gather.op import window_gather
from zfkernels.ops.ragged.window_max_pool2d.op import window_max_pool2d
from zfkernels.ops.ragged.window_reduce.op import window_reduce

__all__ = [
    "occluded_conv2d",
    "unpool_relu_conv_transpose2d",
    "window_avg_pool2d",
    "window_conv2d",
    "window_gather",
    "window_max_pool2d",
    "window_reduce",
]
