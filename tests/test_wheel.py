"""The wheel in another environment: abi3, with the CUDA kernels or without, and imported by a torch without CUDA.

Slow, and the environment is large: runs where ZFKERNELS_OTHER_PYTHON names the python of an environment with another
torch (python -m venv other; other/bin/pip install torch==2.13.0 numpy safetensors).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
OTHER = os.environ.get("ZFKERNELS_OTHER_PYTHON")
PROGRAM = """
import torch
import zfkernels.ops as ops
reasons = {(op, name): why for op, name, why in ops.availability()}
print(torch.__version__, torch.version.cuda, ops.__file__)
assert reasons["max_pool2d_with_switches", "cpp"] is None, reasons
values, switches = ops.max_pool2d_with_switches(torch.arange(16.0).view(1, 1, 4, 4), 2, backend="cpp")
assert values.flatten().tolist() == [5, 7, 13, 15] and switches.flatten().tolist() == [3, 3, 3, 3]
print(reasons["max_pool2d_with_switches", "cuda"])
"""


@pytest.mark.skipif(not OTHER, reason="ZFKERNELS_OTHER_PYTHON names no other environment")
@pytest.mark.parametrize("cuda", [False, True], ids=["cpu", "cuda"])
def test_the_wheel_works_with_another_torch(
    tmp_path: Path, cuda: bool, require: Callable[[str, object, str], None]
) -> None:
    if cuda:
        require("nvcc", shutil.which("nvcc"), "no nvcc on PATH")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-build-isolation",
        "--no-deps",
        "-w",
        tmp_path,
        REPOSITORY,
    ]
    switches = {"ZFKERNELS_BUILD_CPU": "1", "ZFKERNELS_BUILD_CUDA": str(int(cuda)), "TORCH_CUDA_ARCH_LIST": "9.0"}
    subprocess.run(build, check=True, env={**environment, **switches})
    (wheel,) = tmp_path.glob("zfkernels-*.whl")
    assert "-cp310-abi3-" in wheel.name
    held = zipfile.ZipFile(wheel).namelist()
    assert [name for name in held if "/_C" in name] == ["zfkernels/_C.abi3.so", "zfkernels/_C_cuda.abi3.so"][: 1 + cuda]
    assert "zfkernels/py.typed" in held
    target = tmp_path / "site"
    install = [OTHER, "-m", "pip", "install", "-q", "--no-deps", "--target", target, wheel]
    subprocess.run(install, check=True, env=environment)
    run = subprocess.run(
        [OTHER, "-c", PROGRAM],
        env={**environment, "PYTHONPATH": str(target)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert str(target) in run.stdout
    assert run.stdout.splitlines()[-1] == "this torch is built without CUDA" or not cuda
