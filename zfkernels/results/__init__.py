"""Results of the methods: frozen, made of tensors; they show, save and compare themselves.

A figure is drawn by ``zfkernels.viz``, which is imported when ``plot()`` is called.
"""

from zfkernels.results.correspondence import Correspondence
from zfkernels.results.diagnosis import Diagnosis, FilterDiagnosis
from zfkernels.results.evolution import Evolution, LayerEvolution
from zfkernels.results.fills import OcclusionFills
from zfkernels.results.invariance import Invariance
from zfkernels.results.look import Look, class_numbers
from zfkernels.results.occlusion import OcclusionMap
from zfkernels.results.probability import activation_of, probabilities
from zfkernels.results.projections import Projections
from zfkernels.results.result import Result, html_table, plural, table_of
from zfkernels.results.transfer import LayerProbe, Transfer

__all__ = [
    "Correspondence",
    "Diagnosis",
    "Evolution",
    "FilterDiagnosis",
    "Invariance",
    "LayerEvolution",
    "LayerProbe",
    "Look",
    "OcclusionFills",
    "OcclusionMap",
    "Projections",
    "Result",
    "Transfer",
    "activation_of",
    "class_numbers",
    "html_table",
    "plural",
    "probabilities",
    "table_of",
]
