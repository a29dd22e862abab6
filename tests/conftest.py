import os
from collections import defaultdict

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None, database=None, max_examples=60)
settings.load_profile("repeatable")


def pytest_collection_modifyitems(config, items):
    # `make mutants` runs thousands of times: each time, some parameters of each test are enough.
    most = int(os.environ.get("PARAMETERS_OF_EACH_TEST", "0"))
    if not most:
        return
    alike = defaultdict(list)
    for item in items:
        alike[item.nodeid.split("[")[0]].append(item)
    kept = {item for same in alike.values() for item in same[:: -(-len(same) // most)]}
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]
