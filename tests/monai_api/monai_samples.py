"""Networks, images and arguments for which MONAI's numbers are on record; nothing here comes from a random generator.

python tests/monai_api/monai_samples.py     # with MONAI installed: writes monai_recorded.json anew
"""

from __future__ import annotations

import importlib
import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

RECORDED = Path(__file__).with_name("monai_recorded.json")
CELLS = 7  # every so many cells of a map are on record


def wave(*shape: int, step: float) -> Tensor:
    """float64, the sine of ``step``, 2 ``step``, …."""
    count = torch.Size(shape).numel()
    return (torch.arange(1, count + 1, dtype=torch.float64) * step).sin().view(shape)


def network(axes: int, channels: int, classes: int) -> nn.Module:
    convolution, pool = (nn.Conv2d, nn.MaxPool2d) if axes == 2 else (nn.Conv3d, nn.MaxPool3d)
    model = nn.Sequential(
        convolution(channels, 4, 3, padding=1), nn.ReLU(), pool(2), nn.Flatten(), nn.Linear(4 * 5 * 6, classes)
    )
    if axes == 3:
        model[4] = nn.Linear(4 * 4 * 3 * 3, classes)
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.copy_(wave(*parameter.shape, step=1.7 + number) / 2)
    return model.double().eval()


def image(axes: int, channels: int) -> Tensor:
    size = (11, 13) if axes == 2 else (8, 7, 6)
    return wave(1, channels, *size, step=0.37) + 0.1


# name: (axes, channels, classes, arguments, b_box)
SAMPLES: dict[str, tuple[int, int, int, dict[str, Any], list[int] | None]] = {
    "default overlap": (2, 3, 5, {"mask_size": 4}, None),
    "oblong mask": (2, 3, 5, {"mask_size": (5, 2), "overlap": 0.25}, None),
    "one channel": (2, 1, 3, {"mask_size": 4}, None),
    "mean_img": (2, 3, 5, {"mask_size": 4, "mode": "mean_img"}, None),
    "number": (2, 3, 5, {"mask_size": 4, "mode": 0.5, "overlap": 0.0}, None),
    "no activation": (2, 3, 5, {"mask_size": 3, "activate": False}, None),
    "one pixel": (2, 3, 5, {"mask_size": 1, "overlap": 0.0}, None),
    "part": (2, 3, 5, {"mask_size": 4}, [2, 9, 3, 8]),
    "part of one axis": (2, 3, 5, {"mask_size": 4}, [-1, -1, 1, 4]),
    "part smaller than the mask": (2, 3, 5, {"mask_size": 6}, [0, 2, 0, 2]),
    "volume": (3, 1, 4, {"mask_size": 3}, None),
    "part of a volume": (3, 1, 4, {"mask_size": (3, 4, 2), "mode": "mean_img"}, [1, 5, -1, -1, 2, 4]),
}


def run(sensitivity: Any, name: str) -> tuple[Tensor, Tensor]:
    """Both results of a class with MONAI's arguments for a sample."""
    axes, channels, classes, arguments, b_box = SAMPLES[name]
    found, likely = sensitivity(network(axes, channels, classes), verbose=False, **arguments)(
        image(axes, channels), b_box=b_box
    )
    return found.as_subclass(Tensor).double(), likely.as_subclass(Tensor)


def record() -> None:
    monai = importlib.import_module("monai")
    sensitivity = importlib.import_module("monai.visualize").OcclusionSensitivity
    samples = {}
    for name in SAMPLES:
        found, likely = run(sensitivity, name)
        kept = [float(f"{value:.8g}") for value in found.flatten()[::CELLS].tolist()]
        samples[name] = {"shape": list(found.shape), "found": kept, "likely": likely.flatten()[::CELLS].tolist()}
    text = json.dumps({"monai": monai.__version__, "samples": samples})
    RECORDED.write_text(text.replace('"samples": {', '"samples": {\n').replace("}, ", "},\n") + "\n", encoding="utf-8")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    record()
