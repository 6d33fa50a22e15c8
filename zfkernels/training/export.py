"""Weights out of a training run, as safetensors."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn

from zfkernels.models import ConvNet, inference_form
from zfkernels.output import replacing


def save_weights(model: nn.Module, path: str | Path, *, dtype: torch.dtype = torch.float16) -> Path:
    """Writes a network's state dict as safetensors; the file appears only when it is complete.

    Args:
        model: The network; a ``ConvNet`` is brought into its ``inference_form`` first, and its ``options`` are
            written beside the weights.
        path: The file to write; its folder is created if missing.
        dtype: What floating-point tensors are rounded to.

    Returns:
        The path.
    """
    from safetensors.torch import save_file

    metadata = None
    if isinstance(model, ConvNet):
        model = inference_form(model)
        metadata = {"options": json.dumps(model.options)}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        name: (tensor.to(dtype) if tensor.is_floating_point() else tensor).detach().cpu().contiguous()
        for name, tensor in model.state_dict().items()
    }
    with replacing(path) as partial:
        save_file(state, partial, metadata=metadata)
    return path
