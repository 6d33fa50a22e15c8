"""Machine code of NVIDIA GPUs as text: instructions by class, loops, stall cycles, widths of loads.

``cuobjdump -sass`` prints each instruction with its encoding; bits 105 to 108 of it hold the cycles that the compiler
makes the warp wait after it. Data for waits of unknown length (memory, tensor cores) are not in the code.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CLASSES = {
    "tensor": r"(H|I|D|B|Q|O)MMA|(H|I|Q)GMMA|UTC\w*MMA",
    "async copy": r"LDGSTS|UBLKCP|UTMALDG|UTMASTG",
    "global load": r"LDG|LD\b",
    "global store": r"STG|ST\b",
    "shared": r"LDS|LDSM|STS|STSM|LDTM|STTM|LDT|STT",
    "local": r"LDL|STL",
    "atomic": r"ATOM|RED\b",
    "wait": r"BAR|WARPSYNC|SYNCS|DEPBAR|LDGDEPBAR|MEMBAR|WARPGROUP|FENCE|NOP|ARRIVES|UCGABAR",
    "float": r"F(FMA|MUL|ADD|SEL|SETP|MNMX|2F|2FP|CHK|SET)|MUFU|H(FMA|ADD|MUL|MNMX|SET|SETP)2|HADD2",
    "compare": r"U?(ISETP|PRMT)",
    "integer": r"U?(IMAD|IADD|LEA|LOP|SHF|IMNMX|IABS|SGXT|BMSK|SEL|PLOP|FLO|POPC|I2F|F2I|IDP|VOTE)|VI\w+|"
    r"R2UR|S2U?R|UMOV|MOV|P2R|R2P|U\w+",
    "branch": r"BRA|EXIT|CALL|RET|BSSY|BSYNC|BREAK|JMP",
}
_LINE = re.compile(r"\s*/\*([0-9a-f]{4,})\*/\s+(.*?);\s+/\* 0x[0-9a-f]{16} \*/\n\s+/\* 0x([0-9a-f]{16}) \*/")


@dataclass(frozen=True)
class Instruction:
    """``stall`` in cycles; ``text`` without its predicate."""

    address: int
    text: str
    stall: int

    @property
    def kind(self) -> str:
        return _class_of(self.text.split(maxsplit=1)[0])


@cache
def _class_of(opcode: str) -> str:
    return next((name for name, pattern in CLASSES.items() if re.match(pattern, opcode)), "other")


@dataclass(frozen=True)
class Code:
    """One compiled kernel."""

    instructions: list[Instruction]
    registers: int
    spills: int

    def mix(self) -> dict[str, int]:
        return count(self.instructions)

    def loops(self) -> dict[tuple[int, int], list[Instruction]]:
        """The bodies of all loops by their first and last address, in the order of the code.

        Blocks behind the end of the code that jump back into it are none: waits are put there.
        """
        spans = set()
        for instruction in self.instructions:
            target = re.match(r"BRA\S*\s+(?:\S+,\s*)?.*?0x([0-9a-f]+)", instruction.text)
            if target and int(target[1], 16) < instruction.address:
                spans.add((int(target[1], 16), instruction.address))
        bodies = {span: [i for i in self.instructions if span[0] <= i.address <= span[1]] for span in sorted(spans)}
        return {span: body for span, body in bodies.items() if not any(i.text.startswith("EXIT") for i in body)}

    def inner_loops(self) -> list[list[Instruction]]:
        """The bodies of the loops with arithmetic that hold no other such loop, in the order of the code.

        A loop without any waits for a barrier: it may lie inside a loop that computes.
        """
        bodies = self.loops()
        busy = [span for span, body in bodies.items() if {"tensor", "float"} & set(count(body))]
        inner = [a for a in busy if not any(a != b and a[0] <= b[0] and b[1] <= a[1] for b in busy)]
        return [bodies[span] for span in inner]

    def wide_loads(self) -> dict[str, int]:
        """Loads from global memory by their width in bits."""
        widths: Counter[str] = Counter()
        for instruction in self.instructions:
            if instruction.kind in ("global load", "async copy"):
                opcode = instruction.text.split()[0]
                width = re.search(r"\.(U8|S8|U16|S16|64|128)\b", opcode)
                widths[width[1].lstrip("US") if width else "32"] += 1
        return dict(sorted(widths.items()))


def count(instructions: list[Instruction]) -> dict[str, int]:
    """Instructions by class."""
    return dict(Counter(i.kind for i in instructions).most_common())


def summary(loop: list[Instruction]) -> dict[str, int]:
    """What a record keeps of a loop."""
    return {"instructions": len(loop), "stalls": sum(i.stall for i in loop), **count(loop)}


def instructions(text: str) -> list[Instruction]:
    """Those of one function, as ``cuobjdump -sass`` prints them."""
    return [
        Instruction(int(address, 16), re.sub(r"^@!?U?P\w+\s+", "", body), int(control, 16) >> 41 & 0xF)
        for address, body, control in _LINE.findall(text)
    ]


def disassemble(cubin: bytes, tool: Path) -> Code:
    """The code of a cubin with one kernel; ``tool`` is cuobjdump.

    Raises:
        RuntimeError: the tool failed.
    """
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text, usage = run_tool(tool, "-sass", file.name), run_tool(tool, "-res-usage", file.name)
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", usage)
    if found is None:
        raise RuntimeError(f"disassemble: expected the usage of resources from {tool}, got {usage[:200]!r}")
    return Code(instructions(text), int(found[1]), max(int(found[2]), int(found[3])))


def run_tool(*command: object) -> str:
    """What a tool prints.

    Raises:
        RuntimeError: it failed.
    """
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {done.stderr.strip()[:200]}")
    return done.stdout
