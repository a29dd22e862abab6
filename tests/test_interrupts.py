"""More than fifty kills at random moments: what a command writes is the old file or the new one, whole.

One process imports what a job needs, then forks a child for each attempt; the child does the job over and
over until it is killed, and rests after each for as long as the job took: a kill comes in the midst of it or
after it.
"""

import gzip
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
KILLS = {"experiments": 12, "progress": 18, "refresh": 8, "download": 14}  # fewer of what takes longest

Start = Callable[[int], int]

FORK = """
import os, sys, time
{imports}
print("ready", flush=True)
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        n = int(line)
        while True:
            began = time.monotonic()
            {job}
            time.sleep(time.monotonic() - began)
            n += 1
    print(pid, flush=True)
    os.waitpid(pid, 0)
"""

REFRESH = """
path = Path(sys.argv[1]) / "01-a.ipynb"
notebook = nbformat.read(path, as_version=4)
notebook.cells[-1].source = f"{{n}} + 0"
replace(path.with_name("edited.ipynb"), nbformat.writes(notebook).encode())
refresh(path.with_name("edited.ipynb"))
path.with_name("stored").touch()
"""


@contextmanager
def forking(folder: Path, imports: str, job: str, **environment: str) -> Iterator[Start]:
    """Yield a function that starts the job with a number and returns the process."""
    source = FORK.format(imports=imports, job=job.strip().replace("\n", "\n" + 12 * " "))
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", source, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tools"), **environment},
    ) as process:  # fmt: skip
        said, ask = process.stdout, process.stdin
        assert said is not None
        assert ask is not None
        assert said.readline() == "ready\n"

        def start(number: int) -> int:
            print(number, file=ask, flush=True)
            return int(said.readline())

        yield start
        ask.close()


def kills(start: Start, path: Path, number: int) -> Iterator[int]:
    """Kill the job ``number`` times, up to twice as late as it first wrote ``path``; yield its numbers."""
    began = time.monotonic()
    process = start(0)
    while not path.exists():
        time.sleep(0.001)
        assert time.monotonic() < began + 120, "nothing was ever written"
    lasts = time.monotonic() - began
    os.kill(process, signal.SIGKILL)
    yield 0
    rng = random.Random(0)
    for i in range(1, number):
        process = start(i * 1000)
        time.sleep(rng.uniform(0, 2 * lasts))
        os.kill(process, signal.SIGKILL)
        yield i * 1000


def test_experiments(tmp_path: Path) -> None:
    imports = """
from pathlib import Path
import numpy as np
from bnlib.lab import records
from bnlib.lab.registry import Experiment
folder = Path(sys.argv[1])

def measure(settings, seeds):
    return {{"value": np.arange(50_000) % 7 + np.array(seeds)[:, None] + settings["plus"]}}
"""
    job = """
experiment = Experiment("trial", {{"part": {{"plus": n}}}}, 2, 1, measure)
records.run(experiment, folder=folder)
"""
    found = set()
    path = tmp_path / "trial.json"
    with forking(tmp_path, imports.format(), job.format()) as start:
        for _ in kills(start, path, KILLS["experiments"]):
            record = json.loads(path.read_bytes())
            plus = record["settings"]["part"]["plus"]
            assert [row[0] for row in record["metrics"]["part"]["value"]] == [plus, plus + 1]
            found.add(plus)
            partial = tmp_path / ".trial.part"
            assert not partial.exists() or json.loads(partial.read_bytes())["finished"]
    assert len(found) > 1, "no record was ever replaced"


def test_progress(tmp_path: Path) -> None:
    imports = "from bnlib.exercises import store"
    job = 'store.record(f"{n}." + "0" * 10_000)'
    solved: set[str] = set()
    path = tmp_path / "progress.json"
    with forking(tmp_path, imports, job, BNLIB_DATA=str(tmp_path)) as start:
        for _ in kills(start, path, KILLS["progress"]):
            now = set(json.loads(path.read_bytes())["solved"])
            assert solved <= now, "what was solved is lost"
            solved = now
    assert len(solved) > 1
    assert not list(tmp_path.glob("*damaged*"))


def test_refresh(tmp_path: Path) -> None:
    cells = [nbformat.v4.new_markdown_cell("# A"), nbformat.v4.new_code_cell("0 + 0")]
    for cell, name in zip(cells, "ab", strict=True):
        cell.id = name
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "01-a.ipynb")
    imports = """
from pathlib import Path
import nbformat
from bnlib.atomic import replace
from refresh import refresh
"""
    outputs = set()
    path = tmp_path / "edited.ipynb"
    with forking(tmp_path, imports, REFRESH.format()) as start:
        for _ in kills(start, tmp_path / "stored", KILLS["refresh"]):
            cell = nbformat.read(path, as_version=4).cells[-1]
            shown = [output.data["text/plain"] for output in cell.outputs]
            assert shown in ([], [cell.source.split()[0]]), "an output of another cell's source"
            outputs.add(tuple(shown))
    assert len(outputs) > 1, "nothing was ever stored"


class Slow(BaseHTTPRequestHandler):
    """Serves one file, a piece at a time."""

    content = b""

    def do_GET(self) -> None:
        """Send the file."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        for i in range(0, len(self.content), 4096):
            try:
                self.wfile.write(self.content[i : i + 4096])
            except OSError:
                return
            time.sleep(0.002)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_download(tmp_path: Path) -> None:
    side = 500
    plain = bytes((0, 0, 8, 2)) + 2 * side.to_bytes(4, "big") + random.Random(0).randbytes(side * side)
    Slow.content = gzip.compress(plain, mtime=0)
    server = HTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    imports = f"""
from pathlib import Path
from bnlib.lab import originals
originals.SITE = "http://127.0.0.1:{server.server_port}/"
original = originals.Original(
    "a.gz", ({side}, {side}), "{hashlib.sha256(plain).hexdigest()}",
    "{hashlib.md5(Slow.content, usedforsecurity=False).hexdigest()}",
)
cached = Path(sys.argv[1]) / "fashion-mnist" / "a.gz"
"""
    job = "cached.unlink(missing_ok=True)\noriginals._content(original)"
    seen = set()
    path = tmp_path / "fashion-mnist" / "a.gz"
    try:
        with forking(tmp_path, imports, job, BNLIB_CACHE=str(tmp_path)) as start:
            for _ in kills(start, path, KILLS["download"]):
                assert not path.exists() or path.read_bytes() == Slow.content
                seen.add(path.exists())
    finally:
        server.shutdown()
        server.server_close()
    assert seen == {True, False}, "the kills all came at one stage"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the download on this machine."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
