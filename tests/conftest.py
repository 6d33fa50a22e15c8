"""Fixtures that all tests share."""

from __future__ import annotations

import faulthandler
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

REPOSITORY = Path(__file__).parent.parent
sys.path.append(str(REPOSITORY / "tools"))  # at the end: nothing there hides an installed package
BROWSER = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
REQUIRABLE = {"data", "nvcc", "browser", "ray", "aarch64"}


def _required() -> set[str]:
    names = {name.strip() for name in os.environ.get("ZFKERNELS_REQUIRE", "").split(",")} - {""}
    if names - REQUIRABLE:
        raise pytest.UsageError(f"expected ZFKERNELS_REQUIRE to list {sorted(REQUIRABLE)}, got {sorted(names)}")
    return names


def pytest_configure(config: pytest.Config) -> None:
    _required()
    threads = 1 if hasattr(config, "workerinput") else min(2, torch.get_num_threads())  # pytest-xdist: a core each
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)  # of the processes that tests start


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def no_hang() -> Iterator[None]:
    """A test that waits for ever ends the process, and shows where it waits."""
    faulthandler.dump_traceback_later(300, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="session")
def require() -> Callable[[str, object, str], None]:
    """``require(name, available, reason)`` skips the test where ``available`` is false.

    Where the environment variable ZFKERNELS_REQUIRE lists ``name`` the test fails instead, so that a machine that has
    the thing cannot pass by skipping. Names: data, nvcc, browser, ray, aarch64.
    """

    def _require(name: str, available: object, reason: str) -> None:
        if name not in REQUIRABLE:
            raise ValueError(f"require: expected name one of {sorted(REQUIRABLE)}, got {name!r}")
        if not available and name in _required():
            pytest.fail(f"ZFKERNELS_REQUIRE lists {name}, but: {reason}")
        if not available:
            pytest.skip(reason)

    return _require


@pytest.fixture(scope="session")
def shared_data(require: Callable[[str, object, str], None]) -> Path:
    """The folder of real photos and weights: $ZFKERNELS_DATA, else ../shared/data beside the repository."""
    folder = Path(os.environ.get("ZFKERNELS_DATA", REPOSITORY.parent / "shared" / "data"))
    require("data", folder.is_dir(), f"the data folder {folder} does not exist")
    return folder


@pytest.fixture(scope="module")
def browser(require: Callable[[str, object, str], None]) -> Iterator[Any]:
    """Chromium."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    there = chromium and importlib.util.find_spec("playwright")
    require("browser", there, "there is no chromium, or no playwright to drive it")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(BROWSER))
        yield browser
        browser.close()
