"""Two machines, each a network namespace of its own: one of them dies in the middle of a run and comes back.

Needs Linux, the right to make network namespaces (root) and ``YOLOGRAPH_SLOW_TESTS=1``, because it takes minutes;
without them it is skipped.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPO, write_tiny_set
from tests.test_train_distributed import PATIENCE, RECIPE, TWO_HEADS, assert_same_run, line, results, run, wait_for

ADDRESSES = ("10.231.77.1", "10.231.77.2")
PORT = 29400


def ip(*arguments: str) -> bool:
    return subprocess.run(["ip", *arguments], capture_output=True).returncode == 0


@pytest.fixture
def machines() -> Iterator[list[str]]:
    """Names of two network namespaces that a cable connects."""
    if os.environ.get("YOLOGRAPH_SLOW_TESTS") != "1":
        pytest.skip("takes minutes; set YOLOGRAPH_SLOW_TESTS=1")
    if shutil.which("ip") is None:
        pytest.skip("needs the command `ip`")
    names = [f"yolograph{os.getpid()}{letter}" for letter in "ab"]
    ends = [f"yg{os.getpid() % 10**6}{letter}" for letter in "ab"]
    try:
        if not all(ip("netns", "add", name) for name in names):
            pytest.skip("this machine does not let us make network namespaces")
        if not ip(
            "link", "add", ends[0], "netns", names[0], "type", "veth", "peer", "name", ends[1], "netns", names[1]
        ):
            pytest.skip("this machine does not let us connect network namespaces")
        for name, end, address in zip(names, ends, ADDRESSES, strict=True):
            done = ip("-n", name, "address", "add", f"{address}/24", "dev", end)
            done = done and ip("-n", name, "link", "set", end, "up") and ip("-n", name, "link", "set", "lo", "up")
            if not done or not ip("netns", "exec", name, "true"):
                pytest.skip("this machine does not let us run commands in network namespaces")
        yield names
    finally:
        for name in names:
            switch_off(name)
            ip("netns", "delete", name)


def switch_off(machine: str) -> None:
    """Kill everything that runs on a machine, as a cut power line would."""
    found = subprocess.run(["ip", "netns", "pids", machine], capture_output=True, text=True).stdout.split()
    for number in found:
        os.kill(int(number), signal.SIGKILL)


def start_on(machine: str, address: str, folder: Path, arguments: str) -> subprocess.Popen[str]:
    job = f"--nnodes 2 --nproc_per_node 1 --max-restarts 3 --rdzv-id job --rdzv-endpoint {ADDRESSES[0]}:{PORT}"
    # A namespace has the name of its machine, by which torchrun would tell who hosts the meeting.
    job += f" --rdzv-conf is_host={address == ADDRESSES[0]}"
    launcher = ["-m", "torch.distributed.run", *job.split(), "--rdzv-backend", "c10d", "--local-addr", address]
    interface = f"yg{os.getpid() % 10**6}{machine[-1]}"
    settings = {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(REPO),
        "GLOO_SOCKET_IFNAME": interface,
        # Otherwise torchrun tells a machine that takes another's place nothing of where the processes meet.
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    }
    return subprocess.Popen(
        ["ip", "netns", "exec", machine, sys.executable, *launcher, str(REPO / "train.py"), *line(arguments)],
        cwd=folder,
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_machine_that_dies_and_comes_back_changes_nothing(machines: list[str], tmp_path: Path) -> None:
    write_tiny_set(tmp_path / "tiny")
    (tmp_path / "model.yaml").write_text(TWO_HEADS)
    (tmp_path / "hyp.yaml").write_text(RECIPE % "bn: shared")
    arguments = "--batch-size 4 --epochs 8"
    run(tmp_path, f"{arguments} --name whole", 2)
    first, second = (
        start_on(machine, address, tmp_path, f"{arguments} --name killed")
        for machine, address in zip(machines, ADDRESSES, strict=True)
    )
    wait_for(lambda: len(results(tmp_path, "killed")) >= 2, first)
    switch_off(machines[1])
    second.communicate(timeout=PATIENCE)
    again = start_on(machines[1], ADDRESSES[1], tmp_path, f"{arguments} --name killed")
    outputs = [process.communicate(timeout=PATIENCE)[0] for process in (first, again)]
    assert [first.returncode, again.returncode] == [0, 0], "\n".join(output[-3000:] for output in outputs)
    assert sum("resuming" in output for output in outputs) == 1
    assert_same_run(tmp_path, "killed", tmp_path)
    assert sorted(path.name for path in (tmp_path / "runs/train").iterdir()) == ["killed", "whole"]
