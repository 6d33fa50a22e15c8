"""What ``zfkernels info`` prints, without click, so that it runs where nothing but torch is installed."""

from __future__ import annotations

from typing import Any


def report() -> dict[str, Any]:
    """Versions, the table op x variant, and the order in which variants are tried on a CUDA device."""
    import platform

    import torch

    import zfkernels
    from zfkernels.ops import availability, build_info, registered

    versions = {
        "zfkernels": zfkernels.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": _version("triton"),
        "cuda": f"{torch.version.cuda}, {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "no device",
        "extension": ", ".join((build_info() or "not built").split("\n")).strip(", "),
        "cpu": f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads",
    }
    table: dict[str, dict[str, str | None]] = {}
    for op, variant, why_not in availability():
        table.setdefault(op, {})[variant] = why_not
    orders = {
        op: [name for name in entry.preference["cuda"] if name in entry.variants] for op, entry in registered().items()
    }
    return {"versions": versions, "ops": table, "order on cuda": {"unmeasured": orders}}


def as_text(report: dict[str, Any]) -> str:
    lines = [f"{name:<10} {value}" for name, value in report["versions"].items()]
    orders = report["order on cuda"]["unmeasured"]
    return "\n".join([*lines, "", *_as_lines(report["ops"]), "", *_order_lines(orders)])


def _as_lines(table: dict[str, dict[str, str | None]]) -> list[str]:
    """Ops downwards, variants across; numbers point to the reasons below."""
    reasons = list(dict.fromkeys(why for variants in table.values() for why in variants.values() if why is not None))
    width = max(map(len, table))
    variants = next(iter(table.values()))
    lines = [" " * width + "".join(f"  {variant:<9}" for variant in variants)]
    for op, why_not in table.items():
        cells = ("yes" if why is None else f"no ({reasons.index(why) + 1})" for why in why_not.values())
        lines.append(f"{op:<{width}}" + "".join(f"  {cell:<9}" for cell in cells))
    return [line.rstrip() for line in lines] + [f"({n}) {reason}" for n, reason in enumerate(reasons, 1)]


def _order_lines(orders: dict[str, list[str]]) -> list[str]:
    """Which variant is tried first on a CUDA device."""
    width = max(map(len, orders))
    head = "Tried in this order on a CUDA device (by static figures; no one has measured it):"
    return [head, *(f"{op:<{width}}  {', '.join(order)}" for op, order in orders.items())]


def _version(package: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
