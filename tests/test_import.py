"""Importing the package needs torch alone: no Triton, no extension, nothing heavy."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import zfkernels

PACKAGE = Path(__file__).parent.parent / "zfkernels"
HEAVY = ["torchvision", "matplotlib", "pyarrow", "PIL", "skimage", "click", "tqdm", "safetensors", "lightning", "ray"]

BLOCK = """
import sys
for name in {blocked!r}:
    sys.modules[name] = None  # importing it raises ImportError
"""

RUN_ONE_OP = """
import torch, zfkernels as zf, zfkernels.ops
values, switches = zf.ops.max_pool2d_with_switches(torch.arange(16.).reshape(1, 1, 4, 4), 2)
assert values.flatten().tolist() == [5, 7, 13, 15] and switches.flatten().tolist() == [3] * 4
"""


def run(code: str, folder: Path) -> str:
    """Runs code in a fresh interpreter that finds the package in ``folder``; returns what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    result = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def pure_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as it is installed where there is no compiler."""
    folder = tmp_path_factory.mktemp("pure")
    shutil.copytree(PACKAGE, folder / "zfkernels", ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
    return folder


def test_without_triton_and_extension(pure_python: Path) -> None:
    code = BLOCK.format(blocked=["triton"]) + RUN_ONE_OP
    code += "print(zf.__file__, zfkernels.ops._native.load_native('_C'))"
    printed = run(code, pure_python)
    assert printed.startswith(str(pure_python))
    assert "zfkernels._C is not built" in printed


def test_ops_work_with_torch_alone() -> None:
    run(BLOCK.format(blocked=HEAVY) + RUN_ONE_OP, PACKAGE.parent)


def test_importing_ops_imports_nothing_heavy() -> None:
    code = "import sys, torch; before = set(sys.modules); import zfkernels.ops\n"  # torch itself tries tqdm
    code += f"print([name for name in {HEAVY!r} if name in set(sys.modules) - before])"
    assert run(code, PACKAGE.parent).strip() == "[]"


def test_type_checkers_see_the_names_that_are_imported_when_used() -> None:
    tree = ast.parse(Path(zfkernels.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.asname: node.module for node in imports for alias in node.names}
    assert seen == {**zfkernels._HOME, **dict.fromkeys(zfkernels._MODULES, "zfkernels")}
