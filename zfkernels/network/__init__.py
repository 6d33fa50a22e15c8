"""A network as it runs: recorded operations and the modules that they happened in."""

from zfkernels.network.check import Verdict, batch_matters, check, run_model, tensors_of
from zfkernels.network.contexts import without_autocast
from zfkernels.network.record import first_channels, record
from zfkernels.network.recording import INPUT, Opaque, Recording, Ref, Sized, Step
from zfkernels.network.refusals import UnrecordableError, refuse_training

__all__ = [
    "INPUT", "Opaque", "Recording", "Ref", "Sized", "Step", "UnrecordableError", "Verdict", "batch_matters", "check",
    "first_channels", "record", "refuse_training", "run_model", "tensors_of", "without_autocast",
]  # fmt: skip
