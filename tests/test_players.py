import math
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from number_games import Countdown, NumberGame
from toys import stag_hunt

from omg_lightning.actors import make_player
from omg_lightning.games import MatrixGame, Snowdrift, StagHunt
from omg_lightning.games.grid.paths import UNREACHABLE, distance_to
from omg_lightning.games.grid.scripted import Cleaner, Defector, NearestHare, NearestStag
from omg_lightning.games.scripts import Player, RandomPlayer, best_chance
from omg_lightning.types import ConfigError

UP, DOWN, LEFT, RIGHT, STAY, STAG, HARE = range(7)
GAME, SNOW = stag_hunt(2), Snowdrift(num_players=2)
GAMES = {"random": GAME, "nearest_stag": GAME, "nearest_hare": GAME, "cleaner": SNOW, "defector": SNOW}
SHOVEL = 5
SIGNS = {"@": "self", "2": "other_1", "#": "blocks", "S": "stags", "h": "hares", "$": "self stags", "&": "self hares"}
STEPS = {UP: (-1, 0), DOWN: (1, 0), LEFT: (0, -1), RIGHT: (0, 1)}


def view(picture):
    """One observation `[1, C, h, w]` from a drawing; `@` self, `$` self on a stag, `&` self on a hare."""
    rows = picture.split()
    planes = torch.zeros(1, 5, len(rows), len(rows[0]), dtype=torch.uint8)
    for r, row in enumerate(rows):
        for c, sign in enumerate(row):
            for name in SIGNS.get(sign, "").split():
                planes[0, GAME.layout.plane_names.index(name), r, c] = 1
    return planes


def legal_in(planes):
    """The rules, in plain Python: bool `[B, A]`."""
    legal = torch.zeros(len(planes), 7, dtype=torch.bool)
    legal[:, STAY] = True
    height, width = planes.shape[-2:]
    for b, (own, _, blocks, stags, hares) in enumerate(planes.bool()):
        for r, c in own.nonzero().tolist():
            for action, (dr, dc) in STEPS.items():
                r2, c2 = r + dr, c + dc
                legal[b, action] = 0 <= r2 < height and 0 <= c2 < width and not blocks[r2, c2]
            legal[b, STAG], legal[b, HARE] = stags[r, c], hares[r, c]
    return legal


def ready(player, batch_size=1, seed=0):
    player.reset(batch_size, 0, GAME, torch.Generator().manual_seed(seed))
    return player


def choices(player, picture):
    """The script's distribution as {action: probability}."""
    planes = view(picture)
    row = ready(player).action_probabilities(planes, legal_in(planes))[0]
    return {action: pytest.approx(p) for action, p in enumerate(row.tolist()) if p}


def test_goes_around_a_wall_where_manhattan_would_run_into_it():
    assert choices(NearestStag(), "@#S .#. .#. ...") == {DOWN: 1}
    assert choices(NearestStag(), ".... ###. @#S. ....") == {DOWN: 1}


def test_goes_away_from_the_stag_when_the_only_path_starts_there():
    assert choices(NearestStag(), "..... .###. .@#S. .##.. .....") == {LEFT: 1}


def test_prefers_the_nearer_by_path_to_the_nearer_by_air():
    assert choices(NearestStag(), "S.@#S ...#. ...#. .....") == {LEFT: 1}  # 2 steps against 7; by air both 2
    assert choices(NearestHare(), "h..@#h ....#. ....#. ......") == {LEFT: 1}  # 3 steps against 8; by air 3 and 2


def test_each_script_sees_only_its_own_prey():
    assert choices(NearestStag(), "h@.S") == {RIGHT: 1}
    assert choices(NearestHare(), "h@.S") == {LEFT: 1}
    assert choices(NearestStag(), "S&..") == {LEFT: 1}
    assert choices(NearestHare(), "h$..") == {LEFT: 1}


def snowy(player, picture, seed=0):
    """The script's distribution on a drawing of snow as {action: probability}: `@` self, `S` a drift, `$` both."""
    planes = view(picture)[:, [0, 1, 3]]
    legal = legal_in(view(picture))[:, :6]  # hunting the stag that stands for the drift is action 5, too
    player.reset(1, 0, SNOW, torch.Generator().manual_seed(seed))
    return {a: pytest.approx(p) for a, p in enumerate(player.action_probabilities(planes, legal)[0].tolist()) if p}


def test_a_cleaner_goes_to_the_nearest_drift_and_shovels_it():
    assert snowy(Cleaner(), "S..@S") == {RIGHT: 1}
    assert snowy(Cleaner(), "@.. ... ..S") == {DOWN: 1 / 2, RIGHT: 1 / 2}
    assert snowy(Cleaner(), "2$S") == {SHOVEL: 1}
    assert snowy(Cleaner(), ".@.") == {STAY: 1}


def test_a_defector_plays_anything_legal_but_shovelling():
    assert snowy(Defector(), "$S") == {RIGHT: 1 / 2, STAY: 1 / 2}
    assert snowy(Defector(), "... .$. ...") == dict.fromkeys((UP, DOWN, LEFT, RIGHT, STAY), 1 / 5)
    assert snowy(Defector(), "SS") == {STAY: 1}  # the episode is over: only staying is legal


def test_other_players_are_no_obstacle():
    assert choices(NearestStag(), "@2S") == {RIGHT: 1}


def test_hunts_when_on_the_prey_even_with_another_next_to_it():
    assert choices(NearestStag(), ".S. .$S") == {STAG: 1}
    assert choices(NearestHare(), "h&h") == {HARE: 1}


def test_ties_are_uniform_over_the_moves_that_come_closer():
    assert choices(NearestStag(), "@.. ... ..S") == {DOWN: 1 / 2, RIGHT: 1 / 2}
    assert choices(NearestStag(), ".S. S@S .S.") == {UP: 1 / 4, DOWN: 1 / 4, LEFT: 1 / 4, RIGHT: 1 / 4}
    assert choices(NearestHare(), "h@h .#.") == {LEFT: 1 / 2, RIGHT: 1 / 2}
    assert choices(NearestHare(), "h.@.h ..... h....") == {LEFT: 1 / 2, RIGHT: 1 / 2}  # the third is farther away


def test_stays_where_no_prey_is_left_or_reachable():
    assert choices(NearestStag(), "@.h") == {STAY: 1}
    assert choices(NearestStag(), "@#S") == {STAY: 1}
    assert choices(NearestHare(), "$..") == {STAY: 1}


def test_a_player_that_has_left_stays():
    for player in (RandomPlayer(), NearestStag(), NearestHare()):
        assert choices(player, "S.h ...") == {STAY: 1}
    assert choices(NearestStag(), "S") == {STAY: 1}


def test_act_samples_from_action_probabilities():
    n = 4000
    planes = view(".S. S@S .S.").expand(n, -1, -1, -1)
    counts = torch.bincount(ready(NearestStag(), n).act(planes, legal_in(planes)), minlength=7)
    assert counts[STAY:].sum() == 0
    assert (counts[:STAY] - n / 4).abs().max() < 5 * math.sqrt(n * 3 / 16)  # five standard deviations


def test_random_is_uniform_over_the_legal_actions():
    n = 4000
    planes = view("$# ..").expand(n, -1, -1, -1)
    legal = legal_in(planes)
    assert legal[0].tolist() == [False, True, False, False, True, True, False]
    counts = torch.bincount(ready(RandomPlayer(), n).act(planes, legal), minlength=7)
    assert counts[~legal[0]].sum() == 0
    assert (counts[legal[0]] - n / 3).abs().max() < 5 * math.sqrt(n * 2 / 9)


def test_results_depend_only_on_the_generator():
    planes = view("@.... ..... ....S").expand(50, -1, -1, -1)
    state = torch.random.get_rng_state()
    first, again, other = (ready(NearestStag(), 50, seed).act(planes, legal_in(planes)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.dtype == torch.int64
    assert torch.equal(state, torch.random.get_rng_state()), "the global generator was touched"


@pytest.mark.parametrize("name", GAMES)
def test_rows_are_independent_and_inputs_unchanged(name):
    game = GAMES[name]
    snow = game is SNOW
    player = make_player(name, game)
    player.reset(20, 0, game, torch.Generator())
    generator = torch.Generator().manual_seed(3)
    planes = (torch.rand(20, 5, 4, 6, generator=generator) < 0.15).to(torch.uint8)
    planes[:, 0] = 0
    planes[torch.arange(19), 0, torch.arange(19) % 4, torch.arange(19) % 6] = 1  # the last row's player has left
    legal = legal_in(planes)
    planes, legal = (planes[:, [0, 1, 3]], legal[:, :6]) if snow else (planes, legal)
    before, kept = planes.clone(), legal.clone()
    whole = player.action_probabilities(planes, legal)
    rows = [player.action_probabilities(planes[b : b + 1].float(), legal[b : b + 1]) for b in range(20)]
    assert torch.equal(whole, torch.cat(rows))
    assert torch.equal(planes, before)
    assert torch.equal(legal, kept)
    assert not whole[~legal].any()
    torch.testing.assert_close(whole.sum(-1), torch.ones(20))


def slow_distance(targets, free):
    """Queue-based search, one row, one cell at a time: the reference."""
    height, width = len(free), len(free[0])
    distance = [[UNREACHABLE] * width for _ in range(height)]
    queue = [(r, c) for r in range(height) for c in range(width) if targets[r][c] and free[r][c]]
    for r, c in queue:
        distance[r][c] = 0
    for r, c in queue:  # grows while we read it
        for dr, dc in STEPS.values():
            r2, c2 = r + dr, c + dc
            if 0 <= r2 < height and 0 <= c2 < width and free[r2][c2] and distance[r2][c2] == UNREACHABLE:
                distance[r2][c2] = distance[r][c] + 1
                queue.append((r2, c2))
    return distance


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**31), st.sampled_from([0.1, 0.4, 0.7]))
def test_distances_equal_a_plain_breadth_first_search(height, width, seed, blocked):
    generator = torch.Generator().manual_seed(seed)
    free = torch.rand(3, height, width, generator=generator) > blocked
    targets = torch.rand(3, height, width, generator=generator) < 0.15
    expected = [slow_distance(t, f) for t, f in zip(targets.tolist(), free.tolist(), strict=True)]
    assert distance_to(targets, free).tolist() == expected


def test_a_snake_longer_than_the_grid_is_wide():
    snake = view("@.... ####. ..... .#### ....S")
    assert distance_to(snake[:, 3].bool(), ~snake[:, 2].bool())[0, 0, 0] == 16
    assert choices(NearestStag(), "@.... ####. ..... .#### ....S") == {RIGHT: 1}


def test_scripted_players_follow_the_protocol_and_name_their_goals():
    players = {name: make_player(name, game) for name, game in GAMES.items()}
    assert all(isinstance(player, Player) for player in players.values())
    assert {name: player.goal for name, player in players.items()} == {
        "random": None,
        "nearest_stag": "stag",
        "nearest_hare": "hare",
        "cleaner": None,
        "defector": None,
    }


@pytest.mark.parametrize(
    ("player", "game", "says"),
    [
        (
            NearestStag,
            SNOW,
            r"NearestStag needs stags, hunt_stag, which Snowdrift .* \(views .*drifts.*shovel",
        ),
        (NearestHare, SNOW, "NearestHare needs hares, hunt_hare"),
        (Cleaner, GAME, "Cleaner needs drifts, shovel"),
        (Defector, GAME, "Defector needs shovel"),
        (NearestStag, MatrixGame("stag_hunt"), r"NearestStag needs stags, .* which MatrixGame lacks \(actions"),
        (Cleaner, Countdown(2), r"Cleaner needs drifts, shovel, .*, which Countdown lacks \(actions"),
    ],
)
def test_a_game_without_what_the_script_needs_is_refused(player, game, says):
    with pytest.raises(ConfigError, match=says) as caught:
        player().check(game)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=says):
        player().reset(1, 0, game, torch.Generator())


def play(game, line_up, batch_size=100):
    """Returns of whole episodes, `[B, P]`; every action must be legal."""
    generator = torch.Generator().manual_seed(0)
    state, total = game.reset(batch_size, generator), torch.zeros(batch_size, game.num_players)
    players = [make_player(name, game) for name in line_up]
    for seat, player in enumerate(players):
        player.reset(batch_size, seat, game, generator)
    while game.active(state).any():
        views, legal = game.observe(state), game.legal(state)
        actions = torch.stack([player.act(views[:, i], legal[:, i]) for i, player in enumerate(players)], 1)
        assert legal.gather(2, actions[..., None]).all()
        state, rewards = game.step(state, actions)
        total += rewards
    return total


def test_in_the_real_game_two_cooperators_always_share_the_stag():
    assert (play(StagHunt.preset("2h1s_4x4"), ["nearest_stag", "nearest_stag"]) == 5).all()
    assert (play(StagHunt.preset("2h1s_4x4"), ["nearest_stag", "nearest_hare"]) == torch.tensor([0, 1])).all()


def test_in_the_real_game_with_blocks_each_kind_takes_its_prey():
    total = play(StagHunt.preset("4h1s"), ["nearest_stag", "nearest_hare", "nearest_stag", "nearest_hare"])
    assert (total[:, [0, 2]] == 5).all()
    assert set(total[:, [1, 3]].flatten().tolist()) == {0.5, 1.0}  # two may take the same hare together


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """A user's module, importable as `outside_players`."""
    (tmp_path / "outside_players.py").write_text(
        "import torch\n"
        "class Idler:\n"
        "    def reset(self, batch_size, seat, game, generator):\n        self.noop = game.noop\n"
        "    def act(self, observation, legal):\n        return torch.full((len(legal),), self.noop)\n"
        "class Deaf:\n    def reset(self, *a): ...\n"
        "class Needy(Idler):\n    def __init__(self, x): ...\n"
        "instance = Idler()\n"
    )
    (tmp_path / "broken_players.py").write_text("import a_library_nobody_has\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("outside_players", None)


@pytest.mark.usefixtures("outside")
def test_a_dotted_path_makes_a_users_player():
    player = ready(make_player("outside_players.Idler", GAME))
    planes = view("@.S")
    assert isinstance(player, Player)
    assert player.act(planes, legal_in(planes)).tolist() == [STAY]


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nearest_stags", "unknown player 'nearest_stags' in StagHunt.*nearest_stag, nearest_hare.*dotted path"),
        ("cleaner", "unknown player 'cleaner' in StagHunt"),
        ("", "unknown player ''"),
        (".", "unknown player '.'"),
        (None, "unknown player None"),
        (3, "unknown player 3"),
        ("learner", "'learner' needs trained networks.*data.seats"),
        ("checkpoint:a/b.ckpt", "'checkpoint:a/b.ckpt' needs trained networks"),
        ("no_such_module.Player", "importing 'no_such_module' failed with ModuleNotFoundError"),
        ("broken_players.Player", "importing 'broken_players' failed.*a_library_nobody_has"),
        ("..relative.Player", "failed with TypeError"),
        ("outside_players.Idle", "module 'outside_players' has no 'Idle'"),
        ("outside_players.instance", "is a Idler, not a class"),
        ("outside_players.Deaf", "has no method act"),
        ("outside_players.Needy", r"Needy\(\) failed with TypeError"),
        ("omg_lightning.games.scripts.Player", "failed with TypeError"),
        ("switcher:", "player 'switcher:': write switcher, or switcher:5:12"),
        ("switcher:0", "rising from 1"),
        ("switcher:5:5", "rising from 1"),
        ("switcher:x", "rising from 1"),
        ("switchers", "unknown player 'switchers'.*switcher"),
    ],
)
def test_a_wrong_player_is_one_clear_line(name, says):
    with pytest.raises(ConfigError, match=says) as caught:
        make_player(name, GAME)
    assert "\n" not in str(caught.value)


def test_a_player_that_does_not_know_a_game_is_refused_when_it_is_made():
    with pytest.raises(ConfigError, match="NearestStag needs stags, hunt_stag, which Snowdrift"):
        make_player("omg_lightning.games.grid.scripted.NearestStag", SNOW)


@pytest.mark.parametrize("game", [NumberGame("reals"), NumberGame("bits"), Countdown(2), MatrixGame("stag_hunt")])
def test_the_random_player_plays_every_game_and_only_legal_actions(game):
    player = make_player("random", game)
    player.reset(3, 0, game, torch.Generator().manual_seed(0))
    legal = torch.tensor([[True, False, True], [True, True, True], [False, True, False]])
    expected = torch.tensor([[0.5, 0.0, 0.5], [1 / 3] * 3, [0.0, 1.0, 0.0]])
    torch.testing.assert_close(player.action_probabilities(torch.zeros(3, 2), legal), expected)
    torch.testing.assert_close(best_chance(player, torch.zeros(3, 2), legal), torch.tensor([0.5, 1 / 3, 1.0]))


def test_the_largest_probability_is_0_for_a_player_without_a_known_distribution():
    class Idler:
        def act(self, observation, legal):
            return torch.zeros(len(legal), dtype=torch.int64)

    assert best_chance(Idler(), torch.zeros(2, 1), torch.ones(2, 3, dtype=torch.bool)).tolist() == [0, 0]
