"""Builds a gallery again and again, killed each time at a random moment, then once to the end.

python killed.py PHOTOS OUT KILLS: runs in forks of one process, so that each starts at once.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from small import OPTIONS, small_network

from zfkernels.gallery import build_gallery, checkpoint


def build(photos: str, out: Path) -> None:
    checkpoint.SECONDS = 0  # after every batch
    build_gallery(small_network(), photos, out=out, **{**OPTIONS, "batch_size": 2})


def in_a_fork(photos: str, out: Path, killed_after: float | None) -> float | None:
    """Seconds that it took; None if it was killed."""
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            build(photos, out)
            code = 0
        finally:
            os._exit(code)  # whatever happens, the fork must not go on as its parent
    if killed_after is not None:
        time.sleep(killed_after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return None
    assert os.WEXITSTATUS(status) == 0
    return time.monotonic() - start


def main(photos: str, out: Path, kills: int) -> None:
    torch.set_num_threads(1)  # threads do not survive a fork
    build(photos, out / "whole")  # also loads everything, so that the forks need not
    whole = in_a_fork(photos, out / "again", None)
    assert whole is not None
    generator = random.Random(0)
    died = 0
    for _ in range(kills):
        died += in_a_fork(photos, out / "killed", generator.uniform(0.05, 0.8) * whole) is None
    in_a_fork(photos, out / "killed", None)
    print(died)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
