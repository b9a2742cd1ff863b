"""An HTTP server in a thread of its own, for stand-ins of programs that real processes ask."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

START_S = 10.0


class Server:
    """One running server."""

    def __init__(self, app: web.Application, port: int = 0) -> None:
        self._app, self._port = app, port
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run)

    @property
    def url(self) -> str:
        """Return where it answers."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def port(self) -> int:
        """Return its port."""
        return self._port

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()
        assert self._ready.wait(START_S)

    def stop(self) -> None:
        """Answer no more; connections are closed."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        runner = web.AppRunner(self._app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        self._port = runner.addresses[0][1]
        self._ready.set()
        await self._stopping.wait()
        await runner.cleanup()


@contextmanager
def serving(app: web.Application, port: int = 0) -> Iterator[Server]:
    """Serve *app* until the block ends; port 0 is any free one."""
    server = Server(app, port)
    server.start()
    try:
        yield server
    finally:
        server.stop()
