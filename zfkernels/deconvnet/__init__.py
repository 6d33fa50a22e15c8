"""DeconvNet: activations projected down to the pixels that they answer to, on windows."""

from zfkernels.deconvnet.api import DeconvNet, Forward
from zfkernels.deconvnet.rules import CAPTUM, DECONVNET, Rules

__all__ = ["CAPTUM", "DECONVNET", "DeconvNet", "Forward", "Rules"]
