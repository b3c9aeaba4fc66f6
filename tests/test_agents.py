"""Trained agents in a user's environment loop: they act and believe as in an evaluation, one by one or in a
batch, in our environments and in those of others.
"""

import numpy as np
import pytest
import torch
from parallel_toys import Toy
from toys import Fixed, same, tiny_agent

import omg_lightning
from omg_lightning.actors import arrange
from omg_lightning.agents import LoadedAgent
from omg_lightning.algorithms import PPO
from omg_lightning.envs import PettingZooEnv, snowdrift_v0, stag_hunt_v0
from omg_lightning.games import MatrixGame, Snowdrift, StagHunt
from omg_lightning.opponents.explicit import BeliefConfig
from omg_lightning.rollout import play
from omg_lightning.seeds import generator_of
from omg_lightning.types import ConfigError

STEPS = 5
HUNT = {"preset": "2h1s_4x4", "max_cycles": STEPS}


class Stays:
    """A partner that stands still, without any random number."""

    def reset(self, batch_size, seat, game, generator):
        self.noop = game.noop

    def act(self, observation, legal):
        return torch.full((len(legal),), self.noop)


class Still(Fixed):
    """Starts in the given states and draws nothing for it."""

    def reset(self, batch_size, generator):
        return super().reset(batch_size, torch.Generator())


def hunt(opponent="Declared", **settings):
    """A small untrained agent for Stag-Hunt."""
    return tiny_agent(StagHunt("2h1s_4x4", max_steps=STEPS), opponent, **settings)


def evaluated(module, env, state, prior=None):
    """The evaluation of an agent in seat 0 beside `Stays`, from this state on: as rollouts play it."""
    fixed = Still(env.game, state)
    seating = arrange([["learner", "test_agents.Stays"]], len(state.time), fixed, torch.Generator().device)
    random = generator_of(0, "agent", "cpu", 0)
    return play(fixed, seating, {"learner": module.actor()}, random, prior, greedy=True)


def episode(agent, env, seed, **reset):
    """The episode of an agent in seat 0 beside one that stands still: what it did, believed and predicted."""
    observations, _ = env.reset(seed=seed)
    own, other = env.possible_agents
    agent.reset(env, own, **reset)
    start, found = env.game_state, []
    while own in env.agents:
        action = agent.act(observations[own])
        found.append((action, agent.belief()[other], agent.predict()[other], agent.search))
        observations, *_ = env.step({own: action, other: env.game.noop})
    return start, found


@pytest.mark.parametrize("opponent", ["Direct", "Declared", "Codebook", "Subgoal", "LIAM"])
def test_a_loaded_agent_acts_and_believes_exactly_like_the_evaluation(opponent):
    module = hunt(opponent)
    env = stag_hunt_v0.parallel_env(**HUNT)
    agent, prior = LoadedAgent(module), None
    for seed in (1, 2):  # the belief goes along to the second episode
        agent.reset(env, seed=0)
        start, found = episode(agent, env, seed)
        played = evaluated(module, env, start, prior)
        prior, episodes = played.prior, played.episodes
        assert [action for action, *_ in found] == episodes.action[episodes.active[..., 0]][:, 0].tolist()
        for t, (_, belief, prediction, _) in enumerate(found):
            goal = module.opponent.as_seen(episodes.goal[t], torch.tensor([0]))[0, 1]
            named = dict(zip(("stag", "hare"), goal.tolist(), strict=False)) if opponent == "Declared" else {}
            named = {f"code_{k}": p for k, p in enumerate(goal.tolist())} if opponent == "Codebook" else named
            assert belief == named
            view, legal = episodes.observation[t, :, 1].float(), episodes.legal[t, :, 1]
            logits = module.opponent.forecast(view, torch.tensor([t / STEPS]), torch.tensor([1]), legal, goal[None])
            assert prediction == dict(zip(env.game.action_names, logits.softmax(-1)[0].tolist(), strict=True))


def test_belief_is_over_headings_where_goals_are_cells():
    module = tiny_agent(Snowdrift("msg"), "Locations")
    env, agent = snowdrift_v0.parallel_env(preset="msg"), LoadedAgent(module)
    env.reset(seed=1)
    agent.reset(env, 0)
    belief = agent.belief()
    assert len(belief) == env.game.num_players - 1
    for chances in belief.values():
        assert set(chances) == {"heads for one", "nowhere"}
        assert sum(chances.values()) == pytest.approx(1)


def test_beliefs_carry_over_with_the_same_partners_and_reset_with_new_ones():
    agent, env = LoadedAgent(hunt(opponent_args={"belief": BeliefConfig(alpha=0.5)})), stag_hunt_v0.parallel_env(**HUNT)
    layout = {"hunters": [(0, 0), (0, 1)], "stags": [(3, 3)], "hares": [(0, 1), (3, 0)]}
    hare = env.game.action_names.index("hunt_hare")

    def first_belief(**reset):
        env.reset(options=layout)
        agent.reset(env, "hunter_0", **reset)
        found = agent.belief()["hunter_1"]
        while "hunter_1" in env.agents:
            env.step({"hunter_0": env.game.noop, "hunter_1": hare})
        return found

    assert first_belief() == {"stag": 0.5, "hare": 0.5}
    again = first_belief()  # alpha 0.5: half of the way to the hare that hunter_1 took, by what was seen without `act`
    assert again == pytest.approx({"stag": 0.25, "hare": 0.75}, abs=2e-3)  # the floor
    assert first_belief() == pytest.approx({"stag": 0.125, "hare": 0.875}, abs=2e-3)
    assert first_belief(new_partners=True) == {"stag": 0.5, "hare": 0.5}
    env.reset(options=layout)
    agent.reset(env, 1)  # from another seat all others are new
    assert agent.belief()["hunter_0"] == {"stag": 0.5, "hare": 0.5}


def test_steps_without_act_update_the_belief():
    module, env = hunt(), stag_hunt_v0.parallel_env(**HUNT)
    asked, silent = LoadedAgent(module), LoadedAgent(module)
    observations, _ = env.reset(seed=3)
    for agent in (asked, silent):
        agent.reset(env, 0)
    for _ in range(3):
        asked.act(observations["hunter_0"])
        observations, *_ = env.step({"hunter_0": 0, "hunter_1": 1})
    assert asked.belief() == silent.belief()
    assert asked.belief()["hunter_1"] != {"stag": 0.5, "hare": 0.5}


def test_the_same_seed_gives_the_same_actions_and_another_one_others():
    env = stag_hunt_v0.parallel_env(**HUNT)

    def actions(seed):
        agent = LoadedAgent(hunt(), seed, greedy=False)
        return [[action for action, *_ in episode(agent, env, s)[1]] for s in range(4)]

    assert actions(1) == actions(1) != actions(2)


def test_search_tells_visits_and_values_of_its_root():
    env = stag_hunt_v0.parallel_env(**HUNT)
    _, found = episode(LoadedAgent(hunt(search_args={"trees": 3, "simulations": 8})), env, 1)
    for action, _, _, search in found:
        assert float(search.visits.sum()) == pytest.approx(8)
        assert search.visits.shape == search.values.shape == search.policy.shape == (7,)
        assert int(search.policy.argmax()) == action
        assert float(search.policy.sum()) == pytest.approx(1)
        assert float(search.value) == pytest.approx(float(search.policy @ search.values), abs=1e-5)
        assert search.visits[search.policy == 0].sum() == search.values[search.policy == 0].abs().sum() == 0
    assert episode(LoadedAgent(hunt(algorithm=PPO)), env, 1)[1][0][3] is None


@pytest.mark.parametrize("algorithm", [None, PPO])
def test_a_batch_of_one_is_the_environment_bit_by_bit(algorithm):
    settings = {} if algorithm is None else {"algorithm": algorithm}
    env = stag_hunt_v0.parallel_env(**HUNT)
    start, found = episode(LoadedAgent(hunt(**settings)), env, 5)
    game, agent, state = env.game, LoadedAgent(hunt(**settings)), start
    agent.reset(game, 0, batch_size=1)
    for action, belief, prediction, search in found:
        joint = torch.tensor([[int(agent.act(state)), game.noop]])
        assert joint[0, 0] == action
        assert {name: float(p) for name, p in agent.belief()["hunter_1"].items()} == belief
        assert {name: float(p) for name, p in agent.predict()["hunter_1"].items()} == prediction
        if search is not None:
            assert same(tuple(part[0] for part in agent.search), tuple(search))
        agent.observe(joint)
        state, _ = game.step(state, joint)


def test_rows_of_a_batch_are_as_if_each_were_alone():
    module, game = hunt(algorithm=PPO), StagHunt("2h1s_4x4", max_steps=STEPS)
    state = game.reset(5, torch.Generator().manual_seed(1))
    alone = [type(state)(*(field[b : b + 1] for field in state)) for b in range(5)]
    agents = [LoadedAgent(module) for _ in range(6)]
    for agent, size in zip(agents, (1, 1, 1, 1, 1, 5), strict=True):
        agent.reset(game, 1, batch_size=size)
    moves = torch.Generator().manual_seed(2)
    for _ in range(STEPS):
        actions = agents[5].act(state)
        assert actions.tolist() == [int(agent.act(one)) for agent, one in zip(agents, alone, strict=False)]
        joint = torch.stack([torch.randint(7, (5,), generator=moves), actions], 1)
        agents[5].observe(joint)
        state, _ = game.step(state, joint)
        for b in range(5):
            agents[b].observe(joint[b : b + 1])
            alone[b], _ = game.step(alone[b], joint[b : b + 1])
        beliefs = agents[5].belief()["hunter_0"]
        for goal in ("stag", "hare"):
            singles = torch.cat([agent.belief()["hunter_0"][goal] for agent in agents[:5]])
            assert torch.allclose(beliefs[goal], singles, atol=1e-6)


def test_rewind_restores_the_memory_exactly():
    module, game = hunt(), StagHunt("2h1s_4x4", max_steps=STEPS)
    agent, state = LoadedAgent(module, greedy=False), game.reset(1, torch.Generator().manual_seed(1))
    agent.reset(game, 0, batch_size=1)
    agent.look(state)
    first, belief = [], agent.belief()
    for _ in range(2):
        action, then = int(agent.act(state)), state
        first.append(action)
        for _ in range(3):
            joint = torch.tensor([[action, 2]])
            agent.observe(joint)
            then, _ = game.step(then, joint)
        assert not same(agent.belief(), belief)
        agent.rewind(0)
        agent.look(state)
        assert same(agent.belief(), belief)
    assert first[0] == first[1]
    with pytest.raises(ConfigError, match="rewind got 1: expected 0 to 0"):
        agent.rewind(1)


def toy_agent(opponent="Direct"):
    """A small agent of PPO for the third-party toy."""
    return tiny_agent(PettingZooEnv("parallel_toys.Toy"), opponent, algorithm=PPO)


def test_an_agent_plays_a_third_party_environment_from_its_own_observation():
    module, env = toy_agent(), Toy()
    agent, batch = LoadedAgent(module), LoadedAgent(module)
    copies = PettingZooEnv("parallel_toys.Toy")
    step = copies.reset(1, torch.Generator().manual_seed(1))
    batch.reset(copies, "b", batch_size=1)
    seed = int(torch.randint(2**31 - 1, (1,), generator=torch.Generator().manual_seed(1)))
    observations, _ = env.reset(seed=seed)
    agent.reset(env, "b")
    while env.agents:
        action = agent.act(observations["b"])
        assert env.action_space("b").contains(action)
        assert action - 1 == int(batch.act(step))  # its actions start at 1
        observations, *_ = env.step({"a": 0, "b": action, "c": 2})
        step = copies.step(torch.tensor([[0, action - 1, 0]]))
        batch.observe(torch.tensor([[0, action - 1, 0]]), step)
    assert agent.belief() == {"a": {}, "c": {}}


def test_an_opponent_model_with_goals_needs_all_observations_and_actions():
    agent, env = LoadedAgent(toy_agent("Codebook")), Toy()
    observations, _ = env.reset(seed=1)
    agent.reset(env, "b")
    with pytest.raises(ConfigError, match="pass the dict of all observations to act"):
        agent.act(observations["b"])
    agent.reset(env, "b")
    first = agent.act(observations)
    before = agent.belief()
    actions = {"a": 1, "b": first, "c": 3}
    observations, rewards, *_ = env.step(actions)
    with pytest.raises(ConfigError, match=r"call agent.observe\(actions\)"):
        agent.act(observations)
    agent.observe(actions, rewards)
    agent.act(observations)
    assert agent.belief() != before
    assert set(agent.predict()["c"]) == {"action_0", "action_1", "action_2", "action_3"}
    for chances in (*agent.belief().values(), *agent.predict().values()):
        assert sum(chances.values()) == pytest.approx(1)


def test_an_agent_obeys_the_masks_of_a_third_party_environment():
    agent, env = LoadedAgent(toy_agent()), Toy()
    observations, _ = env.reset(seed=1)
    agent.reset(env, "c")
    for only in range(4):
        mask = np.arange(4) == only
        assert agent.act(observations["c"], legal=mask) == only + 2  # its actions start at 2


def test_sits_at_one_agent_at_a_time_environments_of_this_project():
    module, both = hunt(), stag_hunt_v0.env(**HUNT)
    agents = {name: LoadedAgent(module) for name in ("hunter_0", "hunter_1")}
    both.reset(seed=1)
    for name, agent in agents.items():
        agent.reset(both, name)
    for name in both.agent_iter():
        observation, _, terminated, truncated, _ = both.last()
        both.step(None if terminated or truncated else agents[name].act(observation))
    assert both.unwrapped.game_state.time == len(both.unwrapped.history) > 0


def test_an_agent_can_rebuild_its_game():
    game = LoadedAgent(hunt()).game
    assert repr(game) == repr(StagHunt("2h1s_4x4", max_steps=STEPS))
    assert isinstance(LoadedAgent(tiny_agent(MatrixGame(preset="climbing"))).game, MatrixGame)
    assert LoadedAgent(toy_agent()).game.make == "parallel_toys.Toy"


def test_user_errors_are_one_line():
    env = stag_hunt_v0.parallel_env(**HUNT)
    agent = LoadedAgent(hunt())
    observations, _ = env.reset(seed=1)
    own = observations["hunter_0"]

    def refused(says, call):
        with pytest.raises(ConfigError, match=says) as caught:
            call()
        assert "\n" not in str(caught.value)

    refused(r"call agent.reset\(env, seat\) first", lambda: agent.act(own))
    refused("has no seat 2: expected 0 to 1, or one of", lambda: agent.reset(env, 2))
    refused("has no seat 'hunter_7'", lambda: agent.reset(env, "hunter_7"))
    refused("expected a pettingzoo ParallelEnv, a Game or a VectorEnv", lambda: agent.reset("stag_hunt", 0))
    refused("StagHunt: give the number of copies", lambda: agent.reset(env.game, 0))
    refused("which runs one episode: omit batch_size", lambda: agent.reset(env, 0, batch_size=3))
    refused("Toy cannot be stepped from a state|toy cannot be stepped", lambda: agent.reset(Toy(), "a"))
    refused("trained with max_steps 5, but this run has max_steps 9", lambda: agent.reset(larger(max_cycles=9), 0))
    refused("observation_space", lambda: agent.reset(larger(height=5), 0))
    refused(
        "trained with num_actions 4, but toy has num_actions 5",
        lambda: LoadedAgent(toy_agent("Direct")).reset(Wide(), "a"),
    )
    refused("Oracle needs the true goals", lambda: LoadedAgent(hunt("Oracle")))
    agent.reset(env, 0)
    refused("got another observation than the current one of hunter_0", lambda: agent.act(observations["hunter_1"]))
    agent.act(own)
    env.reset(seed=2)
    refused(r"was reset, but the agent was not: call agent.reset\(env, seat\) first", lambda: agent.act(own))
    agent.reset(env.game, 0, batch_size=2)
    refused("act got 1 states; expected the state of StagHunt in 2 copies", lambda: agent.act(env.game_state))
    refused("call act or look first", agent.belief)
    refused("call act or look first", lambda: agent.observe(torch.zeros(2, 2, dtype=torch.int64)))
    state = env.game.reset(2, torch.Generator().manual_seed(1))
    agent.act(state)
    refused(r"actions of shape \[2\]; expected \[2, 2\]", lambda: agent.observe(torch.zeros(2, dtype=torch.int64)))
    state, _ = env.game.step(state, torch.full((2, 2), env.game.noop))
    refused("a state after 1 steps, but the agent expected 0", lambda: agent.act(state))
    assert LoadedAgent(hunt(), other_rules=True).reset(larger(max_cycles=9), 0) is None


def larger(**options):
    return stag_hunt_v0.parallel_env(**{**HUNT, **options})


class Wide(Toy):
    """One more action for all players."""

    def action_space(self, agent):
        from gymnasium import spaces

        return spaces.Discrete(5)


def test_load_agent_reads_a_checkpoint_and_a_run_folder(tmp_path):
    module = hunt()
    torch.save({"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}, tmp_path / "last.ckpt")
    env = stag_hunt_v0.parallel_env(**HUNT)
    expected = [found[:3] for found in episode(LoadedAgent(module), env, 1)[1]]
    before = torch.get_rng_state()
    for source in (tmp_path / "last.ckpt", str(tmp_path)):
        agent = omg_lightning.load_agent(source)
        assert [found[:3] for found in episode(agent, env, 1)[1]] == expected
    assert torch.equal(torch.get_rng_state(), before)  # loading draws no number of the user's
    with pytest.raises(ConfigError, match="holds no agent: give a run folder of `fit`"):
        omg_lightning.load_agent(tmp_path.parent)
    with pytest.raises(ConfigError, match=r"no checkpoint at .*nowhere"):
        omg_lightning.load_agent("nowhere")
