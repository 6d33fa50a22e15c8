"""How fast the explorer answers, through real HTTP: a server process, one client, then ten.

    python benchmarks/serve.py --model squeezenet1_1 --weights none --out serve.json
    python benchmarks/serve.py --model alexnet --weights none --seconds 60    # ten clients for a minute

Times are of the client, wall clock, with the processor time that the server process used beside them: on a machine that
does other work too the second is the one to compare. Every photo is new to the server.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

REPOSITORY = Path(__file__).resolve().parent.parent
RECTIFIED = ("relu", "rectifier")  # kinds of layers
TICK = os.sysconf("SC_CLK_TCK")


class Server:
    """``zfkernels serve`` in a process of its own."""

    def __init__(self, model: str, weights: str, threads: int) -> None:
        command = [sys.executable, "-m", "zfkernels", "serve", "--model", model, "--weights", weights, "--port", "0"]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if "http://" not in line:
            raise RuntimeError(f"serve.py: expected the address of the server, got {line!r}")
        self.place = line.split("http://")[1].split("/")[0]

    def processor(self) -> float:
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def memory(self) -> float:
        """MiB that are resident."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def ask(self, path: str, body: bytes | None = None) -> bytes:
        """An answer; one that is refused is an error."""
        connection = http.client.HTTPConnection(self.place, timeout=600)
        connection.request("GET" if body is None else "POST", path, body)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        if answer.status != 200:
            raise RuntimeError(f"serve.py: expected an answer to {path}, got {answer.status}: {data[:200]!r}")
        return data


def photo(seed: int) -> bytes:
    """A smooth picture of 640 by 480 as JPEG, as a camera might have taken it."""
    cells = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(cells).resize((640, 480), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


def first_view(server: Server, seed: int, layer: str) -> str:
    """All that the page asks for until a dropped photo is shown with the maps of a layer and a projection."""
    told = json.loads(server.ask("/api/photos", photo(seed)))
    home = f"/api/photos/{told['photo']}"
    server.ask(f"{home}/image.png")
    maps = json.loads(server.ask(f"{home}/maps?layer={layer}"))["maps"]
    server.ask(f"{home}/maps.png?layer={layer}")
    best = max(maps, key=lambda row: row[1])[0]
    server.ask(f"{home}/unit.png?layer={layer}&map={best}")
    server.ask(f"{home}/map.png?layer={layer}&map={best}")
    return home


def timed(server: Server, work: Any) -> tuple[float, float, Any]:
    """Milliseconds of the clock and of the server's processor, and the result."""
    processor, clock = server.processor(), time.perf_counter()
    result = work()
    return 1e3 * (time.perf_counter() - clock), 1e3 * (server.processor() - processor), result


def summary(times: list[tuple[float, float]]) -> dict[str, float]:
    clock, processor = zip(*times, strict=True)
    return {
        "count": len(times), "median_ms": round(statistics.median(clock), 1), "worst_ms": round(max(clock), 1),
        "processor_ms": round(sum(processor) / len(times), 1),
    }  # fmt: skip


def alone(server: Server, rounds: int) -> dict[str, Any]:
    """One client: views of new photos, projections in layers of all depths, probes, a sweep."""
    layers = [row for row in json.loads(server.ask("/api/network"))["layers"] if row[3] and row[3][0] > 1]
    relus = [row for row in layers if row[1] in RECTIFIED]
    middle = relus[len(relus) // 2][0]
    first_view(server, 0, middle)
    views, units, probes = [], [], []
    for n in range(1, rounds + 1):
        *times, home = timed(server, lambda n=n: first_view(server, n, middle))
        views.append(tuple(times))
        for number, (layer, _, channels, *_) in enumerate(relus):
            address = f"{home}/unit.png?layer={layer}&map={(37 * n + number) % channels}"
            units.append(timed(server, lambda address=address: server.ask(address))[:2])
        for step in range(10):
            address = f"{home}/probe?top={20 * step}&left={15 * n % 200}&side=28&layer={middle}&map=1"
            probes.append(timed(server, lambda address=address: server.ask(address))[:2])
    sweep = timed(server, lambda: server.ask(f"{home}/sweep?window=28&stride=8"))[:2]
    return {
        "layers": len(relus), "first view": summary(views), "projection": summary(units), "probe": summary(probes),
        "sweep of 676 places": summary([sweep]),
    }  # fmt: skip


def together(server: Server, seconds: float, clients: int = 10) -> dict[str, Any]:
    """Ten clients at once, each with new photos; what failed, and the memory at each sixth of the time."""
    layers = [row[0] for row in json.loads(server.ask("/api/network"))["layers"] if row[1] in RECTIFIED and row[3]]
    failures: list[str] = []
    answered = [0] * clients
    began = time.monotonic()
    memory: list[float] = []

    def client(n: int) -> None:
        seed = 0
        while time.monotonic() - began < seconds:
            seed += 1
            layer = layers[(n + seed) % len(layers)]
            try:
                home = first_view(server, 10_000 * (n + 1) + seed, layer)
                server.ask(f"{home}/probe?top=50&left=60&side=28&layer={layer}&map=0")
                server.ask(f"{home}/sweep?window=56&stride=28")
            except (RuntimeError, OSError) as error:
                failures.append(str(error))
            answered[n] += 1

    threads = [threading.Thread(target=client, args=(n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    for sixth in range(1, 7):
        time.sleep(max(0.0, sixth / 6 * seconds - (time.monotonic() - began)))
        memory.append(server.memory())
    for thread in threads:
        thread.join()
    return {
        "seconds": seconds, "clients": clients, "photos": sum(answered), "fewest": min(answered),
        "failures": failures[:5], "memory_MiB": [round(each) for each in memory],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="squeezenet1_1")
    parser.add_argument("--weights", default="none")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0, help="of ten clients; 0: none")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    server = Server(given.model, given.weights, given.threads)
    try:
        record = {
            "model": given.model,
            "threads": given.threads,
            "load": os.getloadavg(),
            **alone(server, given.rounds),
        }
        if given.seconds:
            record["together"] = together(server, given.seconds)
    finally:
        server.process.terminate()
        server.process.wait(30)
    text = json.dumps(record, indent=1)
    print(text)
    if given.out:
        given.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
