"""Selection rules and root results: PUCT, and Gumbel with sequential halving and completed Q.

Sources: PUCT as in AlphaZero (https://doi.org/10.1126/science.aar6404). Gumbel as in "Policy improvement by planning
with Gumbel" (ICLR 2022, https://openreview.net/forum?id=bERaNdoegnO), with the constants of google-deepmind/mctx.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from omg_lightning.search.tree import Choose, Root, Tree, best_of
from omg_lightning.types import ConfigError

BIG = 1e30  # no log prior is as low as -BIG
ROUNDING = 32  # tolerance for values that are equal up to rounding, see `improved_logits` and `greedy_action`
TIE_NOISE = 1e-4  # added to prior logits by `random_ties`: enough to order ties, too little to change a preference


@dataclass(frozen=True)
class SearchConfig:
    """Budget and selection rule of a search.

    Args:
        num_simulations: simulations per tree; each calls the model once for all trees.
        c_puct: weight of the prior's bonus in PUCT, on raw Q.
        rule: `"puct"`, or `"gumbel"` for sequential halving at the root, which needs fewer simulations.
        discount: multiplies every discount that the model returns. Leave it at 1 if the model already discounts.
        max_num_considered_actions: Gumbel: number of root actions that sequential halving starts with.
        c_visit: Gumbel: the scale of Q is `(c_visit + max_a N(a)) * c_scale`.
        c_scale: Gumbel: see `c_visit`; for Q rescaled to [0, 1] over a node's legal actions.
        least_span: Gumbel: Q that differ by less than this over a node's legal actions are rescaled as if they differed
            by this, so that small differences, which may be noise, do not outweigh the prior. 0 as in mctx.
        gumbel_scale: Gumbel: scale of the noise at the root. Set it to 0 for greedy play: no random number is drawn.
        random_ties: break ties between equally good actions at random, in an order that each tree draws from the
            generator; for training. If False, the first of equals is chosen, so visits favour low action indices.
        cuda_graph: PUCT: on a GPU, launch all kernels of a simulation at once, as a CUDA graph. The model must then
            not read values on the CPU. Without effect on a CPU.
    """

    num_simulations: int = 32
    c_puct: float = 1.0
    rule: str = "puct"
    discount: float = 1.0
    max_num_considered_actions: int = 16
    c_visit: float = 50.0
    c_scale: float = 0.1
    least_span: float = 0.0
    gumbel_scale: float = 1.0
    random_ties: bool = False
    cuda_graph: bool = False

    def __post_init__(self) -> None:
        self._require("rule", self.rule in ("puct", "gumbel"), "'puct' or 'gumbel'")
        self._require("num_simulations", self._is_int(self.num_simulations, 0), "an integer of at least 0")
        considered = self.max_num_considered_actions
        self._require("max_num_considered_actions", self._is_int(considered, 1), "an integer of at least 1")
        self._require("discount", 0 <= self.discount <= 1, "a number in [0, 1]")
        for name in ("c_puct", "c_visit", "c_scale", "least_span", "gumbel_scale"):
            value = getattr(self, name)
            self._require(name, 0 <= value < math.inf, "a finite number of at least 0")
        for name in ("random_ties", "cuda_graph"):
            self._require(name, isinstance(getattr(self, name), bool), "True or False")
        self._require("cuda_graph", not self.cuda_graph or self.rule == "puct", "False with rule 'gumbel'")

    @staticmethod
    def _is_int(value: object, least: int) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= least

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ConfigError(
                f"SearchConfig.{name} is {getattr(self, name)!r}; expected {expected}: set {name} to such a value."
            )


class SearchResult(NamedTuple):
    """Statistics of the roots. Rows without a legal action are 0, except that `value` is the network's value.

    To break ties of a greedy action at random, pass `policy` or `q` to `greedy_action`.
    """

    q: Tensor  # [T, A] mean return W / N; v_mix for legal actions without visits; 0 for illegal ones
    visits: Tensor  # int64 [T, A] visit counts N, which sum to num_simulations
    policy: Tensor  # [T, A] puct: visits / num_simulations; gumbel: softmax(prior logits + sigma(completed Q))
    value: Tensor  # [T] mean of the network's value of the root and of the returns of all simulations
    action: Tensor  # int64 [T] puct: argmax of policy, the first of equals; gumbel: the winner of sequential halving


def prior_of(config: SearchConfig, logits: Tensor, legal: Tensor, ties: Tensor | None = None) -> Tensor:
    """Convert prior logits `[T, A]` to what the rule uses, `[A, T]`: probabilities for PUCT, their logs for Gumbel.

    Both are -inf for illegal actions, so that an illegal action never has the highest score. `ties` `[T, A]` is
    added to the logits.
    """
    if ties is not None:
        logits = logits + ties
    illegal = ~legal.t()
    masked = logits.t().masked_fill(illegal, -math.inf)
    if config.rule == "gumbel":
        return masked.log_softmax(0).masked_fill_(illegal, -math.inf)
    return masked.softmax(0).masked_fill_(illegal, -math.inf)


def puct_scores(visits: Tensor, total: Tensor, prior: Tensor, value: Tensor, c_puct: float) -> Tensor:
    """Compute `Q(s, a) + c P(s, a) sqrt(N(s)) / (1 + N(s, a))`: `[A, L]`.

    `N(s) = 1 + sum_a N(s, a)` counts the visit that made the node, so that the first choice follows the prior. The Q
    of an action without visits is the node's mean value.

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
    """Return Q of every action `[A, L]`; actions without visits get v_mix (appendix D, eq. 33).

    `v_mix = (v + sum_b N(b) * sum_visited P(a) Q(a) / sum_visited P(a)) / (1 + sum_b N(b))`.

    Args:
        visits: `[A, L]` N(s, a).
        total: `[A, L]` W(s, a).
        log_prior: `[A, L]` log P(s, a), -inf where illegal.
        value: `[L]` the network's value.
    """
    tiny = torch.finfo(visits.dtype).tiny  # priors that underflow must still give a mean
    weight = log_prior.exp().clamp_min_(tiny)
    count, seen = visits.sum(0), visits.clamp_max(1)
    q = total / visits.clamp_min(1)  # without visits the total is 0
    mean = weight.mul(q).sum(0).div_(weight.mul_(seen).sum(0).clamp_min_(tiny))
    mixed = mean.mul_(count).add_(value).div_(count.add_(1))
    return torch.lerp(mixed, q, seen)


def improved_logits(config: SearchConfig, visits: Tensor, total: Tensor, log_prior: Tensor, value: Tensor) -> Tensor:
    """Compute `logits + sigma(completed Q)`, `sigma(q) = (c_visit + max_b N(b)) * c_scale * q` (eq. 8): `[A, L]`.

    Q is first rescaled to [0, 1] over the legal actions of a node, as in mctx, so that rewards may have any unit. If
    all Q of a node are equal up to rounding, the result is the log prior. Rounding is judged relative to Q, so it is
    not recognised where returns cancel to nearly 0. Arguments are as in `completed_q`; the result is -inf for illegal
    actions.
    """
    return _improved(config, completed_q(visits, total, log_prior, value), visits.amax(0), log_prior)


def _improved(config: SearchConfig, q: Tensor, most: Tensor, log_prior: Tensor) -> Tensor:
    """Return improved logits `[A, L]` of Q `[A, L]`, which is overwritten, and of the most visits `[L]`, likewise."""
    barrier = log_prior.clamp_max(-BIG).add_(BIG)  # 0 for legal actions, else -inf
    low, high = (q - barrier).amin(0), (q + barrier).amax(0)
    span = high - low
    # Adding N equal returns one by one is off by up to N / 8 * eps. This test allows a span of 8 + N / 4 to 16 + N / 2
    # times `eps * |low|`: so small a part of a larger span would change `low`.
    equal = low.addcdiv(span, most + ROUNDING) == low
    if config.least_span:
        span.clamp_(config.least_span)
    scale = most.add_(config.c_visit).mul_(config.c_scale).div_(span).masked_fill_(equal, 0)
    return q.sub_(low).mul_(scale).add_(log_prior)


@lru_cache(maxsize=64)
def halving_schedule(considered: int, num_simulations: int) -> tuple[int, ...]:
    """Return the visit count that the root action chosen in each simulation must have (algorithm 2).

    All `considered` actions are visited equally often, then the better half of them, and so on until two are left.
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
    """Return noise plus improved logits `[A, T]`, lowered by at least BIG unless the visits equal `wanted` `[T]`."""
    return torch.sub(logits + noise, (visits - wanted).abs_(), alpha=BIG)


def _gather(tree: Tree, nodes: Tensor) -> tuple[Tensor, ...]:
    """Return visits, total, prior `[A, L]` and the network's value `[L]` of nodes `[L]`."""
    kinds, actions, size = tree.edges.shape
    rows = tree.edges.view(kinds * actions, size).index_select(1, nodes).view(kinds, actions, -1)
    return *rows.unbind(0), tree.nodes[0].index_select(0, nodes)


def puct_rule(config: SearchConfig) -> Choose:
    """Return the function that chooses actions `[L]` at nodes `[L]` by PUCT."""

    def choose(tree: Tree, nodes: Tensor, simulation: int) -> Tensor:
        visits, total, prior, value = _gather(tree, nodes)
        scores = puct_scores(visits, total, prior, value, config.c_puct)
        return best_of(scores)[1]

    return choose


def gumbel_rule(config: SearchConfig, legal: Tensor, noise: Tensor) -> Choose:
    """Return the function that chooses actions at nodes `[L]`, of which the last T are the roots.

    Args:
        config: budget and constants.
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
        scores = logits.softmax(0)  # eq. 14; the 0 of an illegal action is never the highest
        scores.sub_(visits / visits.sum(0).add_(1))
        scores[:, -trees:] = halving_scores(logits[:, -trees:], noise, visits[:, -trees:], schedule[simulation])
        return best_of(scores)[1]

    return choose


def summarise(config: SearchConfig, tree: Tree, noise: Tensor, alive: Tensor) -> SearchResult:
    """Return the statistics of the roots.

    Args:
        config: the rule and its constants.
        tree: the trees after the last simulation.
        noise: `[A, T]` Gumbel noise at the roots.
        alive: bool `[T]` whether the root has a legal action.
    """
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


def pooled_policy(config: SearchConfig, result: SearchResult, root: Root, trees: int) -> Tensor:
    """Return one improved policy `[M, A]` for each decision from K trees that differ in the co-players' actions.

    The mean of the trees' own policies would be a vote: each tree is sure of the best response to its own co-players'
    actions, and a rare but large loss is outvoted. So values are averaged first, and the policy is
    improved once: `softmax(logits + sigma(mean Q))` (eq. 8), with log priors and visits averaged, too.

    Args:
        config: of the search; its rule is `gumbel`.
        result: of M * K trees; the trees of a decision are adjacent.
        root: of the same trees; those of a decision have the same legal actions.
        trees: K.
    """
    legal = root.legal.view(-1, trees, root.legal.shape[-1])[:, 0].t()  # [A, M]
    dtype = result.q.dtype
    log_prior = root.prior_logits.to(dtype).masked_fill(~root.legal, -math.inf).log_softmax(-1)
    means = (x.to(dtype).view(-1, trees, x.shape[-1]).mean(1).t() for x in (result.q, result.visits, log_prior))
    q, visits, log_prior = means
    policy = _improved(config, q.clone(), visits.amax(0), log_prior).softmax(0)
    return torch.where(legal, policy, 0).t().contiguous()


def greedy_action(scores: Tensor, legal: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Return the legal action with the highest score in each row: int64 `[M]`.

    Scores that equal the highest up to rounding (`ROUNDING * eps`, relative) are ties.

    Args:
        scores: floating point `[M, A]`, for instance Q, visit shares or logits. NaN counts as a tie.
        legal: bool `[M, A]`. A row without a legal action gets action 0.
        generator: breaks ties at random, each tied action with equal probability; for training. Without a generator
            the first of them is taken; for evaluation.

    Raises:
        ConfigError: `scores` is not floating point, or `legal` is not bool of the same shape.
    """
    if not scores.is_floating_point() or legal.dtype != torch.bool or legal.shape != scores.shape:
        raise ConfigError(
            f"greedy_action got scores {scores.dtype} {list(scores.shape)} and legal {legal.dtype} "
            f"{list(legal.shape)}; expected floating point and bool of one shape [M, A]: cast or expand them."
        )
    best = scores.masked_fill(~legal, -math.inf).amax(-1, keepdim=True)
    rounding = best.abs() * (ROUNDING * torch.finfo(scores.dtype).eps)
    tied = legal & ~(scores < best - rounding)
    if generator is None:
        return tied.byte().argmax(-1)
    drawn = torch.rand(scores.shape, generator=generator, device=generator.device).to(scores.device)
    return drawn.masked_fill_(~tied, -1).argmax(-1)
