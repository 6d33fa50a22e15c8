"""A finished store of sweeps: its arrays, as NumPy or xarray has them, and the means of its classes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zfkernels._extras import require
from zfkernels.results import html_table, plural
from zfkernels.store.finish import ENTRIES, VERSION
from zfkernels.store.formats import FORMATS, IMAGE, Format
from zfkernels.store.layout import FILE, Layout
from zfkernels.store.means import ClassMeans
from zfkernels.viz import store_figure

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False)
class SweepStore:
    """Occlusion sweeps on disk; ``open`` makes one.

    Attributes:
        path: Its folder.
        info: The contents of store.json.
        layout: Which arrays there are.
    """

    path: Path
    info: dict[str, Any]
    layout: Layout

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> SweepStore:
        """The store in the folder ``path``.

        Raises:
            FileNotFoundError: There is no complete store in it.
            ValueError: Its record is not of the form that ``store_sweeps`` writes.
        """
        path = Path(path)
        if not (path / ENTRIES[-1]).is_file():
            raise FileNotFoundError(f"SweepStore.open: expected path the folder of a store, got {path}")
        try:
            info = json.loads((path / ENTRIES[-1]).read_text(encoding="utf-8"))
            if info["version"] != VERSION or info["format"] not in FORMATS:
                raise ValueError(f"version {info['version']!r}, format {info['format']!r}")
            with np.load(path / FILE, allow_pickle=False) as file:
                layout = Layout.from_record(info, {name: file[name] for name in info["shared"]})
            rows = [entry["row"] for entry in info["images"]]
            if not rows or sorted(set(rows)) != rows:
                raise ValueError("images without an order")
        except (ValueError, TypeError, KeyError, OSError) as error:
            raise ValueError(f"SweepStore.open: expected {path} a store of sweeps, got {error}") from error
        return cls(path, info, layout)

    def __len__(self) -> int:
        return len(self.info["images"])

    @property
    def keys(self) -> list[str]:
        """Path or key of each image, in order."""
        return [entry["key"] for entry in self.info["images"]]

    @property
    def labels(self) -> list[str | None]:
        """The label of each image, None where there is none."""
        return [entry["label"] for entry in self.info["images"]]

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """(key, reason) of each image that was left out."""
        return [(entry["image"], entry["reason"]) for entry in self.info["skipped"]]

    def __getitem__(self, number: int) -> dict[str, np.ndarray]:
        """The arrays of one image by name, without the dimension of the images.

        Raises:
            IndexError: There are not so many images.
        """
        return self._arrays.get(self.info["images"][number]["row"], self.layout.variables)

    def array(self, name: str, images: Sequence[int] | None = None) -> np.ndarray:
        """One variable of some images, or of all, [N, ...].

        Raises:
            ValueError: No such variable.
        """
        if name not in self.layout.variables:
            raise ValueError(f"SweepStore.array: expected name one of {list(self.layout.variables)}, got {name!r}")
        chosen = range(len(self)) if images is None else images
        return np.stack([self._arrays.get(self.info["images"][n]["row"], [name])[name] for n in chosen])

    def to_xarray(self) -> xarray.Dataset:
        """All arrays with named dimensions: image (its key), row, column, class and so on; ``label`` beside it.

        A Zarr store is read when its values are asked for, an npz store at once.

        Raises:
            ImportError: xarray is not installed.
        """
        module = require("xarray", "tables")
        rows = [entry["row"] for entry in self.info["images"]]
        content: dict[str, Any] = {}
        for name, kept in self.layout.variables.items():
            data = self._arrays.stacked(name, rows)
            content[name] = ((IMAGE, *kept.dims), data) if isinstance(data, np.ndarray) else data
        content |= dict(self.layout.shared)
        coordinates: dict[str, Any] = {name: list(values) for name, values in self.layout.coordinates.items()}
        coordinates[IMAGE] = self.keys
        coordinates["label"] = (IMAGE, ["" if label is None else label for label in self.labels])
        return module.Dataset(content, coordinates, {"run": json.dumps(self.info["run"])})

    @cached_property
    def class_means(self) -> ClassMeans:
        """The mean drop of each label.

        Raises:
            ValueError: The file is damaged.
        """
        path = self.path / ENTRIES[2]
        try:
            with np.load(path, allow_pickle=False) as file:
                return ClassMeans(file["label"].tolist(), file["count"], file["drop"], file["largest"])
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"SweepStore: expected {path} the means of a store, got {error}") from error

    def plot(self) -> Figure:
        """The mean drop of all images and of the commonest labels, and how much hiding takes away at most."""
        boxes = self.layout.shared.get("boxes", (None, None))[1]
        return store_figure(
            self.class_means, self.layout.variables["drop"].dims, self.layout.shared["positions"][1], boxes=boxes,
            name=self.info["run"]["data"]["name"],
        )  # fmt: skip

    def headline(self) -> str:
        """The store in one line."""
        left = f", {len(self.skipped):,} left out" if self.skipped else ""
        return f"{plural(len(self), 'image')} of {self.info['run']['data']['name']}{left}, {self.info['format']}"

    def overview(self) -> list[dict[str, Any]]:
        """The variables of the store."""
        return [
            {"variable": name, "dimensions": ", ".join((IMAGE, *kept.dims)),
             "shape": " x ".join(map(str, (len(self), *kept.shape))), "type": kept.dtype}
            for name, kept in self.layout.variables.items()
        ]  # fmt: skip

    def __repr__(self) -> str:
        return f"<SweepStore: {self.headline()}, in {self.path}>"

    def _repr_html_(self) -> str:
        return html_table(f"SweepStore: {self.headline()}, in {self.path}", self.overview(), limit=None)

    @cached_property
    def _arrays(self) -> Format:
        return FORMATS[self.info["format"]](self.path / ENTRIES[0], self.layout.variables)
