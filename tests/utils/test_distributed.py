"""Several processes as one: sums, gradients, words, errors, restarts; over gloo on this machine."""

from __future__ import annotations

import argparse
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import yaml
from torch import Tensor

from models.checkpoint import Checkpoint, save_checkpoint
from tests.processes import in_processes, results_of
from utils.distributed import World, find_restarted_run, remember_run, spoken_once, start_world
from utils.distributed.gradients import GradientExchange
from utils.distributed.meeting import _welcome, is_later_start
from utils.distributed.place import Place, own_device, read_place
from utils.errors import DataError, UsageError, run_command

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")
SOUND = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


@pytest.fixture(autouse=True)
def no_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*TORCHRUN, "TORCHELASTIC_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)


def test_a_process_alone_needs_no_group_and_copies_nothing() -> None:
    with start_world("cpu") as world:
        assert (world.rank, world.size, world.is_restarted) == (0, 1, False)
        assert not dist.is_initialized()
        given = torch.ones(3)
        assert world.sum_over_ranks([given])[0] is given
        parameter = torch.nn.Parameter(torch.ones(2))
        losses = {"detect": given}
        assert world.reduce_gradients([parameter], [True], losses) == losses
        assert parameter.grad is None
        assert world.gather_objects("a") == ["a"] and world.broadcast_object("b") == "b"
        assert world.messages_of_all(["x", "x"]) == ["x"]
        assert world.any_rank(True) and not world.any_rank(False)
        with world.first_rank_first():
            world.barrier()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"WORLD_SIZE": None}, "WORLD_SIZE is not set, but RANK=1"),
        ({"RANK": "two"}, "RANK is 'two', which is no whole number"),
        ({"RANK": "2"}, "do not fit together"),
        ({"MASTER_PORT": None}, "MASTER_PORT is not set"),
        ({"MASTER_PORT": "70000"}, "70000 is no port"),
    ],
)
def test_broken_variables_of_torchrun_are_named(
    change: dict[str, str | None], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (SOUND | change).items():
        if value is not None:
            monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=words):
        read_place()


def test_every_process_gets_the_gpu_of_its_local_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(rank=5, size=8, local_rank=1, local_size=2, machine=2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert own_device("", place) == torch.device("cuda:1")
    assert own_device("2,3", place) == torch.device("cuda:3")
    assert own_device("cpu", place) == torch.device("cpu")
    for wanted, words in (("0", "names 1 GPU"), ("1,1", "twice"), ("mps", "Apple"), ("7,8", "4 CUDA GPU")):
        with pytest.raises(UsageError, match=words):
            own_device(wanted, place)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match=r"this machine has 1 GPU.*started 2 processes here"):
        own_device("", place)


def test_a_taken_port_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        place = SOUND | {"RANK": "0", "LOCAL_RANK": "0", "MASTER_PORT": str(taken.getsockname()[1])}
        for name, value in place.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(UsageError, match=r"port .* is taken"), start_world("cpu"):
            pass


def exchange_everything(world: World) -> dict[str, Any]:
    order: list[str] = []
    large = torch.tensor(2**24 + 1, dtype=torch.int64)
    sums = world.sum_over_ranks([large, torch.tensor([0.5, world.rank]), torch.tensor(world.rank == 1)])
    pending = world.start_sum([torch.ones(2)])
    flags = [world.any_rank(world.rank == 2), world.any_rank(False)]
    tensors = [torch.full((2, 3), float(world.rank)), torch.tensor([world.rank]), torch.full((4,), 1.0 + world.rank)]
    world.broadcast_tensors(tensors)
    messages = world.messages_of_all(["all", f"of {world.rank % 2}"])
    world.remember("folder", "runs/exp")
    with world.first_rank_first():
        order.append(f"{time.monotonic():.6f}")
        time.sleep(0.3 if world.local_rank == 0 else 0)
        order.append(f"{time.monotonic():.6f}")
    return {
        "sums": [value.tolist() for value in sums],
        "pending": pending.wait()[0].tolist(),
        "flags": flags,
        "tensors": [tensor.tolist() for tensor in tensors],
        "object": world.broadcast_object({"tensor": torch.ones(2), "rank": world.rank}),
        "made": world.from_first_rank(lambda: world.rank + 10),
        "gathered": world.gather_objects(world.rank),
        "on_first": world.gather_on_first_rank(world.rank),
        "messages": messages,
        "remembered": (world.remembered("folder"), world.remembered("nothing")),
        "times": [float(entry) for entry in order],
    }


def test_four_processes_on_two_machines_tell_each_other_everything() -> None:
    found = results_of(4, exchange_everything, machines=2)
    for rank, entry in enumerate(found):
        assert entry["sums"] == [4 * (2**24 + 1), [2.0, 6.0], True]
        assert entry["pending"] == [4.0, 4.0]
        assert entry["flags"] == [True, False]
        assert entry["tensors"] == [[[0.0] * 3] * 2, [0], [1.0] * 4]
        assert entry["object"]["rank"] == 0 and entry["made"] == 10
        assert entry["gathered"] == [0, 1, 2, 3]
        assert entry["on_first"] == ([0, 1, 2, 3] if rank == 0 else None)
        assert entry["messages"] == (["all", "of 0", "of 1"] if rank == 0 else [])
        assert entry["remembered"] == ("runs/exp", None)
    for first, second in ((0, 1), (2, 3)):
        assert found[second]["times"][0] >= found[first]["times"][1], "a neighbour came before its machine's first"


def parameters() -> list[torch.nn.Parameter]:
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(3, 5, 3).to(memory_format=torch.channels_last)
    return [*convolution.parameters(), torch.nn.Parameter(torch.zeros(7)), torch.nn.Parameter(torch.zeros(()))]


def test_gradients_become_parts_of_one_tensor_that_is_used_again() -> None:
    exchange, listed = GradientExchange(), parameters()
    expected = [True, True, False, True]
    calls: list[int] = []

    def double(flat: Tensor) -> None:
        calls.append(flat.numel())
        flat.mul_(2)

    def step() -> tuple[list[Tensor | None], Tensor]:
        gradients = [torch.randn_like(p) for p in listed]
        for parameter, gradient in zip(listed[:2], gradients, strict=False):
            parameter.grad = gradient
        (loss,) = exchange.reduce(listed, expected, [torch.tensor([1.0, 2.0])], double)
        assert loss.tolist() == [2.0, 4.0]
        for parameter, gradient in zip(listed[:2], gradients, strict=False):
            assert torch.equal(parameter.grad, 2 * gradient)
            assert parameter.grad.stride() == parameter.stride()
        assert listed[2].grad is None and listed[3].grad == 0
        found = [p.grad for p in listed]
        for parameter in listed:
            parameter.grad = None
        return found, loss

    first, loss = step()
    place = first[0].data_ptr()
    values = first[0].clone()
    kept, _ = step()
    assert kept[0].data_ptr() != place and torch.equal(first[0], values), "gradients that somebody holds stay"
    del first, kept
    again, _ = step()
    place = again[0].data_ptr()
    del again
    assert step()[0][0].data_ptr() == place, "and their memory is used again as soon as nobody does"
    assert loss.tolist() == [2.0, 4.0] and len(calls) == 4
    listed[2].grad = torch.zeros(7)
    with pytest.raises(ValueError, match="no head of this step"):
        exchange.reduce(listed, expected, [], double)


class TwoHeads(torch.nn.Module):
    """A trunk and two heads, each a row of its own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.trunk = torch.nn.Conv2d(3, 6, 3)
        self.heads = torch.nn.ModuleDict({name: torch.nn.Conv2d(6, 2, 1) for name in ("detect", "segment", "idle")})

    def loss(self, name: str, images: Tensor) -> Tensor:
        return self.heads[name](torch.nn.functional.silu(self.trunk(images))).square().sum()


def gradients_of_a_step(world: World, shares: list[dict[str, int]]) -> dict[str, Tensor | None]:
    """Return the gradients after a step on 8 images per head, of which each process has the named number."""
    model = TwoHeads()
    images = torch.randn(2, 8, 3, 6, 6, generator=torch.Generator().manual_seed(2))
    sums = {}
    for position, name in enumerate(("detect", "segment")):
        start = sum(share[name] for share in shares[: world.rank])
        count = shares[world.rank][name]
        total = world.sum_over_ranks([torch.tensor(count)])[0]
        sums[name] = torch.zeros(1)
        if count:
            loss = model.loss(name, images[position, start : start + count]) / total
            loss.backward()
            sums[name] += loss.detach()
    used = [not name.startswith("heads.idle") for name, _ in model.named_parameters()]
    losses = world.reduce_gradients(list(model.parameters()), used, sums)
    return {name: p.grad for name, p in model.named_parameters()} | {f"loss {n}": v for n, v in losses.items()}


@pytest.mark.parametrize(
    "shares",
    [
        [{"detect": 4, "segment": 4}, {"detect": 4, "segment": 4}],
        [{"detect": 8, "segment": 3}, {"detect": 0, "segment": 5}],
        [{"detect": 8, "segment": 0}, {"detect": 0, "segment": 8}],
    ],
    ids=["halves", "a head without images", "each its own head"],
)
def test_heads_of_different_rows_get_the_gradients_of_one_process(shares: list[dict[str, int]]) -> None:
    whole = gradients_of_a_step(World(), [{"detect": 8, "segment": 8}])
    for found in results_of(2, gradients_of_a_step, shares):
        assert found.keys() == whole.keys()
        for name, value in found.items():
            if name.startswith("heads.idle"):
                assert value is None
            else:
                torch.testing.assert_close(value, whole[name], rtol=1e-5, atol=1e-6)


def fail(world: World, kind: str) -> None:
    world.barrier()
    if kind == "all":
        raise DataError("all alike")
    if world.rank == 1 and kind == "data":
        raise DataError("labels/7.txt: bad label")
    if world.rank == 1 and kind == "bug":
        raise IndexError("a defect")
    if world.rank == 1 and kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "cache":
        with world.first_rank_first():
            if world.rank == 0:
                raise DataError("images/3.jpg: no cache")
    world.sum_over_ranks([torch.ones(2)])
    world.barrier()


@pytest.mark.parametrize(
    ("kind", "codes", "sentence"),
    [
        ("data", [3, 3, 3], "error: labels/7.txt: bad label\n"),
        ("all", [3, 3, 3], "error: all alike\n"),
        ("cache", [3, 3, 3], "error: images/3.jpg: no cache\n"),
        ("bug", [1, 1, 1], "IndexError: a defect\n"),
        ("kill", [1, -9, 1], None),
    ],
)
def test_a_failure_ends_all_processes_with_one_sentence(kind: str, codes: list[int], sentence: str | None) -> None:
    started = time.monotonic()
    ended = in_processes(3, fail, kind)
    assert [entry.exit_code for entry in ended] == codes
    spoken = [entry.stderr for entry in ended if entry.stderr]
    assert len(spoken) == 1, spoken
    if sentence is None:
        assert "another process of this run ended" in spoken[0] and spoken[0].count("\n") == 1
    else:
        assert spoken == [sentence]
    assert time.monotonic() - started < 60, "nobody waits for a time-out"


def test_mistakes_that_all_make_before_they_meet_are_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        with spoken_once():
            raise UsageError("--epochs must be 1 or more")

    for rank, words in ((0, "error: --epochs must be 1 or more\n"), (1, "")):
        monkeypatch.setenv("RANK", str(rank))
        with pytest.raises(SystemExit) as end:
            run_command(main)
        assert (end.value.code, capsys.readouterr().err) == (2, words)


def test_a_new_start_is_not_deceived_by_what_dead_processes_left() -> None:
    common = dist.HashStore()
    names: dict[int, str] = {}

    def join(start: int) -> None:
        # What meet() does in a process other than the first.
        word = f"word of start {start}"
        common.set("hello/1", word)
        names[start] = common.get(f"welcome/{word}").decode()
        dist.PrefixStore(f"start/{names[start]}", common).set("here/1", f'{{"start": {start}}}')

    for start in (1, 2):
        later = threading.Timer(0.2, join, [start])
        later.start()
        store = dist.PrefixStore(f"start/name {start}", common)
        assert _welcome(common, store, f"name {start}", 2, time.monotonic() + 30) == [{"start": start}]
        later.join()
    assert names == {1: "name 1", 2: "name 2"}


def test_a_job_knows_whether_it_has_begun_before(monkeypatch: pytest.MonkeyPatch) -> None:
    job = dist.HashStore()
    assert not is_later_start(job, 0)
    assert not is_later_start(job, 0), "the same process may begin several runs"
    monkeypatch.setattr("utils.distributed.meeting._PROCESS", "another process")
    assert is_later_start(job, 0)


OPTIONS = {"cfg": "a.yaml", "epochs": 5, "batch_size": -1, "dtype": "auto", "img_size": [96], "resume": None}


def write_run(project: Path, name: str, age: float, epochs_done: int | None, **changes: Any) -> Path:
    """Write what a run folder has; ``epochs_done`` None is a run that has saved nothing yet."""
    folder = project / name
    (folder / "weights").mkdir(parents=True)
    saved = OPTIONS | {"batch_size": 8, "dtype": "float32", "project": str(project)} | changes
    (folder / "opt.yaml").write_text(yaml.safe_dump(saved))
    os.utime(folder / "opt.yaml", (time.time() - age,) * 2)
    if epochs_done is not None:
        progress = {"progress": {"epochs_done": epochs_done, "epochs": 5}, "options": {"epochs": 5}}
        checkpoint = Checkpoint("a.yaml", "", {}, {"model": {"w": torch.ones(1)}}, progress)
        save_checkpoint(folder / "weights/last.safetensors", checkpoint)
    return folder


def test_a_restarted_job_finds_its_run(tmp_path: Path) -> None:
    options = argparse.Namespace(**OPTIONS, project=str(tmp_path))
    assert find_restarted_run(options, World()) is None
    write_run(tmp_path, "old", 500, 1)
    wanted = write_run(tmp_path, "exp", 400, 2)
    write_run(tmp_path, "longer", 300, 2, epochs=50)
    write_run(tmp_path, "smaller", 200, 2, img_size=[64])
    assert find_restarted_run(options, World()) == wanted
    write_run(tmp_path, "finished", 100, 5)
    assert find_restarted_run(options, World()) is None, "the newest alike has come to its end"
    write_run(tmp_path, "young", 50, None)
    assert find_restarted_run(options, World()) is None, "the newest alike has nothing to go on from"


def remember_and_find(world: World, project: str) -> Path | None:
    remember_run(Path(project) / "mine", world)
    return find_restarted_run(argparse.Namespace(**OPTIONS, project=project), world)


def test_torchrun_remembers_the_run_of_its_job(tmp_path: Path) -> None:
    mine = write_run(tmp_path, "mine", 400, 2)
    write_run(tmp_path, "of somebody else", 10, 1)
    assert results_of(2, remember_and_find, str(tmp_path)) == [mine, mine]
