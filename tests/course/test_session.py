import random

import matplotlib as mpl
import numpy as np
import pytest
import torch

from bnlib.course import COLORS, setup


@pytest.fixture(autouse=True)
def torch_put_back():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_printoptions(profile="default")


def draws():
    return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002


def printed():
    arrays = [np.linspace(-1e-7, 1e3, 2000), np.arange(8.0), np.array([1e-5, np.nan])]
    return [str(x) for x in arrays] + [str(torch.from_numpy(x)) for x in arrays]


def style():
    """Return matplotlib's parameters but for the backend, which is chosen when a figure first needs it."""
    return {name: mpl.rcParams[name] for name in mpl.rcParams if name != "backend"}


def test_each_call_starts_the_same_random_numbers():
    setup()
    first = draws()
    assert draws() != first
    setup()
    assert draws() == first


def test_the_seed_changes_every_generator():
    setup(0)
    zero = draws()
    setup(1)
    assert all(a != b for a, b in zip(zero, draws(), strict=True))


def test_each_call_puts_the_figure_style_back():
    setup()
    before = style()
    mpl.rcParams.update({"lines.linewidth": 9.0, "axes.grid": False, "xtick.color": "red"})
    assert style() != before
    setup()
    assert style() == before


def test_the_figure_style_is_the_books():
    setup()
    cycle = mpl.rcParams["axes.prop_cycle"].by_key()["color"]
    assert cycle == [color for method, color in COLORS.items() if method != "theory"]
    assert mpl.rcParams["axes.grid"]


def test_each_call_puts_the_printed_digits_back():
    setup()
    first = printed()
    np.set_printoptions(precision=2, suppress=False, threshold=5, edgeitems=1, sign="+", floatmode="fixed")
    torch.set_printoptions(precision=2, sci_mode=True, threshold=5, edgeitems=1, linewidth=40)
    assert all(a != b for a, b in zip(first, printed(), strict=True))
    setup()
    assert printed() == first


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_follow_the_environment(monkeypatch, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    torch.set_num_threads(4)
    setup()
    assert torch.get_num_threads() == threads


def test_one_thread_where_the_environment_names_none(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(4)
    setup()
    assert torch.get_num_threads() == 1
