"""Seconds that recording networks takes, both sizes of batches and the layers' names included.

    python benchmarks/recording.py

The median of several recordings on one thread, each of a fresh copy of the network, and the processor time beside it.
"""

from __future__ import annotations

import copy
import statistics
import time

import click
import torch

from zfkernels.models import get_model
from zfkernels.network import record


@click.command()
@click.option("--networks", default="resnet18,densenet121,efficientnet_b0", show_default=True, help="Names.")
@click.option("--repeats", default=7, show_default=True, help="Recordings of each.")
def main(networks: str, repeats: int) -> None:
    """Records networks and prints a line for each."""
    torch.set_num_threads(1)
    for name in networks.split(","):
        model, walls, times = get_model(name, weights=None).eval(), [], []
        for _ in range(repeats + 1):
            fresh = copy.deepcopy(model)
            wall, processor = time.perf_counter(), time.process_time()
            record(fresh, (3, 224, 224))
            walls.append(time.perf_counter() - wall)
            times.append(time.process_time() - processor)
        # The first recording of a process makes PyTorch load what all later ones use.
        click.echo(
            f"{name}: {statistics.median(walls[1:]):.2f} s, processor time {statistics.median(times[1:]):.2f} s, "
            f"the first {walls[0]:.2f} s"
        )


if __name__ == "__main__":
    main()
