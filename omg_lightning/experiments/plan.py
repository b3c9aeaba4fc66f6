"""Read a study file: its runs, and the command of each run."""

import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn

import yaml

from omg_lightning.config_files import check_config, shipped
from omg_lightning.types import ConfigError

KEYS = ("base", "games", "methods", "seeds", "adjust", "groups", "evaluate", "targets", "search")
GROUP_KEYS = ("games", "methods", "seeds")
OWN = {"seed_everything": "seeds", "trainer.default_root_dir": "--out", "ckpt_path": "the run's last checkpoint"}
EVALUATIONS = ("validate", "test")
Cell = tuple[str, str, int]  # game, method, seed


@dataclass(frozen=True, eq=False)
class Run:
    """One `fit` of a study, and the evaluations after it.

    Attributes:
        number: from 1, in the order of the file.
        game: its name in the file.
        method: its name in the file.
        seed: of the run.
        settings: arguments of `fit`.
        folder: for all files, `--trainer.default_root_dir`.
        evaluate: commands by the name of the evaluation.
    """

    number: int
    game: str
    method: str
    seed: int
    settings: tuple[str, ...]
    folder: Path
    evaluate: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The name of the run in messages."""
        return f"{self.game}, {self.method}, seed {self.seed}"

    @property
    def fit(self) -> list[str]:
        """Return the arguments of the `fit`, after `python -m omg_lightning`."""
        own = ("--seed_everything", str(self.seed), "--trainer.default_root_dir", str(self.folder))
        return ["fit", *self.settings, *own]

    @property
    def fingerprint(self) -> str:
        """Return a hash of all settings and of the contents of configuration files, without comments."""
        parts: list[Any] = []
        for before, word in zip(("", *self.settings), self.settings, strict=False):
            parts.append(yaml.safe_load(Path(word).read_text()) if before == "--config" else word)
        return hashlib.sha256(json.dumps([parts, self.seed], default=str).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Study:
    """The contents of a study file.

    Attributes:
        name: of the file, without suffix.
        file: its path.
        folder: for its runs.
        runs: all of them, in order.
        groups: by name, the runs that `compare` compares: game, method, seed.
        targets: team returns by game, see `omg_lightning.evaluation.time_to_target`; empty if there are none.
        search: the search space and its settings, see `search.py`; empty if there is none.
    """

    name: str
    file: Path
    folder: Path
    runs: tuple[Run, ...]
    groups: Mapping[str, tuple[Cell, ...]]
    targets: Mapping[str, float]
    search: Mapping[str, Any]

    def select(self, groups: Sequence[str] = (), numbers: Sequence[int] = ()) -> list[Run]:
        """Return the runs of these groups, or with these numbers; all by default."""
        for name in groups:
            if name not in self.groups:
                _unknown(f"--group {name}", name, list(self.groups), "the study has")
        for number in numbers:
            if not 1 <= number <= len(self.runs):
                raise ConfigError(f"--only {number}: expected a run of {self.file}, 1 to {len(self.runs)}; see --list")
        cells = {cell for name in groups for cell in self.groups[name]}
        chosen = [run for run in self.runs if not groups or (run.game, run.method, run.seed) in cells]
        return [run for run in chosen if not numbers or run.number in numbers]


def locate(path: str, named_by: str = "") -> str:
    """Return the path of a file: the path itself, or the shipped file; `smoke` stands for `studies/smoke.yaml`.

    Raises:
        ConfigError: neither exists.
    """
    for each in (path, f"studies/{path}.yaml"):
        found = Path(each) if Path(each).is_file() else shipped(each)
        if found is not None:
            return str(found)
    raise ConfigError(f"{named_by or 'study'} names the file {path}, which does not exist: correct the path")


def read(path: str, out: Path) -> Study:
    """Read the file of a study.

    Args:
        path: of the file.
        out: parent of the study's folder.

    Raises:
        ConfigError: the file does not exist, or is not a study.
    """
    file = Path(locate(path))
    try:
        text = file.read_text()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8 text: give the .yaml file of a study") from error
    check_config(text, str(file), ())
    content = yaml.safe_load(text) or {}
    check_keys(content, KEYS, str(file), "a study has")
    for key in ("games", "methods", "seeds"):
        if not content.get(key):
            raise ConfigError(f"{file} has no {key}: expected games, methods and seeds; add the key")
    games, methods = (_settings(content[key], f"{file}: {key}") for key in ("games", "methods"))
    base = _words(content.get("base"), f"{file}: base")
    adjust = _adjust(content.get("adjust"), list(games), list(methods), f"{file}: adjust")
    groups = _groups(content, list(games), list(methods), str(file))
    folder = out / file.stem
    wanted = {cell for cells in groups.values() for cell in cells}
    seeds = sorted({seed for _, _, seed in wanted})
    where = {game: {method: folder / _slug(game) / _slug(method) for method in methods} for game in games}
    if len({each for row in where.values() for each in row.values()}) < len(games) * len(methods):
        raise ConfigError(
            f"{file}: two games or two methods would share a folder, named by letters and digits: rename one"
        )
    evaluate = _evaluations(content.get("evaluate"), f"{file}: evaluate")
    runs: list[Run] = []
    for game, method, seed in ((g, m, s) for g in games for m in methods for s in seeds if (g, m, s) in wanted):
        settings = (*base, *games[game], *methods[method], *adjust.get((game, method), ()))
        runs.append(Run(len(runs) + 1, game, method, seed, settings, where[game][method] / f"seed_{seed}", evaluate))
    targets = _targets(content.get("targets"), list(games), f"{file}: targets")
    return Study(file.stem, file, folder, tuple(runs), groups, targets, content.get("search") or {})


def trial(run: Run, number: int, settings: Sequence[str]) -> Run:
    """Return the run of a search trial: with additional settings, in a folder of its own."""
    folder = run.folder.parent / f"trial_{number}" / run.folder.name
    return replace(run, settings=(*run.settings, *settings), folder=folder)


def _settings(value: Any, where: str) -> dict[str, tuple[str, ...]]:
    """Return names and the arguments that they stand for."""
    if not isinstance(value, dict):
        raise ConfigError(f"{where} is {value!r}: expected names, each with a list of configuration files and flags")
    return {str(name): _words(each, f"{where}.{name}") for name, each in value.items()}


def _words(value: Any, where: str) -> tuple[str, ...]:
    """Return the arguments of a command line: configuration files, then flags."""
    words: list[str] = []
    for item in [] if value is None else value if isinstance(value, list) else [value]:
        try:
            split = shlex.split(item) if isinstance(item, str) else []
        except ValueError as error:
            raise ConfigError(f"{where} has {item!r} ({error}): close the quotes") from error
        files = list(takewhile(lambda word: not word.startswith("-"), split))
        if not split or any(not word.endswith((".yaml", ".yml")) for word in files):
            raise ConfigError(
                f"{where} has {item!r}: expected a configuration file, such as configs/ppo.yaml, or flags in quotes, "
                "such as '--model.opponent Declared'"
            )
        words += [word for file in files for word in ("--config", locate(file, where))]
        words += split[len(files) :]
    for word in words:
        key = word.removeprefix("--").partition("=")[0]
        if word.startswith("--") and key in OWN:
            raise ConfigError(f"{where} has --{key}, which the study sets from {OWN[key]}: remove it")
    return tuple(words)


def _adjust(
    value: Any, games: Sequence[str], methods: Sequence[str], where: str
) -> dict[tuple[str, str], tuple[str, ...]]:
    """Return settings for single pairs of game and method."""
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    check_keys(value or {}, games, where, "games are")
    for game, row in (value or {}).items():
        check_keys(row, methods, f"{where}.{game}", "methods are")
        found |= {(game, method): _words(words, f"{where}.{game}.{method}") for method, words in row.items()}
    return found


def _groups(
    content: Mapping[str, Any], games: Sequence[str], methods: Sequence[str], file: str
) -> dict[str, tuple[Cell, ...]]:
    """Return the runs of each group; by default one group of all games, methods and seeds."""
    given = content.get("groups") or {"all": {}}
    if not isinstance(given, dict):
        raise ConfigError(f"{file}: groups is {given!r}: expected names, each with some of {', '.join(GROUP_KEYS)}")
    found: dict[str, tuple[Cell, ...]] = {}
    for name, value in given.items():
        where, group = f"{file}: groups.{name}", value or {}
        check_keys(group, GROUP_KEYS, where, "a group has")
        rows = group.get("games", list(games)), group.get("methods", list(methods))
        for key, row, known in (("games", rows[0], games), ("methods", rows[1], methods)):
            for each in row if isinstance(row, list) else [row]:
                if each not in known:
                    _unknown(f"{where}: {each!r}", str(each), known, f"{key} are")
        seeds = _seeds(group.get("seeds", content["seeds"]), where if "seeds" in group else file)
        found[str(name)] = tuple((game, method, seed) for game in rows[0] for method in rows[1] for seed in seeds)
    return found


def _seeds(value: Any, where: str) -> list[int]:
    if not isinstance(value, list) or not all(type(each) is int for each in value) or len({*value}) < len(value):
        raise ConfigError(f"{where}: seeds is {value!r}: expected a list of different numbers, such as [0, 1, 2]")
    return value


def _targets(value: Any, games: Sequence[str], where: str) -> dict[str, float]:
    """Return the target of each game."""
    check_keys(value or {}, games, where, "games are")
    for game, target in (value or {}).items():
        if isinstance(target, bool) or not isinstance(target, int | float):
            raise ConfigError(f"{where}.{game} is {target!r}: expected the team return to reach, a number")
    return {game: float(target) for game, target in (value or {}).items()}


def _evaluations(value: Any, where: str) -> dict[str, tuple[str, ...]]:
    """Return commands by name."""
    found: dict[str, tuple[str, ...]] = {}
    if value is not None and not isinstance(value, dict):
        raise ConfigError(f"{where} is {value!r}: expected names, each with a command, such as `strangers: test`")
    for name, command in (value or {}).items():
        first, *rest = shlex.split(str(command or "")) or [""]
        if first not in EVALUATIONS or not re.fullmatch(r"\w+", str(name)) or name == "fit":
            raise ConfigError(
                f"{where}.{name} is {command!r}: expected a name of letters and digits, and `validate` or `test` with "
                "flags, such as test --data.partners '[random]'"
            )
        found[str(name)] = (first, *_words(shlex.join(rest) or None, f"{where}.{name}"))
    return found


def check_keys(value: Any, known: Sequence[str], where: str, words: str) -> None:
    """Raise ConfigError if `value` has an unknown key; `words` introduces the known keys in the message."""
    if not isinstance(value, dict):
        raise ConfigError(f"{where} is {value!r}: {words} {', '.join(known)}")
    for key in value:
        if key not in known:
            _unknown(f"{where} has the key {key!r}", str(key), known, words)


def _unknown(what: str, name: str, known: Sequence[str], words: str) -> NoReturn:
    """Raise ConfigError for a name that does not exist, and suggest the most similar one."""
    near = get_close_matches(name, known, 1, 0.6)
    meant = f"did you mean {near[0]}? " if near else ""
    raise ConfigError(f"{what}, which is unknown: {meant}{words} {', '.join(known)}")


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", name).strip("_.") or "_"
