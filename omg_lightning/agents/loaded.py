"""A trained agent in one seat of the user's own environment loop."""

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from omg_lightning.actors import ModelActor
from omg_lightning.agents.episode import Episode, RootSearch
from omg_lightning.agents.tables import Table, table_of
from omg_lightning.envs.base import VectorEnv
from omg_lightning.games import Game
from omg_lightning.seeds import generator_of
from omg_lightning.spec import GameSpec
from omg_lightning.training import Agent, read_agent, restore
from omg_lightning.training.checks import check_match, check_sizes
from omg_lightning.types import ConfigError

Chances = dict[str, Any]  # name -> probability: a float, or a Tensor [B] in a batch


class LoadedAgent:
    """Plays one seat with trained networks, and returns its beliefs about the others and predictions of their actions.

        env = stag_hunt_v0.parallel_env(preset="4h1s_4x4")
        agent = load_agent("zoo:4h1s_4x4")
        observations, infos = env.reset(seed=1)
        agent.reset(env, seat=0)
        action = agent.act(observations["hunter_0"])

    Usage depends on the environment:

    - A game of this project in PettingZoo's interface: the agent reads all actions from `env.history`, and a search
      starts from `env.game_state`. Steps without a call of `act` are allowed.
    - Any other PettingZoo `ParallelEnv`: call `observe(actions)` after each `env.step(actions)`, unless the opponent
      model is `Direct`. The agent needs the observations of all agents: pass the dict of all observations to `act`. A
      search cannot play there.
    - A `Game` with `batch_size=B`: call `act(state)` and `observe(actions)`, where actions are int64 `[B, P]`, and step
      the game yourself.
    - A `VectorEnv` with `batch_size=B`: call `act(step)` and `observe(actions, step)`.

    Beliefs about the other seats carry over from episode to episode, as in training, until
    `reset(..., new_partners=True)`, another seat, or another batch size. All randomness comes from the seed: the same
    calls return the same actions.

    Args:
        module: the networks.
        seed: of the goals that trees sample and, if not `greedy`, of actions.
        greedy: take the best action, as evaluations do, instead of sampling one.
        other_rules: accept games with other rules than in training, if observations, players and actions have the same
            sizes.
        made: how the agent was made.

    Attributes:
        spec: names and sizes of the game of the training.
        made: how the agent was made, for an exported agent; empty for a checkpoint.
        seat: index of its seat.
        search: see `RootSearch`; None before the first `act`, and for an algorithm that does not search.

    Raises:
        ConfigError: the opponent model needs the true goals of the others, or its actor has no opponent model.
    """

    def __init__(
        self,
        module: Agent,
        seed: int = 0,
        greedy: bool = True,
        other_rules: bool = False,
        made: Mapping[str, Any] | None = None,
    ) -> None:
        actor = module.actor()
        if not isinstance(actor, ModelActor):
            raise ConfigError(f"{type(actor).__name__} is not a ModelActor, so it has no beliefs: load another agent")
        if actor.needs_true_goal:
            raise ConfigError(
                f"the opponent model {type(module.opponent).__name__} needs the true goals of co-players, which are "
                "unknown here: load an agent with another opponent model"
            )
        self.module, self.spec = module, module.game
        self.seed, self.greedy, self.other_rules = seed, greedy, other_rules
        self.made: Mapping[str, Any] = dict(made or {})
        self.search: RootSearch | None = None
        self.seat = 0
        self._actor = actor
        self._episode: Episode | None = None
        self._batch = 1
        self._random = generator_of(seed, "agent", module.device, 0)

    @property
    def game(self) -> Game | VectorEnv:
        """A new game, or environment, with the rules of the training.

        Raises:
            ConfigError: the game does not belong to this project.
        """
        return self.spec.make()

    # Episodes -------------------------------------------------------------------------------------------------------

    def reset(
        self,
        env: Any,
        seat: int | str = 0,
        *,
        batch_size: int | None = None,
        new_partners: bool = False,
        seed: int | None = None,
    ) -> None:
        """Take a seat for the next episode; call this once per episode, before or after `env.reset`.

        Args:
            env: see the class.
            seat: its index, or the agent's name in `env.possible_agents`.
            batch_size: B, number of parallel copies of a `Game` or a `VectorEnv`.
            new_partners: reset the beliefs about the other seats.
            seed: reset the random number generator.

        Raises:
            ConfigError: the environment does not fit the agent's game, or has no such seat.
        """
        table = self._table(env, batch_size)
        number, batch = _seat_of(seat, table.env), batch_size or 1
        with torch.inference_mode():
            if self._episode is None or new_partners or (number, batch) != (self.seat, self._batch):
                prior = self._actor.prior(batch)
            else:
                prior = self._episode.carried()
        if seed is not None or number != self.seat:
            self.seed = self.seed if seed is None else seed
            self._random = generator_of(self.seed, "agent", self.module.device, number)
        self.seat, self._batch, self.search = number, batch, None
        self._episode = Episode(self._actor, table, number, prior, self._random, self.greedy)

    def act(self, observation: Any, legal: Any = None) -> Any:
        """Return the action at this step.

        Args:
            observation: the seat's observation, or the dict of all agents' observations; for a batch see the class.
            legal: mask of the legal actions, if the environment has it only in the infos.

        Returns:
            An int for `env.step`; int64 `[B]` for a batch. A seat that has left plays the game's `noop`.

        Raises:
            ConfigError: the observation is not of this step, or a step was missed.
        """
        episode = self._now
        table = episode.table
        if episode.acted and table.env.game is None:
            episode.skip()
        with torch.inference_mode():
            episode.look(observation, legal)
            action, self.search = episode.act()
        return table.native(int(action), self.seat) if table.single else action.clone()

    def look(self, observation: Any, legal: Any = None) -> None:
        """Observe this step without acting, for `belief` and `predict`; arguments as in `act`."""
        with torch.inference_mode():
            self._now.look(observation, legal)

    def observe(self, actions: Any, found: Any = None) -> None:
        """Update the belief by the actions of all players. Not needed in this project's PettingZoo games.

        Args:
            actions: the dict passed to `env.step`; int64 `[B, P]` in seat order for a batch.
            found: the result of the step, if known: the rewards by agent of a PettingZoo environment, with which the
                prior over learned goals (`Codebook`) carries over; or the `Step` of a `VectorEnv`.

        Raises:
            ConfigError: there is no observation of this step yet.
        """
        with torch.inference_mode():
            self._now.observe(self._now.table.joint(actions).to(self.module.device), found)

    def rewind(self, steps: int) -> None:
        """Restore the belief after a number of steps of this episode, for example to undo a move.

        Then `act` takes the state of that time. It does not work with this project's PettingZoo environments, which
        cannot be rewound.

        Raises:
            ConfigError: the episode has fewer steps.
        """
        self._now.rewind(steps)

    # Beliefs ------------------------------------------------------------------------------------------------------

    def belief(self) -> dict[str, Chances]:
        """Return the belief at the current step: for each co-player, by agent name, a dict of goal to probability.

        Learned goals are called `code_0`, `code_1`, ... The dict is empty if the opponent model has no explicit belief,
        and for a co-player that has left. For a batch probabilities are `[B]`, 0 for a co-player that has left.
        """
        episode = self._current()
        with torch.inference_mode():
            shown = self.module.opponent.belief_view(episode.seen_goals(), self.spec.goal_names)
        if shown is None:
            return {name: {} for name, _ in self._others(episode)}
        return {name: self._chances(shown.labels, shown.values[:, seat], seat) for name, seat in self._others(episode)}

    def predict(self) -> dict[str, Chances]:
        """Return the predicted action of each co-player at this step: a dict of action to probability.

        With an explicit belief it is the mixture of the policies of each goal, as in evaluations. The dict is empty for
        a co-player that has left; in a batch its probabilities are 0.

        Raises:
            ConfigError: the co-players' observations are unknown.
        """
        episode = self._current()
        view = episode.view
        assert view is not None
        if not episode.table.whole:
            raise ConfigError(
                "predict needs the co-players' observations: pass the dict of all observations to act, not only this "
                "agent's own"
            )
        found = {}
        with torch.inference_mode():
            goals = episode.seen_goals()
            for name, seat in self._others(episode):
                seats = torch.full((self._batch,), seat, device=goals.device)
                observation, legal = view.observation[:, seat].float(), view.legal[:, seat]
                logits = self.module.opponent.forecast(observation, view.time, seats, legal, goals[:, seat])
                found[name] = self._chances(self.spec.action_names, logits.softmax(-1), seat)
        return found

    # Inside ---------------------------------------------------------------------------------------------------------

    @property
    def _now(self) -> Episode:
        if self._episode is None:
            raise ConfigError("the agent has no seat yet: call agent.reset(env, seat) first")
        return self._episode

    def _table(self, env: Any, batch_size: int | None) -> Table:
        """Check that the agent can play in an environment, and return its table."""
        table = table_of(env, batch_size, self.spec.max_steps, self.module.device)
        algorithm = self.module.algorithm
        if algorithm.searches and table.env.game is None:
            raise ConfigError(
                f"{type(algorithm).__name__} searches, but {table.env.name} cannot be stepped from a state: load an "
                "agent of PPO, or play its CopyableGame in a batch"
            )
        own = GameSpec.of(table.env).plain()
        if table.same_rules:
            check_match(self.module.hparams, {"spec": own}, False, self.other_rules)
        else:
            check_sizes(self.module.hparams["spec"], own)
        return table

    def _current(self) -> Episode:
        """Return the episode, advanced to the latest known step."""
        episode = self._now
        if episode.table.live:
            self.look(None)
        if episode.view is None:
            raise ConfigError("the agent has not observed this step yet: call act or look first")
        return episode

    def _others(self, episode: Episode) -> list[tuple[str, int]]:
        """Return names and seats of the co-players."""
        return [(name, seat) for seat, name in enumerate(episode.table.env.agent_names) if seat != self.seat]

    def _chances(self, names: tuple[str, ...], values: Tensor, seat: int) -> Chances:
        """Return a co-player's probabilities `[B, n]` as a dict of names."""
        episode = self._now
        assert episode.view is not None
        there = episode.view.active[:, seat]
        if not episode.table.single:  # a co-player that has left has no goal, so its predictions are not a number
            values = torch.where(there[:, None], values, 0.0)
            return {name: values[:, k].clone() for k, name in enumerate(names)}
        return dict(zip(names, values[0].tolist(), strict=True)) if there else {}


def load_agent(
    source: str | os.PathLike[str],
    *,
    seed: int = 0,
    greedy: bool = True,
    other_rules: bool = False,
    device: torch.device | str = "cpu",
) -> LoadedAgent:
    """Load a trained agent, ready to play.

    Args:
        source: a checkpoint file, a run folder, a folder that `export` wrote, or `zoo:NAME`.
        seed: see `LoadedAgent`.
        greedy: see `LoadedAgent`.
        other_rules: see `LoadedAgent`.
        device: where its networks run.

    Raises:
        ConfigError: the agent does not exist, or its files are damaged or of another version.
    """
    stored = read_agent(source)
    return LoadedAgent(restore(stored, device), seed, greedy, other_rules, stored.made)


def _seat_of(seat: int | str, env: VectorEnv) -> int:
    """Return the index of a seat."""
    names = list(env.agent_names)
    number = names.index(str(seat)) if str(seat) in names else seat
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(names):
        raise ConfigError(f"{env.name} has no seat {seat!r}: expected 0 to {len(names) - 1}, or one of {names}")
    return number
