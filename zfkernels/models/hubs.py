"""Networks of other libraries by name, where these are installed: ``timm:NAME`` and ``hf:FOLDER``."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from zfkernels._extras import require
from zfkernels.models.function import LEVELS, PLAIN, PreprocessFunction, normalization_of
from zfkernels.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

EXTRA = "hubs"


@dataclass(frozen=True)
class GivenPreprocess(Preprocess):
    """A library's own preprocessing of one of its networks.

    Attributes:
        function: The transform or processor.
    """

    function: PreprocessFunction | None = None

    def __call__(self, image: Image.Image | np.ndarray) -> Tensor:  # float32 [3, size, size]
        assert self.function is not None
        return self.function(image)

    def record(self) -> dict[str, Any]:
        """What tells it from another one."""
        assert self.function is not None
        return self.function.record()


def is_hub(name: str) -> bool:
    """Whether a name is of one of the libraries here."""
    return name.partition(":")[0] in HUBS


def hub_model(name: str, pretrained: bool) -> nn.Module:
    """The network that ``timm:NAME`` or ``hf:FOLDER`` names; its ``preprocess`` is the library's own for it.

    Args:
        name: ``timm:resnet18.a1_in1k``, any of timm's names; or ``hf:path/to/folder``, a folder that transformers'
            ``save_pretrained`` wrote: nothing is fetched, and no code of the folder's is run.
        pretrained: With the weights that come with it (timm fetches them); else freshly drawn.

    Raises:
        ImportError: The library is not installed.
        ValueError: It knows no such network, or the network takes no square pictures of three channels.
        OSError: The weights cannot be fetched or read.
    """
    hub, _, rest = name.partition(":")
    return HUBS[hub](rest, pretrained)


def _timm(name: str, pretrained: bool) -> nn.Module:
    timm = require("timm", EXTRA)
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise ValueError(f"get_model: expected timm:NAME with a name of timm's, got {name!r} (near: {', '.join(near)})")
    try:
        model = timm.create_model(name, pretrained=pretrained)
    except RuntimeError as error:  # of timm: there are no weights for it
        raise ValueError(f"get_model: expected a network of timm's with weights, got {name!r} ({error})") from error
    except OSError as error:
        raise OSError(f"get_model: the weights of timm:{name} could not be fetched ({error}): name a file") from error
    data = require("timm.data", EXTRA)
    config = data.resolve_model_data_config(model)
    return _with_preprocess(model, f"timm:{name}", data.create_transform(**config, is_training=False))


def _huggingface(folder: str, pretrained: bool) -> nn.Module:
    transformers = require("transformers", EXTRA)
    path = Path(folder)
    if not (path / "config.json").is_file():
        raise ValueError(f"get_model: expected hf:FOLDER a folder with config.json, got {folder!r}")
    kind, local = transformers.AutoModelForImageClassification, {"local_files_only": True, "trust_remote_code": False}
    try:
        if pretrained:
            model = kind.from_pretrained(str(path), **local)
        else:
            model = kind.from_config(transformers.AutoConfig.from_pretrained(str(path), **local))
        processor = transformers.AutoImageProcessor.from_pretrained(str(path), **local)
    except (ValueError, KeyError) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(f"get_model: expected hf:FOLDER an image classifier, got {folder!r} ({reason})") from error
    names = getattr(model.config, "id2label", None) or {}
    model.class_names = tuple(str(names[n]) for n in sorted(names))
    return _with_preprocess(model, f"hf:{folder}", processor)


def _with_preprocess(model: nn.Module, name: str, function: Any) -> nn.Module:
    """The network with its preprocessing, whose size and normalisation are measured on plain pictures."""
    from PIL import Image

    called = PreprocessFunction(function)
    values = [called(Image.new("RGB", PLAIN, (level,) * 3)) for level in LEVELS]
    channels, height, width = values[0].shape
    if channels != 3 or height != width:
        raise ValueError(
            f"get_model: expected a network of square pictures of three channels, got {name} of {channels}x{height}x"
            f"{width}"
        )
    mean, std = normalization_of(values) or (IMAGENET_MEAN, IMAGENET_STD)
    model.preprocess = GivenPreprocess(  # type: ignore[assignment]
        height, height, (mean[0], mean[1], mean[2]), (std[0], std[1], std[2]), called
    )
    return model


HUBS: dict[str, Callable[[str, bool], nn.Module]] = {"timm": _timm, "hf": _huggingface}
