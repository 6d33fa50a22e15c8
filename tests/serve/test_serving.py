"""A real server: its address, a port in use, ten clients at once, readers that go away."""

from __future__ import annotations

import http.client
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from exploring import LAYER, as_file, blocks, classifier, explorer_of, photos_of, running

pytest.importorskip("starlette", reason="the extra serve is not installed")
pytest.importorskip("uvicorn", reason="the extra serve is not installed")

from zfkernels.serve.guard import is_local
from zfkernels.serve.run import bind

REPOSITORY = Path(__file__).parent.parent.parent
TOGETHER = 5  # seconds that clients ask together


def ask(address: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
    connection.request("GET" if body is None else "POST", path, body)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, data


def test_ten_clients_at_once(folder: Path) -> None:
    """Each looks at photos of its own, hides parts, goes away in mid-sweep; nothing fails, memory is flat."""
    explorer = explorer_of(classifier())
    explorer._passes.limit = limit = 6 * explorer.network.clean(photos_of(folder).get("data-1").image).size
    failures: list[object] = []
    done = [0] * 10

    def client(n: int, address: str, until: float) -> None:
        seed = 0
        while time.monotonic() < until:
            seed += 1
            status, data = ask(address, "/api/photos", as_file(blocks(1000 * n + seed)))
            home = f"/api/photos/{json.loads(data).get('photo')}"
            asked = [status]
            for path in (
                f"{home}/maps?layer={LAYER}&tab={n}", f"{home}/unit.png?layer={LAYER}&map={n % 6}&tab={n}",
                f"{home}/probe?top={n}&left=3&side=9&layer={LAYER}&tab={n}", f"{home}/maps.png?layer={LAYER}&tab={n}",
            ):  # fmt: skip
                asked.append(ask(address, path)[0])
            with socket.create_connection((urlsplit(address).hostname, urlsplit(address).port), 60) as line:
                line.sendall(
                    f"GET {home}/sweep?window=5&stride=1 HTTP/1.1\r\nHost: {urlsplit(address).netloc}\r\n\r\n".encode()
                )
                asked.append(int(line.recv(15).split()[1]))  # and away
            failures.extend(status for status in asked if status != 200)
            done[n] += 1

    with running(explorer, photos_of(folder)) as address:
        warm = time.monotonic() + 1
        client(0, address, warm)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        until = time.monotonic() + TOGETHER
        threads = [threading.Thread(target=client, args=(n, address, until)) for n in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert failures == []
        assert min(done) >= 1
        assert explorer.held <= limit
        assert after - before < 300_000  # KiB: ten times what is kept would be far more
        assert ask(address, "/api/network")[0] == 200


def test_a_port_in_use_is_one_sentence() -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"serve: expected port one that is free, got {port}, which is in use"):
            bind("127.0.0.1", port)
    with pytest.raises(
        OSError, match=r"^serve: expected host and port that can be bound to, got 203\.0\.113\.1:0 \([^()]*\)$"
    ):
        bind("203.0.113.1", 0)


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("::", False),
     ("192.168.1.7", False), ("localhost.example", False)],
)  # fmt: skip
def test_only_this_machines_own_addresses_need_no_token(host: str, local: bool) -> None:
    assert is_local(host) == local


@pytest.mark.parametrize(("host", "token"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_the_command_prints_its_address_and_ends_when_interrupted(folder: Path, host: str, token: bool) -> None:
    command = [sys.executable, "-m", "zfkernels", "serve", "--data", str(folder), "--port", "0", "--host", host]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    line = process.stdout.readline()
    found = re.search(r"http://[^:]+:(\d+)/(\?token=\S{20,})?", line)
    assert found, line
    assert bool(found[2]) == token
    home = f"http://127.0.0.1:{found[1]}"
    assert ask(home, "/api/network")[0] == (401 if token else 200)
    assert ask(home, f"/{found[2] or ''}")[0] == (303 if token else 200)
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=60)
    assert (process.returncode, rest, errors) == (0, "stopped\n", "")


def test_without_the_extra_the_command_names_it(folder: Path) -> None:
    code = "import sys; sys.modules['uvicorn'] = None; from zfkernels.cli import main; sys.argv[1:] = %r; main()"
    result = subprocess.run(
        [sys.executable, "-c", code % ["serve", "--data", str(folder), "--port", "0"]],
        cwd=REPOSITORY, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr == "Error: uvicorn is not installed: pip install 'zfkernels[serve]'\n"
