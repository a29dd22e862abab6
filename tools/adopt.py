"""Write the public address of the repository everywhere it appears, or check that all places agree.

``_config.yml`` defines the address (``repository: url:``). Everything else repeats it: the address of the
site, the cells that install ``bnlib`` on Colab, the Colab links, the package metadata and the citation.

    python tools/adopt.py https://github.com/owner/name    replace the present address by this one
    python tools/adopt.py --check                          name every place that disagrees
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import yaml

from bnlib.atomic import replace as replace_file

ROOT = Path(__file__).resolve().parent.parent
CONFIG = "_config.yml"
EXPECTED_FORM = "https://github.com/owner/name"

# What to look at where git cannot list the files, as in an unpacked archive.
FALLBACK_PATTERNS = ("*.md", "*.cff", "*.toml", "*.yml", "Makefile", "chapters/*.ipynb", "chapters/*.md")
# Files in which every GitHub address is the project's own.
METADATA = (CONFIG, "pyproject.toml", "CITATION.cff")

URL_FORM = re.compile(
    r"https://github\.com/"
    r"(?P<owner>(?=.{1,39}/)[A-Za-z0-9](?:[A-Za-z0-9_]|-(?=[A-Za-z0-9]))*)/"
    r"(?P<name>[A-Za-z0-9._-]{1,100}?)(?:\.git)?/?"
)
INSTALLED_FROM = re.compile(
    rb"(?:git\+https://github\.com|git clone https://github\.com|colab\.research\.google\.com/github)"
    rb"/([\w-]+/[\w.-]+)"
)
ANY_REPOSITORY = re.compile(rb"github\.com[/:]([\w-]+/[\w.-]+)")
ANY_SITE = re.compile(rb"https?://[\w-]+\.github\.io(?:/[\w.-]+)*/?")


class Address(NamedTuple):
    """The public address of a repository."""

    owner: str
    name: str

    @property
    def slug(self) -> str:
        """Return ``owner/name``."""
        return f"{self.owner}/{self.name}"

    @property
    def repository(self) -> str:
        """Return the address of the repository."""
        return f"https://github.com/{self.slug}"

    @property
    def site(self) -> str:
        """Return the address of the site without its scheme; ``owner.github.io`` is served from the root."""
        host = f"{self.owner}.github.io"
        return host if self.name.lower() == host.lower() else f"{host}/{self.name}"

    @property
    def pages(self) -> str:
        """Return the address of the site."""
        return f"https://{self.site}/"


# The address before the repository has one.
PLACEHOLDER = Address("OWNER", "REPOSITORY")


def parse_address(url: str) -> Address:
    """Return the address written in ``url``; a trailing slash or ``.git`` is left out.

    Raises:
        ValueError: ``url`` is not of the form ``https://github.com/owner/name``.
    """
    match = URL_FORM.fullmatch(url)
    if match is None or match["name"] in {".", "..", ".git"}:
        raise ValueError(f"expected {EXPECTED_FORM}, got {url!r}")
    return Address(match["owner"], match["name"])


def read_config(content: bytes) -> tuple[Address, str]:
    """Return the repository's address and the site's ``html_baseurl`` from the content of ``_config.yml``.

    Raises:
        ValueError: a key is missing, or the repository's address is malformed.
    """
    try:
        config = yaml.safe_load(content)
        url, baseurl = config["repository"]["url"], config["sphinx"]["config"]["html_baseurl"]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        expected = "repository: url: and sphinx: config: html_baseurl:"
        raise ValueError(f"{CONFIG}: expected {expected}, got {error!r}") from error
    try:
        return parse_address(str(url)), str(baseurl)
    except ValueError as error:
        raise ValueError(f"{CONFIG}: repository: url: {error}") from error


def list_files(root: Path) -> list[str]:
    """Return the files of the checkout that git does not ignore, or a fixed list where there is no git."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=root, capture_output=True, check=True).stdout
        names = set(listed.decode().split("\0")) - {""}
    except (OSError, subprocess.CalledProcessError):
        names = {
            path.relative_to(root).as_posix() for pattern in FALLBACK_PATTERNS for path in root.glob(pattern)
        }
    return sorted(name for name in names if (root / name).is_file() and not (root / name).is_symlink())


def read_texts(root: Path) -> dict[str, bytes]:
    """Return the bytes of every text file of the checkout, by name.

    Raises:
        ValueError: there is no ``_config.yml``.
    """
    contents = ((name, (root / name).read_bytes()) for name in list_files(root))
    texts = {name: content for name, content in contents if b"\0" not in content}
    if CONFIG not in texts:
        raise ValueError(f"expected {CONFIG} in {root}, got none")
    return texts


def make_replacer(old: Address, new: Address) -> Callable[[bytes], bytes]:
    """Return a function that replaces ``old`` by ``new`` in a text and leaves every other byte alone.

    A slug counts after ``github`` (in a host or a path) or on its own, not inside a longer path or name
    and not in the middle of base64. One pass does both forms, so that no replacement is replaced again.
    """
    end = rb"(?![\w-]|\.(?!git\b)[\w-])"
    slug = (
        rb"(?P<prefix>(?:github|/gh)[\w./:%-]*?[/:]|(?<![\w./+=-]))"
        + re.escape(old.slug).encode()
        + end
        + rb"(?![+=])"
    )
    site = rb"(?:(?<=//)|(?<![\w./-]))" + re.escape(old.site).encode() + end
    pattern = re.compile(slug + rb"|" + site)

    def replacement(match: re.Match[bytes]) -> bytes:
        prefix = match["prefix"]
        return new.site.encode() if prefix is None else bytes(prefix) + new.slug.encode()

    return lambda text: pattern.sub(replacement, text)


def adopt(root: Path, new: Address) -> list[str]:
    """Replace the address in ``_config.yml`` by ``new`` everywhere; return the names of the changed files.

    All contents are computed before one is written, and ``_config.yml`` is written last: a run that is
    cut short is finished by repeating it.
    """
    texts = read_texts(root)
    old, _ = read_config(texts[CONFIG])
    replace = make_replacer(old, new)
    changed = {name: content for name, text in texts.items() if (content := replace(text)) != text}
    for name in sorted(changed, key=lambda name: (name == CONFIG, name)):
        replace_file(root / name, changed[name])
    return sorted(changed)


def strip_slug(slug: bytes) -> str:
    """Return a slug found in a text without the full stop or ``.git`` that may follow it."""
    return slug.decode().rstrip(".").removesuffix(".git")


def find_foreign(name: str, text: bytes, address: Address) -> Iterator[str]:
    """Yield a message for each address in ``text`` that should be the project's own and is not."""
    pattern = ANY_REPOSITORY if name in METADATA else INSTALLED_FROM
    for found in sorted({strip_slug(slug) for slug in pattern.findall(text)} - {address.slug}):
        yield f"{name}: expected the repository {address.slug}, got {found}"
    if name in METADATA:
        sites = {site.decode() for site in ANY_SITE.findall(text)}
        for found in sorted(sites - {address.pages, address.pages.rstrip("/")}):
            yield f"{name}: expected the site {address.pages}, got {found}"


def find_missing(texts: Mapping[str, bytes], address: Address) -> Iterator[str]:
    """Yield a message for each place that should name the address and does not."""
    required = {
        "README.md": (address.repository, address.pages),
        "CITATION.cff": (address.repository, address.pages),
        "pyproject.toml": (address.repository,),
    }
    for name, text in texts.items():
        if name.endswith(".ipynb") and b"%pip install" in text:
            required[name] = (f"git+{address.repository}",)
    for name, expected in required.items():
        for url in expected:
            if url.encode() not in texts.get(name, b""):
                yield f"{name}: expected {url}, got no mention of it"


def find_disagreements(texts: Mapping[str, bytes]) -> list[str]:
    """Return one message for each place that disagrees with ``_config.yml``, naming the file."""
    address, baseurl = read_config(texts[CONFIG])
    messages = [] if baseurl == address.pages else [f"{CONFIG}: expected {address.pages}, got {baseurl}"]
    replace_placeholder = make_replacer(PLACEHOLDER, address)
    for name, text in texts.items():
        if name in METADATA or name.endswith((".md", ".ipynb")):
            messages += find_foreign(name, text, address)
        if replace_placeholder(text) != text:
            messages.append(f"{name}: expected {address.slug}, got the placeholder {PLACEHOLDER.slug}")
    return messages + list(find_missing(texts, address))


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Run the command line; return 0 when all places agree, 1 when some do not, 2 for a wrong argument."""
    parser = argparse.ArgumentParser(description="Write or check the public address of the repository.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("url", nargs="?", help=f"the new address, {EXPECTED_FORM}")
    what.add_argument("--check", action="store_true", help="change nothing; name what disagrees")
    options = parser.parse_args(arguments)
    try:
        if not options.check:
            address = parse_address(options.url)
            changed = adopt(root, address)
            for name in changed:
                print(f"changed {name}")
            print(f"{len(changed)} files changed; the address is {address.repository}")
        messages = find_disagreements(read_texts(root))
    except ValueError as error:
        print(f"adopt: {error}", file=sys.stderr)
        return 2
    for message in messages:
        print(f"adopt: {message}", file=sys.stderr)
    return 1 if messages else 0


if __name__ == "__main__":
    sys.exit(main())
