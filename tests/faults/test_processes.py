"""Whole runs of two processes: one folder, one checkpoint, and nothing that goes on when one of them has ended."""

import os
import re
import signal
import time
from pathlib import Path

import pytest
import torch
from command_line import QUIET, SMOKE, TINY, newest, numbers
from several import Program

pytestmark = pytest.mark.slow
TWO = ["--trainer.devices=2", "--trainer.strategy=ddp"]
SEATS = "--data.seats=[learner,waiter.Waiter]"
PLAY = [*SMOKE, *TINY, *QUIET, *TWO, SEATS, "--data.training.steps_per_epoch=4", "--data.offline.rounds=1"]
PLAY += ["--trainer.max_epochs=4", "--trainer.check_val_every_n_epoch=1", "--refresh.max_age=9"]
PATIENCE = 600.0  # seconds, of a machine that others use, too

WAITER = """
import os
import time
import torch

class Waiter:
    calls = 0

    def reset(self, batch_size, seat, game, generator):
        self.game = game

    def act(self, observation, legal):
        Waiter.calls += 1
        rank = os.environ.get("LOCAL_RANK", "0")
        if Waiter.calls == int(os.environ.get("WAIT_AT", -1)):
            open(f"playing_{rank}", "w").write(str(os.getpid()))
            time.sleep(3)
        if Waiter.calls == 25 and os.environ.get("FAIL_ON") == rank:
            raise KeyError("no such plan")
        return torch.full((len(legal),), self.game.noop)
"""


def start(folder: Path, *args: str, command: str = "fit", **env: str) -> Program:
    """A command of two processes."""
    (folder / "waiter.py").write_text(WAITER)
    for path in folder.glob("playing_*"):
        path.unlink()
    return Program(folder, [command, *args], env)


def playing(folder: Path, process: Program) -> dict[int, int]:
    """The number of each process of a run, by rank, once all of them play."""
    files, end = [folder / f"playing_{rank}" for rank in (0, 1)], time.monotonic() + PATIENCE
    while not all(file.exists() and file.read_text() for file in files):
        assert process.poll() is None, process.errors()
        assert time.monotonic() < end
        time.sleep(0.1)
    return {rank: int(file.read_text()) for rank, file in enumerate(files)}


def over(process: Program, seconds: float = PATIENCE) -> tuple[int, str]:
    """The exit code of a run, and what it has said on stderr, both processes together."""
    return process.wait(seconds), process.errors()


def gone(pid: int, seconds: float = 20) -> bool:
    """Whether a process has ended, or does so soon."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
                return True
        except OSError:
            return True
        time.sleep(0.1)
    return False


def one_line(errors: str) -> str:
    """The one line that begins with `error:`, of a run without a traceback."""
    assert "Traceback" not in errors, errors
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    return line


def checkpoint(folder: Path) -> dict:
    return torch.load(folder / "last.ckpt", weights_only=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run folder of a `fit` of two processes that nobody disturbs, and what it has said."""
    folder = tmp_path_factory.mktemp("whole")
    code, errors = over(start(folder, *PLAY))
    assert code == 0, errors
    return newest(folder), errors


def test_a_fit_of_two_processes_writes_one_folder_with_totals_of_both(whole):
    folder, errors = whole
    assert "Traceback" not in errors
    assert "2 processes: each plays 2 of data.num_envs 4 environments" in errors
    assert [path.name for path in folder.parent.iterdir()] == ["version_0"]
    assert len(list(folder.glob("events.*"))) == 2  # of the training, and of the evaluation after it
    found = checkpoint(folder)
    data = found["EpisodeDataModule"]
    (other,) = data["others"]
    assert data["env_steps"] == other["env_steps"] == numbers(folder)["buffer/env_steps"]
    held = [state["buffer"]["store"] for state in (data, other)]
    steps = sum(int(store["active"].any(-1).sum()) for store in held)
    assert steps == data["env_steps"]  # nothing has been dropped yet: refresh.max_age
    assert not torch.equal(held[0]["observation"], held[1]["observation"])
    assert not torch.equal(found["noise"], found["noise_of_others"][0])
    assert numbers(folder)["return/episodes"] == 4
    assert numbers(folder)["buffer/episodes"] == 16


def test_two_processes_validate_and_test(whole, tmp_path):
    folder, _ = whole
    args = [*PLAY, "--ckpt_path", str(folder / "last.ckpt")]
    code, errors = over(start(tmp_path, *args, command="validate"))
    assert code == 0, errors
    again, first = numbers(newest(tmp_path)), numbers(folder)
    names = [name for name in again if name.startswith(("return/", "goal/"))]
    assert len(names) > 10
    assert {name: again[name] for name in names} == {name: first[name] for name in names}
    args += ["--data.partners=[random]", "--data.adaptation.relationships=3", "--data.adaptation.steps=20"]
    code, errors = over(start(tmp_path, *args, "--data.adaptation.score_steps=10", command="test"))
    assert code == 0, errors
    assert {"adapt/random_return", "return/random_team_mean"} <= numbers(newest(tmp_path)).keys()
    assert (newest(tmp_path) / "adaptation.json").is_file()
    assert len(list((tmp_path / "lightning_logs").iterdir())) == 2


@pytest.mark.parametrize(("signum", "code", "at"), [(signal.SIGTERM, 143, 1), (signal.SIGINT, 130, 14)])
def test_an_interrupted_run_of_two_processes_resumes_bit_by_bit(signum, code, at, whole, tmp_path):
    process = start(tmp_path, *PLAY, WAIT_AT=str(at))
    pids = playing(tmp_path, process)
    os.killpg(process.pid, signum) if signum == signal.SIGINT else os.kill(pids[0], signum)  # as a terminal does
    found, errors = over(process)
    assert found == code, errors
    assert "Traceback" not in errors
    assert errors.count(f"interrupted by {signum.name}: saved ") == 1
    assert errors.count("ending at the next safe point") == 1
    assert all(gone(pid) for pid in pids.values())
    part = newest(tmp_path)
    assert not (part / "metrics.json").exists()
    words = re.search(r"omg_lightning fit (--config \S+ --ckpt_path \S+)", errors)[1].split()
    found, errors = over(start(tmp_path, *words))
    assert found == 0, errors
    expected, rest = checkpoint(whole[0]), checkpoint(newest(tmp_path))
    assert same(expected["state_dict"], rest["state_dict"])
    for name in ("EpisodeDataModule", "noise", "noise_of_others", "global_step", "optimizer_states"):
        assert same(expected[name], rest[name]), name
    before, after = numbers(whole[0]), numbers(newest(tmp_path))
    for name in before:
        if not name.startswith(("time/", "loss/")):
            assert after[name] == before[name], name


def same(one, other) -> bool:
    """Whether nested states are equal bit by bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def test_a_resume_with_another_number_of_processes_is_refused(whole, tmp_path):
    folder, _ = whole
    args = [*PLAY, "--ckpt_path", str(folder / "last.ckpt"), "--trainer.devices=1", "--trainer.max_epochs=9"]
    code, errors = over(start(tmp_path, *args))
    assert code == 2
    line = one_line(errors)
    assert "the checkpoint was trained with 2 processes, this run has 1: set --trainer.devices 2" in line


@pytest.mark.parametrize("killed", [0, 1])
def test_a_process_that_is_killed_ends_all_with_one_line(killed, tmp_path):
    process = start(tmp_path, *PLAY, WAIT_AT="6")
    pids, began = playing(tmp_path, process), time.monotonic()
    os.kill(pids[killed], signal.SIGKILL)
    code = process.wait(60)
    assert gone(pids[1 - killed], 60)
    errors = process.errors()  # what is left of them has said
    assert time.monotonic() - began < 60
    assert ("process 1 of the 2" if killed else "the main process of this run was killed") in one_line(errors)
    assert code == (1 if killed else -signal.SIGKILL)


def test_a_users_mistake_in_one_process_ends_both_with_one_line(tmp_path):
    code, errors = over(start(tmp_path, *PLAY, FAIL_ON="1"))
    assert code == 2
    assert "no such plan" in one_line(errors)


def test_another_node_that_does_not_come_is_one_line(tmp_path):
    code, errors = over(start(tmp_path, *PLAY, "--trainer.num_nodes=2", "--join_seconds=3"))
    assert code == 2
    found = r"4 processes did not all connect at 127.0.0.1:\d+ within 3 s \(some did not connect\)"
    assert re.search(found, one_line(errors))
