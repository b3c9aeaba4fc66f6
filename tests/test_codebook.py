"""Learned discrete goals: the codes of events, and the labels and beliefs made of them."""

import pytest
import torch
from toys import model_spec, play_with, stag_hunt, tiny_agent, training_batch

from omg_lightning.actors import arrange
from omg_lightning.envs import RulesEnv
from omg_lightning.events import next_achieved, rewarded
from omg_lightning.games import CoinGame, Game, LevelBasedForaging, Snowdrift, StagHunt
from omg_lightning.opponents import BeliefConfig, Codebook
from omg_lightning.opponents.quantiser import VectorQuantiser
from omg_lightning.rollout import play
from omg_lightning.types import NO_GOAL, ConfigError, View


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def played(game: Game, lineups, batch, seed=0):
    """Episodes of scripted players."""
    env = RulesEnv(game)
    return play(env, arrange(lineups, batch, env, torch.Generator().device), {}, rng(seed)).episodes


def codebook(used, **config):
    """An opponent model of a small Stag-Hunt, some of whose codes are in use."""
    model = Codebook(model_spec(stag_hunt()), len(used), belief=BeliefConfig(**config))
    model.quantiser.count.copy_(torch.tensor(used))
    return model


# Codes -------------------------------------------------------------------------------------------------------------


def clusters(count, noise=0.05, seed=0):
    """`count` points around each of the corners of a triangle with sides of about 4."""
    centres = torch.tensor([[0.0, 0.0], [4.0, 0.0], [2.0, 3.5]])
    which = torch.arange(3).repeat(count)
    return centres[which] + noise * torch.randn(3 * count, 2, generator=rng(seed)), which


@pytest.mark.parametrize("num_codes", [3, 5, 16])
def test_codes_find_the_clusters_and_the_others_stay_unused(num_codes):
    book, random = VectorQuantiser(num_codes, 2), rng()
    vectors, which = clusters(40)
    for _ in range(20):
        book.update(vectors, random)
    assert int((book.count > 0).sum()) == 3
    pairs = {(int(code), int(cluster)) for code, cluster in zip(book(vectors), which, strict=True)}
    assert len(pairs) == 3  # one to one
    nearest = torch.cdist(vectors, book.codes).min(-1).values
    assert nearest.max() < 0.3


def test_a_dead_code_moves_to_a_vector_with_a_large_error():
    book, random = VectorQuantiser(3, 2, decay=0.5), rng()
    vectors, which = clusters(40)
    for _ in range(10):
        book.update(vectors[which != 2], random)
    moved = vectors[which == 0] + torch.tensor([0.0, 50.0])
    for _ in range(20):
        book.update(torch.cat([vectors[which == 1], moved, vectors[which == 2]]), random)
    assert torch.cdist(moved, book.codes).min(-1).values.max() < 0.3
    assert not (torch.cdist(vectors[which == 0], book.codes).min(-1).values < 1).any()


def test_codes_keep_their_number_while_they_move():
    book, random = VectorQuantiser(3, 2), rng()
    vectors, _ = clusters(40)
    for _ in range(20):
        book.update(vectors, random)
    before = book(vectors)
    for step in range(100):
        vectors = vectors + torch.tensor([0.01, 0.0])
        book.update(vectors, random)
        assert torch.equal(book(vectors), before), step


def test_an_empty_batch_changes_nothing():
    book = VectorQuantiser(2, 2)
    book.update(torch.zeros(0, 2), rng())
    assert not book.count.any()


def test_a_single_code_is_refused():
    with pytest.raises(ConfigError, match=r"num_codes is 2.*at least 3 codes with ending_codes"):
        Codebook(model_spec(stag_hunt()), num_codes=2, ending_codes=True)
    for make in (lambda: VectorQuantiser(1, 2), lambda: Codebook(model_spec(stag_hunt()), num_codes=1)):
        with pytest.raises(ConfigError, match=r"num_codes is 1.*at least 2") as caught:
            make()
        assert "\n" not in str(caught.value)


# Goals -------------------------------------------------------------------------------------------------------------


STAGS = [["nearest_stag"] * k + ["nearest_hare"] * (4 - k) for k in range(5)]
FORAGERS = [["secret_order", "secret_order"], ["secret_order", "greedy"], ["random", "secret_order"]]


@pytest.mark.parametrize(
    ("game", "lineups", "goals"),
    [
        (StagHunt("2h1s_4x4"), [["nearest_stag"] * 2, ["nearest_hare"] * 2], 2),  # no view follows a stag
        (StagHunt("4h1s_6x6"), STAGS, 2),
        (LevelBasedForaging("8x8-2p-3f"), FORAGERS, 3),  # things of 12 sorts beside players, two of whom have levels
        (LevelBasedForaging("8x8-2p-3f", prosocial=True), FORAGERS, 3),
        (CoinGame(), [["cooperative", "selfish"], ["selfish", "selfish"]], 2),
    ],
)
def test_codes_agree_with_declared_labels_not_used_in_training(game, lineups, goals):
    train, fresh = (played(game, lineups, 64, seed) for seed in (1, 2))
    model, random = Codebook(model_spec(game)), rng(1)
    for _ in range(3):
        model.learn(train, random)
    codes = model.label(fresh)
    known = fresh.achieved_goal != NO_GOAL
    assert (codes[known] != NO_GOAL).all()
    pairs = set(zip(codes[known].tolist(), fresh.achieved_goal[known].tolist(), strict=True))
    assert len(pairs) == goals  # one code for each goal: mutual information is perfect
    assert len({code for code, _ in pairs}) == goals
    if not game.prosocial:  # else everybody is paid for what others take, and a code may stand for nothing of one's own
        assert int(model.in_use.sum()) == goals


def test_a_seat_achieves_the_code_of_its_last_event():
    episodes = played(StagHunt("2h1s_4x4"), [["nearest_stag", "nearest_hare"]], 8)
    model = Codebook(model_spec(StagHunt("2h1s_4x4")), 4)
    model.quantiser.kind = lambda before, after, known: before[:, -1].sum((1, 2)).long()
    found = model.achieved(episodes)
    assert (found[:, 0] == NO_GOAL).all()  # alone it never gets the stag
    assert (found[:, 1] == 2).all()  # this code counts the hares in sight when the first one is caught


def test_the_label_of_a_step_is_the_code_of_its_seats_next_reward():
    game = StagHunt("2h1s_4x4")
    agent = tiny_agent(game, "Codebook", opponent_args={"belief": BeliefConfig(labels="hindsight")})
    episodes = play_with(agent, game, ["nearest_stag", "nearest_hare"], 8)
    targets = training_batch(agent, episodes, offline=True).targets
    codes = agent.opponent.label(episodes)
    event = codes != NO_GOAL
    assert torch.equal(event, rewarded(episodes, game.layout))
    for t, b, p in episodes.active.nonzero().tolist():
        due = [k for k in range(t, len(event)) if event[k, b, p]]
        assert bool(targets.known[t, b, p]) == bool(due)
        if due:
            assert int(targets.label[t, b, p].argmax()) == int(codes[due[0], b, p])


def test_codes_that_are_not_in_use_are_not_believed():
    model = codebook([1.0, 0, 1, 0], floor=0.01)
    prior = model.prior(2)
    assert prior.shape == (2, 2, 4)
    assert prior[0, 0].tolist() == [0.5, 0, 0.5, 0]
    start = model.start(torch.tensor([0.9, 0.1, 0.0, 0.0]), torch.tensor(NO_GOAL))
    assert start.log_belief.exp().tolist() == pytest.approx([0.99, 0, 0.01, 0])
    assert codebook([0.0] * 4).prior(1)[0, 0].tolist() == [0.25] * 4, "where none is in use, all are believed alike"


def test_an_action_is_no_evidence_for_a_code_that_is_not_in_use():
    model = codebook([1.0, 0, 1], floor=0.0)
    model.predictor.likelihood = lambda view, actions: torch.tensor([0.1, 0.9, 0.3]).log()
    view = View(None, None, None, torch.ones(1, 2, dtype=torch.bool), torch.zeros(1, 2))
    nothing = torch.full((1, 2), NO_GOAL)
    memory = model.update(model.start(model.prior(1), nothing), view, torch.zeros(1, 2, dtype=torch.int64), nothing)
    assert memory.log_belief.exp()[0, 0].tolist() == pytest.approx([0.25, 0, 0.75])


def test_with_ending_codes_cleaners_and_defectors_have_different_codes():
    game = Snowdrift("msg")
    episodes = played(game, [["cleaner"] * k + ["defector"] * (4 - k) for k in range(1, 4)], 48, seed=1)
    model, random = Codebook(model_spec(game), ending_codes=True), rng()
    for _ in range(8):
        labels = next_achieved(model.learn(episodes, random), episodes.active)
    cleans = (episodes.achieved_goal != NO_GOAL).any(0)
    never = ~rewarded(episodes, game.layout).any(0)  # others stood on a drift when somebody removed one
    assert set(labels[0][cleans].tolist()) == {0}  # the label of the first step
    assert set(labels[0][never].tolist()) == {7}, "the last code is that of who ends with nothing"
    achieved = model.achieved(episodes)
    assert (achieved[cleans] == 0).all()
    assert (achieved[never] == 7).all()
    assert model.prior(1)[0, 0].tolist() == pytest.approx([0.5] + [0] * 6 + [0.5])
    without = Codebook(model_spec(game)).learn(episodes, random)
    assert (without[:, never] == NO_GOAL).all()
    assert (without != NO_GOAL).any(0)[cleans].all()


def test_a_belief_over_codes_has_no_names_and_code_metrics_need_declared_goals():
    model, game = codebook([1.0, 1.0]), stag_hunt()
    assert model.belief_view(torch.tensor([0.25, 0.75]), game.goal_names).names is None
    assert set(model.metrics(game.goal_names)) == {"belief", "codes"}
    assert model.metrics(()) == {}
    assert model.code_vectors().shape == (2, len(game.layout.plane_names) - 2)
