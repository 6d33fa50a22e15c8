"""What a sweep of thousands of positions launches: counted, not timed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from sweeping import squares, sweep_of
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

CHANNELS = 2  # the geometry is the network's own; its arithmetic is next to nothing


class Calls(TorchDispatchMode):
    """Counts the operations that are called, not what they call in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))


def narrow(name: str) -> nn.Module:
    """A network of torchvision with CHANNELS channels in each layer."""
    models = pytest.importorskip("torchvision.models")
    with torch.device("meta"):
        model = models.get_model(name, weights=None, num_classes=5)
    for parent in list(model.modules()):
        for key, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d):
                inputs = min(child.in_channels, 3) if child.in_channels == 3 else CHANNELS
                conv = nn.Conv2d(inputs, CHANNELS, child.kernel_size, child.stride, child.padding)
                setattr(parent, key, conv)
            elif isinstance(child, nn.BatchNorm2d):
                setattr(parent, key, nn.BatchNorm2d(CHANNELS))
            elif isinstance(child, nn.Linear):
                cells = {25088: 49 * CHANNELS}.get(child.in_features, CHANNELS)
                setattr(parent, key, nn.Linear(cells, child.out_features if child.out_features < 9 else CHANNELS))
    return model.eval()


@pytest.mark.parametrize(("name", "most"), [("resnet18", 400), ("vgg16", 300)])
def test_a_grid_of_2809_positions(name: str, most: int) -> None:
    axis = torch.arange(53) * 4
    boxes = squares(torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2), (16, 16))
    model, x = narrow(name), torch.randn(1, 3, 224, 224)
    sweep = sweep_of(model, x, boxes)
    fill = torch.zeros(3)
    sweep(x, fill, batch_size=len(boxes))
    with Calls() as calls:
        found = sweep(x, fill, batch_size=len(boxes))
    assert found.outputs.shape == (1, 2809, 5)
    assert sum(calls.counts.values()) <= most, calls.counts.most_common(10)
    plan = sweep.plan(x.device, x.dtype)
    inputs = sum(len(kind.inputs) for kind in plan.head)
    ours = sum(count for op, count in calls.counts.items() if op.startswith("zfkernels."))
    assert 10 < ours <= inputs + len(plan.cut)
    assert plan.planned <= 1.06 * plan.exact
