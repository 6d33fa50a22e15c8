"""The file of ``python tools/gpu_code`` about the CUDA kernels' launches says what the kernels do now.

Runs with SIMT_WAY=recorded; test_builds.py starts it.
"""

from __future__ import annotations

import ctypes
import dataclasses

import pytest
import torch
from gpu_code.cases import CASES, Case
from gpu_code.cuda_launches import launch_of
from gpu_code.window_cases import WINDOWS
from launches import count


@pytest.mark.parametrize("case", [*CASES, *WINDOWS], ids=lambda case: f"{case.op}-{case.name}")
def test_the_recorded_launches_are_those_of_the_kernels(simt: ctypes.CDLL, case: Case) -> None:
    """If not: SIMT_WAY=recorded python tests/simt/launches.py, then python tools/gpu_code --family cuda --record …."""
    assert count(simt, case, torch.float16) == dataclasses.asdict(launch_of(case, torch.float16))
