"""Builds a gallery again and again, killed each time at a random moment, then once to the end.

python killed.py PHOTOS OUT KILLS: runs in forks of one process, so that each starts at once. A fork kills itself at its
n-th step for a random n, where a step is a batch of either pass or a write: on a busy machine a clock would kill it
anywhere but there.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from small import OPTIONS, small_network

from zfkernels.gallery import build_gallery, checkpoint
from zfkernels.gallery.draw import Studio
from zfkernels.methods.topk import TopK

STEPS = ((os, "fsync"), (os, "replace"), (TopK, "update"), (Studio, "draw"))


def build(photos: str, out: Path) -> None:
    checkpoint.SECONDS = 0  # after every batch
    build_gallery(small_network(), photos, out=out, **{**OPTIONS, "batch_size": 2})


def die_at(moment: int) -> None:
    """Kills this process before its n-th step, or after it, if n is odd."""
    left = moment

    def mortal(step: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0 and moment % 2 == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            result = step(*args, **options)
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    for owner, name in STEPS:
        setattr(owner, name, mortal(getattr(owner, name)))


def dies_in_a_fork(photos: str, out: Path, moment: int) -> bool:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            die_at(moment)
            build(photos, out)
            code = 0
        finally:
            os._exit(code)  # whatever happens, the fork must not go on as its parent
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def main(photos: str, out: Path, kills: int) -> None:
    torch.set_num_threads(1)  # threads do not survive a fork
    build(photos, out / "whole")  # also loads everything, so that the forks need not
    generator = random.Random(0)
    died = sum(dies_in_a_fork(photos, out / "killed", generator.randint(1, 12)) for _ in range(kills))
    build(photos, out / "killed")
    print(died)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
