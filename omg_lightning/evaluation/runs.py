"""Find runs on the disk and read the data for comparisons: metrics, game, seed, learning curves."""

import glob
import json
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from omg_lightning.evaluation.learning import Curves, curves_of, training_name
from omg_lightning.files import named
from omg_lightning.metrics.intervals import Bounds
from omg_lightning.types import ConfigError

METRICS, RECORD, STUDY = "metrics.json", "run.json", "study.json"
METRIC = "return/team_mean"  # the default metric of comparisons


class Run(NamedTuple):
    """The data of one run."""

    path: str
    seed: int
    game: str  # empty if unknown
    numbers: dict[str, float]
    curves: Curves  # empty where there is no log
    commit: str | None = None

    def value(self, metric: str) -> float:
        """Return a metric.

        Raises:
            ConfigError: the run has no such metric.
        """
        if metric not in self.numbers:
            near = get_close_matches(metric, self.numbers, 1, 0.6)
            meant = f"did you mean {near[0]}?" if near else f"it has {', '.join(sorted(self.numbers)[:8])}, ..."
            raise ConfigError(f"{self.path} has no metric {metric}: {meant}")
        return self.numbers[metric]

    def bounds(self, metric: str) -> Bounds | None:
        """Return the bounds of a metric, if known: only those of the team return are."""
        ends = self.numbers.get("return/team_least"), self.numbers.get("return/team_most")
        if metric != "return/team_mean" or ends[0] is None or ends[1] is None:
            return None
        return ends[0], ends[1]

    def curve(self, metric: str) -> Sequence[Sequence[float]] | None:
        """Return the learning curve of a metric: from training, or else from evaluations; None if there is none."""
        return self.curves.get(training_name(metric)) or self.curves.get(metric)


Group = Mapping[str, Sequence[Run]]  # method -> its seeds, in one game


def find(pattern: str, metric: str) -> list[Run]:
    """Return the runs that match a pattern of paths, such as `runs/seed_*`, in the order of their seeds.

    Raises:
        ConfigError: no run matches, or one has no metrics.
    """
    paths = [Path(each) for each in sorted(glob.glob(pattern))]
    folders = [path for path in paths if path.is_dir()]
    if not folders:
        what = f"{pattern} is a file" if paths else f"no folder matches {pattern}"
        raise ConfigError(f"{what}: give the folders of runs, such as 'runs/seed_*' in quotes")
    return sorted((read(_run_folder(each), metric) for each in folders), key=lambda run: run.seed)


def read(folder: Path, metric: str) -> Run:
    """Read a run from its folder."""
    record = _json(folder.parents[1] / RECORD) if len(folder.parents) > 1 else {}
    config = _config(folder)
    seed = config.get("seed_everything")
    if not isinstance(seed, int):
        raise ConfigError(f"{folder} has no config.yaml with seed_everything: give the folder of a `fit`")
    numbers, curves = _json(folder / METRICS), curves_of(folder, (training_name(metric), metric))
    kept = record.get("numbers") or {}  # includes its evaluations
    return Run(str(folder), int(seed), game_of(config), {**kept, **numbers}, curves, record.get("commit"))


def study_runs(folder: Path) -> tuple[dict[str, Any], dict[tuple[str, str, int], Run]]:
    """Return the content of `study.json`, and its finished runs by game, method and seed."""
    found = _json(folder / STUDY)
    if not {"runs", "groups", "planned"} <= found.keys():
        raise ConfigError(f"{folder / STUDY} is not a file of `study`: give the folder of a study")
    runs = {}
    for each in found["runs"]:
        if each["state"] == "done":
            cell = each["game"], each["method"], each["seed"]
            path = str(folder / each["folder"])
            runs[cell] = Run(path, each["seed"], each["game"], each["numbers"], each["curves"], each["commit"])
    if not runs:
        raise ConfigError(f"{folder} has no finished run: continue the study first")
    return found, runs


def gather(words: Sequence[str], group: str | None, metric: str) -> Mapping[str, Group]:
    """Return the runs of each method in each game; runs outside of a study are one game without a name.

    Args:
        words: NAME=RUN each, with a folder or a pattern of several; or one folder of a study.
        group: of the study; all of it by default.
        metric: the metric of the curves.

    Raises:
        ConfigError: a run does not exist, or the runs cannot be compared.
    """
    split = [named(word) for word in words]
    folders = [Path(path) for name, path in split if not name]
    if folders and (len(split) > len(folders) or len(folders) > 1 or not (folders[0] / STUDY).is_file()):
        raise ConfigError(f"{folders[0]} is not a study: expected NAME=RUN [NAME=RUN ...], or the folder of one study")
    if folders:
        return _of_study(folders[0], group)
    if group is not None:
        raise ConfigError("--group needs the folder of a study: remove --group, or give such a folder")
    methods: dict[str, list[Run]] = {}
    for name, pattern in split:
        methods.setdefault(name, []).extend(find(pattern, metric))
    known = [run for runs in methods.values() for run in runs if run.game]
    for name, runs in methods.items():
        runs.sort(key=lambda run: run.seed)
        for seed, same in groupby(runs, lambda run: run.seed):
            if len(paths := [run.path for run in same]) > 1:
                raise ConfigError(f"{name} has seed {seed} twice, {paths[0]} and {paths[1]}: give one run of each seed")
    if other := next((run for run in known if run.game != known[0].game), None):
        both = f"{known[0].path} is of {known[0].game}, {other.path} of {other.game}"
        raise ConfigError(f"the runs have different games, {both}: give runs of one game")
    return {"": methods}


def _of_study(folder: Path, group: str | None) -> Mapping[str, Group]:
    """Return the finished runs of a study; print how many are omitted."""
    content, runs = study_runs(folder)
    if group is not None and group not in content["groups"]:
        raise ConfigError(f"--group is {group}: expected one of {', '.join(content['groups'])}, the groups of {folder}")
    cells = content["groups"][group] if group is not None else content["planned"]
    games: dict[str, dict[str, list[Run]]] = {}
    for game, method, seed in cells:
        if (game, method, seed) in runs:
            games.setdefault(game, {}).setdefault(method, []).append(runs[game, method, seed])
    if not games:
        raise ConfigError(f"{folder} has no finished run of the group {group}: continue the study first")
    if missing := sum(tuple(cell) not in runs for cell in cells):
        print(f"note: {missing} of {len(cells)} runs are not done, so they are omitted", file=sys.stderr)
    return dict(games)


def game_of(config: Mapping[str, Any]) -> str:
    """Return the game of a run and its options as text; empty if the configuration has no game."""
    data = config.get("data")
    game = data.get("game") if isinstance(data, Mapping) else None
    if not isinstance(game, Mapping):
        return str(game or "")
    options = {key: value for key, value in (game.get("init_args") or {}).items() if value is not None}
    name = str(game.get("class_path", "")).rpartition(".")[2]
    return " ".join([name, *(f"{key}={json.dumps(value)}" for key, value in sorted(options.items()))])


def _run_folder(path: Path) -> Path:
    """Return the folder with the metrics of a run: itself, or the only one below its `lightning_logs`."""
    if (path / METRICS).is_file():
        return path
    record = _json(path / RECORD) if (path / RECORD).is_file() else {}
    if "fit" in record.get("steps", {}):
        return path / record["steps"]["fit"]["folder"]
    below = sorted(each.parent for each in path.glob(f"lightning_logs/version_*/{METRICS}"))
    if len(below) > 1:
        raise ConfigError(f"{path} has {len(below)} runs: give one of them, such as {below[-1]}")
    if not below:
        raise ConfigError(
            f"{path} has no {METRICS}: give the folder of a finished `fit`, or a pattern of several, such as '{path}/*'"
        )
    return below[0]


def _config(folder: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load((folder / "config.yaml").read_text())
    except (OSError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def _json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file; an empty dict if there is none."""
    try:
        found = json.loads(path.read_text())
    except OSError:
        return {}
    except ValueError as error:
        raise ConfigError(f"{path} is damaged ({error}): repeat the run, or leave it out") from error
    return found if isinstance(found, dict) else {}
