"""The kinds of steps, one class each, and the list of them that a network's steps are recognised by."""

from __future__ import annotations

from zfkernels.network.kinds.affine import ChannelAffine
from zfkernels.network.kinds.avg_pool import AvgPool
from zfkernels.network.kinds.base import Chunk, Kind, Occluder, Scene
from zfkernels.network.kinds.blocks import PixelShuffle
from zfkernels.network.kinds.cellwise import Cellwise
from zfkernels.network.kinds.concatenation import Concatenation
from zfkernels.network.kinds.convolution import Convolution
from zfkernels.network.kinds.fully_connected import FullyConnected
from zfkernels.network.kinds.image import Images
from zfkernels.network.kinds.max_pool import MaxPool
from zfkernels.network.kinds.pieces import Expansion, Piece
from zfkernels.network.kinds.pointwise import Pointwise
from zfkernels.network.kinds.rectifier import Rectifier
from zfkernels.network.kinds.reduction import FrameReduction
from zfkernels.network.kinds.resampling import ConstantPadding, Resampling
from zfkernels.network.kinds.reshaping import Reordering, Reshaping
from zfkernels.network.kinds.transposed_convolution import TransposedConvolution
from zfkernels.network.kinds.whole import Whole
from zfkernels.network.recording import Step

__all__ = ["Chunk", "Kind", "Occluder", "Scene", "recognise", "register_kind"]

# Asked in this order; Whole takes whatever is left.
_KINDS: list[type[Kind]] = [
    Images, Convolution, MaxPool, FrameReduction, AvgPool, Rectifier, ChannelAffine, Concatenation, Reshaping,
    Reordering, Piece, Expansion, Pointwise, Cellwise, ConstantPadding, Resampling, PixelShuffle, TransposedConvolution,
    FullyConnected,
]  # fmt: skip
_registered: list[type[Kind]] = []


def register_kind(kind: type[Kind]) -> type[Kind]:
    """Adds a kind of step, asked before all others, the latest first; usable as a decorator.

    Args:
        kind: a subclass of :class:`~zfkernels.network.kinds.base.Kind`.

    Returns:
        ``kind``.

    Raises:
        TypeError: not such a class.
    """
    if not (isinstance(kind, type) and issubclass(kind, Kind)):
        raise TypeError(f"register_kind: expected kind a subclass of Kind, got {kind!r}")
    _registered.insert(0, kind)
    return kind


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
