"""What an installation without kernels says: once, at the first call that would use them, why and how to get them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from zfkernels import _installation
from zfkernels.ops import _native

PACKAGE = Path(__file__).parent.parent / "zfkernels"
POOLS = """
import torch, zfkernels.ops as ops
for dtype in (torch.float32, torch.float64):
    ops.max_pool2d_with_switches(torch.ones(1, 1, 4, 4, dtype=dtype), 2)
ops.max_unpool2d_with_switches(*ops.max_pool2d_with_switches(torch.ones(1, 1, 4, 4), 2), 2, output_size=(4, 4))
"""


def copy(folder: Path) -> Path:
    """The package in ``folder``, without kernels."""
    ignored = shutil.ignore_patterns("*.so", "*.pyd", "__pycache__", "not_built.json")
    shutil.copytree(PACKAGE, folder / "zfkernels", ignore=ignored)
    return folder


def said(code: str, *path: Path, **environment: str) -> str:
    """What a new process that finds packages in ``path`` writes to stderr."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), **environment}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=path[0], env=environment, capture_output=True, text=True, check=True
    )
    return result.stderr


@pytest.fixture(scope="module")
def pure(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy(tmp_path_factory.mktemp("pure"))
    (folder / "zfkernels" / "not_built.json").write_text('{"_C": "no C++ compiler was found"}')
    return folder


def test_the_first_call_says_why_there_are_no_kernels_and_how_to_get_them(pure: Path) -> None:
    warning = said(POOLS, pure)
    assert warning.count("runs without its kernels") == 1
    assert "the extension zfkernels._C is not built: no C++ compiler was found" in warning
    assert "; with a C++ compiler, `ZFKERNELS_BUILD_CPU=1 pip install --force-reinstall" in warning
    assert "--no-cache-dir" in warning  # or pip would take the same wheel again


@pytest.mark.parametrize(
    ("code", "environment"),
    [
        ("import zfkernels.ops as ops; ops.availability()", {}),
        (POOLS, {"ZFKERNELS_BACKEND": "reference"}),
        (POOLS.splitlines()[1] + "; ops.max_pool2d_with_switches(torch.ones(1, 1, 4, 4).bfloat16(), 2)", {}),
    ],
    ids=["nothing is computed", "the reference was asked for", "no kernel takes the dtype"],
)
def test_no_word_where_no_kernel_would_run(pure: Path, code: str, environment: dict[str, str]) -> None:
    assert "without its kernels" not in said(code, pure, **environment)


def test_a_clone_that_hides_the_installed_package_says_so(tmp_path: Path) -> None:
    clone, site = copy(tmp_path / "clone"), copy(tmp_path / "site")
    information = site / "zfkernels-9.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: zfkernels\nVersion: 9\n")
    assert said("import zfkernels", clone, site) == ""  # no sources of kernels: no clone
    (clone / "csrc").mkdir()
    warning = said("import zfkernels" + POOLS, clone, site)
    assert warning.count("runs without its kernels") == 1
    assert f"in the source tree {clone}, which Python imports in place of the package installed in {site}" in warning
    (clone / "zfkernels" / "_C.abi3.so").touch()
    assert said("import zfkernels", clone, site) == ""


@pytest.mark.parametrize(
    ("recorded", "command"),
    [
        (None, "zfkernels"),
        ({"url": "file:///there", "dir_info": {}}, "file:///there"),
        ({"url": "file:///there", "dir_info": {"editable": True}}, "-e file:///there"),
        ({"url": "https://host/z.git", "vcs_info": {"vcs": "git", "commit_id": "12ab"}}, "git+https://host/z.git@12ab"),
    ],
)
def test_the_command_names_what_was_installed(
    recorded: dict[str, Any] | None, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Distribution:
        def read_text(self, name: str) -> str | None:
            return recorded and json.dumps(recorded)

    monkeypatch.setattr("importlib.metadata.distribution", lambda name: Distribution())
    assert _installation._origin() == command


@pytest.mark.parametrize(("version", "refused"), [("2.9.1", True), ("2.10.0", False), ("3.0.0a0+git", False)])
def test_a_torch_that_is_too_old_is_named(version: str, refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if (problem := _native.load_native("_C")) is not None:
        pytest.skip(problem)
    monkeypatch.setattr(torch, "__version__", version)
    sentence = f"the extension zfkernels._C needs torch 2.10 or newer, got {version}"
    assert _native.load_native.__wrapped__("_C") == (sentence if refused else None)
