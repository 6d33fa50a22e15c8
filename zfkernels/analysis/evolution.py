"""Evolution of features during training: the strongest activation of a map over the training set, epoch by epoch.

Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 4.2 ("Feature Evolution during Training"), figure 4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from zfkernels.analysis.topk import TopK
from zfkernels.checks import check_batch_size, network_for
from zfkernels.deconvnet import DeconvNet
from zfkernels.progress import progress_bar
from zfkernels.results import Evolution, LayerEvolution
from zfkernels.results.evolution import cosine
from zfkernels.signed import signed


class Images(Protocol):
    """N images as the network takes them, [C, H, W] each: a tensor, a list, a map-style data set."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Tensor: ...


def pick_maps(
    net: DeconvNet, layers: Sequence[str], count: int, *, image_size: tuple[int, int], seed: int = 0
) -> dict[str, Tensor]:
    """``count`` random maps of each layer, int64, rising; all of a layer that has fewer.

    Raises:
        ValueError: No layers, an unknown layer, or ``count`` below 1.
    """
    if not layers or count < 1:
        raise ValueError(f"pick_maps: expected at least one layer and count ≥ 1, got {list(layers)} and {count}")
    network = net.network_at(image_size)
    generator = torch.Generator().manual_seed(seed)
    chosen = {}
    for layer in layers:
        channels = network.info(layer).channels
        chosen[layer] = torch.randperm(channels, generator=generator)[:count].sort().values
    return chosen


@torch.no_grad()
@signed("evolution")
def strongest_projections(
    model: nn.Module,
    images: Images,
    maps: Mapping[str, Tensor],
    *,
    batch_size: int = 128,
    progress: bool = False,
) -> dict[str, LayerEvolution]:
    """One epoch of the figure: of each map its strongest activation over all images, projected.

    Args:
        model: Any model in eval mode that can be recorded.
        images: The training set.
        maps: The maps to follow, int64 [M] of each layer.
        batch_size: Images that go through the network together.
        progress: Whether to show a progress bar.

    Returns:
        Of each layer a ``LayerEvolution`` with E = 1.

    Raises:
        ValueError: No images, no maps, an unknown layer, or a map that the layer does not have.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), figure 4.
    """
    if len(images) == 0 or not maps:
        raise ValueError(f"evolution: expected images and maps, got {len(images)} images and {len(maps)} layers")
    check_batch_size("evolution", batch_size)
    net = DeconvNet(model)
    like = next(model.parameters())
    running: dict[str, TopK] = {}
    with progress_bar(len(images), "images", progress) as advance:
        for start in range(0, len(images), batch_size):
            ids = range(start, min(start + batch_size, len(images)))
            batch = torch.stack([images[n] for n in ids]).to(like)
            for layer, values in network_for("evolution", model, batch).activations(batch, list(maps)).items():
                _check_maps(layer, maps[layer], values)
                topk = running.setdefault(layer, TopK(len(maps[layer]), 1))
                topk.update(values[:, maps[layer].to(values.device)], torch.tensor(ids))
            advance(len(ids))
    found = {}
    for layer, topk in running.items():
        ranking = topk.compute()
        image, value, position = ranking.image_ids[:, 0], ranking.values[:, 0], ranking.positions[:, 0]
        alive = value > 0
        tiles = _tiles(net, images, like, layer, maps[layer], image.clamp(min=0), position)
        tiles[~alive] = 0
        image = torch.where(alive, image, -1)
        found[layer] = LayerEvolution(layer, maps[layer], image[None], value[None], position[None], tiles[None])
    return found


@torch.no_grad()
@signed("evolution")
def evolution(
    snapshots: Iterable[tuple[int, nn.Module]],
    images: Images,
    maps: Mapping[str, Tensor],
    *,
    batch_size: int = 128,
    progress: bool = False,
) -> Evolution:
    """Figure 4 from the networks of several epochs.

    Beside the strongest activations, which jump where another image becomes the strongest, each map is followed in one
    image, the one that excites it most at the last epoch (``LayerEvolution.fixed``).

    Args:
        snapshots: (epoch, network in eval mode), epochs rising; used twice, so that an iterator is kept in a list.
        images: As of ``strongest_projections``.
        maps: The same.
        batch_size: The same.
        progress: The same.

    Raises:
        ValueError: No snapshots, epochs that do not rise, or as of ``strongest_projections``.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), figure 4.
    """
    networks = list(snapshots)
    epochs = [epoch for epoch, _ in networks]
    if not epochs or sorted(set(epochs)) != epochs:
        raise ValueError(f"evolution: expected snapshots of rising epochs, got {epochs}")
    moments = []
    for _, model in networks:
        moments.append(strongest_projections(model, images, maps, batch_size=batch_size, progress=progress))
    joined = join(epochs, moments)
    layers = []
    for layer in joined.layers:
        last = layer.image[-1].clamp(min=0)
        shown = torch.stack([images[n] for n in last.tolist()])
        views = []
        for _, model in networks:
            net = DeconvNet(model)
            units = torch.arange(len(last))
            batch = shown.to(next(model.parameters()))
            place = _strongest_place(net, batch, layer.layer, layer.maps)
            projected = net.project(
                batch, layer.layer, units=torch.cat([units[:, None], layer.maps[:, None], place], 1)
            )
            views.append(projected.dense().flatten(1).cpu())
        stacked = torch.stack(views)
        fixed = torch.where(layer.image[-1] >= 0, cosine(stacked, stacked[-1:]), float("nan"))
        layers.append(
            LayerEvolution(layer.layer, layer.maps, layer.image, layer.value, layer.position, layer.tiles, fixed)
        )
    return Evolution(joined.epochs, tuple(layers))


def join(epochs: Sequence[int], moments: Sequence[Mapping[str, LayerEvolution]]) -> Evolution:
    """The results of ``strongest_projections`` at several epochs as one."""
    layers = []
    for name in moments[0]:
        parts = [moment[name] for moment in moments]
        series = (torch.cat([getattr(p, field) for p in parts]) for field in ("image", "value", "position", "tiles"))
        layers.append(LayerEvolution(name, parts[0].maps, *series))
    return Evolution(torch.tensor(list(epochs)), tuple(layers))


def _check_maps(layer: str, maps: Tensor, values: Tensor) -> None:
    if len(maps) == 0 or int(maps.min()) < 0 or int(maps.max()) >= values.shape[1]:
        raise ValueError(f"evolution: expected maps of {layer} from 0 to {values.shape[1] - 1}, got {maps.tolist()}")


def _strongest_place(net: DeconvNet, batch: Tensor, layer: str, maps: Tensor) -> Tensor:
    """Row and column, int64 [M, 2], of the maximum of map m in image m."""
    values = network_for("evolution", net.model, batch).activations(batch, [layer])[layer]
    values = values[torch.arange(len(maps)), maps]
    if values.dim() == 1:
        return torch.zeros(len(maps), 2, dtype=torch.int64)
    place = values.flatten(1).argmax(1).cpu()
    return torch.stack([place // values.shape[2], place % values.shape[2]], 1)


def _tiles(
    net: DeconvNet, images: Images, like: Tensor, layer: str, maps: Tensor, image: Tensor, position: Tensor
) -> Tensor:
    """Projections cut to the receptive field, which may hang over the border, so that tiles of one map compare."""
    used, index = image.unique(return_inverse=True)
    batch = torch.stack([images[n] for n in used.tolist()]).to(like)
    projected = net.project(batch, layer, units=torch.cat([index[:, None], maps[:, None], position], 1))
    frame = projected.windows.frame
    info = net.network_at(frame).info(layer)
    field, stride = info.receptive_field, info.stride
    if field is None or stride is None or field[0] >= frame[0] or field[1] >= frame[1]:
        return projected.dense().cpu()
    # The field of cell (0, 0) ends inside the image: from its end and its size follows where every field begins.
    end = net.receptive_field(layer, torch.zeros(1, 2, dtype=torch.int64), frame)[0, 2:]
    corners = (end - torch.tensor(field)) + position * torch.tensor(stride)
    return projected.windows.crops(corners, field).cpu()
