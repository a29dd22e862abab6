from itertools import count

import pytest

from bnlib.exercises import checker, run, store

numbers = count()


@pytest.fixture(autouse=True)
def data_folder(tmp_path_factory, monkeypatch):
    """Keep the progress of the tests apart, and time limits short; few tests make this folder."""
    folder = tmp_path_factory.getbasetemp() / f"data-{next(numbers)}"
    monkeypatch.setenv("BNLIB_DATA", str(folder))
    monkeypatch.setattr(store, "_in_memory", set())
    monkeypatch.setattr(store, "_notes", {})
    monkeypatch.setattr(checker, "_solutions_shown", set())
    monkeypatch.setattr(run, "CASE_SECONDS", 2.0)
    return folder


@pytest.fixture
def short_limit(monkeypatch):
    monkeypatch.setattr(run, "CASE_SECONDS", 0.3)
