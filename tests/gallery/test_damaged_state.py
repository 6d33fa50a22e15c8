"""A state that was damaged: the same table as without an interruption, or a sentence; never another table."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small import other_network
from states import STAGES, STATE, build, cut_off

from zfkernels.gallery import Gallery

EXAMPLES = 400 if os.environ.get("ZFKERNELS_INTERRUPT") == "every" else 16


@pytest.fixture(scope="module")
def states(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder that was left at each stage, and one that is complete."""
    root = tmp_path_factory.mktemp("states")
    for name, (owner, function, calls) in STAGES.items():
        cut_off(owner, function, calls, photos, root / name)
    build(photos, root / "whole")
    return {name: root / name for name in (*STAGES, "whole")}


@given(data=st.data())
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_is_damaged_no_other_table_comes_out(
    photos: Path, states: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    out = tmp_path_factory.mktemp("damaged") / "out"
    shutil.copytree(states[data.draw(st.sampled_from(list(STAGES)))], out)
    files = sorted(path for path in (out / ".zfkernels").rglob("*") if path.is_file() and path.name != "lock")
    path = data.draw(st.sampled_from(files), label="file")
    whole = path.read_bytes()
    place = data.draw(st.integers(0, max(len(whole) - 1, 0)), label="place")
    how = data.draw(st.sampled_from(["flip", "cut", "replace", "swap", "delete"]), label="how")
    if how == "flip" and whole:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :])
    elif how == "cut":
        path.write_bytes(whole[:place])
    elif how == "replace":
        path.write_bytes(data.draw(st.binary(max_size=100)))
    elif how == "swap":
        path.write_bytes(data.draw(st.sampled_from(files), label="other").read_bytes())
    else:
        path.unlink()
    try:
        gallery = build(photos, out)
    except (ValueError, RuntimeError, OSError) as error:
        assert "\n" not in str(error) and ("expected" in str(error) or "changed during" in str(error))  # noqa: PT017,PT018
    else:
        assert (gallery.path / "topk.parquet").read_bytes() == (states["whole"] / "topk.parquet").read_bytes()
        assert (gallery.path / "maps.parquet").read_bytes() == (states["whole"] / "maps.parquet").read_bytes()
        for part in ("maps", "images"):
            pictures = {path.relative_to(out): path.read_bytes() for path in (out / part).rglob("*.webp")}
            root = states["whole"]
            assert pictures == {path.relative_to(root): path.read_bytes() for path in (root / part).rglob("*.webp")}
    shutil.rmtree(out.parent)


@pytest.mark.parametrize("name", ["topk.parquet", "images", "gallery.json"])
def test_results_damaged_on_their_way_are_made_again(
    photos: Path, states: dict[str, Path], tmp_path: Path, name: str
) -> None:
    out = tmp_path / "out"
    shutil.copytree(states["publishing"], out)
    place = next(place / name for place in (out / STATE, out) if (place / name).exists())
    path = place if place.is_file() else next(place.rglob("*.webp"))
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    build(photos, out)
    for path in (path for path in states["whole"].rglob("*.*") if path.suffix in (".parquet", ".webp")):
        assert (out / path.relative_to(states["whole"])).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("text", ["null", "[]", "{}", '{"model": 1}', "{", "", None])
def test_a_state_without_a_run_is_thrown_away(
    photos: Path, states: dict[str, Path], tmp_path: Path, text: str | None
) -> None:
    cut_off(*STAGES["writing"], photos, tmp_path / "out", other_network())
    run = tmp_path / "out" / STATE / "run.json"
    if text is None:
        run.unlink()
    else:
        run.write_text(text)
    gallery = build(photos, tmp_path / "out")
    assert (gallery.path / "topk.parquet").read_bytes() == (states["whole"] / "topk.parquet").read_bytes()


@pytest.mark.parametrize("lost", ["tiles", "images"])
def test_what_was_drawn_and_is_gone_is_drawn_again(
    photos: Path, states: dict[str, Path], tmp_path: Path, lost: str
) -> None:
    shutil.copytree(states["writing"], tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / STATE / lost)
    events: list[dict] = []
    build(photos, tmp_path / "out", progress=events.append)
    assert [event["stage"] for event in events if event["event"] == "stage"] == ["project", "write"]
    for part in ("maps", "images"):
        there, whole = tmp_path / "out" / part, states["whole"] / part
        assert {p.relative_to(there): p.read_bytes() for p in there.rglob("*.webp")} == {
            p.relative_to(whole): p.read_bytes() for p in whole.rglob("*.webp")
        }


@pytest.mark.parametrize("lost", ["topk.parquet", "maps.parquet", "index.html", "gallery.json", "maps", "images"])
def test_a_gallery_of_which_a_part_was_deleted_is_made_again(
    photos: Path, states: dict[str, Path], tmp_path: Path, lost: str
) -> None:
    out = tmp_path / "out"
    shutil.copytree(states["whole"], out)
    if (out / lost).is_dir():
        shutil.rmtree(out / lost)
    else:
        (out / lost).unlink()
    gallery = build(photos, out)
    assert gallery.table.equals(Gallery.open(states["whole"]).table)
    assert len(list(out.rglob("*.webp"))) == len(list(states["whole"].rglob("*.webp")))


def test_a_copied_or_an_older_checkpoint_is_refused(photos: Path, states: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(states["writing"], out)
    newer, older = (folder / STATE / "sweep-000.checkpoint" for folder in (out, states["first pass"]))
    copy = newer.with_name("sweep-001.checkpoint")
    copy.write_bytes(newer.read_bytes())
    with pytest.raises(ValueError, match=r"expected a whole checkpoint of this run, got .*sweep-001.*--fresh"):
        build(photos, out)
    copy.unlink()
    newer.write_bytes(older.read_bytes())
    with pytest.raises(RuntimeError, match=r"expected each of 4 batches once, got . of them.*--fresh"):
        build(photos, out)


class BreaksOff:
    """A data set whose sixth item ends the iteration of whoever asks for it."""

    def __init__(self, photos: Path) -> None:
        from zfkernels.data import open_source

        self.source = open_source(photos)

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> object:
        if index == 6:
            raise StopIteration
        return self.source.load(index + 1)


def test_an_item_that_ends_the_iteration_does_not_end_the_data_set(photos: Path, tmp_path: Path) -> None:
    try:
        gallery = build(BreaksOff(photos), tmp_path)  # type: ignore[arg-type]
    except RuntimeError as error:
        assert "expected each of 3 batches once" in str(error)  # noqa: PT017
    else:
        assert gallery.info["data"]["images"] == 10
        reasons = [(entry["image"], entry["reason"]) for entry in gallery.info["data"]["skipped"]]
        assert reasons == [("5", "not an image file"), ("6", "StopIteration")]  # the first is damaged itself


def test_strict_ends_at_the_first_image_that_cannot_be_used(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"can all be used \(strict\), got cats/bad\.jpg: not an image file"):
        build(photos, tmp_path, strict=True)
    build(photos, tmp_path / "lenient")
    cut_off(*STAGES["writing"], photos, tmp_path / "resumed")
    with pytest.raises(ValueError, match=r"can all be used \(strict\), got cats/bad\.jpg"):
        build(photos, tmp_path / "resumed", strict=True)
