"""A network as it runs: recorded operations and the modules that they happened in."""

from zfkernels.network.recording import INPUT, Opaque, Recording, Ref, Sized, Step

__all__ = ["INPUT", "Opaque", "Recording", "Ref", "Sized", "Step"]
