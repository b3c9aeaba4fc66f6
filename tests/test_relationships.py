"""The adaptation protocol as it is played: who meets whom, for how long, and what is carried along."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from toys import TokenGame, TokenState, attached, plain_learner, play_with, same, stag_hunt, tiny_agent, tiny_data

from omg_lightning.actors import LEARNER, Actor, Choice, arrange
from omg_lightning.algorithms import PPO
from omg_lightning.data import AdaptationConfig, Relationships
from omg_lightning.data.evaluation import Practice, adaptation
from omg_lightning.data.meetings import meetings
from omg_lightning.encoders import Paths
from omg_lightning.envs import as_env
from omg_lightning.envs.base import RulesEnv
from omg_lightning.games import StagHunt
from omg_lightning.games.scripts import ScriptedPlayer
from omg_lightning.opponents.explicit import BeliefConfig
from omg_lightning.rollout import matches, play
from omg_lightning.seeds import generator_of
from omg_lightning.training.adapter import Adapter
from omg_lightning.types import AdaptationSegment, ConfigError

PARTNERS = ["nearest_hare", "random", "switcher"]
BELIEF = {"opponent_args": {"belief": BeliefConfig(alpha=0.5, floor=0.0)}}


def protocol(**settings) -> AdaptationConfig:
    return AdaptationConfig(**{"relationships": 2, "steps": 40, "score_steps": 16, **settings})


def relationships(config: AdaptationConfig, partners=PARTNERS, seed: int = 0) -> Relationships:
    data = attached(tiny_data(), **BELIEF)
    random = torch.Generator().manual_seed(seed)
    met = meetings(config, len(partners), 0, torch.Generator())
    return Relationships(data.env, partners, met, config, data.population.learners, random)


def follow(now: Relationships, steps: int):
    """Plays on and books, environment by environment, the episodes of each relationship: (first belief, next prior)."""
    found = [[] for _ in now.number]
    for segment, played in now.play_until(steps):
        for column, row in enumerate(segment.relationship.tolist()):
            first, prior = played.episodes.goal[0, column], played.prior[LEARNER][column]
            found[row].append((first, prior, int(segment.length[column])))
            assert torch.equal(segment.returns[column], played.episodes.reward[:, column].sum(0))
            assert segment.length[column] == played.episodes.active[:, column].any(-1).sum()
    return found


class Quitter(TokenGame):
    """The learner's seat leaves after the first step, the other one stays to the end."""

    def reset(self, batch_size, generator=None):
        state = super().reset(batch_size, generator)
        return state._replace(leaves=torch.tensor([1, self.max_steps]).expand(batch_size, 2))


def test_steps_count_until_the_last_seat_has_left_and_relationships_keep_their_numbers():
    met, learner = torch.tensor([[0, 1], [1, 0]]), plain_learner(Quitter(2))
    now = Relationships(
        as_env(Quitter(2)),
        ["random", "random"],
        met,
        protocol(),
        lambda names: {LEARNER: learner},
        torch.Generator().manual_seed(0),
        number=torch.tensor([7, 5]),
    )
    segments = [segment for segment, _ in now.play_until(24)]
    assert [segment.length.tolist() for segment in segments] == [[6, 6]] * 4
    assert [segment.relationship.tolist() for segment in segments] == [[7, 5]] * 4
    assert [segment.partner.tolist() for segment in segments] == [[0, 1], [1, 0], [1, 0], [1, 0]], "the last one stays"
    assert now.episodes.tolist() == [4, 4]


def test_episodes_are_counted_for_each_relationship():
    now = relationships(protocol(), seed=1)
    found = [len(one) + len(two) for one, two in zip(follow(now, 16), follow(now, 40), strict=True)]
    assert len(set(found)) > 1
    assert now.episodes.tolist() == found


def test_everybody_plays_until_the_steps_are_over_and_no_longer():
    now = relationships(protocol(), seed=1)
    assert now.partner.tolist() == [0, 1, 2] * 2
    assert now.number.tolist() == [0, 1, 2, 3, 4, 5]
    for until in (16, 40):
        before = now.steps.clone()
        for row, episodes in enumerate(follow(now, until)):
            length = [each[2] for each in episodes]
            assert before[row] + sum(length) == now.steps[row]
            assert now.steps[row] - length[-1] < until <= now.steps[row]
    assert len(set(now.steps.tolist())) > 1, "otherwise no relationship would have had to wait"


def test_no_relationship_waits_for_the_others_before_all_of_its_steps_are_over():
    now = relationships(protocol(), seed=1)
    taken, step = [], now.env.step
    now.env.step = lambda actions: taken.append(len(actions)) or step(actions)
    found = [segment for segment, _ in now.play_until(64, 400)]
    assert set(taken) == {len(now.steps)}, "all play in each step"
    assert (now.steps >= 64).all()
    assert len(taken) == max(now.steps.tolist()) < 64 + 8, "an episode takes at most 8 steps"
    rest = [segment for segment, _ in now.play_until(72, 400)]
    assert len(taken) == max(now.steps.tolist()) < 72 + 8, "episodes in progress go on where they were"
    length = torch.zeros_like(now.steps)
    for segment in [*found, *rest]:
        length[segment.relationship] += segment.length
    assert torch.equal(length, now.steps)


class Plain(Actor):
    """An actor that carries nothing from one episode to the next."""

    def start(self, env, mine, prior, generator):
        assert prior is None
        return mine

    def act(self, memory, scene):
        return Choice(memory & scene.view.active, scene.view.legal.byte().argmax(-1))


class Quick(TokenGame):
    """Deterministic: everybody starts with 0 and leaves after as many steps as the number of the last action + 1."""

    def reset(self, batch_size, generator=None):
        last = torch.zeros(batch_size, self.num_players, dtype=torch.int64)
        return TokenState(torch.zeros(batch_size, dtype=torch.int64), last, torch.full_like(last, self.max_steps))

    def active(self, state):
        return ((state.time < self.max_steps) & (state.last[:, 1] != state.time + 1))[:, None].expand(-1, 2)


class Says:
    """Says another number in each episode: 2, 3, 4, 1 and so on, in episodes of 1, 2, 3 and 6 steps; 1 is a goal."""

    count, stride = 0, 1

    def reset(self, batch_size, seat, game, generator):
        assert batch_size == 1, "it cannot restart some of its rows"
        self.count += 1

    def act(self, observation, legal):
        return torch.full((len(legal),), 1 + self.count * self.stride % 4)


class SaysOdd(Says):
    """Says 3 and 1 in turn, in episodes of 2 and 6 steps."""

    stride = 2


class Counting(ScriptedPlayer):
    """The same as `Says`, and restarts its rows."""

    stride = 1

    def reset(self, batch_size, seat, game, generator):
        super().reset(batch_size, seat, game, generator)
        self.count = getattr(self, "count", torch.zeros(batch_size, dtype=torch.int64)) + 1

    def restart(self, index):
        self.count[index] += 1

    def act(self, observation, legal):
        return 1 + self.count * self.stride % 4


class CountingOdd(Counting):
    """The same as `SaysOdd`, and restarts its rows."""

    stride = 2


class Rigid(RulesEnv):
    """An environment in which no single episode can start."""

    def restart(self, index, generator):
        raise AssertionError("it can only be reset as a whole")


class Whole(Rigid):
    """It has a `reset` of its own, but no `restart`."""

    def reset(self, batch_size, generator):
        return super().reset(batch_size, generator)


class Listed(Plain):
    """An actor whose memory is no record of tensors, so it keeps rows in its own way and cannot restart them."""

    def start(self, env, mine, prior, generator):
        return list(super().start(env, mine, prior, generator))

    def keep(self, memory, index):
        return [memory[row] for row in index.tolist()]

    def act(self, memory, scene):
        return super().act(torch.stack(memory), scene)


@pytest.mark.parametrize("player", ["Says", "Counting"])
@pytest.mark.parametrize("kind", [RulesEnv, Whole, Listed])
def test_relationships_at_once_are_as_if_each_were_played_alone(player, kind):
    """The reference plays one episode after the other of a single relationship."""
    game, names = Quick(2), [f"{__name__}.{player}", f"{__name__}.{player}Odd"]
    learner = kind() if kind is Listed else tiny_agent(game, "Declared", algorithm=PPO, **BELIEF).actor()
    env = RulesEnv(game) if kind is Listed else kind(game)
    assert (env.restarts, learner.restarts) == (kind is not Whole, kind is not Listed)
    met = torch.tensor([[0], [1], [0]])
    now = Relationships(env, names, met, protocol(), lambda _: {LEARNER: learner}, torch.Generator())
    found = {row: [] for row in range(3)}
    for until, steps in ((13, [13, 16, 13]), (26, [27, 26, 27])):  # the second one is over when the others restart
        for segment, played in now.play_until(until):
            for column, row in enumerate(segment.relationship.tolist()):
                one = played.episodes.map(lambda field, k=column: field[:, k])
                found[row].append((int(segment.length[column]), one))
        assert now.steps.tolist() == steps, "no episode begins after the last step"
    for row, name in enumerate((names[0], names[1], names[0])):
        seating, prior = arrange([[LEARNER, name]], 1, env, torch.Generator().device), None
        for length, one in found[row]:
            played = play(RulesEnv(game), seating, {LEARNER: learner}, torch.Generator(), prior, greedy=True)
            prior = played.prior
            assert len(played.episodes.reward) == length
            for field, values in played.episodes.tensors().items():
                torch.testing.assert_close(one.tensors()[field][:length], values[:, 0], msg=field)
    if kind is not Listed:
        beliefs = {tuple(one.goal[0, 1].tolist()) for _, one in found[0]}
        assert len(beliefs) > 2, "otherwise nothing is carried from one episode to the next"


def test_episodes_restart_on_boards_whose_walking_distances_have_other_sizes():
    data = tiny_data(game=StagHunt.preset("4h1s_6x6", max_steps=5), seats=[LEARNER, *["random"] * 3])
    agent = tiny_agent(data.env, "Declared", encoder=Paths)
    learners = lambda names: {LEARNER: agent.actor()}  # noqa: E731
    now = Relationships(
        data.env, ["nearest_hare"], torch.zeros(2, 1, dtype=torch.int64), protocol(), learners, torch.Generator()
    )
    sizes = set()
    for _ in now.play_until(60):
        if now._rollout is not None:
            sizes.add(tuple(x.shape[1:] for x in now._rollout.memory[LEARNER].own if isinstance(x, torch.Tensor)))
    assert len(sizes) > 1, "otherwise the boards were alike"


def test_a_player_that_cannot_restart_plays_each_relationship_with_an_object_of_its_own():
    met = torch.tensor([[0], [1], [0]])
    for player, objects in (("Says", 2), ("Counting", 1), ("Later", 2)):
        names, learner = [f"{__name__}.{player}", "random"], plain_learner(Quick(2))
        now = Relationships(
            as_env(Quick(2)), names, met, protocol(), lambda _, own=learner: {LEARNER: own}, torch.Generator()
        )
        assert len(now.seating.scripted[names[0]].seated) == objects
        assert len(now.seating.scripted["random"].seated) == 1


class Later(Counting):
    """Its `reset` is its own, but its `restart` is inherited, and so cannot know what `reset` has prepared."""

    def reset(self, batch_size, seat, game, generator):
        super().reset(batch_size, seat, game, generator)


def test_only_the_present_partner_of_a_relationship_acts():
    met = torch.tensor([[0, 1, 0], [1, 0, 1]])
    names = [f"{__name__}.Zero", f"{__name__}.One"]
    now = Relationships(
        as_env(TokenGame(2)), names, met, protocol(), lambda _: {LEARNER: Plain()}, torch.Generator().manual_seed(0)
    )
    seen = set()
    for segment, played in now.play_until(40):
        for column, partner in enumerate(segment.partner.tolist()):
            said = played.episodes.action[:, column, 1][played.episodes.active[:, column, 1]]
            assert (said == partner).all()
            seen.add((int(segment.relationship[column]), partner))
    assert seen == {(0, 0), (0, 1), (1, 0), (1, 1)}


class Zero(ScriptedPlayer):
    """Says 0."""

    said = 0

    def action_probabilities(self, observation, legal):
        return torch.nn.functional.one_hot(torch.full((len(legal),), self.said), legal.shape[-1]).float()


class One(Zero):
    """Says 1."""

    said = 1


def test_beliefs_are_carried_within_a_relationship_and_start_afresh_in_each():
    now = relationships(protocol())
    for episodes in follow(now, 40):
        assert (episodes[0][0] == 0.5).all()
        for (_, prior, _), (first, _, _) in pairwise(episodes):
            torch.testing.assert_close(first, prior)
    assert (now.prior[LEARNER][now.partner == 0, 1, 1] > 0.9).all(), "nearest_hare is after hares"
    again = relationships(protocol())
    assert (follow(again, 1)[0][0][0] == 0.5).all()


def test_without_carried_beliefs_only_checkpoints_keep_theirs(tmp_path):
    path = tmp_path / "a.ckpt"
    path.touch()
    data, agent = tiny_data(), tiny_agent(tiny_data().env, "Declared", **BELIEF)
    data.attach(agent.actor, lambda path: agent.actor())
    partners, random = [f"checkpoint:{path}"], torch.Generator().manual_seed(0)
    met = torch.zeros(2, 1, dtype=torch.int64)
    now = Relationships(data.env, partners, met, protocol(belief=False), data.population.learners, random)
    for episodes in follow(now, 40):
        assert all((first == 0.5).all() for first, _, _ in episodes)
    assert (now.prior[LEARNER] == 0.5).all()
    assert (now.prior[partners[0]] != 0.5).any()


def test_the_loader_gives_all_partners_in_segments_that_repeat():
    data = attached(tiny_data(partners=PARTNERS, adaptation=protocol()))
    loader = data.test_dataloader()
    segments = list(loader)
    assert len(segments) == len(loader) == 5, "40 steps, and an episode may take 8"
    assert [segment.last for segment in segments] == [False] * 4 + [True]
    for segment in segments:
        assert not segment.batches
        assert segment.returns.shape == (len(segment.length), 2)
        assert (segment.partner == segment.relationship % 3).all()
    numbers = torch.cat([segment.relationship for segment in segments])
    length = torch.cat([segment.length for segment in segments])
    total = torch.zeros(6, dtype=torch.int64).index_add(0, numbers, length)
    assert (total >= 40).all()
    assert (total < 48).all(), "no episode begins after the last step"
    assert same(segments, list(loader))
    assert len(data.buffer) == 0


def test_networks_learn_beside_one_partner_after_the_other():
    settings = protocol(networks=True, steps=24)
    data = attached(tiny_data(partners=PARTNERS[:2], adaptation=settings))
    data.refresh()
    segments = list(data.test_dataloader())
    assert [set(segment.partner.tolist()) for segment in segments] == [{0}] * 3 + [{1}] * 3
    assert [len(segment.batches) for segment in segments] == [2, 2, 0] * 2
    assert [segment.last for segment in segments] == [False, False, True] * 2
    for segment in segments[3:5]:
        goals = [batch.episodes.true_goal[0, :, 1] for batch in segment.batches]
        assert all((goal == -1).all() for goal in goals), "nothing of nearest_hare"
    batches = [batch for segment in segments for batch in segment.batches]
    assert all(batch.episodes.learner[..., 0].any() and not batch.offline for batch in batches)
    assert {batch.env_steps for batch in batches} == {data.env_steps}
    assert data.env_steps > 0


@pytest.mark.parametrize("networks", [True, False])
def test_no_two_partners_meet_the_same_starts(networks):
    data, starts = tiny_data(partners=PARTNERS[:2], adaptation=protocol(networks=networks)), []

    class Looker(Plain):
        def act(self, memory, scene):
            if not scene.view.time.any():
                starts.append(scene.view.observation)
            return super().act(memory, scene)

    data.attach(Looker, lambda path: Looker())
    first = []
    for partners in ([0], [1], [0]):
        starts.clear()
        next(iter(data.adapt(partners)))
        first.append(starts[0])
    assert not torch.equal(first[0], first[1])
    assert torch.equal(first[0], first[2]), "but the same partner meets the same ones again"
    for role in ("adaptation", "practice"):
        one, two = (generator_of(data.seed, role, "cpu", k).get_state() for k in (0, 1))
        assert not torch.equal(one, two)


@pytest.mark.parametrize("opponent", ["Direct", "Declared", "Subgoal", "Codebook"])
def test_forget_restores_the_weights(opponent):
    data = tiny_data(partners=PARTNERS[:2], adaptation=protocol(networks=True, steps=16))
    agent = tiny_agent(data.env, opponent)
    data.attach(agent.actor, agent.load_actor)
    before = {name: value.clone() for name, value in agent.state_dict().items()}
    with torch.inference_mode():  # as Lightning tests
        first, last = list(data.adapt([0]))
        agent.test_step(first, 0)
        policy = agent.algorithm.policy.state_dict(prefix="algorithm.policy.")
        assert not all(torch.equal(value, before[name]) for name, value in policy.items())
        agent.test_step(last, 1)
    assert all(torch.equal(value, before[name]) for name, value in agent.state_dict().items())


def test_an_adapter_gets_better_at_its_batches():
    data = attached(tiny_data(partners=["nearest_hare"], adaptation=protocol(networks=True, steps=16)))
    agent = tiny_agent(data.env, "Declared")
    batches = next(iter(data.adapt([0]))).batches
    adapter = Adapter(agent)
    with torch.no_grad():
        before = float(agent.weigh(agent.losses(batches[0])))
        adapter.learn(batches * 40)
        assert float(agent.weigh(agent.losses(batches[0]))) < 0.9 * before


def test_a_match_carries_beliefs_from_one_batch_of_episodes_to_the_next(monkeypatch):
    data = tiny_data()
    name, given = "checkpoint:a", []
    learner = tiny_agent(data.env, "Declared", **BELIEF).actor()
    whole = matches.play
    monkeypatch.setattr(
        matches, "play", lambda *args, **named: given.append((args[4], whole(*args, **named))) or given[-1][1]
    )
    random = torch.Generator().manual_seed(0)
    returns = matches.match(data.env, [name, "nearest_hare"], {name: learner}, 7, 3, random)
    assert returns.shape == (7, 2)
    (first, one), (second, two), (third, last) = given
    assert first is None
    assert torch.equal(second[name], one.prior[name])
    assert torch.equal(third[name], two.prior[name][:1])
    assert torch.equal(returns[6:], last.episodes.reward.sum(0))


def test_where_networks_learn_relationships_wait_at_the_end_of_each_segment_and_old_episodes_make_room():
    game = stag_hunt()
    episodes = play_with(tiny_agent(game, "Direct"), game, ["learner", "random"], batch=2)
    asked = []

    class Played:
        def play_until(self, steps, total):
            asked.append((steps, total))
            number = torch.zeros(2, dtype=torch.int64)
            marked = episodes._replace(reward=torch.full_like(episodes.reward, float(steps)))
            yield AdaptationSegment(number, number, torch.zeros(2, 2), number), SimpleNamespace(episodes=marked)

    random = torch.Generator().manual_seed(0)
    practice = Practice(4, len(episodes.active), 8, 1, random, 0)
    found = list(adaptation(lambda: (Played(), practice), [8, 16, 24, 32, 40]))
    assert asked == [(8, 8), (16, 16), (24, 24), (32, 32), (40, 40)]
    seen = [set(batch.episodes.reward.flatten().tolist()) - {0.0} for segment in found for batch in segment.batches]
    assert seen == [{8.0}, {8.0, 16.0}, {16.0, 24.0}, {24.0, 32.0}]
    asked.clear()
    list(adaptation(lambda: (Played(), None), [8, 16]))
    assert asked == [(8, 16), (16, 16)], "a batch costs little more than an environment, so nobody waits"


def test_an_oracle_beside_a_player_without_a_declared_goal_is_refused_in_evaluations_and_relationships():
    data = attached(tiny_data(partners=["random"], adaptation=protocol()), "Oracle")
    for draws in (data.evaluate([["learner", "random"]], 4), data.test_dataloader()):
        with pytest.raises(ConfigError, match="random declares no goal"):
            next(iter(draws))


@pytest.mark.parametrize("setting", ["relationships", "steps", "score_steps"])
def test_settings_out_of_range(setting):
    with pytest.raises(ConfigError, match=f"data.adaptation.{setting} is 0"):
        protocol(**{setting: 0})


@pytest.mark.parametrize(("settings", "word"), [({"score_steps": 7}, "is 7"), ({"score_steps": 41}, "is 41")])
def test_an_episode_must_end_within_the_last_steps(settings, word):
    with pytest.raises(ConfigError, match=word):
        attached(tiny_data(adaptation=protocol(**settings))).test_dataloader()


def test_segments_are_no_shorter_than_the_longest_episode():
    assert AdaptationConfig().segments(35) == [60 * (k + 1) for k in range(40)]
    assert protocol(steps=100).segments(30) == [33, 67, 100]
    assert protocol(steps=16).segments(30) == [16]


@pytest.mark.parametrize("belief", [True, False])
def test_an_actor_without_a_prior_goes_through_the_protocol(belief):
    data = tiny_data(partners=PARTNERS, adaptation=protocol(belief=belief))
    data.attach(Plain, lambda path: Plain())
    segments = list(data.test_dataloader())
    assert len(segments) == 5
    assert all((segment.length >= 1).all() for segment in segments)


def test_ppo_goes_through_the_protocol_and_learns_in_it():
    data = tiny_data(partners=PARTNERS[:1], adaptation=protocol(networks=True, steps=16))
    agent = tiny_agent(data.env, "Declared", algorithm=PPO)
    data.attach(agent.actor, agent.load_actor, agent.copy_weights, agent.algorithm.on_policy)
    before = agent.copy_weights()
    first, last = list(data.adapt([0]))
    agent.test_step(first, 0)
    assert not same(agent.copy_weights(), before)
    agent.test_step(last, 1)
    assert same(agent.copy_weights(), before)
