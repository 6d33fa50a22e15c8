"""What no recording can stand for: decisions by values, random numbers, modules in training mode."""

from __future__ import annotations

from torch import nn

REMEDY = "call model.eval() first"
_IN_TRAINING = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm, nn.RReLU)


class UnrecordableError(ValueError):
    """A network whose run for one batch of images does not tell what it does for another.

    Attributes:
        reason: why.
        module: path of the module that was running, "" for the model itself.
        line: "file:line" of the code that was running, "" where no code of the model was.
    """

    def __init__(self, reason: str, module: str = "", line: str = "") -> None:
        where = ", ".join(part for part in (f"module {module!r}" if module else "", line) if part)
        super().__init__(f"cannot record the network: {reason}" + (f" ({where})" if where else ""))
        self.reason, self.module, self.line = reason, module, line

    def __reduce__(self) -> tuple[type[UnrecordableError], tuple[str, str, str]]:
        return UnrecordableError, (self.reason, self.module, self.line)


def refuse_training(model: nn.Module) -> None:
    """Raises ValueError for a module whose outputs are random or depend on the other images of a batch."""
    for path, module in model.named_modules():
        kind = type(module).__name__
        counts = isinstance(module, nn.modules.instancenorm._InstanceNorm) and module.track_running_stats
        if module.training and (isinstance(module, _IN_TRAINING) or counts):
            raise ValueError(
                f"record: expected model in eval mode, got {path or 'the model'} ({kind}) in training mode; {REMEDY}"
            )
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_var is None:
            raise ValueError(
                f"record: expected batch normalisation with running statistics, got {path or 'the model'} "
                f"({kind}) without: the images of a batch would depend on each other"
            )
