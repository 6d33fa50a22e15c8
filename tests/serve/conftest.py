"""One small network and its photos for all tests of the explorer."""

from __future__ import annotations

from pathlib import Path

import pytest
from exploring import classifier, explorer_of, folder_of_photos, photos_of

from zfkernels.serve import Explorer
from zfkernels.serve.photos import Photos


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four photos whose names are markup, and a broken one."""
    return folder_of_photos(tmp_path_factory.mktemp("explorer") / "photos")


@pytest.fixture
def explorer() -> Explorer:
    return explorer_of(classifier())


@pytest.fixture
def photos(folder: Path) -> Photos:
    return photos_of(folder)
