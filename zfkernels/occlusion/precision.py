"""Says where a narrower type of numbers was asked for that saves no time."""

from __future__ import annotations

from functools import cache

import torch

from zfkernels.ops import cpu_variants
from zfkernels.signed import warn_user

MULTIPLIES = ("avx512_bf16", "amx_bf16")  # instruction sets with products of bfloat16 numbers


def say_if_no_faster(caller: str, precision: torch.dtype, device: torch.device) -> None:
    """Warns, once in a process, where ``device`` computes with bfloat16 numbers in float32.

    Args:
        caller: the function that was asked.
        precision: the type of numbers asked for.
        device: where it runs.
    """
    if device.type == "cpu" and precision == torch.bfloat16 and not {*cpu_variants()[-1:]} & {*MULTIPLIES}:
        _warn(caller)


@cache
def _warn(caller: str) -> None:
    warn_user(
        caller,
        "precision=torch.bfloat16 is no faster than float32 here, in which it is computed: the kernels "
        "multiply bfloat16 on processors with AVX512-BF16 or AMX",
        RuntimeWarning,
    )
