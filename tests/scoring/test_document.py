from pathlib import Path

from poolscout.scoring.document import scorers_markdown


def test_the_documentation_is_the_code() -> None:
    page = Path(__file__).parents[2] / "docs" / "scorers.md"
    assert page.read_text(encoding="utf-8") == scorers_markdown(), "run `make docs`"
