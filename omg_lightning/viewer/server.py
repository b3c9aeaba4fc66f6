"""The web server of the page: one session per tab, for this machine only."""

import asyncio
import json
import random
import socket
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import HTMLResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

from omg_lightning.interrupts import Interrupted
from omg_lightning.types import ConfigError
from omg_lightning.viewer.export import PAGE, Side, html
from omg_lightning.viewer.session import HUMAN, Session

HOST = "127.0.0.1"
_HOSTS = (HOST, "localhost")
_TABS = 8  # number of sessions; the least recently used one is dropped
_LONGEST = 10_000  # characters of a message
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'"


class Tabs:
    """The sessions of all tabs, and the handling of their messages.

    Args:
        make: makes a session.
        ended: called with a session whose game has ended or was left, before the next game starts.
    """

    def __init__(self, make: Callable[[], Session], ended: Callable[[Session], str | None]) -> None:
        self._make, self._ended = make, ended
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._saved: dict[int, int] = {}  # games already passed to `ended`, by the session's id

    def session(self, tab: str) -> Session:
        """Return the session of a tab; a new one if it has none."""
        if tab not in self._sessions:
            self._sessions[tab] = self._make()
            while len(self._sessions) > _TABS:
                _, left = self._sessions.popitem(last=False)
                self._end(left)
        self._sessions.move_to_end(tab)
        return self._sessions[tab]

    def close(self) -> None:
        """End all games."""
        for session in self._sessions.values():
            self._end(session)

    def hello(self, tab: str) -> dict[str, Any]:
        """Return the initial state of a tab."""
        session = self.session(tab)
        return {"about": session.describe(), "frames": session.frames}

    def answer(self, tab: str, text: str) -> dict[str, Any]:
        """Execute a message, and return the answer; an invalid message changes nothing."""
        try:
            message = json.loads(text) if len(text) <= _LONGEST else None
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            return {"error": "the page sent an invalid message: reload the page"}
        try:
            return self._do(self.session(tab), message)
        except ConfigError as error:
            return {"error": str(error)}

    def _do(self, session: Session, message: dict[str, Any]) -> dict[str, Any]:
        before, what = len(session.frames), message.get("do")
        if what in ("act", "step"):
            seat, action = message.get("seat"), message.get("action")
            known = type(seat) is int and type(action) is int
            session.play({seat: action} if known else {})  # type: ignore[dict-item]
            return {
                "from": before,
                "frames": session.frames[before:],
                "note": self._end(session) if session.over else None,
            }
        if what == "rewind":
            step = message.get("step")
            if type(step) is not int:
                raise ConfigError(f"got step {step!r}: expected the number of a step")
            session.rewind(step)
            self._saved.pop(id(session), None)  # the game may end again
            return {"from": step, "frames": session.frames[step:]}
        if what not in ("new", "partners", "seats"):
            raise ConfigError("the page sent an invalid message: reload the page")
        note = self._end(session)
        if what == "new":
            session.new_game()
        elif what == "partners":
            choices = [name for name in session.choices if name != HUMAN]
            session.take_seats([name if name == HUMAN else random.choice(choices) for name in session.seats])
        else:
            seats = message.get("seats")
            if not isinstance(seats, list) or not all(isinstance(name, str) for name in seats):
                raise ConfigError("the page sent an invalid message: reload the page")
            session.take_seats(seats)
        return {"about": session.describe(), "frames": session.frames, "note": note}

    def _end(self, session: Session) -> str | None:
        """Pass a game that has ended to `ended`, once."""
        if not session.moved or self._saved.get(id(session)) == session.games:
            return None
        self._saved[id(session)] = session.games
        return self._ended(session)


def application(port: int, content: str, tabs: Tabs | None = None) -> FastAPI:
    """Return the web application.

    Args:
        port: at which it is served.
        content: HTML of the page.
        tabs: answers the web sockets, one per tab. Only pages of this server may open one.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(_HOSTS))
    origins = {f"http://{host}:{port}" for host in _HOSTS}
    one_at_a_time = asyncio.Lock()

    @app.get("/")
    def page() -> HTMLResponse:
        headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-store", "X-Frame-Options": "DENY"}
        return HTMLResponse(content, headers=headers)

    async def answer(socket: WebSocket, do: Callable[..., dict[str, Any]], *args: str) -> None:
        async with one_at_a_time:
            found = await asyncio.to_thread(do, *args)
        await socket.send_text(json.dumps(found))

    @app.websocket("/play")
    async def play(socket: WebSocket) -> None:
        if tabs is None or socket.headers.get("origin") not in origins:
            await socket.close(1008)
            return
        await socket.accept()
        tab = socket.query_params.get("tab", "")[:64]
        try:
            await answer(socket, tabs.hello, tab)
            while True:
                await answer(socket, tabs.answer, tab, await socket.receive_text())
        except (WebSocketDisconnect, KeyError):  # a closed tab, or bytes instead of text
            return

    return app


def listen(port: int) -> socket.socket:
    """Return a socket of this machine's loopback address.

    Raises:
        ConfigError: the port cannot be used.
    """
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((HOST, port))
        found.listen()  # so that connections wait until the server has started
    except (OSError, OverflowError) as error:
        found.close()
        raise ConfigError(f"--port {port} cannot be used ({error}): choose another one, or 0 for any") from error
    return found


def serve(tabs: Tabs, listener: socket.socket) -> None:
    """Serve the page for playing until the program is interrupted; then all games end."""
    try:
        _run(application(listener.getsockname()[1], PAGE.read_text(encoding="utf-8"), tabs), listener)
    finally:
        tabs.close()


def show(episodes: Sequence[Sequence[Side]], listener: socket.socket) -> None:
    """Serve the page with these episodes until the program is interrupted."""
    _run(application(listener.getsockname()[1], html(episodes)), listener)


def _run(app: FastAPI, listener: socket.socket) -> None:
    """Serve until a signal comes."""
    config = uvicorn.Config(app, log_level="warning", ws_max_size=4 * _LONGEST, lifespan="off")
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except Interrupted as stop:
        stop.add_note("the page is closed")
        raise
