"""Run a study of games x methods x seeds, from one file.

    python -m omg_lightning study studies/smoke.yaml --list
    python -m omg_lightning study studies/smoke.yaml --jobs 2
    python -m omg_lightning compare runs/smoke --plot smoke.png
    python -m omg_lightning study time_to_target --group first     # a shipped file, studies/time_to_target.yaml

The file names games, methods and seeds, each with configuration files and flags of `fit`; see docs/studies.md. Every
run has a folder below --out, with its log, its checkpoints and `run.json`: numbers, learning curves, command, commit,
machine, versions and time. `study.json` has the records of all runs. The same command continues an interrupted study:
it skips finished runs, and resumes interrupted ones from their last checkpoints. A file with `targets` also measures
how long runs take until their evaluations are at a team return for good. --engine ray and slurm, and --search, need pip
install 'omg-lightning[study]'.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from omg_lightning.commands.parser import CommandParser
from omg_lightning.evaluation import align
from omg_lightning.evaluation.figures import save_figure
from omg_lightning.evaluation.time_to_target import METRIC, of_study, rows, time_figure
from omg_lightning.experiments import results, runner
from omg_lightning.experiments.engines import ENGINES, Engine
from omg_lightning.experiments.plan import Run, Study, read
from omg_lightning.experiments.record import shown
from omg_lightning.files import compact, replace_text
from omg_lightning.interrupts import Interrupted
from omg_lightning.types import ConfigError


def main(args: Sequence[str]) -> None:
    """Run the command; the exit code is 1 if a run failed.

    Raises:
        ConfigError: an argument is invalid.
    """
    parser = CommandParser("study", __doc__)
    parser.add_argument("file", nargs="?", metavar="FILE", help="study file, such as studies/smoke.yaml")
    parser.add_argument(
        "--out", type=Path, default=Path("runs"), help="parent of the study's folder; default: %(default)s"
    )
    parser.add_argument("--list", action="store_true", help="print the number, state and command of each run, and exit")
    parser.add_argument("--group", nargs="+", default=[], metavar="NAME", help="run only these groups")
    parser.add_argument(
        "--only", nargs="+", type=int, default=[], metavar="N", help="run only the runs with these numbers"
    )
    parser.add_argument("--engine", choices=ENGINES, default="local", help="where runs execute; default: %(default)s")
    parser.add_argument("--jobs", type=int, metavar="N", help="number of runs at once; default: number of cores")
    parser.add_argument(
        "--option",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="options of ray.remote (num_gpus=1) or of submitit's executor (timeout_min=240 slurm_partition=cpu)",
    )
    parser.add_argument("--search", action="store_true", help="search the hyperparameter space of the file (Optuna)")
    own = parser.parse_args(args)
    if own.jobs is not None and own.jobs < 1:
        raise ConfigError(f"--jobs is {own.jobs}: it must be at least 1")
    if own.file is None:
        raise ConfigError("study got no file: give one, such as studies/smoke.yaml; see docs/studies.md")
    options = _options(own.option)
    study = read(own.file, own.out)
    runs = study.select(own.group, own.only)
    records = results.records_of(study)
    states = {run: runner.state(run, records.get(run, {})) for run in runs}
    if own.list:
        _print_list(states)
        return
    changed = next((run for run, state in states.items() if state == runner.CHANGED), None)
    if changed is not None and not own.search:
        raise ConfigError(
            f"{changed.folder}, or {results.FILE}, has this run with other settings, or its configuration files have "
            f"changed: choose another --out, or remove that folder and {results.FILE}, which is made again from the "
            "other folders"
        )

    def make(some: Sequence[Run]) -> dict[Run, dict[str, Any]]:
        return carry_out(study, some, ENGINES[own.engine], own.jobs, options)

    with results.alone(study.folder):
        if own.search:
            from omg_lightning.experiments.search import search

            failed = search(study, runs, make, own.jobs or 1)
        else:
            todo = [run for run in runs if states[run] != runner.DONE]
            if done := len(runs) - len(todo):
                print(f"{done} of {len(runs)} runs are done already", flush=True)
            failed = [run for run, found in make(todo).items() if found["state"] != runner.DONE]
        results.gather(study)
    _finish(study, failed)


def carry_out(
    study: Study, runs: Sequence[Run], engine: Engine, jobs: int | None, options: dict[str, Any]
) -> dict[Run, dict[str, Any]]:
    """Execute runs, print a line as each one ends, and update `study.json`. Return the records."""
    found: dict[Run, dict[str, Any]] = {}
    records = engine(runs, jobs, options, study.folder)
    try:
        for run, record in records:
            found[run] = record
            results.gather(study)
            print(f"[{len(found)}/{len(runs)}] {run.title}: {_said(record)}", flush=True)
    except Interrupted as stop:
        records.close()  # type: ignore[attr-defined]  # closing the generator ends all commands
        stop.add_note(f"{len(found)} of {len(runs)} runs were over; the same command goes on with the others")
        raise
    return found


def _said(record: dict[str, Any]) -> str:
    if record["state"] != runner.DONE:
        return f"failed: {record['error']}"
    team = record["numbers"].get("return/team_mean")
    return f"{record['wall_clock_s']:.0f} s" + ("" if team is None else f", team return {team:.2f}")


def _print_list(states: dict[Run, str]) -> None:
    """Print a line for each run, and the number of runs in each state."""
    for run, state in states.items():
        print(f"{run.number:4}  {state:7}  {shown(run.fit)}")
    counts = {state: list(states.values()).count(state) for state in (runner.DONE, runner.BROKEN, runner.TO_DO)}
    counts |= {state: list(states.values()).count(state) for state in states.values()}
    print(f"{len(states)} runs: {', '.join(f'{count} {state}' for state, count in counts.items())}")


def _finish(study: Study, failed: Sequence[Run]) -> None:
    """Print where the results are, or which runs failed; return the exit code, 1 for failures."""
    if not failed:
        if study.targets:
            _report_times(study)
        print(f"written to {study.folder / results.FILE}; show it with python -m omg_lightning compare {study.folder}")
        return
    print(f"{len(failed)} runs failed; the same command runs them again:", file=sys.stderr)
    for run in failed:
        print(f"  {run.number}  {run.title}: {run.folder / runner.LOG}", file=sys.stderr)
    sys.exit(1)


def _report_times(study: Study) -> None:
    """Print how long the runs took to hold their targets; write a figure and its numbers."""
    found = of_study(json.loads((study.folder / results.FILE).read_text()))
    print(align(rows(found)))
    path = study.folder / "time_to_target.png"
    save_figure(time_figure(found), path)
    replace_text(path.with_suffix(".json"), compact({"metric": METRIC, "settings": found}))
    print(f"drawn: {path} and {path.with_suffix('.json')}")


def _options(words: Sequence[str]) -> dict[str, Any]:
    """Return the options of an engine."""
    found: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.isidentifier():
            raise ConfigError(f"--option got {word!r}: expected KEY=VALUE, such as timeout_min=240")
        found[key] = yaml.safe_load(value)
    return found
