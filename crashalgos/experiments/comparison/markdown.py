"""Text in Markdown, and tables in Markdown and for the terminal."""

import re
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def escape(text: str) -> str:
    """
    Escapes a text for Markdown.

    :param text: any text: a name, a label, a reason
    :return: Markdown that shows the text unchanged, on one line
    """
    signs = r"[\\`*\[\]<>&|~$#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])"
    return re.sub(signs, r"\\\g<0>", " ".join(text.split()))


def fence(text: str, language: str) -> str:
    """
    Makes a code block, with more backticks around it than the text has.

    :param text: lines of code
    :param language: their language
    :return: the code block in Markdown
    """
    longest = max(map(len, re.findall("`+", text)), default=0)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}{language}\n{text.rstrip()}\n{ticks}"


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]], texts: Collection[str]) -> str:
    """
    Makes a table in Markdown.

    :param columns: the columns' names
    :param rows: the rows, in Markdown
    :param texts: names of the columns of text, which are left-aligned; numbers are right-aligned
    :return: the table
    """
    rule = ["---" if column in texts else "---:" for column in columns]
    return "\n".join(f"| {' | '.join(row)} |" for row in [columns, rule, *rows])


def terminal_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], texts: Collection[str]) -> "Table":
    """
    Makes a table for the terminal.

    :param title: the table's title
    :param columns: the columns' names
    :param rows: the rows, as plain text
    :param texts: names of the columns of text, which are left-aligned; numbers are right-aligned
    :return: the table
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title)
    for column in columns:
        table.add_column(Text(column), justify="left" if column in texts else "right")
    for row in rows:
        # As text, because rich reads square brackets as markup.
        table.add_row(*map(Text, row))
    return table
