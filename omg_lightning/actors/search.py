"""The planning actor: a tree search with predicted co-players, and the root policy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from omg_lightning.actors.base import Scene
from omg_lightning.actors.modelled import Decision, Memory, ModelActor
from omg_lightning.actors.simulator import Networks, Simulator, wants_board
from omg_lightning.envs.base import VectorEnv
from omg_lightning.losses import masked_logits
from omg_lightning.search import SearchConfig, pooled_policy, search
from omg_lightning.types import ConfigError, Estimate, Record, put, take


@dataclass(frozen=True)
class PlannerConfig:
    """Settings of the search.

    Args:
        rule: selection rule of the search, `puct` or `gumbel`.
        c_puct: weight of the prior in PUCT; published 1 for Stag-Hunt and 15 for Snowdrift.
        c_scale: weight of values against the prior under `gumbel`, see `SearchConfig.c_scale`; published 1 for board
            games and 0.1 for Atari (Danihelka et al. 2022). A small one makes a converged prior slow to change.
        least_span: under `gumbel`, value differences below this, in standard deviations of the returns, count as if
            they were this large, so that differences within sampling noise move the prior little. 0, as published,
            always gives the best action of a few samples full weight.
        discount: per step.
        policy: the root policy, for play and as training target. `values`: softmax(beta * Q) of the root values
            averaged over trees (HOP, ICML 2024). `search`: under `puct` the visit distribution averaged over trees
            (AlphaZero), under `gumbel` the policy improved by the trees' mean values, see `pooled_policy`. It follows
            the prior among equal values.
        beta: inverse temperature of `values`.
        td_lambda: lambda of the value target: 1 for the discounted return (default); lower values rely on the root
            values of later steps, which account for better play.
        rescale: for `values`: scale Q to 0 to 1 over the legal actions first, so that the policy is equally sharp for
            small and large rewards.
        temperature: for `search`: the policy to the power of 1 / temperature, as in AlphaGo Zero. Below 1, play soon
            prefers one of several equally good actions, and becomes predictable.
    """

    rule: Literal["puct", "gumbel"] = "puct"
    c_puct: float = 1.0
    c_scale: float = 0.1
    least_span: float = 0.0
    discount: float = 0.95
    policy: Literal["values", "search"] = "values"
    beta: float = 2.0
    rescale: bool = False
    temperature: float = 1.0
    td_lambda: float = 1.0
    cuda_graph: bool = False

    def __post_init__(self) -> None:
        if self.rule not in ("puct", "gumbel"):
            raise ConfigError(f"planner.rule is {self.rule!r}: expected puct or gumbel")
        if self.cuda_graph and self.rule != "puct":
            raise ConfigError(
                f"planner.cuda_graph is True, but planner.rule is {self.rule!r}: set planner.rule to puct, or "
                "planner.cuda_graph to false"
            )
        if self.policy not in ("values", "search"):
            raise ConfigError(f"planner.policy is {self.policy!r}: expected values or search")
        if not 0 < self.discount <= 1:
            raise ConfigError(f"planner.discount is {self.discount}: it must be above 0 and at most 1")
        if not 0 <= self.td_lambda <= 1:
            raise ConfigError(f"planner.td_lambda is {self.td_lambda}: it must lie between 0 and 1")
        if not 0 < self.temperature < float("inf"):
            raise ConfigError(f"planner.temperature is {self.temperature}: it must be above 0 and finite")
        if self.temperature != 1 and self.policy != "search":
            raise ConfigError(
                f"planner.temperature is {self.temperature}, but planner.policy is {self.policy!r}, which uses only "
                "beta: set planner.policy to search, or leave planner.temperature at 1"
            )
        if not (0 <= self.c_puct < float("inf") and 0 < self.beta < float("inf")):
            raise ConfigError(f"planner.c_puct is {self.c_puct} and beta {self.beta}: expected finite, >= 0 and > 0")
        for name in ("c_scale", "least_span"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"planner.{name} is {getattr(self, name)}: it must be at least 0 and finite")


@dataclass(frozen=True)
class SearchActor(ModelActor):
    """Plans each decision with K trees, each with its own sampled goals, and averages their results.

    Args:
        opponent: infers goals and predicts co-players.
        policy: prior policy and value.
        trees: K.
        simulations: N, for each tree.
        planner: settings of the search.
        num_actions: A.
        sparse: the networks also read sparse views.
        distances: the sparse views must include walking distances.
        value_unit: standard deviation of the returns, for `planner.least_span`.
    """

    policy: Any
    trees: int
    simulations: int
    planner: PlannerConfig
    num_actions: int
    sparse: bool = False
    distances: bool = False
    value_unit: float = 1.0

    @property
    def records(self) -> Mapping[str, Record]:  # type: ignore[override]
        """Root policy and root value, and what the opponent model records."""
        own = {"root_policy": Record((self.num_actions,), per_action=True), "root_value": Record()}
        return {**self.opponent.records, **own}

    @property
    def networks(self) -> Networks:
        """The networks that the search queries."""
        return Networks(self.opponent, self.policy, self.sparse, self.distances)

    def start(self, env: VectorEnv, mine: Tensor, prior: Tensor | None, generator: torch.Generator) -> Memory:
        """Start an episode; `Memory.own` is the game's board, if the networks read walking distances.

        Raises:
            ConfigError: the environment has no rules that a search can step.
        """
        if env.game is None and bool(mine.any()):
            raise ConfigError(
                f"{env.name} cannot be stepped from a state, as a search requires: set --model.algorithm PPO, or "
                "wrap it in CopyableGame"
            )
        memory = super().start(env, mine, prior, generator)
        if env.game is None or not bool(mine.any()) or not wants_board(env.game, self.networks):
            return memory
        return memory._replace(own=env.game.board(env.state))

    def restart(
        self,
        memory: Memory,
        index: Tensor,
        env: VectorEnv,
        mine: Tensor,
        prior: Tensor | None,
        generator: torch.Generator,
    ) -> Memory:
        """Return the memory after new episodes; the size of a board depends on its batch, so all are made anew."""
        begun = self.start(env, mine, prior, generator)
        kept: Memory = put(memory._replace(own=None), index, take(begun._replace(own=None), index))
        return kept._replace(own=begun.own)

    def decide(self, memory: Memory, scene: Scene, estimate: Estimate, rows: Tensor, ego: Tensor) -> Decision:
        """Search for M egos with K trees each, and average the results over the trees."""
        game, trees, config = scene.env.game, self.trees, self.planner
        assert game is not None
        goals, each_ego = estimate.draw(trees, scene.generator)[rows].flatten(0, 1), ego.repeat_interleave(trees)
        goals = self.opponent.as_seen(goals, each_ego)  # [M*K, P, D]
        simulator = Simulator(game, self.networks, each_ego, goals, scene.generator, trees)
        each = rows.repeat_interleave(trees)
        root = simulator.root(take(scene.env.state, each), take(memory.own, each))
        settings = SearchConfig(
            num_simulations=self.simulations,
            c_puct=config.c_puct,
            c_scale=config.c_scale,
            least_span=config.least_span * self.value_unit,
            rule=config.rule,
            discount=config.discount,
            gumbel_scale=0.0 if scene.greedy else 1.0,  # no exploration in evaluation
            random_ties=not scene.greedy,
            cuda_graph=config.cuda_graph,
        )
        result = search(root, simulator.step, settings, scene.generator)
        q, policy = (x.view(len(rows), trees, -1).mean(1) for x in (result.q, result.policy))
        if config.policy == "search":
            if config.rule == "gumbel":
                policy = pooled_policy(settings, result, root, trees)
            score, policy = policy, sharpened(policy, config.temperature)
        else:
            legal = root.legal.view(len(rows), trees, -1)[:, 0]
            score, policy = masked_logits(q, legal), root_policy(q, legal, config)
        # Evaluation takes the first of equally good actions; training samples one of them.
        action = score.argmax(-1) if scene.greedy else torch.multinomial(policy, 1, generator=scene.generator)[:, 0]
        entropy = float(-(policy * policy.clamp(min=1e-9).log()).sum(-1).mean())
        extras = {"root_policy": policy, "root_value": (policy * q).sum(-1)}
        return Decision(action, extras, {"search/policy_entropy": entropy}, result)


def sharpened(policy: Tensor, temperature: float) -> Tensor:
    """Return `policy ** (1 / temperature)` `[M, A]`, normalised (AlphaGo Zero, https://doi.org/10.1038/nature24270)."""
    if temperature == 1:
        return policy
    power = (policy / policy.amax(-1, keepdim=True)) ** (1 / temperature)  # the best action never underflows
    return power / power.sum(-1, keepdim=True)


def root_policy(q: Tensor, legal: Tensor, config: PlannerConfig) -> Tensor:
    """Return softmax(beta * Q), 0 where illegal (HOP, ICML 2024).

    Args:
        q: float `[M, A]` root values.
        legal: bool `[M, A]`.
        config: beta, and whether to rescale Q to [0, 1] over the legal actions first.

    Returns:
        float `[M, A]`.
    """
    if config.rescale:
        low = q.masked_fill(~legal, torch.inf).amin(-1, keepdim=True)
        span = q.masked_fill(~legal, -torch.inf).amax(-1, keepdim=True) - low
        q = (q - low) / span.clamp(min=1e-6)
    return masked_logits(config.beta * q, legal).softmax(-1) * legal
