"""Results of the methods: frozen, made of tensors; they know neither files of images nor figures."""

from zfkernels.results.correspondence import Correspondence
from zfkernels.results.diagnosis import Diagnosis, FilterDiagnosis
from zfkernels.results.evolution import Evolution, LayerEvolution
from zfkernels.results.invariance import Invariance
from zfkernels.results.occlusion import OcclusionMap
from zfkernels.results.projections import Projections
from zfkernels.results.transfer import LayerProbe, Transfer

__all__ = [
    "Correspondence",
    "Diagnosis",
    "Evolution",
    "FilterDiagnosis",
    "Invariance",
    "LayerEvolution",
    "LayerProbe",
    "OcclusionMap",
    "Projections",
    "Transfer",
]
