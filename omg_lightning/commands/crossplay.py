"""Cross-play: evaluate all pairs of several checkpoints.

    python -m omg_lightning crossplay A/last.ckpt B/last.ckpt --config A/config.yaml --episodes 200

A CHECKPOINT is a .ckpt file, a run folder, a folder of `export`, or an agent of the zoo, `zoo:NAME`.
Entry [i, j] of the matrix is the mean return of checkpoint i in seat 0 with j in all other seats; the diagonal is
self-play. Writes `crossplay.json`, with the 95% interval of each mean over episodes, and the heat maps `crossplay.png`
(seat 0) and `crossplay_team.png` (all seats). Write NAME=PATH for a name in the figures. All other options are those of
`validate`: game, number of environments, seed.
"""

import json
import sys
from collections.abc import Sequence
from itertools import product, takewhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from omg_lightning.actors import CHECKPOINT
from omg_lightning.cli import Networks, run
from omg_lightning.commands.parser import CommandParser
from omg_lightning.envs.base import describe
from omg_lightning.evaluation import align, labels
from omg_lightning.evaluation.figures import heat_map, save_figure
from omg_lightning.files import check_writable, named, replace_text, unwritable
from omg_lightning.metrics.intervals import of_episodes
from omg_lightning.rollout import match
from omg_lightning.seeds import generator_of
from omg_lightning.sources import ZOO
from omg_lightning.types import ConfigError


def main(args: Sequence[str]) -> None:
    """Run the command.

    Raises:
        ConfigError: an argument is invalid.
    """
    checkpoints = list(takewhile(lambda word: not word.startswith("-"), args))
    parser = CommandParser("crossplay", __doc__, "CHECKPOINT [CHECKPOINT ...] --config FILE ...")
    parser.add_argument("--episodes", type=int, default=100, help="episodes of each pair; default: %(default)s")
    parser.add_argument(
        "--out", default="crossplay", help="path of the files to write, without suffix; default: %(default)s"
    )
    own, settings = parser.parse_known_args(args[len(checkpoints) :])
    if not checkpoints:
        raise ConfigError("crossplay got no checkpoint: give the checkpoints first, then --config and other options")
    if own.episodes < 1:
        raise ConfigError(f"--episodes is {own.episodes}: it must be at least 1")
    for path in outputs(own.out):
        if path.exists():
            raise ConfigError(f"{path} already exists: choose another path with --out, or remove it")
        check_writable(path)
    names, paths = _named(checkpoints)
    networks = run(["validate", *settings], Networks)
    returns = cross_play(networks, paths, own.episodes)
    write(own.out, names, paths, returns, networks)


def outputs(out: str) -> list[Path]:
    """Return the paths of the output files: the numbers, and the heat maps of seat 0 and of the team."""
    if not Path(out).name:
        raise ConfigError(f"--out is {out!r}: expected the path of files without suffix, such as runs/crossplay")
    return [Path(f"{out}{ending}") for ending in (".json", ".png", "_team.png")]


def cross_play(networks: Networks, paths: Sequence[str], episodes: int) -> NDArray:
    """Play every pair of checkpoints: undiscounted returns `[n, n, E, P]`, the first in seat 0.

    Every pair plays from the same initial states.

    Raises:
        ConfigError: a checkpoint is missing, or of another game.
    """
    data, device = networks.datamodule, networks.trainer.strategy.root_device
    model = networks.model.to(device)
    # The name of a seat only needs to be a key of the learners.
    actors = {f"{CHECKPOINT}{index}": model.load_actor(path) for index, path in enumerate(paths)}
    result = np.zeros((len(paths), len(paths), episodes, data.env.num_players))
    for (i, first), (j, second) in product(enumerate(actors), repeat=2):
        lineup = [first, *[second] * (data.env.num_players - 1)]
        seated = {name: actors[name] for name in lineup}
        random = generator_of(data.seed, "match", device)
        result[i, j] = match(data.env, lineup, seated, episodes, data.num_envs, random, data.workers).cpu().numpy()
        print(f"{i + 1} beside {j + 1}: {result[i, j, :, 0].mean():.2f}", file=sys.stderr, flush=True)
    return result


def write(out: str, names: Sequence[str], paths: Sequence[str], returns: NDArray, networks: Networks) -> None:
    """Print the matrix and write JSON and heat maps of returns `[n, n, E, P]`."""
    episodes, data = returns.shape[2], networks.datamodule
    focal, team = returns[..., 0], returns.sum(-1)
    found = {"focal": focal.mean(-1), "team": team.mean(-1)}
    numbers = {name: values.tolist() for name, values in found.items()}
    for name, values, bounds in (("focal", focal, data.env.seat_bounds), ("team", team, data.env.team_bounds)):
        ends = np.array([[of_episodes(cell, bounds) for cell in row] for row in values])  # [n, n, 2]
        for end, edge in zip(("low", "high"), np.moveaxis(ends, -1, 0), strict=True):
            numbers[f"{name}_{end}"] = edge.tolist() if episodes > 1 else None
    about = {"game": describe(data.env), "names": list(names), "checkpoints": list(paths)}
    text = json.dumps({**about, "episodes": episodes, "seed": data.seed, **numbers}, indent=2)
    titles = {"focal": "return of seat 0", "team": "team return"}
    # Print first: writing the files may fail.
    for name, title in titles.items():
        head = [f"{title}: seat 0 \\ others", *names]
        rows = [[row, *(f"{value:.2f}" for value in values)] for row, values in zip(names, found[name], strict=True)]
        print(align([head, *rows]))
        print(_summary(found[name]) + "\n", flush=True)
    path, *pictures = outputs(out)
    try:
        replace_text(path, text + "\n")
        for picture, (name, title) in zip(pictures, titles.items(), strict=True):
            save_figure(heat_map(found[name], names, title), picture)
    except OSError as error:
        raise unwritable(path, error) from error
    print(f"written to {', '.join(map(str, (path, *pictures)))}")


def _summary(values: NDArray) -> str:
    """Return a line with the means of the diagonal and of the other entries."""
    same = np.eye(len(values), dtype=bool)
    text = f"self-play {values[same].mean():.2f}"
    return text if len(values) == 1 else f"{text}, cross-play {values[~same].mean():.2f}"


def _short(path: str) -> str:
    """Return a short name: the last two components of a checkpoint's path, or the name of a folder or zoo agent."""
    if path.startswith(ZOO) or Path(path).is_dir():
        return Path(path).name
    return f"{Path(path).parent.name or '.'}/{Path(path).stem}"


def _named(checkpoints: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split the user's NAME=PATH or PATH into names for figures, and paths."""
    split = [named(word) for word in checkpoints]
    paths = [path for _, path in split]
    short = labels([_short(path) for path in paths])
    return [name or given for (name, _), given in zip(split, short, strict=True)], paths
