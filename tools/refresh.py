"""Execute chapters and store them in canonical form: ``python tools/refresh.py 02`` or ``all``."""

import argparse
import asyncio
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path

import nbformat
from canonical import CHAPTERS, canonical, write
from filelock import FileLock
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from tqdm import tqdm
from traitlets.config import Config

# An encrypted connection to the kernel; without it each kernel prints a warning.
_CONFIG = Config({"KernelManager": {"transport_encryption": "auto"}})


def find(names: list[str]) -> list[Path]:
    """Return the notebooks meant by ``02``, ``solutions-1``, a path, or ``all``.

    Raises:
        SystemExit: a name fits no notebook, or more than one.
    """
    notebooks = sorted(CHAPTERS.glob("*.ipynb"))
    if names == ["all"]:
        return notebooks
    found = []
    for name in names:
        stem = Path(name).stem
        fits = [p for p in notebooks if p.stem == stem] or [p for p in notebooks if p.stem.startswith(stem)]
        if len(fits) != 1:
            known = ", ".join(p.stem for p in notebooks) or "none"
            sys.exit(f"expected the name of one chapter ({known}, or all), got {name!r}")
        found += fits
    return found


def refresh(path: Path, *, timeout: int = 600) -> bool:
    """Execute one notebook in an empty folder, store it, and return whether the file changed.

    Two refreshes of the same chapter wait for each other. The old file stays as it is until the new one is
    complete.

    Raises:
        CellExecutionError: a cell raised.
        CellTimeoutError: a cell ran for more than ``timeout`` seconds.
        DeadKernelError: a cell ended the kernel.
    """
    lock = Path(tempfile.gettempdir()) / f"refresh-{hashlib.sha256(str(path).encode()).hexdigest()[:16]}.lock"
    with FileLock(lock), tempfile.TemporaryDirectory() as folder:
        notebook = nbformat.read(path, as_version=4)
        notebook.metadata.pop("widgets", None)
        total = sum(cell.cell_type == "code" for cell in notebook.cells)
        with tqdm(total=total, desc=path.stem, unit="cell", disable=None) as progress:
            client = NotebookClient(
                notebook,
                timeout=timeout,
                kernel_name="python3",
                record_timing=False,
                resources={"metadata": {"path": folder}},
                on_cell_executed=lambda **_: progress.update(),
                config=_CONFIG,
            )
            _execute(client)
        return write(canonical(notebook), path)


def _execute(client: NotebookClient) -> None:
    """Execute in a thread: in the main one nbclient takes Ctrl-C for itself and fails over it."""
    cancel: Future[Callable[[], object]] = Future()

    async def execute() -> None:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        cancel.set_result(lambda: loop.call_soon_threadsafe(task.cancel))
        await client.async_execute()

    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(asyncio.run, execute())
        try:
            done.result()
        except KeyboardInterrupt:
            client.shutdown_kernel = "immediate"
            with suppress(RuntimeError):  # it has just ended by itself
                cancel.result()()
            wait([done])
            raise


def main() -> int:
    """Refresh the chapters named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("chapter", nargs="+", help="such as 02, solutions-1, or all")
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # what is stored comes from the CPU, on every machine
    failed = 0
    for path in find(parser.parse_args().chapter):
        try:
            changed = refresh(path)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            failed += 1
            print(f"{path.stem}: a cell failed; the file is left as it was\n{error}", file=sys.stderr)
        except KeyboardInterrupt:
            print(f"{path.stem}: interrupted; the file is left as it was", file=sys.stderr)
            return 130
        else:
            print(f"{path.stem}: {'stored' if changed else 'unchanged'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
