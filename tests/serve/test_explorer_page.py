"""The page in a browser: a photo is dropped, a map chosen, a place projected, a part hidden, a sweep stopped."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from exploring import EVIL, LAYER, NAMES, as_file, blocks, classifier, explorer_of, photos_of, running

pytest.importorskip("starlette", reason="the extra serve is not installed")
pytest.importorskip("uvicorn", reason="the extra serve is not installed")

DROP = """({data, name}) => {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name));
  const target = document.querySelector(".pane") ?? document.body;
  for (const kind of ["dragenter", "dragover", "drop"]) {
    target.dispatchEvent(new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }));
  }
}"""


@pytest.fixture(scope="module")
def home(folder: Path) -> Iterator[str]:
    with running(explorer_of(classifier()), photos_of(folder)) as address:
        yield address


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that fails the test if the browser complains of anything that the test does not expect."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, accept_downloads=True)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.problems, page.expected = [], ()
    page.on("console", lambda message: page.problems.append(message.text))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("dialog", lambda dialog: (page.problems.append("a dialog"), dialog.dismiss()))
    yield page
    context.close()
    assert [text for text in page.problems if not any(part in text for part in page.expected)] == []


def visit(page: Any, home: str, address: str = "#photo=data-1&layer=4") -> None:
    page.goto("about:blank")
    page.goto(f"{home}/{address}")
    page.wait_for_selector(".card-map")
    page.wait_for_selector(".unit dd")


def drop(page: Any, data: bytes, name: str) -> None:
    import base64

    page.evaluate(DROP, {"data": base64.b64encode(data).decode(), "name": name})


def facts(page: Any, pane: int = 0) -> dict[str, str]:
    part = page.locator(".pane").nth(pane).locator(".unit")
    return dict(zip(part.locator("dt").all_text_contents(), part.locator("dd").all_text_contents(), strict=True))


def test_without_an_address_the_first_photo_is_shown(page: Any, home: str) -> None:
    visit(page, home, "")
    assert page.locator("#network").text_content() == EVIL
    assert page.locator(".pane h2").text_content().startswith(EVIL)
    assert [link.get_attribute("aria-label") for link in page.locator("#layers a").all()][:3] == ["0", "1", "2"]
    assert {row.text_content() for row in page.locator(".answers .name").all()} == set(NAMES)
    assert "photo=data-1" in page.url or "photo=data-0" in page.url
    if folder := os.environ.get("ZFKERNELS_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/explorer.png")


def test_a_dropped_photo_is_looked_at(page: Any, home: str) -> None:
    visit(page, home)
    drop(page, as_file(blocks(5)), "<i>mine</i>.png")
    page.wait_for_selector(".pane h2:text-is('<i>mine</i>.png')")
    page.wait_for_selector(".card-map[aria-pressed=true]")
    assert "photo=dropped-" in page.url
    reopened = page.url
    page.goto("about:blank")
    page.goto(reopened)
    page.wait_for_selector(".pane h2:text-is('<i>mine</i>.png')")


def test_clicks_choose_a_map_and_a_place(page: Any, home: str) -> None:
    visit(page, home)
    assert page.locator(".card-map").count() == 6
    card = page.locator(".card-map").nth(2)
    channel = card.get_attribute("data-map")
    card.click()
    page.wait_for_selector(f".unit dd:text-is('{LAYER} · {channel}')")
    assert f"map={channel}" in page.url
    before = page.locator("figure:has-text('Projection') img").get_attribute("src")
    box = page.locator(".view.map").bounding_box()
    page.mouse.click(box["x"] + box["width"] * (3.5 / 16), box["y"] + box["height"] * (10.5 / 16))
    page.wait_for_selector(".unit dd:text-is('row 10, column 3')")
    assert "at=10.3" in page.url
    assert page.locator("figure:has-text('Projection') img").get_attribute("src") != before
    field = facts(page)["sees"]
    assert field.endswith("at 17, 3") or " px at " in field
    page.locator(".view.map").press("ArrowRight")
    page.wait_for_selector(".unit dd:text-is('row 10, column 4')")
    page.locator(".view.map").press("Home")
    page.wait_for_selector("figcaption:has-text('of the strongest place')")
    assert "at=" not in page.url


def test_the_frame_is_the_receptive_field(page: Any, home: str) -> None:
    visit(page, home, "#photo=data-1&layer=1&map=0&at=20.8")
    page.wait_for_selector(".unit dd:text-is('row 20, column 8')")
    photo, frame = (page.locator(part).first.bounding_box() for part in (".view.photo", ".view.photo .frame"))
    assert (frame["y"] - photo["y"]) / photo["height"] == pytest.approx(19 / 32, abs=0.01)
    assert (frame["x"] - photo["x"]) / photo["width"] == pytest.approx(7 / 32, abs=0.01)
    assert frame["width"] / photo["width"] == pytest.approx(3 / 32, abs=0.01)


def test_holding_the_square_changes_the_answers(page: Any, home: str) -> None:
    visit(page, home)
    clean = page.locator(".answers .share").all_text_contents()
    box = page.locator(".view.photo").bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.3 * box["height"])
    page.mouse.down()
    page.wait_for_selector(".answers.probed")
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.5 * box["height"], steps=5)
    page.mouse.up()
    page.wait_for_selector(".unit dt:text-is('hidden')")
    square = page.locator(".square").bounding_box()
    middle = (square["x"] + square["width"] / 2 - box["x"]) / box["width"]
    assert middle == pytest.approx(0.6, abs=0.03)
    page.wait_for_timeout(300)
    assert "square=14.17.4" in page.url
    link = page.url
    page.locator(".view.photo").press("ArrowUp")
    page.wait_for_timeout(300)
    assert "square=13.17.4" in page.url
    page.locator(".view.photo").press("Escape")
    page.wait_for_selector(".answers:not(.probed)")
    assert page.locator(".answers .share").all_text_contents() == clean
    page.goto("about:blank")
    page.goto(link)
    page.wait_for_selector(".answers.probed")


def test_a_sweep_is_drawn_stopped_and_handed_out(page: Any, home: str) -> None:
    visit(page, home)
    page.click(".go")
    with page.expect_download() as waiting:
        page.click("a[download='occlusion.json']")
    record = json.loads(Path(waiting.value.path()).read_text())
    assert len(record["values"]) == record["total"]
    assert record["photo"] == "data-1"
    drawn = page.evaluate(
        "document.querySelector('canvas').getContext('2d').getImageData(0, 0, 448, 448).data.some(Boolean)"
    )
    assert drawn
    box = page.locator(".view.swept").bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    page.wait_for_selector("figcaption:has-text('with the square at row 14, column 14')")
    page.select_option("select[aria-label='What the sweep watches']", "map")
    page.click(".go")
    page.wait_for_selector("figcaption:has-text('sum of map')")


def test_a_sweep_stops_when_it_is_told_to(page: Any, folder: Path) -> None:
    from zfkernels.serve import sweep

    explorer = explorer_of(classifier())
    whole = sweep.pieces
    given = []

    def slow(*arguments: Any) -> Iterator[list[float]]:
        for values in whole(*arguments):
            time.sleep(0.3)
            given.append(len(values))
            yield values

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zfkernels.serve.streams.pieces", slow)
        patch.setattr(sweep, "FIRST", 16)
        patch.setattr(sweep, "MOST", 16)
        with running(explorer, photos_of(folder)) as home:
            visit(page, home)
            page.select_option("select[aria-label='Step of the square']", "28")
            page.click(".go")
            page.wait_for_selector("progress:not([hidden])")
            page.wait_for_selector(".view.swept:not(.empty)")
            page.click(".go:text-is('Stop')")
            page.wait_for_selector(".go:text-is('Sweep')")
            page.wait_for_timeout(700)
            stopped = len(given)
            page.wait_for_timeout(900)
            assert len(given) == stopped  # and the server computes no more
            assert sum(given) < 27 * 27
            numbers = page.locator("a[download='occlusion.json']")
            assert numbers.count() == 1  # what is there can be kept
            page.click(".go")
            page.wait_for_selector(".view.swept:not(.empty)")
            page.goto("about:blank")  # the reader goes away in mid-sweep
            time.sleep(1.0)
            stopped = len(given)
            time.sleep(0.9)
            assert len(given) == stopped


def test_two_photos_beside_each_other_and_a_link_to_them(page: Any, home: str) -> None:
    visit(page, home)
    page.keyboard.press("b")
    page.fill("#picker-query", "2.png")
    page.wait_for_selector("#picker-count:has-text('1 photo')")
    page.click("#picker-photos button")
    page.wait_for_selector(".pane + .pane .unit dd")
    assert page.locator(".card-map").first.locator(".thumb").count() == 2
    assert "beside=data-" in page.url
    assert facts(page)["map"] == facts(page, 1)["map"]
    page.click("#link")
    page.wait_for_selector("#say:has-text('copied')")
    link = page.evaluate("navigator.clipboard.readText()")
    page.goto("about:blank")
    page.goto(link)
    page.wait_for_selector(".pane + .pane .unit dd")
    page.locator(".pane").first.get_by_label("Put this photo away").click()
    page.wait_for_selector(".pane + .pane", state="detached")
    assert "beside=" not in page.url
    assert page.locator(".pane h2").text_content() == f"{EVIL}2.png"


@pytest.mark.parametrize(
    ("data", "name", "problem"),
    [
        (b"no picture", "notes.txt", "notes.txt cannot be shown: not an image file"),
        (as_file(blocks(0))[:70], "torn.png", "torn.png cannot be shown: "),
        (bytes((32 << 20) + 1), "large.png", "large.png is larger than 32 MiB"),
    ],
)
def test_a_refused_photo_says_why_and_the_page_stays(
    page: Any, home: str, data: bytes, name: str, problem: str
) -> None:
    page.expected = ("status of 415",)
    visit(page, home)
    drop(page, data, name)
    page.wait_for_selector(f"#say:has-text('{problem}')")
    assert "photo=data-1" in page.url
    assert page.locator(".card-map").count() == 6
    page.locator(".card-map").nth(1).click()  # and goes on
    page.wait_for_selector(".card-map:nth-child(2)[aria-pressed=true]")


def test_a_link_to_a_photo_that_is_gone_says_so(page: Any, home: str) -> None:
    page.expected = ("status of 404",)
    page.goto(f"{home}/#photo=dropped-0123&layer=4")
    page.wait_for_selector("#say:has-text('no longer held; drop it again')")
    assert page.locator("#empty").is_visible()
    drop(page, as_file(blocks(6)), "again.png")
    page.wait_for_selector(".pane h2:text-is('again.png')")


def test_keys_move_among_maps_and_layers(page: Any, home: str) -> None:
    visit(page, home)
    page.keyboard.press("ArrowRight")
    first = page.evaluate("document.activeElement.dataset.map")
    page.keyboard.press("ArrowRight")
    second = page.evaluate("document.activeElement.dataset.map")
    assert first != second
    page.keyboard.press("Enter")
    page.wait_for_selector(f".unit dd:text-is('{LAYER} · {second}')")
    page.keyboard.press("[")
    page.wait_for_selector("#layer:text-is('3')")
    page.keyboard.press("]")
    page.wait_for_selector("#layer:text-is('4')")
    page.keyboard.press("t")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.keyboard.press("?")
    page.wait_for_selector("#help[open]")
    page.keyboard.press("Escape")
    page.keyboard.press("p")
    page.wait_for_selector("#picker[open]")


def test_everything_that_can_be_pressed_has_a_name(page: Any, home: str) -> None:
    visit(page, home)
    nameless = page.evaluate(
        """[...document.querySelectorAll("button, a, input:not([hidden]), select, [tabindex]")].filter((node) =>
           !(node.getAttribute("aria-label") || node.textContent.trim() || node.labels?.length))
           .map((node) => node.outerHTML)"""
    )
    assert nameless == []


@pytest.mark.parametrize("width", [390, 900])
def test_narrow_screens_show_all_of_it(page: Any, home: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    visit(page, home)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if folder := os.environ.get("ZFKERNELS_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/explorer-{width}.png", full_page=True)
