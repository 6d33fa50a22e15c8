"""The import rule: data → network → analysis → ops → kernels, and back out → results → viz; no file above 400 lines."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
PACKAGE = REPOSITORY / "zfkernels"
LINES = 400

# What each part of the package may import of the others. The command line may import everything and nobody imports it.
MAY_IMPORT = {
    "geometry": set(),
    "windows": {"geometry"},
    "packing": {"geometry", "windows"},
    "tuning": set(),
    "ops": {"geometry", "windows", "tuning", "_C"},  # the C++ kernels
    "data": set(),
    "output": set(),
    "models": {"ops"},
    "network": {"ops", "geometry", "windows"},
    "checks": {"network", "results"},
    "progress": set(),
    "replay": {"network", "ops"},
    "occlusion": {"checks", "packing", "progress", "replay", "network", "ops", "geometry", "windows", "results"},
    "results": {"windows", "output"},
    "deconvnet": {"checks", "packing", "progress", "network", "ops", "geometry", "windows", "results"},
    "analysis": {"checks", "progress", "deconvnet", "network", "geometry", "windows", "results"},
    "captum_api": {"checks", "progress", "deconvnet", "network", "occlusion", "ops", "windows", "results"},
    "monai_api": {"checks", "progress", "network", "occlusion"},
    "viz": {"results", "windows"},
    "features": {"progress", "data", "models", "network", "output"},
    "training": {"progress", "data", "models", "deconvnet", "analysis", "results", "output"},
    "store": {
        "progress",
        "data",
        "models",
        "network",
        "geometry",
        "occlusion",
        "ops",
        "output",
        "results",
        "viz",
    },
    "serve": {"data", "gallery", "models", "output", "results", "viz"},
    "gallery": {
        "progress",
        "data",
        "models",
        "network",
        "deconvnet",
        "analysis",
        "geometry",
        "ops",
        "windows",
        "results",
        "viz",
        "output",
        "occlusion",
    },
}
EVERYWHERE = {"_extras", "_installation", "signed"}
# A result may show itself: its plot() hands it to viz, which is imported when that is called.
MAY_IMPORT_WHEN_CALLED = {part: {"viz"} for part in ("results", "analysis", "occlusion")}
RETURNS_FIGURES = {*MAY_IMPORT_WHEN_CALLED, "gallery", "store"}
# Only viz draws; what takes tensors and returns a result neither draws nor opens a file.
DRAWING = {"matplotlib"}
FILES = {"PIL", "pyarrow", "pandas", "safetensors"}
FILE_CALLS = {"open", "torch.save", "torch.load"}
OPENS_NO_FILE = {"checks", "windows", "ops", "network", "deconvnet", "analysis", "occlusion", "captum_api", "monai_api"}


def walk(tree: ast.AST, *, called: bool) -> Iterator[ast.AST]:
    """All nodes; without ``called`` only those that run when the module is imported and not for type checkers alone."""
    for node in ast.iter_child_nodes(tree):
        only_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if called or not (isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or only_types):
            yield node
            yield from walk(node, called=called)


def imported(tree: ast.AST, *, called: bool = True) -> Iterator[str]:
    """The dotted names of all modules imported anywhere, by statement or by import_module and require with a name."""
    for node in walk(tree, called=called):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            yield module if node.level == 0 else f"relative import {'.' * node.level}{module}"
            if module == "zfkernels":
                yield from (f"zfkernels.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if function in ("import_module", "require") and isinstance(node.args[0].value, str):
                yield node.args[0].value


def violations(part: str, source: str) -> list[str]:
    """What in the source of one module of ``part`` breaks the rule."""
    found = []
    tree = ast.parse(source)
    at_once = set(imported(tree, called=False))
    for module in imported(tree):
        top, *rest = module.split(".")
        other = rest[0] if top == "zfkernels" and rest else None
        later = set() if module in at_once else MAY_IMPORT_WHEN_CALLED.get(part, set())
        for_types = module == "matplotlib.figure" and module not in at_once
        refused = (
            module.startswith("relative import")  # modules are named in full
            or (other == "cli" and part not in ("cli", "__main__"))
            or (other and other not in MAY_IMPORT.get(part, {other}) | EVERYWHERE | {part} | later)
            or (top in DRAWING and part != "viz" and not (part in RETURNS_FIGURES and for_types))
            or (top in FILES and part in OPENS_NO_FILE)
        )
        if refused:
            found.append(f"imports {module}")
    if part in OPENS_NO_FILE:
        calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        found += [f"calls {name}" for name in sorted(calls & FILE_CALLS)]
    return found


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_import_rule(path: Path) -> None:
    assert violations(part_of(path), path.read_text()) == []


def test_every_part_has_a_rule() -> None:
    unruled = {part_of(path) for path in MODULES} - set(MAY_IMPORT) - EVERYWHERE - {"__init__", "__main__", "cli"}
    assert unruled == set()


@pytest.mark.parametrize(
    ("part", "source"),
    [
        ("ops", "from zfkernels.deconvnet import DeconvNet"),
        ("ops", "def f():\n    import zfkernels.network"),
        ("ops", "from zfkernels import network"),
        ("analysis", "from zfkernels.data import open_source"),
        ("analysis", "from ..viz import draw"),
        ("analysis", "import matplotlib.pyplot as plt"),
        ("analysis", "plt = require('matplotlib.pyplot', 'viz')"),
        ("analysis", "importlib.import_module('zfkernels.viz')"),
        ("occlusion", "from zfkernels.viz import plan_figure"),
        ("analysis", "with open('x') as f: pass"),
        ("analysis", "torch.save(x, 'x')"),
        ("gallery", "import matplotlib"),
        ("results", "from zfkernels.deconvnet import DeconvNet"),
        ("results", "def plot():\n    from zfkernels.deconvnet import DeconvNet"),
        ("results", "from zfkernels.viz import heat_tiles"),
        ("results", "if True:\n    import zfkernels.viz"),
        ("results", "import matplotlib"),
        ("gallery", "from zfkernels.cli import main"),
        ("__init__", "from zfkernels.cli import main"),
    ],
)
def test_a_planted_violation_is_found(part: str, source: str) -> None:
    assert len(violations(part, source)) >= 1


def test_a_result_imports_viz_when_it_is_plotted() -> None:
    source = "if TYPE_CHECKING:\n    from matplotlib.figure import Figure\n"
    assert violations("results", f"{source}def plot():\n    from zfkernels.viz import heat_tiles") == []


def test_no_long_file() -> None:
    folders = ("zfkernels", "csrc", "tests", "benchmarks")
    paths = [path for folder in folders for path in (REPOSITORY / folder).rglob("*")]
    code = [path for path in (*paths, REPOSITORY / "setup.py") if path.suffix in (".py", ".cpp", ".h", ".cu", ".cuh")]
    long = {
        str(path.relative_to(REPOSITORY)): count
        for path in code
        if (count := len(path.read_text().splitlines())) > LINES
    }
    assert long == {}
