"""A TCP proxy in front of a server, which a test takes away and brings back, lets lose an answer, or has speak TLS."""

import asyncio
import contextlib
import ssl

from support.servers_mongo import free_port

_CHUNK_BYTES = 65_536


class FlakyProxy:
    """Listens on `port` of 127.0.0.1, with TLS if there is a context, and passes everything on, both ways."""

    def __init__(self, target_port: int, tls: ssl.SSLContext | None = None) -> None:
        self.port = free_port()
        self.lost_answers = 0
        self._target_port = target_port
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._lose_answer_after: bytes | None = None

    async def up(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls)

    async def down(self) -> None:
        """Refuse connections, and break those that are open."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def away(self, seconds: float) -> None:
        """Be down for a while."""
        await self.down()
        await asyncio.sleep(seconds)
        await self.up()

    def lose_answer_to(self, request_part: bytes) -> None:
        """Break the connection when the server answers the next request that contains these bytes."""
        self._lose_answer_after = request_part

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(inner_writer)
        loses = asyncio.Event()
        with contextlib.suppress(asyncio.CancelledError):  # the test ends
            await asyncio.gather(
                self._pass_on(reader, inner_writer, loses), self._pass_back(inner_reader, writer, loses)
            )
        for each in (writer, inner_writer):
            each.transport.abort()
            self._writers.discard(each)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, loses: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(_CHUNK_BYTES):
                if self._lose_answer_after is not None and self._lose_answer_after in chunk:
                    self._lose_answer_after = None
                    loses.set()
                writer.write(chunk)
                await writer.drain()
            writer.transport.abort()

    async def _pass_back(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, loses: asyncio.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(_CHUNK_BYTES):
                if loses.is_set():
                    self.lost_answers += 1
                    break
                writer.write(chunk)
                await writer.drain()
            writer.transport.abort()
