"""Whether a GPU is there that the benchmark can use, and what about it is out of the ordinary, in sentences."""

from __future__ import annotations

import importlib.util
import os
import platform
from typing import Any

import torch
from gpu_code.gpus import GPUS

LEAST_BYTES = 8 * 2**30  # free; what a sweep of vgg16 and its dense pass of 64 images take, and half as much again


def refusal(device: str) -> str | None:
    """Why nothing can run there, or None."""
    if device == "cpu":
        return None
    if torch.version.cuda is None and torch.version.hip is None:
        return f"expected a torch that is built for GPUs, got {torch.__version__}"
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:  # no GPU, no driver, one that is older than the toolkit
        return f"expected a GPU that torch can use, got none: {str(error).splitlines()[0]}"
    if torch.version.cuda is not None and not _has_code():
        return (
            f"expected a GPU of one of {torch.cuda.get_arch_list()}, which this torch has code for, got {_arch()} "
            f"({torch.cuda.get_device_name()})"
        )
    return None


def remarks(device: str) -> list[str]:
    """What the reader of the numbers has to know."""
    said = []
    if importlib.util.find_spec("triton") is None:
        said.append("Triton is not installed: its lines are left out")
    if device == "cpu":
        return [*said, "on the CPU: these are no times of a GPU"]
    if torch.version.cuda is not None and _arch() not in GPUS:
        said.append(
            f"{_arch()} is none of {sorted(GPUS)}, which the tiles were chosen for: the lines say what they are"
        )
    free, total = torch.cuda.mem_get_info()
    if free < LEAST_BYTES:
        said.append(
            f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB are free, {LEAST_BYTES / 2**30:.0f} were expected: what "
            "does not fit is said and left out"
        )
    return said


def about(device: str) -> dict[str, Any]:
    """What belongs beside every number."""
    found: dict[str, Any] = {"python": platform.python_version(), "torch": torch.__version__, "cpus": os.cpu_count()}
    if importlib.util.find_spec("triton") is not None:
        import triton

        found["triton"] = triton.__version__
    if device == "cuda":
        found |= {
            "gpu": torch.cuda.get_device_name(), "arch": _arch(), "cuda": torch.version.cuda or torch.version.hip,
            "cudnn": torch.backends.cudnn.version(), "memory_bytes": torch.cuda.mem_get_info()[1],
        }  # fmt: skip
    return found


def _arch() -> str:
    major, minor = torch.cuda.get_device_capability()
    return f"sm_{major}{minor}"


def _has_code() -> bool:
    """Of the same generation and no newer, or as PTX, which the driver compiles for newer GPUs."""
    major, minor = torch.cuda.get_device_capability()
    for name in torch.cuda.get_arch_list():
        kind, _, number = name.partition("_")
        known = int("".join(c for c in number if c.isdigit()))
        if kind == "compute" and known <= 10 * major + minor:
            return True
        if kind == "sm" and known // 10 == major and known % 10 <= minor:
            return True
    return False
