"""Which lines there are to reach, and which were: of C++ and CUDA by gcov, of Triton kernels by ``traced``."""

from __future__ import annotations

import ast
import gzip
import json
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
# Begin a statement that refuses, or lie in it.
REFUSALS = ("throw ", "catch (", "STD_TORCH_CHECK", "TORCH_ERROR_CODE_CHECK", "raise ", "PyErr_")
Lines = dict[Path, dict[int, bool]]  # by file and line: was it reached


def by_gcov(folder: Path, *sources: Path) -> Lines:
    """Of the sources (folders), from the counts that lie anywhere in ``folder``."""
    found: Lines = {}
    for counts in sorted(folder.rglob("*.gcda")):
        with tempfile.TemporaryDirectory() as work:
            command = ["gcov", "--json-format", "--preserve-paths", str(counts)]
            subprocess.run(command, cwd=work, check=True, capture_output=True)
            for report in Path(work).glob("*.gcov.json.gz"):
                for file in json.loads(gzip.decompress(report.read_bytes()))["files"]:
                    path = (REPOSITORY / file["file"]).resolve()
                    if not any(path.is_relative_to(source) for source in sources):
                        continue
                    lines = found.setdefault(path, {})
                    for line in file["lines"]:
                        lines[line["line_number"]] = lines.get(line["line_number"], False) or line["count"] > 0
    return found


def by_trace(report: Path) -> Lines:
    """Of the functions that Triton compiles; a statement counts by its first line."""
    seen = {Path(file): set(lines) for file, lines in json.loads(report.read_text()).items()}
    found: Lines = {}
    for path in sorted((REPOSITORY / "zfkernels" / "ops").rglob("*triton*.py")):
        for function in ast.parse(path.read_text()).body:
            if not isinstance(function, ast.FunctionDef) or "triton.jit" not in map(
                ast.unparse, function.decorator_list
            ):
                continue
            for statement in ast.walk(function):
                if isinstance(statement, ast.stmt) and statement is not function and not _says_nothing(statement):
                    first, last = statement.lineno, _header(statement)
                    reached = bool(seen.get(path, set()) & set(range(first, last + 1)))
                    found.setdefault(path, {})[first] = reached
    return found


def _says_nothing(statement: ast.stmt) -> bool:
    """A docstring."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _header(statement: ast.stmt) -> int:
    """The last line of a statement without those in it."""
    body = getattr(statement, "body", None)
    return body[0].lineno - 1 if body else statement.end_lineno or statement.lineno


def merged(parts: Iterable[Lines]) -> Lines:
    found: Lines = {}
    for part in parts:
        for path, lines in part.items():
            known = found.setdefault(path, {})
            for line, reached in lines.items():
                known[line] = known.get(line, False) or reached
    return found


def is_refusal(text: list[str], line: int) -> bool:
    """Whether a line (from 1 on) is part of a statement that refuses something."""
    first = line - 1
    while first > 0 and not text[first - 1].split("//")[0].rstrip().endswith((";", "{", "}", ":")):
        first -= 1
    return any(word in part for part in text[first:line] for word in REFUSALS)


def is_implicit(line: str) -> bool:
    """Whether a line of C++ stands for what the compiler makes by itself: destructors, or what an exception undoes."""
    return line.strip() in ("}", "};") or line.strip().startswith(("class ", "struct "))


def explained_lines(text: list[str], explained: dict[str, str]) -> set[int]:
    """The lines (from 1 on) whose text is explained, each with its block if it opens one."""
    found = set()
    for first, line in enumerate(text, 1):
        if line.strip() not in explained:
            continue
        found.add(first)
        if line.rstrip().endswith("{"):
            for number in range(first + 1, len(text) + 1):
                found.add(number)
                if text[number - 1].strip() and _indent(text[number - 1]) <= _indent(line):
                    break
    return found


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def unreached(lines: Lines, explained: dict[str, str]) -> dict[Path, list[int]]:
    """By file the lines that nothing reached, but for refusals and those that are explained."""
    found = {}
    for path, known in lines.items():
        text = path.read_text().splitlines()
        without = explained_lines(text, explained)
        left = [
            line
            for line, reached in sorted(known.items())
            if not (reached or line in without or is_refusal(text, line) or is_implicit(text[line - 1]))
        ]
        if left:
            found[path] = left
    return found
