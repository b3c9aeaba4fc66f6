"""The traps of SPEC section 9 that can be seen at this level. A number in a name is the trap's."""

import pytest
import torch
from lightning import Callback, Trainer
from toys import (
    Fixed,
    TokenGame,
    always,
    as_batch,
    gradients,
    inferred,
    plain_learner,
    play_with,
    rolled,
    same,
    snapshot,
    spoil,
    stag_hunt,
    tiny_agent,
    tiny_data,
)

from callbacks import BufferRefresh
from omg_lightning.opponents import candidates
from omg_lightning.losses import soft_cross_entropy
from omg_lightning.training import PolicyModule
from omg_lightning.opponents.targets import seat_scores
from omg_lightning.samples import flatten
from omg_lightning.rollout import Simulator, arrange, plan, play
from omg_lightning.types import Episodes, View, ego_order

GOALS = ("none", "declared", "subgoal", "oracle")
LEAF_LOSSES = ("vae", "subgoal", "coplayer", "policy", "value")


def fresh(game, goals, **settings):
    """An agent whose noise starts at the same place each time."""
    return tiny_agent(game, goals, selector={"mixture": 0.5, "horizon": 3}, **settings)


def all_losses(game, goals, episodes, offline=False):
    """Losses and gradients of a fresh agent on these episodes."""
    agent = fresh(game, goals)
    losses = agent.losses(as_batch(episodes, offline))
    return losses, gradients(agent, sum(losses[name] for name in LEAF_LOSSES if name in losses))


def certain(episodes):
    """The same episodes with beliefs that leave nothing to chance: a draw from them is the belief."""
    size = episodes.goal.shape[-1]
    if size == 0:
        return episodes
    goal = torch.eye(size)[episodes.goal.argmax(-1)] * (episodes.goal.sum(-1, keepdim=True) > 0)
    return episodes._replace(goal=goal)


def assert_same_training(one, two):
    for first, second in zip(one, two, strict=True):
        assert first.keys() == second.keys()
        for name, value in first.items():
            torch.testing.assert_close(second[name], value, msg=lambda text, name=name: f"{name}: {text}")


# 1: network calls at batch size 1, trees one after the other -------------------------------------------------------


def test_trap_1_networks_are_called_once_for_all_environments_seats_and_trees():
    game = TokenGame(3, ragged=False)
    for batch, trees in ((1, 1), (6, 4)):
        sizes = []

        def policy(view, time, condition, sizes=sizes):
            sizes.append(len(view))
            return torch.zeros(len(view), game.num_actions), torch.zeros(len(view))

        learner = plain_learner(game, trees=trees, simulations=5)._replace(policy=policy)
        seats = arrange([["learner", "learner", "random"]], batch, game, torch.device("cpu"))
        play(game, seats, {"learner": learner}, torch.Generator().manual_seed(0))
        assert sizes == [batch * 2 * trees] * (game.max_steps * (1 + 5))


# 2: padding of departed players -------------------------------------------------------------------------------------


@pytest.mark.parametrize("offline", [False, True], ids=["online", "offline"])
@pytest.mark.parametrize("goals", GOALS)
@pytest.mark.parametrize("field", [name for name in Episodes._fields if name not in ("active", "planned")])
def test_trap_2_departed_players_are_never_read(field, goals, offline):
    if (field, goals) == ("goal", "none"):
        pytest.skip("there are no goals to spoil")
    # Also not as an input: not the goals of co-players who have left, nor what they "did" (context of the subgoals).
    game = TokenGame(3)
    lineup = ["random"] * 3 if offline else ["learner", "random", "random"]
    episodes = play_with(tiny_agent(game, goals), game, lineup, 12)
    assert (episodes.active[-1].any(-1) & ~episodes.active[-1].all(-1)).any()
    truth = torch.randint(-1, 2, (12, 3), generator=torch.Generator().manual_seed(0))  # scripts that pursue something
    episodes = episodes._replace(truth=truth.expand_as(episodes.truth).clone())
    spoiled = spoil(episodes, fields=(field,))
    assert not same(getattr(spoiled, field), getattr(episodes, field))
    assert_same_training(all_losses(game, goals, episodes, offline), all_losses(game, goals, spoiled, offline))


@pytest.mark.parametrize("goals", GOALS)
def test_trap_2_a_longer_padding_changes_nothing(goals):
    # See also test_buffer.py, test_the_padding_of_a_short_episode_realises_nothing.
    game = TokenGame(3)
    agent = tiny_agent(game, goals, selector={"mixture": 0.0})  # mixing draws a number for padding too
    episodes = play_with(agent, game, ["learner", "random", "random"], 12)
    episodes = episodes if goals == "subgoal" else certain(episodes)
    longer = Episodes(*(torch.cat([field, torch.zeros_like(field[:3])]) for field in episodes))
    if goals == "subgoal":
        one, two = (inferred(agent, each, flatten(each, game.max_steps)) for each in (episodes, longer))
        torch.testing.assert_close(tuple(two), tuple(one))
    else:
        assert_same_training(*((agent.losses(as_batch(each)),) for each in (episodes, longer)))


def test_trap_2_every_sample_is_a_step_of_somebody_who_is_there():
    game = TokenGame(3)
    agent = tiny_agent(game, "subgoal")
    episodes = play_with(agent, game, ["learner", "random", "random"], 12)
    seen = {}
    agent.vae.loss = lambda samples, *rest: seen.update(vae=len(samples.time)) or {}
    agent.predictor.coplayer_loss = lambda view, *rest: seen.update(coplayer=len(view)) or {}
    agent.policy.loss = lambda view, *rest: seen.update(policy=len(view)) or {}
    agent.losses(as_batch(episodes))
    active = episodes.active.sum((0, 1)).tolist()
    assert seen == {"vae": sum(active), "coplayer": active[1] + active[2], "policy": active[0]}


def test_trap_2_the_policy_is_asked_what_it_is_trained_on_when_somebody_has_left():
    # The goals of the departed are 0 in both.
    game = TokenGame(2, ragged=False)
    agent = tiny_agent(game, "subgoal", selector={"mixture": 0.0})
    state = game.reset(4, torch.Generator().manual_seed(0))
    state = state._replace(leaves=torch.tensor([[6, 2]] * 4))
    seats = arrange([["learner", "random"]], 4, game, torch.device("cpu"))
    asked = []
    learner = agent.learner()
    condition = learner.policy_condition
    learner = learner._replace(policy_condition=lambda goals, seat: asked.append(goals) or condition(goals, seat))
    episodes = play(Fixed(game, state), seats, {"learner": learner}, torch.Generator().manual_seed(0)).episodes
    assert episodes.active[:, 0].tolist() == [[True, True]] * 2 + [[True, False]] * 4
    trained = []
    agent.policy.loss = lambda view, time, goals, *rest: trained.append(goals.view(6, 4, 1, -1)) or {}
    agent.losses(as_batch(episodes))
    assert len(asked) == 6
    for t in range(2, 6):
        assert torch.equal(asked[t], trained[0][t])


# 3: search that mutates ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("goals", GOALS)
def test_trap_3_planning_is_a_pure_function(goals):
    game = stag_hunt(3)
    agent = tiny_agent(game, goals, trees=2, simulations=6)
    learner = agent.learner()
    state = game.reset(4, torch.Generator().manual_seed(0))
    prior = learner.source.prior(4, 3, torch.device("cpu"))
    memory = learner.source.start(prior, torch.tensor([[0, 1, -1]] * 4))
    view = View(game.observe(state), game.legal(state), torch.zeros(4), game.active(state))
    rows, ego = torch.ones(4, 3).nonzero(as_tuple=True)
    with torch.no_grad():
        before = snapshot((state, prior, memory, tuple(view), rows, ego, tuple(agent.state_dict().values())))
        found = []
        for _ in range(2):
            estimate = learner.source.infer(memory, view)
            found.append(plan(game, learner, state, estimate, rows, ego, torch.Generator().manual_seed(1), False))
    assert same(*found), "same inputs, same outputs"
    assert same((state, prior, memory, tuple(view), rows, ego, tuple(agent.state_dict().values())), before)


# 4: one latent for all, one seat's models only ----------------------------------------------------------------------


@pytest.mark.parametrize("goals", GOALS)
def test_trap_4_permuting_seats_permutes_inference_labels_and_scores(goals):
    game = TokenGame(3)
    agent = tiny_agent(game, goals, selector={"horizon": 3})
    episodes = play_with(agent, game, ["learner", "random", "learner"], 8)
    episodes = episodes if goals == "subgoal" else certain(episodes)
    found = []
    for each in (episodes, rolled(episodes)):
        noise = torch.Generator().manual_seed(0)
        hindsight, _ = agent.objective.label(as_batch(each), flatten(each, game.max_steps), noise)
        found.append(hindsight)
    one, two = found
    assert torch.equal(two.known, one.known.roll(1, 2))
    if goals == "subgoal":  # the draw's noise follows the samples, so compare what it is drawn from
        means = [
            samples.spread(inferred(agent, each, samples).mean)
            for each in (episodes, rolled(episodes))
            for samples in [flatten(each, game.max_steps)]
        ]
        torch.testing.assert_close(means[1], means[0].roll(1, 2))
        codes = torch.randn(*episodes.active.shape, 3)
        scores = [
            seat_scores(each, flatten(each, game.max_steps), c, i, candidates(each.active, 3), agent.policy.goal_values)
            for each, c, i in (
                (episodes, codes, means[0]),
                (rolled(episodes), codes.roll(1, 2), means[0].roll(1, 2)),
            )
        ]
        torch.testing.assert_close(scores[1], scores[0].roll(1, 3))
        assert scores[0].any()
    else:
        torch.testing.assert_close(two.inferred, one.inferred.roll(1, 2))
        torch.testing.assert_close(two.label, one.label.roll(1, 2))


@pytest.mark.parametrize("goals", ["none", "declared", "oracle"])
def test_trap_4_permuting_seats_changes_no_loss(goals):
    game = TokenGame(3)
    agent = tiny_agent(game, goals, selector={"mixture": 0.0})
    episodes = certain(play_with(agent, game, ["learner", "random", "random"], 8))
    one, two = (agent.losses(as_batch(each)) for each in (episodes, rolled(episodes)))
    assert_same_training((one,), (two,))


def test_trap_4_permuting_seats_permutes_play():
    """Nothing here is left to chance, and all roles are alike."""
    game = TokenGame(3)
    state = game.reset(5, torch.Generator().manual_seed(0))
    agent = tiny_agent(game, "none", simulations=8)
    with torch.no_grad():
        agent.policy.net.trunk.dense.weight.mul_(5)  # a prior that depends on the view
        agent.policy.net.out.weight.mul_(5)
    learner = agent.learner()._replace(coplayer=always(3, game.num_actions))
    seats = arrange([["learner"] * 3], 5, game, torch.device("cpu"))
    turned = state._replace(last=state.last.roll(1, 1), leaves=state.leaves.roll(1, 1))
    one, two = (
        play(Fixed(game, start), seats, {"learner": learner}, torch.Generator().manual_seed(0), greedy=True).episodes
        for start in (state, turned)
    )
    for name, first in rolled(one)._asdict().items():
        torch.testing.assert_close(getattr(two, name), first, msg=lambda text, name=name: f"{name}: {text}")
    assert len(one.action[one.active].unique()) > 1


@pytest.mark.parametrize("seat", [0, 1, 2])
def test_trap_4_every_seats_data_trains_the_co_player_model(seat):
    game = TokenGame(3, ragged=False)
    agent = tiny_agent(game, "none")
    episodes = play_with(agent, game, ["random"] * 3)
    base = float(agent.losses(as_batch(episodes, offline=True))["coplayer"])
    action = episodes.action.clone()
    action[..., seat] = (action[..., seat] + 1) % game.num_actions
    assert float(agent.losses(as_batch(episodes._replace(action=action), offline=True))["coplayer"]) != base


def test_trap_4_several_learner_seats_all_train_the_policy():
    game = stag_hunt(3)
    agent = tiny_agent(game, "declared")
    episodes = play_with(agent, game, ["learner", "nearest_hare", "learner"])
    assert torch.equal(episodes.planned, episodes.active & torch.tensor([True, False, True]))
    base = float(agent.losses(as_batch(episodes))["value"])
    for seat in (0, 2):
        value = episodes.value.clone()
        value[..., seat] += 1
        assert float(agent.losses(as_batch(episodes._replace(value=value)))["value"]) != base


def test_trap_4_the_policy_gets_each_co_players_own_goal_in_its_place():
    game = TokenGame(3)
    agent = tiny_agent(game, "declared", selector={"mixture": 0.0})
    episodes = play_with(agent, game, ["learner", "random", "learner"])
    size = episodes.goal.shape[-1]
    numbers = torch.eye(size)[torch.arange(episodes.active.numel()).view_as(episodes.active) % size]
    seen = []
    agent.policy.loss = lambda view, time, goals, seat, legal, policy, value: seen.append((view, goals, value)) or {}
    agent.losses(as_batch(episodes._replace(goal=numbers)))
    view, goals, value = seen[0]
    for m, (t, b, ego) in enumerate(episodes.planned.nonzero().tolist()):
        seen_there = agent.policy.net.trunk._dense(view[m : m + 1])[0]
        assert torch.equal(seen_there, episodes.observation[t, b, ego].float())
        assert float(value[m]) == float(episodes.value[t, b, ego])
        for k in (1, 2):
            seat = (ego + k) % 3
            if episodes.active[t, b, seat]:
                assert torch.equal(goals[m, k - 1], numbers[t, b, seat])


# 5: ego order and seat order ----------------------------------------------------------------------------------------


def test_trap_5_what_was_learned_of_each_player_is_what_the_search_sees_it_do():
    """Co-players count: each says what follows on its own last word. Learned from episodes, used in a tree."""
    game = TokenGame(3, ragged=False)
    agent = tiny_agent(game, "none", hidden=32, learning_rate=1e-2)
    episodes = play_with(agent, game, ["learner", "toys.Counter", "toys.Counter"], 32)
    optimizer = agent.optimizer()
    for _ in range(60):
        loss = agent.losses(as_batch(episodes))["coplayer"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss) < 0.1
    state = game.reset(12, torch.Generator().manual_seed(9))
    ego = torch.arange(12) % 3
    simulator = Simulator(game, agent.learner(), ego, torch.zeros(12, 3, 0), torch.Generator().manual_seed(0))
    with torch.no_grad():
        said = simulator.root(state).state.coplayers
    expected = (ego_order(state.last, ego)[:, 1:] + 1) % game.num_actions
    assert (said == expected).float().mean() > 0.9


# 8: context of an earlier episode -----------------------------------------------------------------------------------


def test_trap_8_an_episode_starts_with_an_empty_context():
    game = TokenGame(2, ragged=False)
    agent = tiny_agent(game, "subgoal")
    state = game.reset(4, torch.Generator().manual_seed(0))
    seats = arrange([["learner", "random"]], 4, game, torch.device("cpu"))
    random, prior = torch.Generator().manual_seed(0), None
    firsts = []
    for _ in range(2):
        played = play(Fixed(game, state), seats, {"learner": agent.learner()}, random, prior)
        prior = played.prior
        firsts.append(played.episodes.goal[0])
    assert torch.equal(*firsts)
    view = View(game.observe(state), game.legal(state), torch.zeros(4), game.active(state))
    code = agent.vae.codes(view.observation.flatten(0, 1))[0].view(4, 2, -1)
    expected, _ = agent.predictor.infer(torch.zeros(4, 2, 16), view, code)
    torch.testing.assert_close(firsts[0], expected)


# 9: leaking gradients -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["optimistic", "conservative"])
def test_trap_9_gradients_stay_where_they_belong(rule):
    game = TokenGame(3)
    owners = {
        "vae": {"vae"},
        "subgoal": {
            "predictor.trunk",
            "predictor.mix",
            "predictor.history",
            "predictor.posterior",
            "predictor.decoder",
        },
        "coplayer": {"predictor.coplayer"},
        "policy": {"policy.net"},
        "value": {"policy.net"},
    }
    episodes = play_with(tiny_agent(game), game, ["learner", "random", "random"])
    for name, parts in owners.items():
        agent = tiny_agent(game, selector={"rule": rule, "mixture": 0.5})
        reached = gradients(agent, agent.losses(as_batch(episodes))[name])
        assert reached, name
        strangers = [parameter for parameter in reached if not parameter.startswith(tuple(parts))]
        assert not strangers, f"{name} reaches {strangers}"
        assert all(any(parameter.startswith(part) for parameter in reached) for part in parts)


def test_trap_9_the_selector_does_look_at_the_value_head():
    """Or the test above shows nothing."""
    game = TokenGame(3, ragged=False)
    agent = tiny_agent(game, goal_dim=3)
    with torch.no_grad():
        agent.policy.net.film.weight.mul_(20)
        agent.vae.posterior.weight.mul_(20)
    episodes = play_with(agent, game, ["learner", "random", "random"])
    labels = []
    for rule in ("optimistic", "conservative"):
        other = tiny_agent(game, goal_dim=3, selector={"rule": rule})
        other.load_state_dict(agent.state_dict())
        hindsight, _ = other.objective.label(as_batch(episodes), flatten(episodes, game.max_steps), other.noise)
        labels.append(hindsight.label[:-2, :, 1:])
    assert (labels[0] != labels[1]).any(-1).float().mean() > 0.5


# Goals that nobody reads, models that train on what they should not --------------------------------------------------


def test_shuffled_goals_change_the_policy():
    """The right action is the goal of the second co-player; shuffled goals must make the policy wrong."""
    torch.manual_seed(0)
    module = PolicyModule((4, 3, 3), 3, 4, 4, hidden=32)
    views, time = (torch.rand(256, 4, 3, 3) < 0.3).float(), torch.rand(256)
    which = torch.randint(4, (256, 2))
    goals, target = torch.eye(4)[which], torch.eye(4)[which[:, 1]]
    seat, legal = torch.arange(256) % 3, torch.ones(256, 4, dtype=torch.bool)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    for _ in range(60):
        loss = module.loss(views, time, goals, seat, legal, target, torch.zeros(256))["policy"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss) < 0.1
    with torch.no_grad():
        logits, _ = module(views, time, module.condition(goals[torch.randperm(256)], seat))
    assert float(soft_cross_entropy(logits, target).mean()) > 1.0


def test_offline_batches_train_no_policy():
    game = stag_hunt()
    agent = tiny_agent(game)
    episodes = play_with(agent, game, ["learner", "random"])
    losses = agent.losses(as_batch(episodes, offline=True))
    assert "policy" not in losses
    reached = gradients(agent, sum(losses[name] for name in LEAF_LOSSES if name in losses))
    assert [name for name in reached if name.startswith("policy")], "the value learns from what the scripts earn"
    agent.objective.offline_value = False
    losses = agent.losses(as_batch(episodes, offline=True))
    assert not {"policy", "value"} & set(losses)
    reached = gradients(agent, sum(losses[name] for name in LEAF_LOSSES if name in losses))
    assert not [name for name in reached if name.startswith("policy")]


def test_the_only_learners_own_steps_are_no_co_player_samples():
    game = TokenGame(3, ragged=False)
    agent = tiny_agent(game, "none")
    episodes = play_with(agent, game, ["random", "learner", "random"])
    base = float(agent.losses(as_batch(episodes))["coplayer"])
    action = episodes.action.clone()
    action[..., 1] = (action[..., 1] + 1) % game.num_actions
    assert float(agent.losses(as_batch(episodes._replace(action=action)))["coplayer"]) == base


@pytest.mark.parametrize("online", [False, True])
def test_a_vae_that_is_not_adjusted_online_stays_bit_by_bit(online):
    kept = []

    class Keep(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            kept.append(snapshot(tuple(pl_module.vae.state_dict().values())))

    data = tiny_data(offline_rounds=2)
    agent = tiny_agent(data.game, vae_online=online)
    trainer = Trainer(
        max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, limit_val_batches=0, callbacks=[BufferRefresh(), Keep()],
    )  # fmt: skip
    trainer.fit(agent, data)
    assert not same(kept[0], kept[1]), "offline it is trained"
    assert same(kept[1], kept[3]) != online


def test_goal_model_co_player_model_and_policy_train_on_the_same_episodes():
    """The bug the project grew out of: the goal model was trained on an episode played again just for it."""
    game = stag_hunt()
    agent = tiny_agent(game)
    episodes = play_with(agent, game, ["learner", "nearest_hare"])
    seen = {}
    loss, infer = agent.vae.loss, agent.predictor.infer_episodes
    agent.vae.loss = lambda samples, *rest: seen.update(vae=samples.observation) or loss(samples, *rest)
    agent.predictor.infer_episodes = lambda same, samples, *rest: (
        seen.update(subgoal=samples.observation) or infer(same, samples, *rest)
    )
    agent.losses(as_batch(episodes))
    for observation in seen.values():
        assert torch.equal(observation, episodes.observation[episodes.active].float())
    assert set(seen) == {"vae", "subgoal"}
