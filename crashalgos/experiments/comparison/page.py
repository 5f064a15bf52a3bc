"""A Markdown text as one HTML page that needs no other file and no network."""

import base64
from collections.abc import Mapping

from markdown_it import MarkdownIt

from crashalgos.experiments.comparison.rendering import render


def html_page(text: str, title: str, images: Mapping[str, bytes]) -> str:
    """
    Converts Markdown to an HTML page.

    :param text: Markdown; HTML in it is shown as text
    :param title: the page's title
    :param images: content of the PNG files that the text shows, by the path in the text
    :return: the page, with its style and images in it
    """
    renderer = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = renderer.parse(text)
    for token in tokens:
        for child in token.children or ():
            if child.type == "image":
                content = base64.b64encode(images[str(child.attrs["src"])]).decode()
                child.attrs["src"] = f"data:image/png;base64,{content}"
    body = renderer.renderer.render(tokens, renderer.options, {})
    # Every `<table>` is the renderer's: it escapes those in the text.
    body = body.replace("<table>", '<div class="table"><table>').replace("</table>", "</table></div>")
    return render("report.html.jinja", title=title, body=body)
