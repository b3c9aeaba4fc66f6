"""The section "Compare two methods" of docs/studies.md, run as it stands there; a study that is interrupted."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import ROOT, refused
from PIL import Image

from omg_lightning.cli import main
from omg_lightning.experiments import runner
from omg_lightning.experiments.engines import ENGINES
from omg_lightning.experiments.record import FILE

PAGE = (ROOT / "docs/studies.md").read_text(encoding="utf-8")
# The least that is a study: rounds of a few short episodes, without pictures; a checkpoint after each of them.
LEAST = """
base:
  - configs/smoke.yaml --trainer.enable_progress_bar false --data.game.max_steps 10
  - --data.num_envs 4 --data.training.batch_size 4 --data.training.steps_per_epoch 1 --model.networks.hidden 16
  - --data.evaluation.val_episodes 4 --data.evaluation.episodes 4 --trainer.check_val_every_n_epoch 1000
  - --trainer.callbacks '[{"class_path":"callbacks.RunCheckpoint","init_args":{"last_every":1}}, callbacks.Report]'
games: {g: --trainer.max_epochs 60}
methods: {m: --model.opponent Declared --model.algorithm.simulations 2 --model.algorithm.trees 1}
seeds: [0]
"""


@pytest.mark.slow
def test_the_commands_of_the_page_run_as_they_stand_there(tmp_path, monkeypatch, capsys):
    """All of a study's runs are made in this process, which saves seconds each, and one after the other.

    The parser changes the current folder while it reads a configuration, so nothing else may run in this process.
    """

    def call(self: runner.Processes, words: list[str], log: Path, threads: int | None) -> int:
        try:
            main(words)
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    local = ENGINES["local"]
    monkeypatch.setattr(runner.Processes, "call", call)
    monkeypatch.setitem(ENGINES, "local", lambda runs, jobs, options, folder: local(runs, 1, options, folder))
    section = PAGE[PAGE.index("## Compare two methods") : PAGE.index("## The control variables")]
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(re.findall(r"^```yaml\n(.*?)^```", section, re.MULTILINE | re.DOTALL)[0])
    (commands,) = re.findall(r"^```bash\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    lines = commands.strip().splitlines()
    assert len(lines) == 5
    for line in lines:
        words = shlex.split(line)
        assert words[:3] == ["python", "-m", "omg_lightning"]
        main(words[3:])
    shown = capsys.readouterr().out
    assert "4 runs: 0 done, 0 broken, 4 to do" in shown
    assert "2 of 4 runs are done already" in shown
    assert "strangers/adapt/nearest_hare_return" in shown.splitlines()[-2]
    assert Image.open("mine.png").size[0] > 1000
    (game,) = json.loads(Path("mine.json").read_text())["games"].values()
    assert [each["seeds"] for each in game["methods"].values()] == [[0, 1], [0, 1]]
    assert game["methods"]["HOP"]["curve"]["env_steps"]


@pytest.mark.slow
def test_an_interrupted_study_leaves_no_process_and_ends_as_one_that_was_not(tmp_path):
    (tmp_path / "s.yaml").write_text(LEAST)
    command = [sys.executable, "-m", "omg_lightning", "study", "s.yaml", "--out"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [*command, "cut"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    run = tmp_path / "cut/s/g/m/seed_0"
    try:
        while process.poll() is None and not (run / "lightning_logs/version_0/last.ckpt").is_file():
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    finally:
        process.terminate()
    assert process.returncode == 130
    assert "interrupted by SIGINT: 0 of 1 runs were over" in said
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    for out in ("cut", "whole"):
        subprocess.run([*command, out], cwd=tmp_path, env=environment, check=True, capture_output=True)
    cut, whole = (json.loads((tmp_path / out / "s/g/m/seed_0" / FILE).read_text()) for out in ("cut", "whole"))
    assert [len(each["attempts"]) for each in (cut, whole)] == [2, 1]
    assert "--ckpt_path cut/s/g/m/seed_0/lightning_logs/version_0/last.ckpt" in (run / "log.txt").read_text()
    names = [name for name in whole["numbers"] if name.startswith("return/")]
    assert names
    assert [cut["numbers"][name] for name in names] == [whole["numbers"][name] for name in names]
    curves = [each["curves"]["return/train_team_mean"] for each in (cut, whole)]
    assert curves[0][0] == curves[1][0], "the curve has both parts"
    assert curves[0][2] == curves[1][2]


@pytest.fixture
def least(tmp_path, monkeypatch) -> str:
    """The file of a study of one run of three rounds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    Path("s.yaml").write_text(LEAST.replace("max_epochs 60", "max_epochs 3"))
    return "s.yaml"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "flags"),
    [
        ("ray", ["--engine", "ray", "--jobs", "1"]),
        ("submitit", ["--engine", "slurm", "--option", "cluster=local", "timeout_min=5"]),
    ],
)
def test_engines_of_the_extra_study_make_a_run(package, flags, least):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install 'omg-lightning[study]'")
    main(["study", least, *flags])
    (run,) = json.loads(Path("runs/s/study.json").read_text())["runs"]
    assert run["state"] == "done"


@pytest.mark.slow
def test_slurm_is_refused_in_one_line_where_there_is_none(least, capsys):
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'omg-lightning[study]'")
    if shutil.which("srun") is None:
        assert "--engine slurm: Could not detect" in refused(["study", least, "--engine", "slurm"], capsys)
