import pytest
from toys import attached, tiny_agent, tiny_data

from callbacks import SeatSchedule
from omg_lightning.types import ConfigError


class FakeTrainer:
    def __init__(self, datamodule):
        self.datamodule = datamodule


def test_line_ups_are_seated_from_their_step_on():
    data = tiny_data()
    trainer, agent = FakeTrainer(data), tiny_agent(data.env)
    one, two = [["learner", "random"]], [["learner", "nearest_hare"], ["learner", "learner"]]
    callback = SeatSchedule({100: two, 10: one})
    callback.on_fit_start(trainer, agent)
    seen = []
    for step in (0, 9, 10, 99, 100, 5000):
        data.env_steps = step
        callback.on_train_epoch_start(trainer, agent)
        seen.append(data.lineups)
    assert seen == [[["learner", "nearest_stag"]]] * 2 + [one] * 2 + [two] * 2
    assert data.eval_lineups == [["learner", "nearest_stag"]]


@pytest.mark.parametrize("schedule", [{-1: [["learner", "random"]]}, {0: []}])
def test_a_schedule_out_of_range_is_refused(schedule):
    with pytest.raises(ConfigError, match="SeatSchedule"):
        SeatSchedule(schedule)


def test_an_unknown_player_is_named_before_training_starts():
    data = tiny_data()
    with pytest.raises(ConfigError, match="nobody_knows") as caught:
        SeatSchedule({500: [["learner", "nobody_knows"]]}).on_fit_start(FakeTrainer(data), tiny_agent(data.env))
    assert "\n" not in str(caught.value)


def test_a_scheduled_line_up_plays_in_the_next_round():
    data = attached(tiny_data(offline={"rounds": 0}))
    trainer, callback = FakeTrainer(data), SeatSchedule({1: [["nearest_hare", "learner"]]})
    for expected in (0, 1):
        callback.on_train_epoch_start(trainer, None)
        episodes = data.refresh()[0].episodes
        assert episodes.learner[0].nonzero()[:, 1].unique().tolist() == [expected]
