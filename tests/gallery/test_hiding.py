"""Heat maps of winners: against a plain loop over squares, and in a gallery."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from small import LAYERS, OPTIONS, SIZE, small_network
from torch import Tensor

from zfkernels.cli.app import app
from zfkernels.deconvnet import DeconvNet
from zfkernels.gallery import build_gallery
from zfkernels.gallery.hiding import Hiding, square_of
from zfkernels.gallery.layers import select_layers
from zfkernels.network.network import trace_model


def plain(model: torch.nn.Sequential, end: int, image: Tensor, unit: list[int], square: tuple[int, int]) -> Tensor:
    """[rows, cols]: the share by which a unit falls, square by square."""
    side, step = square
    starts = [n * step for n in range(-(-(SIZE - side) // step) + 1)]
    channel, row, column = unit
    clean = model[:end](image)[0, channel, row, column]
    found = torch.zeros(len(starts), len(starts), dtype=image.dtype)
    for i, top in enumerate(starts):
        for j, left in enumerate(starts):
            hidden = image.clone()
            hidden[:, :, top : top + side, left : left + side] = 0
            found[i, j] = (clean - model[:end](hidden)[0, channel, row, column]) / clean.abs()
    return found


@torch.no_grad()
def test_the_share_that_each_square_takes_away() -> None:
    model = small_network().double()
    for module in model:
        if hasattr(module, "inplace"):
            module.inplace = False
    images = torch.randn(2, 3, SIZE, SIZE, dtype=torch.float64)
    layers, net = select_layers(trace_model(model, (3, SIZE, SIZE)), list(LAYERS)), DeconvNet(model)
    hiding = Hiding(model, layers, (3, SIZE, SIZE))
    units, fields = {}, {}
    for index, end in ((0, 1), (2, 5)):
        maps = model[:end](images)
        wanted = torch.tensor([[0, 1], [1, 3], [0, 4]])
        place = maps[wanted[:, 0], wanted[:, 1]].flatten(1).argmax(1)
        position = torch.stack([place // maps.shape[3], place % maps.shape[3]], 1)
        units[index] = torch.cat([wanted, position], 1)
        fields[index] = layers[index].receptive_fields(net, wanted[:, 1], position, (SIZE, SIZE))
    found = hiding.heat(images, units, fields)
    for index, end in ((0, 1), (2, 5)):
        for unit, heat in zip(units[index].tolist(), found[index], strict=True):
            expected = plain(model, end, images[unit[0] : unit[0] + 1], unit[1:], hiding.squares[index])
            torch.testing.assert_close(heat, expected, rtol=1e-9, atol=1e-10)
            assert heat.max() > 0.1
    tiles = hiding.tiles(0, units[0], fields[0], found[0])
    assert tiles.dtype == torch.uint8
    assert int(tiles.flatten(2).max()) > 240  # the place where hiding hurts most is white


def test_squares_grow_with_what_an_activation_depends_on() -> None:
    assert square_of((7, 7), (224, 224)) == (2, 1)
    assert square_of((99, 99), (224, 224)) == (16, 8)
    assert square_of((400, 400), (224, 224)) == (32, 16)


def test_a_gallery_with_heat_maps(photos: Path, tmp_path: Path) -> None:
    found = build_gallery(small_network(), photos, out=tmp_path / "out", **OPTIONS, occlusion=True)
    assert found.info["blocks"] == ["projections", "patches", "activations", "occlusions"]
    channel = found.maps("4")[0]
    heat = found.occlusions("4", channel)
    assert heat.shape == found.patches("4", channel).shape
    assert heat.float().std() > 10
    page = (tmp_path / "out" / "index.html").read_text()
    assert "hiding this place lowers the activation" in page
    with pytest.raises(ValueError, match=r"without another run, .*options\.occlusion"):
        build_gallery(small_network(), photos, out=tmp_path / "out", **OPTIONS)
    without = build_gallery(small_network(), photos, out=tmp_path / "without", **OPTIONS)
    with pytest.raises(ValueError, match=r"Gallery\.occlusions: expected a gallery with occlusions"):
        without.occlusions("4", channel)
    assert (tmp_path / "out" / "topk.parquet").read_bytes() == (tmp_path / "without" / "topk.parquet").read_bytes()


def test_the_command(photos: Path, tmp_path: Path) -> None:
    arguments = ["gallery", "--model", "small:small_network", "--data", str(photos), "--layers", "4", "--size", "20"]
    result = CliRunner().invoke(app, [*arguments, "--occlusion", "--workers", "0", "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert '"occlusions"' in (tmp_path / "out" / "gallery.json").read_text()
