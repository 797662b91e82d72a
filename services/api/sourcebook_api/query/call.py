"""One request on its way: what every route is given."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.types import Receive, Scope

from sourcebook.context import Context
from sourcebook_api.query.answer import Answer
from sourcebook_api.query.encode import MEDIA_TYPES, encode_body, render_page
from sourcebook_api.query.params import Operation
from sourcebook_api.query.parse import Options, RequestValues, parse_get, parse_parameters, read_body, read_query_string
from sourcebook_api.query.releases import OpenRelease, Releases


@dataclass(slots=True)
class Call:
    """A request, the release that answers it, and how to read what it carries."""

    context: Context
    releases: Releases
    opened: OpenRelease
    scope: Scope
    receive: Receive
    path: Mapping[str, str] = field(default_factory=dict)
    accepts: str = "json"
    """The format that the `Accept` header asks for; the parameter `format` wins."""

    @property
    def timeout_seconds(self) -> float:
        """How long the engine may take."""
        return self.context.settings.query_timeout.total_seconds()

    async def read_options(self, operation: Operation) -> Options:
        """Read and check the parameters.

        Raises:
            QueryError: a parameter or the body is not as it should be.
        """
        if self.scope["method"] != "POST":
            return parse_get(operation, self.path, self.scope["query_string"])
        query = read_query_string(self.scope["query_string"])
        content_type = dict(self.scope["headers"]).get(b"content-type", b"").decode("latin-1")
        form, body = read_body(content_type, await self._read_body())
        return parse_parameters(operation, RequestValues(self.path, query, form, body))

    async def _read_body(self) -> bytes:
        chunks = []
        while True:
            message = await self.receive()
            chunks.append(message.get("body", b""))
            if not message.get("more_body", False):
                return b"".join(chunks)

    def answer(self, body: bytes, options: Options) -> Answer:
        """Return an answer in the format that the request asks for."""
        format_name = options["format"] if "format" in options.given else self.accepts
        if format_name == "json":
            return Answer(body)
        media = MEDIA_TYPES[format_name]
        if format_name != "html":
            return Answer(encode_body(body, format_name), media=media)
        root = self.scope.get("root_path", "")
        query = self.scope["query_string"].decode("latin-1")
        kept = [part for part in query.split("&") if part and not part.startswith("format=")]
        link = "&".join((*kept, "format=json"))
        title = f"{self.opened.release.doc_type} · {self.scope['path']}"
        return Answer(render_page(body, title=title, link=f"?{link}", docs=f"{root}/docs"), media=media)
