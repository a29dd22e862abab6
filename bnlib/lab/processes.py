"""Start processes on this machine that work together as the ranks of a group, from a notebook too."""

from __future__ import annotations

import pickle
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from multiprocessing import get_context, set_forkserver_preload
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

__all__ = ["run_on"]


class Worker(NamedTuple):
    """A process that waits for work, and the connection it comes by."""

    process: BaseProcess
    connection: Connection


def run_on(processes: int, function: Callable[..., Any], *args: Any, timeout: float = 60.0) -> list[Any]:
    """Call ``function(*args)`` on several processes that form a group; return the results in rank order.

    In each of them ``torch.distributed`` is initialized, with the backend gloo and the processes as ranks 0
    to ``processes - 1``. Each has its own copy of the arguments and computes with one thread. The processes
    are started by the first call for their number, which takes seconds, and then wait for the next one.

    Args:
        processes: how many.
        function: of a module that other processes can import, not of a notebook.
        args: for it; anything that ``pickle`` takes, as is the result.
        timeout: seconds that a rank waits for the others in a collective.

    Raises:
        ValueError: ``processes`` is less than 1, or ``function`` is defined in a notebook or script.
        Exception: what the function raised on the first rank to fail; the other ranks are ended.
        RuntimeError: a process ended.
    """
    if processes < 1:
        raise ValueError(f"expected processes to be at least 1, got {processes}")
    if getattr(function, "__module__", "") == "__main__":
        name = getattr(function, "__name__", function)
        raise ValueError(f"expected a function that other processes can import, got {name} of __main__")
    workers = waiting(processes)
    results: dict[int, Any] = {}
    try:
        with tempfile.TemporaryDirectory() as folder:
            store = (Path(folder) / "store").as_uri()
            for rank, worker in enumerate(workers):  # as bytes: processes would share the memory of tensors
                call = rank, processes, store, timeout, function, args
                worker.connection.send_bytes(pickle.dumps(call))
            ranks = {worker.connection: rank for rank, worker in enumerate(workers)}
            while ranks:
                for ready in wait(list(ranks)):
                    rank = ranks.pop(ready)  # type: ignore[call-overload]
                    results[rank] = received(workers[rank].connection, rank)
    except BaseException:  # the other ranks wait for one that will not come
        waiting.cache_clear()
        for worker in workers:
            worker.process.kill()
        raise
    return [results[rank] for rank in range(processes)]


def received(connection: Connection, rank: int) -> Any:
    """Return the result that a rank sends, or raise the exception."""
    try:
        result, error, trace = pickle.loads(connection.recv_bytes())
    except (EOFError, ConnectionError):
        raise RuntimeError(f"expected a result of rank {rank}, got the end of its process") from None
    if error is not None:
        raise error from RuntimeError(f"on rank {rank}\n{trace}")
    return result


@cache
def waiting(processes: int) -> list[Worker]:
    """Start processes that wait for work.

    On Linux they are copies of one fresh process that has PyTorch loaded already.
    """
    context = get_context("forkserver" if sys.platform == "linux" else "spawn")
    set_forkserver_preload(["bnlib.torch", "torch._dynamo"])  # DistributedDataParallel loads the latter
    workers = []
    for _ in range(processes):
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs,), daemon=True)  # type: ignore[attr-defined]
        process.start()
        theirs.close()
        workers.append(Worker(process, ours))
    return workers


def work(connection: Connection) -> None:
    """Do what comes by the connection, until it is closed.

    A rank that fails stays in its group, so that the others do not fail before it is heard.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the process that waits for the result
    torch.set_num_threads(1)
    while True:
        try:
            call = connection.recv_bytes()
        except EOFError:
            return
        try:
            answer = pickle.dumps((as_rank(*pickle.loads(call)), None, ""))
        except Exception as error:
            answer = pickle.dumps((None, error, traceback.format_exc()))
        connection.send_bytes(answer)


def as_rank(
    rank: int, processes: int, store: str, timeout: float, function: Callable[..., Any], args: tuple[Any, ...]
) -> Any:
    """Call the function as one rank of a group."""
    limit = timedelta(seconds=timeout)
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=processes, timeout=limit)
    result = function(*args)
    dist.barrier()  # a rank that leaves at once breaks the connections that others are still making
    dist.destroy_process_group()
    return result
