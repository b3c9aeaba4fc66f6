"""Games in the viewer: people, agents and scripts at one board; undo, saved games, the page as one file, the server."""

import json
import re
import threading
from contextlib import contextmanager
from http.client import HTTPConnection

import pytest
import torch
from toys import play_with, stag_hunt, tiny_agent

from omg_lightning.agents import LoadedAgent
from omg_lightning.games import MatrixGame
from omg_lightning.types import NO_GOAL, ConfigError
from omg_lightning.viewer import HUMAN, Session, write_html
from omg_lightning.viewer.export import side_of
from omg_lightning.viewer.files import save_game, saved_games
from omg_lightning.viewer.recorded import recorded_side

GAME = stag_hunt()
UP, DOWN, LEFT, RIGHT, STAY = range(5)


def agent(game=GAME, opponent="Declared"):
    return LoadedAgent(tiny_agent(game, opponent, search_args={"trees": 1, "simulations": 2}))


def session(seats=(HUMAN, "agent"), game=GAME, seed=0, **kwargs):
    return Session({"agent": agent(game, **kwargs)}, seats, game, seed)


def plain(frames):
    """Frames without pictures, as JSON has them."""
    return [
        json.loads(json.dumps({key: value for key, value in frame.items() if key != "picture"})) for frame in frames
    ]


def test_a_person_plays_beside_an_agent_and_sees_what_it_believes():
    played = session()
    assert played.waits == [0]
    frame = played.frames[0]
    assert set(frame["minds"]) == {1}, "people's minds are not known"
    mind = frame["minds"][1]
    assert mind["belief"] == {"hunter_0": {"stag": 0.5, "hare": 0.5}}
    assert sum(mind["predict"]["hunter_0"].values()) == pytest.approx(1, abs=1e-3)
    assert sum(visits for visits, _, _ in mind["search"].values()) == pytest.approx(1, abs=1e-3)
    assert mind["action"] in GAME.action_names
    before = played.game.observe(played.state)
    played.play({0: STAY})
    assert played.frames[1]["played"] == {0: "stay", 1: mind["action"]}, "the agent does what it said"
    assert played.frames[1]["step"] == 1
    assert not torch.equal(played.game.observe(played.state), before) or mind["action"] == "stay"


def test_the_persons_actions_change_an_agents_belief():
    played = session(seed=1)
    model = played._minds[1].module.opponent
    odds = torch.tensor([[0.9, 0.1]]).log()  # every action is likelier for a stag hunter
    model.predictor.likelihood = lambda view, actions: odds.expand(*actions.shape, 2)
    played.play({0: STAY})
    assert played.frames[1]["minds"][1]["belief"]["hunter_0"]["stag"] == pytest.approx(0.9, abs=1e-3)


def test_frames_have_positions_and_legal_actions():
    played = session((HUMAN, HUMAN))
    frame, planes = played.frames[0], GAME.observe(played.state)[0, 0]
    for seat in (0, 1):
        row, column = frame["cells"][seat]
        assert planes[seat, row, column] == 1
    assert frame["legal"] == GAME.legal(played.state)[0].tolist()
    assert frame["picture"].startswith("data:image/png;base64,")
    assert frame["minds"] == {}
    assert played.waits == [0, 1]


def test_play_out_ends_a_game_of_agents_and_scripts():
    played = session(("agent", "nearest_hare"))
    played.play_out()
    assert played.over
    assert played.frames[-1]["over"]
    assert played.frames[-1]["minds"] == {}
    with pytest.raises(ConfigError, match="the game has ended: start a new one"):
        played.play({})


def test_frames_are_json_after_a_player_has_left():
    played = session((HUMAN, "agent", "nearest_hare"), game=stag_hunt(3), seed=1)
    while played.frames[-1]["active"][2]:
        played.play({0: STAY})
    chances = played.frames[-1]["minds"][1]["predict"]["hunter_2"]
    assert set(chances.values()) == {0.0}
    json.dumps(played.frames, allow_nan=False)  # the page cannot read NaN


@pytest.mark.slow
def test_the_same_seed_gives_the_same_games_and_another_game_another_start():
    one, two = (session(("agent", "random"), seed=3) for _ in range(2))
    for each in (one, two):
        each.play_out()
    assert plain(one.frames) == plain(two.frames)
    one.new_game()
    assert one.frames[0]["cells"] != two.frames[0]["cells"]


@pytest.mark.parametrize("back", [0, 1, 3])
def test_undo_restores_the_game_exactly(back):
    played, straight = (session((HUMAN, "agent"), seed=1) for _ in range(2))
    moves = [LEFT, DOWN, STAY]
    for action in moves:
        played.play({0: action})
    played.rewind(back)
    assert len(played.frames) == back + 1
    for action in moves[:back]:
        straight.play({0: action})
    for action in (RIGHT, UP):
        for each in (played, straight):
            if not each.over:
                each.play({0: action})
    assert plain(played.frames) == plain(straight.frames)


def test_scripts_act_after_an_undo_as_they_did_before():
    played = session((HUMAN, "random"), seed=5)
    for _ in range(4):
        played.play({0: STAY})
    before = plain(played.frames)
    played.rewind(1)
    for _ in range(3):
        played.play({0: STAY})
    assert plain(played.frames) == before


@pytest.mark.slow
def test_agents_keep_beliefs_between_games_until_players_change():
    played = Session({"agent": agent()}, ["agent", "nearest_hare"], GAME, 0)
    for _ in range(3):
        played.play_out()
        played.new_game()
    first = played.frames[0]["minds"][0]["belief"]["hunter_1"]
    assert first["hare"] > 0.5, "hares were taken in three games"
    played.take_seats(["agent", "nearest_stag"])
    assert played.frames[0]["minds"][0]["belief"]["hunter_1"] == {"stag": 0.5, "hare": 0.5}


@pytest.mark.parametrize(
    ("do", "says"),
    [
        (lambda s: s.take_seats([HUMAN]), "got 1 players, but StagHunt has 2 seats: give one for each"),
        (lambda s: s.take_seats([HUMAN, "wolf"]), "unknown player 'wolf'"),
        (lambda s: s.play({}), "seat 0 got the action None: expected 0 to 6"),
        (lambda s: s.play({0: 99}), "seat 0 got the action 99: expected 0 to 6"),
        (lambda s: s.rewind(5), "got step 5: expected 0 to 0"),
    ],
)
def test_mistakes_change_nothing_and_are_one_line(do, says):
    played = session()
    before = plain(played.frames)
    with pytest.raises(ConfigError, match=re.escape(says)):
        do(played)
    assert plain(played.frames) == before


def test_an_illegal_action_counts_as_noop():
    played = session((HUMAN, HUMAN))
    legal = played.frames[0]["legal"][0]
    played.play({0: legal.index(False), 1: STAY})
    assert played.frames[1]["played"][0] == "stay"


def test_games_off_the_grid_have_no_picture():
    played = session((HUMAN, "tit_for_tat"), MatrixGame("prisoners_dilemma", max_steps=3))
    played.play({0: 1})
    played.play({0: 0})
    assert [frame["played"] for frame in played.frames[1:]] == [
        {0: "defect", 1: "cooperate"},
        {0: "cooperate", 1: "defect"},
    ]
    assert "picture" not in played.frames[0]
    assert played.describe()["grid"] is None


def test_a_saved_game_has_the_format_of_the_buffer():
    played = session(("agent", "nearest_hare"))
    played.play_out()
    episodes = played.episodes()
    steps = len(played.frames) - 1
    assert episodes.active.shape == (steps, 1, 2)
    assert episodes.reward.sum(0)[0].tolist() == pytest.approx(played.frames[-1]["returns"])
    assert (episodes.terminated | episodes.truncated).sum(0).tolist() == [[1, 1]], "each seat ends once"
    hare = GAME.goal_names.index("hare")
    there = episodes.active[..., 1]
    assert (episodes.true_goal[..., 1][there] == hare).all()
    assert not (episodes.true_goal[..., 0] != NO_GOAL).any(), "the goals of agents are unknown"
    assert not episodes.learner.any()


@pytest.mark.slow
def test_saved_games_are_numbered_and_can_be_read_again(tmp_path):
    played = session(("agent", "random"))
    for _ in range(2):
        played.play_out()
        path = save_game(played, tmp_path)
        last = plain(played.frames)
        played.new_game()
    assert [file.name for file in sorted(tmp_path.iterdir())] == [
        "episode_0001.json", "episode_0001.pt", "episode_0002.json", "episode_0002.pt",
    ]  # fmt: skip
    found = torch.load(path, weights_only=True)
    assert found["episodes"]["action"].shape[1:] == (1, 2)
    games = saved_games(tmp_path)
    assert plain(games[1].frames) == last
    (tmp_path / "episode_0001.json").write_text("{")
    with pytest.raises(ConfigError, match=r"episode_0001\.json is not a game saved by `play`"):
        saved_games(tmp_path)


def test_the_page_as_one_file_holds_the_episodes_and_asks_for_nothing_else(tmp_path):
    played = session(("agent", "random"))
    played.play_out()
    sides = [side_of(name, played) for name in ("one </script>", "two")]
    write_html([sides], tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text()
    data = re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.S).group(1)
    shown = json.loads(data)["episodes"][0]
    assert [side["name"] for side in shown] == ["one </script>", "two"]
    assert plain(shown[0]["frames"]) == plain(played.frames)
    assert not re.search(r'(src|href)="(?!data:)|@import|url\(', text.replace(data, ""))


def test_a_recorded_episode_shows_what_the_learner_believed_and_expected():
    learner = tiny_agent(GAME, "Declared", search_args={"trees": 1, "simulations": 2})
    episodes = play_with(learner, GAME, ["learner", "random"], 3)
    side = recorded_side("x", episodes, 1, GAME, learner.opponent)
    steps = int(episodes.active[:, 1].any(-1).sum())
    assert [frame["step"] for frame in side.frames] == list(range(steps + 1))
    assert side.frames[-1]["over"]
    assert side.frames[-1]["returns"] == pytest.approx(episodes.reward[:, 1].sum(0).tolist())
    assert side.about["seats"] == ["learner", "player"]
    for t, frame in enumerate(side.frames[:-1]):
        planes = episodes.observation[t, 1, 0]
        assert all(cell is None or planes[seat, cell[0], cell[1]] for seat, cell in enumerate(frame["cells"]))
        if not episodes.learner[t, 1, 0]:
            assert frame["minds"] == {}
            continue
        mind = frame["minds"][0]
        assert mind["action"] == GAME.action_names[int(episodes.action[t, 1, 0])]
        if episodes.active[t, 1, 1]:
            assert list(mind["belief"]["hunter_1"].values()) == pytest.approx(episodes.goal[t, 1, 1].tolist(), abs=1e-4)
            assert sum(mind["predict"]["hunter_1"].values()) == pytest.approx(1, abs=1e-3)
        else:
            assert "hunter_1" not in mind["belief"]


# The server --------------------------------------------------------------------------------------------------------


class Served:
    """The page's server in a thread, on a free port."""

    def __init__(self):
        import uvicorn

        from omg_lightning.viewer.server import Tabs, application, listen

        self.ended = []
        self.tabs = Tabs(session, lambda left: self.ended.append(len(left.moved)) or "kept")
        self.listener = listen(0)
        self.port = self.listener.getsockname()[1]
        app = application(self.port, "page", self.tabs)
        self.server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        self.thread = threading.Thread(target=self.server.run, args=([self.listener],), daemon=True)
        self.thread.start()

    @contextmanager
    def tab(self, name, origin=None):
        """A socket as the page opens it; `ask` sends a message and returns the answer."""
        from websockets.sync.client import connect

        origin = f"http://127.0.0.1:{self.port}" if origin is None else origin
        with connect(f"ws://127.0.0.1:{self.port}/play?tab={name}", origin=origin or None) as socket:

            def ask(message):
                socket.send(message if isinstance(message, str) else json.dumps(message))
                return json.loads(socket.recv(20))

            yield json.loads(socket.recv(20)), ask

    def get(self, host):
        """The page, asked for under a name of the host."""
        asked = HTTPConnection("127.0.0.1", self.port, timeout=20)
        asked.request("GET", "/", headers={"Host": host})
        return asked.getresponse()


@pytest.fixture(scope="module")
def served():
    for package in ("fastapi", "uvicorn", "websockets"):
        pytest.importorskip(package, reason=f"needs {package}, of the extra play")
    made = Served()
    yield made
    made.server.should_exit = True
    made.thread.join(10)


def test_a_tab_plays_over_its_socket(served):
    served.ended.clear()
    with served.tab("a") as (hello, ask):
        assert hello["about"]["seats"] == [HUMAN, "agent"]
        found = ask({"do": "act", "seat": 0, "action": STAY})
        assert found["from"] == 1
        assert found["frames"][0]["step"] == 1
        assert plain(ask({"do": "rewind", "step": 0})["frames"]) == plain(hello["frames"])
        assert ask({"do": "seats", "seats": ["nearest_hare", "agent"]})["about"]["seats"] == ["nearest_hare", "agent"]
        for _ in range(GAME.max_steps):
            found = ask({"do": "step"})
            if found["frames"][-1]["over"]:
                break
        assert found["note"] == "kept"
        assert len(ask({"do": "new"})["frames"]) == 1
        assert HUMAN not in ask({"do": "partners"})["about"]["seats"]
    assert len(served.ended) == 1, "a game is kept once"


def test_two_tabs_have_games_of_their_own_and_a_closed_one_can_come_back(served):
    with served.tab("b") as (_, ask), served.tab("c") as (other, _):
        ask({"do": "act", "seat": 0, "action": STAY})
        assert len(other["frames"]) == 1
    with served.tab("b") as (again, _):
        assert len(again["frames"]) == 2
    served.ended.clear()
    served.tabs.close()
    assert served.ended == [1], "a game that was begun is kept at the end"


NONSENSE = [
    "", "nonsense", "[]", "3", "{}", '{"do": "fly"}', '{"do": "act"}', '{"do": "act", "seat": "0", "action": []}',
    '{"do": "rewind", "step": "x"}', '{"do": "rewind", "step": true}', '{"do": "seats", "seats": 3}',
    '{"do": "seats", "seats": ["os.system", "agent"]}', "[" * 9_000, "x" * 20_000,
]  # fmt: skip


def test_an_invalid_message_is_answered_in_one_line_and_keeps_the_game(served):
    with served.tab("d") as (_, ask):
        for text in NONSENSE:
            answer = ask(text)
            assert set(answer) == {"error"}
            assert "\n" not in answer["error"]
        assert ask({"do": "act", "seat": 0, "action": STAY})["frames"]


@pytest.mark.parametrize("origin", ["", "http://evil.example", "http://127.0.0.1:1"])
def test_other_origins_are_refused(served, origin):
    from websockets.exceptions import InvalidStatus

    with pytest.raises(InvalidStatus, match="403"), served.tab("e", origin):
        pass


def test_other_hosts_are_refused_and_the_page_may_load_nothing(served):
    page = served.get(f"localhost:{served.port}")
    assert (page.status, page.read()) == (200, b"page")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert served.get("evil.example").status == 400


def test_a_port_that_is_taken_is_one_line(served):
    from omg_lightning.viewer.server import listen

    for port in (served.port, 99_999):
        with pytest.raises(ConfigError, match=f"--port {port} cannot be used .*choose another one"):
            listen(port)
