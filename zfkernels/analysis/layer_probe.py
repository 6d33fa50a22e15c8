"""Layer probe: how well classes can be told from the features of each layer.

Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 5.3 ("Feature Analysis"), table 7.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from zfkernels.analysis.transfer import transfer
from zfkernels.results import LayerProbe


def layer_probe(features: Mapping[str, Tensor], labels: Tensor, **options: Any) -> LayerProbe:
    """``transfer`` for the features of several layers, on the same folds.

    Args:
        features: Of each layer [N, D].
        labels: int64 [N].
        **options: As of ``transfer``.

    Raises:
        ValueError: No layers, or as of ``transfer``.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), table 7.
    """
    if not features:
        raise ValueError("layer_probe: expected features of at least one layer, got none")
    return LayerProbe(tuple(features), tuple(transfer(values, labels, **options) for values in features.values()))
