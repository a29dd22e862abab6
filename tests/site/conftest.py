"""The built site, served as it will be published, and a browser that looks at it."""

import functools
import gzip
import http.server
import json
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest
import yaml
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).parents[2]
SITE = ROOT / "_build" / "html"
SCREENSHOTS = ROOT / "_build" / "screenshots"
FIGURES = ROOT / "_build" / "figures"
BASEURL = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["sphinx"]["config"][
    "html_baseurl"
]
PREFIX = urlparse(BASEURL).path

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
WITHOUT_CHROMIUM = "no Chromium is installed: the site is not looked at in a browser"
WIDE, NARROW = 1300, 390

# All pages but the one at the site's address, which only leads to the first.
PAGES = sorted(
    path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html") if path != SITE / "index.html"
)
NOTEBOOKS = [page for page in PAGES if (ROOT / page).with_suffix(".ipynb").exists()]
CHAPTERS = [page for page in NOTEBOOKS if Path(page).name[:2].isdigit()]


class PageByPage(LoadScopeScheduling):
    """Gives all tests of one page to one worker, which then opens it once for several of them.

    Groups (``--dist loadgroup``) would say the same, but are ignored since pytest 9.2: pytest-xdist#1386.
    """

    def _split_scope(self, nodeid: str) -> str:
        page = re.search(r"\[([\w/-]+\.html)", nodeid)
        return page[1] if page else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> PageByPage:
    return PageByPage(config, log)


@functools.cache
def compressed(path: Path) -> bytes:
    """Return what is sent of a file of text; it does not change while it is looked at."""
    return gzip.compress(path.read_bytes(), 6)


class Server(http.server.ThreadingHTTPServer):
    """Serves the site below the path that it is published at, compressed, and a page for what is missing."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # the browser has left the page
            super().handle_error(request, client_address)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}{PREFIX}"


class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = SITE / unquote(urlparse(self.path).path).removeprefix(PREFIX)
        if path.is_dir():
            path /= "index.html"
        found = path.is_file() and self.path.startswith(PREFIX)
        path = path if found else SITE / "404.html"
        kind = self.guess_type(path)
        self.send_response(200 if found else 404)
        if kind.startswith("text/") or kind.endswith(("javascript", "json", "xml")):
            body = compressed(path)
            self.send_header("Content-Encoding", "gzip")
        else:
            body = path.read_bytes()
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="session")
def site() -> Iterator[str]:
    """The address of the first folder of the served site."""
    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.address
        server.shutdown()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip(WITHOUT_CHROMIUM)
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@dataclass
class Seen:
    """A page, and what it has asked for, complained about and taken on a first visit."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)
    """Of each file that has come, compressed."""
    milliseconds: float = 0.0
    """Until the mathematics was typeset."""
    work: float = 0.0
    """Milliseconds that the page's thread had then spent on the processor."""


@pytest.fixture(scope="module")
def open_context(browser: Browser, site: str) -> Iterator[Callable[..., BrowserContext]]:
    """Return a function that opens a browser which has never been on the site."""
    contexts: list[BrowserContext] = []

    def open_one(*, width: int = WIDE, theme: str = "light", **settings: Any) -> BrowserContext:
        settings = {"reduced_motion": "reduce", **settings}
        viewport = {"width": width, "height": 900}
        context = browser.new_context(viewport=viewport, color_scheme=theme, base_url=site, **settings)
        context.set_default_timeout(30_000)
        contexts.append(context)
        return context

    yield open_one
    for context in contexts:
        context.close()


def look(context: BrowserContext, address: str) -> Seen:
    """Open an address, and take the time until its mathematics is typeset."""
    seen = Seen(context.new_page())
    seen.page.on("request", lambda request: seen.requests.append(request.url))
    seen.page.on("console", lambda m: seen.complaints.append(m.text) if m.type == "error" else None)
    seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    seen.page.on("requestfailed", lambda request: seen.complaints.append(f"failed: {request.url}"))
    session = context.new_cdp_session(seen.page)
    session.send("Network.enable")
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    session.on("Network.loadingFinished", lambda event: seen.bytes.append(event["encodedDataLength"]))
    seen.page.goto(address, wait_until="domcontentloaded")
    seen.milliseconds = seen.page.evaluate(
        "async () => { await window.MathJax?.startup?.promise; return performance.now(); }"
    )
    metrics = {m["name"]: m["value"] for m in session.send("Performance.getMetrics")["metrics"]}
    seen.work = 1000 * metrics["ThreadTime"]
    seen.page.wait_for_load_state()
    return seen


@pytest.fixture
def visit(open_context: Callable[..., BrowserContext], site: str) -> Iterator[Callable[..., Seen]]:
    """Return a function that opens a page of the site on its first visit, and waits for all it loads."""
    contexts: list[BrowserContext] = []

    def open_page(path: str, **settings: Any) -> Seen:
        contexts.append(open_context(**settings))
        seen = look(contexts[-1], path if "://" in path else site + path)
        if settings.get("java_script_enabled", True):
            settle(seen.page)
        return seen

    yield open_page
    for context in contexts:
        context.close()


def settle(page: Page) -> None:
    """Wait until each figure with sliders has come, and each quiz."""
    page.wait_for_function(
        "() => [...document.querySelectorAll('.slider-figure')]"
        ".every((figure) => figure.querySelector('[role=slider]'))"
    )
    page.wait_for_function(
        "() => [...document.querySelectorAll('script')].every((s) => !s.textContent.includes('questions')"
        " || document.querySelector('.Quiz .MCButton'))"
    )


def record(page: str, width: int, figures: dict[str, float]) -> None:
    """Keep the figures of a page, for the table that ends the tests."""
    FIGURES.mkdir(parents=True, exist_ok=True)
    name = f"{page.replace('/', '-')}-{width:04}.json"
    (FIGURES / name).write_text(json.dumps({"page": page, "width": width, **figures}))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Write what each page weighs, and how long its mathematics takes: by the clock, and of the processor."""
    rows = [json.loads(path.read_text()) for path in sorted(FIGURES.glob("*.json"))]
    rows = [row for row in rows if row["page"] in PAGES]
    if rows:
        terminalreporter.section("first visit of each page")
        terminalreporter.write_line(
            f"{'page':45} {'width':>5} {'kB compressed':>14} {'ms to typeset':>14} {'ms of work':>11}"
        )
    for row in rows:
        terminalreporter.write_line(
            f"{row['page']:45} {row['width']:5} {row['kB']:14.0f} {row['ms']:14.0f} {row['work']:11.0f}"
        )
