"""Line-ups of seat names, distributed over the environments of a batch."""

import re
from collections.abc import Mapping, Sequence
from glob import glob
from typing import NamedTuple

import torch
from torch import Tensor

from omg_lightning.actors.base import Actor
from omg_lightning.actors.scripted import PlayerActor, Seated, make_player, rules_of
from omg_lightning.envs.base import VectorEnv
from omg_lightning.games.scripts import scripts_of
from omg_lightning.games.switcher import SWITCHER
from omg_lightning.sources import find_agent
from omg_lightning.types import NO_GOAL, ConfigError, Episodes

LEARNER = "learner"
CHECKPOINT = "checkpoint:"
PAST = "past"  # the learner as it was some rounds ago


class Seating(NamedTuple):
    """Who sits where in each of B environments."""

    who: Tensor  # int64 [B, P] index into `names`
    names: tuple[str, ...]
    scripted: Mapping[str, Actor]  # those among them that have no networks

    def held_by(self, name: str) -> Tensor:
        """Return which seats `name` holds, bool `[B, P]`; none where it does not play."""
        return self.who == (self.names.index(name) if name in self.names else -1)

    def keep(self, index: Tensor) -> "Seating":
        """Return the same players in the environments `index` alone, int64 `[R]`, in this order."""
        kept = {name: actor.among(index, len(self.who)) for name, actor in self.scripted.items()}
        return Seating(self.who[index], self.names, kept)


def has_networks(name: str) -> bool:
    """Return whether a seat's name stands for a learner, present, past or from a checkpoint, not for a player class."""
    return name in (LEARNER, PAST) or name.startswith(CHECKPOINT)


def arrange(lineups: Sequence[Sequence[str]], batch: int, env: VectorEnv, device: torch.device) -> Seating:
    """Seat line-ups in `batch` environments, in turn: environment b gets line-up b mod len(lineups).

    Args:
        lineups: each a name for every seat: `learner`, `past`, `checkpoint:PATH`, a scripted player or a dotted path.
        batch: B.
        env: the number of seats, and the scripts that know the game.
        device: of the indices.

    Raises:
        ConfigError: a line-up has the wrong number of seats, a name is unknown, or a script needs another game.
    """
    if not lineups:
        raise ConfigError("no line-up given: name the player of each seat, such as [learner, random]")
    for lineup in lineups:
        if len(lineup) != env.num_players:
            raise ConfigError(
                f"seats {list(lineup)} name {len(lineup)} players, but {env.name} has {env.num_players} seats: give "
                f"one name for each seat, such as {', '.join(['learner', 'random', *env.players])}"
            )
    names = tuple(dict.fromkeys(name for lineup in lineups for name in lineup))
    table = torch.tensor([[names.index(name) for name in lineup] for lineup in lineups], device=device)
    who = table[torch.arange(batch, device=device) % len(lineups)]
    scripted = {}
    for index, name in enumerate(names):
        if has_networks(name):
            continue
        rows = [(who[:, seat] == index).nonzero()[:, 0] for seat in range(env.num_players)]
        seated = (Seated(make_player(name, rules_of(env)), seat, each) for seat, each in enumerate(rows) if len(each))
        scripted[name] = PlayerActor(tuple(seated))
    return Seating(who, names, scripted)


def names_of_seats(lineups: Sequence[Sequence[str]]) -> list[str]:
    """Say for each seat who may sit there, for pictures and tables: three names at most."""
    each = [list(dict.fromkeys(names)) for names in zip(*lineups, strict=True)]
    return [" or ".join(names if len(names) <= 3 else [names[0], f"{len(names) - 1} others"]) for names in each]


def scripted_lineups(env: VectorEnv) -> list[list[str]]:
    """Return the line-ups of the offline phase: k of the first script beside P-k of the second, and all random.

    In Stag-Hunt these are the published 0NS..PNS: k nearest-stag beside P-k nearest-hare hunters. A game without
    `scripts` has the random line-up alone.
    """
    seats, mixed = env.num_players, []
    if scripts := scripts_of(env):
        mixed = [[scripts[0]] * k + [scripts[1]] * (seats - k) for k in range(seats + 1)]
    return [*mixed, ["random"] * seats]


def as_lineups(seats: list[str] | list[list[str]]) -> list[list[str]]:
    """Return the line-ups that a user wrote: one line-up, or a list of them.

    A line-up with `checkpoint:FOLDER/*` becomes one for each agent that the pattern names; where it stands in several
    seats, all of them hold the same agent.

    Raises:
        ConfigError: it is something else, or a pattern names no agent.
    """
    nested = [not isinstance(entry, str) for entry in seats]
    if any(nested) and not all(nested):
        raise ConfigError(f"data.seats is {seats}: give one name for each seat, or a list of such lists, not both")
    lineups = [list(entry) for entry in seats] if any(nested) else [[str(name) for name in seats]]
    return [each for lineup in lineups for each in _each_agent(lineup)]


def agents_of(name: str) -> list[str]:
    """Return the seats that a name stands for: `checkpoint:FOLDER/*` is each agent there, any other name itself.

    Raises:
        ConfigError: there is no agent.
    """
    if not is_pattern(name):
        return [name]
    pattern = name.removeprefix(CHECKPOINT)
    found = sorted(glob(pattern), key=lambda path: [int(part) if part.isdigit() else part for part in _parts(path)])
    if not found:
        raise ConfigError(
            f"the seat {name} names no agent: expected a pattern of paths, such as {CHECKPOINT}population/*"
        )
    return [f"{CHECKPOINT}{path}" for path in found]


def is_pattern(name: str) -> bool:
    """Say whether a seat's name stands for several agents."""
    return name.startswith(CHECKPOINT) and "*" in name


def _parts(path: str) -> list[str]:
    """Split a path so that numbers in it can be sorted as such; every second part is one."""
    return re.split(r"(\d+)", path)


def _each_agent(lineup: list[str]) -> list[list[str]]:
    """Return a line-up for each agent that the patterns in it name."""
    pattern = next((name for name in lineup if is_pattern(name)), None)
    if pattern is None:
        return [lineup]
    replaced = ([agent if name == pattern else name for name in lineup] for agent in agents_of(pattern))
    return [each for one in replaced for each in _each_agent(one)]


def beside_learner(partner: str, num_players: int) -> list[str]:
    """Return the line-up of a learner in seat 0 and the same partner in all others."""
    return [LEARNER, *[partner] * (num_players - 1)]


def default_partners(env: VectorEnv) -> list[str]:
    """Return the partners of `test` unless others are named: one of each kind that the game knows."""
    scripts = scripts_of(env)
    return ["random", *scripts, *([SWITCHER] if scripts else [])]


def check_lineups(lineups: list[list[str]], env: VectorEnv) -> None:
    """Raise ConfigError unless every name in these line-ups is known and can play this game; checkpoints must be there.

    See `omg_lightning.sources.find_agent` for what a checkpoint's path may be.
    """
    names = arrange(lineups, len(lineups), env, torch.device("cpu")).names
    for path in (name.removeprefix(CHECKPOINT) for name in names if name.startswith(CHECKPOINT)):
        find_agent(path)


def check_true_goals(seating: Seating, learner: Actor, episodes: Episodes) -> None:
    """Raise ConfigError where a learner that needs the co-players' true goals met one that declares none."""
    silent = ~seating.held_by(LEARNER) & (episodes.true_goal[0] == NO_GOAL)
    if learner.needs_true_goal and silent.any():
        who = seating.names[int(seating.who[silent][0])]
        raise ConfigError(
            f"the opponent model needs each co-player's true goal, but {who} declares no goal: seat a script that does"
        )
