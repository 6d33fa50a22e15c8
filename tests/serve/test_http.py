"""The questions over HTTP: answers, refusals in words, and what is never let in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exploring import EVIL, LAYER, NAMES, SIZE, SMALL, as_file, blocks
from PIL import Image

pytest.importorskip("starlette", reason="the extra serve is not installed")
pytest.importorskip("httpx2", reason="httpx2, which Starlette's test client needs, is not installed")
from starlette.testclient import TestClient

import zfkernels
from zfkernels.serve import Explorer, create_app
from zfkernels.serve import uploads as uploads_module
from zfkernels.serve.photos import Photos
from zfkernels.serve.worker import StaleError

HOME = "http://127.0.0.1:8813"


@pytest.fixture
def client(explorer: Explorer, photos: Photos) -> Iterator[Any]:
    with TestClient(create_app(explorer, photos, port=8813), base_url=HOME) as found:
        yield found


@pytest.fixture
def guarded(explorer: Explorer, photos: Photos) -> Iterator[Any]:
    """Bound to all addresses, with a token."""
    app = create_app(explorer, photos, host="0.0.0.0", port=8813, token="secret")
    with TestClient(app, base_url=HOME, follow_redirects=False) as found:
        yield found


def picture(answer: Any) -> Image.Image:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    return Image.open(BytesIO(answer.content))


def events(answer: Any) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for block in answer.text.strip().split("\n\n"):
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_the_network_and_its_photos(client: Any) -> None:
    told = client.get("/api/network").json()
    assert (told["name"], told["size"], told["classes"]) == (EVIL, [SIZE, SIZE], list(NAMES))
    assert [LAYER, 6, [16, 16], [2, 2]] in [[layer[0], *layer[2:5]] for layer in told["layers"]]
    assert told["fill"] == SMALL.to_pixels(torch.zeros(3, 1, 1)).flatten().tolist()
    listed = client.get("/api/photos", params={"query": "SCRIPT"}).json()
    assert listed["total"] == 4
    assert [name for _, name in listed["photos"]] == [f"{EVIL}{n}.png" for n in range(4)]
    assert client.get("/api/photos", params={"first": 100}).json()["photos"] == []


def test_a_dropped_photo_is_looked_at(client: Any, explorer: Explorer) -> None:
    answer = client.post("/api/photos", content=as_file(blocks(1), "JPEG"), headers={"x-name": "%3Cb%3E.jpg"})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["name"] == "<b>.jpg"
    assert len(told["best"]) == len(NAMES)
    assert client.get(f"/api/photos/{told['photo']}/answers").json() == told
    with Image.open(BytesIO(as_file(blocks(1), "JPEG"))) as file:
        image = SMALL(file.convert("RGB"))
    seen = np.asarray(picture(client.get(f"/api/photos/{told['photo']}/image.png")))
    assert np.array_equal(seen, SMALL.to_pixels(image).permute(1, 2, 0).numpy())


def test_pictures_and_numbers_of_a_map_and_a_unit(client: Any, explorer: Explorer, photos: Photos) -> None:
    home = f"/api/photos/{client.get('/api/photos', params={'query': 'script'}).json()['photos'][0][0]}"
    photo = photos.get(home.rsplit("/", 1)[1])
    asked = {"layer": LAYER, "map": 2}
    maps = explorer.clean(photo).maps(LAYER)
    assert client.get(f"{home}/maps", params=asked).json()["maps"] == explorer.maps(photo, LAYER)
    sheet = client.get(f"{home}/maps.png", params=asked)
    assert sheet.headers["x-tile"] == "16 16 3"
    assert picture(sheet).size == (48, 32)
    values = np.load(BytesIO(client.get(f"{home}/map.npy", params=asked).content), allow_pickle=False)
    assert np.array_equal(values, maps[2].numpy())
    heat = np.asarray(picture(client.get(f"{home}/map.png", params=asked)))[16::32, 16::32].sum(2)
    assert heat.argmax() == values.argmax()
    tile = np.asarray(picture(sheet))[:16, 32:48].sum(2)  # of map 2
    assert np.array_equal(tile, heat)
    place = {**asked, "row": 5, "column": 9}
    unit = client.get(f"{home}/unit.png", params=place)
    facts = json.loads(unit.headers["x-facts"])
    assert facts == client.get(f"{home}/unit", params=place).json()
    assert (facts["row"], facts["column"], facts["activation"]) == (5, 9, pytest.approx(float(maps[2, 5, 9])))
    shown = np.asarray(picture(unit))
    top, left, bottom, right = facts["field"]
    outside = np.ones(shown.shape[:2], bool)
    outside[top:bottom, left:right] = False
    assert (shown[outside] == 127).all()
    pixels = np.load(BytesIO(client.get(f"{home}/unit.npy", params=place).content), allow_pickle=False)
    assert np.array_equal(pixels, explorer.unit(photo, LAYER, 2, (5, 9)).pixels.numpy())


def test_a_sweep_comes_in_pieces(client: Any, explorer: Explorer) -> None:
    answer = client.get("/api/photos/data-1/sweep", params={"window": 8, "stride": 4, "target": 1})
    assert answer.headers["content-type"].startswith("text/event-stream")
    (first, plan), *pieces, (last, _) = events(answer)
    assert (first, last, plan["total"], plan["name"]) == ("plan", "done", 49, "dog")
    assert {name for name, _ in pieces} == {"piece"}
    assert sum(len(piece["values"]) for _, piece in pieces) == 49
    assert all(piece["left"] >= 0 for _, piece in pieces)


def test_a_probe_answers_with_the_square(client: Any) -> None:
    asked = {"top": -2, "left": 3, "side": 9, "layer": LAYER, "map": 1}
    told = client.get("/api/photos/data-1/probe", params=asked).json()
    assert [entry["name"] for entry in told["usual"]]
    assert set(told["map"]) == {"before", "now", "there"}


@pytest.mark.parametrize(
    ("address", "status", "problem"),
    [
        ("/api/photos/data-99/answers", 404, "there is no such photo"),
        ("/api/photos/data--1/answers", 404, "there is no such photo"),
        ("/api/photos/data-٣/answers", 404, "there is no such photo"),
        ("/api/photos/..%2f..%2fetc%2fpasswd/answers", 404, ""),
        ("/api/photos/gallery-0/answers", 404, "there is no such photo"),
        ("/api/photos/dropped-0/answers", 404, "is no longer held; drop it again"),
        ("/api/photos/data-1/maps", 400, "expected layer in the address, got none"),
        ("/api/photos/data-1/maps?layer=none", 400, "expected layer one of the network's, got 'none'"),
        ("/api/photos/data-1/unit?layer=4&map=6", 400, "expected map from 0 to 5 of layer '4', got 6"),
        ("/api/photos/data-1/unit?layer=4&map=x", 400, "expected map a whole number from 0"),
        ("/api/photos/data-1/unit?layer=4&map=1&row=99&column=0", 400, "expected row from 0 to 15"),
        ("/api/photos/data-1/probe?top=0&left=0&side=0", 400, "expected side a whole number from 1 to 32, got '0'"),
        ("/api/photos/data-1/probe?top=0&left=0", 400, "expected side a whole number from 1 to 32, got None"),
        ("/api/photos/data-1/sweep?window=8&stride=1&target=9", 400, "expected target from 0 to 2, got 9"),
        (f"/api/photos/data-1/maps?layer={'x' * 500}", 400, "expected layer of at most 400 characters, got 500"),
        ("/site/../app.py", 404, ""),
        ("/site/%2e%2e/app.py", 404, ""),
    ],
)
def test_a_question_that_cannot_be_is_refused_in_words(client: Any, address: str, status: int, problem: str) -> None:
    answer = client.get(address)
    assert answer.status_code == status, answer.text
    if problem:
        assert problem in answer.json()["problem"]


def test_a_stale_question_is_answered_with_nothing(
    client: Any, explorer: Explorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stale(*_: object) -> None:
        raise StaleError("a newer question has come")

    monkeypatch.setattr(explorer, "maps", stale)
    answer = client.get("/api/photos/data-1/maps?layer=4&tab=a")
    assert (answer.status_code, answer.content) == (204, b"")


def test_a_photo_of_the_data_set_that_is_broken_says_why(client: Any) -> None:
    (broken,) = client.get("/api/photos", params={"query": "broken"}).json()["photos"]
    answer = client.get(f"/api/photos/{broken[0]}/answers")
    assert answer.status_code == 415
    assert answer.json()["problem"].startswith("the photo cannot be shown: ")


def bomb() -> bytes:
    return as_file(Image.new("1", (8000, 7000)))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "x.png cannot be shown: empty file"),
        (b"no picture", "x.png cannot be shown: not an image file"),
        (b"\x80\x04\x95.", "x.png cannot be shown: not an image file"),  # a pickle
        (as_file(blocks(0))[:80], "x.png cannot be shown: "),
        (bomb(), "decompression bomb: 8000x7000 pixels, at most 50,000,000"),
        (as_file(Image.new("L", (90_000, 1))), "too elongated to resize: 90000x1 pixels"),
    ],
)
def test_a_file_that_is_no_photo_is_refused_in_words(client: Any, data: bytes, problem: str) -> None:
    answer = client.post("/api/photos", content=data, headers={"x-name": "x.png"})
    assert answer.status_code == 415
    assert problem in answer.json()["problem"]


def test_a_file_that_is_too_large_is_refused_before_it_has_arrived(client: Any) -> None:
    told = client.post("/api/photos", content=b"x", headers={"content-length": str(1 << 40)})
    assert (told.status_code, told.json()["problem"]) == (413, "the file is larger than 32 MiB")
    told = client.post("/api/photos", content=(bytes(1 << 20) for _ in range(50)))  # of unknown length
    assert (told.status_code, told.json()["problem"]) == (413, "the file is larger than 32 MiB")


def test_a_file_that_does_not_arrive_is_given_up(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import anyio

    async def slow(request: Any) -> Any:
        yield b"x"
        await anyio.sleep(30)

    monkeypatch.setattr(uploads_module, "SECONDS", 0.05)
    monkeypatch.setattr("starlette.requests.Request.stream", slow)
    answer = client.post("/api/photos", content=b"x")
    assert (answer.status_code, answer.json()["problem"]) == (408, "the file did not arrive within 0.05 seconds")


# ---- who may ask

LINK = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {}, 200),
        ("/", {"host": "localhost:8813"}, 200),
        ("/", {"host": "[::1]:8813"}, 200),
        ("/", {"host": "127.0.0.1"}, 403),
        ("/", {"host": "127.0.0.1:80"}, 403),
        ("/", {"host": "evil.example:8813"}, 403),
        ("/", {"host": "127.0.0.1.evil.example:8813"}, 403),
        ("/", {"host": "10.0.0.7:8813"}, 403),
        ("/", {"host": ""}, 403),
        ("/api/network", {"origin": HOME}, 200),
        ("/api/network", {"origin": "http://evil.example"}, 403),
        ("/api/network", {"origin": "http://127.0.0.1:9999"}, 403),
        ("/api/network", {"origin": "null"}, 403),
        ("/api/network", {"sec-fetch-site": "same-origin"}, 200),
        ("/api/network", {"sec-fetch-site": "none"}, 200),
        ("/api/network", {"sec-fetch-site": "cross-site"}, 403),
        ("/api/network", {"sec-fetch-site": "same-site"}, 403),
        ("/api/network", LINK, 403),
        ("/", LINK, 200),
        ("/", {**LINK, "sec-fetch-dest": "iframe"}, 403),
    ],
)
def test_foreign_hosts_and_pages_are_refused(client: Any, path: str, headers: dict[str, str], status: int) -> None:
    answer = client.get(path, headers=headers)
    assert answer.status_code == status
    if status == 403:
        assert "answers its own page only" in answer.text or "does not go by that name" in answer.text


def test_a_foreign_page_cannot_drop_a_photo(client: Any) -> None:
    answer = client.post("/api/photos", content=as_file(blocks(1)), headers={"origin": "http://evil.example"})
    assert answer.status_code == 403


@pytest.mark.parametrize("path", ["/", "/api/network", "/site/main.js", "/nowhere", "/api/photos/data-99/answers"])
def test_every_answer_is_confined(client: Any, path: str) -> None:
    headers = client.get(path).headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"


def test_the_page_has_no_script_or_style_of_its_own(client: Any) -> None:
    page = client.get("/").text
    assert "<script src=" in page
    assert not any(part in page for part in ("<script>", "<style", " style=", " onclick", "javascript:"))


def test_elsewhere_the_token_is_needed(guarded: Any) -> None:
    for path in ("/", "/api/network", "/site/main.js", "/?token=wrong", "/?token="):
        assert guarded.get(path).status_code == 401
    assert guarded.get("/api/network?token=secret").status_code == 401  # at the entrance only
    assert guarded.get("/api/network", headers={"authorization": "Bearer wrong"}).status_code == 401
    assert guarded.get("/api/network", headers={"authorization": "Bearer secret"}).status_code == 200
    assert guarded.get("/api/network", headers={"cookie": "zfkernels-8813=wrong"}).status_code == 401
    entrance = guarded.get("/?token=secret")
    assert (entrance.status_code, entrance.headers["location"]) == (303, "/")
    cookie = entrance.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert guarded.get("/api/network").status_code == 200  # the client has the cookie now


def test_elsewhere_names_that_can_be_made_to_point_here_are_refused(guarded: Any) -> None:
    known = {"authorization": "Bearer secret"}
    assert guarded.get("/", headers={**known, "host": "192.168.1.7:8813"}).status_code == 200
    assert guarded.get("/", headers={**known, "host": "[fe80::1]:8813"}).status_code == 200
    assert guarded.get("/", headers={**known, "host": "evil.example:8813"}).status_code == 403


def test_the_gallerys_style_reaches_only_what_the_pages_share() -> None:
    """The explorer's page loads the gallery's style before its own: other names of classes have to differ."""
    site = {name: Path(zfkernels.__file__).parent / name / "site" for name in ("gallery", "serve")}
    classes = set(re.findall(r"\.([a-z][\w-]*)(?=[^}]*\{)", (site["gallery"] / "style.css").read_text()))
    text = "".join(path.read_text() for path in site["serve"].iterdir() if path.suffix in (".js", ".html"))
    used = {name for names in re.findall(r'(?:className: |class=)"([^"]+)"', text) for name in names.split()}
    assert classes & used == {"bar", "frame", "caption"}
