"""What tells a model, and the software that runs it, from another one."""

from __future__ import annotations

import hashlib
import platform

import torch
from torch import Tensor, nn

import zfkernels


def weights_hash(model: nn.Module) -> str:
    """SHA-256 of the names, dtypes, shapes and bytes of all parameters and buffers."""
    digest = hashlib.sha256()
    for key, value in model.state_dict().items():
        if isinstance(value, Tensor):
            digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Of what a result may depend on."""
    return {"zfkernels": zfkernels.__version__, "torch": torch.__version__, "python": platform.python_version()}
