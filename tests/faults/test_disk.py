"""Full disks and damaged files: a checkpoint is whole or not there, and a damaged one is refused."""

import errno
import fcntl
import io
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest
import torch
from command_line import QUIET, ROOT, SMOKE, TINY, refused, trained_smoke

from omg_lightning.cli import main
from omg_lightning.training import checkpoint as module
from omg_lightning.training.checkpoint import WholeCheckpointIO, check_whole, new_run, read_checkpoint
from omg_lightning.types import ConfigError

SMALL = {
    "hyper_parameters": {"spec": {"name": "a game"}},
    "state_dict": {"a": torch.arange(3000.0), "b": torch.ones(7)},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return trained_smoke(tmp_path_factory)


def save(path: Path, content: dict | None = None) -> Path:
    WholeCheckpointIO().save_checkpoint(content or SMALL, path)
    return path


# Damaged files ------------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_refused_whichever_byte_was_flipped(tmp_path):
    path = save(tmp_path / "last.ckpt")
    whole, draw = path.read_bytes(), random.Random(0)
    assert read_checkpoint(path)["state_dict"]["a"].equal(SMALL["state_dict"]["a"])
    ends = [*range(4), *range(len(whole) - 100, len(whole))]
    for place in [*ends, *(draw.randrange(len(whole)) for _ in range(200))]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(ConfigError, match="is damaged"):
            read_checkpoint(path)
        with pytest.raises(ConfigError, match="is damaged"):
            WholeCheckpointIO().load_checkpoint(path)


@pytest.mark.parametrize("size", [0, 1, 21, 22, 72, 73, 1000, -1])
def test_a_checkpoint_that_lacks_its_end_is_refused(size, tmp_path):
    path = save(tmp_path / "last.ckpt")
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ConfigError, match="is damaged"):
        read_checkpoint(path)


def test_a_checkpoint_of_an_earlier_version_is_read_and_its_contents_are_checked(tmp_path):
    path = tmp_path / "old.ckpt"
    torch.save(SMALL, path)
    assert read_checkpoint(path)["state_dict"]["b"].equal(SMALL["state_dict"]["b"])
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(torch.arange(3000.0).numpy().tobytes()) + 77] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ConfigError, match="is damaged"):
        read_checkpoint(path)


def test_a_zip_reader_and_pytorch_still_read_a_checkpoint_with_a_checksum(tmp_path):
    path = save(tmp_path / "last.ckpt")
    assert torch.load(path, weights_only=True)["state_dict"]["b"].equal(torch.ones(7))
    assert torch.load(io.BytesIO(path.read_bytes()), weights_only=True)["state_dict"]["b"].equal(torch.ones(7))


@pytest.mark.parametrize("command", ["fit", "validate"])
def test_every_command_refuses_a_damaged_checkpoint_in_one_line(command, trained, tmp_path, capsys):
    content = bytearray((trained / "last.ckpt").read_bytes())
    content[len(content) // 2] ^= 8
    (tmp_path / "bad.ckpt").write_bytes(content)
    where = ["--trainer.default_root_dir", str(tmp_path), *QUIET]
    assert "is damaged" in refused([command, *SMOKE, *where, "--ckpt_path", str(tmp_path / "bad.ckpt")], capsys)
    assert not (tmp_path / "lightning_logs").exists()
    seats = [f"--data.seats=[learner,'checkpoint:{tmp_path / 'bad.ckpt'}']", "--data.offline.rounds=0"]
    good = [] if command == "fit" else ["--ckpt_path", str(trained / "last.ckpt")]
    assert "is damaged" in refused([command, *SMOKE, *where, *seats, *good], capsys)


# Writing ------------------------------------------------------------------------------------------------------------


class Full:
    """A file on a disk with room for so many bytes and no more."""

    def __init__(self, file: IO[bytes], space: int) -> None:
        self.file, self.space = file, space

    def write(self, data) -> int:
        if self.file.tell() + len(data) > self.space:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(data)

    def __getattr__(self, name: str):
        return getattr(self.file, name)


def disk_of(space: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a checkpoint's file take so many bytes and no more."""
    write = module._write
    monkeypatch.setattr(module, "_write", lambda checkpoint, file: write(checkpoint, Full(file, space)))


@pytest.mark.parametrize("space", [0, 700, 5000, 37200])
def test_a_full_disk_leaves_the_former_checkpoint_and_no_partial_file(space, tmp_path, monkeypatch):
    path = save(tmp_path / "last.ckpt")
    disk_of(space, monkeypatch)
    with pytest.raises(OSError, match="No space left on device") as caught:
        save(path, {"hyper_parameters": {"spec": {}}, "state_dict": {"a": torch.zeros(9000)}})
    assert caught.value.filename == str(path)
    assert [each.name for each in tmp_path.iterdir()] == ["last.ckpt"]
    check_whole(path)


def test_a_full_disk_ends_a_run_with_one_line_and_exit_code_1(tmp_path, capsys, monkeypatch):
    disk_of(5000, monkeypatch)
    with pytest.raises(SystemExit) as stop:
        main(["fit", *SMOKE, *TINY, *QUIET, "--trainer.max_epochs=2", "--trainer.default_root_dir", str(tmp_path)])
    assert stop.value.code == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "cannot write" in line
    assert ".ckpt (No space left on device): free some space" in line
    assert not list(tmp_path.rglob("*.partial"))


def test_a_checkpoint_is_on_the_disk_before_it_takes_the_place_of_the_former_one(tmp_path, monkeypatch):
    done = []
    for name in ("fsync", "replace"):
        act = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, act=act: (done.append(name), act(*args))[1])
    save(tmp_path / "last.ckpt")
    assert done == ["fsync", "replace", "fsync"]  # the file, its place, the folder


def test_partial_files_of_dead_runs_are_removed_at_the_next_start_and_those_in_use_are_not(tmp_path):
    old = tmp_path / "lightning_logs/version_0"
    old.mkdir(parents=True)
    for name in ("last.partial", "best.partial"):
        (old / name).write_bytes(b"half")
    (tmp_path / "mine.partial").write_bytes(b"a file of somebody else's")
    with (old / "best.partial").open("rb") as writing:
        fcntl.flock(writing, fcntl.LOCK_EX)
        new_run(tmp_path)
        assert sorted(path.name for path in tmp_path.rglob("*.partial")) == ["best.partial", "mine.partial"]
    new_run(tmp_path)
    assert [path.name for path in tmp_path.rglob("*.partial")] == ["mine.partial"]


FULL = """
import resource, sys
from omg_lightning.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
main(sys.argv[1:])
"""


def command(folder: Path, *args: str, limit: int = -1) -> subprocess.CompletedProcess:
    args = ("fit", *SMOKE, *TINY, *QUIET, "--trainer.default_root_dir", str(folder), *args)
    return subprocess.run(
        [sys.executable, "-c", FULL.format(limit=limit), *args],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
    )


def one_line_of(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.slow
@pytest.mark.parametrize("limit", [300, 6_000, 30_000])  # config.yaml or the event file; metrics; the checkpoint
def test_a_limit_on_the_size_of_files_ends_a_run_with_one_line(limit, tmp_path):
    line = one_line_of(command(tmp_path, limit=limit))
    assert "cannot write" in line
    assert "File too large" in line
    assert not list(tmp_path.rglob("*.partial"))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB, where this user may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("free_kib", [0, 8, 64])
def test_a_run_on_a_full_disk_ends_with_one_line(free_kib, small_disk):
    (small_disk / "filler").write_bytes(bytes((1024 - free_kib) * 1024 - 16384 * (free_kib > 0)))
    line = one_line_of(command(small_disk))
    assert "No space left on device" in line
    assert not list(small_disk.rglob("*.partial"))


@pytest.mark.slow
def test_a_disk_that_turns_read_only_ends_a_run_with_one_line_and_keeps_the_last_checkpoint(small_disk, tmp_path):
    (tmp_path / "read_only.py").write_text(
        "import subprocess\nfrom lightning import Callback\n\n"
        "class ReadOnly(Callback):\n"
        "    def on_train_epoch_start(self, trainer, module):\n"
        "        if trainer.current_epoch == 3:\n"
        f"            subprocess.run(['mount', '-o', 'remount,ro', '{small_disk}'], check=True)\n"
    )
    callbacks = (
        "[read_only.ReadOnly,{class_path: callbacks.RunCheckpoint, init_args: {last_every: 2}},callbacks.Report]"
    )
    args = ("--trainer.callbacks", callbacks, "--trainer.max_epochs=6", "--trainer.logger=false")
    line = one_line_of(command_with_path(small_disk, tmp_path, *args))
    assert "Read-only file system" in line
    (last,) = small_disk.rglob("last.ckpt")
    check_whole(last)


def command_with_path(folder: Path, modules: Path, *args: str) -> subprocess.CompletedProcess:
    args = ("fit", *SMOKE, *TINY, *QUIET, "--trainer.default_root_dir", str(folder), *args)
    return subprocess.run(
        [sys.executable, "-m", "omg_lightning", *args],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{modules}"},
        timeout=120,
    )
