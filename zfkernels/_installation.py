"""What this installation lacks, why, and how to get it. Needs nothing but Python."""

from __future__ import annotations

import json
import warnings
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
_HOW = {
    "_C": "with a C++ compiler, `{install}` builds it",
    "_C_cuda": "with a CUDA toolkit, `make cuda-build` in the repository, or `{install}`, builds it",
}
_SWITCH = {"_C": "ZFKERNELS_BUILD_CPU", "_C_cuda": "ZFKERNELS_BUILD_CUDA"}


def libraries(library: str) -> list[Path]:
    """The files of an extension library, ``_C`` or ``_C_cuda``: one, or none where it is not built."""
    return sorted(PACKAGE.glob(f"{library}.*so")) or sorted(PACKAGE.glob(f"{library}.*pyd"))


def why_not_built(library: str) -> str:
    """The sentence for a library that is not there: what the build said, and the command that brings it."""
    hidden = hidden_installation()
    if hidden is not None:
        return (
            f"the extension zfkernels.{library} is not built in the source tree {PACKAGE.parent}, which Python imports "
            f"in place of the package installed in {hidden} (start Python in another folder)"
        )
    reasons = PACKAGE / "not_built.json"
    reason = json.loads(reasons.read_text(encoding="utf-8")).get(library) if reasons.exists() else None
    install = f"{_SWITCH[library]}=1 pip install --force-reinstall --no-deps --no-cache-dir {_origin()}"
    because = f": {reason}" if reason else ""
    return f"the extension zfkernels.{library} is not built{because}; {_HOW[library].format(install=install)}"


@cache
def hidden_installation() -> Path | None:
    """Where zfkernels is installed, if Python imported a source tree without kernels in its place, else None."""
    if libraries("_C") or not (PACKAGE.parent / "csrc").is_dir():
        return None
    from importlib import metadata

    for distribution in metadata.distributions(name="zfkernels"):
        installed = Path(str(distribution.locate_file("zfkernels"))).resolve()
        if installed != PACKAGE and (installed / "__init__.py").exists():
            return installed
    return None


@cache
def warn(missing: str) -> None:
    """Says once in a process that slower code runs, and why."""
    warnings.warn(f"zfkernels runs without its kernels, many times slower: {missing}", RuntimeWarning, stacklevel=2)


def _origin() -> str:
    """What pip was given to install this package, as far as it kept that."""
    from importlib import metadata

    try:
        text = metadata.distribution("zfkernels").read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        text = None
    if text is None:
        return "zfkernels"
    origin = json.loads(text)
    version_control = origin.get("vcs_info", {})
    prefix = f"{version_control['vcs']}+" if version_control else ""
    address = prefix + origin["url"] + (f"@{version_control['commit_id']}" if version_control else "")
    return f"-e {address}" if origin.get("dir_info", {}).get("editable") else address
