"""The adaptation protocol as it is played: who meets whom, for how long, and what is carried along."""

from itertools import pairwise

import pytest
import torch
from toys import attached, same, tiny_agent, tiny_data

from omg_lightning.data import AdaptationConfig, Relationships
from omg_lightning.training.adapter import Adapter
from omg_lightning.rollout import LEARNER, arrange, matches
from omg_lightning.types import ConfigError

PARTNERS = ["nearest_hare", "random", "switcher"]
BELIEF = {"alpha": 0.5, "floor": 0.0}


def protocol(**settings) -> AdaptationConfig:
    return AdaptationConfig(**{"relationships": 2, "steps": 40, "score_steps": 16, **settings})


def relationships(config: AdaptationConfig, partners=PARTNERS, seed: int = 0) -> Relationships:
    data = attached(tiny_data(), belief=BELIEF)
    random = torch.Generator().manual_seed(seed)
    return Relationships(data.game, partners, range(len(partners)), config, data.population.learners, random)


def follow(now: Relationships, steps: int):
    """Plays on and books, environment by environment, the episodes of each relationship: (first belief, next prior)."""
    rows = {(int(p), int(n)): b for b, (p, n) in enumerate(zip(now.partner, now.number, strict=True))}
    found = [[] for _ in rows]
    for lap, played in now.play_until(steps):
        for column, who in enumerate(zip(lap.partner.tolist(), lap.relationship.tolist(), strict=True)):
            first, prior = played.episodes.goal[0, column], played.prior[LEARNER][column]
            found[rows[who]].append((first, prior, int(lap.length[column])))
    return found


def test_everybody_plays_until_the_steps_are_over_and_no_longer():
    now = relationships(protocol())
    assert now.partner.tolist() == [0, 1, 2] * 2
    assert now.number.tolist() == [0, 0, 0, 1, 1, 1]
    for until in (16, 40):
        before = now.steps.clone()
        for row, episodes in enumerate(follow(now, until)):
            length = [each[2] for each in episodes]
            assert before[row] + sum(length) == now.steps[row]
            assert now.steps[row] - length[-1] < until <= now.steps[row]
    assert len(set(now.steps.tolist())) > 1, "or nobody would have had to wait"


def test_beliefs_are_carried_within_a_relationship_and_start_afresh_in_each():
    now = relationships(protocol())
    for episodes in follow(now, 40):
        assert (episodes[0][0] == 0.5).all()
        for (_, prior, _), (first, _, _) in pairwise(episodes):
            torch.testing.assert_close(first, prior)
    assert (now.prior[LEARNER][now.partner == 0, 1, 1] > 0.9).all(), "nearest_hare is after hares"
    again = relationships(protocol())
    assert (follow(again, 1)[0][0][0] == 0.5).all()


def test_without_the_belief_each_episode_starts_afresh_but_a_checkpoint_goes_on_believing(tmp_path):
    path = tmp_path / "a.ckpt"
    path.touch()
    data, agent = tiny_data(), tiny_agent(tiny_data().game, "declared", belief=BELIEF)
    data.attach(agent.learner, lambda path: agent.learner())
    partners, random = [f"checkpoint:{path}"], torch.Generator().manual_seed(0)
    now = Relationships(data.game, partners, [0], protocol(belief=False), data.population.learners, random)
    for episodes in follow(now, 40):
        assert all((first == 0.5).all() for first, _, _ in episodes)
    assert (now.prior[LEARNER] == 0.5).all()
    assert (now.prior[partners[0]] != 0.5).any()


def test_the_loader_gives_all_partners_in_laps_that_repeat():
    data = attached(tiny_data(partners=PARTNERS, adaptation=protocol()))
    loader = data.test_dataloader()
    laps = list(loader)
    assert len(laps) == len(loader) == 5, "40 steps, and an episode may take 8"
    assert [lap.last for lap in laps] == [False] * 4 + [True]
    for lap in laps:
        assert not lap.batches
        assert lap.returns.shape == (len(lap.length), 2)
        pairs = set(zip(lap.partner.tolist(), lap.relationship.tolist(), strict=True))
        assert pairs == {(partner, number) for partner in range(3) for number in range(2)}, "all play in every lap"
    assert same(laps, list(loader))
    assert len(data.buffer) == 0


def test_networks_learn_beside_one_partner_after_the_other():
    settings = protocol(networks=True, steps=24)
    data = attached(tiny_data(partners=PARTNERS[:2], adaptation=settings))
    laps = list(data.test_dataloader())
    assert [set(lap.partner.tolist()) for lap in laps] == [{0}] * 3 + [{1}] * 3
    assert [len(lap.batches) for lap in laps] == [2, 2, 0] * 2
    assert [lap.last for lap in laps] == [False, False, True] * 2
    for lap in laps[3:5]:
        assert all((batch.episodes.truth[0, :, 1] == -1).all() for batch in lap.batches), "nothing of nearest_hare"
    assert all(batch.episodes.planned[..., 0].any() and not batch.offline for lap in laps for batch in lap.batches)


@pytest.mark.parametrize("goals", ["none", "declared", "subgoal", "codebook"])
def test_what_networks_learned_is_forgotten(goals):
    data = tiny_data(partners=PARTNERS[:2], adaptation=protocol(networks=True, steps=16))
    agent = tiny_agent(data.game, goals)
    data.attach(agent.learner, agent.load_learner)
    before = {name: value.clone() for name, value in agent.state_dict().items()}
    with torch.inference_mode():  # as Lightning tests
        first, last = list(data.adapt([0]))
        agent.test_step(first, 0)
        assert not all(
            torch.equal(value, before[name]) for name, value in agent.policy.state_dict(prefix="policy.").items()
        )
        agent.test_step(last, 1)
    assert all(torch.equal(value, before[name]) for name, value in agent.state_dict().items())


def test_an_adapter_gets_better_at_its_batches():
    data = attached(tiny_data(partners=["nearest_hare"], adaptation=protocol(networks=True, steps=16)))
    agent = tiny_agent(data.game, "declared")
    batches = next(iter(data.adapt([0]))).batches
    adapter = Adapter(agent)
    with torch.no_grad():
        before = float(agent.weigh(agent.losses(batches[0])))
        adapter.learn(batches * 40)
        assert float(agent.weigh(agent.losses(batches[0]))) < 0.9 * before


def test_keeping_some_environments_keeps_their_players():
    game = tiny_data().game
    lineups = [[LEARNER, "nearest_stag"], [LEARNER, "nearest_hare"], ["random", LEARNER]]
    seats = arrange(lineups, 6, game, torch.device("cpu"))
    index = torch.tensor([4, 2, 0])
    kept = seats.keep(index)
    assert torch.equal(kept.held_by(LEARNER), seats.held_by(LEARNER)[index])
    assert kept.start(game, torch.Generator().manual_seed(0)).tolist() == [[-1, 1], [-1, -1], [-1, 0]]
    assert sorted((type(each.player).__name__, each.seat, each.rows.tolist()) for each in kept.seated) == [
        ("NearestHare", 1, [0]),
        ("NearestStag", 1, [2]),
        ("RandomPlayer", 0, [1]),
    ]
    assert len(seats.keep(torch.tensor([0, 3])).seated) == 1, "who plays nowhere is not asked"


def test_a_match_carries_beliefs_from_one_batch_of_episodes_to_the_next(monkeypatch):
    data = tiny_data()
    name, given = "checkpoint:a", []
    learner = tiny_agent(data.game, "declared", belief=BELIEF).learner()
    whole = matches.play
    monkeypatch.setattr(
        matches, "play", lambda *args, **named: given.append((args[4], whole(*args, **named))) or given[-1][1]
    )
    random = torch.Generator().manual_seed(0)
    returns = matches.match(data.game, [name, "nearest_hare"], {name: learner}, 7, 3, random)
    assert returns.shape == (7, 2)
    (first, one), (second, two), (third, last) = given
    assert first is None
    assert torch.equal(second[name], one.prior[name])
    assert torch.equal(third[name], two.prior[name][:1])
    assert torch.equal(returns[6:], last.episodes.reward.sum(0))


@pytest.mark.parametrize("setting", ["relationships", "steps", "score_steps"])
def test_settings_out_of_range(setting):
    with pytest.raises(ConfigError, match=f"data.adaptation.{setting} is 0"):
        protocol(**{setting: 0})


@pytest.mark.parametrize(("settings", "word"), [({"score_steps": 7}, "is 7"), ({"score_steps": 41}, "is 41")])
def test_an_episode_must_end_within_the_last_steps(settings, word):
    with pytest.raises(ConfigError, match=word):
        attached(tiny_data(adaptation=protocol(**settings))).test_dataloader()


def test_laps_are_no_shorter_than_the_longest_episode():
    assert AdaptationConfig().laps(35) == [60 * (k + 1) for k in range(40)]
    assert protocol(steps=100).laps(30) == [33, 67, 100]
    assert protocol(steps=16).laps(30) == [16]
