"""Which of a few tiles of a GPU kernel is the fastest for a class of shapes: measured once, kept for each GPU.

Nothing is measured unless ``ZFKERNELS_TUNE=1``: measuring waits for the GPU, which a CUDA graph does not allow. Without
a measured winner the first candidate is taken, the one that the tests and the static report are about. Processes may
measure at once: what each keeps is added to what the others kept.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch

T = TypeVar("T")
Timer = Callable[[Callable[[], Any]], float]


def cache_file() -> Path:
    """``tiles.json`` in ``$ZFKERNELS_CACHE``, else in ``zfkernels`` of the user's folder of caches."""
    chosen = os.environ.get("ZFKERNELS_CACHE")
    if chosen:
        return Path(chosen) / "tiles.json"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zfkernels" / "tiles.json"


def winners(path: Path) -> dict[str, dict[str, Any]]:
    """By name of the GPU and class of shapes, the fields of the fastest tile; a damaged file is said and ignored."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text())
        if not isinstance(found, dict) or not all(isinstance(tiles, dict) for tiles in found.values()):
            raise ValueError("tiles by GPU are not there")
    except (OSError, ValueError) as error:
        warnings.warn(f"tuning: expected JSON of tiles by GPU in {path}, which is ignored: {error}", stacklevel=2)
        return {}
    return found


def keep(path: Path, gpu: str, key: str, tile: Any) -> None:
    """Adds a winner to the file; a reader sees the old file or the new one, never a part, and no writer's is lost."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone_in(path.parent), tempfile.TemporaryDirectory(dir=path.parent) as folder:
        found = winners(path)
        found.setdefault(gpu, {})[key] = _fields(tile)
        part = Path(folder) / path.name
        with part.open("w") as file:
            json.dump(found, file, indent=1, sort_keys=True)
        part.replace(path)
    _read[path] = found


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Waits until no other process is in here with the same folder."""
    try:
        import fcntl
    except ImportError:  # Windows, where Triton does not run
        yield
        return
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def choose(
    key: str, candidates: Sequence[T], run: Callable[[T], Any], gpu: str | None, timer: Timer | None = None
) -> T:
    """The candidate that is the fastest on this GPU.

    Args:
        key: of the op and the class of shapes.
        candidates: tiles (dataclasses), the default first.
        run: runs the kernel with a tile.
        gpu: name of the GPU; None: there is none, the default is taken.
        timer: seconds or anything else that grows with the time of a call; None: Triton's.

    Returns:
        The winner that was kept; without one the default, or with ``ZFKERNELS_TUNE=1`` the one that is measured now.

    Raises:
        RuntimeError: there is something to measure while a CUDA graph is captured.
        triton.runtime.errors.OutOfResources: no tile fits this GPU; those that do not fit are left out.
    """
    if gpu is None or len(candidates) == 1:
        return candidates[0]
    kept = _loaded(cache_file()).get(gpu, {}).get(key)
    if kept is not None:
        for candidate in candidates:
            if _fields(candidate) == kept:
                return candidate
    if os.environ.get("ZFKERNELS_TUNE") != "1":
        return candidates[0]
    if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            f"tuning: expected no CUDA graph to be captured while ZFKERNELS_TUNE=1 measures tiles, got {key};"
            " one call before the capture measures them"
        )
    best = _fastest(candidates, run, timer or _triton_timer)
    keep(cache_file(), gpu, key, best)
    return best


def _fastest(candidates: Sequence[T], run: Callable[[T], Any], measure: Timer) -> T:
    """Of those that fit the GPU's shared memory and registers."""
    from triton.runtime.errors import OutOfResources

    costs: list[tuple[float, T]] = []
    for number, candidate in enumerate(candidates):
        try:
            costs.append((measure(lambda tile=candidate: run(tile)), candidate))  # type: ignore[misc]
        except OutOfResources:
            if number + 1 == len(candidates) and not costs:
                raise
    return min(costs, key=lambda pair: pair[0])[1]


def _fields(tile: Any) -> dict[str, Any]:
    """Of a tile, as JSON gives them back."""
    fields: dict[str, Any] = json.loads(json.dumps(asdict(tile)))
    return fields


_read: dict[Path, dict[str, dict[str, Any]]] = {}


def _loaded(path: Path) -> dict[str, dict[str, Any]]:
    """The winners, read once: this is asked at every launch. What other processes keep, the next process sees."""
    if path not in _read:
        _read[path] = winners(path)
    return _read[path]


def _triton_timer(call: Callable[[], Any]) -> float:
    from triton.testing import do_bench

    return float(do_bench(call, return_mode="median"))


def gpu_name(device: torch.device) -> str | None:
    """Of a device that runs kernels; None for a CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" and torch.cuda.is_available() else None
