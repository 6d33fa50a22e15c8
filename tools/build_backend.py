"""The build backend: setuptools, and torch's headers only where the kernels can be compiled.

The kernels are compiled against LibTorch's stable ABI, so any torch from 2.10 on supplies headers for every other. The
first of these applies:

1. ZFKERNELS_BUILD_CPU=0, or no C++ compiler: nothing is compiled, so nothing is asked for.
2. The environment that is installed into has torch, and its folder can be seen, as with pip: that one's headers are
   used, although pip hides it from the build. Nothing is downloaded.
3. Else torch is a build requirement: pip and uv download it, as they do for the installation itself.

setup.py says what the build then does with it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import site
import sysconfig
from pathlib import Path

from setuptools.build_meta import (
    build_editable,
    build_sdist,
    build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

OLDEST_TORCH = (2, 10)


def why_no_compiler() -> str | None:
    """Why C++ cannot be compiled here for this Python, or None."""
    compiler = shlex.split(os.environ.get("CXX", "c++"))[0]
    if shutil.which(compiler) is None:
        return f"no C++ compiler was found ({compiler}; the variable CXX names another)"
    headers = {sysconfig.get_path("include"), sysconfig.get_config_var("INCLUDEPY")}  # Debian's may differ
    if not any(Path(folder, "Python.h").exists() for folder in headers if folder):
        return f"Python's headers were not found in {sysconfig.get_config_var('INCLUDEPY')} (Debian: python3-dev)"
    return None


def installed_torch() -> Path | None:
    """The folder of this interpreter's packages that holds a torch to build against; pip hides it from its builds."""
    for folder in dict.fromkeys([*map(sysconfig.get_path, ("purelib", "platlib")), *site.getsitepackages()]):
        version = Path(folder, "torch", "version.py")
        found = re.search(r"__version__ = '(\d+)\.(\d+)", version.read_text()) if version.exists() else None
        if found and tuple(map(int, found.groups())) >= OLDEST_TORCH:
            return Path(folder)
    return None


def get_requires_for_build_wheel(config_settings: object = None) -> list[str]:
    if os.environ.get("ZFKERNELS_BUILD_CPU") == "0" and os.environ.get("ZFKERNELS_BUILD_CUDA") != "1":
        return []
    if why_no_compiler() is not None:
        return []
    torch = [] if installed_torch() else ["torch>={}.{}".format(*OLDEST_TORCH)]
    return ["ninja", *torch]


def get_requires_for_build_editable(config_settings: object = None) -> list[str]:
    return get_requires_for_build_wheel(config_settings)


def get_requires_for_build_sdist(config_settings: object = None) -> list[str]:
    return []
