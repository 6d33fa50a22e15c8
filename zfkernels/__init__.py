"""See what a convolutional network has learned: DeconvNet projections, occlusion maps and galleries, on custom kernels.

`import zfkernels as zf`. Names below are imported when first used, so that the import itself needs torch alone.
"""

from __future__ import annotations

import importlib
from typing import Any

from zfkernels import _installation

__version__ = "0.2.0"

_HOME = {
    "BackendError": "zfkernels.ops",
    "use_backend": "zfkernels.ops",
    "Windows": "zfkernels.windows",
    "DeconvNet": "zfkernels.deconvnet",
    "Deconvolution": "zfkernels.captum_api",
    "FeatureAblation": "zfkernels.captum_api",
    "Gallery": "zfkernels.gallery",
    "NeuronDeconvolution": "zfkernels.captum_api",
    "Occlusion": "zfkernels.captum_api",
    "correspondence": "zfkernels.analysis.correspondence",
    "diagnose": "zfkernels.analysis.diagnosis",
    "evolution": "zfkernels.analysis.evolution",
    "invariance": "zfkernels.analysis.invariance",
    "layer_probe": "zfkernels.analysis.layer_probe",
    "record": "zfkernels.network",
    "register_kind": "zfkernels.network.kinds",
    "transfer": "zfkernels.analysis.transfer",
    "build_gallery": "zfkernels.gallery",
    "deletion_curve": "zfkernels.occlusion.curves",
    "explain_plan": "zfkernels.occlusion.explain",
    "insertion_curve": "zfkernels.occlusion.curves",
    "occlusion_pairs": "zfkernels.occlusion.pairs",
    "occlusion_sweep": "zfkernels.occlusion.api",
    "occlusion_sweeps": "zfkernels.occlusion.api",
    "renormalize_filters_": "zfkernels.models",
    "store_sweeps": "zfkernels.store",
    "SweepStore": "zfkernels.store",
    "trace_model": "zfkernels.network.network",
}
_MODULES = ("ops", "occlusion", "deconvnet", "analysis", "models", "gallery", "viz", "data")

__all__ = [*_HOME, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
    elif name in _MODULES:
        value = importlib.import_module(f"zfkernels.{name}")
    else:
        raise AttributeError(f"module 'zfkernels' has no attribute {name!r}")
    globals()[name] = value
    return value


if _installation.hidden_installation() is not None:
    _installation.warn(_installation.why_not_built("_C"))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
