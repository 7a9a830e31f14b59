"""What is generated in the documentation agrees with its source: code, tests and measurements."""

import copy
import difflib
import re
from pathlib import Path

import pytest

from docs.generate import command_line, markdown, pages, picture, places, recipe, support, targets
from docs.generate.benchmarks import int8, results
from docs.generate.blocks import BLOCKS

README_LINES = 150


@pytest.mark.parametrize("page", pages.all_pages(), ids=lambda page: str(page.relative_to(pages.ROOT)))
def test_page_agrees_with_its_source(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    expected = pages.filled(text, page)
    difference = "\n".join(
        difflib.unified_diff(text.splitlines(), expected.splitlines(), "page", "source", lineterm="", n=0)
    )
    assert text == expected, f"{page.name} is out of date; run python -m docs.generate\n{difference}"


def test_picture_agrees_with_its_script() -> None:
    assert not picture.update(write=False), "the picture is out of date; run python -m docs.generate"


def test_every_generated_part_is_on_a_page() -> None:
    used = {name for page in pages.all_pages() for name in pages.names(page.read_text(encoding="utf-8"))}
    assert used == set(BLOCKS)


def test_readme_is_short() -> None:
    lines = (places.ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= README_LINES


def test_links_of_the_readme_exist() -> None:
    text = (places.ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert links
    missing = [link for link in links if not (places.ROOT / link).is_file()]
    assert not missing


def test_every_result_is_on_a_page() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages.all_pages())
    files = [path.name for path in places.RESULTS.glob("*.json")]
    assert files
    missing = [name for name in files if f"benchmarks/results/{name}" not in text]
    assert not missing


def test_a_figure_that_changes_makes_a_page_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    page = places.DOCS / "benchmarks" / "int8.md"
    text = page.read_text(encoding="utf-8")
    changed = copy.deepcopy(results.read("int8"))
    changed["mb"]["Headway int8"] += 1e-1
    monkeypatch.setattr(int8, "read", lambda name: changed if name == "int8" else results.read(name))
    assert pages.filled(text, page) != text


def test_what_is_typed_into_a_generated_part_is_replaced() -> None:
    page = places.DOCS / "reference" / "command-line.md"
    text = page.read_text(encoding="utf-8")
    assert "`--force`" in text
    assert pages.filled(text.replace("--force", "--forced", 1), page) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- generated: nothing -->\n<!-- end -->\n", "nothing --> is unknown"),
        ("<!-- generated: passes -->\nno end\n", "has no <!-- end -->"),
    ],
)
def test_a_wrong_mark_is_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pages.filled(text, places.ROOT / "README.md")


def test_links_are_relative_to_the_page() -> None:
    for page, link in (("README.md", "docs/targets/ort.md"), ("docs/reference/support-matrix.md", "../targets/ort.md")):
        filled = pages.filled("<!-- generated: targets -->\n<!-- end -->\n", places.ROOT / page)
        assert f"[`ort`]({link})" in filled


def test_every_target_has_a_page() -> None:
    for target in targets.names():
        assert (places.DOCS / targets.page(target)).is_file(), target


def test_every_pass_and_key_is_in_the_reference() -> None:
    text = recipe.passes()
    kinds = re.findall(r"^### (\w+) \{", text, re.M)
    schema = recipe.schema()
    assert sorted(kinds) == sorted(schema["properties"]["passes"]["items"]["discriminator"]["mapping"])
    for key in schema["properties"]:
        assert f"| `{key}` |" in recipe.fields()


def test_every_key_of_a_recipe_is_described() -> None:
    assert recipe.MISSING not in recipe.fields() + recipe.passes()


def test_every_command_is_in_the_reference() -> None:
    text = command_line.reference()
    for command in ("export", "compress", "inspect", "verify", "bench", "kernels build", "tokenizer"):
        assert f"## headway {command} {{" in text
    assert "## headway kernels {" not in text


def test_support_matrix_counts_what_is_tested() -> None:
    data = support.tested()
    assert support.matrix().count("| yes ") == len(data.PAIRS)


def test_a_row_with_another_number_of_cells_is_refused() -> None:
    with pytest.raises(ValueError, match="2 cells under 1 columns"):
        markdown.table(["one"], [["a", "b"]])
