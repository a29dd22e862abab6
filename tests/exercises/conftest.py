import pytest

from bnlib.exercises import checker, run, store


@pytest.fixture(autouse=True)
def data_folder(tmp_path, monkeypatch):
    """Keep the progress of the tests apart, and time limits short."""
    monkeypatch.setenv("BNLIB_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(store, "_in_memory", set())
    monkeypatch.setattr(store, "_notes", {})
    monkeypatch.setattr(checker, "_solutions_shown", set())
    monkeypatch.setattr(run, "CASE_SECONDS", 2.0)
    return tmp_path / "data"


@pytest.fixture
def short_limit(monkeypatch):
    monkeypatch.setattr(run, "CASE_SECONDS", 0.3)
