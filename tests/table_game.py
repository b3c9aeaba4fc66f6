"""A random game to search, whose model looks its outputs up in tables."""

import math

import torch

from omg_lightning.search import ModelOutput, Root

STATES = 997


class TableGame:
    """A random game of STATES states, with illegal actions, ends, and NaN past the end. A state is its number."""

    def __init__(self, seed, actions, end=0.15, illegal=0.3, dtype=torch.float64):
        g = torch.Generator().manual_seed(seed)
        self.actions = actions
        self.logits = torch.randn(STATES, actions, generator=g, dtype=dtype)
        self.value = torch.randn(STATES, generator=g, dtype=dtype)
        self.reward = torch.randn(STATES, generator=g, dtype=dtype)
        self.discount = 0.9 * (torch.rand(STATES, generator=g) >= end).to(dtype)
        self.legal = torch.rand(STATES, actions, generator=g) >= illegal
        self.generator = g
        self.calls = []

    def model(self, state, action):
        self.calls.append((state.tolist(), action.tolist()))
        state = (state * self.actions + action + 1) % STATES
        ends = self.discount[state] == 0
        return ModelOutput(
            prior_logits=self.logits[state].masked_fill(ends[:, None], math.nan),
            value=self.value[state].masked_fill(ends, math.nan),
            reward=self.reward[state],
            discount=self.discount[state],
            legal=self.legal[state],
        ), state

    def root(self, trees):
        state = torch.randint(STATES, (trees,), generator=self.generator)
        legal = self.legal[state]
        legal[:, 0] |= ~legal.any(-1)
        return Root(self.logits[state], self.value[state], legal, state)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)
