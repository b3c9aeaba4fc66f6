"""Execute one run of a study: `fit`, or its remaining part, then its evaluations, each as a command."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from omg_lightning.evaluation.learning import curves_of
from omg_lightning.experiments import record as records
from omg_lightning.experiments.plan import Run
from omg_lightning.training.checkpoint import read_checkpoint
from omg_lightning.training.folders import newest_checkpoint
from omg_lightning.training.trainer import check_resume
from omg_lightning.types import ConfigError

PROGRAM = [sys.executable, "-m", "omg_lightning"]
LOG = "log.txt"
DONE, BROKEN, TO_DO, CHANGED = "done", "broken", "to do", "changed"
STOPPED = "stopped"  # recorded as the error of an interrupted run
PATIENCE = 60.0  # seconds in which an interrupted command must save its last checkpoint


class Processes:
    """The running commands. `end` ends all of them; afterwards no new one starts."""

    def __init__(self) -> None:
        self._lock, self._live, self.ended = threading.Lock(), set[subprocess.Popen](), False

    def call(self, words: Sequence[str], log: Path, threads: int | None) -> int | None:
        """Run a command and return its exit code; None if `end` was called before."""
        environment = dict(os.environ)
        if threads is not None:
            environment.setdefault("OMP_NUM_THREADS", str(threads))
        with log.open("a") as file:
            file.write(f"$ {records.shown(list(words))}\n")
            file.flush()
            with self._lock:
                if self.ended:
                    return None
                command = [*PROGRAM, *words]
                process = subprocess.Popen(
                    command, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
                )
                self._live.add(process)
        try:
            return process.wait()
        finally:
            _end([process])  # if an exception ended the wait
            with self._lock:
                self._live.discard(process)

    def end(self) -> None:
        """End all commands: each saves its checkpoint; a command that takes too long is killed."""
        with self._lock:
            self.ended, live = True, list(self._live)
        _end(live)


def _end(processes: Sequence[subprocess.Popen]) -> None:
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + PATIENCE
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def state(run: Run, found: Mapping[str, Any]) -> str:
    """Return whether a run with this record, empty if it has none, is done, interrupted, to do, or has changed."""
    if not found:
        return BROKEN if newest_checkpoint(run.folder) else TO_DO
    if found["fingerprint"] != run.fingerprint:
        return CHANGED
    return BROKEN if _missing(run, found) else DONE


def execute(run: Run, threads: int | None = None, processes: Processes | None = None) -> dict[str, Any]:
    """Execute the missing steps of a run; return its record, which is also written to its folder.

    Args:
        run: the run.
        threads: PyTorch threads of each command, unless `OMP_NUM_THREADS` is set.
        processes: starts the commands, and can end them.
    """
    processes, start = processes or Processes(), time.perf_counter()
    run.folder.mkdir(parents=True, exist_ok=True)
    about = {"game": run.game, "method": run.method, "seed": run.seed, "fingerprint": run.fingerprint}
    found = {**about, "wall_clock_s": 0.0, "attempts": [], "steps": {}, **records.read(run.folder)}
    origin, before = records.provenance(), found["wall_clock_s"]
    found |= {"state": BROKEN, "error": None, "command": records.shown(run.fit), **origin}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    found["attempts"] = [*found["attempts"], {"started": now, "commit": origin["commit"]}]
    records.write(run.folder, found)
    for name, words in _missing(run, found).items():
        step: Callable[..., int | None] = _fit if name == "fit" else partial(_evaluate, name)
        code = step(run, found, threads, processes)
        found["wall_clock_s"] = round(before + time.perf_counter() - start, 3)
        if code != 0:
            found["error"] = STOPPED if processes.ended else _reason(run.folder / LOG, name, code)
            break
        found["steps"][name]["command"] = words
        records.write(run.folder, found)
    else:
        found["state"] = DONE
    records.write(run.folder, found)
    return found


def _missing(run: Run, found: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the commands that are not finished yet, by the name of the step."""
    steps = {"fit": run.fit} | {name: list(words) for name, words in run.evaluate.items()}
    done = {name: step["command"] for name, step in found["steps"].items()}
    # The fingerprint covers the settings of `fit`; its folder may have moved.
    return {name: words for name, words in steps.items() if name not in done or (name != "fit" and done[name] != words)}


def _fit(run: Run, found: dict[str, Any], threads: int | None, processes: Processes) -> int | None:
    """Train or resume training, and add the results to the record; return the exit code."""
    folder = _finished(run.folder)  # the study itself may have been killed right after the command
    code = 0 if folder is not None else processes.call(_resumed(run.fit, run.folder), run.folder / LOG, threads)
    folder = _finished(run.folder)
    if code == 0 and folder is not None:
        numbers = json.loads((folder / "metrics.json").read_text())
        found["steps"]["fit"] = {"folder": str(folder.relative_to(run.folder))}
        found |= {"env_steps": numbers.get("buffer/env_steps"), "fit_s": numbers.get("time/fit_s")}
        found |= {"numbers": numbers, "curves": curves_of(folder)}
    return _NO_NUMBERS if code == 0 and folder is None else code


def _evaluate(name: str, run: Run, found: dict[str, Any], threads: int | None, processes: Processes) -> int | None:
    """Evaluate the last checkpoint and add the numbers, under the name of the evaluation; return the exit code."""
    last, (command, *settings) = newest_checkpoint(run.folder), run.evaluate[name]
    if last is None:
        return _NO_CHECKPOINT
    own = ["--config", str(Path(last).with_name("config.yaml")), "--ckpt_path", last]
    root = run.folder / name
    words = [command, *own, *settings, "--trainer.default_root_dir", str(root)]
    code = processes.call(words, run.folder / LOG, threads)
    folder = _finished(root)
    if code == 0 and folder is not None:
        found["steps"][name] = {"folder": str(folder.relative_to(run.folder))}
        numbers = json.loads((folder / "metrics.json").read_text())
        others = {key: value for key, value in found["numbers"].items() if not key.startswith(f"{name}/")}
        found["numbers"] = others | {f"{name}/{key}": value for key, value in numbers.items()}
    return _NO_NUMBERS if code == 0 and folder is None else code


def _resumed(words: list[str], root: Path) -> list[str]:
    """Return the arguments that resume `fit` from the newest checkpoint; of its evaluation if training is complete."""
    last = newest_checkpoint(root)
    if last is None:
        return words
    try:
        checkpoint = read_checkpoint(last)
    except ConfigError:  # no checkpoint
        return words
    config = Path(last).with_name("config.yaml")
    try:
        check_resume(checkpoint, last, yaml.safe_load(config.read_text())["trainer"])
    except ConfigError:  # training is complete
        return ["validate", "--config", str(config), "--ckpt_path", last, "--trainer.default_root_dir", str(root)]
    return [*words, "--ckpt_path", last]


def _finished(root: Path) -> Path | None:
    """Return the newest run folder below `root`, if its evaluation is complete."""
    runs = {int(path.name[8:]): path for path in (root / "lightning_logs").glob("version_*") if path.name[8:].isdigit()}
    newest = runs[max(runs)] if runs else None
    return newest if newest is not None and (newest / "metrics.json").is_file() else None


_NO_NUMBERS, _NO_CHECKPOINT = -1001, -1002
_WITHOUT = {
    _NO_NUMBERS: "it wrote no metrics.json: add callbacks.Report to the list of callbacks",
    _NO_CHECKPOINT: "it wrote no last.ckpt: add callbacks.RunCheckpoint to the list of callbacks",
}


def _reason(log: Path, name: str, code: int | None) -> str:
    """Return the error in the log of a failed step."""
    if code in _WITHOUT:
        return f"{name}: {_WITHOUT[code]}"
    lines: list[str] = []
    with suppress(OSError):
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1] if lines else "no output")
    return f"{name}: exit code {code}, {said}"
