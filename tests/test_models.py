"""The networks: their geometry against the paper's, their weights, filter renormalisation."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from zfkernels.models import Weights, alexnet2012, inference_form, renormalize_filters_, zfnet, zfnet64, zfnet_large
from zfkernels.models.network import BandedResponseNorm, ConvNet, contrast_normalization


def sides(model: ConvNet, kinds: tuple[type[nn.Module], ...]) -> list[int]:
    """Side lengths of the outputs of all layers of these kinds, in order."""
    seen: list[int] = []

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert output.shape[-1] == output.shape[-2]
        seen.append(output.shape[-1])

    hooks = [module.register_forward_hook(record) for module in model.features if isinstance(module, kinds)]
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, model.input_size, model.input_size))
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("build", [zfnet, zfnet_large])
def test_zfnet_has_the_sizes_of_figure_3(build: type[ConvNet]) -> None:
    model = build(10, units=16)
    assert sides(model, (nn.Conv2d, nn.MaxPool2d)) == [110, 55, 26, 13, 13, 13, 13, 6]
    maps = [module.out_channels for module in model.features if isinstance(module, nn.Conv2d)]
    assert maps == ([96, 256, 384, 384, 256] if build is zfnet else [96, 256, 512, 1024, 512])
    assert model.classifier[0].in_features == maps[-1] * 36


def test_zfnet_fully_connected_layers() -> None:
    with torch.device("meta"):
        linear = [module for module in zfnet().classifier if isinstance(module, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(9216, 4096), (4096, 4096), (4096, 1000)]


def test_alexnet_is_grouped_with_large_strided_filters() -> None:
    model = alexnet2012(10, units=16)
    assert sides(model, (nn.Conv2d, nn.MaxPool2d)) == [55, 27, 27, 13, 13, 13, 13, 6]
    convolutions = [module for module in model.features if isinstance(module, nn.Conv2d)]
    assert (convolutions[0].kernel_size, convolutions[0].stride) == ((11, 11), (4, 4))
    assert [module.groups for module in convolutions] == [1, 2, 1, 2, 2]


def test_zfnet64_sizes_and_parameters() -> None:
    model = zfnet64()
    assert sides(model, (nn.Conv2d, nn.MaxPool2d)) == [32, 16, 16, 8, 8, 8, 8, 3]
    assert sum(parameter.numel() for parameter in model.parameters()) <= 1_900_000
    with torch.no_grad():
        assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 200)


@pytest.mark.parametrize("build", [zfnet, zfnet_large, zfnet64])
def test_contrast_normalisation_follows_the_first_two_pools(build: type[ConvNet]) -> None:
    layers = list(build(10).features)
    places = [index for index, layer in enumerate(layers) if isinstance(layer, nn.LocalResponseNorm)]
    assert places == [3, 7]
    for place in places:
        norm = layers[place]
        assert type(norm) is nn.LocalResponseNorm
        assert isinstance(layers[place - 1], nn.MaxPool2d)
        assert (norm.size, norm.alpha, norm.beta, norm.k) == (5, 5e-4, 0.75, 2.0)


def test_initial_weights_are_the_papers() -> None:
    model = zfnet(50, units=64)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            assert module.bias.abs().max() == 0
            assert module.weight.std().item() == pytest.approx(1e-2, rel=0.1)
            assert abs(module.weight.mean().item()) < 1e-3


def test_inference_form_gives_the_same_outputs() -> None:
    model = zfnet64(training_form=True)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # statistics and weights that matter
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    model = model.double().eval()
    plain = inference_form(model)
    images = torch.randn(3, 3, 64, 64, dtype=torch.float64)
    expected = model(images)
    assert (plain(images) - expected).abs().max() <= 1e-7 * expected.abs().max()  # the band matrix is float32's
    assert plain.state_dict().keys() == zfnet64().state_dict().keys()
    assert [type(layer) for layer in plain.features] == [type(layer) for layer in zfnet64().features]
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in model.features)  # the original is left as it was


@pytest.mark.parametrize("channels", [3, 5, 48])
def test_banded_response_norm_equals_torchs(channels: int) -> None:
    images = 100 * torch.randn(2, channels, 5, 7)  # large, so that the sum of squares matters beside k
    torch.testing.assert_close(BandedResponseNorm(channels)(images), contrast_normalization()(images))


def test_renormalize_filters_against_a_loop() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 5, groups=2), nn.Linear(5, 5))
    nn.init.normal_(model[2].weight, std=10)
    with torch.no_grad():
        model[0].weight.mul_(torch.tensor([0.01, 0.3, 1.0, 5.0]).view(4, 1, 1, 1))
        model[0].weight[3, 0, 0, 0] = 7.0
        model[1].weight[2] = 0  # a dead filter must stay finite
    before = [parameter.detach().clone() for parameter in model.parameters()]
    assert renormalize_filters_(model, max_rms=0.1) is model
    scaled = 0
    for layer, old in ((model[0], before[0]), (model[1], before[2])):
        for new_filter, old_filter in zip(layer.weight, old, strict=True):
            values = old_filter.flatten().tolist()
            rms = math.sqrt(sum(value * value for value in values) / len(values))
            factor = 0.1 / rms if rms > 0.1 else 1.0
            scaled += factor < 1
            torch.testing.assert_close(new_filter.detach(), old_filter * factor)
    assert 0 < scaled < 10  # filters on both sides of the limit
    for index in (1, 3, 4, 5):  # biases and the fully connected layer
        assert torch.equal(list(model.parameters())[index], before[index])


def test_renormalize_filters_refuses_bad_arguments() -> None:
    with pytest.raises(TypeError, match=r"expected model a torch\.nn.Module, got int"):
        renormalize_filters_(3)  # type: ignore[type-var]
    for bad in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="expected max_rms a positive number"):
            renormalize_filters_(nn.Conv2d(1, 1, 1), max_rms=bad)


def test_shipped_weights() -> None:
    from safetensors.torch import load_file

    info = Weights.shipped("zfnet64")
    assert info.file.stat().st_size <= 4 * 2**20
    stored = load_file(info.file)
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    model = zfnet64(weights="DEFAULT")
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, stored[name].float())
        assert tensor.isfinite().all()
    assert len(info.wnids) == len(info.categories) == len(set(info.wnids)) == 200
    assert list(info.wnids) == sorted(info.wnids)  # outputs follow the sorted class folders
    assert (info.input_size, model.input_size) == (64, 64)
    with pytest.raises(ValueError, match="expected name one of zfnet64, got 'zfnet65'"):
        Weights.shipped("zfnet65")


def test_weights_from_a_file(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    saved = zfnet64(7)
    save_file(saved.state_dict(), tmp_path / "seven.safetensors")
    loaded = zfnet64(7, weights=tmp_path / "seven.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(saved.parameters(), loaded.parameters(), strict=True))
    with pytest.raises(FileNotFoundError, match="expected weights 'DEFAULT' or an existing safetensors file"):
        zfnet64(weights=tmp_path / "missing.safetensors")


def test_shipped_weights_recognise_real_photos(shared_data: Path) -> None:
    """The figures of the model card hold on every 25th image, within three standard deviations."""
    from zfkernels.data import open_source

    source, info = open_source(shared_data / "tiny-imagenet-200.zip"), Weights.shipped("zfnet64")
    chosen = [index for index, key in enumerate(source.keys) if "/val/" in key][::25]
    pictures, labels = zip(*(source.load(index) for index in chosen), strict=True)
    from torchvision.transforms.v2.functional import pil_to_tensor

    pixels = torch.stack([pil_to_tensor(picture) for picture in pictures]).float() / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (info.mean, info.std))
    with torch.no_grad():
        ranked = zfnet64(weights="DEFAULT").eval()((pixels - mean) / std).topk(5).indices
    truth = torch.tensor([info.wnids.index(label) for label in labels])
    hits = ranked == truth[:, None]
    assert len(truth) == 400
    for measured, expected in zip((hits[:, 0], hits.any(1)), (info.metrics["top1"], info.metrics["top5"]), strict=True):
        assert abs(measured.float().mean().item() - expected) <= 3 * math.sqrt(expected * (1 - expected) / 400)
