"""Random numbers: no two streams are alike, a run uses the streams of `seeds`, and padding never changes a draw."""

from itertools import product

import pytest
import torch
from toys import TokenGame, as_batch, attached, play_with, spoil, tiny_agent, tiny_data

from omg_lightning.actors import Actor, Choice
from omg_lightning.algorithms import PPO
from omg_lightning.data import AdaptationConfig
from omg_lightning.envs import as_env
from omg_lightning.games import Snowdrift
from omg_lightning.opponents.base import MixtureConfig
from omg_lightning.opponents.goal_vae import VAEConfig
from omg_lightning.opponents.selector import SelectorConfig
from omg_lightning.seeds import ROLES, generator_of, seed_of
from omg_lightning.types import NO_GOAL, ConfigError, Episodes

DEVICE = torch.Generator().device  # the CPU, or that of `pytest --device`
PARTS = [(), *((k,) for k in range(50)), *product(range(3), repeat=2)]


def test_random_streams_differ():
    found = {(seed, role, part): seed_of(seed, role, *part) for seed in range(21) for role in ROLES for part in PARTS}
    assert len(set(found.values())) == len(found) == 21 * len(ROLES) * len(PARTS)
    assert all(0 <= value < 2**63 for value in found.values())


def test_random_numbers_of_two_streams_differ():
    streams = [(seed, role, part) for seed in range(4) for role in ROLES for part in [(), (0,), (1,), (0, 0)]]
    generators = [generator_of(seed, role, DEVICE, *part) for seed, role, part in streams]
    drawn = {tuple(torch.rand(4, generator=generator).tolist()) for generator in generators}
    assert len(drawn) == len(streams)


def test_a_random_stream_is_reproducible():
    one, two = (torch.rand(5, generator=generator_of(3, "rollout", "cpu", 2)) for _ in range(2))
    assert torch.equal(one, two)


def test_a_negative_seed_is_one_clear_line():
    with pytest.raises(ConfigError, match=r"data\.seed is -1: it must be at least 0") as caught:
        tiny_data(seed=-1)
    assert "\n" not in str(caught.value)


# The run ------------------------------------------------------------------------------------------------------------


def starts(data, count, generator):
    """Views at the start of `count` episodes whose states `generator` draws."""
    return as_env(data.game).reset(count, generator).observation.to(torch.uint8)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_run_draws_from_the_stream_of_each_role(seed):
    data = attached(tiny_data(seed=seed))
    first = data.refresh()[0].episodes.observation[0]
    assert torch.equal(first, starts(data, 4, generator_of(seed, "rollout")))
    chunks = [chunk.observation[0] for chunk in data.evaluate([["learner", "random"]], 10)]
    for index, chunk in enumerate(chunks):
        assert torch.equal(chunk, starts(data, len(chunk), generator_of(seed, "evaluation", "cpu", index)))
    assert torch.equal(data.random("buffer").get_state(), generator_of(seed, "buffer").get_state())
    agent = tiny_agent(data.env, "Declared", seed=seed)
    assert torch.equal(agent.noise.get_state(), generator_of(seed, "losses").get_state())


def test_rollouts_and_losses_are_apart_at_seed_zero():
    """They were the same stream at seed 0 in version 1, so the noise of the losses was the first board."""
    data, agent = tiny_data(seed=0), tiny_agent(tiny_data().env, "Declared", seed=0)
    streams = {role: data.random(role) for role in ("rollout", "buffer")} | {"losses": agent.noise}
    numbers = {role: tuple(torch.rand(8, generator=stream).tolist()) for role, stream in streams.items()}
    assert len(set(numbers.values())) == 3


def test_the_adaptation_protocol_has_streams_of_its_own():
    seen = []

    class Looker(Actor):
        def start(self, env, mine, prior, generator):
            return mine

        def act(self, memory, scene):
            seen.append(scene.view.observation)
            return Choice(memory & scene.view.active, torch.zeros_like(memory, dtype=torch.int64))

    config = AdaptationConfig(relationships=3, steps=8, score_steps=8)
    for networks, indices in ((False, (0, 1)), (True, (0,))):
        data = tiny_data(partners=["random", "nearest_hare"], adaptation=AdaptationConfig(3, 8, 8, networks=networks))
        data.attach(Looker, lambda path: Looker())
        seen.clear()
        next(iter(data.test_dataloader()))
        expected = starts(data, config.relationships * len(indices), generator_of(0, "adaptation", "cpu", *indices))
        assert torch.equal(seen[0].to(torch.uint8), expected)


@pytest.mark.parametrize("chunk", [0, 1])
def test_a_learners_random_numbers_in_one_chunk_do_not_change_the_next_chunk(chunk):
    data = attached(tiny_data(), "Declared", search_args={"trees": 3})
    other = attached(tiny_data(), "Direct")
    one, two = (list(each.evaluate([["learner", "random"]], 8))[chunk].observation[0] for each in (data, other))
    assert torch.equal(one, two)


# Padding ------------------------------------------------------------------------------------------------------------

MODELS = {
    "Direct": {},
    "Declared": {"opponent_args": {"mixture": MixtureConfig(start=0.5)}},
    "Codebook": {"opponent_args": {"num_codes": 3, "ending_codes": True}},
    "Oracle": {},
    "Subgoal": {},
    "Subgoal of random states": {"opponent_args": {"selector": SelectorConfig(rule="random")}},
    "Subgoal with temperature": {"opponent_args": {"selector": SelectorConfig(temperature=0.5)}},
    "Subgoal of actions": {"opponent_args": {"vae": VAEConfig(action=1.0, next_actions=1.0, next_steps=2)}},
    "Locations": {},
}


def ragged(name, algorithm):
    """A game, an agent whose learning draws random numbers, and episodes in which seats leave early."""
    settings = {**MODELS[name], **({"algorithm": PPO} if algorithm == "PPO" else {})}
    game = TokenGame(3)
    if name == "Locations":
        game = Snowdrift(num_players=3, num_drifts=2, height=3, width=3, max_steps=12)
    make = lambda: tiny_agent(game, name.partition(" ")[0], **settings)  # noqa: E731
    scripts = ["random", "random"] if name != "Locations" else ["cleaner", "random"]
    episodes = play_with(make(), game, ["learner", *scripts], 12)
    assert (~episodes.active).any()
    true_goal = torch.randint(2, (12, 3), generator=torch.Generator().manual_seed(0))
    return make, episodes._replace(true_goal=true_goal.expand_as(episodes.true_goal).clone())


def longer(episodes: Episodes, steps: int = 3) -> Episodes:
    """The same episodes with more padding at the end."""

    def more(field):
        return torch.cat([field, torch.zeros_like(field[:1]).expand(steps, *field.shape[1:])])

    found = episodes.map(more)
    for goals in (found.achieved_goal, found.true_goal):
        goals[-steps:] = NO_GOAL
    found.legal[-steps:] = True
    return found


def worst(episodes: Episodes, seed: int = 0) -> Episodes:
    """The same episodes with NaN and wild values in the padding.

    The reward of a seat that has left is none: in a prosocial game it goes on earning until the episode is over.
    """
    over = ~episodes.active.any(-1, keepdim=True)
    found = spoil(episodes, seed)
    return found._replace(reward=torch.where(over, torch.nan, episodes.reward))


@pytest.mark.parametrize("offline", [False, True], ids=["online", "offline"])
@pytest.mark.parametrize("algorithm", ["search", "PPO"])
@pytest.mark.parametrize("name", MODELS)
def test_losses_and_their_draws_depend_neither_on_what_is_in_the_padding_nor_on_its_length(name, algorithm, offline):
    make, episodes = ragged(name, algorithm)
    found = []
    for each in (episodes, worst(episodes), longer(episodes), worst(longer(episodes), 1)):
        agent = make()
        losses = agent.losses(as_batch(each, offline))
        found.append(({key: value.detach() for key, value in losses.items()}, agent.noise.get_state()))
    (expected, state), *others = found
    for losses, other in others:
        assert torch.equal(other, state), "as many numbers are drawn"
        assert losses.keys() == expected.keys()
        for key, value in losses.items():
            torch.testing.assert_close(value, expected[key], msg=lambda text, key=key: f"{key}: {text}")


def test_no_number_is_drawn_for_goals_that_are_never_mixed():
    """A share of 0 mixes nothing: a draw would be thrown away."""
    game = TokenGame(2)
    agent = tiny_agent(game, "Direct")
    episodes = play_with(agent, game, ["learner", "random"])
    before = agent.noise.get_state()
    agent.losses(as_batch(episodes))
    assert torch.equal(agent.noise.get_state(), before)
