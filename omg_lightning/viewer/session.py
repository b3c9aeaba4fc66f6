"""One game of a person, agents and scripts, step by step, with undo."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from omg_lightning.actors import make_player
from omg_lightning.actors.scripted import ANYWHERE
from omg_lightning.agents import LoadedAgent
from omg_lightning.games import Game, Player
from omg_lightning.games.base import replace_illegal
from omg_lightning.games.grid.render import captures_of
from omg_lightning.games.scripts import actions_of, goals_of
from omg_lightning.spaces import dtype_of
from omg_lightning.types import NO_GOAL, ConfigError, Episodes
from omg_lightning.viewer.frames import describe_game, describe_mind, describe_state

HUMAN = "human"
_SEEDS = 2**31


class Moved(NamedTuple):
    """One step that was played; everything has B = 1."""

    state: Any  # before it
    joint: Tensor  # int64 [1, P] played actions
    reward: Tensor  # float [1, P]
    achieved: Tensor  # int64 [1, P]
    true_goal: Tensor  # int64 [1, P] goals that scripts pursued
    after: Any


class Session:
    """Plays games with a person, trained agents and scripts in the seats, and returns the agents' beliefs.

    Args:
        agents: trained agents by name, of one game; seats refer to these names. Each seat has a belief of its
            own.
        game: the rules; by default those of the first agent's training.
        seats: the player of each seat: `human`, a name of `agents`, or a player of the game, such as `nearest_hare`.
        seed: of games, scripts and agents.

    Attributes:
        seats: the player of each seat.
        frames: the frame of each state of the current episode, see `omg_lightning.viewer.frames`.

    Raises:
        ConfigError: a player is unknown.
    """

    def __init__(
        self, agents: Mapping[str, LoadedAgent], seats: Sequence[str], game: Game | None = None, seed: int = 0
    ) -> None:
        found = next(iter(agents.values())).game if game is None else game
        if not isinstance(found, Game):
            raise ConfigError(f"{found.name} cannot be stepped from a state, as the page requires: choose another game")
        self.game, self.agents, self.seed = found, dict(agents), seed
        self.games = 0  # played so far: each has a seed of its own
        self.frames: list[dict[str, Any]] = []
        self.moved: list[Moved] = []
        self.seats: list[str] = []
        self.take_seats(seats)

    # Players --------------------------------------------------------------------------------------------------------

    @property
    def choices(self) -> list[str]:
        """The names of all possible players of a seat."""
        return [HUMAN, *self.agents, *self.game.players, *ANYWHERE]

    def take_seats(self, seats: Sequence[str]) -> None:
        """Change the players, reset all beliefs, and start a game."""
        if len(seats) != self.game.num_players:
            raise ConfigError(
                f"got {len(seats)} players, but {self.game.name} has {self.game.num_players} seats: give one for each"
            )
        for name in seats:
            if name not in (HUMAN, *self.agents):
                make_player(name, self.game)  # raises ConfigError
        self.seats = list(seats)
        self._minds = {
            seat: LoadedAgent(self.agents[name].module, seed=self.seed + seat, made=self.agents[name].made)
            for seat, name in enumerate(seats)
            if name in self.agents
        }
        self.new_game()

    def new_game(self) -> None:
        """Start another game with the same players; agents keep their beliefs from earlier games."""
        self.games += 1
        self.moved, self.frames = [], []
        random = torch.Generator().manual_seed((self.seed * 7919 + self.games) % _SEEDS)
        self.state = self.game.reset(1, random)
        for seat, mind in self._minds.items():
            mind.reset(self.game, seat, batch_size=1)
        self._seat_scripts()
        self._show()

    # Playing --------------------------------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """Whether the game has ended."""
        return not bool(self.game.active(self.state).any())

    @property
    def waits(self) -> list[int]:
        """The seats of people who must choose an action now."""
        active = self.game.active(self.state)[0].tolist()
        return [seat for seat, name in enumerate(self.seats) if name == HUMAN and active[seat]]

    def play(self, actions: Mapping[int, int]) -> None:
        """Play one step.

        Args:
            actions: the actions of the people who must choose, by seat. An illegal one counts as the game's `noop`.

        Raises:
            ConfigError: the game is over, or an action is missing or unknown.
        """
        if self.over:
            raise ConfigError("the game has ended: start a new one")
        game = self.game
        for seat in self.waits:
            if actions.get(seat) not in range(game.num_actions):
                raise ConfigError(
                    f"seat {seat} got the action {actions.get(seat)!r}: expected 0 to {game.num_actions - 1}"
                )
        observation, legal = game.observe(self.state), game.legal(self.state)
        joint = torch.full((1, game.num_players), game.noop)
        pursued = torch.full((1, game.num_players), NO_GOAL)
        for seat, script in self._scripts.items():
            pursued[:, seat] = goals_of(script, game, observation[:, seat], legal[:, seat])
            joint[:, seat] = actions_of(script, observation[:, seat], legal[:, seat])
        for seat, action in self._chosen.items():
            joint[:, seat] = action
        for seat in self.waits:
            joint[:, seat] = actions[seat]
        joint = torch.where(game.active(self.state), replace_illegal(joint, legal, game.noop), game.noop)
        achieved = game.realised(self.state, joint)
        after, reward = game.step(self.state, joint)
        for mind in self._minds.values():
            mind.observe(joint)
        self.moved.append(Moved(self.state, joint, reward, achieved, pursued, after))
        self.state = after
        self._show()

    def play_out(self) -> None:
        """Play until the game is over or a person must choose."""
        while not self.over and not self.waits:
            self.play({})

    def rewind(self, steps: int) -> None:
        """Go back to the state after a number of steps.

        Raises:
            ConfigError: the episode has fewer steps.
        """
        if not 0 <= steps <= len(self.moved):
            raise ConfigError(f"got step {steps}: expected 0 to {len(self.moved)}")
        if steps == len(self.moved):
            return
        self.state = self.moved[steps].state
        self.moved, self.frames = self.moved[:steps], self.frames[:steps]
        for mind in self._minds.values():
            mind.rewind(steps)
        self._seat_scripts()
        for move in self.moved:  # scripts have a memory, and draw random numbers
            observation, legal = self.game.observe(move.state), self.game.legal(move.state)
            for seat, script in self._scripts.items():
                actions_of(script, observation[:, seat], legal[:, seat])
        self._show()

    # Display and recording -----------------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """Return what the page needs before the first state."""
        return {**describe_game(self.game), "seats": self.seats, "choices": self.choices}

    def episodes(self) -> Episodes:
        """Return the game so far in the form of the training buffer, `[T, 1, P, ...]`."""
        steps, seats = len(self.moved), self.game.num_players
        views = [self.game.observe(move.state) for move in self.moved]
        over = [~self.game.active(move.after) & self.game.active(move.state) for move in self.moved]
        ended = [self.game.terminated(move.after) for move in self.moved]
        stack = torch.stack
        return Episodes(
            observation=stack(views).to(dtype_of(self.game.observation_space)),
            legal=stack([self.game.legal(move.state) for move in self.moved]),
            action=stack([move.joint for move in self.moved]),
            reward=stack([move.reward for move in self.moved]),
            active=stack([self.game.active(move.state) for move in self.moved]),
            terminated=stack([done & end for done, end in zip(over, ended, strict=True)]),
            truncated=stack([done & ~end for done, end in zip(over, ended, strict=True)]),
            learner=torch.zeros(steps, 1, seats, dtype=torch.bool),
            goal=torch.zeros(steps, 1, seats, 0),
            achieved_goal=stack([move.achieved for move in self.moved]),
            true_goal=stack([move.true_goal for move in self.moved]),
            extras={},
        )

    def _seat_scripts(self) -> None:
        """Make the scripted players at the start of a game; the same ones for the same game."""
        self._scripts: dict[int, Player] = {}
        for seat, name in enumerate(self.seats):
            if seat not in self._minds and name != HUMAN:
                script = make_player(name, self.game)
                random = torch.Generator().manual_seed((self.seed * 104_729 + self.games * 31 + seat) % _SEEDS)
                script.reset(1, seat, self.game, random)
                self._scripts[seat] = script

    def _show(self) -> None:
        """Query the agents about the state, and add its frame."""
        game, last = self.game, self.moved[-1] if self.moved else None
        captures = []
        if last is not None and game.layout is not None:
            before = game.observe(last.state)[0, 0]
            captures = captures_of(before, last.achieved[0].tolist(), game.goal_names, game.layout.plane_names)
        active, self._chosen = game.active(self.state)[0].tolist(), {}
        minds: dict[int, Any] = {}
        for seat, mind in self._minds.items():
            if self.over:
                continue
            action = int(mind.act(self.state))
            self._chosen[seat] = action
            if active[seat]:
                minds[seat] = describe_mind(mind, action)
        total = sum((move.reward[0] for move in self.moved), torch.zeros(game.num_players))
        played = {}
        if last is not None:
            there = game.active(last.state)[0]
            played = {int(seat): game.action_names[int(last.joint[0, seat])] for seat in there.nonzero()}
        self.frames.append(
            {
                **describe_state(game, self.state, captures),
                "minds": minds,
                "played": played,
                "returns": [round(float(value), 4) for value in total],
                "waits": self.waits,
            }
        )
