"""Builds the native kernels, against LibTorch's stable ABI only; everything else is in pyproject.toml.

Two libraries, each controlled by an environment variable: zfkernels._C (ZFKERNELS_BUILD_CPU) and zfkernels._C_cuda
(ZFKERNELS_BUILD_CUDA). 1: build it, and fail where that fails. 0: do not. auto (the default): build it where the
tools are found, and _C_cuda where torch sees a GPU, for that GPU alone: all architectures take minutes. Else say why
not in one sentence and go on; the package then works in pure Python.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from glob import glob
from pathlib import Path

from setuptools import Command, Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build
from setuptools.errors import BaseError, CCompilerError

sys.path.append(str(Path(__file__).parent / "tools"))
from build_backend import OLDEST_TORCH, installed_torch, why_no_compiler

if folder := installed_torch():  # hidden by pip's isolated build
    sys.path.append(str(folder))
try:
    import torch
except ImportError:
    torch = None

CPU, CUDA = "zfkernels._C", "zfkernels._C_cuda"
KERNELS = {CPU: "C++", CUDA: "CUDA"}
SWITCH = {CPU: "ZFKERNELS_BUILD_CPU", CUDA: "ZFKERNELS_BUILD_CUDA"}
SOURCES = {CPU: ["csrc/library.cpp", *sorted(glob("csrc/cpu/*.cpp"))], CUDA: sorted(glob("csrc/cuda/*.cu"))}
TORCH_TARGET = "-DTORCH_TARGET_VERSION=0x{:02x}{:02x}000000000000".format(*OLDEST_TORCH)
CXX_STANDARD = "-std=c++20"  # torch 2.10 and 2.11 would ask for C++17
CXX_FLAGS = [CXX_STANDARD, "-O3", "-fvisibility=hidden", "-Wall", TORCH_TARGET]
NVCC_FLAGS = [CXX_STANDARD, "-O3", "-lineinfo", "-Xcompiler=-fvisibility=hidden", "-DUSE_CUDA", TORCH_TARGET]
# A Python without the global lock has no stable ABI of its own before 3.15: its wheel serves that Python alone.
LIMITED_API = not sysconfig.get_config_var("Py_GIL_DISABLED")
NOT_BUILDING = {"sdist", "egg_info", "dist_info"}  # commands that need to know nothing of compilers
BUILD_FAILURES = (BaseError, CCompilerError, RuntimeError, OSError, subprocess.SubprocessError)


def find_cuda_home() -> "str | None":
    """The CUDA toolkit's folder, with its headers; the nvcc on PATH may be a wrapper, so nvcc itself is asked."""
    places = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")]
    if shutil.which("nvcc"):
        dry_run = subprocess.run(["nvcc", "--dryrun", "-c", "none.cu"], capture_output=True, text=True).stderr
        places += re.findall(r"TOP=(\S+)", dry_run)
    places += glob(f"{sysconfig.get_paths()['platlib']}/nvidia/cu*")  # nvcc as packages of PyPI
    places.append("/usr/local/cuda")
    parts = ("include/cuda_runtime.h", "bin/nvcc")
    return next((os.path.realpath(p) for p in places if p and all(Path(p, part).exists() for part in parts)), None)


def cudart() -> str:
    """The CUDA run-time library, by its whole name where the toolkit has no plain one, as PyPI's packages have not."""
    home = Path(os.environ["CUDA_HOME"])
    if any((home / folder / "libcudart.so").exists() for folder in ("lib64", "lib")):
        return "cudart"
    names = sorted(path.name for path in (home / "lib").glob("libcudart.so.*"))
    return f":{names[-1]}" if names else "cudart"


def visible_architectures() -> str:
    """Those of the GPUs that torch sees, as TORCH_CUDA_ARCH_LIST names them."""
    devices = range(torch.cuda.device_count())
    return ";".join(sorted({"{}.{}".format(*torch.cuda.get_device_capability(device)) for device in devices}))


def nvcc_release() -> str:
    answer = subprocess.run([f"{os.environ['CUDA_HOME']}/bin/nvcc", "--version"], capture_output=True, text=True).stdout
    return next((line for line in answer.splitlines() if "release" in line), "of an unknown release")


def why_not(name: str) -> "str | None":
    """The reason why a library cannot be built here, or None."""
    if not SOURCES[name]:
        return "there are no sources for it"
    if torch is None:
        return "torch is not in the build environment (install torch first, then this package)"
    if torch.__version__ < OLDEST_TORCH:
        return f"it needs torch {OLDEST_TORCH[0]}.{OLDEST_TORCH[1]} or newer, got {torch.__version__}"
    if problem := why_no_compiler():
        return problem
    if name == CUDA and torch.version.cuda is None:
        return "this torch is not a CUDA build"
    if name == CUDA and find_cuda_home() is None:
        return "no CUDA toolkit with include/cuda_runtime.h and bin/nvcc was found (the variable CUDA_HOME names one)"
    if name == CUDA and os.environ.get(SWITCH[CUDA]) != "1" and not torch.cuda.is_available():
        return f"torch sees no GPU; `make cuda-build`, or {SWITCH[CUDA]}=1, builds them without one"
    return None


given_up: "dict[str, str]" = {}


def give_up(name: str, reason: object) -> None:
    """Goes on without a library that nobody asked for; stops for one that was asked for."""
    if os.environ.get(SWITCH[name]) == "1":
        sys.exit(f"{SWITCH[name]}=1, but {name} cannot be built: {reason}")
    given_up[name] = str(reason)
    print(f"zfkernels: installing without the {KERNELS[name]} kernels ({name}): {reason}")


def wanted(name: str) -> bool:
    switch = os.environ.get(SWITCH[name], "auto")
    if switch not in ("0", "1", "auto"):
        sys.exit(f"setup.py: expected {SWITCH[name]} to be 0, 1 or auto, got {switch!r}")
    reason = f"{SWITCH[name]}=0" if switch == "0" else why_not(name)
    if reason:
        give_up(name, reason)
    return reason is None


class Reasons(Command):
    """Writes why a library was not built into the package, where the first call that misses it reads it."""

    user_options = ()
    editable_mode = False

    def initialize_options(self):
        self.build_lib = None

    def finalize_options(self):
        self.set_undefined_options("build", ("build_lib", "build_lib"))

    def run(self):
        path = Path("." if self.editable_mode else self.build_lib, "zfkernels", "not_built.json")
        if not self.editable_mode:  # an earlier build may have left a library there
            for name in given_up:
                for stale in path.parent.glob(f"{name.rpartition('.')[2]}.*"):
                    stale.unlink()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({name.rpartition(".")[2]: reason for name, reason in given_up.items()}, indent=1))

    def get_source_files(self):
        return []

    def get_outputs(self):
        return [] if self.editable_mode else [f"{self.build_lib}/zfkernels/not_built.json"]

    def get_output_mapping(self):
        return {}


class Wheel(bdist_wheel):
    """A wheel is tagged by what the build put into it: a compiler that fails leaves a pure one."""

    def run_command(self, command):
        super().run_command(command)
        if command == "build":
            self.root_is_pure = not self.distribution.has_ext_modules()


build.sub_commands.append(("reasons", None))

names = [] if NOT_BUILDING & set(sys.argv) else [name for name in (CPU, CUDA) if wanted(name)]
extensions: "list[Extension]" = []
commands = {"reasons": Reasons, "bdist_wheel": Wheel}

if names:
    if CUDA in names:
        os.environ["CUDA_HOME"] = find_cuda_home()  # before the import below: torch reads it there
        asked_for = os.environ.get(SWITCH[CUDA]) == "1"
        os.environ.setdefault("TORCH_CUDA_ARCH_LIST", "8.0;9.0;10.0;12.0+PTX" if asked_for else visible_architectures())
    from torch.utils.cpp_extension import BuildExtension, CppExtension, CUDAExtension

    class BuildKernels(BuildExtension):
        """A library that fails to build stops the build only where it was asked for."""

        def build_extension(self, ext):
            try:
                super().build_extension(ext)
            except BUILD_FAILURES as error:
                self.go_on_without(ext.name, f"its compilation failed ({error}); `pip install -v` shows more")

        def build_extensions(self):
            try:
                super().build_extensions()
            except BUILD_FAILURES as error:  # before building anything, torch asked nvcc or the compiler its version
                name = CUDA if any(ext.name == CUDA for ext in self.extensions) else CPU
                self.go_on_without(name, f"torch cannot use the compiler ({error})")
                if self.extensions:
                    self.build_extensions()

        def go_on_without(self, name, reason):
            give_up(name, reason)
            self.extensions = [ext for ext in self.extensions if ext.name != name]
            self.distribution.ext_modules = self.extensions

    for name in names:
        kind = CUDAExtension if name == CUDA else CppExtension
        flags = {"cxx": CXX_FLAGS, "nvcc": NVCC_FLAGS}
        # optional: setuptools does not miss a library that build_extension gave up
        extension = kind(name, SOURCES[name], extra_compile_args=flags, py_limited_api=LIMITED_API, optional=True)
        if name == CUDA:
            extension.libraries = [cudart() if library == "cudart" else library for library in extension.libraries]
            extension.library_dirs.append(f"{os.environ['CUDA_HOME']}/lib")
        extensions.append(extension)
    commands["build_ext"] = BuildKernels

print("zfkernels: build configuration")
for key, value in {
    "libraries": ", ".join(names) or "none (pure Python)",
    "torch": torch and f"{torch.__version__} (CUDA {torch.version.cuda})",
    "C++ compiler": os.environ.get("CXX", "c++"),
    "C++ flags": " ".join(CXX_FLAGS),
    "CUDA_HOME": os.environ.get("CUDA_HOME"),
    "nvcc": CUDA in names and nvcc_release(),
    "TORCH_CUDA_ARCH_LIST": os.environ.get("TORCH_CUDA_ARCH_LIST"),
    "sources": " ".join(source for name in names for source in SOURCES[name]) or None,
}.items():
    print(f"  {key}: {value or '-'}")

setup(
    ext_modules=extensions,
    cmdclass=commands,
    options={"bdist_wheel": {"py_limited_api": "cp310"}} if extensions and LIMITED_API else {},
)
