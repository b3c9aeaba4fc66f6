"""Whole runs of two processes: one folder, one checkpoint, and nothing that goes on when one of them has ended."""

import os
import re
import signal
import time

import pytest
import torch
from command_line import newest, numbers
from several import PLAY, checkpoint, gone, one_line, over, playing, same, start

pytestmark = pytest.mark.slow
PLAY = [*PLAY, "--trainer.devices=2", "--trainer.strategy=ddp"]


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
