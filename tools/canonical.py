"""The one form in which a chapter's notebook is stored."""

import hashlib
import re
from pathlib import Path
from typing import Any

import nbformat

from bnlib.atomic import replace

REPOSITORY = Path(__file__).resolve().parent.parent
CHAPTERS = REPOSITORY / "chapters"

_CELL_METADATA = ("cellView", "jupyter", "mystnb", "tags")
_KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}


def canonical(notebook: Any) -> Any:
    """Put an executed notebook into canonical form, in place, and return it.

    Execution counts run 1..n; cell ids follow from the cells' text; metadata keeps only what the book uses;
    streams that a kernel happened to split are joined. Applying it twice changes nothing more.
    """
    widgets = notebook.metadata.get("widgets")
    notebook.metadata = nbformat.from_dict({"kernelspec": _KERNELSPEC, "language_info": {"name": "python"}})
    if widgets:
        notebook.metadata["widgets"] = _compact(widgets)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    count = 0
    seen: set[str] = set()
    for cell in notebook.cells:
        cell.source = cell.source.strip("\n")
        cell.metadata = nbformat.from_dict(
            {k: cell.metadata[k] for k in _CELL_METADATA if k in cell.metadata}
        )
        if "tags" in cell.metadata:
            cell.metadata["tags"] = sorted(cell.metadata["tags"])
        cell.id = _cell_id(cell, seen)
        if cell.cell_type == "code":
            count += 1
            cell.execution_count = count
            cell.outputs = _joined(cell.outputs)
            for output in cell.outputs:
                if output.output_type == "execute_result":
                    output.execution_count = count
            _carry_alt_text(cell)
    return notebook


def write(notebook: Any, path: Path) -> bool:
    """Store a notebook atomically and return whether the file changed.

    An interrupt leaves the old file whole.
    """
    text = nbformat.writes(
        notebook, version=nbformat.NO_CONVERT, indent=1, sort_keys=True, ensure_ascii=False
    )
    return replace(path, (text.rstrip("\n") + "\n").encode())


def _compact(widgets: Any) -> Any:
    """Leave out what a widget's state does not set: a missing entry means the default, which is null."""
    for mime in widgets.values():
        for model in mime["state"].values():
            model["state"] = {k: v for k, v in model["state"].items() if v is not None}
    return widgets


def _cell_id(cell: Any, seen: set[str]) -> str:
    """Derive an id from the cell's text, whatever the repository's address; a repeated text gets a number."""
    text = re.sub(r"github\.com/[\w.-]+/[\w.-]+", "github.com", f"{cell.cell_type}\n{cell.source}")
    base = hashlib.sha256(text.encode()).hexdigest()[:8]
    unique, repeat = base, 1
    while unique in seen:
        repeat += 1
        unique = f"{base}-{repeat}"
    seen.add(unique)
    return unique


def _joined(outputs: list[Any]) -> list[Any]:
    joined: list[Any] = []
    for output in outputs:
        same = joined and output.output_type == "stream" and joined[-1].get("name") == output.name
        if same:
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def _carry_alt_text(cell: Any) -> None:
    """Copy a figure's alt text to where the site's renderer reads it: the cell's metadata."""
    settings = cell.metadata.pop("mystnb", {})
    settings.pop("image", None)
    for output in cell.outputs:
        alt = output.get("metadata", {}).get("image/png", {}).get("alt")
        if alt:
            settings["image"] = {"alt": alt}
    if settings:
        cell.metadata["mystnb"] = nbformat.from_dict(settings)
