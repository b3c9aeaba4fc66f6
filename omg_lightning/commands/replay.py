"""Show episodes of trained agents, or saved games, in the page of `play`.

    python -m omg_lightning replay runs/lightning_logs/version_0
    python -m omg_lightning replay belief=RUN_A none=RUN_B --html compare.html

Each RUN is a run folder, a checkpoint, a folder of `export`, `zoo:NAME`, or a folder of games that `play` saved.
The page shows several runs side by side, from the same initial states. `--html` writes one file that any browser shows,
without a server.
"""

import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from omg_lightning.agents import LoadedAgent, load_agent
from omg_lightning.commands.parser import CommandParser
from omg_lightning.files import check_writable, named
from omg_lightning.sources import find_agent
from omg_lightning.types import ConfigError
from omg_lightning.viewer import Session, write_html
from omg_lightning.viewer.export import Side, side_of
from omg_lightning.viewer.files import saved_games

AGENT = "agent"


def main(args: Sequence[str]) -> None:
    """Run the command.

    Raises:
        ConfigError: an argument is invalid.
    """
    parser = CommandParser("replay", __doc__)
    parser.add_argument("runs", nargs="+", metavar="[NAME=]RUN")
    parser.add_argument("--episodes", type=int, default=3, help="number of episodes to play; default: %(default)s")
    parser.add_argument(
        "--seats", nargs="+", help="player of each seat: agent, or a scripted player; default: as in training"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the episodes; default: %(default)s")
    parser.add_argument("--html", type=Path, help="HTML file to write instead of serving a page")
    parser.add_argument(
        "--port", type=int, default=8642, help="port of the page; 0 for any free one; default: %(default)s"
    )
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    own = parser.parse_args(list(args))
    if own.episodes < 1:
        raise ConfigError(f"--episodes is {own.episodes}: it must be at least 1")
    if own.html is not None:
        check_writable(own.html, "--html")
    split = [named(word) for word in own.runs]
    shown = [_episodes(name or (path if len(split) > 1 else ""), path, own) for name, path in split]
    games = {side[0].about["name"] for side in shown}
    if len(games) > 1:
        raise ConfigError(f"the runs have different games, {', '.join(sorted(games))}: replay them one by one")
    episodes = list(zip(*shown, strict=False))
    if own.html is not None:
        write_html(episodes, own.html)
        print(f"written to {own.html}")
        return
    _serve(episodes, own.port, not own.no_browser)


def play_episodes(name: str, agent: LoadedAgent, seats: Sequence[str], episodes: int, seed: int) -> list[Side]:
    """Play episodes with an agent in the seats called `agent`; its beliefs carry over between episodes."""
    session, found = Session({AGENT: agent}, seats, seed=seed), []
    for number in range(episodes):
        if number:
            session.new_game()
        session.play_out()
        found.append(side_of(name, session))
    return found


def _episodes(name: str, path: str, own: Any) -> list[Side]:
    """Return the episodes of one run: saved games, or new ones."""
    if Path(path).is_dir() and (saved := saved_games(Path(path))):
        return [side._replace(name=name) for side in saved[: own.episodes]]
    agent = load_agent(path)
    return play_episodes(name, agent, own.seats or seats_of(path, agent), own.episodes, own.seed)


def seats_of(path: str, agent: LoadedAgent) -> list[str]:
    """Return the first line-up of a run's configuration; by default the agent in all seats."""
    alone = [AGENT] * agent.spec.num_players
    stored = find_agent(path)
    config = (stored if stored.is_dir() else stored.parent) / "config.yaml"
    if not config.is_file():
        return alone
    data = (yaml.safe_load(config.read_text()) or {}).get("data", {})
    seats = (data.get("evaluation") or {}).get("seats") or data.get("seats") or alone
    first = seats[0] if isinstance(seats[0], list) else seats
    found = [AGENT if word == "learner" else word for word in first]
    return alone if any(word == "past" or word.startswith("checkpoint:") for word in found) else found


def _serve(episodes: Sequence[Sequence[Side]], port: int, browser: bool) -> None:
    """Serve the page with these episodes until interrupted."""
    from omg_lightning.commands.play import web_server

    server = web_server()
    listener = server.listen(port)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    print(f"open {address} to watch; Ctrl-C stops the server", flush=True)
    if browser:
        webbrowser.open(address)
    server.show(episodes, listener)
