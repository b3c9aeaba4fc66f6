"""Reference search in plain Python, one tree and one node at a time. The batched search must equal it."""

import math
from dataclasses import dataclass, field
from functools import cached_property

import torch

from omg_lightning.search import ModelFn, Root, SearchConfig


@dataclass
class Node:
    state: torch.Tensor
    value: float
    logits: list[float]
    legal: list[bool]
    reward: float = 0.0
    discount: float = 1.0
    visits: list[int] = field(default_factory=list)
    total: list[float] = field(default_factory=list)
    children: dict = field(default_factory=dict)

    def __post_init__(self):
        self.visits = [0] * len(self.legal)
        self.total = [0.0] * len(self.legal)
        if self.discount == 0:
            self.value = 0.0
            self.legal = [False] * len(self.legal)

    @property
    def actions(self):
        return [a for a, legal in enumerate(self.legal) if legal]

    @cached_property
    def prior(self):
        top = max(self.logits[a] for a in self.actions)
        weight = {a: math.exp(self.logits[a] - top) for a in self.actions}
        return {a: w / sum(weight.values()) for a, w in weight.items()}

    @property
    def mean(self):
        return (self.value + sum(self.total)) / (1 + sum(self.visits))

    def completed_q(self):
        seen = [a for a in self.actions if self.visits[a]]
        mixed = self.value
        if seen:
            weight = sum(self.prior[a] for a in seen)
            mean = sum(self.prior[a] / weight * self.total[a] / self.visits[a] for a in seen)
            mixed = (self.value + sum(self.visits) * mean) / (1 + sum(self.visits))
        return {a: self.total[a] / self.visits[a] if self.visits[a] else mixed for a in self.actions}


def improved_logits(node, config):
    q = node.completed_q()
    low, high = min(q.values()), max(q.values())
    if math.isclose(low, high, rel_tol=1e-13):  # equal up to rounding
        return {a: math.log(node.prior[a]) for a in node.actions}
    scale = (config.c_visit + max(node.visits)) * config.c_scale / max(high - low, config.least_span)
    return {a: math.log(node.prior[a]) + (q[a] - low) * scale for a in node.actions}


def softmax(logits):
    top = max(logits.values())
    total = sum(math.exp(x - top) for x in logits.values())
    return {a: math.exp(x - top) / total for a, x in logits.items()}


def wanted_visits(considered, simulations):
    """Sequential halving as in the paper: rounds of equal visits to fewer and fewer actions."""
    if considered == 1:
        return list(range(simulations))
    sequence, done, left, rounds = [], 0, considered, math.ceil(math.log2(considered))
    while len(sequence) < simulations:
        for _ in range(max(1, simulations // (rounds * left))):
            sequence += [done] * left
            done += 1
        left = max(2, left // 2)
    return sequence[:simulations]


def choose(node, config, wanted=None, noise=None):
    if config.rule == "puct":
        root_n = math.sqrt(1 + sum(node.visits))

        def score(a):
            q = node.total[a] / node.visits[a] if node.visits[a] else node.mean
            return q + config.c_puct * node.prior[a] * root_n / (1 + node.visits[a])

        return max(node.actions, key=score)
    logits = improved_logits(node, config)
    if noise is not None:
        candidates = [a for a in node.actions if node.visits[a] == wanted]
        return max(candidates, key=lambda a: logits[a] + noise[a])
    policy, count = softmax(logits), sum(node.visits)
    return max(node.actions, key=lambda a: policy[a] - node.visits[a] / (1 + count))


def slow_search(root: Root, model_fn: ModelFn, config: SearchConfig, row: int, noise: list[float]):
    """Search tree `row` alone; return its statistics and the (state, action) of each call of the model."""
    state = root.state[row : row + 1]
    top = Node(state, root.value[row].item(), root.prior_logits[row].tolist(), root.legal[row].tolist())
    considered = min(config.max_num_considered_actions, len(top.actions))
    wanted = wanted_visits(considered, config.num_simulations)
    trace = []
    for simulation in range(config.num_simulations):
        path, node = [], top
        while node.actions:
            at_root = config.rule == "gumbel" and node is top
            action = choose(node, config, wanted[simulation], noise) if at_root else choose(node, config)
            path.append((node, action))
            if action not in node.children:
                node.children[action] = evaluate(node.state, action, model_fn, config)
                node = node.children[action]
                break
            node = node.children[action]
        trace.append((path[-1][0].state.item(), path[-1][1]))
        value = node.value
        for parent, action in reversed(path):
            child = parent.children[action]
            value = child.reward + child.discount * value
            parent.visits[action] += 1
            parent.total[action] += value
    return summary(top, config, noise), trace


def evaluate(state, action, model_fn, config):
    output, state = model_fn(state, torch.tensor([action]))
    return Node(
        state=state,
        value=output.value.item(),
        logits=output.prior_logits[0].tolist(),
        legal=output.legal[0].tolist(),
        reward=output.reward.item(),
        discount=output.discount.item() * config.discount,
    )


def summary(top, config, noise):
    count = sum(top.visits)
    if config.rule == "gumbel":
        logits = improved_logits(top, config)
        policy = softmax(logits)
        most = [a for a in top.actions if top.visits[a] == max(top.visits)]
        action = max(most, key=lambda a: logits[a] + noise[a])
    else:
        policy = {a: top.visits[a] / count for a in top.actions} if count else top.prior
        action = max(top.actions, key=lambda a: policy[a])
    q = top.completed_q()
    every = range(len(top.legal))
    return {
        "q": [q.get(a, 0.0) for a in every],
        "visits": top.visits,
        "policy": [policy.get(a, 0.0) for a in every],
        "value": top.mean,
        "action": action,
    }
