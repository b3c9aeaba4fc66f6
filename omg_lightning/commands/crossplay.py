"""Cross-play: how each of several checkpoints gets on beside each other one.

    python -m omg_lightning.commands.crossplay A/last.ckpt B/last.ckpt --config A/config.yaml --episodes 200

Entry [i, j] of the matrix is the mean return of checkpoint i in seat 0 beside j in all other seats; the diagonal is
self-play. Writes `crossplay.json` and the heat maps `crossplay.png` (seat 0) and `crossplay_team.png` (everyone).
Write NAME=PATH for a name in the figures. All other options are those of `validate`: game, number of environments,
seed.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import product, takewhile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from omg_lightning.cli import Parts, one_line, run
from omg_lightning.evaluation import align, labels
from omg_lightning.evaluation.figures import heat_map
from omg_lightning.rollout import match
from omg_lightning.types import ConfigError


def main(args: Sequence[str] | None = None) -> None:
    """Runs the command. A mistake of the user's ends in one line on stderr and exit code 2."""
    words = list(sys.argv[1:] if args is None else args)
    checkpoints = list(takewhile(lambda word: not word.startswith("-"), words))
    parser = argparse.ArgumentParser(
        "python -m omg_lightning.commands.crossplay", "%(prog)s CHECKPOINT [CHECKPOINT ...] --config FILE ...", __doc__
    )
    parser.formatter_class, parser.allow_abbrev = argparse.RawDescriptionHelpFormatter, False
    parser.add_argument("--episodes", type=int, default=100, help="of each pair; default: %(default)s")
    parser.add_argument("--out", default="crossplay", help="path of the files, without an ending; default: %(default)s")
    own, settings = parser.parse_known_args(words[len(checkpoints) :])
    with one_line():
        if not checkpoints:
            raise ConfigError("name the checkpoints first, then --config and other options")
        if own.episodes < 1:
            raise ConfigError(f"--episodes is {own.episodes}: it must be at least 1")
        names, paths = _named(checkpoints)
        parts = run(["validate", *settings], Parts)
        returns = cross_play(parts, paths, own.episodes)
        write(Path(own.out), names, paths, returns, parts)


def cross_play(parts: Parts, paths: Sequence[str], episodes: int) -> NDArray:
    """Plays every pair of checkpoints: undiscounted returns `[n, n, E, P]`, the first in seat 0.

    Every pair meets the same first starts.

    Raises:
        ConfigError: a checkpoint is missing, or of another game.
    """
    data, device = parts.datamodule, parts.trainer.strategy.root_device
    model = parts.model.to(device)
    loaded = {str(index): model.load_learner(path) for index, path in enumerate(paths)}
    result = np.zeros((len(paths), len(paths), episodes, data.num_players))
    for i, j in product(range(len(paths)), repeat=2):
        # The names of seats are free: whoever is among the learners plans.
        names = (f"checkpoint:{i}", f"checkpoint:{j}")
        learners = {name: loaded[name.removeprefix("checkpoint:")] for name in names}
        lineup = [names[0], *[names[1]] * (data.num_players - 1)]
        random = torch.Generator(device).manual_seed(data.seed)
        result[i, j] = match(data.game, lineup, learners, episodes, data.num_envs, random, data.workers).cpu().numpy()
        print(f"{i + 1} beside {j + 1}: {result[i, j, :, 0].mean():.2f}", file=sys.stderr, flush=True)
    return result


def write(out: Path, names: Sequence[str], paths: Sequence[str], returns: NDArray, parts: Parts) -> None:
    """Prints the matrix and writes JSON and heat maps of returns `[n, n, E, P]`."""
    episodes, data = returns.shape[2], parts.datamodule
    focal, team = returns[..., 0], returns.sum(-1)
    found = {"focal": focal.mean(-1), "team": team.mean(-1)}
    half = {name: 1.96 * values.std(-1) / episodes**0.5 for name, values in (("focal", focal), ("team", team))}
    numbers = {name: values.tolist() for name, values in found.items()}
    numbers |= {f"{name}_half_interval": values.tolist() for name, values in half.items()}
    about = {"game": data.game_options, "names": list(names), "checkpoints": list(paths)}
    out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**about, "episodes": episodes, "seed": data.seed, **numbers}, indent=2)
    out.with_name(f"{out.name}.json").write_text(text + "\n")
    titles = {"focal": ("", "return of seat 0"), "team": ("_team", "team return")}
    for name, (ending, title) in titles.items():
        figure = heat_map(found[name], names, title)
        figure.savefig(out.with_name(f"{out.name}{ending}.png"), dpi=300)
        head = [f"{title}: seat 0 \\ others", *names]
        rows = [[row, *(f"{value:.2f}" for value in values)] for row, values in zip(names, found[name], strict=True)]
        print(align([head, *rows]))
        print(_summary(found[name]) + "\n")
    print(f"written to {out}.json, {out}.png and {out}_team.png")


def _summary(values: NDArray) -> str:
    """Means of the diagonal and of the rest."""
    same = np.eye(len(values), dtype=bool)
    text = f"self-play {values[same].mean():.2f}"
    return text if len(values) == 1 else f"{text}, cross-play {values[~same].mean():.2f}"


def _named(checkpoints: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names for figures, and paths, of what the user wrote: NAME=PATH or PATH."""
    split = [word.rpartition("=") for word in checkpoints]
    paths = [path for _, _, path in split]
    short = labels([f"{Path(path).parent.name or '.'}/{Path(path).stem}" for path in paths])
    return [name or given for (name, _, _), given in zip(split, short, strict=True)], paths


if __name__ == "__main__":
    main()
