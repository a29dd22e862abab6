"""Functions run on several processes at once, and what goes wrong on one of them is told."""

import os
import signal
import time

import numpy as np
import pytest
import torch
import torch.distributed as dist

from bnlib.lab.processes import run_on, waiting


def place(x):
    """Change the argument, and return rank, size, number of threads, process, and what came."""
    came = x.sum().item()
    x += 1
    return dist.get_rank(), dist.get_world_size(), torch.get_num_threads(), os.getpid(), came


def fail_on(rank, error):
    """Raise an error on one rank, while the others wait for it."""
    if dist.get_rank() == rank:
        raise error
    dist.barrier()


def vanish():
    """End the process of rank 1."""
    if dist.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    dist.barrier()


def test_results_come_in_the_order_of_ranks_from_copies_of_the_arguments():
    x = torch.ones(3)
    found = run_on(3, place, x)
    assert [f[:3] for f in found] == [(rank, 3, 1) for rank in range(3)]
    assert [f[4] for f in found] == [3.0] * 3
    assert len({f[3] for f in found} | {os.getpid()}) == 4
    assert x.sum() == 3.0
    assert [f[3] for f in run_on(3, place, np.ones(3))] == [f[3] for f in found]


def test_the_error_of_a_rank_is_raised_at_once_and_the_next_call_works():
    started = time.perf_counter()
    with pytest.raises(KeyError, match="a message") as told:
        run_on(2, fail_on, 1, KeyError("a message"))
    assert time.perf_counter() - started < 50  # and not when the others have waited for 60 s
    assert "on rank" in str(told.value.__cause__)
    assert "fail_on" in str(told.value.__cause__)
    assert len(run_on(2, place, torch.ones(1))) == 2


def test_a_process_that_ends_is_an_error():
    processes = [worker.process for worker in waiting(2)]
    with pytest.raises(RuntimeError, match=r"expected a result of rank 1, got the end|[Cc]losed|reset"):
        run_on(2, vanish)
    for process in processes:
        process.join(10)
        assert not process.is_alive()


def test_what_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="expected processes to be at least 1, got 0"):
        run_on(0, place)
    monkeypatch.setattr(place, "__module__", "__main__")
    with pytest.raises(ValueError, match="other processes can import, got place of __main__"):
        run_on(1, place)
