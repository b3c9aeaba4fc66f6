import io
import signal
from types import SimpleNamespace

import pytest
import torch
from lightning import Trainer
from number_games import Countdown, NumberGame
from toys import TokenGame, attached, same, stag_hunt, tiny_agent, tiny_data

from callbacks import BufferRefresh
from omg_lightning import interrupts
from omg_lightning.actors import LEARNER
from omg_lightning.algorithms import PPO, OnPolicy
from omg_lightning.data import EpisodeDataModule, LazyDataset, OfflineConfig, TrainingConfig
from omg_lightning.envs import RulesEnv, as_env
from omg_lightning.envs.base import describe
from omg_lightning.games import Snowdrift, StagHunt
from omg_lightning.interrupts import Interrupted
from omg_lightning.opponents.explicit import BeliefConfig
from omg_lightning.types import ConfigError, Episodes

OPPONENTS = ("Direct", "Declared", "Codebook", "Subgoal", "Oracle")
SNOWDRIFT = Snowdrift(num_players=2, num_drifts=2, height=3, width=3, max_steps=8)
ONLINE = {"offline": {"rounds": 0}}
BELIEF = {"opponent_args": {"belief": BeliefConfig(alpha=0.5, floor=0.0)}}


def through_a_file(state):
    """The state as a checkpoint gives it back; `weights_only` refuses whatever would run code."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_a_lazy_dataset_has_an_exact_length_and_draws_one_item_at_a_time():
    asked = []
    draws = LazyDataset(lambda index: asked.append(index) or index, 3)
    assert len(draws) == 3
    items = iter(draws)
    assert asked == []
    assert next(items) == 0
    assert asked == [0], "an item drawn ahead would come from an old buffer"
    assert list(items) == [1, 2]
    assert list(draws) == [0, 1, 2], "every epoch anew"


def test_the_loader_does_not_draw_ahead():
    data = attached(tiny_data())
    loader = data.train_dataloader()
    assert len(loader) == 2
    batches = iter(loader)  # the buffer is still empty
    data.refresh()
    assert next(batches).episodes.active.shape[1] == data.training.batch_size
    data.buffer.drop(99)
    with pytest.raises(ConfigError, match="empty"):
        next(batches)


def test_rounds_steps_and_phases():
    data = attached(tiny_data())
    steps = 0
    for number in range(4):
        assert data.offline == (number < 2)
        played, _ = data.refresh()
        steps += int(played.episodes.active.any(-1).sum())
        assert (data.rounds, data.env_steps) == (number + 1, steps)
        assert data.latest is played
        assert played.episodes.learner.any() == (number >= 2), "offline, scripts play and no actor searches"
        batch = next(iter(data.train_dataloader()))
        assert batch.offline == (number < 2)
        assert batch.env_steps == steps


def test_drop_removes_exactly_the_older_rounds():
    data = attached(tiny_data(num_envs=3, training={"capacity": 30}))
    held = []
    for number in range(6):
        _, dropped = data.refresh(max_age=2)
        held.append((len(data.buffer), dropped, data.rounds - 1 - data.buffer.oldest()))
        assert data.rounds == number + 1
    assert held == [(3, 0, 0), (6, 0, 1), (6, 3, 1), (6, 3, 1), (6, 3, 1), (6, 3, 1)]


def test_the_offline_lineups_are_0ns_to_pns_and_random_by_default():
    data = attached(tiny_data(num_envs=8))
    truth = data.refresh()[0].episodes.true_goal[0].tolist()  # 0 stag, 1 hare, -1 random
    assert truth == [[1, 1], [0, 1], [0, 0], [-1, -1]] * 2
    data = attached(tiny_data(offline={"lineups": [["nearest_hare", "random"]]}))
    assert data.refresh()[0].episodes.true_goal[0].tolist() == [[1, -1]] * 4


def test_offline_lineups_may_seat_checkpoints_too(tmp_path):
    path = tmp_path / "a.ckpt"
    path.touch()
    data = tiny_data(offline={"lineups": [[f"checkpoint:{path}", "random"]]})
    asked = []
    agent = tiny_agent(data.env, "Direct")
    data.attach(agent.actor, lambda path: asked.append(path) or agent.actor())
    data.refresh()
    assert asked == [str(path)]


@pytest.mark.parametrize("algorithm", ["search", "PPO"])
@pytest.mark.parametrize("opponent", OPPONENTS)
@pytest.mark.parametrize("rounds", [0, 1, 2, 3])
def test_a_saved_state_resumes_bit_by_bit(opponent, rounds, algorithm):
    """Before the first round, within the offline phase, between the phases and online."""
    settings = {"algorithm": PPO} if algorithm == "PPO" else {}
    data, other = (attached(tiny_data(), opponent, **settings) for _ in range(2))
    for _ in range(rounds):
        data.refresh(max_age=3)
        list(data.train_dataloader())
    other.load_state_dict(through_a_file(data.state_dict()))
    for _ in range(3):
        (one, dropped), (two, also) = (each.refresh(max_age=3) for each in (data, other))
        assert dropped == also
        assert same(one.episodes, two.episodes)
        assert same(one.prior, two.prior)
        assert one.env_steps == two.env_steps
        for first, second in zip(data.train_dataloader(), other.train_dataloader(), strict=True):
            assert same(first, second)
    assert same(through_a_file(data.state_dict()), through_a_file(other.state_dict()))


def test_a_state_read_on_the_cpu_is_restored_on_the_device_of_the_run(monkeypatch):
    data, other = (attached(tiny_data(), "Declared") for _ in range(2))
    data.refresh()
    monkeypatch.setattr(EpisodeDataModule, "device", torch.device("meta"))
    other.random = data.random  # no generator can draw on "meta"
    other.load_state_dict(through_a_file(data.state_dict()))
    carried, stored = other.collector.state_dict()["prior"], other.buffer.state_dict()["store"]
    assert {rows.device.type for rows in carried.values()} == {"meta"}
    assert {field.device.type for field in Episodes(**stored).tensors().values()} == {"meta"}


def test_a_state_of_other_sizes_is_refused():
    data = attached(tiny_data())
    data.refresh()
    for other in (tiny_data(num_envs=5), tiny_data(training={"capacity": 20})):
        with pytest.raises(ConfigError, match=r"num_envs|capacity"):
            attached(other).load_state_dict(through_a_file(data.state_dict()))


def test_beliefs_carry_over_between_rounds_and_reset_at_the_online_phase():
    data = attached(tiny_data(), **BELIEF)
    first, second = data.refresh()[0], data.refresh()[0]
    torch.testing.assert_close(second.episodes.goal[0], first.prior[LEARNER])
    assert (first.prior[LEARNER] != 0.5).any()
    third, fourth = data.refresh()[0], data.refresh()[0]
    assert (third.episodes.goal[0] == 0.5).all(), "other players"
    torch.testing.assert_close(fourth.episodes.goal[0], third.prior[LEARNER])


def test_evaluation_plays_the_same_starts_each_time_and_touches_nothing():
    data = attached(tiny_data())
    data.refresh()
    before = through_a_file(data.state_dict())
    draws = data.evaluate([["learner", "random"]], 10)
    assert len(draws) == 3
    one, two = list(draws), list(draws)
    assert same(one, two)
    assert [chunk.active.shape[1] for chunk in one] == [4, 4, 2]
    assert all(isinstance(chunk, Episodes) for chunk in one)
    assert same(data.state_dict(), before)
    assert not same(one, list(attached(tiny_data(seed=1)).evaluate([["learner", "random"]], 10)))


def test_each_chunk_of_an_evaluation_has_starts_of_its_own_and_goes_on_with_the_beliefs_of_the_one_before():
    data = attached(tiny_data(), **BELIEF)
    one, two, three = data.evaluate([["learner", "nearest_hare"]], 10)
    assert not torch.equal(one.observation[0], two.observation[0])
    actor = data.population.learners(["learner", "nearest_hare"])[LEARNER]
    carried = actor.carry(actor.prior(4), one)
    assert (carried != actor.prior(4)).any()
    torch.testing.assert_close(two.goal[0], carried)
    assert all(chunk.extras["script_best"].any() for chunk in (one, two, three)), "predictions are judged by it"
    torch.testing.assert_close(three.goal[0], actor.carry(carried, two)[:2])


def test_evaluation_does_not_depend_on_how_long_was_trained():
    data, other = attached(tiny_data()), attached(tiny_data())
    for _ in range(3):
        data.refresh()
    one, two = (list(each.evaluate([["learner", "random"]], 4)) for each in (data, other))
    assert same(one, two)


def test_loaders_of_validate_and_predict():
    data = attached(tiny_data(evaluation={"predict_episodes": 2}))
    assert sum(chunk.active.shape[1] for chunk in data.val_dataloader()) == 5
    assert [chunk.active.shape[1] for chunk in data.predict_dataloader()] == [2]


def test_seeds_differ_and_repeat():
    one, two, other = (attached(tiny_data(seed=seed)).refresh()[0].episodes for seed in (3, 3, 4))
    assert same(one, two)
    assert not same(one.observation[0], other.observation[0])


def test_the_checkpoint_is_loaded_once_and_plays():
    data = tiny_data(**ONLINE)
    data.lineups = [["learner", "checkpoint:a.ckpt"]]
    asked = []
    agent = tiny_agent(data.env, "Direct")
    data.attach(agent.actor, lambda path: asked.append(path) or agent.actor())
    for _ in range(2):
        played = data.refresh()[0]
    assert asked == ["a.ckpt"]
    assert played.episodes.learner[..., 0].any()
    assert not played.episodes.learner[..., 1].any()
    assert set(played.prior) == {"learner", "checkpoint:a.ckpt"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_envs": 0}, "data.num_envs is 0"),
        ({"workers": 0}, "data.workers is 0"),
        ({"seed": -1}, "data.seed is -1"),
        ({"training": {"batch_size": 0}}, "data.training.batch_size is 0"),
        ({"training": {"steps_per_epoch": 0}}, "data.training.steps_per_epoch is 0"),
        ({"training": {"past_every": 0}}, "data.training.past_every is 0"),
        ({"training": {"past_keep": 0}}, "data.training.past_keep is 0"),
        ({"training": {"capacity": 3}}, "data.training.capacity is 3"),
        ({"offline": {"rounds": -1}}, "data.offline.rounds is -1"),
        ({"evaluation": {"episodes": 0}}, "data.evaluation.episodes is 0"),
        ({"evaluation": {"val_episodes": 0}}, "data.evaluation.val_episodes is 0"),
        ({"evaluation": {"predict_episodes": 0}}, "data.evaluation.predict_episodes is 0"),
        ({"evaluation": {"seats": ["learner", "nobody"]}}, "nobody"),
        ({"seats": ["learner"]}, "2 seats"),
        ({"seats": ["learner", "nearest_unicorn"]}, "nearest_unicorn"),
        ({"seats": ["learner", "checkpoint:nowhere.ckpt"]}, "nowhere.ckpt"),
        ({"partners": ["nobody"]}, "nobody"),
        ({"partners": []}, "partners"),
        ({"partners": ["checkpoint:nowhere.ckpt"]}, "nowhere.ckpt"),
        ({"seats": ["learner", "cleaner"]}, "unknown player 'cleaner' in StagHunt"),
        ({"partners": ["random", "defector"]}, "unknown player 'defector' in StagHunt"),
        ({"offline": {"lineups": [["random"] * 2, ["random", "cleaner"]]}}, "unknown player 'cleaner' in StagHunt"),
        ({"seats": ["learner", "omg_lightning.games.grid.scripted.Cleaner"]}, "Cleaner needs drifts, shovel"),
        ({"game": SNOWDRIFT}, "unknown player 'nearest_stag' in Snowdrift"),
        ({"game": StagHunt}, "the game is <class .*StagHunt.*>; expected an instance of Game or VectorEnv"),
        ({"game": "stag_hunt"}, "the game is 'stag_hunt'; expected an instance of Game or VectorEnv"),
        ({"game": Countdown(2)}, "unknown player 'nearest_stag' in Countdown"),
        ({"game": TokenGame(2), "seats": ["learner", "random"], "training": {"symmetries": True}}, "no action 'up'"),
    ],
)
def test_mistakes_are_one_clear_line(settings, message):
    with pytest.raises(ConfigError, match=message) as caught:
        tiny_data(**settings)
    assert "\n" not in str(caught.value)


def test_a_wrong_offline_lineup_is_named_at_once():
    with pytest.raises(ConfigError, match="2 seats"):
        tiny_data(offline={"lineups": [["random"]]})


def test_a_data_module_without_a_learner_names_the_cure():
    with pytest.raises(ConfigError, match="attach"):
        tiny_data().refresh()


def test_an_agent_plays_a_users_own_game():
    data = EpisodeDataModule(
        TokenGame(3), ["learner", "random", "random"], num_envs=4, training=TrainingConfig(capacity=8),
        offline=OfflineConfig(lineups=[["random"] * 3]), partners=["random"],
    )  # fmt: skip
    assert (data.spec["num_players"], data.spec["name"]) == (3, "TokenGame")
    assert data.spec["observation_space"]["shape"] == [4, 1, 5]
    data = attached(data, "Subgoal")
    assert data.refresh()[0].episodes.active[0].all()


def test_without_scripts_a_game_is_left_to_random():
    data = EpisodeDataModule(TokenGame(), ["learner", "random", "random"])
    assert data.partners == ["random"]
    assert data.offline_lineups == [["random"] * 3]


def test_partners_are_one_of_each_kind_by_default():
    assert tiny_data().partners == ["random", "nearest_stag", "nearest_hare", "switcher"]
    assert tiny_data(game=SNOWDRIFT, seats=["learner"] * 2).partners == ["random", "cleaner", "defector", "switcher"]
    assert tiny_data(partners=["random", "random"]).partners == ["random"]


def test_a_game_is_described_by_all_its_options():
    sizes = {"num_players": 2, "num_stags": 1, "num_hares": 2, "height": 4, "width": 4, "num_blocks": 0}
    found = describe(RulesEnv(StagHunt("2h1s_4x4")))
    assert found == describe(RulesEnv(StagHunt(**sizes))), "a preset is the same game written out"
    assert found["max_steps"] == 35
    for change in ({"prosocial": True}, {"strength": [1.0, 2.0]}, {"steps_after_first_hunt": 5}, {"hare_reward": 2.0}):
        assert describe(RulesEnv(StagHunt("2h1s_4x4", **change))) != found
    assert describe(Countdown(3)) == {"name": "Countdown", "num_players": 3, "max_steps": 4}
    assert describe(as_env(TokenGame(max_steps=4))) == {
        "name": "TokenGame",
        "num_players": 3,
        "num_actions": 5,
        "max_steps": 4,
        "ragged": True,
    }


def test_an_oracle_beside_a_player_without_a_declared_goal_is_refused():
    for seats in (["learner", "random"], ["learner", f"{__name__}.Mute"]):
        data = attached(tiny_data(seats=seats, **ONLINE), "Oracle")
        with pytest.raises(ConfigError, match="declares no goal") as caught:
            data.refresh()
        assert "\n" not in str(caught.value)
    data = attached(tiny_data(game=SNOWDRIFT, seats=["learner", "switcher"], **ONLINE), "Oracle")
    with pytest.raises(ConfigError, match="switcher declares no goal"):
        data.refresh()
    for partner in ("nearest_hare", "switcher", "switcher:3"):
        attached(tiny_data(seats=["learner", partner], **ONLINE), "Oracle").refresh()


class Mute:
    def reset(self, batch_size, seat, game, generator):
        self.noop = game.noop

    def act(self, observation, legal):
        return torch.full((len(legal),), self.noop)


@pytest.mark.parametrize("opponent", ["Direct", "Declared", "Locations", "Codebook", "Subgoal"])
def test_snowdrift_is_played_offline_and_online(opponent):
    data = tiny_data(game=SNOWDRIFT, seats=["learner", "cleaner"], num_envs=8, offline={"rounds": 1})
    data = attached(data, opponent)
    offline, online = data.refresh()[0].episodes, data.refresh()[0].episodes
    assert not offline.learner.any()
    cleaners = torch.tensor([[0, 0], [1, 0], [1, 1], [0, 0]] * 2).bool()  # defectors, one, two, and random
    shovelled = (offline.achieved_goal != -1).any(0)
    assert not shovelled[[0, 4]].any()
    assert not shovelled[[1, 5], 1].any()
    assert (shovelled.any(1) | ~cleaners.any(1)).all()
    assert torch.equal(online.learner, online.active & torch.tensor([True, False]))
    assert (online.achieved_goal[..., 1] != -1).any()


def test_a_game_or_an_environment_of_it_is_the_same_data():
    game, seats = stag_hunt(), ["learner", "nearest_stag"]
    one, two = (attached(tiny_data(game=each, seats=seats)) for each in (game, RulesEnv(game)))
    assert one.game is two.game is game
    assert one.spec == two.spec
    assert same(one.refresh()[0].episodes, two.refresh()[0].episodes)


def test_presets_may_be_changed_and_games_be_made_without():
    game = StagHunt("4h1s_6x6", max_steps=9)
    assert (game.num_players, game.height, game.max_steps) == (4, 6, 9)
    assert repr(StagHunt.preset("4h1s_6x6", max_steps=9)) == repr(game)
    assert repr(Snowdrift("msg")) == repr(Snowdrift())
    with pytest.raises(ConfigError, match="9h9s"):
        StagHunt("9h9s")
    with pytest.raises(ConfigError, match="height"):
        StagHunt("2h1s_4x4", height=0)


def test_only_a_fit_restores_the_buffer():
    data = attached(tiny_data())
    data.refresh()
    state = through_a_file(data.state_dict())
    other = attached(tiny_data(num_envs=5))  # an evaluation may be run with other sizes
    other.trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    other.trainer.state.fn = "validate"
    other.load_state_dict(state)
    assert other.env_steps == data.env_steps
    assert len(other.buffer) == 0


def test_several_line_ups_share_the_environments_in_turn():
    data = attached(tiny_data(seats=[["learner", "nearest_stag"], ["nearest_hare", "learner"]], **ONLINE))
    episodes = data.refresh()[0].episodes
    assert torch.equal(episodes.learner[0], torch.tensor([[True, False], [False, True]]).repeat(data.num_envs // 2, 1))
    assert episodes.true_goal[0, :2].tolist() == [[-1, 0], [1, -1]]
    assert data.seats == ["learner or nearest_hare", "nearest_stag or learner"]
    many = [["learner", name] for name in ("nearest_stag", "nearest_hare", "random", "switcher")]
    assert tiny_data(seats=many).seats == ["learner", "nearest_stag or 3 others"]
    with pytest.raises(ConfigError, match="not both"):
        tiny_data(seats=["learner", ["learner", "random"]])


def test_past_selves_are_kept_on_schedule_and_play_as_they_were():
    training = {"past_every": 2, "past_keep": 2}
    data = tiny_data(seats=["learner", "past"], training=training, offline={"rounds": 1})
    agent = tiny_agent(data.env, "Declared")
    data.attach(agent.actor, agent.load_actor, agent.copy_weights)
    kept = []
    for number in range(6):
        data.refresh()
        kept.append([float(weights["algorithm.policy.net.out.bias"][0]) for weights in data.population.past])
        with torch.no_grad():
            agent.algorithm.policy.net.out.bias[0] = number + 1
    start = kept[1][0]  # rounds 1, 3 and 5 are due, in which the bias is that of the start, then 3 (set in round 2), 5
    assert kept == [[], [start], [start], [start, 3.0], [start, 3.0], [3.0, 5.0]]
    policy = data.population.newest_past_self().policy
    assert float(policy.net.out.bias[0]) == 5.0
    assert float(agent.algorithm.policy.net.out.bias[0].detach()) == 6.0


def test_past_selves_search_but_their_steps_are_no_targets():
    data = attached(tiny_data(seats=["learner", "past"], **ONLINE))
    episodes = data.refresh()[0].episodes
    assert episodes.learner[..., 0].any()
    assert not episodes.learner[..., 1].any()


def test_an_interrupted_round_is_repeated_exactly(monkeypatch):
    data, calm = (attached(tiny_data(seats=["learner", "past"], **ONLINE)) for _ in range(2))

    def stop():
        raise Interrupted(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(interrupts, "check", stop)
        with pytest.raises(Interrupted):
            data.refresh()
    assert (data.rounds, data.population.past) == (0, []), "a checkpoint of this moment has nothing of the round"
    assert same(data.refresh()[0].episodes, calm.refresh()[0].episodes)
    assert len(data.population.past) == len(calm.population.past) == 1


def test_a_past_self_needs_a_learner():
    data = tiny_data(seats=["learner", "past"], **ONLINE)
    agent = tiny_agent(data.env, "Declared")
    data.attach(agent.actor, agent.load_actor)
    with pytest.raises(ConfigError, match="attach"):
        data.refresh()
    with pytest.raises(ConfigError, match=r"data\.evaluation\.seats"):
        list(data.evaluate(data.eval_lineups, 2))


def test_evaluation_has_seats_of_its_own():
    data = attached(tiny_data(evaluation={"seats": ["learner", "nearest_hare"]}))
    truth = next(iter(data.val_dataloader())).true_goal
    assert (truth[0, :, 1] == 1).all()
    assert data.seats == ["learner", "nearest_stag"]


def test_new_line_ups_reset_beliefs_and_unchanged_ones_keep_them():
    data = attached(tiny_data(**ONLINE), **BELIEF)
    first = data.refresh()[0].prior[LEARNER]
    assert (first != 0.5).any()
    data.seat([["learner", "nearest_stag"]])  # those who sit there
    torch.testing.assert_close(data.refresh()[0].episodes.goal[0], first)
    data.seat([["learner", "nearest_hare"]])
    episodes = data.refresh()[0].episodes
    assert (episodes.true_goal[0, :, 1] == 1).all()
    assert (episodes.goal[0] == 0.5).all()
    with pytest.raises(ConfigError, match="seats"):
        data.seat([["learner"]])


def test_a_scheduled_line_up_resumes_bit_by_bit():
    line_ups = [["nearest_hare", "learner"]]

    def run(data, rounds):
        for _ in range(rounds):
            if data.rounds >= 2:
                data.seat(line_ups)
            played = data.refresh()[0]
        return played

    first = attached(tiny_data(offline={"rounds": 1}))
    run(first, 3)
    state = through_a_file(first.state_dict())
    second = attached(tiny_data(offline={"rounds": 1}))
    second.load_state_dict(state)
    assert same(run(first, 2).episodes, run(second, 2).episodes)


# On-policy data -----------------------------------------------------------------------------------------------------


def on_policy_data(plan, **settings):
    """A data module whose learner wants each round's episodes in these passes."""
    data = tiny_data(seats=["learner", "learner"], num_envs=6, **settings)
    agent = tiny_agent(data.env, "Direct")
    data.attach(agent.actor, agent.load_actor, agent.copy_weights, plan)
    return data, agent


def keys(episodes):
    """What tells episodes apart: their rewards and first views."""
    columns = torch.cat([episodes.observation[0].flatten(1).float(), episodes.action[0].float()], 1)
    return sorted(map(tuple, columns.tolist()))


def test_an_on_policy_loader_gives_each_episode_once_in_each_pass():
    data, _ = on_policy_data(OnPolicy(2, 3), **ONLINE)
    loader = data.train_dataloader()
    assert len(loader) == 6, "whatever data.training.steps_per_epoch is"
    for _ in range(2):
        played, _ = data.refresh(max_age=1)
        batches = list(loader)
        assert [batch.episodes.active.shape[1] for batch in batches] == [2] * 6
        for epoch in (batches[:3], batches[3:]):
            assert sorted(key for batch in epoch for key in keys(batch.episodes)) == keys(played.episodes)
        assert [keys(batch.episodes) for batch in batches[:3]] != [keys(batch.episodes) for batch in batches[3:]]
        assert {batch.env_steps for batch in batches} == {data.env_steps}
        assert not any(batch.offline for batch in batches)


def test_too_few_episodes_for_the_minibatches_are_one_clear_line():
    data, _ = on_policy_data(OnPolicy(1, 7), **ONLINE)
    data.refresh()
    with pytest.raises(ConfigError, match="holds 6 episodes, too few for 7 minibatches") as caught:
        next(iter(data.train_dataloader()))
    assert "\n" not in str(caught.value)


class Logged:
    """An agent as far as `BufferRefresh` needs one."""

    def __init__(self, agent):
        self.algorithm, self.found = agent.algorithm, []

    def log_dict(self, numbers, **_):
        self.found.append(numbers)


@pytest.mark.parametrize(
    ("settings", "says"), [({}, 1), ({"max_age": None}, 1), ({"max_age": 1, "interval": 3}, 1), ({"max_age": 1}, 0)]
)
def test_the_buffer_keeps_one_round_alone_for_on_policy_data_and_says_so_once(settings, says, monkeypatch):
    said = []
    monkeypatch.setattr("callbacks.buffer_refresh.rank_zero_info", said.append)
    data, agent = on_policy_data(OnPolicy(2, 3), **ONLINE)
    refresh, logged = BufferRefresh(**settings), Logged(agent)
    for epoch in range(4):
        refresh.on_train_epoch_start(SimpleNamespace(datamodule=data, current_epoch=epoch), logged)
        assert data.rounds == epoch + 1, "a round before each epoch"
        assert len(data.buffer) == data.num_envs
        assert data.buffer.oldest() == epoch
        batches = [batch.episodes for batch in data.train_dataloader()][:3]
        assert sorted(key for batch in batches for key in keys(batch)) == keys(data.latest.episodes)
    assert len(said) == says
    assert all("\n" not in line and "newest round only" in line for line in said)
    assert [numbers["buffer/oldest_age"] for numbers in logged.found] == [0.0] * 4


def test_off_policy_algorithms_keep_the_buffer_settings(monkeypatch):
    said = []
    monkeypatch.setattr("callbacks.buffer_refresh.rank_zero_info", said.append)
    data, agent = on_policy_data(None, **ONLINE)
    refresh = BufferRefresh(max_age=2, interval=2)
    for epoch in range(6):
        refresh.on_train_epoch_start(SimpleNamespace(datamodule=data, current_epoch=epoch), Logged(agent))
    assert data.rounds == 3
    assert len(data.buffer) == 12
    assert len(data.train_dataloader()) == data.training.steps_per_epoch == 2
    assert not said


@pytest.mark.parametrize("game", [NumberGame("reals"), Countdown(2), TokenGame(2)], ids=["reals", "no rules", "bits"])
def test_ppo_trains_on_what_its_own_policy_did(game):
    """At the first minibatch the policy is the one that played, so all ratios are 1 and nothing is clipped."""
    data = EpisodeDataModule(game, ["learner", "learner"], num_envs=8, offline=OfflineConfig(0))
    agent = tiny_agent(game, "Direct", algorithm=PPO)
    data.attach(agent.actor, agent.load_actor, agent.copy_weights, agent.algorithm.on_policy)
    data.refresh(1)
    for batch in data.train_dataloader():
        losses = agent.losses(batch)
        assert float(losses["ppo_clipped"]) == 0
        assert abs(float(losses["ppo_kl"])) < 1e-6
