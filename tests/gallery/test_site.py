"""The page in a browser: it loads without a complaint, finds, sorts, shows, and can be worked by keyboard."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small import OPTIONS, small_network

from zfkernels.gallery import Gallery, build_gallery

EVIL = "<script>alert(1)<"
EDGES = (("top", "bottom"), ("left", "right"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    """A gallery whose file names and labels are markup."""
    root = tmp_path_factory.mktemp("evil")
    generator = np.random.default_rng(0)
    for n in range(12):
        folder = root / ("dogs" if n % 2 else "<img src=x onerror=alert(2)>")
        folder.mkdir(exist_ok=True)
        blocks = generator.integers(0, 256, (5, 5, 3), dtype=np.uint8).repeat(5, 0).repeat(5, 1)
        Image.fromarray(blocks).save(folder / f"{EVIL}{n}.png")
    return build_gallery(small_network(), root, out=tmp_path_factory.mktemp("site") / "out", **OPTIONS, title=EVIL)


@pytest.fixture
def page(browser: Any, site: Gallery) -> Iterator[Any]:
    """A page that fails the test if the browser complains of anything."""
    page = browser.new_page(viewport={"width": 1300, "height": 850})
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("dialog", lambda dialog: (problems.append("a dialog"), dialog.dismiss()))
    page.on("requestfailed", lambda request: problems.append(request.url))
    yield page
    page.close()
    assert problems == []


def visit(page: Any, site: Gallery, address: str = "#layer=0", sort: str = "&sort=channel") -> None:
    page.goto(f"{(site.path / 'index.html').as_uri()}{address}{sort}")
    page.wait_for_selector(".card")


def shown(page: Any) -> list[int]:
    return [int(text) for text in page.locator(".caption b").all_text_contents()]


def test_loads_from_the_file_system_and_every_picture_shows(page: Any, site: Gallery) -> None:
    visit(page, site)
    assert page.title().startswith(EVIL)
    assert page.locator("#layers a").all_text_contents() == site.layers
    assert shown(page) == site.maps("0")
    page.wait_for_function("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    if folder := os.environ.get("ZFKERNELS_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/site.png")


def test_loads_from_a_server(page: Any, site: Gallery) -> None:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            if self.path == "/favicon.ico":
                self.send_response(204)
                self.end_headers()
            else:
                super().do_GET()

    handler = functools.partial(Quiet, directory=str(site.path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page.goto(f"http://127.0.0.1:{server.server_port}/#layer=1&sort=channel")
        page.wait_for_selector(".card")
        assert shown(page) == site.maps("1")
        server.shutdown()


def test_search_finds_channels_and_labels(page: Any, site: Gallery) -> None:
    visit(page, site, "#layer=4")
    one = site.maps("4")[-1]
    page.fill("#query", str(one))
    page.wait_for_function("document.querySelectorAll('.card').length === 1")
    assert shown(page) == [one]
    page.fill("#query", "dogs")
    dogs = [n for n in site.maps("4") if any(row["label"] == "dogs" for row in site.winners("4", n))]
    page.wait_for_function(f"document.querySelectorAll('.card').length === {len(dogs)}")
    assert shown(page) == dogs
    assert "q=dogs" in page.url
    page.fill("#query", "no such thing")
    page.wait_for_selector(".card", state="detached")
    assert page.locator("#count").text_content().startswith("0 of")
    page.get_by_role("button", name="Show all maps").click()
    page.wait_for_selector(".card")
    assert shown(page) == site.maps("4")
    assert page.input_value("#query") == ""
    assert "q=" not in page.url


def test_sorting(page: Any, site: Gallery) -> None:
    visit(page, site, "#layer=4")
    page.select_option("#sort", "strength")
    best = {n: site.winners("4", n)[0]["value"] for n in site.maps("4")}
    strongest = sorted(best, key=lambda n: (-float(f"{best[n]:.4g}"), n))
    assert shown(page) == strongest
    page.select_option("#sort", "purity")
    labels = {n: [row["label"] for row in site.winners("4", n)] for n in site.maps("4")}
    purity = {n: max(map(found.count, found)) / len(found) for n, found in labels.items()}
    pure = sorted(strongest, key=lambda n: -round(purity[n], 3))  # of equal ones the strongest first
    assert shown(page) == pure
    page.select_option("#sort", "selectivity")
    assert "sort" not in page.url  # the order that a page of labelled images begins with
    visit(page, site, "#layer=4", sort="")
    assert shown(page) == site.first_maps("4", 99)
    page.select_option("#sort", "sparsity")
    assert sorted(shown(page)) == site.maps("4")


def test_a_first_layer_begins_with_its_filters(page: Any, site: Gallery) -> None:
    visit(page, site, "#layer=1")
    buttons = page.locator("#filters button")
    maps, _ = site.filters("1")
    assert [f"map {n}" for n in maps] == [button.get_attribute("title") for button in buttons.all()]
    channel = maps[-1]
    buttons.last.click()
    page.wait_for_selector("#unit[open]")
    assert page.locator("#unit-title").text_content().startswith(f"1, map {channel}, rank ")
    page.keyboard.press("Escape")
    assert buttons.last.evaluate("button => button === document.activeElement")
    page.fill("#query", "no such thing")
    page.wait_for_selector(".card", state="detached")
    assert buttons.count() == len(maps)
    # To a layer that is not loaded yet and back at once: the sheet is there again.
    page.evaluate("() => { choose(2); choose(1); }")
    page.wait_for_function(f"document.querySelectorAll('#filters button').length === {len(maps)}")
    visit(page, site, "#layer=4")
    assert page.locator("#filters button").count() == 0


@pytest.mark.parametrize("rank", ["1.5", "-1", "x", "1e9", ""])
def test_a_rank_that_is_none_opens_the_strongest(page: Any, site: Gallery, rank: str) -> None:
    channel = site.maps("4")[0]
    visit(page, site, f"#layer=4&map={channel}&rank={rank}")
    page.wait_for_selector("#unit[open]")
    assert (
        page.locator("#unit-title").text_content() == f"4, map {channel}, rank 1 of {len(site.winners('4', channel))}"
    )


def test_a_deep_link_opens_one_activation(page: Any, site: Gallery) -> None:
    channel = site.maps("4")[0]
    row = site.winners("4", channel)[2]
    visit(page, site, f"#layer=4&map={channel}&rank=2")
    page.wait_for_selector("#unit[open]")
    assert (
        page.locator("#unit-title").text_content() == f"4, map {channel}, rank 3 of {len(site.winners('4', channel))}"
    )
    facts = page.locator("#unit-facts dd").all_text_contents()
    assert row["image"] in facts
    assert row["label"] in facts
    assert f"rows {row['top']}–{row['bottom'] - 1}, columns {row['left']}–{row['right'] - 1}" in facts
    tall, wide = (max(r[b] - r[a] for n in site.maps("4") for r in site.winners("4", n)) for a, b in EDGES)
    height, width = (row[b] - row[a] for a, b in EDGES)
    patch = page.locator("#panels figcaption").all_text_contents()[1]
    part = f"; the activation depends on {height}×{width} of them" if (height, width) != (tall, wide) else ""
    assert patch == f"patch, {tall}×{wide} pixels{part}"
    frame = page.locator("#panels .frame").bounding_box()
    image = page.locator("#panels .framed img").bounding_box()
    size = site.info["image_size"]
    assert (frame["y"] - image["y"]) / image["height"] == pytest.approx(row["top"] / size[0], abs=0.02)
    assert frame["width"] / image["width"] == pytest.approx((row["right"] - row["left"]) / size[1], abs=0.02)
    page.wait_for_function("document.querySelector('#panels img').naturalWidth > 0")
    if folder := os.environ.get("ZFKERNELS_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/unit.png")


def test_a_layer_whose_file_is_gone_is_named(browser: Any, site: Gallery, tmp_path: Path) -> None:
    copy = tmp_path / "torn"
    shutil.copytree(site.path, copy)
    (copy / "maps/000/layer.js").unlink()
    page = browser.new_page()
    page.goto((copy / "index.html").as_uri())
    page.wait_for_function("document.getElementById('count').textContent === '0: maps/000/layer.js is missing'")
    page.close()


def test_hovering_shows_the_patch_in_its_image(page: Any, site: Gallery) -> None:
    visit(page, site, "#layer=1")
    box = page.locator(".sprite").first.bounding_box()
    page.mouse.move(box["x"] + 0.95 * box["width"], box["y"] + 0.9 * box["height"])  # rank 3 of 2 by 2
    page.wait_for_selector("#tip:not([hidden]) .frame")
    row = site.winners("1", site.maps("1")[0])[3]
    assert page.locator("#tip").text_content() == f"{row['label']}activation {row['value']:.4g}"
    page.mouse.move(2, 2)
    assert page.locator("#tip").is_hidden()


def test_the_keyboard_reaches_everything(page: Any, site: Gallery) -> None:
    visit(page, site)
    page.keyboard.press("]")
    page.wait_for_function("document.getElementById('name').textContent === '1'")
    page.wait_for_function("document.activeElement.closest('.card') !== null")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector("#unit[open]")
    channel = site.maps("1")[1]
    assert f"map={channel}" in page.url
    page.keyboard.press("ArrowRight")
    assert page.locator("#unit-title").text_content() == f"1, map {channel}, rank 2 of {OPTIONS['top_k']}"
    page.keyboard.press("ArrowDown")
    assert page.locator("#unit-title").text_content() == f"1, map {site.maps('1')[2]}, rank 1 of {OPTIONS['top_k']}"
    page.keyboard.press("ArrowUp")
    assert page.locator("#unit-title").text_content() == f"1, map {channel}, rank 1 of {OPTIONS['top_k']}"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.closest('.card').id") == f"map-{channel}"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "query"
    page.keyboard.press("Escape")
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.keyboard.press("t")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    page.keyboard.press("?")
    page.wait_for_selector("#help[open]")


def test_everything_has_a_name(page: Any, site: Gallery) -> None:
    visit(page, site, f"#layer=4&map={site.maps('4')[0]}")
    page.wait_for_selector("#unit[open]")
    nameless = page.evaluate(
        """[...document.querySelectorAll("button, input, select, a, [role=img], nav, dialog")].filter((node) => !(
            node.getAttribute("aria-label") || node.getAttribute("aria-labelledby") || node.labels?.length
            || node.textContent.trim() || node.querySelector("[aria-label]"))).map((node) => node.outerHTML)"""
    )
    assert nameless == []
    assert page.evaluate("[...document.images].every((image) => image.hasAttribute('alt'))")
    assert page.locator(".card button").first.get_attribute("aria-label").startswith("4, map")


def test_a_thousand_maps_do_not_load_at_once(page: Any, site: Gallery, tmp_path: Path) -> None:
    """1,000 cards, of which only those near the view fetch their sprite."""
    copy = tmp_path / "many"
    shutil.copytree(site.path, copy)
    sprite = (copy / "maps/000/00000.webp").read_bytes()
    for channel in range(1000):
        (copy / f"maps/000/{channel:05d}.webp").write_bytes(sprite)
    page.goto((copy / "index.html").as_uri())
    page.wait_for_selector(".card")
    page.evaluate(
        """() => { const content = loaded.get(0); const [first] = content.maps;
        content.maps = Array.from({ length: 1000 }, (_, channel) => [channel, ...first.slice(1)]); show(); }"""
    )
    page.wait_for_function("document.querySelectorAll('.card').length === 1000")
    page.wait_for_timeout(300)
    fetched = page.evaluate("[...document.images].filter((image) => image.complete && image.naturalWidth).length")
    assert 4 <= fetched < 500
    page.evaluate("document.querySelectorAll('.card')[990].scrollIntoView()")
    page.wait_for_function("document.querySelectorAll('.card img')[990].naturalWidth > 0")


def test_statistics_are_shown_and_sorted_by(page: Any, site: Gallery) -> None:
    rows = {(row["layer"], row["channel"]): row for row in site.statistics.to_pylist()}
    visit(page, site, "#layer=1")
    maps = site.maps("1")
    assert page.locator(".card .histogram").count() == len(maps)
    bars = page.locator(f"#map-{maps[0]} .histogram i").evaluate_all("bars => bars.map((bar) => bar.offsetHeight)")
    assert max(bars) == 10
    counts = torch.tensor([rows["1", channel]["histogram"][1:] for channel in range(5)])
    used = counts.sum(0).nonzero()[:, 0]
    expected = counts[maps[0], used[0] : used[-1] + 1]
    assert [height == 10 for height in bars] == [count == max(expected) for count in expected]
    page.select_option("#sort", "selectivity")
    order = sorted(maps, key=lambda channel: (-round(rows["1", channel]["selectivity"], 3), channel))
    assert shown(page) == order
    best = rows["1", order[0]]
    assert page.locator(f"#map-{order[0]} .caption").text_content().startswith(f"{order[0]}{best['labels'][0]} ")
    assert "sort" not in page.url
    page.locator(f"#map-{order[0]} button").click()
    assert f"{best['labels'][0]}, selectivity" in page.locator("#unit-facts").text_content()
