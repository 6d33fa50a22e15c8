"""Slips in the geometry of windows, in derivatives, in the top-k and on the way through a network."""

from __future__ import annotations

from slips import Slip

GEOMETRY, WINDOWS, TOPK = "zfkernels/geometry.py", "zfkernels/windows.py", "zfkernels/analysis/topk.py"
OPS, NETWORK = "zfkernels/ops/", "zfkernels/network/"
UNPOOL, STAGE = OPS + "max_unpool2d_with_switches/op.py", OPS + "unpool_relu_conv_transpose2d/op.py"
OF_GEOMETRY, OF_TOPK = "tests/test_geometry.py", "tests/test_topk.py"
GRADIENTS, TANGENTS = "tests/ops/test_registration.py", "tests/ops/test_transforms.py"
DOWN = "tests/test_deconvnet.py"

SLIPS = (
    Slip("the last output that a box touches", GEOMETRY, "end = (changed.hi + (padding + stride - 1)) // stride",
         "end = (changed.hi + padding) // stride", tests=OF_GEOMETRY),
    Slip("the first output that a box touches", GEOMETRY, "return (lo + (padding + stride - kernel)) // stride",
         "return (lo + (padding + 1 - kernel)) // stride", tests=OF_GEOMETRY),
    Slip("a cell too many under a dilated tap", GEOMETRY, "last = ((changed.hi[:, axis] - 1 + padding - taps)",
         "last = ((changed.hi[:, axis] + padding - taps)", tests=OF_GEOMETRY),
    Slip("an input beyond the border", GEOMETRY, "(frame[axis] - 1 + padding - taps) // stride)",
         "(frame[axis] + padding - taps) // stride)", tests=OF_GEOMETRY),
    Slip("a pooling window that starts in the padding", GEOMETRY, "if (out - 1) * stride >= length + padding else out",
         "if (out - 1) * stride > length + padding else out", pick="size_of_an_output",
         tests=OF_GEOMETRY),
    Slip("an empty box adds the corner", GEOMETRY,
         "torch.where(empty, other.lo, torch.where(other_empty, lo, torch.minimum(lo, other.lo)))",
         "torch.where(empty, other.lo, torch.minimum(lo, other.lo))", tests=OF_GEOMETRY),
    Slip("a crop takes a column from behind", WINDOWS, "(column < box[:, 3:])", "(column <= box[:, 3:])",
         pick="crops", tests="tests/test_windows.py"),
    Slip("cells pasted by the frame's height", WINDOWS, "(owner.long() * size[0] + rows) * size[1] + columns",
         "(owner.long() * size[0] + rows) * size[0] + columns", tests="tests/test_windows.py"),
    Slip("offsets that do not fit pass", WINDOWS, "misfit = (offsets[0] != 0) | (offsets.diff() != size).any()",
         "misfit = offsets[0] != 0", tests="tests/ops/test_window_arguments.py"),
    Slip("ties by the order of the stream", TOPK,
         "enters |= (values == self._values[:, -1]) & (ids[:, None] < self._ids[:, -1])",
         "enters |= values > self._values[:, -1]", tests=OF_TOPK),
    Slip("ties by the order of the candidates", TOPK, "order = ids.argsort()", "order = torch.arange(len(ids))",
         tests=OF_TOPK),
    Slip("a NaN counts as zero", TOPK, 'activations.masked_fill(nan, float("-inf"))', "activations.masked_fill(nan, 0)",
         tests=OF_TOPK),
    Slip("a place by the number of rows", TOPK, "torch.stack([place // columns, place % columns], 1)",
         "torch.stack([place // rows, place % rows], 1)", tests=OF_TOPK),
    Slip("images that did not fire", TOPK, "self._fired += (values > 0).sum(0)", "self._fired += (values >= 0).sum(0)",
         tests=OF_TOPK),
    Slip("windows that lost their pixel get a gradient", UNPOOL,
         "return torch.where(gather(last) == window, gather(input), 0)", "return gather(input)",
         pick="gradients and unpool", tests=GRADIENTS),
    Slip("a gradient at the ReLU's zero", STAGE, "grad_values = torch.where(unpooled > 0, grad_values, 0)",
         "grad_values = torch.where(unpooled >= 0, grad_values, 0)", pick="gradient_at_zero",
         tests="tests/ops/test_unpool_relu_conv_transpose2d.py"),
    Slip("a weight's gradient by what was not rectified", STAGE,
         "rectified = reference.rectified(unpooled, rectify)", "rectified = unpooled", pick="gradients and unpool_relu",
         tests=GRADIENTS),
    Slip("a tangent past the ReLU", STAGE, "torch.where(unpooled > 0, change, 0) if rect else change", "change",
         pick="unpool_relu", tests=TANGENTS),
    Slip("a unit's signals do not add up", "zfkernels/deconvnet/descent.py",
         "signal = replace(signal, values=signal.values + waiting.values)", "signal = replace(signal)", tests=DOWN),
    Slip("shares of the second cell alone", NETWORK + "kinds/resampling.py",
         "return [(first, 1 - share), (first + (share > 0), share)]", "return [(first, share), (first, 1 - share)]",
         pick="on_windows and bilinear", tests="tests/network/test_kinds.py"),
    Slip("a border keeps what is cut off", NETWORK + "kinds/resampling.py",
         "some = filled & (hi > lo).all(1, keepdim=True)", "some = filled",
         tests="tests/network/test_kinds.py"),
    Slip("results in the rows of the batch before", "zfkernels/occlusion/collect.py",
         "self.held[0][first : first + len(found)] = found", "self.held[0][: len(found)] = found",
         tests="tests/occlusion/test_reduce.py"),
    Slip("the effect of the second square twice", "zfkernels/occlusion/pairs.py",
         "first, second = (self.singles[:, self.pairs[:, side]] for side in (0, 1))",
         "first, second = (self.singles[:, self.pairs[:, side]] for side in (1, 1))",
         tests="tests/occlusion/test_pairs.py"),
)  # fmt: skip
