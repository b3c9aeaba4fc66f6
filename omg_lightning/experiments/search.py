"""Hyperparameter search for each method in each game: Optuna on the search space of a study file."""

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

from omg_lightning.experiments import runner
from omg_lightning.experiments.engines import extra
from omg_lightning.experiments.plan import Run, Study, check_keys, trial
from omg_lightning.files import replace_text
from omg_lightning.types import ConfigError

FILE = "search.json"
KEYS = ("trials", "metric", "direction", "space", "seed")
RANGE = ("low", "high", "log", "step")
DIRECTIONS = ("maximize", "minimize")
Make = Callable[[Sequence[Run]], dict[Run, dict[str, Any]]]


def search(study: Study, runs: Sequence[Run], make: Make, jobs: int) -> list[Run]:
    """Run trials for each game and method: Optuna samples settings, and scores each by its mean over seeds.

    The state is in `optuna.log` in the study's folder, so that a search can resume; `search.json` has all
    trials and the best settings.

    Args:
        study: study with a search space.
        runs: the games, methods and seeds to search.
        make: executes runs and returns their records.
        jobs: number of runs at once, and of trials sampled together.

    Returns:
        The failed runs; their trials count as failed.
    """
    optuna = extra("optuna", "--search")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    settings, space = _read(study, optuna)
    metric, failed, report = settings["metric"], list[Run](), {}
    backend = optuna.storages.journal.JournalFileBackend(str(study.folder / "optuna.log"))
    storage = optuna.storages.JournalStorage(backend)
    for (game, method), group in groupby(runs, lambda run: (run.game, run.method)):
        seeds, name = list(group), f"{game}, {method}"
        found = optuna.create_study(
            study_name=name,
            storage=storage,
            direction=settings["direction"],
            sampler=optuna.samplers.TPESampler(seed=settings["seed"]),
            load_if_exists=True,
        )
        asked_for = seeds[0].fingerprint + json.dumps([settings["space"], metric], sort_keys=True)
        if found.user_attrs.setdefault("asked_for", asked_for) != asked_for:
            raise ConfigError(f"{study.folder} has a search with other settings or another space: choose another --out")
        found.set_user_attr("asked_for", asked_for)
        known = {each.number: each.params for each in found.get_trials(states=[optuna.trial.TrialState.RUNNING])}
        over = sum(each.state.is_finished() for each in found.trials)
        while over < settings["trials"]:
            count = min(max(1, jobs // len(seeds)), settings["trials"] - over)
            while len(known) < count:
                asked = found.ask(space)
                known[asked.number] = asked.params
            asked_runs = {
                number: [trial(run, number, _flags(params)) for run in seeds]
                for number, params in list(known.items())[:count]
            }
            records = make([run for each in asked_runs.values() for run in each])
            for number, each in asked_runs.items():
                broken = [run for run in each if records[run]["state"] != runner.DONE]
                failed += broken
                values = [records[run]["numbers"].get(metric) for run in each if run not in broken]
                if None in values:
                    raise ConfigError(
                        f"{study.file}: search.metric is {metric}, which the metrics of {each[0].folder} lack: "
                        "give one of them"
                    )
                if broken:
                    found.tell(number, state=optuna.trial.TrialState.FAIL)
                else:
                    found.tell(number, sum(values) / len(values))
                del known[number]
            over += len(asked_runs)
        report[name] = _report(found, optuna)
        replace_text(study.folder / FILE, json.dumps({"metric": metric, "searches": report}, indent=1) + "\n")
        best = report[name]["best"]
        if best is not None:
            print(f"{name}: {metric} {best['value']:.4g} with {' '.join(best['flags'])}", flush=True)
    print(f"written to {study.folder / FILE}")
    return failed


def _report(found: Any, optuna: Any) -> dict[str, Any]:
    """Return all finished trials, and the best of them."""
    complete = optuna.trial.TrialState.COMPLETE
    trials = [
        {"trial": each.number, "value": each.value, "state": each.state.name, "flags": _flags(each.params)}
        for each in found.trials
    ]
    done = any(each.state == complete for each in found.trials)
    return {"best": trials[found.best_trial.number] if done else None, "trials": trials}


def _flags(params: Mapping[str, Any]) -> list[str]:
    """Return the flags of `fit` for sampled settings."""
    return [f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in params.items()]


def _read(study: Study, optuna: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings of the search and its space, as Optuna's distributions by key."""
    if not study.search:
        raise ConfigError(f"{study.file} has no `search`: add one with trials and a space, see docs/studies.md")
    where = f"{study.file}: search"
    check_keys(study.search, KEYS, where, "a search has")
    settings = {"trials": 20, "metric": "return/team_mean", "direction": "maximize", "seed": 0, **study.search}
    if type(settings["trials"]) is not int or settings["trials"] < 1:
        raise ConfigError(f"{where}.trials is {settings['trials']}: it must be a whole number, at least 1")
    if settings["direction"] not in DIRECTIONS:
        raise ConfigError(f"{where}.direction is {settings['direction']}: expected {' or '.join(DIRECTIONS)}")
    space = settings.get("space")
    if not isinstance(space, dict) or not space:
        raise ConfigError(f"{where}.space is {space}: expected flags, each with a list or with `low` and `high`")
    return settings, {key: _distribution(value, f"{where}.space.{key}", optuna) for key, value in space.items()}


def _distribution(value: Any, where: str, optuna: Any) -> Any:
    """Return the distribution of one flag: a list of choices, or numbers from `low` to `high`."""
    kinds = optuna.distributions
    try:
        if isinstance(value, list):
            return kinds.CategoricalDistribution(value)
        check_keys(value, RANGE, where, "a range has")
        whole = type(value["low"]) is int and type(value["high"]) is int
        return (kinds.IntDistribution if whole else kinds.FloatDistribution)(**value)
    except (ValueError, TypeError, KeyError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{where} is {value} ({error}): expected a list, or `low` and `high`") from error
