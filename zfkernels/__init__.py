"""See what a convolutional network has learned: DeconvNet projections, occlusion maps and galleries, on custom kernels.

`import zfkernels as zf`. Names below are imported when first used, so that the import itself needs torch alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from zfkernels import _installation

if TYPE_CHECKING:  # what follows, for editors and type checkers
    from zfkernels import analysis as analysis
    from zfkernels import data as data
    from zfkernels import deconvnet as deconvnet
    from zfkernels import gallery as gallery
    from zfkernels import models as models
    from zfkernels import occlusion as occlusion
    from zfkernels import ops as ops
    from zfkernels import viz as viz
    from zfkernels.analysis.correspondence import correspondence as correspondence
    from zfkernels.analysis.diagnosis import diagnose as diagnose
    from zfkernels.analysis.evolution import evolution as evolution
    from zfkernels.analysis.invariance import invariance as invariance
    from zfkernels.analysis.layer_probe import layer_probe as layer_probe
    from zfkernels.analysis.transfer import transfer as transfer
    from zfkernels.captum_api import Deconvolution as Deconvolution
    from zfkernels.captum_api import FeatureAblation as FeatureAblation
    from zfkernels.captum_api import NeuronDeconvolution as NeuronDeconvolution
    from zfkernels.captum_api import Occlusion as Occlusion
    from zfkernels.deconvnet import DeconvNet as DeconvNet
    from zfkernels.gallery import Gallery as Gallery
    from zfkernels.gallery import build_gallery as build_gallery
    from zfkernels.models import renormalize_filters_ as renormalize_filters_
    from zfkernels.network import record as record
    from zfkernels.network.kinds import register_kind as register_kind
    from zfkernels.network.network import trace_model as trace_model
    from zfkernels.occlusion.api import occlusion_sweep as occlusion_sweep
    from zfkernels.occlusion.api import occlusion_sweeps as occlusion_sweeps
    from zfkernels.occlusion.curves import deletion_curve as deletion_curve
    from zfkernels.occlusion.curves import insertion_curve as insertion_curve
    from zfkernels.occlusion.explain import explain_plan as explain_plan
    from zfkernels.occlusion.pairs import occlusion_pairs as occlusion_pairs
    from zfkernels.ops import BackendError as BackendError
    from zfkernels.ops import use_backend as use_backend
    from zfkernels.store import SweepStore as SweepStore
    from zfkernels.store import store_sweeps as store_sweeps
    from zfkernels.windows import Windows as Windows

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
