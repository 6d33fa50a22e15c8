"""The static report as Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from gpu_code import compare
from gpu_code.gpus import GPUS
from gpu_code.record import Record

HEAD = """# Static report of the GPU kernels

Made by `python tools/gpu_code`, without a GPU: every number comes from code compiled ahead of time or from data sheets.
**Nothing here is a time that anybody measured.** *Bound* is what no program can beat at data-sheet rates:
max(multiply-adds / peak of the tensor cores, bytes / bandwidth), each input read once and each output written once.
*Estimate* is max(issue slots and stall cycles of the compiled loops over the warps that fit, arithmetic, bytes); waits
for memory and caches that the code does not show are not in it. It is empty where the compiled loops are not those of
the source. *tensor*, *int* and *cmp* are shares of the hot loop's instructions: products of matrices; integers, which
are addresses, descriptors and counters; comparisons and bytes taken out of words, which here are switches and masks.
"""


def markdown(records: Iterable[Record], versions: dict[str, str]) -> str:
    """One table for each family and architecture."""
    listed = sorted(records, key=lambda r: (r.family, r.arch not in GPUS, len(r.arch), r.arch, r.op, r.shape, r.dtype))
    lines = [
        HEAD,
        "Versions: " + ", ".join(f"{name} {version}" for name, version in sorted(versions.items())) + ".",
        "",
    ]
    section = None
    for record in listed:
        if (record.family, record.arch) != section:
            section = (record.family, record.arch)
            gpu = f" ({GPUS[record.arch].name} data sheet)" if record.arch in GPUS else ""
            lines += ["", f"## {record.family}, {record.arch}{gpu}", "", _HEADER, _RULE]
        lines.append(_row(record))
    lines += [*_traffic(listed), *compare.markdown(listed)]
    return "\n".join(lines) + "\n"


def _traffic(records: Iterable[Record]) -> list[str]:
    """What was counted of the CUDA kernels: the worst array of global and of shared memory, once for each shape."""
    counted = {(r.op, r.shape, r.dtype): r.traffic for r in records if r.traffic}
    if not counted:
        return []
    lines = [
        "", "## Sectors and bank passes of the CUDA kernels", "",
        "Counted by the emulator on a sample of each launch's blocks: sectors of 32 bytes and passes over the 32 banks"
        " of shared memory, over the ideal; the worst array of each.", "",
        "| op | shape | dtype | sectors | of | bank passes | of |", "|---|---|---|--:|---|--:|---|",
    ]  # fmt: skip
    for (op, shape, dtype), traffic in counted.items():
        cells = [op, shape, dtype]
        for where in ("global", "shared"):
            ratios = [(ratio, name) for name, ratio in traffic.items() if name.startswith(where)]
            ratio, name = max(ratios, default=(0.0, ""))
            cells += [f"{ratio:.2f}" if name else "", name.removeprefix(f"{where} ")]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


_HEADER = (
    "| op | shape | dtype | regs | spill | shared | warps/SM | loop: instr. | stalls | tensor | int | cmp |"
    " loads 128/64/≤32 | MB | GMAC | bound us | estimate us | est./bound |"
)
_RULE = "|---|---|---|" + "--:|" * 15


def _row(record: Record) -> str:
    loop, loads = record.hot_loop, record.wide_loads
    narrow = sum(count for width, count in loads.items() if width not in ("128", "64"))
    widths = f"{loads.get('128', 0)}/{loads.get('64', 0)}/{narrow}"
    ratio = record.estimate_us / record.bound_us if record.estimate_us and record.bound_us else None
    cells = [
        record.op, record.shape, record.dtype, record.registers, record.spills, record.shared, record.occupancy,
        loop.get("instructions", "unrolled"), loop.get("stalls", ""),
        *(f"{record.share(kind):.0%}" if loop else "" for kind in ("tensor", "integer", "compare")),
        widths, f"{record.bytes_floor / 1e6:.1f}", f"{record.multiply_adds / 1e9:.2f}", _number(record.bound_us),
        _number(record.estimate_us), _number(ratio),
    ]  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
