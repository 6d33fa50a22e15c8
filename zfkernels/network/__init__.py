"""A network as it runs: recorded operations and the modules that they happened in."""

from zfkernels.network.record import record
from zfkernels.network.recording import INPUT, Opaque, Recording, Ref, Sized, Step
from zfkernels.network.refusals import UnrecordableError

__all__ = ["INPUT", "Opaque", "Recording", "Ref", "Sized", "Step", "UnrecordableError", "record"]
