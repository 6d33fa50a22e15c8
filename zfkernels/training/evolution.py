"""Figure 4 while a network is trained: a Lightning callback, and the training set as its network sees it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from zfkernels.analysis.evolution import Images, join, pick_maps, strongest_projections
from zfkernels.data import ImageSource
from zfkernels.deconvnet import DeconvNet
from zfkernels.models import ConvNet, inference_form
from zfkernels.output import replacing
from zfkernels.results import Evolution, LayerEvolution
from zfkernels.training.crops import center_crop
from zfkernels.training.data import ImageClasses, mean_image, normalize, per_channel
from zfkernels.training.images import DecodedImages, LabelledImages
from zfkernels.training.recipe import input_size_of

EVOLUTION_EPOCHS = (0, 1, 2, 5, 10, 20, 30, 40, 64)
"""The epochs of the paper's figure 4, and the network before training."""


class TrainingImages:
    """The images of a training, normalised and centre-cropped, by index.

    Args:
        images: The training set.
        mean: What is subtracted from pixels in [0, 1], [3, 1, 1] or [3, stored size, stored size].
        std: What the difference is divided by, [3, 1, 1].
        side: Height and width of the crop.

    Attributes:
        size: Height and width of the images.
    """

    def __init__(self, images: LabelledImages | DecodedImages, mean: Tensor, std: Tensor, side: int) -> None:
        self.images, self.mean, self.std, self.size = images, mean, std, (side, side)

    @classmethod
    def of_run(
        cls,
        run: str | Path,
        data: str | Path | ImageSource,
        model: nn.Module,
        *,
        cache: str | Path | None = None,
        progress: bool = True,
    ) -> TrainingImages:
        """The images that the training in the folder ``run`` used, as its ``run.json`` says.

        Raises:
            FileNotFoundError: The folder has no ``run.json``, or ``data`` does not exist.
            ValueError: ``data`` has other classes than the run.
        """
        path = Path(run) / "run.json"
        if not path.is_file():
            raise FileNotFoundError(f"evolve: expected run a folder with run.json, got {run}")
        record = json.loads(path.read_text(encoding="utf-8"))
        recipe = record["recipe"]
        labelled = LabelledImages(
            data, "train", recipe["stored_size"], classes=record["limit_classes"], per_class=record["limit_per_class"]
        )
        if labelled.classes != record["classes"]:
            raise ValueError(f"evolve: expected data with the {len(record['classes'])} classes of {run}, got others")
        images = labelled if cache is None else DecodedImages(labelled, cache, progress=progress)
        mean = mean_image(images) if recipe["mean"] is None else per_channel(tuple(recipe["mean"]))
        return cls(images, mean, per_channel(tuple(recipe["std"])), input_size_of(model))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return center_crop(normalize(self.images[index][0][None], self.mean, self.std), self.size[0])[0]


class FeatureEvolution(pl.Callback):
    """At chosen epochs of any Lightning training: each map's strongest activation over the training set, projected.

    After each such epoch the results so far are written to a file, and are in ``result``. They are part of the
    checkpoint, so that a resumed run keeps them.

    Args:
        model: The network inside the Lightning module.
        path: The safetensors file to write: of each layer its maps, images, values, positions and tiles.
        layers: Names of layers of the network in eval mode (a ``ConvNet``: of its ``inference_form``).
        images: The training set as the network takes it; None: that of the trainer's ``ImageClasses``.
        epochs: When, counted from 1; 0 is before training.
        maps: Random maps of each layer.
        seed: Of their choice.
        batch_size: Images that go through the network together.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 4.2, figure 4.
    """

    FIELDS = ("maps", "image", "value", "position", "tiles")

    def __init__(
        self,
        model: nn.Module,
        path: str | Path,
        layers: Sequence[str],
        *,
        images: Images | None = None,
        epochs: Iterable[int] = EVOLUTION_EPOCHS,
        maps: int = 6,
        seed: int = 0,
        batch_size: int = 128,
    ) -> None:
        self.model, self.path, self.layers, self.images = model, Path(path), tuple(layers), images
        self.epochs, self.maps, self.seed, self.batch_size = frozenset(epochs), maps, seed, batch_size
        self.done: list[int] = []
        self.moments: list[dict[str, LayerEvolution]] = []

    @property
    def result(self) -> Evolution:
        """The epochs so far.

        Raises:
            ValueError: There is none yet.
        """
        if not self.done:
            raise ValueError("FeatureEvolution: expected an epoch to be over, got none yet")
        return join(self.done, self.moments)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 0:
            self._look(trainer, 0)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._look(trainer, trainer.current_epoch + 1)

    def _look(self, trainer: pl.Trainer, epoch: int) -> None:
        if epoch not in self.epochs or epoch in self.done or not trainer.is_global_zero:
            return
        images = self.images if self.images is not None else self._training_set(trainer)
        network = inference_form(self.model) if isinstance(self.model, ConvNet) else copy.deepcopy(self.model).eval()
        size = (images[0].shape[-2], images[0].shape[-1])
        chosen = pick_maps(DeconvNet(network), self.layers, self.maps, image_size=size, seed=self.seed)
        self.moments.append(strongest_projections(network, images, chosen, batch_size=self.batch_size))
        self.done.append(epoch)
        self._write()

    @staticmethod
    def _training_set(trainer: pl.Trainer) -> TrainingImages:
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, ImageClasses):
            raise TypeError(f"FeatureEvolution: expected images, or an ImageClasses to train on, got {data!r}")
        return TrainingImages(data.train_set, data.mean, data.std, data.input_size)

    def _write(self) -> None:
        from safetensors.torch import save_file

        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as partial:
            save_file({name: tensor.contiguous() for name, tensor in self._tensors().items()}, partial)

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {"epochs": torch.tensor(self.done)}
        for layer in self.result.layers:
            tensors.update({f"{layer.layer}.{field}": getattr(layer, field) for field in self.FIELDS})
        return tensors

    def state_dict(self) -> dict[str, Any]:
        return self._tensors() if self.done else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.done = state_dict["epochs"].tolist() if state_dict else []
        self.moments = [
            {
                layer: LayerEvolution(
                    layer,
                    state_dict[f"{layer}.maps"],
                    *(state_dict[f"{layer}.{field}"][n : n + 1] for field in self.FIELDS[1:]),
                )
                for layer in self.layers
            }
            for n in range(len(self.done))
        ]
