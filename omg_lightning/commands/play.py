"""Play with trained agents in the browser, and see their beliefs.

    python -m omg_lightning play --agent zoo:4h1s_6x6 --seat 0

Opens a page on this machine. You play `--seat`, and the agent plays all other seats; you can change both in the page,
and also choose the game's scripted players. For each agent the page shows its belief about the goals of all other
players, you included, its prediction of their next actions, and the result of its search. Each game is saved, see
`--folder`.
"""

import webbrowser
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from omg_lightning.agents import LoadedAgent, load_agent
from omg_lightning.commands.parser import CommandParser
from omg_lightning.files import check_writable, named
from omg_lightning.types import ConfigError
from omg_lightning.viewer import HUMAN, Session
from omg_lightning.viewer.files import save_game

PORT = 8642


def main(args: Sequence[str]) -> None:
    """Run the command until it is interrupted.

    Raises:
        ConfigError: an argument is invalid, or the extra `play` is not installed.
    """
    parser = CommandParser("play", __doc__)
    parser.add_argument(
        "--agent", action="append", required=True, metavar="[NAME=]SOURCE",
        help="a checkpoint, a run folder, a folder of export, or zoo:NAME; repeat it for several agents",
    )  # fmt: skip
    parser.add_argument("--seat", default="0", help="your seat, or none to only watch; default: %(default)s")
    parser.add_argument("--others", nargs="+", help="players of the other seats, in order; default: the first agent")
    parser.add_argument(
        "--port", type=int, default=PORT, help="port of the page; 0 for any free one; default: %(default)s"
    )
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    parser.add_argument(
        "--folder", type=Path, default=Path("played"), help="folder of the saved games; default: %(default)s"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of games and players; default: %(default)s")
    own = parser.parse_args(list(args))
    server = web_server()
    agents = named_agents(own.agent)
    seats = _seats(own.seat, own.others, agents)
    check_writable(own.folder / "episode_0000.json", "--folder")

    def ended(session: Session) -> str | None:
        try:
            return f"saved as {save_game(session, own.folder)}"
        except OSError as error:
            return f"the game could not be saved: {error}"

    Session(agents, seats, seed=own.seed)  # raise errors now, and not in the page
    listener = server.listen(own.port)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    print(f"open {address} to play; Ctrl-C stops the server", flush=True)
    if not own.no_browser:
        webbrowser.open(address)
    server.serve(server.Tabs(lambda: Session(agents, seats, seed=own.seed), ended), listener)


def named_agents(sources: Sequence[str]) -> dict[str, LoadedAgent]:
    """Load agents written as SOURCE or NAME=SOURCE; the first without a name is called `agent`."""
    found: dict[str, LoadedAgent] = {}
    for source in sources:
        name, path = named(source)
        name = name or ("agent" if "agent" not in found else f"agent_{len(found) + 1}")
        if name in found or name == HUMAN:
            raise ConfigError(f"--agent has the name {name!r} twice, or the name reserved for you: give another name")
        found[name] = load_agent(path)
    return found


def _seats(seat: str, others: Sequence[str] | None, agents: dict[str, LoadedAgent]) -> list[str]:
    """Return the name of the player in each seat."""
    first = next(iter(agents.values()))
    names = range(first.spec.num_players)
    free = len(names) - (seat != "none")
    placed = [next(iter(agents))] * free if others is None else list(others)
    if len(placed) != free:
        raise ConfigError(f"--others names {len(placed)} players, but {free} other seats exist: give one name for each")
    if seat != "none":
        if seat not in map(str, range(len(names))):
            raise ConfigError(f"--seat is {seat}: expected 0 to {len(names) - 1}, or none to only watch")
        placed.insert(int(seat), HUMAN)
    return placed


def web_server() -> ModuleType:
    """Import the web server, which needs the extra `play`."""
    try:
        from omg_lightning.viewer import server
    except ImportError as error:
        raise ConfigError(
            f"the page needs the package {error.name}, which is not installed: pip install 'omg-lightning[play]'"
        ) from error
    return server
