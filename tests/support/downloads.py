"""Loopback servers with bad manners on demand, and a source that downloads from them into the embedded stores."""

import asyncio
import json
import socketserver
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from textwrap import dedent
from typing import Any, TypeVar

from sourcebook.backends import open_files, open_state
from sourcebook.context import Context
from sourcebook.flow.messages import DumpReady, DumpSource
from sourcebook.hub.access.model import ANONYMOUS
from sourcebook.hub.jobs.model import Job, JobState
from sourcebook.hub.sources.model import Dump, Plugin, SourceState, Upload
from sourcebook.sdk.code_digest import digest_code
from sourcebook.sdk.manifest import load_manifest
from sourcebook.settings import Settings
from sourcebook.worker import JobRun
from sourcebook_dumper.tasks import dump

ResultT = TypeVar("ResultT")
LAST_MODIFIED = "Tue, 02 Jan 2024 10:00:00 GMT"


@dataclass
class Resource:
    """What a path of the site answers. `failures` are used up first: a status, or ("cut", bytes) or ("hang", bytes)."""

    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200
    failures: list[Any] = field(default_factory=list)
    ranges: bool = True
    head: int = 200
    rude: bool = False
    """Whether If-Range is ignored: every Range is answered with 206."""
    seconds: float = 0.0


class Site:
    """An HTTP server; `log` has (method, path, headers) of each request."""

    def __init__(self) -> None:
        self.resources: dict[str, Resource] = {}
        self.log: list[tuple[str, str, dict[str, str]]] = []
        self.released = threading.Event()
        self.active = self.most_active = 0
        self.lock = threading.Lock()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with suppress(OSError):
                    site.answer(self)

            do_HEAD = do_GET  # noqa: N815 - http.server's name

            def log_message(self, *_args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def add(self, path: str, body: bytes = b"", **options: Any) -> str:
        """Serve a file with a date; return its URL."""
        headers = {"Last-Modified": LAST_MODIFIED, "ETag": '"one"', **options.pop("headers", {})}
        headers = {name: value for name, value in headers.items() if value is not None}
        self.resources[path] = Resource(body, headers, **options)
        return self.url + path

    def gets(self) -> list[dict[str, str]]:
        """Return the headers of all GET requests."""
        return [headers for method, _, headers in self.log if method == "GET"]

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        self.log.append((request.command, path, {k.lower(): v for k, v in request.headers.items()}))
        resource = self.resources.get(path, Resource(status=404, headers={"Content-Type": "text/html"}))
        if request.command == "HEAD":
            self._start(request, resource.head if resource.status == 200 else resource.status, resource, b"")
            return
        with self.lock:
            self.active += 1
            self.most_active = max(self.most_active, self.active)
        try:
            time.sleep(resource.seconds)
            failure = resource.failures.pop(0) if resource.failures else None
            self._body(request, resource, failure)
        finally:
            with self.lock:
                self.active -= 1

    def _body(self, request: BaseHTTPRequestHandler, resource: Resource, failure: Any) -> None:
        if isinstance(failure, int):
            self._start(request, failure, resource, b"")
            return
        body, status, extra = self._ranged(request, resource)
        self._start(request, status, resource, body, **extra)
        if failure is None:
            request.wfile.write(body)
            return
        what, size = failure
        request.wfile.write(body[:size])
        request.wfile.flush()
        if what == "hang":
            self.released.wait(20)
        request.close_connection = True

    def _ranged(self, request: BaseHTTPRequestHandler, resource: Resource) -> tuple[bytes, int, dict[str, str]]:
        wanted = request.headers.get("Range", "")
        known = {resource.headers.get("ETag"), resource.headers.get("Last-Modified")}
        is_known = resource.rude or request.headers.get("If-Range") in known
        if not wanted or not resource.ranges or not is_known:
            return resource.body, resource.status, {}
        start, size = int(wanted.removeprefix("bytes=").rstrip("-")), len(resource.body)
        if start >= size:
            return b"", 416, {"Content-Range": f"bytes */{size}"}
        return resource.body[start:], 206, {"Content-Range": f"bytes {start}-{size - 1}/{size}"}

    @staticmethod
    def _start(request: BaseHTTPRequestHandler, status: int, resource: Resource, body: bytes, **extra: str) -> None:
        request.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **resource.headers, **extra}.items():
            if value:
                request.send_header(name, value)
        request.end_headers()

    def close(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class FtpHandler(socketserver.StreamRequestHandler):
    """One control connection of a passive, binary, read-only FTP server."""

    server: "FtpServer"

    def say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())

    def handle(self) -> None:
        self.rest = 0
        self.say("220 ready")
        with suppress(OSError):
            while line := self.rfile.readline().decode().strip():
                self.server.log.append(line)
                command, _, argument = line.partition(" ")
                getattr(self, f"on_{command.lower()}", lambda _: self.say("502 unknown"))(argument)

    def on_user(self, argument: str) -> None:
        self.say("530 no such user" if argument == "nobody" else "331 password please")

    def on_pass(self, _argument: str) -> None:
        self.say("230 welcome")

    def on_type(self, _argument: str) -> None:
        self.say("200 ok")

    def on_size(self, argument: str) -> None:
        body = self.server.files.get(argument)
        self.say("550 no such file" if body is None else f"213 {len(body)}")

    def on_mdtm(self, argument: str) -> None:
        self.say(
            f"213 {self.server.modified}" if argument in self.server.files and self.server.modified else "550 unknown"
        )

    def on_rest(self, argument: str) -> None:
        self.rest = int(argument)
        self.say("350 ok")

    def on_pasv(self, _argument: str) -> None:
        self.passive = socketserver.socket.create_server(("127.0.0.1", 0))  # type: ignore[attr-defined]
        port = self.passive.getsockname()[1]
        self.say(f"227 passive (127,0,0,1,{port // 256},{port % 256})")

    def on_retr(self, argument: str) -> None:
        body = self.server.files.get(argument)
        if body is None:
            self.passive.close()
            self.say("550 no such file")
            return
        self.say("150 here it comes")
        connection, _ = self.passive.accept()
        self.passive.close()
        cut = self.server.cuts.pop(0) if self.server.cuts else None
        with connection:
            connection.sendall(body[self.rest : cut])
            if self.server.hang:
                self.server.released.wait(20)
        self.rest = 0
        if self.server.changes:
            self.server.modified = self.server.changes.pop(0)
        self.say("226 done" if cut is None else "426 broken")


class FtpServer(socketserver.ThreadingTCPServer):
    """An FTP server on the loopback interface; `cuts` are the positions at which the next transfers break off.

    `changes` are the times that files have after the next transfers.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FtpHandler)
        self.files: dict[str, bytes] = {}
        self.log: list[str] = []
        self.cuts: list[int] = []
        self.modified = "20240203040506"
        self.changes: list[str] = []
        self.hang = False
        self.released = threading.Event()
        self.url = f"ftp://127.0.0.1:{self.server_address[1]}"
        self.thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.released.set()
        self.shutdown()
        self.server_close()
        self.thread.join()


class DumpBench:
    """One source `bench` whose manifest the test writes."""

    def __init__(self, folder: Path) -> None:
        self.plugin = folder / "plugins" / "bench"
        self.plugin.mkdir(parents=True)
        self.home = folder / "home"
        self.overrides: dict[str, Any] = {"download_timeout": 5}
        self.warnings: list[str] = []

    def write(self, data_url: Any, *, code: str = "", uploaders: int = 1, **dumper: Any) -> None:
        """Write the manifest and release.py."""
        manifest: dict[str, Any] = {"dumper": {"data_url": data_url, **dumper}}
        manifest["uploaders"] = [{"name": f"u{n}", "parser": "parser:load"} for n in range(uploaders)]
        if not uploaders:
            del manifest["uploaders"]
        (self.plugin / "manifest.json").write_text(json.dumps(manifest))
        (self.plugin / "release.py").write_text(dedent(code))

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Context]:
        settings = Settings(home=self.home, **self.overrides)
        settings.home.mkdir(parents=True, exist_ok=True)
        state = await open_state(settings)
        unused: Any = None
        context = Context(settings, state, unused, unused, await open_files(settings), unused, unused, ANONYMOUS)
        try:
            await state.put("bench", Plugin(name="bench", folder=str(self.plugin)))
            yield context
        finally:
            await state.close()

    def run(self, work: Callable[[Context], Awaitable[ResultT]]) -> ResultT:
        """Run `work` with open stores."""

        async def main() -> ResultT:
            async with self.open() as context:
                return await work(context)

        return asyncio.run(main())

    async def dump_in(self, context: Context, *, force: bool = False, then_upload: bool = True) -> DumpReady:
        job = Job(kind="dump", target="bench", lock="dump:bench", state=JobState.RUNNING)
        await context.state.put(job.id, job)
        run = JobRun(context, job)
        self.warnings = run.warnings
        return await dump(context, run, DumpSource(source="bench", force=force, then_upload=then_upload))

    def dump(self, *, force: bool = False, then_upload: bool = True) -> DumpReady:
        """Run one dump job."""
        return self.run(lambda context: self.dump_in(context, force=force, then_upload=then_upload))

    def state(self) -> SourceState:
        async def read(context: Context) -> SourceState:
            return await context.state.get(SourceState, "bench") or SourceState(name="bench")

        return self.run(read)

    def upload(self, *names: str) -> None:
        """Leave what uploads of the current dump with the present code leave."""

        async def write(context: Context) -> None:
            manifest = load_manifest(self.plugin).manifest
            for uploader in manifest.uploader_list:
                if uploader.name in names:
                    upload = Upload(
                        id=f"bench/{uploader.name}@{state.dump}",
                        source="bench",
                        uploader=uploader.name,
                        dump=state.dump,
                        version="1",
                        code=digest_code(self.plugin, uploader),
                        collection=f"upload~bench.{uploader.name}~1",
                        count=1,
                        digest="x",
                    )
                    await context.state.put(upload.id, upload)
                    state.uploads[uploader.name] = upload.id
            await context.state.put("bench", state)

        state = self.state()
        self.run(write)

    def records(self) -> list[Dump]:
        async def read(context: Context) -> list[Dump]:
            return await context.state.find(Dump)

        return self.run(read)

    def current(self) -> Dump:
        return next(record for record in self.records() if record.id == self.state().dump)

    @property
    def archive(self) -> Path:
        """The published folders of the source."""
        return self.home / "files" / "archive" / "bench"

    @property
    def staged(self) -> list[Path]:
        """The files of tries that did not succeed."""
        return sorted(path for path in (self.home / "files" / ".staging").rglob("*") if path.is_file())

    def content(self) -> dict[str, bytes]:
        """Return the files of the current dump."""
        folder = self.home / "files" / self.current().folder
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
