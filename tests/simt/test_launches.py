"""The file of ``zfkernels inspect`` about the CUDA kernels' launches says what the kernels do now.

Runs with SIMT_WAY=recorded; test_builds.py starts it.
"""

from __future__ import annotations

import ctypes
import dataclasses

import pytest
import torch
from launches import count

from zfkernels.inspect.cases import CASES, Case
from zfkernels.inspect.cuda_launches import is_recorded, launch_of
from zfkernels.inspect.window_cases import WINDOWS

RECORDED = [case for case in (*CASES, *WINDOWS) if is_recorded(case)]


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: f"{case.op}-{case.name}")
def test_the_recorded_launches_are_those_of_the_kernels(simt: ctypes.CDLL, case: Case) -> None:
    """If not: SIMT_WAY=recorded python tests/simt/launches.py, then zfkernels inspect --family cuda --record …."""
    assert count(simt, case, torch.float16) == dataclasses.asdict(launch_of(case, torch.float16))
