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

import numpy as np
import pytest
import torch
from command_line import QUIET, ROOT, SMOKE, TINY, refused, trained_smoke
from matplotlib.figure import Figure

from omg_lightning import evaluation, files
from omg_lightning.cli import main
from omg_lightning.evaluation.figures import save_figure
from omg_lightning.games.grid.render import write_gif
from omg_lightning.training.checkpoint import WholeCheckpointIO, check_whole, read_checkpoint
from omg_lightning.training.folders import RunFolder
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


def test_a_checkpoint_with_any_flipped_byte_is_refused(tmp_path):
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
    """A file on a disk with a limited number of free bytes."""

    def __init__(self, file: IO[bytes], space: int) -> None:
        self.file, self.space = file, space

    def write(self, data) -> int:
        if self.file.tell() + len(data) > self.space:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(data)

    def __getattr__(self, name: str):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        self.file.close()


def disk_of(space: int, monkeypatch: pytest.MonkeyPatch, name: str = "") -> None:
    """Let files of results with `name` in their names take this many bytes; with -1 no file can be created.

    Args:
        space: bytes.
        monkeypatch: undoes it.
        name: part of a file's name.
    """
    open_file = files._open_locked

    def limited(path: Path, *args, **kwargs):
        if name not in path.name:
            return open_file(path, *args, **kwargs)
        if space < 0:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return Full(open_file(path, *args, **kwargs), space)

    monkeypatch.setattr(files, "_open_locked", limited)


@pytest.mark.parametrize("space", [0, 700, 5000, 37200])
def test_a_full_disk_keeps_the_previous_checkpoint_and_no_partial_file(space, tmp_path, monkeypatch):
    path = save(tmp_path / "last.ckpt")
    disk_of(space, monkeypatch)
    with pytest.raises(OSError, match="No space left on device") as caught:
        save(path, {"hyper_parameters": {"spec": {}}, "state_dict": {"a": torch.zeros(9000)}})
    assert caught.value.filename == str(path)
    assert [each.name for each in tmp_path.iterdir()] == ["last.ckpt"]
    check_whole(path)


WRITERS = {  # all that writes results: each writes one of two contents
    "text": lambda path, other: files.replace_text(path, "other" * other * 400 + "text"),
    "figure.png": lambda path, other: save_figure(Figure(figsize=(1 + other, 1)), path),
    "film.gif": lambda path, other: write_gif([np.full((8, 8 + other, 3), 9, np.uint8)] * 2, path),
    "last.ckpt": lambda path, other: save(path, {**SMALL, "state_dict": {"a": torch.zeros(9 + other)}}),
    "adaptation.json": lambda path, other: evaluation.save(path, [], seed=10 * other),
}


@pytest.mark.parametrize("space", [-1, 0, 20])
@pytest.mark.parametrize("name", WRITERS)
def test_results_replace_the_old_file_atomically(name, space, tmp_path, monkeypatch):
    path, write = tmp_path / "made" / name, WRITERS[name]
    write(path, 0)
    old = path.read_bytes()
    with monkeypatch.context() as patch:
        disk_of(space, patch)
        with pytest.raises(OSError, match="No space left" if space >= 0 else "Read-only") as caught:
            write(path, 1)
    assert caught.value.filename == str(path)
    assert path.read_bytes() == old
    assert [each.name for each in path.parent.iterdir()] == [name]
    write(path, 1)
    assert path.read_bytes() != old


FAIL = {  # a part of a file's name: the command that writes it, with what it needs
    "config.yaml": ("fit", []),
    "last.ckpt": ("fit", []),
    "metrics.json": ("fit", []),
    "return.png": ("fit", ["--trainer.callbacks=[callbacks.ReturnFigure,callbacks.RunCheckpoint,callbacks.Report]"]),
    "adaptation.json": ("test", []),
    "adapt_random.png": ("test", []),
    "episode_000.gif": ("predict", ["--trainer.callbacks=[callbacks.ReplayWriter]"]),
}


def check_full(name: str, space: int, folder: Path, last: Path | None, capsys, caplog, monkeypatch) -> None:
    command, args = FAIL[name]
    args = [*args, "--data.offline.rounds=1", "--trainer.max_epochs=2", "--trainer.default_root_dir", str(folder)]
    if command != "fit":
        args = [*args, "--ckpt_path", str(last)]
    disk_of(space, monkeypatch, name)
    with pytest.raises(SystemExit) as stop:
        main([command, *SMOKE, *(TINY if command == "fit" else []), *QUIET, *args])
    assert stop.value.code == 1
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    (line,) = [line for line in printed.err.splitlines() if line.startswith("error: ")]
    why = "Read-only file system" if space < 0 else "No space left on device"
    assert f"{name} ({why}): free some space or use another folder" in line
    assert not list(folder.rglob("*.partial"))
    if name in ("metrics.json", "return.png"):  # nothing is lost: the line says how to measure the last weights
        (saved,) = folder.rglob("last.ckpt")
        check_whole(saved)
        assert f"evaluate with python -m omg_lightning validate --config {saved.parent}/config.yaml" in line
    if command == "test":
        assert "last 40 steps" in caplog.text  # the table is shown before it is written
    if name == "config.yaml":
        assert not folder.exists() or not list(folder.iterdir())


@pytest.mark.parametrize("name", ["config.yaml", "last.ckpt"])
def test_a_full_disk_ends_a_run_with_one_line_and_exit_code_1(name, tmp_path, capsys, caplog, monkeypatch):
    check_full(name, 500, tmp_path, None, capsys, caplog, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "space"), [("metrics.json", -1), *((name, 10) for name in FAIL)])
def test_a_full_disk_ends_every_command_with_one_line(name, space, trained, tmp_path, capsys, caplog, monkeypatch):
    check_full(name, space, tmp_path, trained / "last.ckpt", capsys, caplog, monkeypatch)


def test_a_checkpoint_is_on_the_disk_before_it_replaces_the_previous_one(tmp_path, monkeypatch):
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
        RunFolder.new(tmp_path)
        assert sorted(path.name for path in tmp_path.rglob("*.partial")) == ["best.partial", "mine.partial"]
    RunFolder.new(tmp_path)
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
