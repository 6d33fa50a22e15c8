"""Networks by name, as the command line has them: the package's own, torchvision's, or anybody's function."""

from __future__ import annotations

import difflib
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zfkernels.models.alexnet import alexnet2012
from zfkernels.models.hubs import hub_model, is_hub
from zfkernels.models.own import load_object, refusal
from zfkernels.models.preprocess import Preprocess
from zfkernels.models.states import inner_state, without_prefixes
from zfkernels.models.weights_info import Weights
from zfkernels.models.zfnet import zfnet, zfnet_large
from zfkernels.models.zfnet64 import zfnet64

_OWN: dict[str, Callable[..., nn.Module]] = {
    "zfnet": zfnet,
    "zfnet_large": zfnet_large,
    "alexnet2012": alexnet2012,
    "zfnet64": zfnet64,
}
_SHIPPED = ("zfnet64",)


def get_model(name: str, weights: str | Path | None = "DEFAULT") -> nn.Module:
    """A network in eval mode; its attribute ``preprocess`` is what it takes (``get_preprocess``).

    With weights for as many classes it also has ``class_names`` (``get_categories``), where somebody knows them.

    Args:
        name: One of this package's networks (``zfnet64``, ``zfnet``, ``zfnet_large``, ``alexnet2012``), any name of
            torchvision's, ``timm:NAME`` and ``hf:FOLDER`` where timm or transformers are installed, or
            ``package.module:function`` or ``path/to/file.py:function``, which is called without arguments.
        weights: ``"DEFAULT"`` for the weights that come with the network (torchvision downloads them; what a
            ``package.module:function`` returns is taken as it is); the path of a safetensors file or of a state dict
            (or of a checkpoint with one under "state_dict", "model" and the like; prefixes that DataParallel,
            Lightning or torch.compile have put before all names are taken off); or None for freshly drawn weights.
            Names and shapes have to be the network's, all of them; counters of batch normalisation may be missing. A
            file that ``zfkernels.training`` wrote says how many classes and which layers its network has, and one of
            the package's own is built accordingly.

    Raises:
        ImportError: timm or transformers, whose network it is, is missing.
        ValueError: No such network, no such function, no default weights, a file that does not hold weights of this
            network, or weights with NaN in them.
        OSError: The file cannot be read, or the default weights cannot be fetched.
    """
    options: dict[str, Any] = {}
    if isinstance(weights, Path) or weights not in ("DEFAULT", None):
        state, options = _read_state(Path(weights))
        if name in _OWN:
            with torch.device("meta"):  # a file may name options of any size: none of them takes memory in vain
                sketch = _construct(name, None, options)
            state = without_prefixes(state, sketch.state_dict())
            _check_weights(sketch, state, Path(weights), name)
        model = _construct(name, None, options)
        state = without_prefixes(state, model.state_dict())
        _check_weights(model, state, Path(weights), name)
        model.load_state_dict(state, strict=False)  # the counters of batch normalisation may be missing
    else:
        model = _construct(name, weights)
    refuse_nan_weights(model, "get_model")
    if not isinstance(getattr(model, "preprocess", None), Preprocess):
        model.preprocess = preprocess_of(model) if ":" in name else get_preprocess(name)  # type: ignore[assignment]
    names = () if weights is None else get_categories(name)
    if names and options.get("num_classes", len(names)) == len(names):
        model.class_names = tuple(names)  # type: ignore[assignment]
    return model.eval()


def get_preprocess(name: str) -> Preprocess:
    """The preprocessing for ``get_model(name)``: that of the weights (shipped or torchvision's), else ImageNet's."""
    if name in _SHIPPED:
        own = Weights.shipped(name)
        return Preprocess(own.input_size, own.input_size, own.mean, own.std)
    if name in _OWN or ":" in name:
        return Preprocess()
    import torchvision

    weights = torchvision.models.get_model_weights(name)
    if not len(weights):
        return Preprocess()
    transform = weights.DEFAULT.transforms()
    return Preprocess(transform.crop_size[0], transform.resize_size[0], tuple(transform.mean), tuple(transform.std))


def preprocess_of(model: nn.Module) -> Preprocess:
    """What ``model`` takes: its ``preprocess``, which ``get_model`` sets; else ImageNet's at ``input_size`` or 224."""
    known = getattr(model, "preprocess", None)
    if isinstance(known, Preprocess):
        return known
    size = getattr(model, "input_size", None)
    return Preprocess(size=size, resize=size) if isinstance(size, int) else Preprocess()


def get_categories(name: str) -> list[str]:
    """The class names of the default weights of ``get_model(name)``; empty where nobody knows them."""
    if name in _SHIPPED:
        return list(Weights.shipped(name).categories)
    if name in _OWN or ":" in name:
        return []
    import torchvision

    weights = torchvision.models.get_model_weights(name)
    return list(weights.DEFAULT.meta.get("categories", ())) if len(weights) else []


def refuse_nan_weights(model: nn.Module, function: str) -> None:
    """Raises ValueError, in the name of ``function``, if a parameter or buffer of ``model`` holds a NaN."""
    for key, value in model.state_dict().items():
        if isinstance(value, Tensor) and value.is_floating_point() and value.isnan().any():
            raise ValueError(f"{function}: expected model with weights free of NaN, got NaN in {key}")


def _construct(name: str, weights: str | None, own: dict[str, Any] | None = None) -> nn.Module:
    if is_hub(name):
        return hub_model(name, weights is not None)
    if ":" in name:
        return _call(name)
    if name in _OWN:
        if weights is None:
            return _build_own(name, own or {})
        if name in _SHIPPED:
            return _OWN[name](weights=weights)
        raise ValueError(f"get_model: expected weights for {name}, which ships without: name a file")
    import torchvision

    known = [*_OWN, *torchvision.models.list_models(module=torchvision.models)]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3) or list(_OWN)
        raise ValueError(
            f"get_model: expected model a name of torchvision's, one of {', '.join(_OWN)}, or package.module:function, "
            f"got {name!r} (near: {', '.join(near)})"
        )
    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False  # slow, and a warning if not said
    try:
        return torchvision.models.get_model(name, weights=weights, **options)
    except OSError as error:
        raise OSError(f"get_model: the weights of {name} could not be fetched ({error}): name a file") from error


def _call(name: str) -> nn.Module:
    make = load_object(name, "get_model: expected model")
    try:
        model = make()
    except (Exception, SystemExit) as error:  # of anybody's code
        raise refusal(name, "get_model: expected model", error) from error
    if not isinstance(model, nn.Module):
        raise ValueError(f"get_model: expected {name} to return a torch.nn.Module, got {type(model).__name__}")
    return model


def _build_own(name: str, options: dict[str, Any]) -> nn.Module:
    """One of the package's networks with the options that a file of weights names: whole numbers and tuples of them."""
    known = inspect.signature(_OWN[name]).parameters
    for key, value in options.items():
        numbers = value if isinstance(value, tuple) else (value,)
        if key not in known or not all(type(number) is int and number > 0 for number in numbers):
            raise ValueError(f"get_model: expected weights of {name}, got a file for {key} = {value!r}")
    return _OWN[name](**options)


def _check_weights(model: nn.Module, state: dict[str, Tensor], path: Path, name: str) -> None:
    expected = model.state_dict()
    for key, value in state.items():
        if value.layout != torch.strided or value.is_meta or value.is_quantized or value.is_complex():
            kind = "no values" if value.is_meta else f"{value.dtype}, {value.layout}"
            raise ValueError(f"get_model: expected weights of plain numbers, got {path} with {kind} under {key!r}")
    missing = [key for key in expected if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in expected]
    reshaped = [key for key in expected if key in state and state[key].shape != expected[key].shape]
    for keys, problem in ((missing, "lacks"), (unexpected, "also holds"), (reshaped, "has another shape for")):
        if keys:
            others = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            key = repr(keys[0])[1:-1]  # whatever is in it, in one line
            raise ValueError(
                f"get_model: expected weights of {name}, got {path}, which {problem} {key}{others} (names and "
                f"shapes all have to be the network's, so that no part of it stays as it was drawn)"
            )


def _read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a file, and the options of their network where the file has them."""
    if not path.is_file():
        raise FileNotFoundError(f"get_model: expected weights 'DEFAULT' or an existing file, got {path}")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                state, metadata = {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
        except SafetensorError as error:
            raise ValueError(f"get_model: expected weights a safetensors file, got {path} ({error})") from error
        return state, _options_in(metadata, path)
    with open(path, "rb"):
        pass  # what is raised from here on is about the content
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's readers raise all kinds on damaged files
        raise ValueError(f"get_model: expected weights a state dict that loads safely, got {path}") from error
    state = inner_state(state)
    if not isinstance(state, dict):
        raise ValueError(f"get_model: expected weights a state dict, got {path} with a {type(state).__name__}")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise ValueError(
                f"get_model: expected weights a state dict of tensors by name, got {path} with a "
                f"{type(value).__name__} under {key!r}"
            )
    return state, {}


def _options_in(metadata: dict[str, str], path: Path) -> dict[str, Any]:
    try:
        options = json.loads(metadata.get("options", "{}"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"get_model: expected weights with readable options, got {path} ({error})") from error
    if not isinstance(options, dict):
        raise ValueError(f"get_model: expected weights with options a mapping, got {path} with {options!r}")
    return {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
