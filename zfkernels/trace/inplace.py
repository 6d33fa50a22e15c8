"""Graphs without operations in place: what they would write to is, from there on, their result."""

from __future__ import annotations

import copy
import functools
import inspect
import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

_OUT_OF_PLACE: dict[Any, Any] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}


def make_functional(graph: fx.Graph, modules: dict[str, nn.Module]) -> None:
    """Rewrites a traced network: no operation changes its input; later readers of that input read the result instead.

    Args:
        graph: changed.
        modules: the network's modules by path. Those that work in place are replaced, in this dictionary, by copies
            that share their parameters and do not.
    """
    order = {node: index for index, node in enumerate(graph.nodes)}
    written = {path for path, module in modules.items() if getattr(module, "inplace", False)}
    for path in written:
        modules[path] = copy.copy(modules[path])
        modules[path].inplace = False  # type: ignore[assignment]
    for node in graph.nodes:
        if node.target in written if node.op == "call_module" else _rewritten(node):
            node.all_input_nodes[0].replace_all_uses_with(node, lambda user, this=node: order[user] > order[this])


def _rewritten(node: fx.Node) -> bool:
    """Turns a call in place into one that is not; whether it was one."""
    target: Any = node.target
    if node.op == "call_method" and target.endswith("_") and not target.endswith("__"):
        node.target = target[:-1]
    elif node.op != "call_function":
        return False
    elif target in _OUT_OF_PLACE:
        node.target = _OUT_OF_PLACE[target]
    elif (plain := _plain(target)) is not None:
        node.target = plain
    elif node.kwargs.get("inplace"):
        node.kwargs = {**node.kwargs, "inplace": False}
    elif (index := _inplace_position(target)) is not None and index < len(node.args) and node.args[index]:
        node.args = (*node.args[:index], False, *node.args[index + 1 :])
    else:
        return False
    return True


def _plain(function: Any) -> Any:
    """``torch.relu`` of ``torch.relu_``, ``F.elu`` of ``F.elu_``; None of others."""
    name = getattr(function, "__name__", "")
    if not name.endswith("_") or not any(getattr(home, name, None) is function for home in (torch, F)):
        return None
    return getattr(torch, name[:-1], None) or getattr(F, name[:-1], None)


@functools.cache
def _inplace_position(function: Any) -> int | None:
    """The place of an argument called ``inplace``, None without one."""
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # a builtin shows no signature
        return None
    return names.index("inplace") if "inplace" in names else None
