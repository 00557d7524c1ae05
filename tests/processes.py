"""Runs a function in several processes, as torchrun would start them, without the seconds that each start takes."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch.distributed as dist

PRELOADED = ["torch", "torchvision.ops", "pytest", "yaml", "models.graph", "train"]
PATIENCE = 120.0


@dataclass
class Ended:
    """How one process ended.

    Attributes:
        result: what the function returned; None if it did not come to its end.
        exit_code: of the process; negative for a signal.
        stderr: what it wrote there.
    """

    result: Any
    exit_code: int
    stderr: str


def in_processes(count: int, work: Callable[..., Any], *arguments: Any, machines: int = 1) -> list[Ended]:
    """Call ``work(world, *arguments)`` in so many processes that form one world; see ``commands``."""
    return commands(count, _in_world, work, arguments, machines=machines)


def _in_world(work: Callable[..., Any], arguments: tuple) -> Any:
    from utils.distributed import start_world

    with start_world("cpu") as world:
        return work(world, *arguments)


def commands(count: int, work: Callable[..., Any], *arguments: Any, machines: int = 1) -> list[Ended]:
    """Call ``work(*arguments)`` as a command in so many processes, and return by rank how they ended.

    Args:
        count: number of processes; one alone has nothing of torchrun's.
        work: a function that can be imported.
        machines: how many machines the processes believe to be on.
    """
    # A server that has imported everything once is forked: a start takes milliseconds, and no thread is inherited.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    # As torchrun does, so that the store outlives every process.
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    local = count // machines
    started = []
    for rank in range(count):
        environment = {
            "RANK": rank,
            "WORLD_SIZE": count,
            "LOCAL_RANK": rank % local,
            "LOCAL_WORLD_SIZE": local,
            "GROUP_RANK": rank // local,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": store.port,
            "TORCHELASTIC_USE_AGENT_STORE": True,
        }
        if count == 1:
            environment = {}
        ours, theirs = context.Pipe()
        process = context.Process(target=_live, args=(theirs, environment, work, arguments), daemon=True)
        process.start()
        theirs.close()
        started.append((process, ours))
    ended = []
    for process, ours in started:
        result, stderr = _last_words(ours)
        process.join(PATIENCE)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(f"a process of {work.__name__} did not end")
        ended.append(Ended(result, process.exitcode, stderr))
    return ended


def results_of(count: int, work: Callable[..., Any], *arguments: Any, machines: int = 1) -> list[Any]:
    """Return what the function returned in each process; all have to come to their end."""
    ended = in_processes(count, work, *arguments, machines=machines)
    assert all(entry.exit_code == 0 for entry in ended), "\n".join(entry.stderr for entry in ended)
    return [entry.result for entry in ended]


def _last_words(connection: Connection) -> tuple[Any, str]:
    """Return result and errors of a process; of one that was killed there are none."""
    try:
        return pickle.loads(connection.recv_bytes()) if connection.poll(PATIENCE) else (None, "")
    except EOFError:
        return None, ""


def _live(connection: Connection, environment: dict[str, Any], work: Callable[..., Any], arguments: tuple) -> None:
    import torch

    from utils.errors import run_command

    torch.set_num_threads(1)
    os.environ.update({name: str(value) for name, value in environment.items()})
    results: list[Any] = []

    stderr, code = io.StringIO(), 0
    with contextlib.redirect_stderr(stderr):
        try:
            run_command(lambda: results.append(work(*arguments)))
        except SystemExit as end:
            code = int(end.code or 0)
        except Exception as error:
            code = 1
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
    # Not connection.send, which would let tensors stay in this process's memory.
    connection.send_bytes(pickle.dumps((results[0] if results and code == 0 else None, stderr.getvalue())))
    sys.exit(code)
