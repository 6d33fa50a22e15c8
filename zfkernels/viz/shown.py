"""A figure that a notebook shows when it is the last value of a cell."""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class ShownFigure(Figure):
    """matplotlib's figure, which displays itself without ``%matplotlib`` or pyplot."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=110)
        return file.getvalue()
