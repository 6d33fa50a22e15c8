"""``zfkernels occlude --data``: the occlusion maps of a whole data set on disk."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zfkernels.cli import options
from zfkernels.cli.tables import left_out

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from zfkernels.models import Preprocess

REDUCERS = {"class-area": "class_area", "dice": "dice", "largest-probability": "largest_probability"}
MASKED = "region-mean:"


@dataclass(frozen=True)
class Choices:
    """What the options of ``zfkernels occlude --data`` say; ``square``: whether window or stride was named."""

    data: str
    window: Fraction
    stride: Fraction
    square: bool
    fills: tuple[float | str, ...]
    layer: str | None
    target: str | None
    out: Path
    limit: int | None
    workers: int
    fresh: bool
    store_format: str | None
    keep: str
    units: str | None
    statistic: str
    maps_only: bool
    shape: str
    windows: Path | None
    regions: Path | None
    reduce: str | None
    memory: int | None


def write_store(choices: Choices, model: str, weights: str, device: str, as_json: bool) -> None:
    """Does what the command says.

    Raises:
        click.UsageError: Options that exclude each other.
        ValueError, TypeError: As of ``store_sweeps``.
    """
    from zfkernels.store import store_sweeps

    options.check_out("occlude", choices.out, (), choices.data)
    if choices.units is not None and choices.layer is None:
        raise click.UsageError("expected --layer with --units")
    if choices.maps_only and choices.layer is None:
        raise click.UsageError("expected --layer with --maps-only")
    network, preprocess = options.load_model(model, weights, device)
    arguments = {
        **_where(choices, preprocess),
        "fill": _fills(choices.fills, preprocess, device),
        "layer": choices.layer,
        "units": _units(choices.units),
        "statistic": choices.statistic,
        "outputs": not choices.maps_only,
        "reduce": _reducer(choices.reduce),
        "target": None if choices.target is None else _class_number(choices.target, network),
    }
    try:
        store = store_sweeps(
            network, options.open_data(choices.data, choices.limit), out=choices.out, **arguments, keep=choices.keep,
            format=choices.store_format, preprocess=preprocess, memory=choices.memory, workers=choices.workers,
            resume=not choices.fresh, progress=not as_json,
        )  # fmt: skip
    except KeyboardInterrupt:
        raise click.ClickException(
            "interrupted; the same command goes on where this one stopped (--fresh starts anew)"
        ) from None
    record = {
        "out": str(choices.out),
        "images": len(store),
        "format": store.info["format"],
        "variables": {name: [len(store), *kept.shape] for name, kept in store.layout.variables.items()},
        "skipped": [{"image": key, "reason": reason} for key, reason in store.skipped],
    }
    text = [store.headline(), *left_out(store.skipped), f"look at {choices.out / 'summary.png'}"]
    options.report(record, "\n".join(text), as_json)


def _where(choices: Choices, preprocess: Preprocess) -> dict[str, Any]:
    """The places that are hidden, as arguments of a sweep."""
    import torch

    from zfkernels.cli.occlude import in_pixels

    files = [name for name in ("windows", "regions") if getattr(choices, name) is not None]
    if files and (choices.square or len(files) > 1 or choices.shape != "square"):
        raise click.UsageError("expected one of --windows, --regions, and a square (--window, --stride, --shape)")
    if choices.windows is not None:
        return {"windows": torch.from_numpy(read_numbers("--windows", choices.windows).astype("int64"))}
    if choices.regions is not None:
        return {"regions": torch.from_numpy(read_labels("--regions", choices.regions).astype("int64"))}
    shape: str | Tensor = choices.shape
    if shape not in ("square", "disc"):
        shape = torch.from_numpy(read_labels("--shape", Path(choices.shape)) > 0)
    window, stride = (in_pixels(length, preprocess.size) for length in (choices.window, choices.stride))
    return {"window": window, "stride": stride, "shape": shape}


def _fills(fills: tuple[float | str, ...], preprocess: Preprocess, device: str) -> Any:
    found = [_fill(fill, preprocess, device) for fill in fills]
    return found if len(found) > 1 else found[0]


def _fill(fill: float | str, preprocess: Preprocess, device: str) -> Any:
    """What ``--fill`` says, in the network's units."""
    import torch

    from zfkernels.occlusion import noise

    if fill == "neutral":
        return 0.0
    if fill in ("mean", "blur"):
        return fill
    if isinstance(fill, str) and fill.split(":")[0] == "noise":
        return noise(int(fill.partition(":")[2] or 0))
    if isinstance(fill, str):
        from zfkernels.data import open_source

        image, _ = open_source(Path(fill)).load(0)
        return (image if isinstance(image, torch.Tensor) else preprocess(image)).to(device)
    mean, std = torch.tensor(preprocess.mean), torch.tensor(preprocess.std)
    return ((fill - mean) / std).to(device)


def _units(text: str | None) -> Any:
    if text is None or text == "all":
        return text
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise click.BadParameter(f"expected all, or numbers of maps separated by commas, got {text!r}",
                                 param_hint="--units")  # fmt: skip
    return [int(part) for part in parts]


def _reducer(text: str | None) -> Any:
    import torch

    from zfkernels import occlusion

    if text is None:
        return None
    if text in REDUCERS:
        return getattr(occlusion, REDUCERS[text])()
    if text.startswith(MASKED):
        mask = read_labels("--reduce", Path(text.removeprefix(MASKED)))
        return occlusion.region_mean(torch.from_numpy(mask > 0).float())
    raise click.BadParameter(f"expected one of {', '.join(REDUCERS)} and {MASKED}FILE, got {text!r}",
                             param_hint="--reduce")  # fmt: skip


def _class_number(text: str, network: Any) -> int:
    """The class that a number or a name stands for."""
    if text.isdecimal():
        return int(text)
    names = options.class_names(network)
    if text not in names:
        raise click.BadParameter(f"expected the number or name of a class, got {text!r}", param_hint="--target")
    return names.index(text)


def read_numbers(option: str, path: Path) -> np.ndarray:
    """Whole numbers, in lines of a CSV file or an ``.npy`` array.

    Raises:
        click.BadParameter: The file holds something else, or cannot be read.
    """
    import numpy as np

    try:
        found = np.load(path, allow_pickle=False) if path.suffix == ".npy" else _table(path)
        if not np.issubdtype(found.dtype, np.integer):
            raise ValueError(f"numbers of {found.dtype}")
    except (OSError, ValueError) as error:
        raise click.BadParameter(
            f"expected a file of whole numbers, got {path} ({error})", param_hint=option
        ) from error
    return found


def _table(path: Path) -> np.ndarray:
    import numpy as np

    rows = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return np.array([[int(cell) for cell in row] for row in rows])


def read_labels(option: str, path: Path) -> np.ndarray:
    """Whole numbers [H, W]: an ``.npy`` array, or the values of a picture of one channel.

    Raises:
        click.BadParameter: The file holds something else, or cannot be read.
    """
    import numpy as np

    if path.suffix == ".npy":
        found = read_numbers(option, path)
    else:
        from zfkernels.data import open_picture

        try:
            picture = open_picture(path)
            found = np.asarray(picture if len(picture.getbands()) == 1 else picture.convert("L"))
        except (OSError, ValueError) as error:
            raise click.BadParameter(f"expected a picture of labels or an .npy array, got {path} ({error})",
                                     param_hint=option) from error  # fmt: skip
    if found.ndim != 2:
        raise click.BadParameter(f"expected an array [H, W], got {found.shape} in {path}", param_hint=option)
    return found
