"""setup.py: what is asked for is built or the build fails; the rest is built where that can be, and says so."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

REPOSITORY = Path(__file__).parent.parent
sys.path.append(str(REPOSITORY / "tools"))
build_backend = importlib.import_module("build_backend")
A_GPU = """
import torch

torch.cuda.is_available, torch.cuda.device_count = lambda: True, lambda: 2
torch.cuda.get_device_capability = lambda device: (9, 0)
"""
FREE_THREADED = """
import sysconfig
variable = sysconfig.get_config_var
sysconfig.get_config_var = lambda name: 1 if name == "Py_GIL_DISABLED" else variable(name)
"""
NO_COMPILER = {"PATH": "/nonexistent", "CXX": "c++", "CUDA_HOME": ""}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of what setup.py reads; the package itself is cut down to one module."""
    root = tmp_path / "source"
    write(root / "zfkernels" / "__init__.py", '__version__ = "0"\n')
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "LICENSE"):
        shutil.copy(REPOSITORY / name, root)
    (root / "README.md").touch()
    for folder in ("csrc", "tools"):
        shutil.copytree(REPOSITORY / folder, root / folder)
    return root


def build(root: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ZFKERNELS_BUILD_")}
    return subprocess.run(
        [sys.executable, "setup.py", *(command or ("build", "--build-lib", "built"))],
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


def test_the_package_keeps_the_reason(source: Path) -> None:
    assert build(source, **NO_COMPILER).returncode == 0
    kept = json.loads((source / "built" / "zfkernels" / "not_built.json").read_text())
    assert kept["_C"].startswith("no C++ compiler was found")
    assert kept["_C_cuda"] == "ZFKERNELS_BUILD_CUDA=0"


def test_a_source_archive_holds_what_a_build_needs(source: Path, tmp_path: Path) -> None:
    result = build(source, "sdist", "-d", str(tmp_path), ZFKERNELS_BUILD_CPU="1", **NO_COMPILER)
    assert result.returncode == 0, result.stderr  # nothing is compiled for it
    with tarfile.open(tmp_path / "zfkernels-0.tar.gz") as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    needed = {"setup.py", "pyproject.toml", "LICENSE", "README.md", "zfkernels/__init__.py"}
    needed |= {
        str(path.relative_to(source)) for folder in ("csrc", "tools") for path in source.glob(f"{folder}/**/*.*")
    }
    assert {name for name in needed if "__pycache__" not in name} - held == set()


class TestRequirements:
    """What pip and uv are asked to bring for a build."""

    @pytest.fixture(autouse=True)
    def _unset(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("ZFKERNELS_BUILD_CPU", "ZFKERNELS_BUILD_CUDA"):
            monkeypatch.delenv(name, raising=False)

    @pytest.fixture
    def site(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """The only folder in which the interpreter keeps packages."""
        monkeypatch.setattr(build_backend.sysconfig, "get_path", lambda name: str(tmp_path))
        monkeypatch.setattr(build_backend.site, "getsitepackages", list)
        return tmp_path

    def test_no_torch_is_downloaded_where_nothing_is_compiled(self, site: Path, monkeypatch: Any) -> None:
        monkeypatch.setattr(build_backend, "why_no_compiler", lambda: "there is none")
        assert build_backend.get_requires_for_build_wheel() == []
        monkeypatch.setattr(build_backend, "why_no_compiler", lambda: None)
        monkeypatch.setenv("ZFKERNELS_BUILD_CPU", "0")
        assert build_backend.get_requires_for_build_editable() == []

    @pytest.mark.parametrize(("version", "serves"), [("2.9.1+cu128", False), ("2.10.0", True), ("3.0.0a0", True)])
    def test_the_torch_that_is_installed_serves(self, version: str, serves: bool, site: Path, monkeypatch: Any) -> None:
        monkeypatch.setattr(build_backend, "why_no_compiler", lambda: None)
        assert build_backend.get_requires_for_build_wheel() == ["ninja", "torch>=2.10"]
        write(site / "torch" / "version.py", f"__version__ = '{version}'\n")
        assert build_backend.installed_torch() == (site if serves else None)
        assert build_backend.get_requires_for_build_wheel() == (["ninja"] if serves else ["ninja", "torch>=2.10"])


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

    def test_a_python_without_the_global_lock_gets_a_library_of_its_own(self, minimal: Path, tmp_path: Path) -> None:
        write(tmp_path / "free" / "sitecustomize.py", FREE_THREADED)
        environment = {"ZFKERNELS_BUILD_CPU": "1", "PYTHONPATH": str(tmp_path / "free")}
        result = build(minimal, "bdist_wheel", "-d", str(tmp_path), **environment)
        assert result.returncode == 0, result.stderr
        (wheel,) = tmp_path.glob("*.whl")
        assert "abi3" not in wheel.name
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        assert f"zfkernels/_C{suffix}" in zipfile.ZipFile(wheel).namelist()

    @pytest.mark.parametrize(("planted", "tag"), [("", "-cp310-abi3-"), ("#error planted\n", "-py3-none-any")])
    def test_a_wheel_is_tagged_by_what_it_holds(self, minimal: Path, tmp_path: Path, planted: str, tag: str) -> None:
        library = minimal / "csrc" / "library.cpp"
        library.write_text(planted + library.read_text())
        result = build(minimal, "bdist_wheel", "-d", str(tmp_path), ZFKERNELS_BUILD_CPU="auto")
        assert result.returncode == 0, result.stderr
        (wheel,) = tmp_path.glob("*.whl")
        assert tag in wheel.name
        with zipfile.ZipFile(wheel) as archive:
            kept = json.loads(archive.read("zfkernels/not_built.json"))
            assert ("_C" in kept) == ("zfkernels/_C.abi3.so" not in archive.namelist()) == bool(planted)

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
            assert (
                "installing without the C++ kernels (zfkernels._C): its compilation failed (Error compiling"
                in result.stdout
            )

    def test_a_compiler_that_cannot_even_tell_its_version(self, minimal: Path, tmp_path: Path) -> None:
        write(tmp_path / "c++", "#!/bin/sh\nexit 1\n")
        result = build(minimal, ZFKERNELS_BUILD_CPU="auto", CXX=str(tmp_path / "c++"))
        assert result.returncode == 0, result.stderr
        assert "(zfkernels._C): torch cannot use the compiler (" in result.stdout
        assert libraries(minimal) == []
        result = build(minimal, ZFKERNELS_BUILD_CPU="1", CXX=str(tmp_path / "c++"))
        assert result.returncode != 0
        assert "ZFKERNELS_BUILD_CPU=1, but zfkernels._C cannot be built: torch cannot use the compiler" in result.stderr

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
