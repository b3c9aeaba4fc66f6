"""Signals: a checkpoint at the next safe point from which a run goes on bit by bit, an exit code, and no orphans."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from command_line import PLACES, PPO, QUIET, ROOT, SMOKE, TINY, interrupted, newest, numbers, run

from omg_lightning import interrupts
from omg_lightning.cli import main
from omg_lightning.interrupts import Interrupted
from omg_lightning.rollout.workers import at_once

PLAY = [*TINY, "--data.training.steps_per_epoch=4", "--data.offline.rounds=1", "--trainer.max_epochs=4"]
DIRECT_PPO = [*PPO, "--model.opponent=Direct"]
SIGNALS = list(interrupts.ALL)


# The mechanism ------------------------------------------------------------------------------------------------------


def test_a_signal_raises_at_once_or_at_the_next_check():
    with pytest.raises(Interrupted, match="SIGTERM"), interrupts.handled(SIGNALS):
        signal.raise_signal(signal.SIGTERM)
    done = []
    with interrupts.handled(SIGNALS), interrupts.deferred():
        interrupts.check()
        os.kill(os.getpid(), signal.SIGUSR1)
        done.append("went on")
        os.kill(os.getpid(), signal.SIGTERM)  # a second one changes nothing
        with pytest.raises(Interrupted, match="SIGUSR1"):
            interrupts.check()
    assert done
    interrupts.check()  # nothing is left of it
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_second_ctrl_c_ends_at_once():
    code = (
        "import os, signal, time\nfrom omg_lightning import interrupts\n"
        "with interrupts.handled([signal.SIGINT]), interrupts.deferred():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n    print('first', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n    print('second', flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (130, "first\n")


def test_a_signal_that_comes_while_a_process_is_forked_waits_until_it_can_end_silently():
    """As under load: the process has been forked, but has not yet got so far as to leave signals to its parent."""
    code = (
        "import os, signal, time\nfrom omg_lightning import interrupts\n"
        "with interrupts.handled(interrupts.ALL):\n"
        "    with interrupts.held():\n        pid = os.fork()\n"
        "        if pid == 0:\n            time.sleep(0.2)\n            interrupts.forget()\n"
        "            time.sleep(60)\n            os._exit(1)\n"
        "    os.kill(pid, signal.SIGINT)\n    os.kill(pid, signal.SIGTERM)\n"
        "    print(os.waitpid(pid, 0)[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("0\n", "")


# Safe points --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Runs that nobody interrupts, by algorithm."""
    return {
        name: run("fit", tmp_path_factory.mktemp(name), *PLAY, *args)
        for name, args in (("search", []), ("ppo", DIRECT_PPO))
    }


@pytest.mark.parametrize(
    ("algorithm", "place"),
    [
        ("search", "a batch"),
        *(
            pytest.param("search", place, marks=pytest.mark.slow)
            for place in PLACES
            if place not in ("a batch", "processes that play")
        ),
        pytest.param("ppo", "the first batch of a round", marks=pytest.mark.slow),
        ("ppo", "a batch"),
    ],
)
def test_an_interrupted_run_resumes_bit_by_bit(algorithm, place, whole, tmp_path, monkeypatch, capsys):
    args = DIRECT_PPO if algorithm == "ppo" else []
    part = interrupted(place, tmp_path, [*PLAY, *args], monkeypatch)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("interrupted by ")]
    command = f"python -m omg_lightning fit --config {part}/config.yaml --ckpt_path {part}/last.ckpt"
    assert line == f"interrupted by SIGTERM: saved {part}/last.ckpt: resume with {command}"
    assert not (part / "metrics.json").exists()
    main(command.split()[3:])
    rest = newest(tmp_path)
    assert rest != part
    expected, found = (torch.load(folder / "last.ckpt", weights_only=True) for folder in (whole[algorithm], rest))
    for name, weight in expected["state_dict"].items():
        assert torch.equal(weight, found["state_dict"][name]), name
    for key in ("env_steps", "rounds", "drawn"):
        assert expected["EpisodeDataModule"][key] == found["EpisodeDataModule"][key]
    for name, state in expected["EpisodeDataModule"]["generators"].items():
        assert torch.equal(state, found["EpisodeDataModule"]["generators"][name])
    assert expected["global_step"] == found["global_step"]
    for name, value in numbers(whole[algorithm]).items():
        if name.startswith(("return/team", "goal/action")):
            assert numbers(rest)[name] == value, name


def test_a_signal_after_training_says_how_to_evaluate(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(PLACES, "the last evaluation", ("step", lambda asked: asked.f_locals["self"].greedy, 2))
    args = [*PLAY, "--trainer.max_epochs=1", "--trainer.check_val_every_n_epoch=5"]
    folder = interrupted("the last evaluation", tmp_path, args, monkeypatch)
    command = f"validate --config {folder}/config.yaml --ckpt_path {folder}/last.ckpt"
    expected = f"interrupted by SIGTERM: training is complete: evaluate with python -m omg_lightning {command}"
    assert expected in capsys.readouterr().err.splitlines()
    main(command.split())
    assert numbers(newest(tmp_path))["return/episodes"] == 4


# Processes ----------------------------------------------------------------------------------------------------------


def test_a_signal_ends_processes_that_share_the_environments(tmp_path):
    parent = os.getpid()

    def job() -> int:
        (tmp_path / str(os.getpid())).touch()
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.01)
        os.kill(parent, signal.SIGTERM)
        time.sleep(60)
        return 0

    began = time.monotonic()
    with interrupts.handled(SIGNALS), interrupts.deferred(), pytest.raises(Interrupted):
        at_once([job, job])
    assert time.monotonic() - began < 50
    assert not [path.name for path in tmp_path.iterdir() if alive(int(path.name))]


@pytest.mark.slow
def test_a_process_that_is_killed_is_named_in_one_line():
    with pytest.raises(ValueError, match=r"a process of data\.workers 2 was killed"):
        at_once([lambda: 1, lambda: os.kill(os.getpid(), signal.SIGKILL)])


def alive(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def gone(pids: list[int], seconds: float) -> bool:
    """Whether all these processes end within so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and any(alive(pid) for pid in pids):
        time.sleep(0.1)
    return not any(alive(pid) for pid in pids)


# Whole programs -----------------------------------------------------------------------------------------------------

SLEEPER = """
import os
import time
import torch

class Sleeper:
    def reset(self, batch_size, seat, game, generator):
        self.noop = game.noop

    def act(self, observation, legal):
        open(f"playing_{os.getpid()}", "w").close()
        time.sleep(0.5)
        return torch.full((len(legal),), self.noop)
"""
ROUND = 300  # steps of half a second each: no test ends by itself, however slow the machine
ONLINE = "--data.offline.rounds=0"
LOADED = 90  # seconds; 5 on a machine that nobody else uses, and a round would take more than ROUND / 2


def start(folder: Path, *args: str, workers: int = 1, **env: str) -> subprocess.Popen:
    """A run with a long round, once it plays in all its processes."""
    (folder / "sleeper.py").write_text(SLEEPER)
    for each in folder.glob("playing_*"):
        each.unlink()
    args = (*SMOKE, *TINY, *QUIET, f"--data.game.max_steps={ROUND}", f"--data.workers={workers}", *args)
    process = subprocess.Popen(
        [sys.executable, "-m", "omg_lightning", "fit", *args, "--data.seats=[learner,sleeper.Sleeper]", ONLINE],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    wait(lambda: len(list(folder.glob("playing_*"))) == workers or process.poll() is not None)
    return process


def wait(is_so: Callable[[], object], seconds: float = 240) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.1)


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 1)])
def test_a_signal_within_a_long_round_ends_a_run_in_seconds(signum, code, workers, tmp_path):
    process = start(tmp_path, workers=workers)
    inner, began = children(process.pid), time.monotonic()
    os.killpg(process.pid, signum) if signum == signal.SIGINT else process.send_signal(signum)  # as a terminal does
    _, errors = process.communicate(timeout=LOADED)
    took = time.monotonic() - began
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    assert f"interrupted by {signum.name}: saved " in errors
    assert (tmp_path / "lightning_logs/version_0/last.ckpt").is_file()
    assert gone(inner, LOADED)
    assert took < LOADED


@pytest.mark.slow
def test_processes_end_when_the_main_one_is_killed(tmp_path):
    process = start(tmp_path, workers=2)
    inner = [int(path.name.removeprefix("playing_")) for path in tmp_path.glob("playing_*")]
    assert set(inner) <= set(children(process.pid))
    process.kill()
    process.communicate(timeout=LOADED)
    assert gone(inner, LOADED)


@pytest.mark.slow
def test_a_second_ctrl_c_ends_a_run_at_once(tmp_path):
    process = start(tmp_path)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while "ending at the next safe point" not in process.stderr.readline():  # two at once would count as one
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=LOADED)
    assert process.returncode == 130


@pytest.mark.slow
def test_slurm_requeues_a_job_that_then_resumes(tmp_path):
    (tmp_path / "bin").mkdir()
    control = tmp_path / "bin/scontrol"
    control.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/half && mv {tmp_path}/half {tmp_path}/asked\n')
    control.chmod(0o755)
    names = {"NTASKS": "1", "JOB_ID": "7", "JOB_NAME": "job", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    job = {f"SLURM_{name}": value for name, value in names.items()}
    process = start(tmp_path, PATH=f"{tmp_path}/bin:{os.environ['PATH']}", **job)
    process.send_signal(signal.SIGUSR1)
    wait((tmp_path / "asked").exists)
    assert (tmp_path / "asked").read_text() == "requeue 7\n"
    assert (tmp_path / "hpc_ckpt_1.ckpt").is_file()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=LOADED)
    assert process.returncode == 143
    again = start(tmp_path, PATH=f"{tmp_path}/bin:{os.environ['PATH']}", **job)
    again.send_signal(signal.SIGTERM)
    _, errors = again.communicate(timeout=LOADED)
    assert "Restored all states from the checkpoint" in errors
