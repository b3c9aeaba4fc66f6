"""Whole runs of two nodes: the same command twice on this machine, over its loopback interface."""

import gc
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch.distributed as dist
from command_line import ROOT, newest, numbers
from several import PLAY, Program, checkpoint, on_ranks, one_line, over, playing, same, start

from omg_lightning import interrupts
from omg_lightning.training import nodes
from omg_lightning.training.nodes import Place, Pulse

TIMES = "time/"  # metrics that differ from run to run


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def both(folder: Path, *words: str, command: str = "fit", second: dict[str, str] | None = None, **env) -> list[Program]:
    """The same command on two nodes of one process each, with a folder for results in common.

    Args:
        folder: of the results; each node runs in a folder of its own below it.
        words: of the command line.
        command: to run.
        second: environment variables of the second node alone.
        env: environment variables of both.
    """
    words = (*PLAY, "--trainer.num_nodes=2", "--trainer.devices=1", f"--trainer.default_root_dir={folder}", *words)
    env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    own = [{"NODE_RANK": "0"}, {"NODE_RANK": "1", **(second or {})}]
    return [start(folder / f"node_{n}", *words, command=command, **env, **own[n]) for n in (0, 1)]


def assert_equal(one: Path, other: Path) -> None:
    """Check that two runs have the same checkpoint and metrics, bit by bit, except times."""
    first, second = checkpoint(one), checkpoint(other)
    for name in ("state_dict", "EpisodeDataModule", "noise", "noise_of_others", "global_step", "optimizer_states"):
        assert same(first[name], second[name]), name
    before, after = numbers(one), numbers(other)
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name] and not name.startswith(TIMES)} == set()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run folder of a `fit` of two nodes that nobody disturbs."""
    folder = tmp_path_factory.mktemp("nodes")
    programs = both(folder)
    for program in programs:
        code, errors = over(program)
        assert code == 0, errors
        assert "Traceback" not in errors
    return newest(folder)


@pytest.mark.slow
def test_two_nodes_do_what_two_processes_of_one_node_do(whole, tmp_path):
    assert [path.name for path in whole.parent.iterdir()] == ["version_0"]
    assert len(checkpoint(whole)["EpisodeDataModule"]["others"]) == 1
    code, errors = over(start(tmp_path, *PLAY, "--trainer.devices=2"))
    assert code == 0, errors
    assert_equal(whole, newest(tmp_path))


@pytest.mark.slow
def test_two_nodes_validate(whole, tmp_path):
    for program in both(tmp_path, "--ckpt_path", str(whole / "last.ckpt"), command="validate"):
        code, errors = over(program)
        assert code == 0, errors
    again, first = numbers(newest(tmp_path)), numbers(whole)
    names = [name for name in again if name.startswith(("return/", "goal/"))]
    assert len(names) > 10
    assert {name: again[name] for name in names} == {name: first[name] for name in names}


@pytest.mark.slow
@pytest.mark.parametrize("told", [0, 1])
def test_a_signal_to_one_node_ends_both_and_a_resume_on_two_nodes_is_bit_identical(told, whole, tmp_path):
    programs = both(tmp_path, WAIT_AT="14")
    pids = [playing(program.folder, program, 1)[0] for program in programs]
    os.kill(pids[told], signal.SIGTERM)
    for program in programs:
        code, errors = over(program)
        assert code == 143, errors
        assert "Traceback" not in errors
        assert errors.count("interrupted by SIGTERM: saved ") == 1  # on each node: its command is needed there, too
    words = re.search(r"omg_lightning fit (--config \S+ --ckpt_path \S+)", errors)[1].split()
    for program in both(tmp_path, *words):
        code, errors = over(program)
        assert code == 0, errors
    assert_equal(whole, newest(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_node_that_is_killed_ends_the_other_with_one_line_within_a_minute(killed, tmp_path):
    programs = both(tmp_path, WAIT_AT="6")
    pids, began = [playing(program.folder, program, 1)[0] for program in programs], time.monotonic()
    os.kill(pids[killed], signal.SIGKILL)
    assert programs[1 - killed].wait(60) == 1
    assert time.monotonic() - began < 60
    line = one_line(programs[1 - killed].errors())
    assert line.endswith("resume from last.ckpt") or "have lost each other" in line
    assert programs[killed].wait(60) == -signal.SIGKILL


@pytest.mark.slow
def test_a_mistake_that_one_node_meets_is_its_line_and_the_other_names_that_node(tmp_path):
    programs = both(tmp_path, second={"FAIL_ON": "0"})
    assert over(programs[1])[0] == 2
    assert "no such plan" in one_line(programs[1].errors())
    assert over(programs[0])[0] == 1
    assert "node 1 ended with an error" in one_line(programs[0].errors())


@pytest.mark.slow
def test_torchrun_starts_the_processes(whole, tmp_path):
    (tmp_path / "waiter.py").write_bytes((whole.parents[1] / "node_0/waiter.py").read_bytes())
    words = ["--standalone", "--nproc_per_node=2", "-m", "omg_lightning", "fit", *PLAY, "--trainer.devices=2"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *words], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert_equal(whole, newest(tmp_path))


# Signs of life ------------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    """Make the signs of life quick."""
    monkeypatch.setattr(nodes, "BEAT", 0.05)
    monkeypatch.setattr(nodes, "SILENCE", 10)


class Node:
    """A node as the others see it, and what it notes of them.

    Args:
        rank: that stands for it, 0 or 1.
        port: of the store.
        store: its own, which rank 0 keeps.
    """

    def __init__(self, rank: int, port: int) -> None:
        self.place = Place("127.0.0.1", port, rank, 2)
        self.store = self.place.connect(rank == 0, None)
        self.store.set(self.place.key(rank), "")
        self.lost: list[str] = []
        self.told = 0

    def watch(self) -> None:
        """Begin with the signs of life."""
        other = 1 - self.place.rank
        self.pulse = Pulse(self.place, {other: f"node {other}"}, self._tell, self.lost.append)

    def _tell(self) -> None:
        self.told += 1


def soon(found) -> bool:
    """Whether something holds within some seconds."""
    end = time.monotonic() + 30
    while not found() and time.monotonic() < end:
        time.sleep(0.01)
    return bool(found())


@pytest.fixture
def pair(quick):
    port = free_port()
    found = [Node(rank, port) for rank in (0, 1)]
    yield found
    for node in found:
        if hasattr(node, "pulse"):
            node.pulse.leave(fine=True)
        vars(node).clear()
    gc.collect()  # a store that a forked process collected would crash it


def test_a_node_that_ends_with_an_error_is_named(pair):
    for node in pair:
        node.watch()
    pair[1].pulse.leave(fine=False)
    assert soon(lambda: pair[0].lost)
    assert pair[0].lost[0].startswith("node 1 ended with an error, so all have ended")


def test_a_node_that_ends_well_is_not_missed(pair):
    for node in pair:
        node.watch()
    pair[1].pulse.leave(fine=True)
    assert not any(thread.is_alive() for thread in pair[1].pulse._threads), "or the end of Python aborts them"
    time.sleep(20 * nodes.BEAT)  # twice as long as it may be silent
    assert pair[0].lost == []
    assert pair[0].pulse.lost() is None


def test_a_silent_node_is_lost(pair):
    began = time.monotonic()
    pair[0].watch()
    assert soon(lambda: pair[0].lost)
    assert pair[0].lost[0].startswith("node 1 has not answered for 0.5 s")
    assert time.monotonic() - began >= 10 * nodes.BEAT


def test_a_store_that_is_gone_means_that_the_first_node_has_ended(pair):
    pair[1].watch()
    assert soon(lambda: pair[0].store.get(pair[1].place.key(1)))  # it has a connection
    pair[0].store = None  # nobody keeps it any more
    assert soon(lambda: pair[1].lost)
    assert pair[1].lost[0].startswith("node 0 has ended or cannot be reached")


def test_a_signal_to_one_node_reaches_the_other_within_a_round(quick, tmp_path):
    port = free_port()

    def work(rank: int) -> tuple[int | None, int]:
        dist.barrier()
        node = Node(0, port) if rank == 0 else None
        dist.barrier()
        node = node or Node(1, port)
        dist.barrier()
        node.watch()
        if rank == 1:
            interrupts.receive(signal.SIGTERM)
        assert soon(lambda: interrupts.received() is not None)
        dist.barrier()
        found = interrupts.received(), node.told
        node.pulse.leave(fine=True)
        return found

    assert on_ranks(tmp_path, work) == [(signal.SIGTERM, 1), (signal.SIGTERM, 0)]
