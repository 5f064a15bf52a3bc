"""Text in Markdown, and tables in Markdown and for the terminal."""

import io

import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from crashalgos.experiments.comparison.markdown import escape, fence, markdown_table, terminal_table


def test_a_table_of_texts_and_numbers() -> None:
    table = markdown_table(("name", "n"), [("a", "1"), ("b", "2")], ("name",))
    assert table == "| name | n |\n| --- | ---: |\n| a | 1 |\n| b | 2 |"


def test_a_table_for_the_terminal_reads_no_markup() -> None:
    console = Console(file=io.StringIO(), width=60)
    console.print(terminal_table("title", ("name", "n [1]"), [("[red]a[/red]", "1")], ("name",)))
    output = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[red]a[/red]" in output and "n [1]" in output


@pytest.mark.parametrize("text", ["a|b", "<b>", "*x*", "_y_", "a_b_c", "`c`", "[d](e)", "~f~", "&amp;", "$g$", "# h"])
def test_what_is_escaped_is_shown_as_it_is(text: str) -> None:
    tokens = MarkdownIt("commonmark").enable("table").parse(f"| {escape(text)} |\n| --- |")
    (inline,) = [token for token in tokens if token.type == "inline"]
    assert "".join(child.content for child in inline.children or ()) == text


def test_a_block_holds_whatever_backticks() -> None:
    block = fence("a\n```\nb", "sh")
    (token,) = MarkdownIt("commonmark").parse(block)
    assert (token.content, token.info) == ("a\n```\nb\n", "sh")
