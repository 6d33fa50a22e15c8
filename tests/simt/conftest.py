"""The CUDA kernels as the variant "cuda" of every op, on CPU tensors."""

from __future__ import annotations

import ctypes

import pytest
from emulation import WAY, become, emulated, emulator

from zfkernels import ops


@pytest.fixture(scope="session")
def _loaded() -> ctypes.CDLL:
    return emulator(WAY)


@pytest.fixture
def simt(_loaded: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> ctypes.CDLL:
    """The emulator, of a device with tensor cores, threads in random order; ``backend="cuda"`` runs on it."""
    for name, entry in ops.registered().items():
        if "cuda" in entry.variants:
            monkeypatch.setitem(entry.variants, "cuda", emulated(name))
    _loaded.simt_seed(1)
    become(_loaded)
    return _loaded


# The budgets of traffic and what is recorded of launches need the build that counts.
collect_ignore = [] if WAY == "recorded" else ["test_traffic.py", "test_launches.py"]
