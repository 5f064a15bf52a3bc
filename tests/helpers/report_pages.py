"""Reading of a comparison's report: tables of the Markdown, tags of the HTML page, bytes of the files."""

from html.parser import HTMLParser
from pathlib import Path


def table_rows(text: str, heading: str) -> list[list[str]]:
    """Returns the rows of the tables below a heading of the Markdown."""
    section = text.split(f"\n{heading}\n")[1].split("\n#")[0]
    return [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]


def folder_content(folder: Path) -> dict[str, bytes]:
    """Returns the content of all files in a folder, by their paths in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class Elements(HTMLParser):
    """Collects the start tags of a page, and the text of its headings."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] in ("h1", "h2", "h3") and data.strip():
            self.headings.append(data)


def page_elements(text: str) -> Elements:
    """Parses a page."""
    parser = Elements()
    parser.feed(text)
    return parser
