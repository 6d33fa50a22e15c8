"""Drop-ins for Captum: the same classes, arguments, refusals and numbers; one changed import line."""

from zfkernels.captum_api.arguments import RefusedType, RefusedValue
from zfkernels.captum_api.deconvolution import Deconvolution, NeuronDeconvolution
from zfkernels.captum_api.feature_ablation import FeatureAblation
from zfkernels.captum_api.occlusion import Occlusion

__all__ = ["Deconvolution", "FeatureAblation", "NeuronDeconvolution", "Occlusion", "RefusedType", "RefusedValue"]
