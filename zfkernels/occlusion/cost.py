"""How long a step of a sweep takes: the few constants of a device, and the time that follows from them.

The constants are for choosing between windows and whole frames. Those of a CPU are of one thread of an AMD EPYC of
family 26 (AVX-512), fitted to whole sweeps (benchmarks/notes/matrix_products.md).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rates:
    """What a kind of device does in a second.

    Attributes:
        windows: multiply-adds of convolutions on windows.
        frames: multiply-adds of convolutions and matrix products on whole frames.
        memory: bytes read and written.
        call: seconds that one call takes, however little it computes.
        budget: bytes that the values of one chunk of positions may take, where nothing else is asked for.
        tiled: whether the kernels compute 3x3 filters in tiles of outputs with fewer products (see
            ``Kind.window_products``); never for bfloat16.
    """

    windows: float
    frames: float
    memory: float
    call: float
    budget: int
    tiled: bool = False

    def on_windows(self, multiply_adds: float, size: float, calls: int = 1) -> float:
        """Seconds for steps that run on windows, and read and write ``size`` bytes."""
        return multiply_adds / self.windows + size / self.memory + calls * self.call

    def on_frames(self, multiply_adds: float, size: float, calls: int = 1) -> float:
        """Seconds for steps that run on whole frames, and read and write ``size`` bytes."""
        return multiply_adds / self.frames + size / self.memory + calls * self.call


RATES = {
    "cpu": Rates(windows=110e9, frames=100e9, memory=25e9, call=50e-6, budget=2**26, tiled=True),
    "cuda": Rates(windows=12e12, frames=20e12, memory=2e12, call=6e-6, budget=2**31),
}


def rates_of(device: str) -> Rates:
    """The constants of a kind of device; those of a CPU where none are known."""
    return RATES.get(device, RATES["cpu"])
