"""What a trace cannot stand for: networks that draw lots, look at a whole batch, or are changed by hooks."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import fx, nn

REMEDY = "call model.eval() first"
_IN_TRAINING = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm, nn.RReLU)
# Functions that draw lots while their argument ``training`` is true: the place of that argument, and its default.
_TRAINING: dict[Any, tuple[int, bool]] = {
    **dict.fromkeys((F.dropout, F.dropout1d, F.dropout2d, F.dropout3d), (2, True)),
    **dict.fromkeys((F.alpha_dropout, F.feature_alpha_dropout), (2, False)),
    F.rrelu: (3, False),
}


def draws_lots(node: fx.Node) -> bool | None:
    """Whether a call of dropout, stochastic depth or a random rectifier is active; None for other nodes."""
    place, default = _TRAINING.get(node.target, (0, False))
    if getattr(node.target, "__name__", "") == "stochastic_depth":
        place, default = 3, True
    if not place:
        return None
    return bool(node.args[place] if len(node.args) > place else node.kwargs.get("training", default))


def why_untraceable(model: nn.Module) -> str | None:
    """Why the steps of ``model`` would not be the network, or None: a hook may change any value on its way."""
    for path, module in model.named_modules():
        if module._forward_hooks or module._forward_pre_hooks:
            return f"{path or 'it'} carries a forward hook, which may change what it computes; remove it first"
    return None


def refuse_training(model: nn.Module) -> None:
    """Raises ValueError for a module whose outputs are drawn by lot or depend on the other images of a batch."""
    for path, module in model.named_modules():
        kind = type(module).__name__
        counts = isinstance(module, nn.modules.instancenorm._InstanceNorm) and module.track_running_stats
        if module.training and (isinstance(module, _IN_TRAINING) or counts):
            raise ValueError(
                f"trace_model: expected model in eval mode, got {path or 'the model'} ({kind}) in training mode; "
                f"{REMEDY}"
            )
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_var is None:
            raise ValueError(
                f"trace_model: expected batch normalisation with running statistics, got {path or 'the model'} "
                f"({kind}) without: the images of a batch would depend on each other"
            )


def refuse_lots(name: str, graph: fx.Graph) -> None:
    """Raises ValueError for a function that draws lots, in a traced network called ``name``."""
    for node in graph.nodes:
        if node.op == "call_function" and draws_lots(node):
            where = next(reversed([path for path, _ in node.meta.get("nn_module_stack", {}).values()]), "")
            raise ValueError(
                f"trace_model: expected model in eval mode, got {where or name} with an active {node.name}; {REMEDY}"
            )
