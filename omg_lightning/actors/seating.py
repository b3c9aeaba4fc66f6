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
from omg_lightning.games.scripts import can_restart, scripts_of
from omg_lightning.games.switcher import SWITCHER
from omg_lightning.sources import find_agent
from omg_lightning.types import NO_GOAL, ConfigError, Episodes

LEARNER = "learner"
CHECKPOINT = "checkpoint:"
PAST = "past"  # the learner as it was some rounds ago


class Seating(NamedTuple):
    """The players of all seats in B environments."""

    who: Tensor  # int64 [B, P] index into `names`
    names: tuple[str, ...]
    scripted: Mapping[str, Actor]  # the actors without networks, by name

    def held_by(self, name: str) -> Tensor:
        """Return which seats `name` plays, bool `[B, P]`."""
        return self.who == (self.names.index(name) if name in self.names else -1)

    def keep(self, index: Tensor) -> "Seating":
        """Return the seating of the environments `index`, int64 `[R]`, in this order."""
        kept = {name: actor.among(index, len(self.who)) for name, actor in self.scripted.items()}
        return Seating(self.who[index], self.names, kept)


def has_networks(name: str) -> bool:
    """Return whether a seat's name is a current, past or stored learner, not a player class."""
    return name in (LEARNER, PAST) or name.startswith(CHECKPOINT)


def arrange(lineups: Sequence[Sequence[str]], batch: int, env: VectorEnv, device: torch.device) -> Seating:
    """Seat line-ups in `batch` environments, in turn: environment b gets line-up b mod len(lineups).

    Args:
        lineups: one name per seat: `learner`, `past`, `checkpoint:PATH`, a scripted player or a dotted path.
        batch: B.
        env: the number of seats, and the scripts of the game.
        device: of the indices.

    Raises:
        ConfigError: a line-up has the wrong number of seats, a name is unknown, or a script needs another game.
    """
    turns = torch.arange(batch, device=device) % max(len(lineups), 1)
    return seat(lineups, turns, torch.nn.functional.one_hot(turns, max(len(lineups), 1)).bool(), env)


def seat(
    lineups: Sequence[Sequence[str]], first: Tensor, possible: Tensor, env: VectorEnv, apart: bool = False
) -> Seating:
    """Seat line-ups in B environments that may change them between episodes.

    Args:
        lineups: K of them, see `arrange`.
        first: int64 `[B]` the line-up of each environment in the first episode.
        possible: bool `[B, K]` the line-ups that each environment may have.
        env: the number of seats, and the scripts of the game.
        apart: environments may end and begin at different times: a player that cannot restart some of its episodes gets
            one object for each environment.

    Raises:
        ConfigError: as `arrange`.
    """
    if not lineups:
        raise ConfigError("got no line-up: give the name of each seat's player, such as [learner, random]")
    for lineup in lineups:
        if len(lineup) != env.num_players:
            raise ConfigError(
                f"seats {list(lineup)} name {len(lineup)} players, but {env.name} has {env.num_players} seats: give "
                f"one name for each seat, such as {', '.join(['learner', 'random', *env.players])}"
            )
    names = tuple(dict.fromkeys(name for lineup in lineups for name in lineup))
    table = torch.tensor([[names.index(name) for name in lineup] for lineup in lineups], device=first.device)
    scripted: dict[str, Actor] = {}
    for index, name in enumerate(names):
        if has_networks(name):
            continue
        seated = list[Seated]()
        for place in range(env.num_players):
            rows = possible[:, table[:, place] == index].any(1).nonzero()[:, 0]
            seated += _players(name, place, rows, env, apart) if len(rows) else []
        scripted[name] = PlayerActor(tuple(seated))
    return Seating(table[first], names, scripted)


def _players(name: str, place: int, rows: Tensor, env: VectorEnv, apart: bool) -> list[Seated]:
    """Make the players of one name in one seat of the environments `rows`."""
    one = make_player(name, rules_of(env))
    if not apart or can_restart(one):
        return [Seated(one, place, rows)]
    return [Seated(make_player(name, rules_of(env)), place, row) for row in rows.split(1)]


def names_of_seats(lineups: Sequence[Sequence[str]]) -> list[str]:
    """Return for each seat the names of its players, for figures and tables: at most three names."""
    each = [list(dict.fromkeys(names)) for names in zip(*lineups, strict=True)]
    return [" or ".join(names if len(names) <= 3 else [names[0], f"{len(names) - 1} others"]) for names in each]


def scripted_lineups(env: VectorEnv) -> list[list[str]]:
    """Return the line-ups of the offline phase: k seats of the first script and P-k of the second, and all random.

    In Stag-Hunt these are the published 0NS..PNS: k nearest-stag and P-k nearest-hare hunters. A game without
    `scripts` has only the random line-up.
    """
    seats, mixed = env.num_players, []
    if scripts := scripts_of(env):
        mixed = [[scripts[0]] * k + [scripts[1]] * (seats - k) for k in range(seats + 1)]
    return [*mixed, ["random"] * seats]


def as_lineups(seats: list[str] | list[list[str]]) -> list[list[str]]:
    """Return a list of line-ups from a user's setting: one line-up, or a list of them.

    A line-up with `checkpoint:FOLDER/*` becomes one line-up per matching agent; if several seats have the pattern, all
    of them get the same agent.

    Raises:
        ConfigError: the setting has another form, or a pattern matches no agent.
    """
    nested = [not isinstance(entry, str) for entry in seats]
    if any(nested) and not all(nested):
        raise ConfigError(f"data.seats is {seats}: give a list of one name per seat, or a list of those, not both")
    lineups = [list(entry) for entry in seats] if any(nested) else [[str(name) for name in seats]]
    return [each for lineup in lineups for each in _each_agent(lineup)]


def agents_of(name: str) -> list[str]:
    """Return the names that a seat's name expands to: each agent of `checkpoint:FOLDER/*`, or the name itself.

    Raises:
        ConfigError: the pattern matches no agent.
    """
    if not is_pattern(name):
        return [name]
    pattern = name.removeprefix(CHECKPOINT)
    found = sorted(glob(pattern), key=lambda path: [int(part) if part.isdigit() else part for part in _parts(path)])
    if not found:
        raise ConfigError(
            f"the seat {name} matches no agent: give a pattern of existing paths, such as {CHECKPOINT}population/*"
        )
    return [f"{CHECKPOINT}{path}" for path in found]


def is_pattern(name: str) -> bool:
    """Return whether a seat's name is a pattern of several agents."""
    return name.startswith(CHECKPOINT) and "*" in name


def _parts(path: str) -> list[str]:
    """Split a path into text and numbers in turn, so that paths sort in numeric order."""
    return re.split(r"(\d+)", path)


def _each_agent(lineup: list[str]) -> list[list[str]]:
    """Return one line-up for each agent that its pattern matches."""
    pattern = next((name for name in lineup if is_pattern(name)), None)
    if pattern is None:
        return [lineup]
    replaced = ([agent if name == pattern else name for name in lineup] for agent in agents_of(pattern))
    return [each for one in replaced for each in _each_agent(one)]


def beside_learner(partner: str, num_players: int) -> list[str]:
    """Return the line-up of a learner in seat 0 and the same partner in all others."""
    return [LEARNER, *[partner] * (num_players - 1)]


def default_partners(env: VectorEnv) -> list[str]:
    """Return the default partners of `test`: one of each kind of player of the game."""
    scripts = scripts_of(env)
    return ["random", *scripts, *([SWITCHER] if scripts else [])]


def check_lineups(lineups: list[list[str]], env: VectorEnv) -> None:
    """Raise ConfigError unless every name in these line-ups exists and can play this game, checkpoints included.

    See `omg_lightning.sources.find_agent` for the valid paths of a checkpoint.
    """
    names = arrange(lineups, len(lineups), env, torch.device("cpu")).names
    for path in (name.removeprefix(CHECKPOINT) for name in names if name.startswith(CHECKPOINT)):
        find_agent(path)


def check_true_goals(seating: Seating, learner: Actor, episodes: Episodes) -> None:
    """Raise ConfigError if a learner needs its co-players' true goals and one of them declares none."""
    if not learner.needs_true_goal:
        return
    silent = ~seating.held_by(LEARNER) & (episodes.true_goal[0] == NO_GOAL)
    if silent.any():
        who = seating.names[int(seating.who[silent][0])]
        raise ConfigError(
            f"the opponent model needs each co-player's true goal, but {who} declares no goal: seat a script with one"
        )
