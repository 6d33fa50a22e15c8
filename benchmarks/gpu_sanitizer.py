"""NVIDIA's compute-sanitizer over one small sample of each kernel, in a process of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from gpu_journal import Journal

TOOLS = ("memcheck", "racecheck")
SECONDS = 100  # that a tool should take: an estimate, nobody has measured it
LIMIT = 240
PLACES = ("bin", "compute-sanitizer")


def command() -> str | None:
    """The tool, on the path or beside nvcc."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    folders = [str(Path(home) / place) for home in homes if home for place in PLACES]
    return shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path=os.pathsep.join(folders))


def run(tool: str, device: str, journal: Journal) -> None:
    """A line: whether the tool finds an error in what ``--shapes small --check`` runs of the ops."""
    program, name = command(), f"sanitizer/{tool}"
    if program is None:
        journal.say(name, "", "compute-sanitizer is not there: left out")
        return
    with tempfile.TemporaryDirectory() as folder:
        script = [str(Path(__file__).with_name("gpu.py")), "--device", device, "--shapes", "small", "--check"]
        options = ["--only", "2d/", "--only", "window_", "--out", str(Path(folder) / "found")]
        environment = os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}  # each tensor has bounds of its own
        try:
            done = subprocess.run(
                [program, "--tool", tool, sys.executable, *script, *options], env=environment, capture_output=True,
                text=True, timeout=LIMIT, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            journal.say(name, "", f"not done after {LIMIT} s")
            return
    said = done.stdout + done.stderr
    summary = re.search(r"(ERROR|RACECHECK) SUMMARY: (\d+) \w+.*", said)
    wrong = [line for line in said.splitlines() if "FAILS" in line]
    if summary is None:
        journal.say(name, "", f"the tool did not come to its end: {(said.strip().splitlines() or [''])[-1][:200]}")
        return
    checked = sum(" right" in line for line in said.splitlines())
    clean = int(summary[2]) == 0 and not wrong and checked > 0
    text = f"{checked} results, {summary[0]}{': ' + wrong[0] if wrong else ''}"
    journal.say(name, "", "right" if clean else "FAILS", text, errors=int(summary[2]))
