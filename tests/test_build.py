"""setup.py: what is asked for is built or the build fails; the rest is built where that can be, and says so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).parent.parent
A_GPU = """
import torch

torch.cuda.is_available, torch.cuda.device_count = lambda: True, lambda: 2
torch.cuda.get_device_capability = lambda device: (9, 0)
"""
NO_COMPILER = {"PATH": "/nonexistent", "CXX": "c++", "CUDA_HOME": ""}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of what setup.py reads; the package itself is cut down to one module."""
    root = tmp_path / "source"
    write(root / "zfkernels" / "__init__.py", '__version__ = "0"\n')
    for name in ("setup.py", "pyproject.toml", "LICENSE"):
        shutil.copy(REPOSITORY / name, root)
    (root / "README.md").touch()
    shutil.copytree(REPOSITORY / "csrc", root / "csrc")
    return root


def build(root: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ZFKERNELS_BUILD_")}
    return subprocess.run(
        [sys.executable, "setup.py", "build", "--build-lib", "built"],
        cwd=root,
        env={**inherited, "ZFKERNELS_BUILD_CUDA": "0", **environment},
        capture_output=True,
        text=True,
    )


def libraries(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "built" / "zfkernels").glob("_C*.so"))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def without_torch(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')\n")
    return {"PYTHONPATH": str(tmp_path)}


def test_without_a_compiler_the_package_is_pure_python(source: Path) -> None:
    result = build(source, **NO_COMPILER)
    assert result.returncode == 0, result.stderr
    assert "installing without the C++ kernels (zfkernels._C): no C++ compiler was found" in result.stdout
    assert libraries(source) == []
    assert (source / "built" / "zfkernels" / "__init__.py").exists()


def test_without_torch_the_package_is_pure_python(source: Path, tmp_path: Path) -> None:
    result = build(source, **without_torch(tmp_path))
    assert result.returncode == 0, result.stderr
    assert "(zfkernels._C): torch is not in the build environment" in result.stdout
    assert libraries(source) == []


def test_a_build_asked_for_fails_without_a_compiler(source: Path) -> None:
    result = build(source, ZFKERNELS_BUILD_CPU="1", **NO_COMPILER)
    assert result.returncode != 0
    assert "ZFKERNELS_BUILD_CPU=1, but zfkernels._C cannot be built: no C++ compiler was found" in result.stderr


def test_a_build_asked_for_fails_without_torch(source: Path, tmp_path: Path) -> None:
    result = build(source, ZFKERNELS_BUILD_CPU="1", **without_torch(tmp_path))
    assert result.returncode != 0
    assert "ZFKERNELS_BUILD_CPU=1, but zfkernels._C cannot be built: torch is not" in result.stderr


def test_a_build_switched_off_builds_nothing(source: Path) -> None:
    result = build(source, ZFKERNELS_BUILD_CPU="0")
    assert result.returncode == 0, result.stderr
    assert "libraries: none (pure Python)" in result.stdout
    assert libraries(source) == []


def test_a_bad_switch_is_refused(source: Path) -> None:
    result = build(source, ZFKERNELS_BUILD_CPU="yes")
    assert result.returncode != 0
    assert "expected ZFKERNELS_BUILD_CPU to be 0, 1 or auto, got 'yes'" in result.stderr


@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "c++")) is None, reason="no C++ compiler on PATH")
class TestWithACompiler:
    @pytest.fixture
    def minimal(self, source: Path) -> Path:
        """Only library.cpp: the kernels are compiled by the installation itself."""
        for kernel in (*source.glob("csrc/cpu/*.cpp"), *source.glob("csrc/cuda/*.cu")):
            kernel.unlink()
        return source

    def test_the_library_is_built_for_every_python(self, minimal: Path) -> None:
        result = build(minimal, ZFKERNELS_BUILD_CPU="1")
        assert result.returncode == 0, result.stderr
        assert libraries(minimal) == ["_C.abi3.so"]

    @pytest.mark.parametrize("asked_for", [False, True])
    def test_a_compiler_error(self, minimal: Path, asked_for: bool) -> None:
        (minimal / "csrc" / "library.cpp").write_text("#error planted\n")
        result = build(minimal, ZFKERNELS_BUILD_CPU="1" if asked_for else "auto")
        assert libraries(minimal) == []
        if asked_for:
            assert result.returncode != 0
            assert "ZFKERNELS_BUILD_CPU=1, but zfkernels._C cannot be built" in result.stderr
        else:
            assert result.returncode == 0, result.stderr
            assert "installing without the C++ kernels (zfkernels._C): Error compiling" in result.stdout

    def test_without_the_headers_of_python(self, minimal: Path, tmp_path: Path) -> None:
        write(
            tmp_path / "bare" / "sitecustomize.py",
            f"""\
import sysconfig
path, variable = sysconfig.get_path, sysconfig.get_config_var
sysconfig.get_path = lambda name, *more: {str(tmp_path)!r} if name == "include" else path(name, *more)
sysconfig.get_config_var = lambda name: {str(tmp_path)!r} if name == "INCLUDEPY" else variable(name)
""",
        )
        result = build(minimal, ZFKERNELS_BUILD_CPU="auto", PYTHONPATH=str(tmp_path / "bare"))
        assert result.returncode == 0, result.stderr
        assert f"(zfkernels._C): Python's headers were not found in {tmp_path}" in result.stdout
        assert libraries(minimal) == []

    def test_a_toolkit_that_does_not_suit_torch_costs_only_the_cuda_kernels(
        self, minimal: Path, tmp_path: Path
    ) -> None:
        if torch.version.cuda is None:
            pytest.skip("this torch is not a CUDA build")
        toolkit = tmp_path / "toolkit"
        write(toolkit / "include" / "cuda_runtime.h", "")
        write(toolkit / "bin" / "nvcc", "#!/bin/sh\necho 'Cuda compilation tools, release 99.0, V99.0.0'\n")
        write(minimal / "csrc" / "cuda" / "one_kernel.cu", "")
        write(tmp_path / "seen" / "sitecustomize.py", A_GPU)
        environment = {"CUDA_HOME": str(toolkit), "PYTHONPATH": str(tmp_path / "seen")}
        result = build(minimal, ZFKERNELS_BUILD_CPU="1", ZFKERNELS_BUILD_CUDA="auto", **environment)
        assert result.returncode == 0, result.stderr
        assert "TORCH_CUDA_ARCH_LIST: 9.0\n" in result.stdout
        assert "installing without the CUDA kernels (zfkernels._C_cuda): " in result.stdout
        assert libraries(minimal) == ["_C.abi3.so"]

    @pytest.mark.skipif(torch.cuda.is_available(), reason="torch sees a GPU")
    def test_without_a_gpu_the_cuda_kernels_are_built_only_when_asked_for(self, minimal: Path, tmp_path: Path) -> None:
        if torch.version.cuda is None:
            pytest.skip("this torch is not a CUDA build")
        write(tmp_path / "include" / "cuda_runtime.h", "")
        write(tmp_path / "bin" / "nvcc", "#!/bin/sh\nexit 1\n")
        write(minimal / "csrc" / "cuda" / "one_kernel.cu", "")
        environment = {"CUDA_HOME": str(tmp_path), "ZFKERNELS_BUILD_CPU": "0"}
        result = build(minimal, ZFKERNELS_BUILD_CUDA="auto", **environment)
        assert result.returncode == 0, result.stderr
        assert "(zfkernels._C_cuda): torch sees no GPU; `make cuda-build`, or ZFKERNELS_BUILD_CUDA=1, " in result.stdout
        result = build(minimal, ZFKERNELS_BUILD_CUDA="1", **environment)
        assert result.returncode != 0

    def test_the_cuda_library_is_built_where_nvcc_is_a_wrapper(
        self, minimal: Path, tmp_path: Path, require: Callable[[str, object, str], None]
    ) -> None:
        nvcc = shutil.which("nvcc")
        require("nvcc", nvcc, "no nvcc on PATH")
        require("nvcc", torch.version.cuda, "this torch is not a CUDA build")
        write(tmp_path / "bin" / "nvcc", f'#!/bin/sh\nexec {nvcc} "$@"\n')
        write(minimal / "csrc" / "cuda" / "one_kernel.cu", "__global__ void one(float* out) { *out = 1.f; }\n")
        environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "CUDA_HOME": "", "CUDA_PATH": ""}
        result = build(minimal, **environment, ZFKERNELS_BUILD_CUDA="1", TORCH_CUDA_ARCH_LIST="9.0")
        assert result.returncode == 0, result.stderr
        assert libraries(minimal) == ["_C.abi3.so", "_C_cuda.abi3.so"]


@pytest.mark.parametrize("source", sorted((REPOSITORY / "csrc" / "cpu").glob("*.cpp")), ids=lambda path: path.stem)
def test_cpu_kernels_compile_for_aarch64(source: Path, require: Callable[[str, object, str], None]) -> None:
    """With a cross compiler, without code: nothing here could run it."""
    compiler = shutil.which("aarch64-linux-gnu-g++")
    require("aarch64", compiler, "no aarch64-linux-gnu-g++ is on the path")
    include = Path(torch.__file__).parent / "include"
    command = [
        str(compiler), "-fsyntax-only", "-fvisibility=hidden", "-Wall", "-Werror", "-std=c++20",
        "-DTORCH_TARGET_VERSION=0x020a000000000000", "-DPy_LIMITED_API=0x030A0000",
        "-isystem", sysconfig.get_paths()["include"],
        "-isystem", str(include), "-isystem", str(include / "torch" / "csrc" / "api" / "include"), str(source),
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
