"""The file that keeps which exercises are solved."""

import json
import subprocess
import sys

import pytest
from filelock import FileLock

from bnlib import atomic
from bnlib.exercises import EXERCISES, check, progress, store


def answer(*all):
    return EXERCISES["2.1"].solution(*all)


def stored(folder):
    return json.loads((folder / "progress.json").read_text())["solved"]


def forget(monkeypatch):
    monkeypatch.setattr(store, "_in_memory", set())
    monkeypatch.setattr(store, "_notes", {})


def test_the_file_in_full(data_folder):
    check("2.1", answer)
    text = (data_folder / "progress.json").read_text(encoding="utf-8")
    assert text == '{\n "version": 1,\n "solved": [\n  "2.1"\n ]\n}\n'


def test_what_is_known_is_not_written_again(data_folder, monkeypatch):
    check("2.1", answer)
    monkeypatch.setattr(store, "_write", lambda *_: pytest.fail("expected no second file"))
    check("2.1", answer)
    assert progress().note == ""


def test_the_folders_above_are_made(tmp_path, monkeypatch):
    monkeypatch.setenv("BNLIB_DATA", str(tmp_path / "a" / "b"))
    check("2.1", answer)
    assert stored(tmp_path / "a" / "b") == ["2.1"]


def test_what_another_notebook_has_mended_meanwhile_is_read(data_folder, monkeypatch):
    check("2.1", answer)
    (data_folder / "progress.json").write_bytes(b"{")
    read, seen = store._read, []

    def mended(path):
        seen.append(path)
        if len(seen) == 2:
            store._write(path, {"1.1"})
        return read(path)

    monkeypatch.setattr(store, "_read", mended)
    assert progress().solved == ("1.1", "2.1")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000, "expected a list, got lists"),
        (b"{}", "expected an object with a list of texts, 'solved'"),
    ],
)
def test_the_error_of_a_damaged_file(tmp_path, content, message):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=f"^{message}"):
        store._read(tmp_path / "file")


def test_a_correct_answer_is_kept(data_folder, monkeypatch):
    check("2.1", answer)
    check("2.2", (0, 2, 3))
    check("2.2", (1, 2, 3))
    assert stored(data_folder) == ["2.1", "2.2"]
    forget(monkeypatch)
    assert progress().solved == ("2.1", "2.2")
    assert progress().note == ""


def test_wrong_answers_and_stubs_write_nothing(data_folder):
    check("2.1", ...)
    check("2.1", lambda *all: 2 * answer(*all))
    assert progress().solved == ()
    assert not data_folder.exists()


def test_no_file_is_left_over(data_folder):
    check("2.1", answer)
    assert {path.name for path in data_folder.iterdir()} <= {"progress.json", "progress.lock"}


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[]", b"{}", b'{"solved": 3}', b'{"solved": [3]}', b"[" * 100_000, b"null"],
)
def test_a_damaged_file_is_kept_aside(data_folder, content):
    data_folder.mkdir()
    (data_folder / "progress.json").write_bytes(content)
    assert progress().solved == ()
    assert "damaged" in progress().note
    assert "`progress.damaged-1.json`" in repr(progress())
    assert (data_folder / "progress.damaged-1.json").read_bytes() == content
    assert check("2.1", answer).passed
    assert stored(data_folder) == ["2.1"]


def test_what_is_solved_outlives_a_damaged_file(data_folder):
    check("2.1", answer)
    (data_folder / "progress.json").write_bytes(b"{")
    assert progress().solved == ("2.1",)
    assert stored(data_folder) == ["2.1"]


def test_a_file_that_cannot_be_read(data_folder):
    (data_folder / "progress.json").mkdir(parents=True)
    assert progress().solved == ()
    name = "PermissionError" if sys.platform == "win32" else "IsADirectoryError"
    assert progress().note == f"The list of solved exercises cannot be read ({name})."


def test_a_second_damaged_file_does_not_replace_the_first(data_folder):
    data_folder.mkdir()
    for content in (b"one", b"two"):
        (data_folder / "progress.json").write_bytes(content)
        check("2.1", answer)
    assert (data_folder / "progress.damaged-1.json").read_bytes() == b"one"
    assert (data_folder / "progress.damaged-2.json").read_bytes() == b"two"


def test_a_folder_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BNLIB_DATA", str(tmp_path / "file" / "data"))
    assert check("2.1", answer).passed
    assert progress().solved == ("2.1",)
    assert "cannot be saved" in progress().note
    assert str(tmp_path) not in progress().note


def test_a_file_that_cannot_be_replaced(data_folder, monkeypatch):
    def refuse(path, ids):
        raise PermissionError(13, "denied")

    monkeypatch.setattr(store, "_write", refuse)
    assert check("2.1", answer).passed
    assert "PermissionError" in progress().note
    assert progress().solved == ("2.1",)


def test_an_interrupted_write_leaves_the_old_file(data_folder, monkeypatch):
    check("2.1", answer)

    class Interrupted(BaseException):
        pass

    def stop(*_):
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "replace", stop)
        with pytest.raises(Interrupted):
            store.record("2.2")
    assert stored(data_folder) == ["2.1"]
    assert not list(data_folder.glob("*.tmp"))


def test_a_locked_file_is_waited_for_only_shortly(data_folder, monkeypatch):
    monkeypatch.setattr(store, "LOCK_SECONDS", 0.1)
    data_folder.mkdir()
    with FileLock(data_folder / "progress.lock"):
        assert check("2.1", answer).passed
        assert "Timeout" in progress().note
    check("2.2", (0, 2, 3))
    assert stored(data_folder) == ["2.1", "2.2"], "what could not be saved is saved with the next"
    assert progress().note == ""


@pytest.mark.parametrize("missing", ["filelock", "platformdirs"])
def test_missing_packages_are_not_fatal(monkeypatch, missing, tmp_path):
    monkeypatch.setitem(sys.modules, missing, None)
    if missing == "platformdirs":
        monkeypatch.delenv("BNLIB_DATA")
    assert check("2.1", answer).passed
    assert f"`{missing}` is not installed" in progress().note


def test_the_folder_of_the_operating_system(monkeypatch, tmp_path):
    monkeypatch.delenv("BNLIB_DATA")
    monkeypatch.setattr(
        "platformdirs.user_data_path", lambda name, appauthor: tmp_path / f"{name} {appauthor}"
    )
    check("2.1", answer)
    assert stored(tmp_path / "bnlib False") == ["2.1"]


def test_notebooks_at_once_lose_nothing(data_folder):
    code = """
import sys
from bnlib.exercises import store
for i in range(20):
    store.record(f"{sys.argv[1]}.{i}")
"""
    workers = [subprocess.Popen([sys.executable, "-c", code, str(k)]) for k in range(3)]
    assert [worker.wait(30) for worker in workers] == [0, 0, 0]
    assert len(stored(data_folder)) == 60
