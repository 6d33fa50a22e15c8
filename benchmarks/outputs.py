"""Sweeps of more than classes, against what stands for the dense way: the bars of maps, units, fills and regions.

    python benchmarks/outputs.py unet        # a U-Net at 512, window 16, stride 8: the whole network on occluded images
    python benchmarks/outputs.py units       # every map of one layer under an 11/3 square: multiply-adds
    python benchmarks/outputs.py winners --weights squeezenet1_0.pt     # heat maps of a gallery's winners: seconds
    python benchmarks/outputs.py blur        # fill="blur" against MONAI's OcclusionSensitivity, if it is installed
    python benchmarks/outputs.py regions     # FeatureAblation of superpixels against Captum's

Multiply-adds are counted operation by operation while a sample of positions runs. Times are medians of rounds in which
all contenders run in turn, in processor time on one thread, so that a machine with other work to do can be measured on.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import torch
from machine import description
from networks import network
from torch import Tensor, nn
from zoo import Counter

import zfkernels as zf
from zfkernels.gallery.hiding import Hiding
from zfkernels.gallery.layers import select_layers
from zfkernels.network import record
from zfkernels.network.network import trace_model
from zfkernels.occlusion import WindowSweep
from zfkernels.occlusion.arguments import grid
from zfkernels.occlusion.watch import Watched

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "occlusion"))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from segmenters import UNet


def seconds(call: Callable[[], object]) -> float:
    """Processor time."""
    start = time.process_time()
    call()
    return time.process_time() - start


def race(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Medians of times, everybody once in each round."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for call in contenders.values():
        call()
    for _ in range(rounds):
        for name, call in contenders.items():
            times[name].append(seconds(call))
    return {name: statistics.median(found) for name, found in times.items()}


def some(places: Tensor, count: int) -> Tensor:
    """Random places of a grid."""
    flat = places.reshape(-1, 2)
    return flat[torch.randperm(len(flat), generator=torch.Generator().manual_seed(0))[:count]]


def counted(call: Callable[[], object]) -> int:
    with Counter() as counter:
        call()
    return counter.multiply_adds


def hidden(image: Tensor, places: Tensor, window: int) -> Tensor:
    images = image.repeat(len(places), 1, 1, 1)
    for n, (top, left) in enumerate(places.tolist()):
        images[n, :, top : top + window, left : left + window] = 0
    return images


PART = 10  # regions that Captum's FeatureAblation runs; each costs it as much


@click.group()
def main() -> None:
    """Each part prints what it found."""
    torch.set_num_threads(1)
    print(", ".join(f"{key} {value}" for key, value in description().items()), flush=True)


@main.command()
@click.option("--positions", default=96, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--width", default=32, show_default=True, help="Maps of the first level; twice as many in the next.")
@click.option("--levels", default=5, show_default=True)
@torch.no_grad()
def unet(positions: int, rounds: int, width: int, levels: int) -> None:
    """A U-Net with batch normalisation at 512, reduced to the area of each class."""
    torch.manual_seed(0)
    model, image = UNet(width=width, levels=levels).eval(), torch.randn(1, 3, 512, 512)
    places = some(grid((512, 512), (16, 16), (8, 8)), positions)
    reduce = zf.occlusion.class_area()

    def sweep() -> object:
        return zf.occlusion_sweep(model, image, window=16, positions=places, reduce=reduce)

    clean = counted(lambda: model(image))
    whole = clean * len(places)
    # Once recording and checks are done with, a sweep is a clean pass and the positions.
    run = WindowSweep(
        record(model, image), torch.cat([places, torch.full_like(places, 16)], 1), reduce=reduce
    )  # fmt: skip
    cover = torch.zeros(3)
    executed = counted(lambda: run(image, cover)) - clean
    plan = run.plan(image.device, image.dtype)
    print(f"multiply-adds: {whole / executed:.2f}x fewer, of exact boxes {plan.dense / plan.exact:.2f}x", flush=True)
    batch = places[:8]
    frames = hidden(image, batch, 16)
    forms = {"contiguous": frames, "channels last": frames.contiguous(memory_format=torch.channels_last)}
    found = race(
        {"sweep": lambda: run(image, cover), **{name: lambda x=x: model(x) for name, x in forms.items()}}, rounds
    )
    dense = min(found[name] for name in forms) * len(places) / len(batch)
    print(f"seconds of {len(places)} positions: sweep {found['sweep']:.2f}, dense {dense:.2f}: "
          f"{dense / found['sweep']:.2f}x")  # fmt: skip
    found_ = sweep().outputs[0, :8]  # type: ignore[attr-defined]
    expected = torch.stack([(model(x[None]).argmax(1) == n).sum() for x in frames for n in range(4)]).view(8, 4)
    print(f"largest difference of an area: {float((found_ - expected).abs().max()):.0f} of {512 * 512} cells")


@main.command()
@click.option("--positions", default=256, show_default=True)
@torch.no_grad()
def units(positions: int) -> None:
    """Every map of vgg16's conv3_3 and of resnet50's layer2 under a square of 11 at a stride of 3."""
    for name, layer in (("vgg16", "features.14"), ("resnet50", "layer2")):
        model, image = network(name), torch.randn(1, 3, 224, 224)
        places = some(grid((224, 224), (11, 11), (3, 3)), positions)
        recording = record(model, image)
        watched = (Watched(recording.resolve(layer), None, "value"),)
        boxes = torch.cat([places, torch.full_like(places, 11)], 1)
        run = WindowSweep(recording, boxes, watched, outputs=False)
        executed = counted(lambda run=run, image=image: run(image, torch.zeros(3)))
        clean = counted(lambda run=run, image=image: run.clean(image))
        plan = run.plan(image.device, image.dtype)
        possible, found = plan.dense / plan.exact, clean * len(places) / (executed - clean)
        print(f"{name} {layer}: multiply-adds {found:.1f}x fewer, exact boxes {possible:.1f}x: {found / possible:.0%}")


@main.command()
@click.option("--weights", type=click.Path(exists=True), help="State dict of squeezenet1_0.")
@click.option("--photos", default=2000, show_default=True, help="Of the data set that the arithmetic is for.")
@click.option("--top-k", default=9, show_default=True)
@click.option("--images", "count", default=4, show_default=True, help="Of the sample.")
@torch.no_grad()
def winners(weights: str | None, photos: int, top_k: int, count: int) -> None:
    """Heat maps of the winners of squeezenet1_0's 26 convolutions: of so many random maps an image as a gallery has."""
    model = network("squeezenet1_0")
    if weights:
        model.load_state_dict(torch.load(weights, weights_only=True))
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    layers, net = select_layers(trace_model(model, (3, 224, 224)), names), zf.DeconvNet(model)
    images, generator = torch.randn(count, 3, 224, 224), torch.Generator().manual_seed(0)
    forward = net.forward(images, names)
    every = torch.tensor(
        [(index, channel) for index, layer in enumerate(layers) for channel in range(layer.info.channels)]
    )
    each = round(top_k * len(every) / photos)
    units, fields = {}, {}
    drawn = every[torch.randint(0, len(every), (count * each,), generator=generator)]
    image = torch.arange(count).repeat_interleave(each)
    for index in drawn[:, 0].unique().tolist():
        here = drawn[:, 0] == index
        maps = forward.activations(names[index])[image[here], drawn[here, 1]]
        place = maps.flatten(1).argmax(1)
        position = torch.stack([place // maps.shape[2], place % maps.shape[2]], 1)
        units[index] = torch.cat([image[here, None], drawn[here, 1:], position], 1)
        fields[index] = layers[index].receptive_fields(net, drawn[here, 1], position, (224, 224))
    hiding = Hiding(model, layers, (3, 224, 224))
    spent = seconds(lambda: hiding.heat(images, units, fields)) / count
    whole = photos * spent / 60
    print(f"{len(every)} maps, {each} winners an image: {spent:.2f} s an image")
    print(f"{photos} photos: {whole:.0f} minutes of one core")


@main.command()
@torch.no_grad()
def blur() -> None:
    """The default fill of MONAI's OcclusionSensitivity: its own predictor, place by place."""
    try:
        from monai.visualize import OcclusionSensitivity
    except ImportError as error:
        raise click.ClickException(f"MONAI is needed: {error}") from error
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 5, 2), nn.ReLU(), nn.Conv2d(8, 12, 3, 2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5)
    ).eval()
    image = torch.randn(1, 3, 48, 48)
    model(image)
    for mask in (12, 15, 16):
        places = some(grid((49 - mask, 49 - mask), (1, 1), (4, 4)).clamp(max=48 - mask), 64)
        corners = [torch.arange(mask) + corner for corner in places.flatten().tolist()]
        grids = [torch.stack(torch.meshgrid(*corners[n : n + 2], indexing="ij")) for n in range(0, len(corners), 2)]
        mul, add = OcclusionSensitivity.gaussian_occlusion(image, (mask, mask))
        theirs = OcclusionSensitivity.predictor(
            torch.stack(grids), model, image, mul, add, (mask, mask), "gaussian", False, {}
        )[:, :, 0, 0]
        sweep = zf.occlusion_sweep(model, image, window=mask, positions=places, fill="blur")
        effect = (theirs - sweep.clean).abs().max()
        found = (sweep.outputs[0] - theirs).abs().max()
        print(f"mask of {mask}: largest difference {float(found):.1e}, largest effect {float(effect):.2f}")


@main.command()
@click.option("--rounds", default=3, show_default=True)
@click.option("--segments", default=50, show_default=True)
def regions(rounds: int, segments: int) -> None:
    """FeatureAblation of SLIC superpixels of a photo on vgg16 at 224; Captum's on ten regions, scaled to all."""
    from captum.attr import FeatureAblation
    from skimage import data, transform
    from skimage.segmentation import slic

    photo = transform.resize(data.chelsea(), (224, 224))
    mask = torch.from_numpy(slic(photo, n_segments=segments, start_label=0))[None, None]
    x = torch.from_numpy(photo).permute(2, 0, 1)[None].float().contiguous()
    model, target = network("vgg16"), 3
    count = int(mask.max()) + 1
    ours, theirs = zf.FeatureAblation(model), FeatureAblation(model)
    few = mask * PART // count
    calls = {"ours": lambda: ours.attribute(x, target=target, feature_mask=mask)}
    for batch in (1, PART):
        calls[f"Captum's, {batch} at once"] = lambda batch=batch: theirs.attribute(
            x, target=target, feature_mask=few, perturbations_per_eval=batch
        )
    found = race(calls, rounds)
    found = {name: spent if name == "ours" else spent * (count + 1) / (PART + 1) for name, spent in found.items()}
    fastest = min(spent for name, spent in found.items() if name != "ours")
    print(f"{count} superpixels: " + ", ".join(f"{name} {spent:.2f} s" for name, spent in found.items()))
    print(f"{fastest / found['ours']:.2f}x of the fastest of Captum's")


if __name__ == "__main__":
    main()
