"""Which lines the report of what is reached leaves out."""

from __future__ import annotations

import pytest
from explained import EXPLAINED
from lines import REPOSITORY, explained_lines, is_implicit, is_refusal

TEXT = """int f() {
  if (odd)
    throw Odd(
        "expected an even number");
  g();
  for (;;) {
    h();
  }
  return 0;
}""".splitlines()


def test_a_statement_that_refuses_is_left_out_and_the_next_one_is_not() -> None:
    assert [line for line in range(1, len(TEXT) + 1) if is_refusal(TEXT, line)] == [3, 4]


def test_an_explained_line_stands_for_its_block_and_no_more() -> None:
    assert explained_lines(TEXT, {"for (;;) {": "why"}) == {6, 7, 8}
    assert explained_lines(TEXT, {"g();": "why"}) == {5}
    assert explained_lines(TEXT, {}) == set()


def test_what_the_compiler_adds_is_left_out_and_statements_are_not() -> None:
    assert all(map(is_implicit, ["  }", "};", "class Tile {", "  struct Entry {"]))
    assert not any(map(is_implicit, ["  } else if (odd) {", "for (;;) {", "  constructed(1);"]))


@pytest.mark.parametrize("text", EXPLAINED)
def test_what_is_explained_stands_in_a_kernel(text: str) -> None:
    kernels = [*(REPOSITORY / "csrc").rglob("*.*"), *(REPOSITORY / "zfkernels" / "ops").rglob("*triton*.py")]
    assert any(text in map(str.strip, path.read_text().splitlines()) for path in kernels)
