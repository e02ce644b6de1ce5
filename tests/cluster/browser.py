"""A browser behind a balancer that gives each request to another process."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import Any

import httpx2
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.process import PanelProcess

CSRF = re.compile(r'<meta name="csrf-token" content="([^"]*)"')


class Browser:
    """Keeps its cookies, whoever answers."""

    def __init__(self, panels: Sequence[PanelProcess]) -> None:
        self._turns = cycle(panels)
        self._client = httpx2.Client(timeout=30)

    def close(self) -> None:
        """Forget everything."""
        self._client.close()

    def login(self, token: str) -> None:
        """With the access token."""
        answer = self.post("/login", token=token)
        assert answer.status_code == 303, answer.text

    def get(self, path: str) -> httpx2.Response:
        """From whose turn it is."""
        return self._client.get(next(self._turns).url + path)

    def post(self, path: str, **fields: str) -> httpx2.Response:
        """A form, to whose turn it is."""
        return self._client.post(next(self._turns).url + path, data=fields)

    def csrf(self, path: str = "/tasks") -> str:
        """The token of a page."""
        found = CSRF.search(self.get(path).text)
        assert found
        return found[1]

    @contextmanager
    def stream(self, panel: PanelProcess, topics: str) -> Iterator[Iterator[str]]:
        """The lines of a live page's events."""
        with self._client.stream("GET", f"{panel.url}/events", params={"topics": topics}) as answer:
            assert answer.status_code == 200
            yield answer.iter_lines()


@contextmanager
def console(panel: PanelProcess, path: str, ticket: str) -> Iterator[ClientConnection]:
    """The websocket of a console."""
    place = panel.url.removeprefix("http://")
    protocols: Any = ["binary", f"ticket.{ticket}"]
    origin: Any = panel.url
    with connect(f"ws://{place}{path}/socket", subprotocols=protocols, origin=origin) as socket:
        yield socket


def shows(socket: ClientConnection) -> bool:
    """Whether it greets as a screen does; else it is closed."""
    try:
        return socket.recv(timeout=5)[:3] == b"RFB"
    except ConnectionClosed:
        return False


def socket_ticket(browser: Browser, path: str) -> str:
    """A ticket for the websocket of a console's page."""
    answer = browser.post(f"{path}/ticket", csrf_token=browser.csrf())
    assert answer.status_code == 200, answer.text
    return str(answer.json()["data"]["ticket"])
