"""What belongs to weights that ship with the package: the file, the normalisation of its input, its class names."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Weights:
    """Trained weights and what is needed to use them.

    Attributes:
        file: The safetensors file.
        input_size: Height and width of the images in pixels.
        mean, std: Per-channel (red, green, blue) normalisation of pixels in [0, 1].
        wnids: WordNet identifier of each class, in the order of the outputs.
        categories: Readable name of each class, in the order of the outputs.
        metrics: Measured figures, such as ``{"top1": 0.4, "top5": 0.7}``.
    """

    file: Path
    input_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    wnids: tuple[str, ...]
    categories: tuple[str, ...]
    metrics: dict[str, float]

    @classmethod
    def shipped(cls, name: str) -> Weights:
        """The weights that ship with the package under ``name`` (``"zfnet64"``).

        Raises:
            ValueError: No weights of this name ship with the package.
        """
        names = sorted(path.stem for path in _FOLDER.glob("*.json"))
        if name not in names:
            raise ValueError(f"Weights.shipped: expected name one of {', '.join(names)}, got {name!r}")
        meta = json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
        return cls(
            file=_FOLDER / f"{name}.safetensors",
            input_size=meta["input_size"],
            mean=tuple(meta["mean"]),
            std=tuple(meta["std"]),
            wnids=tuple(entry["wnid"] for entry in meta["classes"]),
            categories=tuple(entry["name"] for entry in meta["classes"]),
            metrics=meta["metrics"],
        )
