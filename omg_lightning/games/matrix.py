"""Repeated matrix games of n players: the smallest games in which partners can be modelled.

Climbing and penalty: Claus and Boutilier, AAAI 1998. The prisoner's dilemma has the payoffs of LOLA
(arXiv 1709.04326). All values are known in closed form.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from gymnasium import spaces
from torch import Tensor

from omg_lightning.games import checks
from omg_lightning.games.base import Game
from omg_lightning.games.scripts import Player, ScriptedPlayer, uniform
from omg_lightning.types import ConfigError, ego_order

NO_ACTION = -1  # before the first step
MOST_PLAYERS = 16  # of the public goods game: its table has 2 ** n rows
_MOSTLY = 0.8  # probability with which `mostly_k` plays action k


class Preset(NamedTuple):
    """A game of the literature."""

    action_names: tuple[str, ...]
    payoff: list[Any] | None  # [A][A][2], or [A][A] for a common payoff; None: it depends on an option


PRESETS: dict[str, Preset] = {
    "prisoners_dilemma": Preset(("cooperate", "defect"), [[[-1, -1], [-3, 0]], [[0, -3], [-2, -2]]]),
    "stag_hunt": Preset(("stag", "hare"), [[[5, 5], [0, 1]], [[1, 0], [1, 1]]]),
    "chicken": Preset(("swerve", "dare"), [[[0, 0], [-1, 1]], [[1, -1], [-10, -10]]]),
    "battle_of_the_sexes": Preset(("opera", "football"), [[[3, 2], [0, 0]], [[0, 0], [2, 3]]]),
    "matching_pennies": Preset(("heads", "tails"), [[[1, -1], [-1, 1]], [[-1, 1], [1, -1]]]),
    "climbing": Preset(("top", "middle", "bottom"), [[11, -30, 0], [-30, 7, 6], [0, 0, 5]]),
    "penalty": Preset(("first", "middle", "last"), None),
    "public_goods": Preset(("contribute", "keep"), None),
}
_SHAPES = "[A] * n + [n] for n players with A actions each, or [A] * n for a payoff that all receive"


class MatrixState(NamedTuple):
    """The state of the game."""

    time: Tensor  # int64 [B] steps played
    last: Tensor  # int64 [B, memory, P] joint actions, the latest first; NO_ACTION before the start


class _Tables(NamedTuple):
    """Constants, on one device."""

    payoff: Tensor  # float32 [A ** P, P] a row for each joint action; the last seat's action varies fastest
    seats: Tensor  # int64 [P, P] row i is the ego order of seat i
    actions: Tensor  # int64 [A] 0, 1, ...


class MatrixGame(Game):
    """A payoff table, played `max_steps` times: n players choose simultaneously, and each receives its entry.

    A seat sees the last `memory` joint actions: for each of these steps, the latest first, and each seat, ego first,
    the action as a one-hot vector of length A. All entries are 0 before the first step. Every action is always legal.
    Action k is also the declared goal k of a player, which a player achieves by playing it.

    Presets, payoffs for (row player, column player):

    - `prisoners_dilemma`: both cooperate -1 each, both defect -2 each, a lone defector 0 and the other -3.
    - `stag_hunt`: both stag 5 each, a hare 1, a lone stag hunter 0.
    - `chicken`: both swerve 0, a lone dare 1 and the other -1, both dare -10.
    - `battle_of_the_sexes`: both opera (3, 2), both football (2, 3), otherwise 0.
    - `matching_pennies`: equal sides (1, -1), different sides (-1, 1).
    - `climbing`, cooperative: the optimum 11 is next to -30; 7 is safe. In 25 steps 275 and 175.
    - `penalty`, cooperative: 10 for (first, first) and (last, last), `penalty` for missing each other, 2 for the safe
      (middle, middle). In 25 steps 250 and 50.
    - `public_goods`, n players: each keeps 1, or contributes it; contributions are multiplied and shared by all. It is
      a dilemma for a `multiplier` between 1 and n.

    Args:
        preset: a game of the list above. Give either it or `payoff`.
        payoff: nested lists of numbers, of shape `[A] * n + [n]`: at the actions of seats 0, 1, ..., what each seat
            receives. Of shape `[A] * n` for a common payoff. If both shapes fit, the first one counts, unless
            `num_players` says otherwise.
        num_players: n, of `payoff` or of the public goods (4 by default). All other presets are for two.
        action_names: A names for the actions of `payoff`; by default `action_0`, `action_1`, ...
        penalty: of the preset `penalty`, at most 0 (0 by default).
        multiplier: of the public goods (1.6 by default).
        memory: number of joint actions in a view, at least 1.
        max_steps: number of steps of an episode.

    Raises:
        ConfigError: an argument is of the wrong kind or range, missing, or does not fit the preset.
    """

    def __init__(
        self,
        preset: str | None = None,
        *,
        payoff: Sequence[Any] | None = None,
        num_players: int | None = None,
        action_names: Sequence[str] | None = None,
        penalty: float | None = None,
        multiplier: float | None = None,
        memory: int = 1,
        max_steps: int = 25,
    ) -> None:
        if num_players is not None:
            checks.whole("num_players", num_players, 1)
        if (preset is None) == (payoff is None):
            got = "no preset and no payoff" if preset is None else f"preset={preset!r} and a payoff"
            raise ConfigError(
                f"MatrixGame got {got}: give either a payoff table or a preset, one of {', '.join(PRESETS)}."
            )
        _check_options(preset, {"penalty": penalty, "multiplier": multiplier})
        table = (
            _table(payoff, num_players) if preset is None else _preset_table(preset, num_players, penalty, multiplier)
        )
        self.num_actions, self.num_players = len(table), table.shape[-1]
        self.action_names = _names(preset, action_names, self.num_actions)
        self.payoff: list[Any] = table.tolist()
        self.memory = checks.whole("memory", memory, 1)
        self.max_steps = checks.whole("max_steps", max_steps, 1)
        self.observation_space = spaces.MultiBinary(self.memory * self.num_players * self.num_actions)
        self.goal_names = self.action_names
        self.players = _players(self.action_names, self.num_players)
        self.scripts = ("always_0", "always_1") if self.num_actions > 1 else ()
        self._table = table.flatten(0, -2).float()  # [A ** P, P]
        seats, team = self.max_steps * self._table, self.max_steps * self._table.sum(1)
        self.seat_bounds, self.team_bounds = ((float(x.min()), float(x.max())) for x in (seats, team))
        self._tables: dict[torch.device, _Tables] = {}
        self._arguments = {"preset": preset, "payoff": payoff, "num_players": num_players, "penalty": penalty}
        self._arguments |= {"action_names": action_names}
        self._arguments |= {"multiplier": multiplier, "memory": memory, "max_steps": max_steps}

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> "MatrixGame":
        """Build one of the games of the literature.

        Args:
            name: a key of `PRESETS`.
            **overrides: other constructor arguments.

        Raises:
            ConfigError: the preset does not exist, or an argument does not fit it.
        """
        return cls(name, **overrides)

    def __repr__(self) -> str:
        given = (f"{name}={value!r}" for name, value in self._arguments.items() if value is not None)
        return f"MatrixGame({', '.join(given)})"

    def reset(self, batch_size: int, generator: torch.Generator | None = None) -> MatrixState:
        """Return the initial state, the same in all `batch_size` rows, on the generator's device."""
        batch_size, device = checks.whole("batch_size", batch_size, 1), checks.device_of(generator)
        last = torch.full((batch_size, self.memory, self.num_players), NO_ACTION, device=device)
        return MatrixState(torch.zeros(batch_size, dtype=torch.int64, device=device), last)

    def observe(self, state: MatrixState) -> Tensor:
        """Return the last joint actions, ego first: float32 `[B, P, memory * P * A]` of 0 and 1."""
        tables = self._constants(state)
        around = state.last[:, :, tables.seats]  # [B, memory, P, P]
        shown = around[..., None] == tables.actions  # [B, memory, P, P, A]
        return shown.transpose(1, 2).flatten(2).float()

    def step(self, state: MatrixState, actions: Tensor) -> tuple[MatrixState, Tensor]:
        """Play joint actions, int64 `[B, P]`: the next state, and the payoffs, float32 `[B, P]`."""
        row = actions[:, 0]
        for seat in range(1, self.num_players):
            row = row * self.num_actions + actions[:, seat]
        last = torch.cat([actions[:, None], state.last[:, :-1]], 1)
        return MatrixState(state.time + 1, last), self._constants(state).payoff[row]

    def realised(self, state: MatrixState, actions: Tensor) -> Tensor:
        """Return the actions themselves, int64 `[B, P]`: goal k is to play action k."""
        return actions

    def _constants(self, state: MatrixState) -> _Tables:
        """Return the tables on the state's device; they are cached."""
        device = state.last.device
        if device not in self._tables:
            seats = torch.arange(self.num_players, device=device)
            self._tables[device] = _Tables(
                payoff=self._table.to(device),
                seats=ego_order(seats.expand(self.num_players, -1), seats),
                actions=torch.arange(self.num_actions, device=device),
            )
        return self._tables[device]


class Mixed(ScriptedPlayer):
    """Plays each action with a fixed probability, independent of the other players.

    Args:
        probabilities: one for each action; they sum to 1.
        goal: the declared goal that it pursues, if any.

    Raises:
        ConfigError: the probabilities are negative, or do not sum to 1.
    """

    def __init__(self, probabilities: Sequence[float], goal: str | None = None) -> None:
        values = [checks.number("probabilities", value) for value in probabilities]
        if min(values, default=-1) < 0 or abs(sum(values) - 1) > 1e-6:
            raise ConfigError(f"probabilities={values}: expected numbers >= 0 that sum to 1; divide them by their sum.")
        self.probabilities, self.goal = values, goal

    def check(self, game: Any) -> None:
        """Raise ConfigError unless there is a probability for each action of `game`."""
        if len(self.probabilities) != game.num_actions:
            raise ConfigError(
                f"Mixed has {len(self.probabilities)} probabilities, but {game.name} has {game.num_actions} actions: "
                "give one for each"
            )

    def action_probabilities(self, observation: Tensor, legal: Tensor) -> Tensor:
        """Return the fixed probabilities, `[B, A]`."""
        return _among_legal(torch.tensor(self.probabilities, device=legal.device).expand(len(legal), -1), legal)


class Reactive(ScriptedPlayer):
    """Replies to the last joint action of a matrix game. A subclass implements `reply`; action 0 cooperates."""

    def check(self, game: Any) -> None:
        """Raise ConfigError unless the views of `game` are those of a `MatrixGame` with other players."""
        width, shape = game.num_players * game.num_actions, game.observation_space.shape
        if len(shape) != 1 or shape[0] % width or min(game.num_players, game.num_actions) < 2:
            raise ConfigError(
                f"{type(self).__name__} replies to the joint actions in the views of a MatrixGame with two or more "
                f"players and actions, unlike {game.name}: choose another player"
            )

    def action_probabilities(self, observation: Tensor, legal: Tensor) -> Tensor:
        """Return `[B, A]`: 1 for the reply."""
        seats, actions = self._game.num_players, self._game.num_actions
        seen = observation[:, : seats * actions].view(len(observation), seats, actions) > 0
        played = torch.where(seen.any(-1), seen.int().argmax(-1), NO_ACTION)  # [B, P]
        reply = self.reply(played[:, 0], played[:, 1:])
        return _among_legal(torch.nn.functional.one_hot(reply, actions).float(), legal)

    def reply(self, own: Tensor, others: Tensor) -> Tensor:
        """Return the next action, int64 `[B]`.

        Args:
            own: int64 `[B]` its own last action, or NO_ACTION before the first step.
            others: int64 `[B, P - 1]` the others' last actions, or NO_ACTION.
        """
        raise NotImplementedError


class TitForTat(Reactive):
    """Cooperates first, then copies the other player's last action; of several others, the largest action."""

    def reply(self, own: Tensor, others: Tensor) -> Tensor:
        """Return the largest of the others' last actions."""
        return others.amax(1).clamp(min=0)


class GrimTrigger(Reactive):
    """Cooperates until any player defects, and plays action 1 from then on.

    The last joint action is enough for this: its own action there is not 0 once it has been triggered.
    """

    def reply(self, own: Tensor, others: Tensor) -> Tensor:
        """Return 1 if any player, itself included, did not cooperate."""
        return ((own > 0) | (others > 0).any(1)).long()


class WinStayLoseShift(Reactive):
    """Keeps its action while the others cooperate, else takes the next one (Pavlov; Nowak and Sigmund, 1993)."""

    def reply(self, own: Tensor, others: Tensor) -> Tensor:
        """Return the own action, or the next one modulo A."""
        own = own.clamp(min=0)
        return torch.where((others > 0).any(1), (own + 1) % self._game.num_actions, own)


def _players(action_names: Sequence[str], num_players: int) -> Mapping[str, Callable[[], Player]]:
    """Return the players of a matrix game by name: fixed ones that pursue a goal, and reactive ones."""
    count, players = len(action_names), dict[str, Callable[[], Player]]()
    for k, name in enumerate(action_names):
        pure = [float(action == k) for action in range(count)]
        rest = (1 - _MOSTLY) / max(count - 1, 1)
        mostly = [_MOSTLY if action == k else rest for action in range(count)]
        players[f"always_{k}"] = partial(Mixed, pure, name)
        if count > 1:
            players[f"mostly_{k}"] = partial(Mixed, mostly, name)
    if min(count, num_players) > 1:
        players |= {"tit_for_tat": TitForTat, "grim_trigger": GrimTrigger, "win_stay_lose_shift": WinStayLoseShift}
    return players


def _among_legal(chances: Tensor, legal: Tensor) -> Tensor:
    """Restrict probabilities to legal actions, `[B, A]`; once the episode is over, only `noop` is legal."""
    allowed = chances * legal
    total = allowed.sum(-1, keepdim=True)
    return torch.where(total > 0, allowed / total, uniform(legal))


def _check_options(preset: str | None, options: Mapping[str, float | None]) -> None:
    """Raise ConfigError for an option of another preset."""
    owners = {"penalty": "penalty", "multiplier": "public_goods"}
    for name, value in options.items():
        if value is not None and preset != owners[name]:
            raise ConfigError(
                f"{name}={value!r}: only the preset {owners[name]} has this option, got preset={preset!r}; remove it, "
                f"or choose preset={owners[name]!r}."
            )


def _names(preset: str | None, names: Sequence[str] | None, count: int) -> tuple[str, ...]:
    """Return the names of the actions."""
    if preset is not None:
        if names is not None:
            raise ConfigError(f"action_names={names!r}: the preset {preset} sets its own names; remove action_names.")
        return PRESETS[preset].action_names
    if names is None:
        return tuple(f"action_{index}" for index in range(count))
    found = () if isinstance(names, str) else tuple(names)
    if len(set(found)) != count or len(found) != count or not all(isinstance(name, str) for name in found):
        raise ConfigError(f"action_names={names!r}: expected {count} different names, one for each action; give these.")
    return found


def _preset_table(preset: str, num_players: int | None, penalty: float | None, multiplier: float | None) -> Tensor:
    """Return the payoffs of a preset, float64 `[A] * n + [n]`."""
    if preset not in PRESETS:
        raise ConfigError(f"preset={preset!r}: expected one of {', '.join(PRESETS)}; choose one of these.")
    if preset == "public_goods":
        return _public_goods(4 if num_players is None else num_players, 1.6 if multiplier is None else multiplier)
    if num_players not in (None, 2):
        raise ConfigError(
            f"num_players={num_players}: the preset {preset} is for 2 players; remove num_players, or choose "
            "preset='public_goods'."
        )
    miss = checks.number("penalty", 0.0 if penalty is None else penalty)
    if miss > 0:
        raise ConfigError(f"penalty={penalty!r}: expected a number <= 0; give one.")
    return _table(PRESETS[preset].payoff or [[miss, 0, 10], [0, 2, 0], [10, 0, miss]], 2)


def _public_goods(num_players: int, multiplier: float) -> Tensor:
    """Return the payoffs of the public goods, float64 `[2] * n + [n]`: action 0 contributes 1, action 1 keeps it."""
    if num_players > MOST_PLAYERS:
        raise ConfigError(
            f"num_players={num_players}: expected at most {MOST_PLAYERS}, since the table has 2 ** num_players rows; "
            "use fewer players."
        )
    seats = range(num_players)
    joint = torch.cartesian_prod(*(torch.arange(2) for _ in seats)).view(-1, num_players)  # [2 ** n, n]
    contributes = (joint == 0).double()
    shared = checks.number("multiplier", multiplier) * contributes.sum(1, keepdim=True) / num_players
    return (shared + 1 - contributes).view(*(2 for _ in seats), num_players)


def _table(payoff: Any, num_players: int | None) -> Tensor:
    """Return a user's payoff table as float64 `[A] * n + [n]`.

    Raises:
        ConfigError: the table has entries that are not finite, another shape, or another number of players.
    """
    try:
        table = torch.as_tensor(payoff, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        got = " ".join(repr(payoff).split())
        raise ConfigError(f"payoff={got}: expected nested lists of numbers of equal lengths, {_SHAPES}.") from None
    shape, rank = list(table.shape), table.dim()
    own = rank > 1 and shape[-1] == rank - 1 and len(set(shape[:-1])) == 1 and num_players in (None, rank - 1)
    common = rank > 0 and len(set(shape)) == 1 and num_players in (None, rank)
    if not (own or common) or 0 in shape:
        players = "" if num_players is None else f" with n = num_players = {num_players}"
        raise ConfigError(f"payoff has the shape {shape}: expected {_SHAPES}{players}; add or remove entries.")
    if not table.isfinite().all():
        raise ConfigError("payoff has entries that are not finite: expected finite numbers; replace inf and nan.")
    return table if own else table[..., None].expand(*shape, rank)
