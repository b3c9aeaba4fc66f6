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
from omg_lightning.experiments.record import FILE

PAGE = (ROOT / "docs/studies.md").read_text(encoding="utf-8")
# The least that is a study: a run of the smoke configuration, without pictures.
LEAST = """
base: configs/smoke.yaml --trainer.callbacks '[callbacks.RunCheckpoint, callbacks.Report]' --trainer.max_epochs 40
games: {g: --trainer.enable_progress_bar false}
methods: {m: --model.algorithm.simulations 2 --model.algorithm.trees 1}
seeds: [0]
"""


@pytest.mark.slow
def test_the_commands_of_the_page_run_as_they_stand_there(tmp_path, monkeypatch, capsys):
    section = PAGE[PAGE.index("## Compare two methods") : PAGE.index("## The control variables")]
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
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
    assert "strangers/adapt/nearest_hare_return" in shown.splitlines()[-1]
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
    deadline = time.monotonic() + 300
    while not list(run.glob("lightning_logs/version_0/last.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
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
    steps = [each["curves"]["return/train_team_mean"][0] for each in (cut, whole)]
    assert steps[0] == steps[1], "the curve has both parts"


@pytest.fixture
def least(tmp_path, monkeypatch) -> str:
    """The file of a study of one run of two rounds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    Path("s.yaml").write_text(LEAST.replace("max_epochs 40", "max_epochs 3"))
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
