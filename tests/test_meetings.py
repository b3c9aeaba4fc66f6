"""The protocols of `test`: who meets whom when, in which ratio, and what is reported of partners that change."""

import numpy as np
import pytest
import torch
from toys import attached, tiny_data

from omg_lightning.actors import arrange, make_player
from omg_lightning.data import AdaptationConfig
from omg_lightning.data.meetings import EPISODES, kinds_met, meetings
from omg_lightning.envs import as_env
from omg_lightning.evaluation import Record, References, labels, numbers, refer, table
from omg_lightning.evaluation.scores import Relationship, curve, gain, mean_stretch, stretches, within
from omg_lightning.games import MatrixGame
from omg_lightning.metrics.intervals import stratified, student
from omg_lightning.rollout import play
from omg_lightning.types import AdaptationSegment, ConfigError

DEVICE = torch.Generator().device  # the CPU, or that of `pytest --device`


def protocol(**settings) -> AdaptationConfig:
    return AdaptationConfig(**{"relationships": 2, "steps": 40, "score_steps": 16, **settings})


def drawn(seen: int, others: int, seed: int = 0, **settings) -> torch.Tensor:
    named = [f"unseen_{k}" for k in range(others)]
    return meetings(protocol(unseen=named, **settings), seen, others, torch.Generator().manual_seed(seed))


# Who meets whom -----------------------------------------------------------------------------------------------------


def test_partners_stay_by_default_and_each_kind_has_as_many_relationships():
    assert drawn(2, 1).tolist() == [[0], [1], [2]] * 2


@pytest.mark.parametrize(
    ("ratio", "seen"), [("10:0", 60), ("10:5", 40), ("10:10", 30), ("5:10", 20), ("0:10", 0), ("1:2", 20)]
)
def test_relationships_are_shared_out_in_the_ratio_of_seen_to_unseen_and_evenly_within(ratio, seen):
    kinds = drawn(2, 1, relationships=20, ratio=ratio)[:, 0].bincount(minlength=3)
    assert kinds.tolist() == [seen // 2, seen // 2, 60 - seen]


def test_partners_change_after_so_many_episodes_to_another_kind():
    table = drawn(3, 0, change_episodes=3)
    assert table.shape == (6, 40), "no episode is shorter than a step"
    runs = table[:, :39].view(6, 13, 3)
    assert (runs == runs[..., :1]).all(), "each stays for three episodes"
    assert (runs[:, 1:, 0] != runs[:, :-1, 0]).all(), "and another kind comes"
    assert table[:, 0].tolist() == [0, 1, 2] * 2
    follows = runs[:, 1:, 0][runs[:, :-1, 0] == 0]
    assert {int(kind) for kind in follows} == {1, 2}
    assert torch.equal(table, drawn(3, 0, change_episodes=3)), "the same seed"
    assert not torch.equal(table, drawn(3, 0, 1, change_episodes=3))


def test_random_changes_come_after_2_5_10_or_20_episodes_each_as_often():
    table = drawn(2, 0, relationships=50, steps=400, change_episodes="random")
    lengths = []
    for row in table:
        edges = (row[1:] != row[:-1]).nonzero()[:, 0] + 1
        lengths += edges.diff(prepend=torch.zeros(1, dtype=torch.int64)).tolist()
    counts = np.bincount(lengths, minlength=21)
    assert counts.sum() == counts[list(EPISODES)].sum()
    assert counts[list(EPISODES)] / counts.sum() == pytest.approx([0.25] * 4, abs=0.05)


@pytest.mark.parametrize(("ratio", "share"), [("10:5", 1 / 3), ("5:10", 2 / 3), ("0:10", 1.0), ("10:0", 0.0)])
def test_changes_keep_the_ratio(ratio, share):
    table = drawn(2, 3, relationships=40, steps=200, change_episodes=1, ratio=ratio)
    assert float((table >= 2).float().mean()) == pytest.approx(share, abs=0.01)
    assert (table[:, 1:] != table[:, :-1]).all(), "each group has another kind to change to"


def test_unseen_kinds_come_last_and_training_must_not_know_them():
    config = protocol(unseen=["c", "c"])
    assert kinds_met(config, ["a", "b"], {"data.seats": [["learner", "a"]]}) == ["a", "b", "c"]
    with pytest.raises(ConfigError, match=r"unseen names c, and so does data\.seats"):
        kinds_met(config, ["a"], {"data.seats": [["learner", "a"], ["learner", "c"]]})
    settings = {"adaptation": protocol(unseen=["nearest_hare"]), "partners": ["random"]}
    with pytest.raises(ConfigError, match=r"so does data\.offline\.lineups"):
        tiny_data(**settings)
    assert tiny_data(**settings, offline={"rounds": 0}).strangers == ["random", "nearest_hare"]
    with pytest.raises(ConfigError, match=r"so does data\.partners"):
        tiny_data(adaptation=protocol(unseen=["random"]), partners=["random"])


def test_partners_that_change_within_episodes_hand_over_to_each_other():
    config = protocol(change_within=5, unseen=["c"])
    assert kinds_met(config, ["a", "b"], {}) == ["handover:5:a:b:c", "handover:5:b:a:c", "handover:5:c:a:b"]
    for partners in (["a"], ["a", "past"], ["a", "switcher:5"]):
        with pytest.raises(ConfigError, match="change_within is 5, but"):
            kinds_met(protocol(change_within=5), partners, {})
    assert labels(["handover:5:a:b", "handover:6:a:b", "a", "all"]) == ["a_handover", "a_handover_2", "a", "all_2"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"change_episodes": 0}, "change_episodes is 0"),
        ({"change_within": 0}, "change_within is 0"),
        ({"change_episodes": 3, "change_within": 3}, "remove one of the two settings"),
        ({"change_episodes": 3, "networks": True}, "remove change_episodes"),
        ({"ratio": "1:0", "networks": True}, "remove change_episodes"),
        ({"ratio": "10:5"}, "there are no unseen partners"),
        ({"ratio": "0:0", "unseen": ["a"]}, "expected seen to unseen"),
        ({"ratio": "10", "unseen": ["a"]}, "expected seen to unseen"),
        ({"ratio": "10:-5", "unseen": ["a"]}, "expected seen to unseen"),
    ],
)
def test_invalid_messages_are_refused_in_one_line(settings, words):
    with pytest.raises(ConfigError, match=words) as caught:
        protocol(**settings)
    assert "\n" not in str(caught.value)


# As it is played ----------------------------------------------------------------------------------------------------


def test_partners_follow_the_table_and_beliefs_carry_over():
    data = attached(tiny_data(partners=["nearest_hare", "random"], adaptation=protocol(change_episodes=2)))
    segments = list(data.test_dataloader())
    partner, number, length = (torch.cat([segment[k] for segment in segments]) for k in (0, 1, 3))
    for row in range(4):
        own = partner[number == row].tolist()
        assert own == [(row + e // 2) % 2 for e in range(len(own))], "two kinds: they take turns"
        assert int(length[number == row].sum()) >= 40
    assert all(torch.equal(one.returns, two.returns) for one, two in zip(segments, data.test_dataloader(), strict=True))


def test_a_handover_happens_once_per_episode_at_a_random_step_to_a_random_kind():
    game = MatrixGame(payoff=torch.eye(3).tolist(), max_steps=6)
    env, name = as_env(game), "handover:4:always_1:always_0:always_2"
    episodes = play(env, arrange([["random", name]], 600, env, DEVICE), {}, torch.Generator().manual_seed(0)).episodes
    played, goals = episodes.action[..., 1].T, episodes.true_goal[..., 1].T  # [B, T]
    assert torch.equal(played, goals), "it says what it is after"
    first = (played == 1).long().cumprod(1).sum(1)  # steps before it changes
    assert first.bincount(minlength=6).tolist() == pytest.approx([0, 150, 150, 150, 150, 0], abs=50)
    for row, step in zip(played, first.tolist(), strict=True):
        assert len(set(row[step:].tolist())) == 1
    assert played[:, -1].bincount(minlength=3).tolist() == pytest.approx([300, 0, 300], abs=60)
    player = make_player(name, game)
    player.reset(50, 1, game, torch.Generator().manual_seed(1))
    view, legal = torch.zeros(50, 6), torch.ones(50, 3, dtype=torch.bool)
    for _ in range(5):
        chances, goal = player.action_probabilities(view, legal), player.pursues(view, legal)
        assert torch.equal(chances.argmax(1), goal)
        assert torch.equal(player.act(view, legal), goal)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("handover", "write handover:LATEST"),
        ("handover:5:random", "two or more different kinds"),
        ("handover:0:random:always_0", "at least 1"),
        ("handover:x:random:always_0", "at least 1"),
        ("handover:5:random:random", "different kinds"),
        ("handover:5:random:", "different kinds"),
        ("handover:6:random:always_0", "ends after 6 steps"),
        ("handover:5:random:nobody", "unknown player 'nobody'"),
        ("handover:5:random:learner", "needs trained networks"),
    ],
)
def test_an_impossible_handover_is_refused(name, words):
    with pytest.raises(ConfigError, match=words):
        make_player(name, MatrixGame("chicken", max_steps=6))


# What is reported ---------------------------------------------------------------------------------------------------


def record(rows: list[tuple[int, int, float]]) -> Record:
    """Episodes of two steps: kind, relationship, return."""
    found = Record()
    partner, number, focal = (torch.tensor(column) for column in zip(*rows, strict=True))
    found.add(AdaptationSegment(partner, number, torch.stack([focal, -focal], 1), torch.full_like(partner, 2)))
    return found


CHANGING = [(k, 0, x) for k, x in ((0, 1.0), (0, 3.0), (1, 9.0), (1, 8.0), (0, 5.0), (0, 7.0), (1, 4.0))] + [
    (k, 1, x) for k, x in ((1, 2.0), (1, 4.0), (0, 0.0), (0, 2.0), (1, 6.0), (1, 0.0), (0, 6.0))
]


def test_a_returning_partner_has_a_curve_over_episodes_since_its_arrival():
    found = record(CHANGING)
    zero, one = (found.result(k, "ab"[k], "ab"[k], steps=14, last=6) for k in (0, 1))
    # Beside 0: relationship 0 has (1, 3) and (5, 7), relationship 1 has (0, 2), and (6) that the end cuts off.
    assert zero.curve.mean.tolist() == [(3 + 0) / 2, (5 + 2) / 2]
    assert one.curve.mean.tolist() == [(9 + 4) / 2, (8 + 2) / 2]
    assert zero.final == ((5 + 7) / 2 + 6) / 2, "the last three episodes of each, of those beside it"
    assert one.final == (4 + (6 + 0) / 2) / 2
    assert zero.returns["return/episodes"] == 7
    both = found.group("all", [0, 1], [zero, one], 14, 6)
    assert both.final == pytest.approx(((5 + 7 + 4) / 3 + (6 + 0 + 6) / 3) / 2)
    short = found.result(0, "a", "a", steps=15, last=6)
    assert np.isnan(short.final), "the protocol was cut short"
    alone = record([(0, 0, 1.0), (1, 0, 5.0), (1, 0, 7.0)]).result(1, "b", "b", 6, 4)
    assert alone.curve.mean.tolist() == [5, 7], "nobody changed after it: what there is"
    assert record([(0, 0, 1.0), (1, 0, 5.0)]).result(1, "b", "b", 3, 2) is None, "its only episode ends too late"


def test_groups_are_means_over_relationships_with_intervals_within_kinds():
    rows = [
        (k, 2 * r + k, value) for k, values in ((0, (1.0, 3.0)), (1, (10.0, 14.0))) for r, value in enumerate(values)
    ]
    found = record(rows)
    each = [found.result(k, "ab"[k], "ab"[k], 2, 2)._replace(score=0.25 + k, prox=0.5 + k / 4) for k in (0, 1)]
    group = found.group("all", [0, 1], [*each], 2, 2)
    low, high = stratified([[1, 3], [10, 14]])
    assert (group.final, group.low, group.high) == (7, low, high)
    assert (group.score, group.prox) == (0.75, 0.625)
    assert found.group("seen", [0], [*each], 2, 2)[1:4] == each[0][3:6], "a single kind has its own interval"
    assert found.group("unseen", [0], [None, each[1]], 2, 2) is None
    assert found.group("all", [0, 1], [each[0], each[1]._replace(score=None)], 2, 2).score is None
    flat = numbers(each, [group])
    assert (flat["adapt/all_return"], flat["adapt/all_low"], flat["adapt/all_br_prox"]) == (7, low, 0.625)
    assert table(each, 2, [group]).splitlines()[-1].split()[0] == "all"


def test_br_prox_needs_a_best_response_with_a_positive_return(tmp_path):
    result = record([(0, 0, 3.0)]).result(0, "a", "a", 2, 2)
    for best, share in ((4.0, 0.75), (-1.0, None)):
        references = References(tmp_path / f"{best}.json")
        references.add({"name": "x"}, "a", {"random": -5.0, "best_response": best})
        assert refer(result, references, {"name": "x"}).prox == share


def test_the_gain_is_the_last_20_episodes_minus_the_first_20():
    returns = np.array([1.0] * 20 + [50.0] * 3 + [4.0] * 20)
    assert gain(Relationship(returns, np.ones(43))) == 3
    counts = returns < 50
    assert gain(Relationship(returns, np.ones(43), counts)) == 3
    assert np.isnan(gain(Relationship(returns[4:], np.ones(39), None))), "they would share an episode"
    rows = [(0, k, float(k + (e >= 20))) for k in range(2) for e in range(40)]
    found = numbers([record(rows).result(0, "a", "a", 80, 20)])
    assert (found["adapt/a_gain"], found["adapt/a_gain_low"]) == (1, 1)
    assert "gain" in table([record(rows).result(0, "a", "a", 80, 20)], 20)


def test_stretches_end_with_a_change_and_their_mean_goes_as_far_as_the_longest():
    returns, counts = np.arange(7.0), np.array([1, 1, 0, 1, 0, 1, 1], dtype=bool)
    played = Relationship(returns, np.ones(7, dtype=int), counts)
    assert [run.tolist() for run in stretches(played)] == [[0, 1], [3]]
    assert mean_stretch(stretches(played)).tolist() == [1.5, 1]
    assert [run.tolist() for run in stretches(within(played, 5))] == [[0, 1], [3]]
    assert [run.tolist() for run in stretches(Relationship(returns, returns, counts | True))] == [returns.tolist()]
    ragged = curve([np.array([1.0, 2.0]), np.array([3.0])], ragged=True)
    assert ragged.mean.tolist() == [2, 2]
    assert np.isnan(ragged.low[1]), "a single relationship got so far"


@pytest.mark.parametrize("count", [3, 4, 5])
def test_intervals_within_strata_cover_19_times_of_20(count):
    random = np.random.default_rng(count)
    kinds = ((0.0, 1.0), (5.0, 0.5), (-3.0, 2.0))  # of partners: mean and spread
    found = [stratified([random.normal(*kind, count) for kind in kinds]) for _ in range(500)]
    assert np.mean([low <= 2 / 3 <= high for low, high in found]) == pytest.approx(0.95, abs=0.03)
    pooled = [student(np.concatenate([random.normal(*kind, count) for kind in kinds])) for _ in range(50)]
    width = np.mean([high - low for low, high in pooled]) / np.mean([high - low for low, high in found])
    assert width > 1.5, "what differs between kinds is no chance"


def test_a_single_stratum_has_students_interval_and_a_single_value_none():
    assert stratified([[1.0, 2.0, 4.0]]) == pytest.approx(student([1.0, 2.0, 4.0]))
    assert stratified([[1.0, 2.0, 4.0]], (0, 3)) == (0, 3)
    assert stratified([[2.0, 2.0], [3.0, 3.0]]) == (2.5, 2.5)
    assert np.isnan(stratified([[1.0], [2.0, 3.0]])).all()
