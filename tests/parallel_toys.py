"""Small PettingZoo environments to test adapters with; a test gives their dotted paths, such as `parallel_toys.Toy`."""

import threading
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from gymnasium.utils import EzPickle
from pettingzoo import AECEnv, ParallelEnv

AGENTS = ["a", "b", "c"]
SEEDS: list[int] = []  # of all resets of `Recorded`, in order
CALLS: list[dict[str, int]] = []  # what `Toy` was given, in order


class Toy(EzPickle, ParallelEnv):
    """Agent i sees `2 + i` reals: a random number, the time, and the actions of the last step.

    It has `2 + i` actions, which start at i, and earns `10 i + action`. `leave` says who leaves with which step:
    terminated if the step is even, truncated if it is odd. `comes` says when an agent comes.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "toy"}

    def __init__(self, leave=None, comes=None, max_cycles=6):
        EzPickle.__init__(self, leave, comes, max_cycles)
        self.leave, self.comes, self.max_cycles = leave or {}, comes or {}, max_cycles
        self.possible_agents, self.render_mode = list(AGENTS), None

    def observation_space(self, agent):
        return spaces.Box(-np.inf, np.inf, (2 + AGENTS.index(agent),), np.float32)

    def action_space(self, agent):
        return spaces.Discrete(2 + AGENTS.index(agent), start=AGENTS.index(agent))

    def reset(self, seed=None, options=None):
        self.rng = np.random.default_rng(seed)
        self.number, self.time, self.last = self.rng.random(), 0, dict.fromkeys(AGENTS, 0)
        self.agents = [agent for agent in self.possible_agents if agent not in self.comes]
        return self.see(self.agents), {agent: {} for agent in self.agents}

    def step(self, actions):
        CALLS.append(dict(actions))
        self.time += 1
        acted = list(self.agents)
        self.last = {agent: actions.get(agent, 0) for agent in AGENTS}
        leaves = [agent for agent in acted if self.leave.get(agent) == self.time]
        over = self.time == self.max_cycles
        rewards = {agent: 10.0 * AGENTS.index(agent) + actions[agent] for agent in acted}
        ends = {agent: agent in leaves and self.time % 2 == 0 for agent in acted}
        cuts = {agent: not ends[agent] and (agent in leaves or over) for agent in acted}
        self.agents = [agent for agent in acted if not (ends[agent] or cuts[agent])]
        come = [agent for agent, time in self.comes.items() if time == self.time]
        self.agents += come
        return self.see(acted + come), rewards, ends, cuts, {agent: {} for agent in acted + come}

    def see(self, agents):
        seen = [self.number, self.time, self.last["a"], self.last["b"]]
        return {agent: np.array(seen[: 2 + AGENTS.index(agent)], np.float32) for agent in agents}


class Recorded(Toy):
    """Notes the seeds in `SEEDS`."""

    def reset(self, seed=None, options=None):
        SEEDS.append(seed)
        return super().reset(seed, options)


class Views(Toy):
    """All agents see `value` in `space`, given by the names of both; three actions each."""

    VIEWS: ClassVar[dict[str, tuple[spaces.Space, Any]]] = {
        "planes": (spaces.MultiBinary((2, 3)), np.array([[1, 0, 1], [0, 1, 0]], np.int8)),
        "boolean": (spaces.Box(0, 1, (2, 2), bool), np.array([[True, False], [False, True]])),
        "number": (spaces.Discrete(4), 2),
        "numbers": (spaces.MultiDiscrete([2, 3]), np.array([1, 2])),
        "counts": (spaces.Box(0, 100_000, (2,), np.int32), np.array([300, 70_000], np.int32)),
        "unsigned": (spaces.Box(0, 65_535, (2,), np.uint16), np.array([300, 65_535], np.uint16)),
        "large": (spaces.Box(0, 2**53, (1,), np.int64), np.array([2**53 - 1])),
        "bytes": (spaces.Box(0, 255, (2,), np.uint8), np.array([0, 255], np.uint8)),
        "reals": (spaces.Box(-1, 1, (1, 2), np.float64), np.array([[0.1, -1 / 3]])),
        "scalar": (spaces.Box(-1, 1, (), np.float32), np.float32(0.25)),
        "mixed": (
            spaces.Dict({"place": spaces.Discrete(3), "speed": spaces.Box(-9, 9, (2,), np.float32)}),
            {"place": 1, "speed": np.array([0.5, -2], np.float32)},
        ),
        "pair": (spaces.Tuple((spaces.Discrete(2), spaces.MultiBinary(2))), (1, np.array([0, 1], np.int8))),
        "list": (spaces.Sequence(spaces.Discrete(2)), (1, 0)),
        "half": (spaces.Box(0, 9, (2,), np.int64), np.array([1.5, 2.0])),
        "beyond": (spaces.Box(0, 255, (2,), np.uint8), np.array([256, 1])),
        "wide": (spaces.Box(0, 1, (2,), np.float32), np.zeros(3, np.float32)),
    }

    def __init__(self, view):
        super().__init__()
        self.view = view

    def observation_space(self, agent):
        return self.VIEWS[self.view][0]

    def action_space(self, agent):
        return spaces.Discrete(3)

    def see(self, agents):
        return dict.fromkeys(agents, self.VIEWS[self.view][1])


class Masked(Toy):
    """Agent i may not repeat its last action, and not play action 0 at odd times; the mask is where `place` says."""

    def __init__(self, place="observation"):
        super().__init__()
        self.place = place

    def observation_space(self, agent):
        board = spaces.Box(0, 9, (2, 2), np.int64)
        if self.place != "observation":
            return board
        return spaces.Dict({"observation": board, "action_mask": spaces.MultiBinary(3)})

    def action_space(self, agent):
        return spaces.Discrete(3)

    def mask(self, agent):
        mask = np.ones(3, np.int8)
        mask[self.last[agent]] = self.time == 0
        mask[0] &= self.time % 2 == 0
        return mask

    def see(self, agents):
        board = np.full((2, 2), self.time)
        if self.place != "observation":
            return dict.fromkeys(agents, board)
        return {agent: {"observation": board, "action_mask": self.mask(agent)} for agent in agents}

    def step(self, actions):
        for agent, action in actions.items():
            assert self.mask(agent)[action], f"{agent} plays the masked action {action}"
        *step, infos = super().step(actions)
        return *step, {agent: {"action_mask": self.mask(agent)} if self.place == "info" else {} for agent in infos}

    def reset(self, seed=None, options=None):
        seen, infos = super().reset(seed, options)
        return seen, {agent: {"action_mask": self.mask(agent)} if self.place == "info" else {} for agent in infos}


class Liar(Toy):
    """Breaks PettingZoo's contract in the way that `lie` names, with its second step."""

    def __init__(self, lie):
        super().__init__(leave={"b": 1} if lie in ("returns", "stays") else None)
        self.lie = lie
        if lie == "no agents listed":
            self.possible_agents = []

    def reset(self, seed=None, options=None):
        found = super().reset(seed, options)
        if self.lie == "no agents":
            self.agents = []
        if self.lie == "no agents listed":
            self.agents = ["a", "b"] if seed else ["a"]
        return found[0] if self.lie == "old reset" else found

    def step(self, actions):
        seen, rewards, ends, cuts, infos = super().step(actions)
        if self.lie == "stays" and self.time == 1:
            self.agents = list(AGENTS)
        if self.time == 2:
            if self.lie == "returns":
                self.agents = list(AGENTS)
            elif self.lie == "raises":
                raise KeyError("two\nlines")
            elif self.lie == "unknown":
                self.agents = [*AGENTS, "d"]
            elif self.lie == "old step":
                return seen, rewards, ends, infos
            elif self.lie == "mask":
                infos = {agent: {"action_mask": np.zeros(2 + AGENTS.index(agent))} for agent in AGENTS}
            elif self.lie == "short mask":
                infos = {"b": {"action_mask": np.ones(2)}}
            elif self.lie in ("observation", "reward", "termination"):
                del {"observation": seen, "reward": rewards, "termination": ends}[self.lie]["b"]
            elif self.lie == "both":  # not refused, either: terminated counts
                ends["b"], cuts["b"], self.agents = True, True, ["a", "c"]
            elif self.lie == "gone":  # not refused: the agent left
                self.agents = ["a", "c"]
        return seen, rewards, ends, cuts, infos


class Unlisted(Toy):
    """Has no `possible_agents`, as PettingZoo allows."""

    def __init__(self):
        super().__init__()
        del self.possible_agents

    def reset(self, seed=None, options=None):
        self.possible_agents = list(AGENTS)
        found = super().reset(seed, options)
        del self.possible_agents
        return found


class Chance(Toy):
    """Draws a number in every step, from a generator of its own, NumPy's global one, or one that cannot be copied."""

    def __init__(self, source):
        super().__init__()
        self.source = source

    def reset(self, seed=None, options=None):
        if self.source == "reset":
            seed = None
        if self.source == "hidden":
            self.draws = iter_of(seed)
        return super().reset(seed, options)

    def step(self, actions):
        found = super().step(actions)
        if self.source == "hidden":
            self.number = next(self.draws)
        elif self.source == "global":
            self.number = np.random.random()  # noqa: NPY002, what some environments do
        else:
            self.number = self.rng.random()
        return (self.see(found[0]), *found[1:])


def iter_of(seed):
    """Yield random numbers; a generator of Python cannot be pickled."""
    rng = np.random.default_rng(seed)
    while True:
        yield rng.random()


class Growing(Toy):
    """Grows by 10 kB with every step from step `after` on."""

    after = 10**9

    def reset(self, seed=None, options=None):
        self.weight = b""
        return super().reset(seed, options)

    def step(self, actions):
        self.weight += bytes(10_000 * (self.time >= Growing.after))
        return super().step(actions)


class Window(Toy):
    """Opens what cannot be pickled in every reset, as a game opens a window."""

    def reset(self, seed=None, options=None):
        self.window = threading.Lock()
        return super().reset(seed, options)


class Lock(Toy):
    """Makes a function in every step, which cannot be pickled, and is code, so nothing can stand in for it."""

    def step(self, actions):
        self.rule = lambda: 0
        return super().step(actions)


class Engine(Toy):
    """Keeps its time outside of Python's sight, as an engine in C does."""

    def __init__(self, max_cycles=6):
        super().__init__(max_cycles=max_cycles)
        self.engine = Handle()

    def reset(self, seed=None, options=None):
        self.engine.time = 0
        return super().reset(seed, options)

    def step(self, actions):
        found = super().step(actions)
        self.time = self.engine.tick()
        return (self.see(found[0]), *found[1:])


class Table(Toy):
    """Shares a table of actions between copies, so that one branch of a search reads what another wrote."""

    def __init__(self):
        super().__init__()
        self.engine = Handle()

    def step(self, actions):
        self.number = self.engine.table.get(self.time - 1, 0) if self.time else 0
        self.engine.table[self.time] = actions["a"]
        return super().step(actions)


class Lessons(Toy):
    """Shows how often it was reset, as a curriculum would."""

    def reset(self, seed=None, options=None):
        self.lesson = getattr(self, "lesson", 0) + 1
        super().reset(seed, options)
        self.number = self.lesson
        return self.see(self.agents), {}


class Tools(Toy):
    """Has two tools without a state that cannot be pickled, of one type."""

    def __init__(self):
        super().__init__()
        self.small, self.large = Handle(1), Handle(5)

    def see(self, agents):
        self.number = 10 * self.small.size + self.large.size
        return super().see(agents)


class Handle:
    """Cannot be pickled, and has a state."""

    def __init__(self, size=1):
        self.time, self.size, self.table = 0, size, {}

    def tick(self):
        self.time += 1
        return self.time

    def __reduce_ex__(self, protocol):
        raise TypeError("cannot pickle a handle")


class Turns(AECEnv):
    """Two agents in turn add 1 or 2 to a sum; whoever reaches 5 or more wins 1, and the other loses 1."""

    metadata: ClassVar[dict[str, Any]] = {"name": "turns", "is_parallelizable": False}

    def __init__(self, max_cycles=None):
        super().__init__()
        self.possible_agents, self.render_mode, self.max_cycles = ["a", "b"], None, max_cycles

    def observation_space(self, agent):
        return spaces.Box(0, 6, (1,), np.int64)

    def action_space(self, agent):
        return spaces.Discrete(2)

    def observe(self, agent):
        return np.array([self.sum])

    def reset(self, seed=None, options=None):
        self.agents, self.sum, self.agent_selection = ["a", "b"], 0, "a"
        self.rewards = self._cumulative_rewards = dict.fromkeys(self.agents, 0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos = {agent: {} for agent in self.agents}

    def step(self, action):
        agent = self.agent_selection
        if self.terminations[agent]:
            self._was_dead_step(action)
            return
        other = "b" if agent == "a" else "a"
        self.sum += action + 1
        won = self.sum >= 5
        self.rewards = {agent: int(won), other: -int(won)}
        self.terminations = dict.fromkeys(self.agents, won)
        self.agent_selection = other


def not_an_environment():
    return 3


def continuous():
    env = Toy()
    env.action_space = lambda agent: spaces.Box(-1, 1, (2,))
    return env
