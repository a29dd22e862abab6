"""Keep which exercises are solved, in one JSON file in the user's data folder.

The folder is ``$BNLIB_DATA``, or the one that the operating system has for this. A lock makes two
notebooks take turns at changing the file, and the file is replaced in one step, so it is whole at any
time. No trouble with it is fatal: what is solved is kept in memory too, and `note` says what went wrong.
"""

from __future__ import annotations

import json
import os
from collections.abc import Set
from pathlib import Path

from bnlib.atomic import replace

__all__ = ["note", "record", "solved"]

LOCK_SECONDS = 2.0

_in_memory: set[str] = set()
_notes: dict[str, str] = {}


def note() -> str:
    """Say what went wrong with the file in this session; empty if nothing did."""
    return " ".join(_notes.values())


def record(id: str) -> None:
    """Add an exercise to the solved ones, in this session and, if possible, in the file.

    Args:
        id: number of the exercise.
    """
    _in_memory.add(id)
    _update(_in_memory)


def solved() -> frozenset[str]:
    """Read the numbers of the solved exercises, from the file and from this session."""
    try:
        stored: Set[str] = _read(_path())
    except ValueError:
        stored = _update(_in_memory)
    except Exception as error:
        _notes["read"] = f"The list of solved exercises cannot be read ({_name(error)})."
        stored = set()
    return frozenset(stored | _in_memory)


def _path() -> Path:
    named = os.environ.get("BNLIB_DATA")
    if named:
        return Path(named) / "progress.json"
    from platformdirs import user_data_path

    return user_data_path("bnlib", appauthor=False) / "progress.json"


def _update(ids: Set[str]) -> set[str]:
    """Add to the file under its lock, set it aside first if it is damaged, and return all that it holds."""
    try:
        from filelock import FileLock

        path = _path()
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock"), timeout=LOCK_SECONDS):
            try:
                stored = _read(path)
            except ValueError:
                stored = set()
                aside = _set_aside(path)
                _notes["damaged"] = f"The list of solved exercises was damaged; it is kept as `{aside.name}`."
            if not ids <= stored:
                _write(path, stored | ids)
    except Exception as error:
        reason = f"The list of solved exercises cannot be saved ({_name(error)})."
        _notes["write"] = f"{reason} It lasts until this session ends."
        return set()
    _notes.pop("write", None)
    return stored | ids


def _name(error: Exception) -> str:
    if isinstance(error, ImportError):
        return f"`{error.name}` is not installed"
    return type(error).__name__


def _read(path: Path) -> set[str]:
    """Read the file; ``ValueError`` if it is damaged."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return set()
    except RecursionError:
        raise ValueError("expected a list, got lists inside lists") from None
    ids = content.get("solved") if isinstance(content, dict) else None
    if not isinstance(ids, list) or not all(isinstance(id, str) for id in ids):
        raise ValueError("expected an object with a list of texts, 'solved'")
    return set(ids)


def _set_aside(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"progress.damaged-{number}.json")).exists():
        number += 1
    path.replace(aside)
    return aside


def _write(path: Path, ids: Set[str]) -> None:
    replace(path, (json.dumps({"version": 1, "solved": sorted(ids)}, indent=1) + "\n").encode())
