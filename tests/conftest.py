import gc
import os
from collections import defaultdict
from multiprocessing import forkserver
from threading import RLock

from hypothesis import settings
from tqdm import tqdm

settings.register_profile("repeatable", derandomize=True, deadline=None, database=None, max_examples=60)
settings.load_profile("repeatable")


# `make mutants` runs thousands of times: each time, some parameters of each test are enough.
MOST = int(os.environ.get("PARAMETERS_OF_EACH_TEST", "0"))


def forget_processes():
    """Start other processes anew, which know of the mutant, unlike those from before a fork.

    A lock that all forks share stays locked for ever if one of them is ended while it holds it.
    """
    from bnlib.lab import processes

    tqdm.set_lock(RLock())
    processes.waiting.cache_clear()
    forkserver._forkserver.__init__()


if MOST:
    os.register_at_fork(after_in_child=forget_processes)


def pytest_collection_modifyitems(config, items):
    if not MOST:
        return
    alike = defaultdict(list)
    for item in items:
        alike[item.nodeid.split("[")[0]].append(item)
    kept = {item for same in alike.values() for item in same[:: -(-len(same) // MOST)]}
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]


def pytest_collection_finish():
    """Spare the collector of garbage what is there to stay: ten thousand tests, PyTorch, Matplotlib."""
    gc.collect()
    gc.freeze()
