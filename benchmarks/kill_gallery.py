"""Kills ``zfkernels gallery`` again and again, and compares what it gives in the end with an uninterrupted run.

    python benchmarks/kill_gallery.py FOLDER --kills 20 --seconds 5 30 -- --model squeezenet1_0 --data photos.zip …

FOLDER receives both galleries. What follows ``--`` goes to ``zfkernels gallery``, the same each time. Each run but the
last is killed (SIGKILL) when its main process has used a random number of CPU seconds, so that the moments do not
depend on how busy the machine is. Linux only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

CHANGING = ("seconds", "spent", "peak_memory_bytes")  # entries of gallery.json that no two runs share
TICKS = os.sysconf("SC_CLK_TCK")


def start(out: Path, options: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "zfkernels", "gallery", *options, "--out", str(out), "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish(out: Path, options: list[str]) -> None:
    run = start(out, options)
    run.communicate()
    if run.returncode != 0:
        raise SystemExit(f"a run that nobody killed ended with {run.returncode}")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def kill_after(seconds: float, out: Path, options: list[str]) -> str:
    """Where the run was when it was killed: a stage, or how it ended before that."""
    run = start(out, options)
    stages = ["start"]

    def listen() -> None:
        assert run.stdout is not None
        stages.extend(event["stage"] for event in map(json.loads, run.stdout) if event.get("event") == "stage")

    listener = threading.Thread(target=listen, daemon=True)  # its workers may keep the pipe open for a while
    listener.start()
    while run.poll() is None and cpu_seconds(run.pid) < seconds:
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    end = stages[-1] if run.wait() == -signal.SIGKILL else f"ended with {run.returncode}"
    listener.join(timeout=0.1)
    return end


def contents(folder: Path) -> dict[str, str]:
    """Hash of every file; gallery.json without what changes."""
    paths = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    files = {name: path.read_bytes() for name, path in paths.items() if not name.startswith(".zfkernels")}
    record = {key: value for key, value in json.loads(files["gallery.json"]).items() if key not in CHANGING}
    files["gallery.json"] = json.dumps(record).encode()
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument(
        "--seconds", type=float, nargs=2, default=(5, 30), help="CPU seconds before a kill, from and to"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("options", nargs="+", help="for zfkernels gallery, after --")
    arguments = parser.parse_args()
    if arguments.kills < 1 or not 0 < arguments.seconds[0] <= arguments.seconds[1]:
        parser.error(f"expected --kills of at least 1 and --seconds as FROM and TO, got {vars(arguments)}")
    options = arguments.options
    whole, killed = arguments.folder / "whole", arguments.folder / "killed"
    generator = random.Random(arguments.seed)
    ends: Counter[str] = Counter()
    for number in range(arguments.kills):
        moment = generator.uniform(*arguments.seconds)
        end = kill_after(moment, killed, options)
        ends[end] += 1
        print(f"{number + 1}: after {moment:.1f} CPU seconds, {end}", flush=True)
    finish(killed, options)
    finish(whole, options)
    record = json.loads((killed / "gallery.json").read_text())["data"]
    a, b = contents(whole), contents(killed)
    different = sorted(name for name in {*a, *b} if a.get(name) != b.get(name))
    print(f"killed in {dict(ends)}; {record['images']:,} images, {len(record['skipped'])} left out")
    print(f"topk.parquet: {'the same bytes' if a['topk.parquet'] == b['topk.parquet'] else 'DIFFERENT'}")
    print(f"{len(a):,} files, {len(different)} of them different {different[:5]}")
    raise SystemExit(bool(different))


if __name__ == "__main__":
    main()
