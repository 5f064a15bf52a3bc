"""The report as an HTML page: it needs no other file, and shows what the Markdown says."""

import html
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from crashalgos.experiments.comparison.figure_style import COLORS
from crashalgos.experiments.comparison.markdown import escape, fence
from crashalgos.experiments.comparison.page import html_page
from tests.helpers.report_pages import page_elements


def test_a_page_needs_no_other_file() -> None:
    page = html_page("![alt](x.png)\n\n<script>", "a < b", {"x.png": b"content"})
    assert '<img src="data:image/png;base64,Y29udGVudA==" alt="alt"' in page
    assert "<title>a &lt; b</title>" in page and "<script" not in page


def test_the_page_needs_nothing_else(two_envs: Path) -> None:
    page = page_elements((two_envs / "report.html").read_text(encoding="utf-8"))
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "a", "base", "form"}
    links = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href", "srcset")]
    assert len(links) == 5 and all(link is not None and link.startswith("data:image/png;base64,") for link in links)
    assert not re.search(r"url\(|@import", (two_envs / "report.html").read_text(encoding="utf-8"))
    assert ("html", {"lang": "en"}) in page.tags and "title" in names
    assert all(attributes["alt"] for tag, attributes in page.tags if tag == "img")


def test_the_page_says_what_the_markdown_says(two_envs: Path) -> None:
    text = (two_envs / "report.md").read_text(encoding="utf-8")
    page = page_elements((two_envs / "report.html").read_text(encoding="utf-8"))
    assert page.headings == re.findall("^#+ (.*)$", text, re.MULTILINE)
    n_tables = len(re.findall(r"^\| :?---", text, re.MULTILINE))
    assert sum(tag == "table" for tag, _ in page.tags) == n_tables > 5


def test_what_comes_from_outside_is_shown_as_it_is(two_envs: Path) -> None:
    page = (two_envs / "report.html").read_text(encoding="utf-8")
    reason = "RuntimeError: <script>alert(1)</script> | `x` & [y](http://example.org)"
    assert f"<td>{html.escape(reason, quote=False)}</td>" in page and "<script" not in page
    for label in ("A & B <b>", "_b_ $x^2$ | *c*"):
        assert f"<td>{html.escape(label, quote=False)}</td>" in page


@pytest.mark.parametrize(
    "text", ["plain_name-v1.0", "_a_", "__a__", "*a*", "`a`", "a|b", "<i>", "&amp;", r"\*", "[a](b)", "~~a~~"]
)
def test_escaped_text_comes_out_unchanged(text: str) -> None:
    page = html_page(f"| x |\n| --- |\n| {escape(text)} |", "t", {})
    assert f"<td>{html.escape(text, quote=False)}</td>" in page


def test_a_code_block_holds_backticks() -> None:
    page = html_page(fence("a\n```\n<b>", "yaml"), "t", {})
    assert "a\n```\n&lt;b&gt;\n</code></pre>" in page


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on PATH")
def test_a_browser_shows_the_headings_and_the_figures(two_envs: Path, tmp_path: Path) -> None:
    page = (two_envs / "report.html").read_text(encoding="utf-8")
    dom = chromium(two_envs / "report.html", "--dump-dom", tmp_path)
    assert page_elements(dom).headings == page_elements(page).headings

    # Without its figures the page has none of the first contender's colour.
    broken = tmp_path / "broken.html"
    broken.write_text(re.sub('base64,[^"]*', "base64,AAAA", page), encoding="utf-8")
    assert coloured_pixels(two_envs / "report.html", tmp_path) > 1_000 > coloured_pixels(broken, tmp_path)


def coloured_pixels(page: Path, tmp_path: Path) -> int:
    picture = tmp_path / "page.png"
    chromium(page, f"--screenshot={picture}", tmp_path)
    rgb = (255 * imread(picture)[..., :3]).round().astype(int)
    wanted = [int(COLORS[0][i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(rgb - wanted).max(axis=-1) <= 3).sum())


def chromium(page: Path, action: str, tmp_path: Path) -> str:
    assert CHROMIUM is not None
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    more = "--disable-component-update --disable-sync --hide-scrollbars --window-size=1100,6000"
    command = [CHROMIUM, *flags.split(), *more.split(), f"--user-data-dir={tmp_path / 'profile'}", action, page.as_uri()]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
