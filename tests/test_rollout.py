import pytest
import torch
from number_games import Countdown, NumberGame
from parallel_toys import Masked
from torch import Tensor
from toys import (
    Fixed,
    TokenGame,
    always,
    as_batch,
    model_spec,
    plain_learner,
    play_with,
    same,
    snapshot,
    stag_hunt,
    tiny_agent,
    training_batch,
)

from omg_lightning.actors import Actor, Choice, PlannerConfig, PlayerActor, arrange
from omg_lightning.algorithms import PPO
from omg_lightning.envs import PettingZooEnv, as_env
from omg_lightning.games import Snowdrift
from omg_lightning.games.grid.stag_hunt import HUNT_HARE, STAY
from omg_lightning.opponents import Direct
from omg_lightning.rollout import play
from omg_lightning.types import NO_GOAL, ConfigError, Record, take

DEVICE = torch.Generator().device  # the CPU, or that of `pytest --device`


def rollout(game, lineups, batch=6, seed=0, greedy=False, prior=None, measure=False, **learners):
    """Episodes of a `Game` or a `VectorEnv`."""
    env = as_env(game)
    seating = arrange(lineups, batch, env, DEVICE)
    return play(env, seating, learners, torch.Generator().manual_seed(seed), prior, greedy, measure)


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
        assert torch.equal(episodes.achieved_goal[t, live], game.realised(state, episodes.action[t])[live])
        state, rewards = game.step(state, episodes.action[t])
        assert torch.equal(episodes.reward[t, live], rewards[live])
        left_early |= bool((live[:, None] & ~active).any())
    assert not game.active(state).any(), "whole episodes"
    assert left_early, "or this test has seen no departed player"


def test_padding_is_empty(world):
    game, _, played = world
    episodes = played.episodes
    over = ~episodes.active.any(-1)
    assert over.any()
    assert not episodes.reward[over].any()
    for goals in (episodes.achieved_goal, episodes.true_goal):
        assert (goals[over] == NO_GOAL).all()
    assert episodes.legal[over][..., game.noop].all()
    for field in (episodes.learner, episodes.terminated, episodes.truncated):
        assert not (field & ~episodes.active).any()
    for field in (episodes.observation, episodes.goal, *episodes.extras.values()):
        assert not field[over].any()


def test_environment_steps_are_counted_and_episodes_cut_to_the_longest(world):
    _, _, played = world
    assert played.env_steps == int(played.episodes.active.any(-1).sum())
    assert played.episodes.active[-1].any()


def test_discounted_returns_of_an_episode_by_hand():
    game = stag_hunt(3, num_hares=6)
    agent = tiny_agent(game, "Direct")
    episodes = play_with(agent, game, ["learner", "nearest_hare", "random"])
    steps = len(episodes.active)
    slow = [sum(0.95**k * episodes.reward[t + k] for k in range(steps - t)) for t in range(steps)]
    assert episodes.reward.any()
    torch.testing.assert_close(agent.algorithm.value_targets(training_batch(agent, episodes)), torch.stack(slow))


def test_every_step_of_every_learner_seat_is_searched_and_no_other(world):
    _, _, played = world
    episodes = played.episodes
    held = torch.tensor([[True, False, True], [False, True, False], [False] * 3]).repeat(4, 1)
    assert torch.equal(episodes.learner, episodes.active & held)
    policy = episodes.extras["root_policy"]
    torch.testing.assert_close(policy.sum(-1), episodes.learner.float())
    assert (policy >= 0).all()
    assert not policy[~episodes.legal].any()
    assert (policy[episodes.learner].gather(-1, episodes.action[episodes.learner][:, None]) > 0).all()
    assert episodes.extras["root_value"][episodes.learner].any()
    assert not episodes.extras["root_value"][~episodes.learner].any()


# Who ended, and why -------------------------------------------------------------------------------------------------


def check_endings(episodes):
    """Each seat ends once, with its last step: terminated or truncated, not both."""
    ended = episodes.terminated | episodes.truncated
    assert not (episodes.terminated & episodes.truncated).any()
    later = torch.cat([episodes.active[1:], torch.zeros_like(episodes.active[:1])])
    assert torch.equal(ended, episodes.active & ~later)
    assert (ended.sum(0) == 1).all()


def test_captured_hunters_are_terminated_and_the_others_truncated():
    game = stag_hunt(3, num_hares=3)
    episodes = rollout(game, [["nearest_hare", "random", "nearest_hare"]], 40).episodes
    check_endings(episodes)
    captured = (episodes.achieved_goal != NO_GOAL).any(0)
    assert torch.equal(episodes.terminated.any(0), captured)
    assert torch.equal(episodes.truncated.any(0), ~captured)
    assert torch.equal(episodes.terminated, episodes.achieved_goal != NO_GOAL), "with the step of the capture"
    last = torch.zeros_like(episodes.truncated)
    last[game.max_steps - 1] = True
    assert not (episodes.truncated & ~last).any()
    assert captured.any()
    assert not captured.all()


def test_a_capture_with_the_last_step_is_a_termination_and_an_early_close_is_too():
    start = {"hunters": [(0, 0), (3, 3)], "stags": [(2, 2)], "hares": [(0, 0), (3, 0)]}
    for rules in ({"max_steps": 1}, {"steps_after_first_hunt": 0}):
        game = stag_hunt(**rules)
        catch = seated(game, lambda rows: torch.full((rows,), HUNT_HARE), 1)
        env = Fixed(game, game.place(1, **start))
        episodes = play(env, catch, {}, torch.Generator().manual_seed(0)).episodes
        check_endings(episodes)
        assert episodes.terminated[0, 0].tolist() == [True, "max_steps" not in rules]


def test_in_snowdrift_the_last_drift_terminates_all_seats():
    game = Snowdrift(num_players=3, num_drifts=3, height=3, width=3, max_steps=6)
    episodes = rollout(game, [["cleaner"] * 3, ["defector"] * 3], 40).episodes
    check_endings(episodes)
    state = game.reset(40, torch.Generator().manual_seed(0))
    for actions in episodes.action:
        state, _ = game.step(state, actions)
    cleared = state.left == 0
    assert torch.equal(episodes.terminated.any(0), cleared[:, None].expand(-1, 3))
    assert torch.equal(episodes.truncated.any(0), ~cleared[:, None].expand(-1, 3))
    assert cleared.any()
    assert not cleared.all()


def test_by_default_seats_that_leave_before_max_steps_are_terminated():
    game = TokenGame(3)
    episodes = rollout(game, [["random"] * 3], 40).episodes
    check_endings(episodes)
    length = episodes.active.sum(0)
    assert torch.equal(episodes.terminated.any(0), length < game.max_steps)
    assert set(length.flatten().tolist()) == set(range(1, game.max_steps + 1))


def test_an_environment_without_rules_reports_terminated_seats():
    env = Countdown(3)
    episodes = rollout(env, [["random"] * 3], 40).episodes
    check_endings(episodes)
    left = episodes.reward.sum(0) == episodes.observation[0, :, :, 0]
    assert torch.equal(episodes.terminated.any(0), left)
    assert left.any()
    assert not left.all()


# Chance -------------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_episodes():
    game = stag_hunt()
    agent = tiny_agent(game, "Declared", search_args={"trees": 2})
    one, two, other = (play_with(agent, game, ["learner", "random"], seed=s) for s in (1, 1, 2))
    assert same(one, two)
    assert not same(one.observation[:1], other.observation[:1])


def test_the_global_generator_is_left_alone():
    game = stag_hunt()
    agent = tiny_agent(game, "Declared")
    before = torch.random.get_rng_state()
    play_with(agent, game, ["learner", "random"])
    assert torch.equal(torch.random.get_rng_state(), before)


class Junk(Fixed):
    """Shows junk in the views of seats that have left; the last view of a seat that was cut off is no junk."""

    def __init__(self, game, state, junk):
        super().__init__(game, state)
        self.junk = junk

    def _shown(self, step):
        here = (step.active | step.truncated).view(*step.active.shape, *[1] * (step.observation.dim() - 2))
        return step._replace(observation=torch.where(here, step.observation, self.junk))

    def reset(self, batch_size, generator):
        return self._shown(super().reset(batch_size, generator))

    def step(self, actions):
        return self._shown(super().step(actions))


@pytest.mark.parametrize("opponent", ["Direct", "Declared", "Codebook", "Subgoal", "Oracle"])
@pytest.mark.parametrize("algorithm", ["search", "PPO"])
def test_samples_do_not_depend_on_the_views_of_seats_that_have_left(opponent, algorithm):
    game = TokenGame(3)
    settings = (
        {"algorithm": PPO}
        if algorithm == "PPO"
        else {"search_args": {"trees": 2, "planner": PlannerConfig(rule="gumbel")}}
    )
    agent = tiny_agent(game, opponent, **settings)
    state = game.reset(12, torch.Generator().manual_seed(0))
    found = []
    for junk in (0.0, 1.0):
        random, env = torch.Generator().manual_seed(1), Junk(game, state, junk)
        seating = arrange([["learner", "random", "learner"]], 12, env, DEVICE)
        played = play(env, seating, {"learner": agent.actor()}, random).episodes
        found.append((played, random.get_state()))
    (clean, one), (spoiled, two) = found
    assert not same(clean.observation, spoiled.observation), "or no seat has left"
    assert torch.equal(one, two)
    here = clean.active
    for name, field in clean.tensors().items():
        assert same(field[here], spoiled.tensors()[name][here]), name


# Networks and players -----------------------------------------------------------------------------------------------


class Keeper:
    """A player that changes what it keeps in place, in every call and over episodes."""

    kept: Tensor | None = None

    def reset(self, batch_size, seat, game, generator):
        self.kept = torch.zeros(1) if self.kept is None else self.kept.add_(1)

    def act(self, observation, legal):
        self.kept.add_(1)
        return torch.zeros(len(legal), dtype=torch.int64)


def with_players(seating, *players):
    """The same seating, with these players instead of the first scripted ones."""
    (name, actor), *rest = seating.scripted.items()
    seated = [each._replace(player=player) for each, player in zip(actor.seated, players, strict=False)] + list(
        actor.seated[len(players) :]
    )
    return seating._replace(scripted={name: PlayerActor(tuple(seated)), **dict(rest)})


@pytest.mark.parametrize("opponent", ["Subgoal", "Codebook"])
def test_a_rollout_runs_in_inference_mode_and_returns_trainable_tensors(opponent):
    game = stag_hunt(3)
    agent, env = tiny_agent(game, opponent), as_env(game)
    players = [Keeper(), Keeper()]
    seating = with_players(arrange([["learner", "random", "random"]], 4, env, DEVICE), *players)
    prior = None
    for seed in range(2):
        learners, chance = {"learner": agent.actor()}, torch.Generator().manual_seed(seed)
        played = play(env, seating, learners, chance, prior)
        assert all(player.kept.is_inference() for player in players)
        prior = played.prior
        assert not any(kept.is_inference() for kept in (*played.episodes.tensors().values(), *prior.values()))
        agent.weigh(agent.losses(as_batch(played.episodes))).backward()


def test_greedy_play_takes_the_argmax_and_repeats_itself():
    game = TokenGame(2)
    learner = plain_learner(game, simulations=8)
    one, two = (rollout(game, [["learner", "learner"]], greedy=True, learner=learner) for _ in range(2))
    assert same(one.episodes, two.episodes)
    here = one.episodes.learner
    policy = one.episodes.extras["root_policy"][here]
    assert torch.equal(one.episodes.action[here], policy.argmax(-1))
    learner = plain_learner(game, simulations=8, beta=0.01)
    drawn = rollout(game, [["learner", "learner"]], learner=learner).episodes
    assert not torch.equal(drawn.action[drawn.learner], drawn.extras["root_policy"][drawn.learner].argmax(-1))


@pytest.mark.parametrize("env", [TokenGame(2), Countdown(2)], ids=["rules", "no rules"])
def test_greedy_play_of_a_policy_without_search_takes_the_argmax(env):
    agent = tiny_agent(env, "Direct", algorithm=PPO)
    agent.algorithm.policy.net.out.weight.data.mul_(3)
    greedy, drawn = (
        rollout(env, [["learner", "random"]], 12, greedy=greedy, learner=agent.actor()).episodes
        for greedy in (True, False)
    )
    for episodes, wanted in ((greedy, True), (drawn, False)):
        here = episodes.learner
        t, _, seat = here.nonzero(as_tuple=True)
        policy, condition = agent.algorithm.policy, agent.algorithm.policy.condition(torch.zeros(len(t), 1, 0), seat)
        with torch.no_grad():
            logits, _ = policy(episodes.observation[here].float(), t / as_env(env).max_steps, condition)
        log_policy = logits.masked_fill(~episodes.legal[here], -torch.inf).log_softmax(-1)
        assert torch.equal(episodes.action[here], log_policy.argmax(-1)) == wanted
        chosen = log_policy.gather(-1, episodes.action[here][:, None])[:, 0]
        torch.testing.assert_close(episodes.extras["log_probability"][here], chosen)


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
        for name, expected in alone.tensors().items():
            torch.testing.assert_close(together.tensors()[name][:steps, row], expected[:, 0], msg=f"{name} of {row}")


class Diary(Direct):
    """An opponent model that remembers which environment it is in and all that it was shown."""

    def __init__(self, game):
        super().__init__(model_spec(game))
        self.size, self.shown = 1, []

    def prior(self, batch_size):
        seats = self.spec.game.num_players
        return torch.arange(batch_size)[:, None, None].expand(batch_size, seats, 1).float()

    def infer(self, memory, view):
        self.shown.append((memory[:, 0, 0].long(), view))
        return super().infer(memory, view)

    def update(self, memory, view, actions, achieved):
        assert actions.shape == memory.shape[:2]
        self.shown[-1] += (actions, achieved)
        return memory + 0

    def carry(self, prior, episodes):
        self.carried = episodes
        return prior + 100


def test_memory_follows_its_environment_when_others_end():
    game = TokenGame(2)
    source = Diary(game)
    played = rollout(game, [["learner", "random"]], 8, learner=plain_learner(game, source=source))
    episodes = played.episodes
    for t, (rows, view, actions, achieved) in enumerate(source.shown):
        assert rows.tolist() == episodes.active[t].any(-1).nonzero()[:, 0].tolist()
        assert torch.equal(view.observation, episodes.observation[t, rows].float())
        assert torch.equal(view.active, episodes.active[t, rows])
        torch.testing.assert_close(view.time, torch.full((len(rows),), t / game.max_steps))
        assert torch.equal(actions, episodes.action[t, rows]), "the model sees what was really played"
        assert torch.equal(achieved, episodes.achieved_goal[t, rows]), "and what it achieved"
        there = view.active[:, 0]
        assert torch.equal(episodes.goal[t, rows, 0, 0][there], rows[there].float())
    assert len({len(rows) for rows, *_ in source.shown}) > 1
    assert played.prior["learner"][:, 0, 0].tolist() == [100.0 + b for b in range(8)]
    assert same(source.carried, episodes), "the next prior is made of whole episodes"


def test_the_prior_of_an_earlier_rollout_is_where_the_next_starts():
    game = TokenGame(2)
    learner = plain_learner(game, source=Diary(game))
    first = rollout(game, [["learner", "random"]], 4, learner=learner)
    before = snapshot(first.prior["learner"])
    second = rollout(game, [["learner", "random"]], 4, prior=first.prior, learner=learner)
    assert second.episodes.goal[0, :, 0, 0].tolist() == [100, 101, 102, 103]
    assert torch.equal(first.prior["learner"], before)


def test_a_watching_learner_records_goals_but_no_targets():
    game = stag_hunt()
    agent = tiny_agent(game, "Declared")
    episodes = play_with(agent, game, ["nearest_stag", "nearest_hare"])
    assert not episodes.learner.any()
    assert not any(field.any() for field in episodes.extras.values())
    torch.testing.assert_close(episodes.goal[0].sum(-1), torch.ones(6, 2))
    assert episodes.true_goal[:, :, 0].eq(0).all()
    assert episodes.true_goal[:, :, 1].eq(1).all()


def test_without_a_learner_nothing_is_inferred_or_recorded():
    game = stag_hunt()
    played = rollout(game, [["random", "nearest_hare"]])
    assert played.episodes.goal.shape[-1] == 0
    assert played.episodes.extras == {}
    assert played.prior == {}
    assert played.notes == {}


def test_searches_of_a_stored_agent_are_not_training_targets():
    game = TokenGame(2, ragged=False)
    other = plain_learner(game, always(2, game.num_actions))
    learners = {"learner": plain_learner(game), "checkpoint:a": other}
    episodes = rollout(game, [["learner", "checkpoint:a"]], **learners).episodes
    assert episodes.learner[..., 0].all()
    assert not episodes.learner[..., 1].any()
    assert not episodes.extras["root_policy"][..., 1, :].any()
    assert (episodes.action[..., 1] != game.noop).any()  # it does play


class Recorder(Actor):
    """An actor written for a test: it plays 1, and records what it is given by name."""

    records = {"share": Record(), "pair": Record((2,), torch.int64)}  # noqa: RUF012
    goal_size = 2

    def start(self, env, mine, prior, generator):
        return mine

    def act(self, memory, scene):
        mine = memory & scene.view.active
        goal = scene.view.time[:, None, None].expand(*mine.shape, 2)
        extras = {"pair": torch.tensor([7, 8]).expand(*mine.shape, 2) * mine[..., None]}
        return Choice(
            mine, torch.ones_like(mine, dtype=torch.int64), goal, extras, {"recorder/seats": float(mine.sum())}
        )

    def observe(self, memory, scene, actions, step):
        return memory, {"share": step.reward / 100}


def test_any_actor_may_sit_in_a_seat_and_records_what_it_declares():
    game = TokenGame(2)
    played = rollout(game, [["learner", "random"], ["random", "random"]], 8, learner=Recorder())
    episodes = played.episodes
    held = torch.tensor([[True, False], [False, False]]).repeat(4, 1)
    assert torch.equal(episodes.learner, episodes.active & held)
    assert (episodes.action[episodes.learner] == 1).all()
    assert episodes.extras["pair"].dtype == torch.int64
    assert (episodes.extras["pair"][episodes.learner] == torch.tensor([7, 8])).all()
    assert not episodes.extras["pair"][~episodes.learner].any()
    torch.testing.assert_close(episodes.extras["share"], episodes.reward / 100)
    live = episodes.active.any(-1)
    time = torch.arange(len(live))[:, None, None, None].expand_as(episodes.goal) / game.max_steps
    torch.testing.assert_close(episodes.goal[live], time[live])
    assert set(played.notes) == {"recorder/seats"}
    assert played.prior == {}, "an actor without a prior carries nothing"
    assert played.notes["recorder/seats"] == pytest.approx(float(episodes.learner.sum((1, 2)).float().mean()))


class Witness(Recorder):
    """An actor that records the rewards that it is shown, and keeps the type of the views."""

    records = {"before": Record()}  # noqa: RUF012

    def act(self, memory, scene):
        self.dtype = scene.view.observation.dtype
        mine = memory & scene.view.active
        return Choice(mine, torch.ones_like(mine, dtype=torch.int64), extras={"before": scene.view.reward})

    def observe(self, memory, scene, actions, step):
        return memory, {}


@pytest.mark.parametrize(("kind", "dtype"), [("counts", torch.int32), ("bytes", torch.uint8), ("bits", torch.float32)])
def test_actors_see_numbers_as_the_space_has_them_and_the_rewards_of_the_step_before(kind, dtype):
    witness = Witness()
    episodes = rollout(NumberGame(kind), [["learner", "learner"]], 8, learner=witness).episodes
    assert witness.dtype == dtype
    assert episodes.reward[:-1].any()
    before = torch.cat([torch.zeros_like(episodes.reward[:1]), episodes.reward[:-1]])
    here = episodes.active
    assert torch.equal(episodes.extras["before"][here], before[here])


class Answer:
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
    """A random player in seat 1 beside one in seat 0 that answers as told."""
    return with_players(arrange([["random", "random"]], batch, as_env(game), DEVICE), Answer(answer))


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_a_player_with_invalid_actions_is_named_in_one_line(name):
    game = stag_hunt()
    with pytest.raises(ConfigError, match="Answer") as caught:
        play(as_env(game), seated(game, BAD_ANSWERS[name]), {}, torch.Generator().manual_seed(0))
    assert "\n" not in str(caught.value)


def test_small_integers_are_fine_and_an_illegal_choice_counts_as_staying():
    game = stag_hunt()
    state = game.place(6, hunters=[(0, 0), (3, 3)], stags=[(1, 1)], hares=[(2, 2), (3, 0)])
    seating = seated(game, lambda rows: torch.zeros(rows, dtype=torch.uint8))  # up, out of the grid
    episodes = play(Fixed(game, state), seating, {}, torch.Generator().manual_seed(0)).episodes
    assert (episodes.action[..., 0] == STAY).all()
    assert (episodes.observation[:, :, 0, 0, 0, 0] == 1).all()


def test_where_noop_is_illegal_the_first_legal_action_is_played_and_recorded():
    """A third-party mask may forbid every action that this project knows by name, `noop` too."""
    env = PettingZooEnv("parallel_toys.Masked")
    seating = with_players(
        arrange([["random"] * env.num_players], 4, env, DEVICE),
        Answer(lambda rows: torch.zeros(rows, dtype=torch.int64)),
    )
    episodes = play(env, seating, {}, torch.Generator().manual_seed(0)).episodes
    taken = episodes.legal.gather(-1, episodes.action[..., None])[..., 0]
    forbidden = episodes.active & ~episodes.legal[..., env.noop]
    assert forbidden[..., 0].any(), f"or {Masked.__name__} never forbids action {env.noop}"
    assert taken[episodes.active].all(), "what is recorded is what was really played"


def test_a_player_may_write_into_what_it_is_shown():
    class Vandal(Answer):
        def act(self, observation, legal):
            observation.zero_()
            legal.zero_()
            return torch.full((len(legal),), STAY)

    game = stag_hunt()
    seating = with_players(arrange([["random", "random"]], 6, as_env(game), DEVICE), Vandal(None))
    episodes = play(as_env(game), seating, {}, torch.Generator().manual_seed(0)).episodes
    assert (episodes.observation[episodes.active][:, 0].flatten(1).sum(-1) == 1).all()
    assert episodes.legal[episodes.active].any(-1).all()


def test_play_keeps_its_inputs():
    game = stag_hunt()
    agent, env = tiny_agent(game, "Declared"), as_env(game)
    seating = arrange([["learner", "random"]], 4, env, DEVICE)
    prior = {"learner": torch.full((4, 2, 2), 0.5)}
    before = snapshot((seating.who, prior["learner"])), snapshot(tuple(agent.state_dict().values()))
    play(env, seating, {"learner": agent.actor()}, torch.Generator().manual_seed(0), prior)
    assert same((seating.who, prior["learner"]), before[0])
    assert same(tuple(agent.state_dict().values()), before[1])


@pytest.mark.parametrize("workers", [1, 2])
def test_scripts_own_probabilities_are_recorded_in_evaluations(workers):
    game = stag_hunt(3)
    env, learner = as_env(game), plain_learner(game)
    seating = arrange([["learner", "random", "nearest_stag"]], 6, env, DEVICE)
    measured, plain = (
        play(env, seating, {"learner": learner}, torch.Generator().manual_seed(0), None, True, measure, workers)
        for measure in (True, False)
    )
    episodes = measured.episodes
    assert "script_best" not in plain.episodes.extras
    assert same(plain.episodes.action, episodes.action), "to measure changes nothing"
    best = episodes.extras["script_best"]
    here = episodes.active
    assert not best[..., 0].any()
    chance = 1 / episodes.legal[..., 1, :].sum(-1)
    torch.testing.assert_close(best[..., 1][here[..., 1]], chance[here[..., 1]])
    sure = best[..., 2][here[..., 2]]
    assert ((sure == 1) | (sure == 0.5)).all(), "a seeker has one way to go, or two that are as short"
    assert len(sure.unique()) == 2
