import io

import pytest
import torch
from lightning import Trainer
from toys import attached, same, tiny_agent, tiny_data

from omg_lightning.data import Draws, EpisodeDataModule, GameConfig
from omg_lightning.games import Snowdrift, StagHunt
from omg_lightning.rollout import LEARNER
from omg_lightning.types import ConfigError, Episodes

GOALS = ("none", "declared", "subgoal", "oracle")
SNOWDRIFT = GameConfig(
    "snowdrift", options={"num_players": 2, "num_drifts": 2, "height": 3, "width": 3, "max_steps": 8}
)


def through_a_file(state):
    """The state as a checkpoint gives it back; `weights_only` refuses whatever would run code."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_draws_have_an_exact_length_and_draw_one_at_a_time():
    asked = []
    draws = Draws(lambda index: asked.append(index) or index, 3)
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
    assert next(batches).episodes.active.shape[1] == data.batch_size
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
        assert played.episodes.planned.any() == (number >= 2), "offline, scripts play and nobody searches"
        batch = next(iter(data.train_dataloader()))
        assert batch.offline == (number < 2)
        assert batch.env_steps == steps


def test_ages_are_dropped_exactly():
    data = attached(tiny_data(num_envs=3, capacity=30))
    held = []
    for number in range(6):
        _, dropped = data.refresh(max_age=2)
        held.append((len(data.buffer), dropped, data.rounds - 1 - data.buffer.oldest()))
        assert data.rounds == number + 1
    assert held == [(3, 0, 0), (6, 0, 1), (6, 3, 1), (6, 3, 1), (6, 3, 1), (6, 3, 1)]


def test_the_offline_lineups_are_0ns_to_pns_and_random_by_default():
    data = attached(tiny_data(num_envs=8))
    truth = data.refresh()[0].episodes.truth[0].tolist()  # 0 stag, 1 hare, -1 random
    assert truth == [[1, 1], [0, 1], [0, 0], [-1, -1]] * 2
    data = attached(tiny_data(offline_lineups=[["nearest_hare", "random"]]))
    assert data.refresh()[0].episodes.truth[0].tolist() == [[1, -1]] * 4


def test_offline_lineups_may_seat_planners_too(tmp_path):
    path = tmp_path / "a.ckpt"
    path.touch()
    data = tiny_data(offline_lineups=[[f"checkpoint:{path}", "random"]])
    asked = []
    agent = tiny_agent(data.game, "none")
    data.attach(agent.learner, lambda path: asked.append(path) or agent.learner())
    data.refresh()
    assert asked == [str(path)]


@pytest.mark.parametrize("goals", GOALS)
@pytest.mark.parametrize("rounds", [0, 1, 2, 3])
def test_a_state_that_went_through_a_file_goes_on_bit_by_bit(goals, rounds):
    """Before the first round, within the offline phase, between the phases and online."""
    data, other = attached(tiny_data(), goals), attached(tiny_data(), goals)
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


def test_a_state_of_other_sizes_is_refused():
    data = attached(tiny_data())
    data.refresh()
    for other in (tiny_data(num_envs=5), tiny_data(capacity=20)):
        with pytest.raises(ConfigError, match=r"num_envs|capacity"):
            attached(other).load_state_dict(through_a_file(data.state_dict()))


def test_beliefs_are_carried_from_round_to_round_and_start_anew_online():
    data = attached(tiny_data(), belief={"alpha": 0.5, "floor": 0.0})
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


def test_evaluation_does_not_depend_on_how_long_was_trained():
    data, other = attached(tiny_data()), attached(tiny_data())
    for _ in range(3):
        data.refresh()
    one, two = (list(each.evaluate([["learner", "random"]], 4)) for each in (data, other))
    assert same(one, two)


def test_loaders_of_validate_and_predict():
    data = attached(tiny_data(predict_episodes=2))
    assert sum(chunk.active.shape[1] for chunk in data.val_dataloader()) == 5
    assert [chunk.active.shape[1] for chunk in data.predict_dataloader()] == [2]


def test_seeds_differ_and_repeat():
    one, two, other = (attached(tiny_data(seed=seed)).refresh()[0].episodes for seed in (3, 3, 4))
    assert same(one, two)
    assert not same(one.observation[0], other.observation[0])


def test_the_checkpoint_is_loaded_once_and_plays():
    data = tiny_data(offline_rounds=0)
    data.lineups = [["learner", "checkpoint:a.ckpt"]]
    asked = []
    agent = tiny_agent(data.game, "none")
    data.attach(agent.learner, lambda path: asked.append(path) or agent.learner())
    for _ in range(2):
        played = data.refresh()[0]
    assert asked == ["a.ckpt"]
    assert played.episodes.planned[..., 0].any()
    assert not played.episodes.planned[..., 1].any()
    assert set(played.prior) == {"learner", "checkpoint:a.ckpt"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_envs": 0}, "data.num_envs is 0"),
        ({"batch_size": 0}, "data.batch_size is 0"),
        ({"steps_per_epoch": 0}, "data.steps_per_epoch is 0"),
        ({"offline_rounds": -1}, "data.offline_rounds is -1"),
        ({"capacity": 3}, "data.capacity is 3"),
        ({"eval_episodes": 0}, "data.eval_episodes is 0"),
        ({"seats": ["learner"]}, "2 seats"),
        ({"seats": ["learner", "nearest_unicorn"]}, "nearest_unicorn"),
        ({"seats": ["learner", "checkpoint:nowhere.ckpt"]}, "nowhere.ckpt"),
        ({"partners": ["nobody"]}, "nobody"),
        ({"partners": []}, "partners"),
        ({"partners": ["checkpoint:nowhere.ckpt"]}, "nowhere.ckpt"),
        ({"seats": ["learner", "cleaner"]}, "Cleaner needs drifts, shovel, which StagHunt does not have"),
        ({"partners": ["random", "defector"]}, "Defector needs shovel"),
        ({"offline_lineups": [["random"] * 2, ["random", "cleaner"]]}, "Cleaner needs drifts"),
        ({"game": SNOWDRIFT}, "NearestStag needs stags, hunt_stag, which Snowdrift does not have"),
        ({"game": GameConfig(name="chess")}, "chess"),
        ({"game": GameConfig(preset="9h9s")}, "9h9s"),
        ({"game": GameConfig(preset="2h1s_4x4", options={"hight": 4})}, "hight"),
        ({"game": GameConfig(preset="2h1s_4x4", options={"height": 0})}, "height"),
        ({"game": GameConfig(name="collections.OrderedDict")}, "OrderedDict"),
        ({"game": GameConfig(name="toys.TokenGame", preset="small")}, "no presets"),
    ],
)
def test_mistakes_are_one_clear_line(settings, message):
    with pytest.raises(ConfigError, match=message) as caught:
        tiny_data(**settings)
    assert "\n" not in str(caught.value)


def test_a_wrong_offline_lineup_is_named_at_once():
    with pytest.raises(ConfigError, match="2 seats"):
        tiny_data(offline_lineups=[["random"]])


def test_without_a_learner_it_says_what_to_do():
    with pytest.raises(ConfigError, match="attach"):
        tiny_data().refresh()


def test_a_game_of_the_users_own():
    data = EpisodeDataModule(
        GameConfig(name="toys.TokenGame", options={"num_players": 3}), ["learner", "random", "random"], num_envs=4,
        capacity=8, offline_lineups=[["random"] * 3], partners=["random"],
    )  # fmt: skip
    assert (data.num_players, data.game_name, data.observation_shape) == (3, "TokenGame", (4, 1, 5))
    data = attached(data, "subgoal")
    assert data.refresh()[0].episodes.active[0].all()


def test_without_scripts_a_game_is_left_to_random():
    data = EpisodeDataModule(GameConfig(name="toys.TokenGame"), ["learner", "random", "random"])
    assert data.partners == ["random"]
    assert data.offline_lineups == [["random"] * 3]


def test_partners_are_one_of_each_kind_by_default():
    assert tiny_data().partners == ["random", "nearest_stag", "nearest_hare", "switcher"]
    assert tiny_data(game=SNOWDRIFT, seats=["learner"] * 2).partners == ["random", "cleaner", "defector", "switcher"]
    assert tiny_data(partners=["random", "random"]).partners == ["random"]


def test_a_game_is_described_by_all_its_options():
    preset, plain = GameConfig(preset="2h1s_4x4"), {"num_hares": 2, "height": 4, "width": 4, "num_blocks": 0}
    same_game = GameConfig(options={"num_players": 2, "num_stags": 1, **plain})
    found = preset.describe(preset.build())
    assert found == same_game.describe(same_game.build()), "a preset is the same game written out"
    assert found["max_steps"] == 35
    for change in ({"prosocial": True}, {"strength": [1.0, 2.0]}, {"steps_after_first_hunt": 5}, {"hare_reward": 2.0}):
        other = GameConfig(preset="2h1s_4x4", options=change)
        assert other.describe(other.build()) != found
    token = GameConfig("toys.TokenGame", options={"max_steps": 4})
    assert token.describe(token.build()) == {
        "name": "toys.TokenGame",
        "num_players": 3,
        "num_actions": 5,
        "max_steps": 4,
        "ragged": True,
    }


def test_an_oracle_beside_somebody_without_a_declared_goal_is_refused():
    for seats in (["learner", "random"], ["learner", f"{__name__}.Mute"]):
        data = attached(tiny_data(seats=seats, offline_rounds=0), "oracle")
        with pytest.raises(ConfigError, match="declares no goal") as caught:
            data.refresh()
        assert "\n" not in str(caught.value)
    data = attached(tiny_data(game=SNOWDRIFT, seats=["learner", "switcher"], offline_rounds=0), "oracle")
    with pytest.raises(ConfigError, match="switcher declares no goal"):
        data.refresh()
    for partner in ("nearest_hare", "switcher", "switcher:3"):
        attached(tiny_data(seats=["learner", partner], offline_rounds=0), "oracle").refresh()


class Mute:
    def reset(self, batch_size, seat, game, generator):
        self.noop = game.noop

    def act(self, observation, legal):
        return torch.full((len(legal),), self.noop)


@pytest.mark.parametrize("goals", [goals for goals in GOALS if goals != "oracle"])
def test_snowdrift_is_played_offline_and_online(goals):
    data = attached(tiny_data(game=SNOWDRIFT, seats=["learner", "cleaner"], num_envs=8, offline_rounds=1), goals)
    offline, online = data.refresh()[0].episodes, data.refresh()[0].episodes
    assert not offline.planned.any()
    cleaners = torch.tensor([[0, 0], [1, 0], [1, 1], [0, 0]] * 2).bool()  # defectors, one, two, and random
    shovelled = (offline.realised != -1).any(0)
    assert not shovelled[[0, 4]].any()
    assert not shovelled[[1, 5], 1].any()
    assert (shovelled.any(1) | ~cleaners.any(1)).all()
    assert torch.equal(online.planned, online.active & torch.tensor([True, False]))
    assert (online.realised[..., 1] != -1).any()


def test_game_config_builds_presets_with_changes_and_plain_games():
    game = GameConfig(preset="4h1s_6x6", options={"max_steps": 9}).build()
    assert (game.num_players, game.height, game.max_steps) == (4, 6, 9)
    sizes = {"num_players": 2, "num_stags": 1, "num_hares": 1, "height": 3, "width": 3}
    assert isinstance(GameConfig(options=sizes).build(), StagHunt)
    assert repr(GameConfig(name="snowdrift", preset="msg").build()) == repr(Snowdrift())


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
    data = attached(tiny_data(seats=[["learner", "nearest_stag"], ["nearest_hare", "learner"]], offline_rounds=0))
    episodes = data.refresh()[0].episodes
    assert torch.equal(episodes.planned[0], torch.tensor([[True, False], [False, True]]).repeat(data.num_envs // 2, 1))
    assert episodes.truth[0, :2].tolist() == [[-1, 0], [1, -1]]
    assert data.seats == ["learner or nearest_hare", "nearest_stag or learner"]
    with pytest.raises(ConfigError, match="not both"):
        tiny_data(seats=["learner", ["learner", "random"]])


def test_past_selves_are_kept_on_schedule_and_play_as_they_were():
    data = tiny_data(seats=["learner", "past"], past_every=2, past_keep=2, offline_rounds=1)
    agent = tiny_agent(data.game, "declared")
    data.attach(agent.learner, agent.load_learner, agent.copy_weights)
    kept = []
    for number in range(6):
        data.refresh()
        kept.append([float(weights["policy.net.out.bias"][0]) for weights in data.population.past])
        with torch.no_grad():
            agent.policy.net.out.bias[0] = number + 1
    start = kept[1][0]  # rounds 1, 3 and 5 are due, in which the bias is that of the start, then 3 (set in round 2), 5
    assert kept == [[], [start], [start], [start, 3.0], [start, 3.0], [3.0, 5.0]]
    policy = data.population.newest_past_self().policy
    assert float(policy.net.out.bias[0]) == 5.0
    assert float(agent.policy.net.out.bias[0].detach()) == 6.0


def test_past_selves_are_planners_whose_steps_are_no_targets():
    data = tiny_data(seats=["learner", "past"], offline_rounds=0)
    agent = tiny_agent(data.game, "declared")
    data.attach(agent.learner, agent.load_learner, agent.copy_weights)
    episodes = data.refresh()[0].episodes
    assert episodes.planned[..., 0].any()
    assert not episodes.planned[..., 1].any()


def test_a_past_self_needs_somebody_to_be_copied():
    data = attached(tiny_data(seats=["learner", "past"], offline_rounds=0))
    with pytest.raises(ConfigError, match="attach"):
        data.refresh()
    with pytest.raises(ConfigError, match="eval_seats"):
        list(data.evaluate(data.eval_lineups, 2))


def test_evaluation_has_seats_of_its_own():
    data = attached(tiny_data(eval_seats=["learner", "nearest_hare"]))
    truth = next(iter(data.val_dataloader())).truth
    assert (truth[0, :, 1] == 1).all()
    assert data.seats == ["learner", "nearest_stag"]


def test_other_line_ups_start_with_new_beliefs_and_the_same_ones_go_on():
    data = attached(tiny_data(offline_rounds=0, num_envs=2))
    data.refresh()
    carried = data._prior
    data.seat([["learner", "nearest_stag"]])
    data.refresh()
    assert data._seated == [["learner", "nearest_stag"]]
    assert carried is not None
    data.seat([["learner", "nearest_hare"]])
    truth = data.refresh()[0].episodes.truth
    assert (truth[0, :, 1] == 1).all()
    with pytest.raises(ConfigError, match="seats"):
        data.seat([["learner"]])


def test_a_scheduled_line_up_goes_on_bit_by_bit():
    line_ups = [["nearest_hare", "learner"]]

    def run(data, rounds):
        for _ in range(rounds):
            if data.rounds >= 2:
                data.seat(line_ups)
            played = data.refresh()[0]
        return played

    first = attached(tiny_data(offline_rounds=1))
    run(first, 3)
    state = through_a_file(first.state_dict())
    second = attached(tiny_data(offline_rounds=1))
    second.load_state_dict(state)
    assert same(run(first, 2).episodes, run(second, 2).episodes)
