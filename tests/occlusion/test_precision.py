"""Sweeps in bfloat16: where the processor has no products of such numbers, that is said, once."""

from __future__ import annotations

import warnings

import pytest
import torch
from support.toys import images, toy

import zfkernels as zf
from zfkernels.occlusion import precision


@pytest.mark.parametrize(("variants", "said"), [([], 1), (["baseline", "avx2"], 1), (["avx512", "avx512_bf16"], 0)])
def test_it_is_said_once_where_nothing_is_gained(
    variants: list[str], said: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "cpu_variants", lambda: variants)
    precision._warn.cache_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            zf.occlusion_sweep(toy("residual"), images(1), window=9, precision="bfloat16")
            zf.occlusion_sweep(toy("residual"), images(1), window=9, precision=torch.float32)
    precision._warn.cache_clear()
    assert sum("no faster than float32" in str(warning.message) for warning in caught) == said
