"""Pack the built site and the notebooks into one file to take along: ``python tools/dist.py course.zip``."""

import argparse
import zipfile
from collections.abc import Iterator
from pathlib import Path

from adopt import read_config
from canonical import CHAPTERS, REPOSITORY

SITE = REPOSITORY / "_build" / "html"
FOLDER = "batch-normalization"
# Marks of the build, and what only a server shows.
LEFT_OUT = {".built", ".buildinfo", "404.html", "sitemap.xml", "objects.inv"}
LICENCES = ("LICENSE", "LICENSE-TEXT.md", "CITATION.cff")
# The same files always give the same archive.
DATE = (2026, 1, 1, 0, 0, 0)

README = """\
Batch Normalization, Derived and Measured
=========================================

Read: open site/index.html in a browser. No network and no server are needed. Sliders move, quizzes answer,
hints open, the search finds. A browser does not let pages from a folder read each other, so
  - the search lists pages without the lines around what it found;
  - links to other sites, such as "Open in Colab", need a network.

Run: the notebooks are in notebooks/. They need Python 3.10 or later and one installation over the network:

    pip install jupyterlab "bnlib[course] @ git+{repository}"
    jupyter lab notebooks
"""


def members(site: Path, notebooks: Path, repository: str) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the content of each file of the archive.

    Args:
        site: folder of the built site.
        notebooks: folder of the chapters.
        repository: the repository's public address.
    """
    yield "README.txt", README.format(repository=repository).encode()
    for name in LICENCES:
        yield name, (REPOSITORY / name).read_bytes()
    for path in sorted(notebooks.glob("*.ipynb")):
        yield f"notebooks/{path.name}", path.read_bytes()
    for path in sorted(site.rglob("*")):
        if path.is_file() and path.name not in LEFT_OUT:
            yield f"site/{path.relative_to(site).as_posix()}", path.read_bytes()


def pack(target: Path, site: Path, notebooks: Path, repository: str) -> int:
    """Write the archive and return the number of its files.

    Raises:
        FileNotFoundError: the site is not built.
    """
    if not (site / "index.html").exists():
        raise FileNotFoundError(f"expected a built site in {site}, got none; run: make book")
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in members(site, notebooks, repository):
            member = zipfile.ZipInfo(f"{FOLDER}/{name}", DATE)
            member.external_attr = 0o644 << 16
            archive.writestr(member, content, zipfile.ZIP_DEFLATED)
        return len(archive.namelist())


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Pack the site and the notebooks into one zip.")
    parser.add_argument("target", type=Path)
    target = parser.parse_args().target
    address, _ = read_config((REPOSITORY / "_config.yml").read_bytes())
    count = pack(target, SITE, CHAPTERS, address.repository)
    print(f"{target}: {count} files, {target.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
