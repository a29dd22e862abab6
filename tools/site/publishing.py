"""What a published site has besides its pages: preview in social networks, sitemap, 404 page, first page."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from xml.etree import ElementTree

from preview import draw_preview
from sphinx.application import Sphinx
from sphinx.config import Config

PREVIEW = "_static/preview.png"
_NOT_FOUND = """
<h1>This page does not exist</h1>
<p>The address may be old, or mistyped. The search, and the chapters beside this text, lead on;
so does <a href="{home}">the first page</a>.</p>
"""


def configure(app: Sphinx, config: Config) -> None:
    """Derive from the site's address what the extensions for previews and for the 404 page ask for."""
    prefix = urlparse(config.html_baseurl).path
    config.notfound_urls_prefix = prefix
    config.notfound_context = {
        "title": "This page does not exist",
        "body": _NOT_FOUND.format(home=f"{prefix}{config.root_doc}.html"),
    }
    config.ogp_site_url = config.html_baseurl
    config.ogp_site_name = config.html_title
    config.ogp_image = PREVIEW
    config.ogp_image_alt = "A batch of numbers, before and after its normalization"
    config.ogp_social_cards = {"enable": False}
    config.ogp_custom_meta_tags = ['<meta name="twitter:card" content="summary_large_image" />']


def publish(app: Sphinx, error: Exception | None) -> None:
    """Write the sitemap, the preview picture and the page at the site's address."""
    if error or app.builder.format != "html":
        return
    out = Path(app.outdir)
    pages = sorted(app.env.found_docs)
    (out / "sitemap.xml").write_bytes(sitemap(f"{app.config.html_baseurl}{page}.html" for page in pages))
    (out / PREVIEW).write_bytes(draw_preview(app.config.html_title))
    (out / "index.html").write_text(_first_page(app), encoding="utf-8")


def sitemap(addresses: Any) -> bytes:
    """Return a sitemap, which tells search engines the pages.

    Args:
        addresses: the pages' absolute addresses, an iterable of strings.
    """
    root = ElementTree.Element("urlset", xmlns="http://www.sitemaps.org/schemas/sitemap/0.9")
    for address in addresses:
        ElementTree.SubElement(ElementTree.SubElement(root, "url"), "loc").text = address
    ElementTree.indent(root)
    written: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return written


def _first_page(app: Sphinx) -> str:
    """Return a page that leads to the first page of the book and has its preview."""
    first = f"{app.config.root_doc}.html"
    written = (Path(app.outdir) / first).read_text(encoding="utf-8")
    tags = re.findall(r'<meta (?:property="og:|name="(?:description|twitter:))[^>]*>', written)
    return f"""<!DOCTYPE html>
<html lang="{app.config.language}">
<head>
<meta charset="utf-8">
<title>{app.config.html_title}</title>
<meta http-equiv="refresh" content="0; url={first}">
<link rel="canonical" href="{app.config.html_baseurl}{first}">
{"".join(tags)}
</head>
<body><p><a href="{first}">{app.config.html_title}</a></p></body>
</html>
"""


def connect(app: Sphinx) -> None:
    """Connect this part of the extension."""
    # After the table of contents is read, which names the first page.
    app.connect("config-inited", configure, priority=950)
    app.connect("build-finished", publish)
