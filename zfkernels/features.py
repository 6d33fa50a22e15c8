"""Features of a data set's images, computed once and kept on disk.

The file's name is a digest of what determines its content: the weights, what the network takes, the images (their
names, and the pixels of three of them), the layer and the grid. Nothing in it is executable: plain arrays (``.npy``,
read without pickle) and JSON.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zfkernels.data import Batch, ImageSource, UnreadableImageError, stream
from zfkernels.models import Preprocess
from zfkernels.network.network import Network, trace_model
from zfkernels.output import write_json
from zfkernels.progress import progress_bar


@dataclass(frozen=True)
class Features:
    """Features of the N images that can be read.

    Attributes:
        values: Of each layer float32 [N, D].
        ids: int64 [N], the images' ids in their source.
        labels: int64 [N], indices into ``classes``.
        classes: Sorted names of the classes.
        skipped: (key, reason) of each image that was left out.
    """

    values: dict[str, Tensor]
    ids: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]


@torch.no_grad()
def extract_features(
    model: nn.Module,
    source: ImageSource,
    preprocess: Preprocess,
    layers: Sequence[str],
    *,
    grid: int = 2,
    cache: str | Path | None = None,
    ids: Sequence[int] | None = None,
    batch_size: int = 64,
    workers: int | None = None,
    progress: bool = False,
) -> Features:
    """The values of some layers for all labelled images of a source.

    A run that is broken off goes on where it stopped; one that is finished is read from the cache.

    Differs from the paper: feature maps are averaged over the cells of a ``grid`` x ``grid`` raster, since their
    hundreds of thousands of values would need as many weights for each class.

    Args:
        model: Any model in eval mode that can be recorded.
        source: Images whose label is their class.
        preprocess: Makes the network's input of a picture.
        layers: Names, as of ``DeconvNet.project``.
        grid: Cells along each side of a map; smaller maps stay as they are.
        cache: Folder for the features, made if missing; None: they are computed anew each time.
        ids: Only these images; None: all.
        batch_size: Images that go through the network together.
        workers: Processes that decode; as of ``zfkernels.data.stream``.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: No layers, an unknown layer, a grid below 1, no images, images without labels, or no image that can
            be read.
    """
    if not layers or grid < 1:
        raise ValueError(
            f"extract_features: expected at least one layer and grid ≥ 1, got {list(layers)} and grid {grid}"
        )
    size = source.tensor_size or (preprocess.size, preprocess.size)
    network = trace_model(model, size)
    widths = [_width(network.shape(network.resolve(layer)), grid) for layer in layers]
    order = list(source.order if ids is None else ids)
    if not order:
        raise ValueError("extract_features: expected ids of at least one image, got none")
    common = _identity(model, source, order, preprocess, grid)
    folder = None if cache is None else Path(cache)
    stores = [
        _Store({**common, "layer": layer}, len(source.keys), width, folder)
        for layer, width in zip(layers, widths, strict=True)
    ]
    _fill(stores, network, source, order, preprocess, grid, batch_size, workers, progress)
    first = stores[0]
    kept = [n for n in first.ids if first.names[n] is not None]
    if not kept:
        raise ValueError(f"extract_features: expected images with labels that can be read, got none in {source.name}")
    classes = sorted({str(first.names[n]) for n in kept})
    index = {name: label for label, name in enumerate(classes)}
    labels = torch.tensor([index[str(first.names[n])] for n in kept])
    values = {layer: torch.from_numpy(store.array[kept]) for layer, store in zip(layers, stores, strict=True)}
    return Features(values, torch.tensor(kept), labels, tuple(classes), tuple(first.skipped))


def _width(shape: tuple[int, ...], grid: int) -> int:
    return shape[1] * min(grid, shape[2]) * min(grid, shape[3]) if len(shape) == 4 else int(np.prod(shape[1:]))


def _pooled(values: Tensor, grid: int) -> Tensor:
    if values.dim() == 4:
        values = F.adaptive_avg_pool2d(values, (min(grid, values.shape[2]), min(grid, values.shape[3])))
    return values.flatten(1).float().cpu()


def _identity(
    model: nn.Module, source: ImageSource, order: list[int], preprocess: Preprocess, grid: int
) -> dict[str, Any]:
    weights = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        weights.update(f"{key} {tuple(value.shape)} {value.dtype}".encode())
        weights.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() if value.dim() else
                       str(value.item()).encode())  # fmt: skip
    images = hashlib.sha256("\n".join(source.keys).encode())
    images.update(str(order).encode())
    for image_id in (order[0], order[len(order) // 2], order[-1]):  # other images may have the same names
        with contextlib.suppress(UnreadableImageError):
            image, _ = source.load(image_id)
            images.update(image.numpy().tobytes() if isinstance(image, Tensor) else image.tobytes())
    return {
        "weights": weights.hexdigest(), "source": source.name, "images": images.hexdigest(),
        "preprocess": [preprocess.size, preprocess.resize, *preprocess.mean, *preprocess.std],
        "grid": grid,
    }  # fmt: skip


class _Store:
    """An array [images, D] of one layer, in memory or in a file, and which images are done.

    After each batch the array is flushed and then the number of images done is written, so that what the number counts
    is on disk.
    """

    def __init__(self, identity: dict[str, Any], count: int, width: int, folder: Path | None) -> None:
        self.identity = identity
        self.names: dict[int, str | None] = {}
        self.skipped: list[tuple[str, str]] = []
        self.ids: list[int] = []
        self.seen = 0
        self.state: Path | None = None
        if folder is None:
            self.array: np.ndarray = np.zeros((count, width), np.float32)
            return
        digest = _digest(identity)[:16]
        folder.mkdir(parents=True, exist_ok=True)
        self.state, path = folder / f"{digest}.json", folder / f"{digest}.npy"
        if self.state.exists() and path.exists():
            self._read_state()
            try:
                self.array = np.load(path, mmap_mode="r+", allow_pickle=False)
            except (ValueError, EOFError, TypeError) as error:
                raise ValueError(f"extract_features: expected cache with an array in {path}, got {error}") from error
            if self.array.shape != (count, width) or self.array.dtype != np.float32:
                raise ValueError(
                    f"extract_features: expected cache with {path} of {count} x {width} values of float32, "
                    f"got {self.array.shape} of {self.array.dtype}"
                )
        else:
            self.state.unlink(missing_ok=True)
            self.array = np.lib.format.open_memmap(path, "w+", np.float32, (count, width))

    def put(self, batch: Batch, values: Tensor | None, source: ImageSource) -> None:
        """Takes in a batch, in the order of the images."""
        if values is not None:
            self.array[batch.ids.numpy()] = values.numpy()
        self.ids += batch.ids.tolist()
        self.names.update(zip(batch.ids.tolist(), batch.labels, strict=True))
        self.skipped += [(source.keys[image_id], reason) for image_id, reason in batch.skipped]
        self.seen += len(batch.ids) + len(batch.skipped)
        if self.state is not None:
            self._write_state(self.state)

    def _read_state(self) -> None:
        assert self.state is not None
        try:
            known = json.loads(self.state.read_text(encoding="utf-8"))
            whole = known.pop("sha256") == _digest(known)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            whole = False
        if not whole:
            raise ValueError(
                f"extract_features: expected cache with {self.state} as this version wrote it, got another: delete it"
            )
        if known["identity"] != json.loads(json.dumps(self.identity)):
            raise ValueError(f"extract_features: expected cache with {self.state} of these images, got others")
        self.seen, self.ids = known["seen"], known["ids"]
        self.names = dict(zip(self.ids, known["labels"], strict=True))
        self.skipped = [(key, reason) for key, reason in known["skipped"]]

    def _write_state(self, path: Path) -> None:
        if isinstance(self.array, np.memmap):
            self.array.flush()
        content = {
            "identity": self.identity, "seen": self.seen, "ids": self.ids,
            "labels": [self.names[n] for n in self.ids], "skipped": self.skipped,
        }  # fmt: skip
        write_json(path, {**content, "sha256": _digest(content)})


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _fill(
    stores: Sequence[_Store], network: Network, source: ImageSource, order: list[int], preprocess: Preprocess,
    grid: int, batch_size: int, workers: int | None, progress: bool,
) -> None:  # fmt: skip
    """Computes what is not done yet, all layers that stand at the same image together."""
    like = next(network.model.parameters())
    for seen in sorted({store.seen for store in stores if store.seen < len(order)}):
        together = [store for store in stores if store.seen == seen]
        names = [store.identity["layer"] for store in together]
        with progress_bar(len(order), "images", progress, name="features", done=seen) as advance:
            for batch in stream(source, preprocess, ids=order[seen:], batch_size=batch_size, workers=workers):
                values = network.activations(batch.images.to(like), names) if len(batch.ids) else {}
                for store, name in zip(together, names, strict=True):
                    store.put(batch, _pooled(values[name], grid) if values else None, source)
                advance(len(batch.ids) + len(batch.skipped))
