"""A network as it runs: recorded operations and the modules that they happened in."""

from zfkernels.network.check import Verdict, batch_matters, check, run_model, tensors_of
from zfkernels.network.contexts import undisturbed, users_context, without_autocast
from zfkernels.network.record import first_channels, record
from zfkernels.network.recording import INPUT, Opaque, Recording, Ref, Sized, Step
from zfkernels.network.refusals import UnrecordableError, refuse_training
from zfkernels.network.stand_in import snapshot

__all__ = [
    "INPUT", "Opaque", "Recording", "Ref", "Sized", "Step", "UnrecordableError", "Verdict", "batch_matters", "check",
    "first_channels", "record", "refuse_training", "run_model", "snapshot", "tensors_of", "undisturbed",
    "users_context", "without_autocast",
]  # fmt: skip
