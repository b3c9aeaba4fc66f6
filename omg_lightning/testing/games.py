"""The contract of a game, as a check for your own game."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from omg_lightning.envs.base import VectorEnv, as_env
from omg_lightning.games import checks
from omg_lightning.games.base import Game, replace_illegal
from omg_lightning.games.scripts import Player, actions_of, goals_of, scripts_of
from omg_lightning.spaces import check_space, dtype_of, is_binary, stored
from omg_lightning.testing.grids import check_layout, check_planes, check_sparse
from omg_lightning.testing.report import Report
from omg_lightning.testing.views import check_values
from omg_lightning.types import NO_GOAL, take

_PLAYER_STEPS = 8  # number of steps for which each scripted player is tested
_WILD = 3  # random actions reach this far below 0 and above A - 1
_TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}  # sums of floats may depend on the size of a batch
_ON_DEVICE = "make new tensors with `device=state.time.device`, and move constants there"
_PURE = "clone tensors before you change them, or use functions that return new tensors, such as torch.where"
_EXPECTED = {  # of each method of a game
    "reset": "initial states for any batch size and generator",
    "active": "a mask for any state",
    "legal": "a mask for any state",
    "terminated": "a mask for any state",
    "observe": "views of any state",
    "reshuffle": "a state with the same views for all players",
    "observe_sparse": "sparse views of any state, with a board and without",
    "board": "the constants of the episodes of any state",
    "step": "the next state and rewards, for any state and any integers as actions",
    "realised": "goals, for any state and any integers as actions",
}


def check_game(game: Game, batch_size: int = 16, seed: int = 0) -> None:
    """Check that `game` keeps the contract of `omg_lightning.games.Game`.

    The check plays whole episodes with random actions, illegal ones among them, and tries the game's scripted players.
    Its time grows with `max_steps`, so use a small game. Torch's global random state is not changed.

    The check runs on the CPU, and on "cuda" if available. It also runs the rules on the device "meta", which
    finds constants on the wrong device without an accelerator. Rules that need values, such as `nonzero`, cannot run
    there, so an error on "meta" is ignored; `check_device(game, "meta")` reports it.

    Args:
        game: the game to check.
        batch_size: B, number of parallel episodes, at least 2.
        seed: seed of all randomness.

    Raises:
        CheckError: the game breaks the contract. One sentence says what was got, what was expected, and the cure.
        ConfigError: `batch_size` is less than 2.
    """
    batch_size = checks.whole("batch_size", batch_size, 2)
    report = _report(game)
    _check_sizes(report, game)
    _check_names(report, game)
    check_layout(report, game)
    asked = _Asked(report, game)
    with torch.random.fork_rng(devices=[]):
        _check_reset(asked, batch_size, seed)
        _check_episodes(asked, batch_size, seed)
        _check_players(asked, batch_size, seed)
        _check_meta(report, game, batch_size, seed)
        if torch.cuda.is_available():
            check_device(game, "cuda", batch_size, seed)


def check_device(game: Game, device: str, batch_size: int = 16, seed: int = 0) -> None:
    """Check that all rules of `game` run on `device`, and return tensors there.

    Tensors on "meta" have no values: any constant on the CPU and any wait for a value is an error. Rules that choose by
    values, such as `nonzero`, cannot run there. They are not a mistake in a game, but make it slower on an accelerator.

    No generator can draw on "meta", so `reset` runs on the CPU for it. So does `board`, which is made once for many
    states and may wait for values.

    Args:
        game: the game to check. On "meta" a copy runs, so that the game does not lose constants that it moves there.
        device: where to run, such as "meta" or "cuda".
        batch_size: B, number of parallel episodes.
        seed: seed of the initial states.

    Raises:
        CheckError: a rule fails there, or returns a tensor on another device.
    """
    report = _report(game)
    if device == "meta":
        expected, cure = "a game that copy.deepcopy copies", "keep no open files or generators in the game"
        game = report.call("__deepcopy__", copy.deepcopy, game, expected=expected, cure=cure)
    asked = _Asked(report, game, f" on the device {device}", _ON_DEVICE)
    for member, value in _results_on(asked, batch_size, seed, device).items():
        _require_device(report, member, value, device)


def random_actions(game: Game, state: Any, generator: torch.Generator) -> Tensor:
    """Draw actions for the test of a game: int64 `[B, P]`.

    Legal actions with a higher index are more probable, because these often take or use an object. One
    action in eight is any integer in or near the range of the actions.
    """
    weight = game.legal(state) * (1.0 + torch.arange(game.num_actions)) ** 2
    legal = torch.multinomial(weight.flatten(0, 1), 1, generator=generator).view(weight.shape[:2])
    wild = torch.randint(-_WILD, game.num_actions + _WILD, legal.shape, generator=generator)
    return torch.where(torch.rand(legal.shape, generator=generator) < 1 / 8, wild, legal)


class _Asked:
    """Calls the methods of a game through a report, which raises their errors.

    Args:
        report: raises the failures.
        game: the game.
        where: added to the expected result of each method.
        cure: advice if a method raises; by default the message names the failing line.
    """

    def __init__(self, report: Report, game: Game, where: str = "", cure: str = "") -> None:
        self.report, self.game, self._where, self._cure = report, game, where, cure

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.game, name)
        return self._through_report(name, found) if name in _EXPECTED else found

    def own(self, name: str) -> Callable[..., Any]:
        """Return the subclass's own method, without the invariants that the base class wraps around it."""
        method = getattr(self.game, name)
        rules = getattr(method, "__wrapped__", None)
        return self._through_report(name, method if rules is None else partial(rules, self.game))

    def legal_actions(self, state: Any, actions: Tensor) -> Tensor:
        """Replace illegal actions, see `replace_illegal`."""
        return replace_illegal(actions, self.legal(state), self.game.noop)

    def all(self, state: Any, actions: Tensor, board: Any = None) -> dict[str, Tensor]:
        """Return the results of all rules for a state and actions, by method and field."""
        after, rewards = self.step(state, actions)
        found = _by_field("step", after) | {"step: rewards": rewards, "realised": self.realised(state, actions)}
        found |= {name: getattr(self, name)(state) for name in ("active", "legal", "terminated", "observe")}
        if self.game.sparse_views:
            found["observe_sparse"] = self.observe_sparse(state, board)
        return found

    def _through_report(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        return partial(self.report.call, name, method, expected=_EXPECTED[name] + self._where, cure=self._cure)


def _report(game: Game) -> Report:
    """Return a report in the game's name; raise a CheckError if it is not a game."""
    if isinstance(game, type):
        Report("check_game").fail("game", f"the class {game.__name__}", "a game", f"call it, as {game.__name__}(...)")
    if not isinstance(game, Game):
        got = f"an instance of {type(game).__name__}"
        Report("check_game").fail(
            "game", got, "an instance of a subclass of omg_lightning.games.Game", "derive it from Game"
        )
    return Report(type(game).__name__)


def _check_sizes(report: Report, game: Game) -> None:
    for member in ("num_players", "num_actions", "max_steps"):
        value = _attribute(report, game, member, "a whole number >= 1")
        report.require(_whole(value, 1), member, repr(value), "a whole number >= 1", f"set {member} to such a number")
    for member in ("prosocial", "sparse_views", "has_board"):
        value = getattr(game, member)
        report.require(isinstance(value, bool), member, repr(value), "True or False", f"set {member} to one of them")
    last, cure = game.num_actions - 1, "set noop to the action that replaces an illegal one"
    in_range = _whole(game.noop, 0) and game.noop <= last
    report.require(in_range, "noop", repr(game.noop), f"the index of an action, 0 to {last}", cure)
    space = _attribute(report, game, "observation_space", "the space of one seat's view")
    cure = "set observation_space to a gymnasium Box or MultiBinary; gymnasium.spaces.flatten_space makes one"
    report.call("observation_space", check_space, space, report.name, expected="a space of tensors", cure=cure)
    report.call("observation_space", dtype_of, space, expected="a dtype that torch has", cure="use float32 or uint8")


def _attribute(report: Report, game: Game, member: str, expected: str) -> Any:
    return report.call(member, getattr, game, member, expected=expected, cure=f"set {member} in __init__")


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _check_names(report: Report, game: Game) -> None:
    counts = {"action_names": game.num_actions, "agent_names": game.num_players, "goal_names": None}
    for member, count in counts.items():
        names = getattr(game, member)
        strings = isinstance(names, tuple) and all(isinstance(name, str) for name in names)
        right = strings and len(set(names)) == len(names) and count in (None, len(names))
        expected = f"a tuple of {'' if count is None else f'{count} '}different names"
        report.require(right, member, repr(names), expected, f"set {member} to such a tuple")
    players, known = game.players, list(game.players) if isinstance(game.players, Mapping) else []
    report.require(isinstance(players, Mapping), "players", repr(players), "a mapping from names", "use a dict")
    scripts = report.call("scripts", scripts_of, game, expected="two names, or none", cure="name two players, or none")
    unknown = [name for name in scripts if name not in known]
    report.require(not unknown, "scripts", unknown, f"names in players, {known}", "add them to players")


def _check_reset(asked: _Asked, batch_size: int, seed: int) -> None:
    report = asked.report
    state, again = (asked.reset(batch_size, torch.Generator().manual_seed(seed)) for _ in range(2))
    _check_state(report, "reset", state, batch_size)
    _check_state(report, "reset", again, batch_size, like=state)
    started = state.time != 0
    report.nowhere(started, "reset", "the time", "0 in every row", "start with torch.zeros", state.time)
    name = _difference(state, again)
    cure = "draw all from the generator, by `generator=generator` in each random function of torch"
    report.require(not name, "reset", f"two values of `{name}` with one seed", "the same states for one seed", cure)
    active = asked.active(state)
    report.tensor("active", active, (batch_size, asked.num_players), "[B, P]", (torch.bool,))
    cure = "make every seat active from the first step on"
    report.nowhere(~active, "active", "an inactive seat after reset", "True everywhere", cure)
    _check_state(report, "reset", asked.reset(1), 1)  # without a generator


def _check_state(report: Report, member: str, state: Any, rows: int, like: Any = None) -> None:
    """Check that `state` is a flat NamedTuple of tensors with this number of rows, and has the fields of `like`."""
    named = isinstance(state, tuple) and hasattr(state, "_fields")
    got, cure = f"a state of type {type(state).__name__}", "return an instance of a typing.NamedTuple"
    report.require(named, member, got, "a NamedTuple of tensors", cure)
    same = like is None or type(state) is type(like)
    report.require(same, member, got, f"a {type(like).__name__}, as before", "return a state of the same type")
    for name, field in state._asdict().items():
        got, cure = f"a field `{name}` of type {type(field).__name__}", "store other values in the game"
        report.require(isinstance(field, Tensor), member, got, "only tensors in a state", cure)
        leads = field.dim() > 0 and len(field) == rows
        got, cure = (
            f"a field `{name}` of shape {list(field.shape)}",
            "make the batch the leading dimension of every field",
        )
        report.require(leads, member, got, f"{rows} rows, the batch size", cure)
        if like is not None:
            old = getattr(like, name)
            kept = field.dtype == old.dtype and field.shape == old.shape
            got, expected = f"a field `{name}` {_kind(field)}", f"{_kind(old)}, as before"
            report.require(kept, member, got, expected, "keep its shape and dtype")
    time = getattr(state, "time", None)
    counts = time is not None and time.dtype == torch.int64 and time.dim() == 1
    got = f"fields {state._fields}" if time is None else f"a field `time` {_kind(time)}"
    report.require(counts, member, got, "a field `time`, int64 [B]", "count the played steps in it")


def _kind(field: Tensor) -> str:
    return f"{str(field.dtype).removeprefix('torch.')} {list(field.shape)}"


def _check_episodes(asked: _Asked, batch_size: int, seed: int) -> None:
    """Play until all episodes are over, and one step more; check all rules at every step."""
    report, generator = asked.report, torch.Generator().manual_seed(seed)
    state = asked.reset(batch_size, generator)
    board = asked.board(state) if asked.has_board else None
    left = torch.zeros(batch_size, asked.num_players, dtype=torch.bool)
    for _ in range(asked.max_steps):
        _check_looks(asked, state, board)
        active = asked.active(state)
        cure = "keep active False for a seat until the episode is over"
        report.nowhere(active & left, "active", "a seat that had left and is back", "no seat to return", cure)
        left |= ~active
        if left.all():
            break
        state = _check_step(asked, state, board, generator)
    _check_looks(asked, state, board)
    got = f"an active seat after max_steps={asked.max_steps} steps"
    report.nowhere(asked.active(state), "active", got, "False", "return False where `time >= max_steps`")
    _check_step(asked, state, board, generator)


def _check_looks(asked: _Asked, state: Any, board: Any) -> None:
    """Check the results of all methods that read a state, and that they do not change the state."""
    report = asked.report
    rows, seats = len(state.time), asked.num_players
    for member, letters in (("active", "[B, P]"), ("terminated", "[B, P]"), ("legal", "[B, P, A]")):
        shape = (rows, seats, asked.num_actions)[: letters.count(",") + 1]
        report.tensor(member, _pure(asked, member, state, own=True), shape, letters, (torch.bool,))
    active, legal, terminated = asked.active(state), asked.legal(state), asked.terminated(state)
    counts = legal.sum(-1)
    cure = "set `legal[..., self.noop] = True` there"
    report.nowhere(counts == 0, "legal", "no legal action", "at least one", cure)
    illegal = ~legal[..., asked.noop] & ~active
    report.nowhere(illegal, "legal", "an illegal noop for an inactive seat", "only noop to be legal", cure)
    cure = "return False for all other actions of inactive seats"
    got = "for an inactive seat a number of legal actions of"
    report.nowhere((counts > 1) & ~active, "legal", got, "1, noop", cure, counts)
    got, cure = "True for an active seat", "return `... & ~self.active(state)`"
    report.nowhere(terminated & active, "terminated", got, "True only for inactive seats", cure)
    view = _pure(asked, "observe", state)
    check_values(report, "observe", asked.observation_space, view, rows, seats)
    if asked.layout is not None:
        check_planes(report, asked.layout, view, active)
    _check_reshuffle(asked, state, view)
    if asked.sparse_views:
        for known in (None, board) if asked.has_board else (None,):
            places = _pure(asked, "observe_sparse", state, known)
            check_sparse(report, asked.layout, places, view, known is not None)


def _check_reshuffle(asked: _Asked, state: Any, view: Tensor) -> None:
    """Check that `reshuffle` changes only hidden parts of a state."""
    changed = asked.reshuffle(state, torch.Generator().manual_seed(0))
    _check_state(asked.report, "reshuffle", changed, len(view), like=state)
    seen = (asked.observe(changed), asked.legal(changed), asked.active(changed), changed.time)
    known = (view, asked.legal(state), asked.active(state), state.time)
    same = all(torch.equal(one, other) for one, other in zip(seen, known, strict=True))
    expected, cure = (
        "the same views, legal actions and active seats",
        "resample only the parts that are hidden from all players",
    )
    asked.report.require(same, "reshuffle", "a state with other views", expected, cure)


def _check_step(asked: _Asked, state: Any, board: Any, generator: torch.Generator) -> Any:
    """Check one step of random actions, and return the next state."""
    report, actions = asked.report, random_actions(asked.game, state, generator)
    _check_own_step(asked, state, asked.legal_actions(state, actions))
    after, rewards = _pure(asked, "step", state, actions)
    _check_state(report, "step", after, len(actions), like=state)
    report.tensor("step", rewards, actions.shape, "[B, P]", (torch.float32,), "rewards")
    _check_rewards(asked, state, after, rewards)
    _check_goals(asked, state, asked.realised(state, actions))
    _check_function(asked, state, actions, board)
    return after


def _check_own_step(asked: _Asked, state: Any, actions: Tensor) -> None:
    """Check the results of the subclass's own `step` and `realised`, before the base class applies its invariants."""
    report, result = asked.report, _pure(asked, "step", state, actions, own=True)
    pair = isinstance(result, tuple) and len(result) == 2 and not hasattr(result, "_fields")
    report.require(pair, "step", type(result).__name__, "the pair (next state, rewards)", "return both")
    _check_state(report, "step", result[0], len(actions), like=state)
    report.tensor("step", result[1], actions.shape, "[B, P]", what="rewards")
    goals = _pure(asked, "realised", state, actions, own=True)
    report.tensor("realised", goals, actions.shape, "[B, P]", (torch.int64,))


def _check_rewards(asked: _Asked, state: Any, after: Any, rewards: Tensor) -> None:
    report, active = asked.report, asked.active(state)
    running = active.any(1)
    wrong = after.time != state.time + running
    expected = "one more than before in unfinished rows, else the same"
    cure = "return `time=state.time + 1` in the next state"
    report.nowhere(wrong, "step", "the time", expected, cure, after.time, ["row"])
    over = (~running).nonzero()[:, 0]
    name = _difference(take(state, over), take(after, over))
    cure = "return the old values in rows without active seats, or set keeps_invariants to False"
    report.require(not name, "step", f"another `{name}` in a finished row", "unchanged finished rows", cure)
    report.nowhere(~rewards.isfinite(), "step", "the reward", "a finite one", "avoid divisions by zero", rewards)
    earners = running[:, None].expand_as(active) if asked.prosocial else active
    cure = "return 0 there, or set prosocial to True if every seat gets the mean"
    got = "for a seat that has left the reward"
    report.nowhere((rewards != 0) & ~earners, "step", got, "0", cure, rewards)


def _check_goals(asked: _Asked, state: Any, realised: Tensor) -> None:
    report, last = asked.report, len(asked.goal_names) - 1
    beyond = (realised < NO_GOAL) | (realised > last)
    expected = "NO_GOAL (-1), since goal_names is empty" if last < 0 else f"NO_GOAL (-1) or a goal, 0 to {last}"
    report.nowhere(beyond, "realised", "the goal", expected, "return that, or add the goal to goal_names", realised)
    absent = (realised != NO_GOAL) & ~asked.active(state)
    cure = "return NO_GOAL for inactive seats"
    report.nowhere(absent, "realised", "for an inactive seat the goal", "NO_GOAL (-1)", cure, realised)


def _check_function(asked: _Asked, state: Any, actions: Tensor, board: Any) -> None:
    """Check that the rules are functions of each row alone, and that an illegal action counts as `noop`."""
    whole = asked.all(state, actions, board)
    order = torch.arange(len(actions)).flip(0)[: len(actions) // 2]
    cleaned = asked.legal_actions(state, actions)
    trials = (
        (
            "at a second call",
            "the same values for the same arguments",
            "draw all random numbers in reset, and store them in the state",
            asked.all(state, actions, board),
            whole,
        ),
        (
            "for illegal actions than for noop",
            f"the result of noop, {asked.noop}, or of the first legal action if noop is illegal",
            "replace illegal actions by noop, or set keeps_invariants to False",
            asked.all(state, cleaned, board),
            whole,
        ),
        (
            "for the same row in another batch",
            "independent rows",
            "use sums and indices within a row only",
            asked.all(take(state, order), actions[order], take(board, order)),
            {name: value[order] for name, value in whole.items()},
        ),
    )
    for when, expected, cure, found, wanted in trials:
        for name, value in found.items():
            method, _, part = name.partition(": ")
            got = f"another value{' of ' * bool(part)}{part} {when}"
            asked.report.require(_close(value, wanted[name]), method, got, expected, cure)


def _check_players(asked: _Asked, batch_size: int, seed: int) -> None:
    """Play a few steps with each scripted player of the game in all seats."""
    report, env = asked.report, as_env(asked.game)
    for name, make in asked.players.items():
        member = f"players[{name!r}]"
        players = [
            report.call(member, make, expected="a player that needs no arguments") for _ in range(asked.num_players)
        ]
        cure = "give it the methods reset and act, see omg_lightning.games.scripts.Player"
        fits = all(isinstance(player, Player) for player in players)
        report.require(fits, member, f"an object of type {type(players[0]).__name__}", "a player", cure)
        generator = torch.Generator().manual_seed(seed)
        state = asked.reset(batch_size, generator)
        for seat, player in enumerate(players):
            expected = "a player that can start in every seat of its game"
            report.call(f"{member}.reset", player.reset, batch_size, seat, env, generator, expected=expected)
        for _ in range(min(asked.max_steps, _PLAYER_STEPS)):
            legal, view = asked.legal(state), stored(asked.observe(state), asked.observation_space)
            view = view.float() if is_binary(asked.observation_space) else view  # as in a rollout
            acts = [
                _action(report, env, member, player, view[:, seat], legal[:, seat])
                for seat, player in enumerate(players)
            ]
            state, _ = asked.step(state, torch.stack(acts, 1).long())


def _action(report: Report, env: VectorEnv, member: str, player: Player, view: Tensor, legal: Tensor) -> Tensor:
    """Check a player's goals, its action probabilities if known, and its actions."""
    expected = "goals that are in goal_names, or NO_GOAL (-1)"
    report.call(f"{member}.goals", goals_of, player, env, view, legal, expected=expected)
    if (asked := getattr(player, "action_probabilities", None)) is not None:
        method, expected = f"{member}.action_probabilities", "probabilities, 0 for illegal actions, that sum to 1"
        chances = report.call(method, asked, view, legal, expected=expected)
        report.tensor(method, chances, legal.shape, "[B, A]", (torch.float32,))
        right = ((chances.sum(-1) - 1).abs() < 1e-4) & ((chances >= 0) & (legal | (chances == 0))).all(-1)
        cure = "multiply by the mask of legal actions, and normalise"
        legal_sum = (chances * legal).sum(-1)
        report.nowhere(~right, method, "over legal actions a sum of", expected, cure, legal_sum, ["row"])
    actions: Tensor = report.call(
        f"{member}.act", actions_of, player, view, legal, expected="an action of this game in every row"
    )
    return actions


def _check_meta(report: Report, game: Game, batch_size: int, seed: int) -> None:
    """Check that on "meta" no rule returns a tensor elsewhere; rules that cannot run there are skipped."""
    try:
        results = _results_on(_Asked(report, copy.deepcopy(game)), batch_size, seed, "meta")
    except Exception:  # rules may need values, and some games cannot be copied
        return
    for member, value in results.items():
        _require_device(report, member, value, "meta")


def _results_on(asked: _Asked, batch_size: int, seed: int, device: str) -> dict[str, Tensor]:
    """Return the results of the rules on `device`, by method and field; see `check_device` for "meta"."""
    found: dict[str, Tensor] = {}
    state = asked.reset(batch_size, torch.Generator("cpu" if device == "meta" else device).manual_seed(seed))
    board = asked.board(state) if asked.has_board else None
    if device == "meta":
        state, board = _moved(state, device), _moved(board, device)
    else:
        found |= _by_field("reset", state) | _by_field("board", board)
    actions = torch.full((batch_size, asked.num_players), asked.num_actions - 1, device=device)
    return found | asked.all(state, actions, board)


def _by_field(member: str, record: Any) -> dict[str, Tensor]:
    if record is None or isinstance(record, Tensor):
        return {} if record is None else {member: record}
    return {f"{member}: {name}": field for name, field in record._asdict().items()}


def _moved(record: Any, device: str) -> Any:
    if record is None or isinstance(record, Tensor):
        return None if record is None else record.to(device)
    return type(record)(*(_moved(field, device) for field in record))


def _require_device(report: Report, member: str, value: Tensor, device: str) -> None:
    there, wanted, (method, _, name) = value.device.type, torch.device(device).type, member.partition(": ")
    got = f"{name or 'a result'} on the device {there} for a state on {device}"
    report.require(there == wanted, method, got, "all results on the state's device", _ON_DEVICE)


def _pure(asked: _Asked, member: str, *args: Any, own: bool = False) -> Any:
    """Return the result of a method, after a check that it has not changed its arguments.

    With `own` it is the subclass's own method, see `_Asked.own`.
    """
    kept = [_copied(arg) for arg in args]
    result = (asked.own(member) if own else getattr(asked, member))(*args)
    for before, arg in zip(kept, args, strict=True):
        name = _difference(before, arg, "board" if member == "observe_sparse" else "actions")
        got, expected = f"a changed argument ({name})", "unchanged arguments"
        asked.report.require(not name, member, got, expected, _PURE)
    return result


def _copied(record: Any) -> Any:
    if record is None or isinstance(record, Tensor):
        return None if record is None else record.clone()
    return type(record)(*(_copied(field) for field in record))


def _difference(x: Any, y: Any, tensor: str = "") -> str:
    """Return the first field in which two records differ, or `tensor` for two tensors; empty for no difference."""
    if x is None or isinstance(x, Tensor):
        return "" if x is None or _equal(x, y) else tensor
    return next((name for name, a, b in zip(x._fields, x, y, strict=True) if not _equal(a, b)), "")


def _equal(x: Tensor, y: Tensor) -> bool:
    return x.shape == y.shape and bool(((x == y) | ((x != x) & (y != y))).all())  # NaN equals NaN


def _close(x: Tensor, y: Tensor) -> bool:
    if not x.is_floating_point():
        return _equal(x, y)
    return x.shape == y.shape and torch.allclose(x, y, equal_nan=True, **_TOLERANCE)
