"""The wheel holds all that a run needs: built, installed into a fresh environment, and run outside of the checkout."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from command_line import TINY, newest, numbers

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_wheel_trains_the_main_job_outside_of_the_checkout(tmp_path):
    for name in ("build", "hatchling"):
        pytest.importorskip(name, reason="needs pip install 'omg-lightning[dev]'")
    run = {"check": True, "capture_output": True, "text": True, "cwd": tmp_path}
    subprocess.run([sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path, ROOT], **run)
    (wheel,), (_,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")

    venv.create(tmp_path / "env", symlinks=True)
    python = tmp_path / "env/bin/python"
    subprocess.run([sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", wheel], **run)
    # The dependencies are those of this environment. Its own .pth files (an editable install) do not count.
    (site,) = tmp_path.glob("env/lib/python*/site-packages")
    (site / "dependencies.pth").write_text("\n".join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    fit = [tmp_path / "env/bin/omg-lightning", "fit", "--config", "configs/base.yaml", *TINY]
    small = ["--trainer.max_epochs=2", "--data.offline.rounds=1", "--trainer.enable_progress_bar=false"]
    done = subprocess.run([*fit, *small], **{**run, "check": False}, env=environment)
    assert done.returncode == 0, done.stderr
    assert f"--config configs/base.yaml is {site}/omg_lightning/configs/base.yaml" in done.stderr
    assert numbers(newest(tmp_path))["return/episodes"] == 4
    where = "import omg_lightning, callbacks; print(omg_lightning.__file__, callbacks.__file__)"
    files = subprocess.run([python, "-c", where], **run, env=environment).stdout.split()
    assert [Path(file).parent.parent for file in files] == [site, site]
