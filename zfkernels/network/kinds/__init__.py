"""The kinds of steps, one class each, and the list of them that a network's steps are recognised by."""

from __future__ import annotations

from zfkernels.network.kinds.affine import ChannelAffine
from zfkernels.network.kinds.avg_pool import AvgPool
from zfkernels.network.kinds.base import Chunk, Kind, Occluder, Scene, arguments, op_name
from zfkernels.network.kinds.blocks import PixelShuffle
from zfkernels.network.kinds.cellwise import Cellwise
from zfkernels.network.kinds.chain import Chain
from zfkernels.network.kinds.concatenation import Concatenation
from zfkernels.network.kinds.contrast_normalization import ContrastDivision, ContrastNormalization
from zfkernels.network.kinds.convolution import Convolution
from zfkernels.network.kinds.fixed import FixedMaps
from zfkernels.network.kinds.fully_connected import FullyConnected
from zfkernels.network.kinds.image import Images, occluded_windows
from zfkernels.network.kinds.max_pool import MaxPool
from zfkernels.network.kinds.pieces import Expansion, Piece
from zfkernels.network.kinds.pointwise import Pointwise
from zfkernels.network.kinds.rectifier import Rectifier, VectorRectifier
from zfkernels.network.kinds.reduction import FrameReduction
from zfkernels.network.kinds.resampling import ConstantPadding, Resampling
from zfkernels.network.kinds.reshaping import Reordering, Reshaping
from zfkernels.network.kinds.signals import Descent, Pooled, Rules, Signal, unpooled, usable
from zfkernels.network.kinds.transposed_convolution import TransposedConvolution
from zfkernels.network.kinds.whole import Whole
from zfkernels.network.recording import Step

__all__ = [
    "Cellwise", "Chain", "Chunk", "Descent", "Kind", "Occluder", "Pooled", "Rules", "Scene", "Signal", "arguments",
    "occluded_windows", "op_name", "recognise", "register_kind", "registered_kinds", "unpooled", "usable",
]  # fmt: skip

# Asked in this order; Whole takes whatever is left.
_KINDS: list[type[Kind]] = [
    Images, FixedMaps, Convolution, MaxPool, FrameReduction, AvgPool, Rectifier, VectorRectifier, ChannelAffine,
    Concatenation, Reshaping, Reordering, Piece, Expansion, ContrastDivision, Pointwise, ContrastNormalization,
    Cellwise, ConstantPadding, Resampling, PixelShuffle, TransposedConvolution, FullyConnected,
]  # fmt: skip
_registered: list[type[Kind]] = []


def register_kind(kind: type[Kind]) -> type[Kind]:
    """Adds a kind of step, for operations that the package does not know; usable as a decorator.

    It is asked before all others, the latest first, for every network from then on. A step is one ATen operation. A
    module's own code becomes the operations that it calls; an operation registered with ``torch.library`` stays one
    step. A kind says by ``recognise`` which steps it takes. What it may define (see :class:`Kind`):

    - forwards: ``touched``, the outputs that a changed box reaches, and ``run_on_windows``; without the latter set
      ``on_windows = False``, and the step runs on whole frames, as every unknown one does.
    - backwards: ``read``, the inputs that an output depends on, and ``rule`` or ``send_down``, how a signal goes down;
      without them by the step's own derivative on whole frames, which then has to exist.

    A step that computes each cell from the channels of the same cell is best derived from :class:`Cellwise`, which has
    all of this: only ``recognise`` is left.

    Args:
        kind: a subclass of :class:`Kind`.

    Returns:
        ``kind``.

    Raises:
        TypeError: not such a class.

    Example:
        An operation of one cell, swept and projected on windows::

            @torch.library.custom_op("mine::squash", mutates_args=())
            def squash(x: Tensor) -> Tensor:
                return x / (1 + x.abs())

            squash.register_fake(torch.empty_like)
            squash.register_autograd(
                lambda ctx, g: g / (1 + ctx.saved_tensors[0].abs()) ** 2,
                setup_context=lambda ctx, inputs, output: ctx.save_for_backward(inputs[0]),
            )

            @zf.register_kind
            class Squash(Cellwise):
                kind = "squash"

                @classmethod
                def recognise(cls, step, scene):
                    maps = scene.maps(step.inputs[0]) if op_name(step) == "squash" else None
                    return None if maps is None else cls(step, scene, maps)
    """
    if not (isinstance(kind, type) and issubclass(kind, Kind)):
        raise TypeError(f"register_kind: expected kind a subclass of Kind, got {kind!r}")
    _registered.insert(0, kind)
    return kind


def registered_kinds() -> tuple[type[Kind], ...]:
    """What :func:`register_kind` added, the latest first."""
    return tuple(_registered)


def recognise(step: Step, scene: Scene) -> Kind:
    """The object for ``step``; it is added to the scene."""
    for kind in (*_registered, *_KINDS):
        found = kind.recognise(step, scene)
        if found is not None:
            break
    else:
        found = Whole(step, scene)
    scene.kinds[step.name] = found
    return found
