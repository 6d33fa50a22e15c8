"""Which steps follow a rule of the DeconvNet's and which their derivative, going down."""

from __future__ import annotations

from zfkernels.network.kinds import Rules

__all__ = ["CAPTUM", "DECONVNET", "Rules"]

DECONVNET = Rules()
CAPTUM = Rules(soft_rectifiers=False, contrast_normalization=False)
