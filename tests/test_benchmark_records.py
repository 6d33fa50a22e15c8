"""What several benchmarks share: rows of CSV files, and the networks that --networks names."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

click = pytest.importorskip("click")
pytest.importorskip("torchvision")

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import networks  # noqa: E402
from records import append  # noqa: E402


def test_rows_are_appended_below_one_line_of_columns(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.csv"
    append(path, {"network": "vgg16", "seconds": 1.5})
    append(path, {"network": "resnet18", "seconds": 2})
    assert path.read_text() == "network,seconds\nvgg16,1.5\nresnet18,2\n"


def test_a_file_with_other_columns_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("network,minutes\nvgg16,1\n")
    with pytest.raises(click.UsageError, match=r"expected a file with the columns network,seconds, got .*rows.csv"):
        append(path, {"network": "vgg16", "seconds": 1.5})
    assert path.read_text() == "network,minutes\nvgg16,1\n"


def test_networks_that_exist() -> None:
    assert networks.existing("vgg16,unet,", "unet") == ["vgg16", "unet"]
    with pytest.raises(click.UsageError, match=r"expected --networks of torchvision's, .*, got 'vgg17'"):
        networks.existing("vgg16,vgg17")
