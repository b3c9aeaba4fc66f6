import math

import pytest
import torch
from torch import Tensor
from toys import (
    Fixed,
    TokenGame,
    always,
    as_batch,
    plain_learner,
    play_with,
    repeat_last,
    same,
    snapshot,
    stag_hunt,
    tiny_agent,
)

from omg_lightning.games.grid.stag_hunt import STAY
from omg_lightning.opponents import NoGoals
from omg_lightning.opponents.events import last_known
from omg_lightning.rollout import arrange, decision, plan, play, root_policy
from omg_lightning.types import NO_GOAL, ConfigError, PlannerConfig, take

CPU = torch.device("cpu")


def rollout(game, lineups, batch=6, seed=0, greedy=False, prior=None, **learners):
    seats = arrange(lineups, batch, game, CPU)
    return play(game, seats, learners, torch.Generator().manual_seed(seed), prior, greedy)


@pytest.fixture(scope="module", params=["stag_hunt", "tokens"])
def world(request):
    """A game, the state it started in, and what was played: learners in some seats, scripts in others."""
    game = stag_hunt(3, num_hares=6) if request.param == "stag_hunt" else TokenGame(3)
    script = "nearest_hare" if request.param == "stag_hunt" else "random"
    lineups = [["learner", "random", "learner"], ["random", "learner", "random"], [script] * 3]
    played = rollout(game, lineups, 12, 3, learner=plain_learner(game))
    start = game.reset(12, torch.Generator().manual_seed(3))  # the first thing a rollout draws
    return game, start, played


def test_episodes_follow_the_rules_step_by_step(world):
    game, state, played = world
    episodes = played.episodes
    left_early = False
    for t in range(len(episodes.active)):
        active = game.active(state)
        live = active.any(-1)
        assert torch.equal(episodes.active[t], active)
        assert torch.equal(episodes.observation[t, live].float(), game.observe(state)[live])
        assert torch.equal(episodes.legal[t, live], game.legal(state)[live])
        chosen = episodes.legal[t].gather(-1, episodes.action[t][..., None])[..., 0]
        assert chosen[active].all(), "what is recorded is what was really played"
        assert torch.equal(episodes.realised[t, live], game.realised(state, episodes.action[t])[live])
        state, rewards = game.step(state, episodes.action[t])
        assert torch.equal(episodes.reward[t, live], rewards[live])
        left_early |= bool((live[:, None] & ~active).any())
    assert not game.active(state).any(), "whole episodes"
    assert left_early, "or this test has seen no departed player"


def test_padding_is_empty(world):
    _, _, played = world
    episodes = played.episodes
    over = ~episodes.active.any(-1)
    assert over.any()
    assert not episodes.reward[over].any()
    assert (episodes.realised[over] == NO_GOAL).all()
    assert not (episodes.planned & ~episodes.active).any()


def test_returns_and_counts(world):
    _, _, played = world
    episodes = played.episodes
    steps = len(episodes.active)
    slow = [sum(0.95**k * episodes.reward[t + k] for k in range(steps - t)) for t in range(steps)]
    torch.testing.assert_close(episodes.value, torch.stack(slow))
    assert played.env_steps == int(episodes.active.any(-1).sum())
    assert episodes.active[-1].any()


def test_every_step_of_every_learner_seat_is_planned_and_no_other(world):
    _, _, played = world
    episodes = played.episodes
    held = torch.tensor([[True, False, True], [False, True, False], [False] * 3]).repeat(4, 1)
    assert torch.equal(episodes.planned, episodes.active & held)
    policy = episodes.policy
    torch.testing.assert_close(policy.sum(-1), episodes.planned.float())
    assert (policy >= 0).all()
    assert not policy[~episodes.legal].any()
    assert (policy[episodes.planned].gather(-1, episodes.action[episodes.planned][:, None]) > 0).all()


def test_the_same_seed_gives_the_same_episodes():
    game = stag_hunt()
    agent = tiny_agent(game, "declared", trees=2)
    one, two, other = (play_with(agent, game, ["learner", "random"], seed=s) for s in (1, 1, 2))
    assert same(one, two)
    assert not same(one.observation[:1], other.observation[:1])


class Keeper:
    """A player that changes what it keeps in place, in every call and over episodes."""

    kept: Tensor | None = None

    def reset(self, batch_size, seat, game, generator):
        self.kept = torch.zeros(1) if self.kept is None else self.kept.add_(1)

    def act(self, observation, legal):
        self.kept.add_(1)
        return torch.zeros(len(legal), dtype=torch.int64)


@pytest.mark.parametrize("goals", ["subgoal", "codebook"])
def test_all_are_asked_in_inference_mode_and_what_was_played_can_be_learned_from(goals):
    game, agent = stag_hunt(3), tiny_agent(stag_hunt(3), goals=goals)
    seats = arrange([["learner", "random", "random"]], 4, game, CPU)
    players = [Keeper() for _ in seats.seated]
    seats = seats._replace(
        seated=tuple(each._replace(player=player) for each, player in zip(seats.seated, players, strict=True))
    )
    prior = None
    for seed in range(2):
        learners, chance = {"learner": agent.learner()}, torch.Generator().manual_seed(seed)
        played = play(game, seats, learners, chance, prior)
        assert all(player.kept.is_inference() for player in players)
        prior = played.prior
        assert not any(kept.is_inference() for kept in (*played.episodes, *prior.values()))
        agent.weigh(agent.losses(as_batch(played.episodes))).backward()


def test_greedy_play_takes_the_best_action_and_repeats_itself():
    game = TokenGame(2)
    learner = plain_learner(game, simulations=8)
    one, two = (rollout(game, [["learner", "learner"]], greedy=True, learner=learner) for _ in range(2))
    assert same(one.episodes, two.episodes)
    planned = one.episodes.planned
    best = one.episodes.policy[planned].max(-1).values
    taken = one.episodes.policy[planned].gather(-1, one.episodes.action[planned][:, None])[:, 0]
    torch.testing.assert_close(taken, best)


def test_environments_do_not_change_each_other_and_may_end_at_any_time():
    """Nothing is left to chance here, so a row alone must play as it plays beside rows that end early."""
    game = TokenGame(3, max_steps=5)
    state = game.reset(5, torch.Generator().manual_seed(0))
    state = state._replace(leaves=torch.tensor([[1, 1, 1], [5, 2, 4], [2, 2, 1], [5, 5, 5], [3, 1, 2]]))
    learner = plain_learner(game, always(2, game.num_actions), simulations=6)
    together = rollout(Fixed(game, state), [["learner"] * 3], 5, greedy=True, learner=learner).episodes
    for row in range(5):
        index = torch.tensor([row])
        alone = rollout(Fixed(game, take(state, index)), [["learner"] * 3], 1, 9, greedy=True, learner=learner).episodes
        steps = len(alone.active)
        assert steps == int(together.active[:, row].any(-1).sum())
        for name in ("observation", "action", "reward", "active", "planned", "policy", "realised", "value"):
            found, expected = getattr(together, name)[:steps, row], getattr(alone, name)[:, 0]
            torch.testing.assert_close(found, expected, msg=f"{name} of row {row}")


class Diary(NoGoals):
    """A source that remembers which environment it is in and all that it was shown."""

    size = 1

    def __init__(self):
        self.shown = []

    def prior(self, batch, seats, device):
        return torch.arange(batch)[:, None, None].expand(batch, seats, 1).float()

    def start(self, prior, truth):
        return prior

    def infer(self, memory, view):
        self.shown.append((memory[:, 0, 0].long(), view))
        return super().infer(memory, view)

    def update(self, memory, view, actions):
        assert actions.shape == memory.shape[:2]
        self.shown[-1] += (actions,)
        return memory + 0

    def realised(self, episodes):
        return last_known(episodes.realised)

    def carry(self, prior, realised):
        self.carried = realised
        return prior + 100


def test_memory_follows_its_environment_when_others_end():
    game = TokenGame(2)
    source = Diary()
    played = rollout(game, [["learner", "random"]], 8, learner=plain_learner(game, source=source))
    episodes = played.episodes
    for t, (rows, view, actions) in enumerate(source.shown):
        assert rows.tolist() == episodes.active[t].any(-1).nonzero()[:, 0].tolist()
        assert torch.equal(view.observation, episodes.observation[t, rows].float())
        assert torch.equal(view.active, episodes.active[t, rows])
        torch.testing.assert_close(view.time, torch.full((len(rows),), t / game.max_steps))
        assert torch.equal(actions, episodes.action[t, rows]), "the source sees what was really played"
        there = view.active[:, 0]
        assert torch.equal(episodes.goal[t, rows, 0, 0][there], rows[there].float())
    assert len({len(rows) for rows, *_ in source.shown}) > 1
    assert played.prior["learner"][:, 0, 0].tolist() == [100.0 + b for b in range(8)]
    for b in range(8):
        for seat in range(2):
            done = [int(g) for g in episodes.realised[:, b, seat] if g != NO_GOAL]
            assert int(source.carried[b, seat]) == (done[-1] if done else NO_GOAL)


def test_the_prior_of_an_earlier_rollout_is_where_the_next_starts():
    game = TokenGame(2)
    source = Diary()
    learner = plain_learner(game, source=source)
    first = rollout(game, [["learner", "random"]], 4, learner=learner)
    before = snapshot(first.prior["learner"])
    second = rollout(game, [["learner", "random"]], 4, prior=first.prior, learner=learner)
    assert second.episodes.goal[0, :, 0, 0].tolist() == [100, 101, 102, 103]
    assert torch.equal(first.prior["learner"], before)


def test_a_learner_that_only_watches_records_goals_and_no_targets():
    game = stag_hunt()
    agent = tiny_agent(game, "declared")
    episodes = play_with(agent, game, ["nearest_stag", "nearest_hare"])
    assert not episodes.planned.any()
    torch.testing.assert_close(episodes.goal[0].sum(-1), torch.ones(6, 2))
    assert episodes.truth[:, :, 0].eq(0).all()
    assert episodes.truth[:, :, 1].eq(1).all()


def test_no_learner_at_all():
    game = stag_hunt()
    played = rollout(game, [["random", "nearest_hare"]])
    assert played.episodes.goal.shape[-1] == 0
    assert played.prior == {}
    torch.testing.assert_close(played.episodes.value[0], played.episodes.reward.sum(0))


def test_a_checkpoint_acts_but_its_searches_are_no_targets():
    game = TokenGame(2, ragged=False)
    other = plain_learner(game, always(2, game.num_actions))
    learners = {"learner": plain_learner(game), "checkpoint:a": other}
    episodes = rollout(game, [["learner", "checkpoint:a"]], **learners).episodes
    assert episodes.planned[..., 0].all()
    assert not episodes.planned[..., 1].any()
    assert not episodes.policy[..., 1, :].any()
    assert (episodes.action[..., 1] != game.noop).any()  # it does play


class Choice:
    """A player that answers whatever it was told to."""

    def __init__(self, answer):
        self.answer = answer

    def reset(self, batch_size, seat, game, generator):
        pass

    def act(self, observation, legal):
        return self.answer(len(legal))


BAD_ANSWERS = {
    "too few": lambda rows: torch.zeros(rows - 1, dtype=torch.int64),
    "a column": lambda rows: torch.zeros(rows, 1, dtype=torch.int64),
    "floats": lambda rows: torch.zeros(rows),
    "truth values": lambda rows: torch.zeros(rows, dtype=torch.bool),
    "complex numbers": lambda rows: torch.zeros(rows, dtype=torch.complex64),
    "a list": lambda rows: [0] * rows,
    "nothing": lambda rows: None,
    "too high": lambda rows: torch.full((rows,), 7),
    "negative": lambda rows: torch.full((rows,), -1),
}


def seated(game, answer, batch=6):
    seats = arrange([["random", "random"]], batch, game, CPU)
    first, second = seats.seated
    return seats._replace(seated=(first._replace(player=Choice(answer)), second))


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_a_player_that_answers_nonsense_is_named_in_one_line(name):
    game = stag_hunt()
    with pytest.raises(ConfigError, match="Choice") as caught:
        play(game, seated(game, BAD_ANSWERS[name]), {}, torch.Generator().manual_seed(0))
    assert "\n" not in str(caught.value)


def test_small_integers_are_fine_and_an_illegal_choice_counts_as_staying():
    game = stag_hunt()
    state = game.place(6, hunters=[(0, 0), (3, 3)], stags=[(1, 1)], hares=[(2, 2), (3, 0)])
    seats = seated(game, lambda rows: torch.zeros(rows, dtype=torch.uint8))  # up, out of the grid
    episodes = play(Fixed(game, state), seats, {}, torch.Generator().manual_seed(0)).episodes
    assert (episodes.action[..., 0] == STAY).all()
    assert (episodes.observation[:, :, 0, 0, 0, 0] == 1).all()


def test_a_player_may_write_into_what_it_is_shown():
    class Vandal(Choice):
        def act(self, observation, legal):
            observation.zero_()
            legal.zero_()
            return torch.full((len(legal),), STAY)

    game = stag_hunt()
    seats = arrange([["random", "random"]], 6, game, CPU)
    seats = seats._replace(seated=(seats.seated[0]._replace(player=Vandal(None)), seats.seated[1]))
    episodes = play(game, seats, {}, torch.Generator().manual_seed(0)).episodes
    assert (episodes.observation[episodes.active][:, 0].flatten(1).sum(-1) == 1).all()
    assert episodes.legal[episodes.active].any(-1).all()


def test_play_keeps_its_inputs():
    game = stag_hunt()
    agent = tiny_agent(game, "declared")
    seats = arrange([["learner", "random"]], 4, game, CPU)
    prior = {"learner": torch.full((4, 2, 2), 0.5)}
    before = snapshot((seats.who, prior["learner"])), snapshot(tuple(agent.state_dict().values()))
    play(game, seats, {"learner": agent.learner()}, torch.Generator().manual_seed(0), prior)
    assert same((seats.who, prior["learner"]), before[0])
    assert same(tuple(agent.state_dict().values()), before[1])


def planned(monkeypatch, **planner):
    """What four decisions with three trees each come to, and what their searches found `[4, 3, A]`."""
    game = TokenGame(2, ragged=False)
    learner = plain_learner(game, source=None, trees=3, **planner)
    found, search = [], decision.search

    def spy(*args):
        found.append(search(*args))
        return found[-1]

    monkeypatch.setattr(decision, "search", spy)
    state = game.reset(4, torch.Generator().manual_seed(0))
    estimate = learner.source.infer(torch.zeros(4, 2, 0), None)
    rows, ego = torch.tensor([0, 1, 1, 3]), torch.tensor([1, 0, 1, 0])
    made = plan(game, learner, state, estimate, rows, ego, torch.Generator().manual_seed(0), True)
    return made, found[0].q.view(4, 3, -1), found[0].policy.view(4, 3, -1)


def test_a_plan_averages_root_values_over_trees_and_is_a_softmax_of_them(monkeypatch):
    (policy, action, value), q, _ = planned(monkeypatch, beta=0.5)
    for m in range(4):
        mean = sum(q[m, k] for k in range(3)) / 3
        torch.testing.assert_close(policy[m], torch.softmax(0.5 * mean, -1))
        assert int(action[m]) == int(mean.argmax())
        assert float(value[m]) == pytest.approx(float(policy[m] @ mean), rel=1e-5)


@pytest.mark.parametrize("rule", ["puct", "gumbel"])
def test_a_plan_can_be_what_the_search_answers(monkeypatch, rule):
    (policy, action, value), q, answers = planned(monkeypatch, policy="search", rule=rule, c_puct=50.0)
    for m in range(4):
        mean = sum(answers[m, k] for k in range(3)) / 3
        torch.testing.assert_close(policy[m], mean)
        assert int(action[m]) == int(mean.argmax())
        assert float(value[m]) == pytest.approx(float(mean @ q[m].mean(0)), rel=1e-5)
    assert not torch.allclose(policy, torch.softmax(2 * q.mean(1), -1), atol=1e-3), "not the softmax of values"


def test_every_tree_has_goals_of_its_own_and_keeps_them():
    game = TokenGame(3, ragged=False)
    seen = []

    def coplayer(view, time, condition):
        seen.append(condition.view(-1, 2))  # [decisions * trees, P-1]
        return repeat_last(view, time, condition)

    learner = plain_learner(game, coplayer, trees=4)
    numbers = torch.arange(2 * 4 * 3).view(2, 4, 3, 1).float()  # environment, tree, seat
    estimate = learner.source.infer(torch.zeros(2, 3, 0), None)._replace(draw=lambda trees, generator: numbers)
    rows, ego = torch.tensor([0, 1]), torch.tensor([1, 0])
    state = game.reset(2, torch.Generator().manual_seed(0))
    plan(game, learner, state, estimate, rows, ego, torch.Generator().manual_seed(0), False)
    expected = torch.cat([numbers[0, :, [2, 0], 0], numbers[1, :, [1, 2], 0]])
    assert all(torch.equal(condition, expected) for condition in seen)
    assert len(seen) == 1 + learner.simulations


def test_a_temperature_sharpens_the_policy_by_hand():
    policy = torch.tensor([[0.6, 0.3, 0.0, 0.1]])
    assert decision.sharpened(policy, 1.0) is policy
    torch.testing.assert_close(decision.sharpened(policy, 0.5), torch.tensor([[36 / 46, 9 / 46, 0, 1 / 46]]))
    torch.testing.assert_close(decision.sharpened(policy, 1e-6), torch.tensor([[1.0, 0, 0, 0]]))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_a_temperature_that_is_none_is_refused(temperature):
    with pytest.raises(ConfigError, match="above 0 and finite"):
        PlannerConfig(policy="search", temperature=temperature)


def test_a_temperature_that_nothing_would_read_is_refused():
    with pytest.raises(ConfigError, match=r"set planner\.policy to search"):
        PlannerConfig(temperature=0.5)


def test_root_policy_by_hand():
    q, legal = torch.tensor([[1.0, 2.0, 9.0], [0.1, 0.3, 0.2]]), torch.tensor([[True, True, False], [True] * 3])
    found = root_policy(q, legal, PlannerConfig(beta=2.0))
    assert found[0].tolist() == pytest.approx([1 / (1 + math.e**2), math.e**2 / (1 + math.e**2), 0.0])
    # Rescaled, both rows run from 0 to 1: the smaller stakes of the second do not matter.
    found = root_policy(q, legal, PlannerConfig(beta=2.0, rescale=True))
    assert found[0].tolist() == pytest.approx([1 / (1 + math.e**2), math.e**2 / (1 + math.e**2), 0.0])
    total = 1 + math.e**2 + math.e
    assert found[1].tolist() == pytest.approx([1 / total, math.e**2 / total, math.e / total])


def test_equal_values_stay_equal_when_rescaled():
    found = root_policy(torch.full((1, 4), 0.3), torch.tensor([[True, True, False, True]]), PlannerConfig(rescale=True))
    assert found[0].tolist() == pytest.approx([1 / 3, 1 / 3, 0.0, 1 / 3])
