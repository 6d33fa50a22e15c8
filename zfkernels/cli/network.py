"""The options that say which network a command looks at, and what it takes and says."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from torch import nn

    from zfkernels.models import Preprocess

Command = TypeVar("Command", bound=Callable[..., Any])
KEY = "zfkernels.network"


class PerChannel(click.ParamType):
    """Three numbers separated by commas, or one for all channels."""

    name = "numbers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float, float]:
        if isinstance(value, tuple):
            return value
        try:
            numbers = [float(part) for part in value.split(",")]
        except ValueError:
            numbers = []
        if len(numbers) not in (1, 3):
            self.fail(f"expected one number, or three separated by commas, got {value!r}", param, ctx)
        first, second, third = numbers * (3 // len(numbers))
        return first, second, third


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Keeps the value for ``load_model``, so that no command need pass it on."""
    if value is not None:
        context.meta.setdefault(KEY, {})[parameter.name] = value


def model_options(default: str | None, *, classes: bool = True) -> Callable[[Command], Command]:
    """--model, --weights, --device, --backend, and what a network of one's own takes and says.

    ``classes``: whether ``--classes`` is free as a short form of ``--class-names``.
    """
    names = ("--class-names", "--classes") if classes else ("--class-names",)
    own: dict[str, Any] = {"expose_value": False, "callback": _keep}
    made = (
        click.option(
            "--model", default=default, required=default is None,
            help="zfnet64, zfnet, zfnet_large, alexnet2012, any torchvision name, timm:NAME, hf:FOLDER, "
            "package.module:function (also of the current folder), or path/to/file.py:function.",
        ),
        click.option(
            "--weights", default="DEFAULT",
            help="DEFAULT, none (freshly drawn), or a file: safetensors, or a state dict without code.",
        ),
        click.option("--device", default="cpu", help="cpu, cuda, cuda:1, …"),
        click.option("--backend", help="Variant of the kernels; chosen by device if not given."),
        click.option("--size", type=click.IntRange(min=1), help="Side of the network's input; its own if not given.",
                     **own),
        click.option("--resize", type=click.IntRange(min=1),
                     help="Shorter side of a picture before its centre is cut out; as --size where only that is given.",
                     **own),
        click.option("--mean", type=PerChannel(), help="Subtracted from pixels in [0, 1], as 0.5,0.5,0.5.", **own),
        click.option("--std", type=PerChannel(), help="That they are divided by.", **own),
        click.option("--preprocess", metavar="MODULE:FUNCTION",
                     help="From a picture or array to what the network takes, [3, S, S] ([C, H, W] for a gallery of "
                          "other channels); or path/to/file.py:function.",
                     **own),
        click.option(*names, "class_names", type=click.Path(path_type=Path),
                     help="File of the names of the classes: one a line, or a JSON list.", **own),
    )  # fmt: skip

    def decorate(command: Command) -> Command:
        for option in reversed(made):
            command = option(command)
        return command

    return decorate


def load_model(name: str, weights: str, device: str) -> tuple[nn.Module, Preprocess]:
    """The network of --model, --weights and --device, and what it takes; the network knows both it and its classes."""
    return _with_preprocess(*_load(name, weights, device))


def load_any_model(name: str, weights: str, device: str) -> tuple[nn.Module, Callable[..., Any] | None]:
    """The same for a network of any number of channels: what makes its input, None for arrays and pictures as they are.

    Raises:
        click.UsageError: --size and the like, for other channels than three.
    """
    from zfkernels.models import load_object
    from zfkernels.network import first_channels

    network, given = _load(name, weights, device)
    channels = first_channels(network)
    if channels == 3:
        return _with_preprocess(network, given)
    del network.preprocess  # that of photos, which get_model gives each network of one's own
    for option in ("size", "resize", "mean", "std"):
        if option in given:
            raise click.UsageError(
                f"expected --{option} for a network of three channels, got one of {channels}, whose input --preprocess "
                f"makes"
            )
    if "preprocess" in given:
        return network, load_object(given["preprocess"], "gallery: expected --preprocess")
    return network, None


def _with_preprocess(network: nn.Module, given: dict[str, Any]) -> tuple[nn.Module, Preprocess]:
    from zfkernels.models import preprocess_of

    preprocess = changed(preprocess_of(network), given)
    network.preprocess = preprocess  # type: ignore[assignment]
    return network, preprocess


def _load(name: str, weights: str, device: str) -> tuple[nn.Module, dict[str, Any]]:
    """The network, and what the options say of its input."""
    import torch

    from zfkernels.models import get_model

    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"expected --device a device of torch's, got {device!r}") from error
    if place.type == "cuda" and place.index is None and "LOCAL_RANK" in os.environ:  # torchrun: a GPU for each process
        place = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    context = click.get_current_context(silent=True)
    given: dict[str, Any] = {} if context is None else context.meta.get(KEY, {})
    model = get_model(name, None if weights == "none" else weights)
    if "class_names" in given:
        model.class_names = read_names(given["class_names"])  # type: ignore[assignment]
    return model.to(place), given


def changed(preprocess: Preprocess, given: dict[str, Any]) -> Preprocess:
    """A preprocessing with what was given in place of its own."""
    from zfkernels.models import Preprocess, own_preprocess

    numbers: dict[str, Any] = {name: given[name] for name in ("size", "resize", "mean", "std") if name in given}
    if "preprocess" in given:
        refused = [f"--{name}" for name in ("size", "resize") if name in numbers]
        if refused:
            raise click.UsageError(f"expected --preprocess, which decides the size, or {refused[0]}, got both")
        return own_preprocess(given["preprocess"], **numbers)
    if "size" in numbers and "resize" not in numbers:
        numbers["resize"] = numbers["size"]
    if not numbers:
        return preprocess
    known: dict[str, Any] = {name: getattr(preprocess, name) for name in ("size", "resize", "mean", "std")}
    known |= numbers
    return Preprocess(**known)  # also in place of a library's own, which knows no other size


def read_names(path: Path) -> tuple[str, ...]:
    """The names of classes in a file, one a line or a JSON list.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: There are no names in it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"expected --class-names an existing file, got {path}")
    text = path.read_text(encoding="utf-8")
    names: Any = [line.strip() for line in text.splitlines() if line.strip()]
    if path.suffix == ".json":
        try:
            names = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"expected --class-names a JSON list of names, got {path} ({error})") from error
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"expected --class-names a list of names, got {path} with something else")
    return tuple(names)


def class_names(network: nn.Module) -> Sequence[str]:
    """The names of a network's classes; empty where nobody knows them."""
    names = getattr(network, "class_names", ())
    return names if isinstance(names, tuple) else ()
