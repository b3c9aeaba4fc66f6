"""Kinds of partners: the belief over kinds by hand, EM on synthetic partners, and whole runs."""

from functools import partial

import pytest
import torch
from command_line import TINY, numbers, run
from toys import TokenGame, model_spec, play_with, spoil, tiny_agent, training_batch

from omg_lightning import load_agent
from omg_lightning.events import one_hot_goals
from omg_lightning.games import Snowdrift
from omg_lightning.opponents import BeliefConfig, Codebook, Declared, Locations
from omg_lightning.opponents.kinds import DECAY, LATER, RECORD, Kinds, KindsConfig
from omg_lightning.opponents.transition import TransitionConfig
from omg_lightning.testing import check_opponent
from omg_lightning.types import NO_GOAL, ConfigError

GAME = TokenGame(2, 5, ragged=False)  # declares two goals


def kinds(pursued, weight=None, turnover=0.0):
    """Kinds with known preferences, `[K][G]`, or `[K][2][G]` for the first goal of an episode and later ones."""
    given = torch.tensor(pursued, dtype=torch.float64)
    made = Kinds(KindsConfig(len(pursued), turnover), given.shape[-1], given.ndim == 3)
    made.pursued = given.view_as(made.pursued) * 1e9  # `preferences` adds one more goal, which changes little here
    made.weight = torch.tensor(weight or [1.0] * len(pursued), dtype=torch.float64)
    return made


def test_the_posterior_over_kinds_multiplies_the_chances_of_all_achieved_goals():
    made = kinds([[0.8, 0.2], [0.4, 0.6]])
    even, counts = torch.tensor([[0.5, 0.5], [2.0, 1.0]], dtype=torch.float64)
    found = made.posterior(even, counts[None])
    first, second = 0.8 * 0.8 * 0.2, 0.4 * 0.4 * 0.6
    assert found.tolist() == pytest.approx([first / (first + second), second / (first + second)], rel=1e-6)


def test_a_belief_over_kinds_predicts_the_next_goal():
    made = kinds([[0.8, 0.2], [0.4, 0.6]])
    assert made.goals(torch.tensor([0.25, 0.75], dtype=torch.float64)).tolist() == pytest.approx([0.5, 0.5], rel=1e-6)


def test_the_first_goal_of_an_episode_and_later_ones_have_their_own_chances():
    made = kinds([[[0.8, 0.2], [0.5, 0.5]], [[0.4, 0.6], [0.1, 0.9]]])
    even = torch.tensor([0.5, 0.5], dtype=torch.float64)
    counts = made.counts(one_hot_goals(torch.tensor([NO_GOAL, 0, NO_GOAL, 1, 1]), 2).double())
    assert counts.tolist() == [[1.0, 0.0], [0.0, 2.0]]
    first, second = 0.8 * 0.5 * 0.5, 0.4 * 0.9 * 0.9
    assert made.posterior(even, counts)[0].item() == pytest.approx(first / (first + second), rel=1e-6)
    assert made.goals(even).tolist() == pytest.approx([0.6, 0.4], rel=1e-6)
    assert made.goals(even, LATER).tolist() == pytest.approx([0.3, 0.7], rel=1e-6)


def test_em_tells_partners_apart_by_their_first_goals_though_each_achieves_all_goals():
    torch.manual_seed(0)
    made = Kinds(KindsConfig(4, turnover=0.0), 3, goals_change=True)
    favourite = torch.arange(300) % 3
    for episode in range(200):
        if episode % 5 == 0:  # other partners come
            belief = made.population().expand(300, -1)
        step = torch.randint(2, (300,))  # which of the others comes next
        order = torch.stack([favourite, (favourite + 1 + step) % 3, (favourite + 2 - step) % 3])
        counts = made.counts(one_hot_goals(order, 3))
        made.learn(belief, counts)
        belief = made.carried(belief, counts)
    first, later = made.goals(belief), made.goals(belief, LATER)
    assert (first.gather(1, favourite[:, None]) > 0.9).all()
    assert (later.gather(1, favourite[:, None]) < 0.1).all()


def test_a_new_goal_within_an_episode_follows_the_later_goals_of_the_kind():
    changes = TransitionConfig(at_events=True)
    model = Declared(model_spec(GAME), BeliefConfig(floor=0.0, kinds=KindsConfig(2)), transition=changes)
    model.kinds.pursued[:] = torch.tensor([[9.0, 1.0], [2.0, 8.0]])
    memory = model.start(model.prior(1), torch.full((1, 2), NO_GOAL))
    assert memory.log_belief.exp()[0, 0, 0] > 0.8
    assert memory.fresh[0, 0, 0] < 0.25


def test_turnover_moves_the_belief_towards_the_population():
    made = kinds([[0.8, 0.2], [0.4, 0.6]], weight=[1.0, 3.0], turnover=0.1)
    found = made.carried(torch.tensor([0.5, 0.5], dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64))
    assert found.tolist() == pytest.approx([0.9 * 0.5 + 0.1 * 0.25, 0.9 * 0.5 + 0.1 * 0.75])


def test_without_turnover_episodes_without_an_achieved_goal_leave_the_belief():
    made = kinds([[0.8, 0.2], [0.4, 0.6]])
    before = torch.tensor([0.3, 0.7], dtype=torch.float64)
    assert torch.allclose(made.carried(before, torch.zeros(1, 2, dtype=torch.float64)), before)


def test_kinds_start_different_and_as_distributions():
    made = Kinds(KindsConfig(4), 2)
    each = made.preferences()[:, 0]
    assert torch.allclose(each.sum(-1), torch.ones(4))
    assert each[0].tolist() == pytest.approx([0.5, 0.5])
    assert each[1, 0] > each[1, 1]
    assert each[2, 1] > each[2, 0]


def test_em_finds_the_preferences_and_the_shares_of_two_kinds_by_one_goal_an_episode():
    # One goal says little about a kind: only a belief that carries over from episode to episode can tell them apart.
    torch.manual_seed(0)
    truth, share = torch.tensor([[0.9, 0.1], [0.2, 0.8]]), 0.25  # of the first kind
    made = Kinds(KindsConfig(3, turnover=0.0), 2)
    of_kind = (torch.rand(400) > share).long()
    belief = made.population().expand(400, -1)
    for episode in range(400):
        if episode % 20 == 0:  # other partners come
            belief = made.population().expand(400, -1)
        counts = torch.nn.functional.one_hot(torch.multinomial(truth[of_kind], 1), 2).float()
        made.learn(belief, counts)
        belief = made.carried(belief, counts)
    found = made.goals(belief)
    for kind in (0, 1):
        assert found[of_kind == kind].mean(0).tolist() == pytest.approx(truth[kind].tolist(), abs=0.07)


def test_a_step_of_em_by_hand():
    made = Kinds(KindsConfig(2), 2)
    weight, pursued = made.weight.clone(), made.pursued.clone()
    counts = torch.tensor([[2.0, 1.0], [1.0, 0.0], [0.0, 4.0]])[:, None]
    made.learn(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), counts)
    assert torch.allclose(made.weight, DECAY * weight + torch.tensor([2.0, 1.0]))
    assert torch.allclose(made.pursued, DECAY * pursued + torch.tensor([[[3.0, 1.0]], [[0.0, 4.0]]]))


def test_rows_without_a_belief_or_a_goal_teach_nothing():
    made = Kinds(KindsConfig(2), 2)
    weight, pursued = made.weight.clone(), made.pursued.clone()
    made.learn(torch.tensor([[0.0, 0.0], [0.5, 0.5]]), torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]]]))
    assert torch.allclose(made.weight, DECAY * weight)
    assert torch.allclose(made.pursued, DECAY * pursued)


@pytest.mark.parametrize("make", [Declared, Codebook])
def test_the_belief_at_the_start_follows_the_kinds(make):
    model = make(model_spec(GAME), belief=BeliefConfig(floor=0.0, kinds=KindsConfig(3)))
    prior = model.prior(4)
    assert prior.shape == (4, 2, 3)
    sure = torch.zeros_like(prior)
    sure[..., 1] = 1  # of the kind that starts with a preference for goal 0
    believed = model.start(sure, torch.full((4, 2), NO_GOAL)).log_belief.exp()
    assert (believed[..., 0] > believed[..., 1]).all()


def test_without_kinds_the_prior_is_over_goals_as_published():
    assert Declared(model_spec(GAME)).prior(3).shape == (3, 2, 2)
    assert not Declared(model_spec(GAME)).records


def test_locations_refuse_kinds():
    with pytest.raises(ConfigError, match=r"belief\.kinds\.count is 2"):
        Locations(model_spec(Snowdrift(height=3, width=3, num_drifts=2)), BeliefConfig(kinds=KindsConfig(2)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"count": -1}, "kinds.count is -1"), ({"turnover": 1.5}, "kinds.turnover is 1.5"), ({"count": True}, "count is")],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        KindsConfig(**settings)


@pytest.mark.parametrize("make", [Declared, partial(Codebook, num_codes=3)])
def test_an_opponent_model_with_kinds_keeps_the_contract(make):
    check_opponent(partial(make, belief=BeliefConfig(kinds=KindsConfig(3))), GAME, batch_size=4)


@pytest.mark.parametrize("algorithm", ["BestResponseSearch", "PPO"])
def test_kinds_learn_in_a_run_and_are_kept_in_its_checkpoint(algorithm, tmp_path):
    kinds = ["--model.opponent=Declared", "--model.opponent.belief.kinds.count=3"]
    small = TINY if algorithm == "BestResponseSearch" else [each for each in TINY if "algorithm" not in each]
    folder = run("fit", tmp_path, f"--model.algorithm={algorithm}", *small, *kinds, "--trainer.max_epochs=3")
    weights = torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]
    learned = next(value for name, value in weights.items() if name.endswith("kinds.pursued"))
    assert learned.shape == (3, 1, 2)
    assert not torch.allclose(learned, Kinds(KindsConfig(3), 2).pursued)
    assert "return/team_mean" in numbers(folder)


def test_an_agent_with_kinds_is_restored_from_its_checkpoint(tmp_path):
    kinds = ["--model.opponent=Declared", "--model.opponent.belief.kinds.count=3"]
    folder = run("fit", tmp_path, *TINY, *kinds, "--trainer.max_epochs=1", "--data.offline.rounds=0")
    weights = torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]
    restored = load_agent(folder).module.state_dict()
    names = [name for name in weights if ".kinds." in name]
    assert len(names) == 2
    assert all(torch.equal(restored[name], weights[name]) for name in names)


def test_the_next_prior_follows_all_goals_that_were_achieved():
    model = Declared(model_spec(GAME), BeliefConfig(floor=0.0, kinds=KindsConfig(3, turnover=0.0)))
    episodes = play_with(tiny_agent(GAME, "Declared"), GAME, ["learner", "learner"], batch=8)
    prior = torch.tensor([0.2, 0.5, 0.3]).expand(8, 2, 3)
    achieved = torch.where(episodes.active, episodes.achieved_goal, NO_GOAL)
    counts = torch.stack([(achieved == goal).sum(0) for goal in range(2)], -1)[..., None, :].float()
    assert (counts.sum(-1) > 1).any(), "or the goal achieved last would do"
    assert torch.allclose(model.carry(prior, episodes), model.kinds.posterior(prior, counts))
    fixed = Declared(model_spec(GAME), BeliefConfig(inter=False, kinds=KindsConfig(3)))
    assert torch.equal(fixed.carry(prior, episodes), prior)


def test_the_belief_over_kinds_is_recorded_with_the_episodes():
    opponent = partial(Declared, belief=BeliefConfig(kinds=KindsConfig(3)))
    episodes = play_with(tiny_agent(GAME, opponent), GAME, ["learner", "learner"], batch=4)
    assert torch.allclose(episodes.extras[RECORD][0], torch.full((4, 2, 3), 1 / 3))


def test_kinds_learn_from_all_players_whatever_the_padding_holds(monkeypatch):
    game = TokenGame(3, 5)  # players leave at different steps
    agent = tiny_agent(game, partial(Declared, belief=BeliefConfig(kinds=KindsConfig(3))))
    episodes, learned = play_with(agent, game, ["learner"] * 3, batch=6), []
    assert not episodes.active[-1].all()
    monkeypatch.setattr(agent.opponent.kinds, "learn", lambda kinds, counts: learned.append((kinds, counts)))
    for each in (episodes, spoil(episodes, fields=("achieved_goal",))):
        agent.opponent.targets(training_batch(agent, each))
    (kinds, counts), (_, spoiled) = learned
    assert torch.allclose(kinds.sum(-1), torch.ones(18))
    assert torch.equal(counts, spoiled)
