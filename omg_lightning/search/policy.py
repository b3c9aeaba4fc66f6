"""What to select and what to answer: PUCT, and Gumbel with sequential halving and completed Q.

Formulas: PUCT as in AlphaZero (https://doi.org/10.1126/science.aar6404); Gumbel as in "Policy improvement by planning
with Gumbel" (ICLR 2022, https://openreview.net/forum?id=bERaNdoegnO), with the constants of google-deepmind/mctx.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from omg_lightning.search.tree import Choose, Tree, best_of
from omg_lightning.types import ConfigError

BIG = 1e30  # no log prior is as low as minus this


@dataclass(frozen=True)
class SearchConfig:
    """What a search spends and how it selects.

    Args:
        num_simulations: simulations per tree; each calls the model once for all trees.
        c_puct: weight of the prior's bonus in PUCT, on raw Q.
        rule: `"puct"`, or `"gumbel"` for sequential halving at the root, which needs fewer simulations.
        discount: multiplies every discount that the model returns. Leave it at 1 if the model's are complete.
        max_num_considered_actions: Gumbel: root actions that the halving starts with.
        c_visit: Gumbel: the scale of Q grows as `(c_visit + max_a N(a)) * c_scale`.
        c_scale: Gumbel: see `c_visit`; for Q rescaled to [0, 1] over a node's legal actions.
        gumbel_scale: Gumbel: 0 makes the root's choice deterministic, for evaluation.
    """

    num_simulations: int = 32
    c_puct: float = 1.0
    rule: str = "puct"
    discount: float = 1.0
    max_num_considered_actions: int = 16
    c_visit: float = 50.0
    c_scale: float = 0.1
    gumbel_scale: float = 1.0

    def __post_init__(self) -> None:
        self._require("rule", self.rule in ("puct", "gumbel"), "'puct' or 'gumbel'")
        self._require("num_simulations", self._is_int(self.num_simulations, 0), "an integer of at least 0")
        considered = self.max_num_considered_actions
        self._require("max_num_considered_actions", self._is_int(considered, 1), "an integer of at least 1")
        self._require("discount", 0 <= self.discount <= 1, "a number in [0, 1]")
        for name in ("c_puct", "c_visit", "c_scale", "gumbel_scale"):
            value = getattr(self, name)
            self._require(name, 0 <= value < math.inf, "a finite number of at least 0")

    @staticmethod
    def _is_int(value: object, least: int) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= least

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ConfigError(
                f"SearchConfig.{name} is {getattr(self, name)!r}; expected {expected}. Set {name} to that."
            )


class SearchResult(NamedTuple):
    """What a search found at the roots. Rows without a legal action: all 0, and `value` is the root's own."""

    q: Tensor  # [T, A] mean return W / N; legal actions without visits get v_mix; 0 where illegal
    visits: Tensor  # int64 [T, A] sums to num_simulations
    policy: Tensor  # [T, A] puct: visits / num_simulations; gumbel: softmax(prior logits + sigma(completed Q))
    value: Tensor  # [T] mean of the root's own value and of the returns of all simulations
    action: Tensor  # int64 [T] puct: argmax of policy, the first of equals; gumbel: the winner of the halving


def prior_of(config: SearchConfig, logits: Tensor, legal: Tensor) -> Tensor:
    """Puts prior logits `[T, A]` in the form the rule keeps, `[A, T]`: PUCT probabilities, Gumbel their logs.

    Both are -inf where illegal, so that no score of an illegal action can win.
    """
    illegal = ~legal.t()
    masked = logits.t().masked_fill(illegal, -math.inf)
    if config.rule == "gumbel":
        return masked.log_softmax(0).masked_fill_(illegal, -math.inf)
    return masked.softmax(0).masked_fill_(illegal, -math.inf)


def puct_scores(visits: Tensor, total: Tensor, prior: Tensor, value: Tensor, c_puct: float) -> Tensor:
    """Computes `Q(s, a) + c P(s, a) sqrt(N(s)) / (1 + N(s, a))`: `[A, L]`.

    `N(s) = 1 + sum_a N(s, a)` counts the visit that made the node, so that the first choice follows the prior. An
    action without visits has the node's mean value as its Q: neither promising nor bad.

    Args:
        visits: `[A, L]` N(s, a).
        total: `[A, L]` W(s, a).
        prior: `[A, L]` P(s, a), -inf where illegal.
        value: `[L]` the network's value.
        c_puct: weight of the second term.
    """
    count = visits.sum(0).add_(1)
    mean = total.sum(0).add_(value).div_(count)
    # `lerp` is exact at both ends, and ten times faster than `where` on a CPU
    q = torch.lerp(mean, total / visits.clamp_min(1), visits.clamp_max(1))
    return q.addcdiv_(prior * count.sqrt_().mul_(c_puct), visits + 1)


def completed_q(visits: Tensor, total: Tensor, log_prior: Tensor, value: Tensor) -> Tensor:
    """Q of every action `[A, L]`, with v_mix (appendix D, eq. 33) standing in where there are no visits.

    `v_mix = (v + sum_b N(b) * sum_visited P(a) Q(a) / sum_visited P(a)) / (1 + sum_b N(b))`.

    Args:
        visits: `[A, L]` N(s, a).
        total: `[A, L]` W(s, a).
        log_prior: `[A, L]` log P(s, a), -inf where illegal.
        value: `[L]` the network's value.
    """
    tiny = torch.finfo(visits.dtype).tiny  # so that priors that underflow still give a mean
    weight = log_prior.exp().clamp_min_(tiny)
    count, seen = visits.sum(0), visits.clamp_max(1)
    q = total / visits.clamp_min(1)  # the unvisited have a total of 0
    mean = weight.mul(q).sum(0).div_(weight.mul_(seen).sum(0).clamp_min_(tiny))
    mixed = mean.mul_(count).add_(value).div_(count.add_(1))
    return torch.lerp(mixed, q, seen)


def improved_logits(config: SearchConfig, visits: Tensor, total: Tensor, log_prior: Tensor, value: Tensor) -> Tensor:
    """Computes `logits + sigma(completed Q)`, `sigma(q) = (c_visit + max_b N(b)) * c_scale * q` (eq. 8): `[A, L]`.

    Q is first rescaled to [0, 1] over the legal actions of a node, as mctx does, so that rewards may have any unit.
    Arguments are as in `completed_q`; the result is -inf where illegal.
    """
    q = completed_q(visits, total, log_prior, value)
    barrier = log_prior.clamp_max(-BIG).add_(BIG)  # 0 where legal, else -inf
    low, high = (q - barrier).amin(0), (q + barrier).amax(0)
    scale = visits.amax(0).add_(config.c_visit).mul_(config.c_scale).div_((high - low).clamp_min_(1e-8))
    return q.sub_(low).mul_(scale).add_(log_prior)


@lru_cache(maxsize=64)
def halving_schedule(considered: int, num_simulations: int) -> tuple[int, ...]:
    """Returns the visit count that the action chosen at the root in each simulation must have (algorithm 2).

    Of the `considered` actions all are visited equally often, then the better half, and so on until two are left.
    """
    if considered <= 1:
        return tuple(range(num_simulations))
    phases = math.ceil(math.log2(considered))
    visits, left, schedule = [0] * considered, considered, list[int]()
    while len(schedule) < num_simulations:
        for _ in range(max(1, num_simulations // (phases * left))):
            schedule += visits[:left]
            visits[:left] = [v + 1 for v in visits[:left]]
        left = max(2, left // 2)
    return tuple(schedule[:num_simulations])


def halving_scores(logits: Tensor, noise: Tensor, visits: Tensor, wanted: Tensor) -> Tensor:
    """Noise plus improved logits `[A, T]`, lower by BIG and more if the visits are not the `wanted` number `[T]`."""
    return torch.sub(logits + noise, (visits - wanted).abs_(), alpha=BIG)


def _gather(tree: Tree, nodes: Tensor) -> tuple[Tensor, ...]:
    """Visits, total, prior `[A, L]` and the network's value `[L]` at nodes `[L]`."""
    kinds, actions, size = tree.edges.shape
    rows = tree.edges.view(kinds * actions, size).index_select(1, nodes).view(kinds, actions, -1)
    return *rows.unbind(0), tree.nodes[0].index_select(0, nodes)


def puct_rule(config: SearchConfig) -> Choose:
    """Returns the function that chooses actions `[L]` at nodes `[L]` by PUCT."""

    def choose(tree: Tree, nodes: Tensor, simulation: int) -> Tensor:
        visits, total, prior, value = _gather(tree, nodes)
        scores = puct_scores(visits, total, prior, value, config.c_puct)
        return best_of(scores)[1]

    return choose


def gumbel_rule(config: SearchConfig, legal: Tensor, noise: Tensor) -> Choose:
    """Returns the function that chooses actions at nodes `[L]` of which the last T are the roots.

    Args:
        config: what to spend.
        legal: bool `[T, A]` at the roots.
        noise: `[A, T]` Gumbel noise at the roots.
    """
    trees, actions = legal.shape
    most = min(config.max_num_considered_actions, actions)
    table = [halving_schedule(m, config.num_simulations) for m in range(most + 1)]
    schedule = noise.new_tensor(table).t()[:, legal.sum(-1).clamp_max(most)]  # [num_simulations, T]

    def choose(tree: Tree, nodes: Tensor, simulation: int) -> Tensor:
        visits, total, log_prior, value = _gather(tree, nodes)
        logits = improved_logits(config, visits, total, log_prior, value)
        scores = logits.softmax(0)  # eq. 14; an illegal action's 0 never wins
        scores.sub_(visits / visits.sum(0).add_(1))
        scores[:, -trees:] = halving_scores(logits[:, -trees:], noise, visits[:, -trees:], schedule[simulation])
        return best_of(scores)[1]

    return choose


def summarise(config: SearchConfig, tree: Tree, noise: Tensor, alive: Tensor) -> SearchResult:
    """Reads the answer from the roots; `alive` bool `[T]` says where an action is legal, `noise` is `[A, T]`."""
    visits, total, prior, value = _gather(tree, tree.roots)
    legal = (prior > -math.inf) & alive
    count = visits.sum(0)
    if config.rule == "gumbel":
        log_prior = prior
        logits = improved_logits(config, visits, total, prior, value)
        policy = logits.softmax(0)
        action = best_of(halving_scores(logits, noise, visits, visits.amax(0)))[1]
    else:
        log_prior = prior.clamp_min(0).log()
        policy = torch.where(count > 0, visits / count, prior)
        action = best_of(policy)[1]
    q = completed_q(visits, total, log_prior, value)
    mean = (total.sum(0) + value) / (count + 1)
    return SearchResult(
        q=torch.where(legal, q, 0).t().contiguous(),
        visits=torch.where(legal, visits, 0).t().long(),
        policy=torch.where(legal, policy, 0).t().contiguous(),
        value=torch.where(alive, mean, value),
        action=torch.where(alive, action, 0),
    )
