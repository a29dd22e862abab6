"""The example for torchrun runs, and shared statistics make it one process with the whole batch."""

import socket
import subprocess
import sys
from subprocess import PIPE

import numpy as np
import pytest
import torch

from bnlib.lab import distributed
from bnlib.lab.distributed import NETWORKS, PARTS, compare
from bnlib.lab.experiments.across_devices import across_devices, collectives
from bnlib.lab.processes import run_on


def short(part, **changes):
    return {**PARTS[part], "steps": 20, **changes}


@pytest.mark.parametrize("network", NETWORKS)
def test_shared_statistics_are_those_of_one_process_with_the_whole_batch(network):
    first, second = run_on(2, compare, short(f"{network}, shared"), [0, 1])
    (whole,) = run_on(1, compare, short(f"{network}, by process", samples=4), [0, 1])
    (apart, _) = run_on(2, compare, short(f"{network}, by process"), [0, 1])
    for name, shape in (("loss_curve", (2, 10)), ("train_loss", (2,)), ("test_accuracy", (2,))):
        np.testing.assert_array_equal(first[name], second[name])
        assert np.shape(first[name]) == shape
    start = np.s_[:, :4]  # later steps multiply what float32 rounds
    np.testing.assert_allclose(first["loss_curve"][start], whole["loss_curve"][start], rtol=1e-3)
    assert np.abs(apart["loss_curve"] - whole["loss_curve"])[start].max() > 0.02


def test_the_experiment_is_the_example_on_four_processes(monkeypatch):
    monkeypatch.setattr("bnlib.lab.experiments.across_devices.PROCESSES", 2)
    found = across_devices(short("MLP, shared"), [3])
    np.testing.assert_array_equal(
        found["loss_curve"], run_on(2, compare, short("MLP, shared"), [3])[0]["loss_curve"]
    )


def test_the_times_of_collectives_are_by_repetition_and_size():
    found = collectives({"processes": 2, "bytes": [8, 1 << 20], "channels": [16]}, [0, 1])
    assert {name: v.shape for name, v in found.items()} == {
        "all_reduce": (2, 2),
        "by_process": (2, 1),
        "shared": (2, 1),
    }
    assert all((v > 0).all() for v in found.values())
    assert (found["all_reduce"][:, 1] > found["all_reduce"][:, 0]).all()


TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
SHORT = ["-m", "bnlib.lab.distributed", "--steps", "10", "--seeds", "2"]


def all_parts_are_in(printed):
    lines = [line for line in printed.splitlines() if not line.startswith("[Gloo]")]
    assert [line[:16].strip() for line in lines] == list(PARTS)
    assert all("test accuracy 0." in line for line in lines)


def test_torchrun_runs_it():
    command = [*TORCHRUN, "--standalone", "--nproc-per-node", "2", *SHORT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    all_parts_are_in(done.stdout)


def test_two_nodes_run_it_together():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    where = ["--rdzv-id", "bn", "--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}"]
    command = [*TORCHRUN, "--nnodes", "2", "--nproc-per-node", "1", *where, *SHORT]
    nodes = [subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True) for _ in range(2)]
    try:
        said = [node.communicate(timeout=300) for node in nodes]
    finally:
        for node in nodes:
            node.kill()
    assert [node.returncode for node in nodes] == [0, 0], said
    all_parts_are_in("".join(printed for printed, _ in said))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "15"], "expected --steps to be a positive multiple of 10, got 15"),
        (["--steps", "0"], "expected --steps to be a positive multiple of 10, got 0"),
        (["--seeds", "1"], "expected at least 2 --seeds, got 1"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_the_start(options, message, capsys):
    with pytest.raises(SystemExit):
        distributed.main(options)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("gpus", "processes", "expected"), [(0, 4, "cpu"), (2, 4, "cpu"), (4, 4, "cuda:3"), (8, 0, "cpu")]
)
def test_each_process_gets_a_gpu_if_all_of_the_machine_do(gpus, processes, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert str(distributed.device()) == expected
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: False)
    assert str(distributed.device()) == "cpu"
