"""Silent mistakes of opponent modelling: each of them trains without an error and gives figures that look right."""

from dataclasses import replace

import pytest
import torch
from lightning import Callback, Trainer
from toys import (
    Fixed,
    PlainPolicy,
    TokenGame,
    always,
    as_batch,
    gradients,
    inferred,
    model_spec,
    plain_learner,
    play_with,
    rolled,
    same,
    snapshot,
    spoil,
    stag_hunt,
    tiny_agent,
    tiny_data,
    training_batch,
)

from callbacks import BufferRefresh
from omg_lightning.actors import Scene, arrange
from omg_lightning.actors.simulator import Simulator
from omg_lightning.algorithms.policy import PolicyModule
from omg_lightning.envs import RulesEnv
from omg_lightning.losses import soft_cross_entropy
from omg_lightning.opponents import MixtureConfig, SelectorConfig
from omg_lightning.opponents.selector import candidates, seat_scores
from omg_lightning.rollout import play
from omg_lightning.types import Episodes, View, ego_order

MODELS = ("Direct", "Declared", "Subgoal", "Oracle")
DEVICE = torch.Generator().device  # the CPU, or that of `pytest --device`


def fresh(game, opponent, share=0.5, **settings):
    """An agent whose noise starts at the same place each time."""
    options = {} if opponent == "Direct" else {"mixture": MixtureConfig(start=share)}
    options |= {"selector": SelectorConfig(horizon=3)} if opponent == "Subgoal" else {}
    return tiny_agent(game, opponent, opponent_args={**options, **settings.pop("opponent_args", {})}, **settings)


def trained(losses, agent):
    """Those of the losses that are trained."""
    return {name: losses[name] for name in agent.loss_weights if name in losses}


def all_losses(game, opponent, episodes, offline=False):
    """Losses and gradients of a fresh agent on these episodes."""
    agent = fresh(game, opponent)
    losses = agent.losses(as_batch(episodes, offline))
    return losses, gradients(agent, sum(trained(losses, agent).values()))


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


def spy(module, method, seen):
    """Let `seen` know the arguments of each call of a method."""
    original = getattr(module, method)

    def spied(*arguments, **named):
        seen.append(arguments)
        return original(*arguments, **named)

    setattr(module, method, spied)


# Networks are called in batches ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch", "trees"), [(1, 1), (6, 4)])
def test_the_policy_is_called_once_for_all_environments_seats_and_trees(batch, trees):
    game, sizes = TokenGame(3, ragged=False), []

    class Counting(PlainPolicy):
        def __call__(self, view, time, condition):
            sizes.append(len(view))
            return super().__call__(view, time, condition)

    learner = replace(plain_learner(game, trees=trees, simulations=5), policy=Counting(game.num_actions))
    env = RulesEnv(game)
    seating = arrange([["learner", "learner", "random"]], batch, env, DEVICE)
    play(env, seating, {"learner": learner}, torch.Generator().manual_seed(0))
    assert sizes == [batch * 2 * trees] * (game.max_steps * (1 + 5))


# Padding -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offline", [False, True], ids=["online", "offline"])
@pytest.mark.parametrize(
    ("field", "opponent"),
    [
        (field, opponent)
        for field in Episodes._fields
        for opponent in (*MODELS, "Codebook")
        if field not in ("active", "learner") and (field, opponent) != ("goal", "Direct")  # which has no goals
    ],
)
def test_seats_that_have_left_are_never_read(field, opponent, offline):
    # Also not as an input: not the goals of co-players who have left, nor what they "did" (context of the subgoals).
    game = TokenGame(3)
    lineup = ["random"] * 3 if offline else ["learner", "random", "random"]
    episodes = play_with(tiny_agent(game, opponent), game, lineup, 12)
    assert (episodes.active[-1].any(-1) & ~episodes.active[-1].all(-1)).any()
    pursued = torch.randint(-1, 2, (12, 3), generator=torch.Generator().manual_seed(0))  # scripts that have a goal
    episodes = episodes._replace(true_goal=pursued.expand_as(episodes.true_goal).clone())
    spoiled = spoil(episodes, fields=(field,))
    if field == "reward":  # a seat may go on earning after it has left, but nobody earns after the end
        going = episodes.active.any(-1, keepdim=True)
        spoiled = episodes._replace(reward=torch.where(going, episodes.reward, spoiled.reward))
    if field in ("terminated", "truncated"):
        spoiled = spoiled._replace(**{field: torch.where(episodes.active, getattr(episodes, field), True)})
    assert not same(getattr(spoiled, field), getattr(episodes, field))
    assert_same_training(all_losses(game, opponent, episodes, offline), all_losses(game, opponent, spoiled, offline))


@pytest.mark.parametrize("offline", [False, True], ids=["online", "offline"])
@pytest.mark.parametrize("opponent", [*MODELS, "Codebook"])
def test_longer_padding_changes_nothing(opponent, offline):
    game = TokenGame(3)
    lineup = ["random"] * 3 if offline else ["learner", "random", "random"]
    episodes = play_with(tiny_agent(game, opponent), game, lineup, 12)
    longer = episodes.map(lambda field: torch.cat([field, torch.zeros_like(field[:3])]))
    assert_same_training(*(all_losses(game, opponent, each, offline) for each in (episodes, longer)))


def test_every_sample_is_a_step_of_a_seat_that_is_active():
    game = TokenGame(3)
    agent = tiny_agent(game, "Subgoal")
    episodes = play_with(agent, game, ["learner", "random", "random"], 12)
    vae, coplayer, policy = [], [], []
    spy(agent.opponent.vae, "loss", vae)
    spy(agent.opponent.predictor, "loss", coplayer)
    spy(agent.algorithm.policy, "condition", policy)
    agent.losses(as_batch(episodes))
    active = episodes.active.sum((0, 1)).tolist()
    assert len(vae[0][0].time) == sum(active)
    assert len(coplayer[0][0]) == active[1] + active[2]
    assert len(policy[-1][0]) == active[0]  # the calls before it score subgoals


def test_the_policy_has_the_same_inputs_in_play_and_training_after_a_seat_has_left():
    # The goals of seats that have left are 0 in both.
    game = TokenGame(2, ragged=False)
    agent = fresh(game, "Subgoal", share=0.0)
    state = game.reset(4, torch.Generator().manual_seed(0))
    state = state._replace(leaves=torch.tensor([[6, 2]] * 4))
    env = Fixed(game, state)
    seating = arrange([["learner", "random"]], 4, env, DEVICE)
    asked, taught = [], []
    spy(agent.algorithm.policy, "condition", asked)
    episodes = play(env, seating, {"learner": agent.actor()}, torch.Generator().manual_seed(0)).episodes
    assert episodes.active[:, 0].tolist() == [[True, True]] * 2 + [[True, False]] * 4
    assert len(asked) == 6
    spy(agent.algorithm.policy, "condition", taught)
    agent.losses(as_batch(episodes))
    goals = taught[-1][0].view(6, 4, 1, -1)
    for t in range(2, 6):
        assert not asked[t][0].any()
        assert torch.equal(asked[t][0], goals[t])


# Search changes nothing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opponent", MODELS)
def test_planning_is_a_pure_function(opponent):
    game = stag_hunt(3)
    agent = tiny_agent(game, opponent, search_args={"trees": 2, "simulations": 6})
    actor, env = agent.actor(), RulesEnv(game)
    step = env.reset(4, torch.Generator().manual_seed(0))
    everybody = torch.ones(4, 3, dtype=torch.bool)
    prior = actor.prior(4)
    memory = actor.start(env, everybody, prior, torch.Generator())
    memory = actor.with_true_goal(memory, prior, torch.tensor([[0, 1, -1]] * 4))
    view = View(step.observation.float(), step.legal, torch.zeros(4), step.active, step.reward)
    inputs = (env.state, prior, memory.mine, memory.opponent, tuple(view), tuple(agent.state_dict().values()))
    before = snapshot(inputs)
    with torch.no_grad():
        one, two = (actor.act(memory, Scene(env, view, torch.Generator().manual_seed(1), False)) for _ in range(2))
    assert torch.equal(one.mine, everybody)
    assert same((one.action, one.goal, dict(one.extras)), (two.action, two.goal, dict(two.extras)))
    assert same((env.state, *inputs[1:]), before)


# Seats are equal ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opponent", MODELS)
def test_permuting_seats_permutes_inference_labels_and_scores(opponent):
    game = TokenGame(3)
    agent = fresh(game, opponent)
    episodes = play_with(agent, game, ["learner", "random", "learner"], 8)
    episodes = episodes if opponent == "Subgoal" else certain(episodes)
    batches = [training_batch(agent, each) for each in (episodes, rolled(episodes))]
    one, two = (batch.targets for batch in batches)
    assert torch.equal(two.known, one.known.roll(1, 2))
    if opponent == "Subgoal":  # the draw's noise follows the samples, so compare what it is drawn from
        means = [batch.samples.spread(inferred(agent, batch.episodes).mean) for batch in batches]
        torch.testing.assert_close(means[1], means[0].roll(1, 2))
        codes = torch.randn(*episodes.active.shape, 3, generator=torch.Generator().manual_seed(0))
        scores = [
            seat_scores(batch, code, mean, candidates(batch.episodes.active, 3), agent.algorithm.values())
            for batch, code, mean in zip(
                batches, (codes, codes.roll(1, 2)), (means[0], means[0].roll(1, 2)), strict=True
            )
        ]
        torch.testing.assert_close(scores[1], scores[0].roll(1, 3))
        assert scores[0].any()
    else:
        torch.testing.assert_close(two.inferred, one.inferred.roll(1, 2))
        torch.testing.assert_close(two.label, one.label.roll(1, 2))


@pytest.mark.parametrize("opponent", ["Direct", "Declared", "Oracle"])
def test_permuting_seats_changes_no_loss(opponent):
    game = TokenGame(3)
    agent = fresh(game, opponent, share=0.0)
    episodes = certain(play_with(agent, game, ["learner", "random", "random"], 8))
    one, two = (agent.losses(as_batch(each)) for each in (episodes, rolled(episodes)))
    assert_same_training((one,), (two,))


def test_permuting_seats_permutes_play():
    """Nothing here is left to chance, and all roles are alike."""
    game = TokenGame(3)
    state = game.reset(5, torch.Generator().manual_seed(0))
    agent = tiny_agent(game, "Direct", search_args={"simulations": 8})
    with torch.no_grad():
        agent.algorithm.policy.net.encoder.dense.weight.mul_(5)  # a prior that depends on the view
        agent.algorithm.policy.net.out.weight.mul_(5)
    agent.opponent.predict = always(3, game.num_actions)
    seating = arrange([["learner"] * 3], 5, RulesEnv(game), DEVICE)
    turned = state._replace(last=state.last.roll(1, 1), leaves=state.leaves.roll(1, 1))
    one, two = (
        play(
            Fixed(game, start), seating, {"learner": agent.actor()}, torch.Generator().manual_seed(0), greedy=True
        ).episodes
        for start in (state, turned)
    )
    for name, first in rolled(one).tensors().items():
        torch.testing.assert_close(two.tensors()[name], first, msg=lambda text, name=name: f"{name}: {text}")
    assert len(one.action[one.active].unique()) > 1


@pytest.mark.parametrize("seat", [0, 1, 2])
def test_every_seats_data_train_the_co_player_policies(seat):
    game = TokenGame(3, ragged=False)
    agent = tiny_agent(game, "Direct")
    episodes = play_with(agent, game, ["random"] * 3)
    base = agent.losses(as_batch(episodes, offline=True))["coplayer"].item()
    action = episodes.action.clone()
    action[..., seat] = (action[..., seat] + 1) % game.num_actions
    assert agent.losses(as_batch(episodes._replace(action=action), offline=True))["coplayer"].item() != base


@pytest.mark.parametrize("seat", [0, 2])
def test_several_learner_seats_all_train_the_policy(seat):
    game = stag_hunt(3)
    agent = tiny_agent(game, "Declared")
    episodes = play_with(agent, game, ["learner", "nearest_hare", "learner"])
    assert torch.equal(episodes.learner, episodes.active & torch.tensor([True, False, True]))
    base = agent.losses(as_batch(episodes))
    reward, root = episodes.reward.clone(), episodes.extras["root_policy"].clone()
    reward[..., seat] += 1
    root[..., seat, :] = torch.eye(game.num_actions)[game.noop]
    other = agent.losses(as_batch(episodes._replace(reward=reward, extras={**episodes.extras, "root_policy": root})))
    assert other["value"].item() != base["value"].item()
    assert other["policy"].item() != base["policy"].item()


def test_the_policy_gets_each_co_players_own_goal_in_its_place():
    game = TokenGame(3)
    agent = fresh(game, "Declared", share=0.0)
    episodes = play_with(agent, game, ["learner", "random", "learner"])
    size = episodes.goal.shape[-1]
    numbers = torch.eye(size)[torch.arange(episodes.active.numel()).view_as(episodes.active) % size]
    conditions, views = [], []
    spy(agent.algorithm.policy, "condition", conditions)
    spy(agent.algorithm.policy, "forward", views)
    batch = replace(training_batch(agent, episodes._replace(goal=numbers)), prepare=torch.clone)
    agent.algorithm.losses(batch)
    (goals, seat), (view, time, _) = conditions[-1], views[-1]
    where = episodes.learner.nonzero().tolist()
    assert len(where) == len(view)
    for m, (t, b, ego) in enumerate(where):
        assert torch.equal(view[m], episodes.observation[t, b, ego].float())
        assert float(time[m]) == pytest.approx(t / game.max_steps)
        assert int(seat[m]) == ego
        for k in (1, 2):
            other = (ego + k) % 3
            if episodes.active[t, b, other]:
                assert torch.equal(goals[m, k - 1], numbers[t, b, other])


# Ego order and seat order ------------------------------------------------------------------------------------------


def test_the_search_uses_the_learned_policy_of_each_player():
    """Co-players count: each says what follows on its own last word. Learned from episodes, used in a tree."""
    game = TokenGame(3, ragged=False)
    agent = tiny_agent(game, "Direct", hidden=32, learning_rate=1e-2)
    episodes = play_with(agent, game, ["learner", "toys.Counter", "toys.Counter"], 32)
    optimizer = agent.optimizer()
    for _ in range(60):
        loss = agent.losses(as_batch(episodes))["coplayer"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    state = game.reset(12, torch.Generator().manual_seed(9))
    ego = torch.arange(12) % 3
    networks = agent.actor().networks
    simulator = Simulator(game, networks, ego, torch.zeros(12, 3, 0), torch.Generator().manual_seed(0))
    with torch.no_grad():
        said = simulator.root(state).state.coplayers
    expected = (ego_order(state.last, ego)[:, 1:] + 1) % game.num_actions
    assert (said == expected).float().mean() > 0.9


# Context of an earlier episode -------------------------------------------------------------------------------------


def test_every_episode_starts_with_an_empty_context():
    game = TokenGame(2, ragged=False)
    agent = tiny_agent(game, "Subgoal")
    state = game.reset(4, torch.Generator().manual_seed(0))
    env = Fixed(game, state)
    seating = arrange([["learner", "random"]], 4, env, DEVICE)
    random, prior = torch.Generator().manual_seed(0), None
    firsts = []
    for _ in range(2):
        played = play(env, seating, {"learner": agent.actor()}, random, prior)
        prior = played.prior
        firsts.append(played.episodes.goal[0])
    assert torch.equal(*firsts)
    active = game.active(state)
    view = View(game.observe(state), game.legal(state), torch.zeros(4), active, active * 0.0)
    code = agent.opponent.codes(view.observation.flatten(0, 1)).view(4, 2, -1)
    expected, _ = agent.opponent.inference.infer(torch.zeros(4, 2, 16), view, code)
    torch.testing.assert_close(firsts[0], expected)


# Gradients that leak -----------------------------------------------------------------------------------------------

OWNERS = {
    "vae": {"opponent.vae"},
    "subgoal": {f"opponent.inference.{part}" for part in ("encoder", "mix", "history", "posterior", "decoder")},
    "coplayer": {"opponent.predictor"},
    "policy": {"algorithm.policy"},
    "value": {"algorithm.policy"},
}


@pytest.mark.parametrize("rule", ["optimistic", "conservative"])
@pytest.mark.parametrize("name", OWNERS)
def test_each_loss_reaches_the_parameters_of_its_own_part_alone(name, rule):
    game, parts = TokenGame(3), OWNERS[name]
    episodes = play_with(tiny_agent(game), game, ["learner", "random", "random"])
    agent = tiny_agent(game, opponent_args={"selector": SelectorConfig(rule)})
    reached = gradients(agent, agent.losses(as_batch(episodes))[name])
    strangers = [parameter for parameter in reached if not parameter.startswith(tuple(parts))]
    assert not strangers, f"{name} reaches {strangers}"
    assert all(any(parameter.startswith(part) for parameter in reached) for part in parts)


def test_the_selector_uses_the_value_head():
    """Or the test above shows nothing."""
    game = TokenGame(3, ragged=False)
    agent = tiny_agent(game)
    with torch.no_grad():
        agent.algorithm.policy.net.film.weight.mul_(20)
        agent.opponent.vae.posterior.weight.mul_(20)
        agent.opponent.after_step(offline=True)
    episodes = play_with(agent, game, ["learner", "random", "random"])
    labels = []
    for rule in ("optimistic", "conservative"):
        other = tiny_agent(game, opponent_args={"selector": SelectorConfig(rule)})
        other.load_state_dict(agent.state_dict())
        labels.append(training_batch(other, episodes).targets.label[:-2, :, 1:])
    assert (labels[0] != labels[1]).any(-1).float().mean() > 0.5


# Goals that nobody reads, models that train on what they should not ------------------------------------------------


def test_shuffled_goals_change_the_policy():
    """The right action is the goal of the second co-player; shuffled goals must make the policy wrong."""
    torch.manual_seed(0)
    game = TokenGame(3, num_actions=4)
    module = PolicyModule(model_spec(game, hidden=32), 4)
    views, time = (torch.rand(256, *game.observation_shape) < 0.3).float(), torch.rand(256)
    which = torch.randint(4, (256, 2))
    goals, target, seat = torch.eye(4)[which], torch.eye(4)[which[:, 1]], torch.arange(256) % 3
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)

    def loss(goals):
        return soft_cross_entropy(module(views, time, module.condition(goals, seat))[0], target).mean()

    for _ in range(60):
        optimizer.zero_grad()
        found = loss(goals)
        found.backward()
        optimizer.step()
    assert found.item() < 0.1
    assert loss(goals[torch.randperm(256)]).item() > 1.0


@pytest.mark.parametrize("offline_value", [True, False])
def test_offline_batches_train_no_policy(offline_value):
    game = stag_hunt()
    agent = tiny_agent(game, search_args={"offline_value": offline_value})
    losses = agent.losses(as_batch(play_with(agent, game, ["learner", "random"]), offline=True))
    assert "policy" not in losses
    assert ("value" in losses) == offline_value
    reached = gradients(agent, sum(trained(losses, agent).values()))
    learns = [name for name in reached if name.startswith("algorithm")]
    assert bool(learns) == offline_value, "the value alone learns, from what the scripts earn"


def test_the_only_learners_own_steps_are_no_co_player_samples():
    game = TokenGame(3, ragged=False)
    agent = tiny_agent(game, "Direct")
    episodes = play_with(agent, game, ["random", "learner", "random"])
    base = agent.losses(as_batch(episodes))["coplayer"].item()
    action = episodes.action.clone()
    action[..., 1] = (action[..., 1] + 1) % game.num_actions
    assert agent.losses(as_batch(episodes._replace(action=action)))["coplayer"].item() == base


@pytest.mark.parametrize("online", [False, True])
def test_a_vae_that_is_frozen_online_stays_bit_by_bit_in_the_online_phase(online, tmp_path):
    kept = []

    class Keep(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            kept.append(snapshot(tuple(pl_module.opponent.vae.state_dict().values())))

    data = tiny_data(offline={"rounds": 2})
    agent = tiny_agent(data.env, opponent_args={"vae_online": online})
    trainer = Trainer(
        max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, limit_val_batches=0, default_root_dir=tmp_path,
        callbacks=[BufferRefresh(), Keep()],
    )  # fmt: skip
    trainer.fit(agent, data)
    assert not same(kept[0], kept[1]), "offline it is trained"
    assert same(kept[1], kept[3]) != online


def test_goal_model_co_player_policies_and_policy_are_trained_on_the_same_episodes():
    """The bug the project grew out of: the goal model was trained on an episode played again just for it."""
    game = stag_hunt()
    agent = tiny_agent(game)
    episodes = play_with(agent, game, ["learner", "nearest_hare"])
    vae, inference, coplayer, policy = [], [], [], []
    spy(agent.opponent.vae, "loss", vae)
    spy(agent.opponent.inference, "infer_episodes", inference)
    spy(agent.opponent.predictor, "loss", coplayer)
    spy(agent.algorithm.policy, "forward", policy)
    batch = replace(training_batch(agent, episodes), prepare=torch.clone)
    agent.opponent.losses(batch)
    agent.algorithm.losses(batch)
    active = episodes.observation[episodes.active].float()
    assert torch.equal(vae[0][0].observation, active)
    assert inference[0][0] is batch
    assert torch.equal(batch.samples.observation, active)
    assert torch.equal(coplayer[0][0], episodes.observation[..., 1, :, :, :][episodes.active[..., 1]].float())
    assert torch.equal(policy[-1][0], episodes.observation[..., 0, :, :, :][episodes.active[..., 0]].float())
