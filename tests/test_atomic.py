"""A file is replaced whole, whatever happens."""

import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bnlib import atomic
from bnlib.atomic import replace

ROOT = Path(__file__).parents[1]


def test_the_files_permissions_stay(tmp_path):
    path = tmp_path / "a.txt"
    assert replace(path, b"one")
    assert path.stat().st_mode & 0o777 == 0o644
    path.chmod(0o640)
    assert replace(path, b"two")
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    replace(path, b"old")

    def fail(*_):
        # The new text lies in the same folder: only there can it take the old one's place at once.
        assert len(list(tmp_path.iterdir())) == 2
        raise OSError("disk full")

    monkeypatch.setattr(atomic.os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        replace(path, b"new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


WRITER = """
import sys
from pathlib import Path
from bnlib.atomic import replace
path = Path(sys.argv[1])
print("ready", flush=True)
while True:
    for letter in "abc":
        replace(path, letter.encode() * 2_000_000)
"""


def test_a_kill_at_any_moment_leaves_a_whole_file(tmp_path):
    path = tmp_path / "a.txt"
    rng, found = random.Random(0), set()
    replace(path, b"old")
    for _ in range(16):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        text = path.read_text()
        assert text == "old" or text == text[0] * 2_000_000
        found.add(text[0])
    assert len(found) > 1
    left = [p.name for p in tmp_path.iterdir() if p != path]
    assert all(re.fullmatch(r"\.a\.txt\..*\.part", name) for name in left)
    # What a kill leaves behind takes nobody's place.
    assert replace(path, b"new")
    assert path.read_text() == "new"


def test_git_ignores_what_a_kill_leaves_behind(tmp_path):
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    (tmp_path / ".gitignore").write_bytes((ROOT / ".gitignore").read_bytes())
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters" / ".01-why.ipynb.abc123.part").touch()
    (tmp_path / "chapters" / "01-why.ipynb").touch()
    command = ["git", "ls-files", "--others", "--exclude-standard"]
    seen = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert seen.split() == [".gitignore", "chapters/01-why.ipynb"]
