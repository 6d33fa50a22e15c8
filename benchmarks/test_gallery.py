"""The first pass of a gallery over all convolutions against the bare forward pass, both fed by the same loader.

Once with the loader (workers decode), once with images that are in memory already: then nothing hides what the top-k
costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

import pytest
import torch
from networks import channels_last, network
from rounds import Race, Work, replay, replay_timer, run_race

from zfkernels.data import Batch, embedded_photos, stream
from zfkernels.gallery.checkpoint import Progress
from zfkernels.gallery.layers import select_layers
from zfkernels.gallery.sweep import CPU_BLOCK, Sweeper
from zfkernels.models import get_preprocess
from zfkernels.network.network import trace_model

pytestmark = pytest.mark.benchmark(timer=replay_timer)
# name → images, rounds
CASES = {"squeezenet1_0": (32, 3), "resnet18": (32, 3), "zfnet64": (256, 5)}
CONTENDERS = ("bare-nchw", "bare-channels-last", "sweep")
BATCH, WORKERS = 16, 2


def loaded(name: str) -> Iterator[Batch]:
    source = embedded_photos()
    source.limit(CASES[name][0])
    return stream(source, get_preprocess(name), batch_size=BATCH, workers=WORKERS)


@cache
def in_memory(name: str) -> list[Batch]:
    return list(loaded(name))


@cache
def sweep_race(name: str, batches: Callable[[str], Iterable[Batch]]) -> Race:
    size = get_preprocess(name).size
    trace = trace_model(network(name), (size, size))
    convolutions = [info.name for info in trace.layer_info() if info.is_convolution]
    layers = select_layers(trace, convolutions)

    def bare(model: torch.nn.Module, memory_format: torch.memory_format, block: int) -> int:
        count = 0
        with torch.inference_mode():
            for batch in batches(name):
                for images in batch.images.split(block):
                    model(images.contiguous(memory_format=memory_format))
                count += len(batch.ids)
        return count

    # As after thousands of images: stronger ones are there already, and few activations still enter a list.
    sweeper, progress = Sweeper(trace, layers, 9, BATCH), Progress()
    for batch in batches(name):
        ids = batch.ids + len(embedded_photos().keys)
        sweeper.update(Batch(2 * batch.images, ids, [None] * len(ids), []), progress)

    def sweep(_: int) -> int:
        before = sweeper.topks[0].compute().images
        for batch in batches(name):
            sweeper.update(batch, progress)
        return sweeper.topks[0].compute().images - before

    def check(contender: str, images: int, first: int) -> None:
        assert images == first == CASES[name][0]

    contenders = {
        "bare-nchw": lambda _: bare(network(name), torch.contiguous_format, BATCH),
        "bare-channels-last": lambda _: bare(channels_last(name), torch.channels_last, CPU_BLOCK),
        "sweep": sweep,
    }
    return run_race(contenders, lambda turn: turn, check, CASES[name][1])


@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.parametrize("batches", [loaded, in_memory])
@pytest.mark.parametrize("name", CASES)
def test_sweep(benchmark: Any, name: str, batches: Callable[[str], Iterable[Batch]], contender: str) -> None:
    """``speedup`` is the share of the bare pass's images/s that the sweep keeps."""
    race = sweep_race(name, batches)
    rate = CASES[name][0] / race.median(contender)
    group = f"gallery sweep-{name}-all convolutions, images {batches.__name__.replace('_', ' ')}-float32"
    replay(benchmark, race, contender, group, baselines=CONTENDERS[:2], work=Work(), images_per_second=rate)
