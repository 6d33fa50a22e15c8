"""Operations that are affine in what they read: their derivative is the same at every input."""

from __future__ import annotations

from zfkernels.network.kinds.base import op_name, source
from zfkernels.network.recording import Ref, Step
from zfkernels.network.tree import leaves

# In all of their inputs together.
_ALL = {
    "add", "sub", "rsub", "neg", "cat", "concat", "concatenate", "stack", "clone", "contiguous", "detach", "alias",
    "dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "to", "_to_copy", "view", "reshape",
    "_unsafe_view", "flatten", "unflatten", "unsqueeze", "squeeze", "permute", "transpose", "swapaxes", "swapdims",
    "movedim", "slice", "narrow", "select", "index_select", "flip", "roll", "expand", "repeat", "chunk", "split",
    "split_with_sizes", "unbind", "tensor_split", "mean", "sum", "pad", "constant_pad_nd", "reflection_pad2d",
    "replication_pad2d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool2d", "upsample_nearest2d",
    "_upsample_nearest_exact2d", "upsample_bilinear2d", "upsample_bicubic2d", "pixel_shuffle", "pixel_unshuffle",
    "channel_shuffle", "im2col", "col2im",
}  # fmt: skip
# In their first argument, as long as all others are fixed.
_FIRST = {
    "mul", "div", "linear", "matmul", "mm", "conv1d", "conv2d", "convolution", "conv_transpose2d", "batch_norm",
}  # fmt: skip


def is_affine(step: Step) -> bool:
    """Whether the operation is affine in all of its inputs together."""
    name = op_name(step)
    if name in _ALL:
        return True
    reads = [leaf for leaf in leaves((step.args, step.kwargs)) if isinstance(leaf, Ref)]
    return name in _FIRST and len(reads) == 1 and bool(step.args) and source(step.args[0]) is not None
