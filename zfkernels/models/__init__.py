"""Networks: the paper's, the one it starts from, and a small one that ships with trained weights."""

from zfkernels.models.alexnet import alexnet2012
from zfkernels.models.fingerprint import versions, weights_hash
from zfkernels.models.function import AnyPreprocess, Normalization, Planes, PreprocessFunction, as_preprocess, name_of
from zfkernels.models.loading import get_categories, get_model, get_preprocess, preprocess_of, refuse_nan_weights
from zfkernels.models.network import ConvNet, inference_form, renormalize_filters_
from zfkernels.models.own import OwnPreprocess, load_object, own_preprocess
from zfkernels.models.preprocess import Preprocess
from zfkernels.models.weights_info import Weights
from zfkernels.models.zfnet import zfnet, zfnet_large
from zfkernels.models.zfnet64 import zfnet64

__all__ = [
    "AnyPreprocess",
    "ConvNet",
    "Normalization",
    "OwnPreprocess",
    "Planes",
    "Preprocess",
    "PreprocessFunction",
    "Weights",
    "alexnet2012",
    "as_preprocess",
    "get_categories",
    "get_model",
    "get_preprocess",
    "inference_form",
    "load_object",
    "name_of",
    "own_preprocess",
    "preprocess_of",
    "refuse_nan_weights",
    "renormalize_filters_",
    "versions",
    "weights_hash",
    "zfnet",
    "zfnet64",
    "zfnet_large",
]
