"""Declared goals under an explicit belief: the belief while acting, against numbers, and the labels it learns from."""

import pytest
import torch
from test_belief import slow_bayes_update, slow_smooth_prior
from toys import TokenGame, model_spec, play_with, same, stag_hunt, tiny_agent, training_batch

from omg_lightning.events import next_achieved
from omg_lightning.games import MatrixGame
from omg_lightning.opponents import BeliefConfig, Declared, MixtureConfig
from omg_lightning.opponents.explicit import completed, one_hot_targets
from omg_lightning.types import NO_GOAL, ConfigError, View

L, P, G, A = 4, 3, 2, 5
GAME = TokenGame(P, A, ragged=False)
# Likelihoods of action a under goals 0 and 1, the same in every state.
TABLE = torch.tensor([[0.6, 0.1, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.1, 0.6]]).T.log()  # [A, G]
UNKNOWN = torch.full((L, P), NO_GOAL)


def view(active=None, rows=L):
    active = torch.ones(rows, P, dtype=torch.bool) if active is None else active
    legal = torch.ones(rows, P, A, dtype=torch.bool)
    return View(torch.zeros(rows, P, *GAME.observation_shape), legal, torch.zeros(rows), active, torch.zeros(rows, P))


def declared(**config):
    """An opponent model whose co-player policies are those of `TABLE`."""
    model = Declared(model_spec(GAME), BeliefConfig(**config))
    model.predictor.likelihood = lambda view, actions: TABLE[actions]
    return model


def step(model, memory, actions, active=None):
    """Memory after all have seen `actions` `[L, P]`."""
    return model.update(memory, view(active, len(actions)), actions, torch.full_like(actions, NO_GOAL))


def episodes_in_which(achieved):
    """Episodes of one step in which the seats achieve these goals, int64 `[B, P]`."""
    made = play_with(tiny_agent(GAME, "Direct"), GAME, ["random"] * P, len(achieved)).map(lambda field: field[:1])
    return made._replace(achieved_goal=achieved[None])


# Acting ------------------------------------------------------------------------------------------------------------


def test_a_belief_over_two_episodes_equals_bayes_and_smoothing_with_numbers():
    config = {"alpha": 0.7, "floor": 0.05}
    model = declared(**config)
    prior, numbers = model.prior(L), [[[1 / G] * G for _ in range(P)] for _ in range(L)]
    for episode in range(2):
        memory = model.start(prior, UNKNOWN)
        belief = [[slow_bayes_update(goals, [1.0] * G, config["floor"]) for goals in row] for row in numbers]
        for t in range(4):
            actions = torch.randint(A, (L, P), generator=torch.Generator().manual_seed(10 * episode + t))
            memory = step(model, memory, actions)
            for row in range(L):
                for seat in range(P):
                    likelihood = TABLE[actions[row, seat]].exp().tolist()
                    belief[row][seat] = slow_bayes_update(belief[row][seat], likelihood, config["floor"])
            torch.testing.assert_close(model.infer(memory, view()).point, torch.tensor(belief))
        achieved = torch.randint(NO_GOAL, G, (L, P), generator=torch.Generator().manual_seed(episode))
        prior = model.carry(prior, episodes_in_which(achieved))
        numbers = [
            [slow_smooth_prior(numbers[row][seat], achieved[row, seat], config["alpha"]) for seat in range(P)]
            for row in range(L)
        ]
        torch.testing.assert_close(prior, torch.tensor(numbers))  # it smooths the prior, not the posterior


def test_seats_that_have_left_are_no_evidence():
    model, active = declared(), torch.ones(L, P, dtype=torch.bool)
    active[:, 1] = False
    start = model.start(model.prior(L), UNKNOWN)
    memory = step(model, start, torch.zeros(L, P, dtype=torch.int64), active)
    assert torch.equal(memory.log_belief[:, 1], start.log_belief[:, 1])
    assert (memory.log_belief[:, 0, 0] > start.log_belief[:, 0, 0]).all()


def test_an_action_is_evidence_of_its_own_seats_goal_only():
    model = declared()
    start = model.start(model.prior(L), UNKNOWN)
    actions = torch.zeros(L, P, dtype=torch.int64)
    other = actions.clone()
    other[:, 1] = A - 1
    one, two = (model.infer(step(model, start, each), view()).point for each in (actions, other))
    assert torch.equal(one[:, [0, 2]], two[:, [0, 2]])
    assert (one[:, 1] != two[:, 1]).any(-1).all()


def test_updates_within_and_between_episodes_can_be_switched_off():
    actions = torch.zeros(L, P, dtype=torch.int64)
    still = declared(intra=False)
    start = still.start(still.prior(L), UNKNOWN)
    assert same(step(still, start, actions), start)
    fixed = declared(inter=False)
    assert torch.equal(fixed.carry(fixed.prior(L), episodes_in_which(actions)), fixed.prior(L))


def test_the_belief_is_recorded_and_each_tree_samples_a_goal_from_it(generator):
    belief = torch.tensor([[[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]]])
    model = declared()
    estimate = model.infer(model.start(belief, UNKNOWN[:1])._replace(log_belief=belief.log()), view(rows=1))
    torch.testing.assert_close(estimate.point, belief)
    draws = estimate.draw(4000, generator)  # [1, K, P, G]
    assert torch.equal(draws.sum(-1), torch.ones(1, 4000, P))
    torch.testing.assert_close(draws.mean(1), belief, atol=0.03, rtol=0)


def test_the_floor_holds_at_the_first_step_too():
    """After 2,000 episodes of hares at the published alpha the prior of the stag is 2e-5."""
    model = declared(alpha=0.995, floor=1e-3)
    prior, hares = model.prior(1), episodes_in_which(torch.ones(1, P, dtype=torch.int64))
    for _ in range(2000):
        prior = model.carry(prior, hares)
    assert float(prior[..., 0].max()) < 1e-4
    belief = model.infer(model.start(prior, UNKNOWN[:1]), view(rows=1)).point
    assert float(belief.min()) >= 1e-3 * 0.999


def test_figures_show_the_belief_over_declared_goals_and_metrics_compare_it_with_true_goals():
    model = declared()
    shown = model.belief_view(torch.tensor([[0.25, 0.75]]), GAME.goal_names)
    assert shown.names == ("zero", "one")
    assert shown.values.tolist() == [[0.25, 0.75]]
    assert set(model.metrics(GAME.goal_names)) == {"belief"}
    assert model.metrics(()) == {}


def test_predictions_are_mixed_by_the_belief():
    model = Declared(model_spec(GAME))
    seen, legal = torch.rand(6, *GAME.observation_shape).round(), torch.ones(6, A, dtype=torch.bool)
    legal[::2, 1] = False
    time, seat, belief = torch.rand(6), torch.arange(6) % P, torch.rand(6, G).softmax(-1)
    with torch.no_grad():
        found = model.forecast(seen, time, seat, legal, belief).softmax(-1)
        expected = torch.zeros(6, A)
        for goal in range(G):
            condition = model.condition(torch.eye(G)[goal].expand(6, G), seat)
            logits = model.predict(seen, time, condition).masked_fill(~legal, -torch.inf)
            expected += belief[:, goal, None] * logits.softmax(-1)
    torch.testing.assert_close(found, expected)


# Settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [{"alpha": -0.1}, {"alpha": 1.1}, {"floor": -0.1}, {"floor": 0.5}])
def test_a_belief_setting_out_of_range_is_refused_by_name(config):
    with pytest.raises(ConfigError, match=f"belief.{next(iter(config))} is") as caught:
        BeliefConfig(**config)
    assert "\n" not in str(caught.value)


def test_a_floor_too_high_for_the_number_of_goals_is_refused():
    """It would make negative probabilities, and NaN."""
    game = TokenGame(2)
    game.goal_names = ("zero", "one", "two")
    with pytest.raises(ConfigError, match=r"belief.floor is 0.4.*less than 1/3"):
        Declared(model_spec(game), BeliefConfig(floor=0.4))


# Labels ------------------------------------------------------------------------------------------------------------


def test_labels_are_one_hot_where_they_are_known_and_the_inferred_goal_is_one_draw_from_the_belief():
    game = stag_hunt()
    episodes = play_with(tiny_agent(game, "Declared"), game, ["nearest_hare", "nearest_hare"])
    label = next_achieved(episodes.achieved_goal, episodes.active)
    targets = one_hot_targets(episodes, label, torch.Generator().manual_seed(0), 0.25)
    assert targets.share == 0.25
    assert torch.equal(targets.known, label != NO_GOAL)
    assert targets.known.any()
    assert torch.equal(targets.label.argmax(-1)[targets.known], label[targets.known])
    assert torch.equal(targets.label.sum(-1), targets.known.float())
    assert torch.equal(targets.inferred.sum(-1), episodes.active.float())
    assert torch.equal(targets.inferred, targets.inferred.round())
    certain = episodes._replace(goal=torch.eye(2)[(episodes.active.cumsum(0) % 2)])
    again = one_hot_targets(certain, label, torch.Generator().manual_seed(0), 0.0)
    assert torch.equal(again.inferred[episodes.active], certain.goal[episodes.active])


def test_steps_after_the_last_goal_are_labelled_by_a_draw_from_the_seats_last_belief():
    # Two seats, four steps: seat 0 achieves goal 1 at step 1 and stays idle; seat 1 leaves after step 2 with nothing.
    active = torch.tensor([[1, 1], [1, 1], [1, 1], [1, 0]]).bool().view(4, 1, 2)
    belief = torch.zeros(4, 1, 2, 3)
    belief[:3, 0, :, 1] = 1  # earlier beliefs do not count
    belief[3, 0, 0, 2] = 1
    belief[2, 0, 1] = torch.tensor([1.0, 0, 0])
    belief[3, 0, 1, 1] = 1  # beyond its end
    game = stag_hunt()
    made = play_with(tiny_agent(game, "Declared"), game, ["nearest_hare"] * 2)
    episodes = made._replace(goal=belief, active=active)
    known = torch.tensor([[1, NO_GOAL], [1, NO_GOAL], [NO_GOAL, NO_GOAL], [NO_GOAL, NO_GOAL]]).view(4, 1, 2)
    found = completed(episodes, known, torch.Generator().manual_seed(0))
    assert found.view(4, 2).tolist() == [[1, 0], [1, 0], [2, 0], [2, NO_GOAL]]
    blind = completed(episodes._replace(goal=torch.zeros_like(belief)), known, torch.Generator().manual_seed(0))
    assert torch.equal(blind, known)


@pytest.mark.parametrize("opponent", ["Declared", "Codebook"])
def test_belief_labels_make_samples_of_idle_hunters(opponent):
    game = stag_hunt()
    trained = {}
    for labels in ("hindsight", "completed", "belief"):
        agent = tiny_agent(game, opponent, opponent_args={"belief": BeliefConfig(labels=labels)})
        episodes = play_with(agent, game, ["nearest_stag", "nearest_hare"], 8)  # the stag hunter has no company
        trained[labels] = training_batch(agent, episodes, offline=True).targets.known
    active = episodes.active
    assert torch.equal(trained["completed"], active)
    assert torch.equal(trained["belief"], active), "offline it is the same"
    assert not (trained["hindsight"] & ~active).any()
    idle = episodes.achieved_goal[:, :, 0].amax(0) == NO_GOAL  # stag hunters who wait to the end
    assert idle.any()
    assert not trained["hindsight"][:, idle, 0].any()


def test_online_goals_can_come_from_the_belief_of_each_step_and_none_from_hindsight():
    game = MatrixGame("prisoners_dilemma")
    options = {"mixture": MixtureConfig(start=1.0), "belief": BeliefConfig(labels="belief")}
    agent = tiny_agent(game, "Declared", opponent_args=options)
    episodes = play_with(agent, game, ["learner", "always_1"])
    certain = torch.zeros_like(episodes.goal)
    certain[..., 0] = 1  # the belief takes everybody to cooperate, whatever they do
    episodes = episodes._replace(goal=certain)
    batch = training_batch(agent, episodes)
    assert (episodes.achieved_goal[..., 1] == 1).all()
    assert batch.targets.known.all()
    assert torch.equal(batch.targets.label, certain)
    assert torch.equal(batch.goals, certain)
    offline = training_batch(agent, episodes, offline=True).targets
    assert torch.equal(offline.label.argmax(-1), episodes.achieved_goal)


def test_an_unknown_kind_of_labels_is_refused_in_one_line():
    with pytest.raises(ConfigError, match=r"belief\.labels is 'none': expected one of hindsight, completed, belief"):
        BeliefConfig(labels="none")


def test_without_a_label_the_policy_trains_on_the_belief():
    game = stag_hunt()
    options = {"mixture": MixtureConfig(start=1.0), "belief": BeliefConfig(labels="hindsight")}
    agent = tiny_agent(game, "Declared", opponent_args=options)
    episodes = play_with(agent, game, ["learner", "nearest_stag"], seed=1)  # who never meets, catches no stag
    certain = torch.eye(2)[episodes.active.cumsum(0) % 2] * episodes.active[..., None]
    episodes = episodes._replace(goal=certain)  # so that what is drawn from the belief is the belief
    label = next_achieved(episodes.achieved_goal, episodes.active)
    unknown = episodes.active & (label == NO_GOAL)
    known = episodes.active & ~unknown
    assert unknown.any()
    assert known.any()
    goals = training_batch(agent, episodes).goals
    assert torch.equal(goals[unknown], episodes.goal[unknown])
    assert torch.equal(goals[known], torch.eye(2)[label[known]])
