"""The ops: functions on tensors, each with a pure PyTorch reference and the faster variants that this machine can run.

Every op is also registered as ``torch.ops.zfkernels.<op>`` (flat tensors and sizes), for ``torch.compile`` and export.
"""

from zfkernels.ops._backends import BACKENDS, BackendError, requested_backend, use_backend
from zfkernels.ops._native import build_info, cpu_variants, fixed_weights
from zfkernels.ops._registry import availability, registered
from zfkernels.ops.max_pool2d_with_switches.op import (
    indices_to_switches,
    max_pool2d_with_switches,
    switches_to_indices,
)
from zfkernels.ops.max_unpool2d_with_switches.op import max_unpool2d_with_switches
from zfkernels.ops.occluded_conv2d.op import occluded_conv2d
from zfkernels.ops.unpool_relu_conv_transpose2d.op import unpool_relu_conv_transpose2d
from zfkernels.ops.window_avg_pool2d.op import window_avg_pool2d
from zfkernels.ops.window_conv2d.op import window_conv2d
from zfkernels.ops.window_gather.op import window_gather
from zfkernels.ops.window_max_pool2d.op import window_max_pool2d
from zfkernels.ops.window_reduce.op import window_reduce

__all__ = [
    "BACKENDS",
    "BackendError",
    "availability",
    "build_info",
    "cpu_variants",
    "fixed_weights",
    "indices_to_switches",
    "max_pool2d_with_switches",
    "max_unpool2d_with_switches",
    "occluded_conv2d",
    "registered",
    "requested_backend",
    "switches_to_indices",
    "unpool_relu_conv_transpose2d",
    "use_backend",
    "window_avg_pool2d",
    "window_conv2d",
    "window_gather",
    "window_max_pool2d",
    "window_reduce",
]
