"""A double of Incus' API: what the panel asks of a server with virtual machines, their power, and their screens. It has no
images, and makes nothing: the real server's containers are tested against a real LXD (``tests/lxd.py``).

Source: the vendor's REST API 1.0, and ``cmd/incusd/instance_console.go`` for who may open a screen and what ends it.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from typing import Any

from quart import Quart, Response, jsonify, request, websocket

from tests.doubles.incus_world import Console, Incus, RefusedError


def incus(world: Incus) -> Quart:
    """The server."""
    app = Quart("incus")

    @app.errorhandler(RefusedError)
    async def refuse(error: RefusedError) -> tuple[Response, int]:
        return jsonify(type="error", error=str(error), error_code=error.status), error.status

    def found(given: Any) -> dict[str, Any]:
        return {"type": "sync", "status": "Success", "status_code": 200, "metadata": given}

    def begun(number: str, told: dict[str, Any]) -> tuple[dict[str, Any], int]:
        operation = {"id": number, "status": "Running", "status_code": 103, "metadata": told}
        return {
            "type": "async",
            "status_code": 100,
            "operation": f"/1.0/operations/{number}",
            "metadata": operation,
        }, 202

    @app.get("/1.0")
    async def server() -> dict[str, Any]:
        environment = {
            "server": "incus",
            "server_version": "6.0.4",
            "server_name": "double",
            "driver": "lxc | qemu",
            "addresses": [],
        }
        return found({"auth": "trusted", "environment": environment})

    @app.get("/1.0/projects/default")
    @app.get("/1.0/profiles/default")
    async def default() -> dict[str, Any]:
        return found({"name": "default", "config": {}, "devices": {}})

    @app.get("/1.0/networks")
    @app.get("/1.0/images")
    async def none() -> dict[str, Any]:
        return found([])

    @app.get("/1.0/storage-pools")
    async def pools() -> dict[str, Any]:
        return found([{"name": "default", "driver": "zfs"}])

    @app.get("/1.0/storage-pools/default/resources")
    async def space() -> dict[str, Any]:
        return found({"space": {"total": 64 * 2**30, "used": 2**30}})

    @app.get("/1.0/resources")
    async def resources() -> dict[str, Any]:
        return found({"cpu": {"total": 4}, "memory": {"total": 8 * 2**30, "used": 2**30}})

    @app.get("/1.0/instances")
    async def instances() -> dict[str, Any]:
        return found([one.shown() for one in world.instances.values()])

    @app.get("/1.0/instances/<name>")
    async def instance(name: str) -> dict[str, Any]:
        return found(world.find(name).shown())

    @app.get("/1.0/instances/<name>/state")
    async def state(name: str) -> dict[str, Any]:
        return found(world.find(name).state())

    @app.get("/1.0/instances/<name>/files")
    async def files(name: str) -> Response:
        world.find(name)
        return Response(b"", mimetype="application/octet-stream")

    @app.put("/1.0/instances/<name>/state")
    async def power(name: str) -> tuple[dict[str, Any], int]:
        one, action = world.find(name), (await request.get_json())["action"]
        if action not in {"start", "stop"}:
            raise RefusedError(400, f"Unknown state change action {action!r}")
        await asyncio.to_thread(one.start if action == "start" else one.stop)
        number = secrets.token_hex(8)
        world.done.add(number)
        return begun(number, {})

    @app.get("/1.0/operations/<number>/wait")
    async def wait(number: str) -> dict[str, Any]:
        if number not in world.done:
            raise RefusedError(404, "Operation not found")
        return found({"id": number, "status": "Success", "status_code": 200, "metadata": {}})

    @app.post("/1.0/instances/<name>/console")
    async def console(name: str) -> tuple[dict[str, Any], int]:
        body = await request.get_json()
        opened = world.open_console(world.find(name), body.get("type", "console"), force=bool(body.get("force")))
        return begun(opened.number, {"fds": opened.secrets})

    @app.websocket("/1.0/operations/<number>/websocket")
    async def dial(number: str) -> Any:
        opened, secret = world.consoles.get(number), websocket.args.get("secret", "")
        if opened is None:
            return "", 404
        if secret == opened.secrets["control"]:
            await control(world, opened)
        elif secret == opened.secrets["0"]:
            await carry(opened)
        else:
            return "", 403
        return None

    @app.websocket("/1.0/events")
    async def events() -> None:
        await websocket.accept()
        await asyncio.Event().wait()

    return app


async def control(world: Incus, opened: Console) -> None:
    """Its end is the console's, and the console's is its own."""
    await websocket.accept()
    leaving = {asyncio.ensure_future(opened.ended.wait()), asyncio.ensure_future(never(websocket.receive))}
    try:
        await asyncio.wait(leaving, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in leaving:
            each.cancel()
        world.close_console(opened)


async def never(receive: Any) -> None:
    """Nothing that is said here counts."""
    while True:
        await receive()


async def carry(opened: Console) -> None:
    """A data socket: one more connection to QEMU's SPICE server."""
    await websocket.accept()
    opened.channels += 1
    try:
        reader, writer = await asyncio.open_unix_connection(str(opened.of.spice))
    except OSError:
        return

    async def down() -> None:
        while data := await reader.read(128 * 1024):
            await websocket.send(data)

    async def up() -> None:
        while True:
            writer.write(bytes(await websocket.receive()))
            await writer.drain()

    ways = {asyncio.ensure_future(way) for way in (down(), up(), opened.ended.wait())}
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        with suppress(OSError):
            writer.transport.abort()
