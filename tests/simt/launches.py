"""What the CUDA kernels do on the headline shapes of ``python tools/gpu_code``: writes its file cuda_launches.json.

``SIMT_WAY=recorded python tests/simt/launches.py`` runs a few blocks of each launch, spread over its grid, and writes
the file; test_launches.py counts some of it again.
"""

from __future__ import annotations

import ctypes
import json
import os
from collections import defaultdict
from typing import Any

import torch
from emulation import become, emulated, emulator, record
from gpu_code import cuda_launches
from gpu_code.arguments import numbers
from gpu_code.cases import CASES, Case
from gpu_code.window_cases import WINDOWS

BLOCKS = 16
DTYPES = (torch.float16, torch.float32)
STREAMS = {"values", "switches", "frames", "images", "input", "out"}  # of global memory; shared arrays all count


def totals(report: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Instructions of warps, sectors or passes over the banks, and the ideal of these, by array and access."""
    found: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(("instructions", "units", "ideal"), 0))
    for line in report["lines"]:
        if line["shared"] or line["array"] in STREAMS:
            total = found[f"{'shared' if line['shared'] else 'global'} {line['array']} {line['access']}"]
            for name in total:
                total[name] += line[name]
    return dict(sorted(found.items()))


def excess(report: dict[str, Any]) -> dict[str, float]:
    """Sectors or bank passes over the ideal, by array and access."""
    return {key: total["units"] / total["ideal"] for key, total in totals(report).items()}


def count(simt: ctypes.CDLL, case: Case, dtype: torch.dtype) -> dict[str, Any]:
    """An entry of the file: of the last launch of a case, per block where nothing else is said."""
    flat = numbers(case, case.flat(dtype, "cpu"), maps=False)
    become(simt)
    simt.simt_seed(0)
    report = record(simt, lambda: emulated(case.op).load()(*flat), BLOCKS)
    launch = report["launches"][-1]
    return {
        "kernel": launch["kernel"], "blocks": launch["blocks"], "threads": launch["threads"],
        "shared": launch["shared"], "multiply_adds": launch["multiply_adds"] / launch["run"],
        "accesses": {key: round(t["instructions"] / launch["run"], 2) for key, t in totals(report).items()},
        "traffic": {key: round(ratio, 3) for key, ratio in excess(report).items()},
    }  # fmt: skip


def main() -> None:
    simt = emulator(os.environ["SIMT_WAY"])
    found = {}
    for case in (*CASES, *WINDOWS):
        for dtype in DTYPES:
            key = cuda_launches.key(case, dtype)
            found[key] = count(simt, case, dtype)
            print(key, found[key], flush=True)
    cuda_launches.PATH.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
