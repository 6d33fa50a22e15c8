"""Functions that are compiled for a wider instruction set than the baseline say so in their names.

The linker keeps one copy of an inline function. Were a function of the standard library, or one of ``zfkernels::cpu``,
emitted by code for AVX-512 under its ordinary name, that copy could serve the baseline too and stop an older processor
with an illegal instruction.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
LIBRARIES = sorted((REPOSITORY / "zfkernels").glob("_C.*so"))
# What objdump prints before a function, and an instruction that the baseline of x86-64 does not have.
FUNCTION = re.compile(r"[0-9a-f]+ <(.+)>:")
WIDE = re.compile(r"\s+[0-9a-f]+:\s+(?:v[a-z]|tile|tdp|popcnt|k(?:mov|or|and|x|not|shift|add|test|unpck)|[^#]*%[yz]mm)")
NAMESPACES = re.compile(r"4avx2|6avx512|12bfloat16_isa")  # as they stand in mangled names

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64" or shutil.which("objdump") is None, reason="needs objdump on x86-64"
)


def wide_functions(binary: Path) -> set[str]:
    """The mangled names of functions with an instruction that the baseline does not have."""
    text = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", str(binary)], capture_output=True, text=True, check=True
    ).stdout
    found, name = set(), ""
    for line in text.splitlines():
        if match := FUNCTION.match(line):
            name = match[1]
        elif name not in found and WIDE.match(line):
            found.add(name)
    return found


def objects() -> list[Path]:
    """Those of the last build, where they lie and are not older than their sources."""
    found = []
    for source in sorted((REPOSITORY / "csrc" / "cpu").glob("*.cpp")):
        made = sorted((REPOSITORY / "build").glob(f"temp*/csrc/cpu/{source.stem}.o"))
        found += [path for path in made if path.stat().st_mtime > source.stat().st_mtime]
    return found


@pytest.mark.parametrize("binary", [*LIBRARIES, *objects()], ids=lambda path: path.stem)
def test_a_function_for_a_wider_instruction_set_has_a_name_of_its_own(binary: Path) -> None:
    """In the library, and in the objects of which the linker made it."""
    found = wide_functions(binary)
    if found == {".text"}:
        pytest.skip(f"{binary.name} has no names of functions")
    assert sorted(name for name in found if not NAMESPACES.search(name)) == []
    if binary in LIBRARIES:  # none of the three was missed
        assert {match[0] for name in found if (match := NAMESPACES.search(name))} == {
            "4avx2",
            "6avx512",
            "12bfloat16_isa",
        }


@pytest.mark.parametrize("target", ["avx2", "avx512f"])
def test_a_shared_function_compiled_for_avx_is_seen(target: str, tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("no g++ was found")
    source = tmp_path / "planted.cpp"
    source.write_text(f"""
template <class T> struct Sum {{ static T of(const T* from); }};
#pragma GCC target("{target}")
template <class T> T Sum<T>::of(const T* from) {{
  T all[16] = {{}};
  for (int i = 0; i < 1024; ++i) all[i % 16] += from[i];
  return all[0] + all[5];
}}
template struct Sum<float>;
""")
    made = tmp_path / "planted.o"
    subprocess.run(["g++", "-O3", "-c", str(source), "-o", str(made)], check=True)
    assert wide_functions(made) == {"_ZN3SumIfE2ofEPKf"}
