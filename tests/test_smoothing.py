"""Goals in hindsight, drawn from the smoothing posterior: against the posterior of all paths, one by one."""

import itertools
from collections import Counter

import pytest
import torch
from toys import TokenGame, play_with, tiny_agent, training_batch

from omg_lightning.opponents import BeliefConfig, TransitionConfig
from omg_lightning.opponents.smoothing import Evidence, drawn_goals
from omg_lightning.types import NO_GOAL

T, G, N = 4, 3, 30_000


def evidence(seed, achieved, gone=()):
    """Evidence about one seat in one episode; `gone` lists steps and goals that are not there from then on."""
    random = torch.Generator().manual_seed(seed)
    possible = torch.ones(T, 1, 1, G, dtype=torch.bool)
    for step, goal in gone:
        possible[step:, 0, 0, goal] = False
    weight = torch.rand(T, 1, 1, G, generator=random) * possible
    likelihood = torch.rand(T, 1, 1, G, generator=random).log()
    active = torch.ones(T, 1, 1, dtype=torch.bool)
    return Evidence(likelihood, torch.tensor(achieved).view(T, 1, 1), active, possible, weight / weight.sum(-1, True))


def posterior(seen, prior, leak):
    """The probability of each path of goals: nothing but the definition."""
    fresh, likelihood = seen.fresh[:, 0, 0].tolist(), seen.log_likelihood[:, 0, 0].exp().tolist()
    achieved, possible = seen.achieved[:, 0, 0].tolist(), seen.possible[:, 0, 0].tolist()
    weight = {}
    for path in itertools.product(range(G), repeat=T):
        p = prior[path[0]]
        for t, goal in enumerate(path):
            p *= likelihood[t][goal] * (achieved[t] in (NO_GOAL, goal))
            if t + 1 < T:
                stays = (1 - leak) if possible[t + 1][goal] and achieved[t] == NO_GOAL else 0
                p *= stays * (path[t + 1] == goal) + (1 - stays) * fresh[t + 1][path[t + 1]]
        weight[path] = p
    return {path: p / sum(weight.values()) for path, p in weight.items() if p}


@pytest.mark.parametrize(
    ("achieved", "gone", "leak"),
    [
        ([NO_GOAL] * 4, (), 0.0),
        ([NO_GOAL] * 4, (), 0.3),
        ([NO_GOAL, 1, NO_GOAL, NO_GOAL], (), 0.0),
        ([NO_GOAL, 1, NO_GOAL, 2], [(2, 1)], 0.0),
        ([NO_GOAL, NO_GOAL, NO_GOAL, 0], [(2, 1)], 0.0),  # somebody else has taken goal 1: it may have been pursued
        ([NO_GOAL, 2, NO_GOAL, NO_GOAL], [(2, 2), (3, 0)], 0.2),
    ],
)
def test_draws_have_the_posterior_of_all_paths(achieved, gone, leak):
    seen, prior = evidence(3, achieved, gone), torch.tensor([0.5, 0.2, 0.3])
    wanted = posterior(seen, prior.tolist(), leak)
    many = Evidence(*(field.expand(T, N, 1, *field.shape[3:]) for field in seen))
    config = TransitionConfig(at_events=True, leak=leak)
    drawn = drawn_goals(many, prior.expand(N, 1, G), config, torch.Generator().manual_seed(0))
    found = Counter(map(tuple, drawn[:, :, 0].T.tolist()))
    assert set(found) <= set(wanted), "no impossible path"
    for path, p in wanted.items():
        assert found[path] / N == pytest.approx(p, abs=4 * (p / N) ** 0.5 + 2e-4)


def test_padding_is_no_evidence_and_takes_no_random_numbers():
    seen = evidence(5, [NO_GOAL] * 4)
    short = Evidence(*(field[:2].expand(2, 50, 1, *field.shape[3:]) for field in seen))
    active = torch.ones(T, 50, 1, dtype=torch.bool)
    active[2:] = False
    long = Evidence(*(field.expand(T, 50, 1, *field.shape[3:]) for field in seen))._replace(active=active)
    prior, config = torch.full((50, 1, G), 1 / G), TransitionConfig(at_events=True, leak=0.2)
    one, two = (drawn_goals(each, prior, config, torch.Generator().manual_seed(1)) for each in (short, long))
    assert torch.equal(one, two[:2])
    assert (two[2:] == NO_GOAL).all()


@pytest.mark.parametrize("opponent", ["Declared", "Codebook"])
def test_co_player_policies_learn_under_smoothed_goals_of_all_watched_steps(opponent):
    game = TokenGame(3)
    config = {"belief": BeliefConfig(labels="smoothing"), "transition": TransitionConfig(at_events=True)}
    agent = tiny_agent(game, opponent, opponent_args=config)
    episodes = play_with(agent, game, ["learner", "random", "random"], 8)
    for offline in (False, True):
        batch = training_batch(agent, episodes, offline=offline)
        targets, others = batch.targets, episodes.active.clone()
        others[..., 0] = False
        assert torch.equal(targets.known, others), "every step of a co-player has a goal"
        assert torch.equal(targets.label.sum(-1), others.float())
        if opponent == "Declared":
            event = others & (episodes.achieved_goal != NO_GOAL)
            assert event.any()
            assert torch.equal(targets.label[event].argmax(-1), episodes.achieved_goal[event])
        assert torch.isfinite(agent.opponent.losses(batch)["coplayer"])
