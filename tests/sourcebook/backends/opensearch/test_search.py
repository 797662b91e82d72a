"""What an OpenSearch does when it is not well, and what the engine makes of it: retried, or an error that says what to do."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from support.certificates import make_certificate, serve_with

from sourcebook.backends import open_search
from sourcebook.backends.opensearch.mapping import IndexState, build_index_body, final_settings
from sourcebook.backends.opensearch.server import read_url
from sourcebook.errors import (
    DocumentError,
    EngineUnavailable,
    MappingError,
    QuerySyntaxError,
    SettingsError,
    VerificationFailed,
)
from sourcebook.hub.documents.record import make_record, read_document
from sourcebook.language.requests import Hit, MatchQuery, SearchRequest, SearchResult
from sourcebook.ports.search import SearchEngine
from sourcebook.settings import Settings

Answer = tuple[int, Any]
Handler = Callable[[str, str, bytes], Answer | None]
VERSION = {"version": {"number": "2.19.1", "distribution": "opensearch"}}
PROPERTIES = {"taxid": {"type": "integer"}}


class Cluster:
    """Answers as a well OpenSearch does; `say` is asked first what to answer instead."""

    def __init__(self) -> None:
        self.say: Handler = lambda _method, _path, _body: None
        self.asked: list[tuple[str, str]] = []
        self.meta: dict[str, Any] = {}
        self.documents: dict[str, bytes] = {}

    async def handle(self, request: web.BaseRequest) -> web.Response:
        body = await request.read()
        self.asked.append((request.method, request.path))
        answer = self.say(request.method, request.path, body) or self._answer(request.method, request.path, body)
        status, content = answer
        if isinstance(content, str):
            return web.Response(status=status, text=content, content_type="text/html")
        return web.Response(status=status, body=orjson.dumps(content), content_type="application/json")

    def _answer(self, method: str, path: str, body: bytes) -> Answer:
        verb = path.rpartition("/")[2]
        if path == "/":
            return 200, VERSION
        if verb == "_mapping":
            if method == "PUT":
                self.meta = orjson.loads(body)["_meta"]
            return 200, {"sourcebook~one": {"mappings": {"_meta": self.meta}}} if self.meta else {}
        if verb == "_bulk":
            return 200, {"items": [self._store(*pair) for pair in bulk_lines(body)]}
        if verb == "_count":
            return 200, {"count": len(self.documents)}
        if method == "PUT" and verb == "sourcebook~one":
            self.meta = orjson.loads(body)["mappings"]["_meta"]
        if method == "DELETE":
            self.meta = {}
        return 200, {"acknowledged": True}

    def _store(self, document_id: str, source: bytes) -> dict[str, Any]:
        self.documents[document_id] = source
        return {"index": {"_id": document_id, "status": 201}}


def bulk_lines(body: bytes) -> list[tuple[str, bytes]]:
    lines = body.splitlines()
    return [(orjson.loads(lines[at])["index"]["_id"], lines[at + 1]) for at in range(0, len(lines), 2)]


def failure(status: int, kind: str, reason: str) -> Answer:
    cause = {"type": kind, "reason": reason}
    return status, {"error": {"root_cause": [cause], **cause}, "status": status}


@asynccontextmanager
async def serving(cluster: Cluster, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    runner = web.ServerRunner(web.Server(cluster.handle))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


Scenario = Callable[[SearchEngine, Cluster], Awaitable[None]]


def play(
    home: Path, scenario: Scenario, *, url: str = "opensearch+http://127.0.0.1:{port}", seconds: float = 5
) -> None:
    async def main() -> None:
        cluster = Cluster()
        async with serving(cluster) as port:
            settings = Settings(home=home, search_url=url.format(port=port), engine_patience=seconds)
            engine = await open_search(settings, documents=None)  # type: ignore[arg-type]
            try:
                await scenario(engine, cluster)
            finally:
                await engine.close()

    asyncio.run(main())


async def fill(engine: SearchEngine, *documents: dict[str, Any]) -> int:
    async with engine.create("one", collection="one", properties=PROPERTIES, settings={}) as writer:
        await writer.add([make_record(document) for document in documents])
        return await writer.commit()


def test_documents_travel_as_they_are_stored(tmp_path: Path) -> None:
    long_id = "é" * 256  # 512 bytes: its key is not the id
    odd: dict[str, Any] = {"_id": 'a"\\b', "ä": [1.50, {"x": None}], "Z": "first"}

    async def scenario(engine: SearchEngine, cluster: Cluster) -> None:
        assert await fill(engine, odd, {"_id": long_id}, {"_id": "only"}) == 3
        assert cluster.documents["only"] == b'{"~id":"only"}'
        assert orjson.loads(cluster.documents[odd["_id"]]) == {
            **{k: v for k, v in odd.items() if k != "_id"},
            "~id": odd["_id"],
        }
        assert long_id in cluster.documents
        assert await engine.count("one") == 3

        def found(_method: str, path: str, _body: bytes) -> Answer | None:
            if not path.endswith("_search"):
                return None
            source = orjson.Fragment(cluster.documents[odd["_id"]])
            hit = {"_id": odd["_id"], "_score": 1.0, "_source": source}
            return 200, {"hits": {"total": {"value": 1}, "max_score": 1.0, "hits": [hit]}}

        cluster.say = found
        result = await engine.search("one", SearchRequest())
        assert result.hits == [Hit(odd["_id"], 1.0, make_record(odd)[1][16:])]
        assert read_document(make_record(odd)) == odd

    play(tmp_path, scenario)


def test_an_overloaded_cluster_is_asked_again_for_what_it_did_not_take(tmp_path: Path) -> None:
    async def scenario(engine: SearchEngine, cluster: Cluster) -> None:
        sent: list[list[str]] = []

        def overloaded(_method: str, path: str, body: bytes) -> Answer | None:
            if not path.endswith("_bulk"):
                return None
            sent.append([name for name, _ in bulk_lines(body)])
            if len(sent) == 1:
                return failure(429, "es_rejected_execution_exception", "queue is full")
            if len(sent) == 2:
                return 503, "<html>no healthy upstream</html>"
            if len(sent) == 3:
                full = {"type": "rejected_execution_exception", "reason": "queue is full"}
                cluster._store("a", b"{}")
                return 200, {
                    "items": [
                        {"index": {"_id": "a", "status": 201}},
                        {"index": {"_id": "b", "status": 429, "error": full}},
                    ]
                }
            return None

        cluster.say = overloaded
        assert await fill(engine, {"_id": "a"}, {"_id": "b"}) == 2
        assert sent == [["a", "b"], ["a", "b"], ["a", "b"], ["b"]]

    play(tmp_path, scenario)


def test_a_cluster_that_stays_overloaded_fails_the_job_and_leaves_nothing(tmp_path: Path) -> None:
    async def scenario(engine: SearchEngine, cluster: Cluster) -> None:
        cluster.say = lambda _method, path, _body: (
            failure(429, "rejected_execution_exception", "queue is full") if path.endswith("_bulk") else None
        )
        with pytest.raises(EngineUnavailable, match=r"overloaded.*queue is full.*more memory"):
            await fill(engine, {"_id": "a"})
        assert cluster.asked[-1] == ("DELETE", "/sourcebook~one")
        assert await engine.names() == []

    play(tmp_path, scenario, seconds=0.3)


def test_a_refused_document_is_named_with_its_field_and_what_to_do(tmp_path: Path) -> None:
    async def scenario(engine: SearchEngine, cluster: Cluster) -> None:
        error = {
            "type": "mapper_parsing_exception",
            "reason": "failed to parse field [taxid] of type [integer] in document with id 'b'. Preview: 'human'",
            "caused_by": {"type": "number_format_exception", "reason": 'For input string: "human"'},
        }
        items = [{"index": {"_id": "a", "status": 201}}, {"index": {"_id": "b", "status": 400, "error": error}}]
        cluster.say = lambda _method, path, _body: (200, {"items": items}) if path.endswith("_bulk") else None
        with pytest.raises(DocumentError, match=r"refuses document 'b', field 'taxid'.*mapping edit") as caught:
            await fill(engine, {"_id": "a"}, {"_id": "b", "taxid": "human"})
        assert (caught.value.details["id"], caught.value.details["field"]) == ("b", "taxid")
        assert [path for _, path in cluster.asked].count("/sourcebook~one/_bulk") == 1
        assert await engine.names() == []

    play(tmp_path, scenario)


FULL = "blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark, read-only-allow-delete block];"


@pytest.mark.parametrize("inside_items", [True, False], ids=["each document", "the whole request"])
def test_a_full_disk_says_so(tmp_path: Path, *, inside_items: bool) -> None:
    async def scenario(engine: SearchEngine, cluster: Cluster) -> None:
        error = {"type": "cluster_block_exception", "reason": FULL}
        items = [{"index": {"_id": "a", "status": 429, "error": error}}]
        answer = (200, {"items": items}) if inside_items else failure(403, "cluster_block_exception", FULL)
        cluster.say = lambda _method, path, _body: answer if path.endswith("_bulk") else None
        with pytest.raises(EngineUnavailable, match=r"read-only.*disk is nearly full: free some space"):
            await fill(engine, {"_id": "a"})

    play(tmp_path, scenario, seconds=0.3)


def test_a_cluster_that_someone_made_read_only_says_so(tmp_path: Path) -> None:
    async def scenario(engine: SearchEngine, cluster: Cluster) -> None:
        reason = "blocked by: [FORBIDDEN/6/cluster read-only (api)];"
        cluster.say = lambda method, path, _body: (
            failure(403, "cluster_block_exception", reason) if (method, path) == ("PUT", "/sourcebook~one") else None
        )
        with pytest.raises(EngineUnavailable, match=r"read-only.*who set the block"):
            await fill(engine, {"_id": "a"})

    play(tmp_path, scenario, seconds=0.3)


def test_documents_that_are_missing_at_the_end_fail_the_job(tmp_path: Path) -> None:
    async def scenario(engine: SearchEngine, cluster: Cluster) -> None:
        cluster.say = lambda _method, path, _body: (200, {"count": 1}) if path.endswith("_count") else None
        with pytest.raises(VerificationFailed, match="has 1 documents in one, 2 were sent"):
            await fill(engine, {"_id": "a"}, {"_id": "b"})
        assert await engine.names() == []

    play(tmp_path, scenario)


def test_a_node_that_is_away_is_passed_over(tmp_path: Path) -> None:
    async def scenario(engine: SearchEngine, cluster: Cluster) -> None:
        assert await fill(engine, {"_id": "a"}) == 1
        assert cluster.documents
        for _ in range(4):
            assert await engine.count("one") == 1

    play(tmp_path, scenario, url="opensearch+http://127.0.0.1:1,127.0.0.1:{port},127.0.0.1:2", seconds=0)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"auto_expand_replicas": "0-1"}),
        ({"replicas": None, "extra": {"auto_expand_replicas": "0-all"}}, {"auto_expand_replicas": "0-all"}),
        ({"replicas": 0}, {"number_of_replicas": 0}),
        ({"replicas": 1, "extra": {"number_of_replicas": 3}}, {"number_of_replicas": 3}),
    ],
    ids=["one where there are nodes for it", "as many as nodes", "none", "the engine's own setting"],
)
def test_a_filled_index_has_the_copies_that_were_asked_for(settings: dict[str, Any], expected: dict[str, Any]) -> None:
    state = IndexState("a", "a", "a", {}, {"shards": None, **settings})
    loading = build_index_body(state)["settings"]["index"]
    assert (loading["number_of_shards"], loading["number_of_replicas"], loading["auto_expand_replicas"]) == (
        1,
        0,
        "false",
    )
    final = final_settings(state)["index"]
    assert {name: value for name, value in final.items() if name.endswith("_replicas")} == expected


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("opensearch+http://one", "http://one:9200"),
        ("opensearch+https://me:s3cr3t@one:1,two,[::1]:3/genes?path=a", "https://one:1,two:9200,[::1]:3/a"),
    ],
)
def test_a_url_may_name_several_nodes(url: str, shown: str) -> None:
    assert read_url(url).shown == shown


def test_a_cluster_that_comes_back_during_a_job_is_waited_for(tmp_path: Path) -> None:
    async def main() -> None:
        cluster = Cluster()
        async with serving(cluster) as port:
            pass  # now nobody listens there
        settings = Settings(home=tmp_path, search_url=f"opensearch+http://127.0.0.1:{port}", engine_patience=20)
        engine = await open_search(settings, documents=None)  # type: ignore[arg-type]
        job = asyncio.create_task(fill(engine, {"_id": "a"}))
        await asyncio.sleep(0.5)
        assert not job.done()
        runner = web.ServerRunner(web.Server(cluster.handle))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        assert await asyncio.wait_for(job, 15) == 1
        await engine.close()
        await runner.cleanup()

    asyncio.run(main())


RED = failure(503, "no_shard_available_action_exception", "all shards failed")
REFUSALS: list[tuple[str, Answer, str]] = [
    ("red", RED, "status red.*allocation/explain"),
    ("away", (502, "<html>Bad Gateway</html>"), "could not do its work .502"),
    ("overloaded", failure(429, "circuit_breaking_exception", "Data too large"), "overloaded.*Data too large"),
    ("password", (401, "Unauthorized"), "refuses the user or the password of SOURCEBOOK_SEARCH_URL"),
    (
        "rights",
        failure(403, "security_exception", "no permissions for [search]"),
        "does not allow.*rights on the indices sourcebook~",
    ),
    ("a web page", (200, "<html>hello</html>"), "is not OpenSearch"),
    ("nonsense", (200, {"hits": 1}), "not a search result"),
]


@pytest.mark.parametrize(("answer", "message"), [item[1:] for item in REFUSALS], ids=[item[0] for item in REFUSALS])
def test_a_search_on_a_cluster_that_is_not_well_says_what_to_do(tmp_path: Path, answer: Answer, message: str) -> None:
    async def scenario(engine: SearchEngine, cluster: Cluster) -> None:
        await fill(engine, {"_id": "a"})
        cluster.say = lambda _method, path, _body: answer if path.endswith("_search") else None
        with pytest.raises(EngineUnavailable, match=message) as caught:
            await engine.search("one", SearchRequest(query="a"))
        assert "s3cr3t" not in repr((caught.value, caught.value.details))

    play(tmp_path, scenario, url="opensearch+http://user:s3cr3t@127.0.0.1:{port}", seconds=0)


def test_a_search_that_is_cut_short_is_no_answer(tmp_path: Path) -> None:
    async def scenario(engine: SearchEngine, cluster: Cluster) -> None:
        await fill(engine, {"_id": "a"})
        part = {"timed_out": True, "hits": {"total": {"value": 1}, "hits": []}}
        cluster.say = lambda _method, path, _body: (200, part) if path.endswith("_search") else None
        with pytest.raises(EngineUnavailable, match="took longer than 10 seconds"):
            await engine.search("one", SearchRequest())

    play(tmp_path, scenario)


def test_terms_that_are_looked_up_together_travel_together(tmp_path: Path) -> None:
    async def scenario(engine: SearchEngine, cluster: Cluster) -> None:
        await fill(engine, {"_id": "a"})
        broken = {"error": {"root_cause": [{"type": "query_shard_exception", "reason": "no"}]}, "status": 400}

        def answer(_method: str, path: str, body: bytes) -> Answer | None:
            if not path.endswith("_msearch"):
                return None
            terms = [orjson.loads(line)["query"]["multi_match"]["query"] for line in body.splitlines()[1::2]]
            found = {"hits": {"total": {"value": 3}, "hits": []}}
            return 200, {"responses": [broken if term == "t1" else found for term in terms]}

        cluster.say = answer
        requests = [SearchRequest(query=(MatchQuery(f"t{number}", ("taxid",)),)) for number in range(4)]
        await engine.count("one")
        results = await asyncio.gather(*(engine.search("one", item) for item in requests), return_exceptions=True)
        assert [type(result) for result in results] == [SearchResult, QuerySyntaxError, SearchResult, SearchResult]
        again = await asyncio.gather(*(engine.search("one", item) for item in requests), return_exceptions=True)
        assert len(again) == 4
        assert [path for _, path in cluster.asked].count("/_msearch") <= 5
        cluster.say = lambda _method, path, _body: RED if path.endswith("_msearch") else None
        with pytest.raises(EngineUnavailable, match="status red"):
            await engine.search("one", requests[0])

    play(tmp_path, scenario)


def test_what_the_cluster_does_not_understand_is_the_clients_error(tmp_path: Path) -> None:
    async def scenario(engine: SearchEngine, cluster: Cluster) -> None:
        await fill(engine, {"_id": "a"})
        for answer in (
            failure(400, "query_shard_exception", "field expansion matches too many fields"),
            failure(503, "too_many_buckets_exception", "Trying to create too many buckets"),
        ):
            cluster.say = lambda _method, path, _body, answer=answer: answer if path.endswith("_search") else None  # type: ignore[misc]
            with pytest.raises(QuerySyntaxError, match="too many"):
                await engine.search("one", SearchRequest())

    play(tmp_path, scenario)


def test_a_mapping_that_the_cluster_refuses_leaves_nothing(tmp_path: Path) -> None:
    async def scenario(engine: SearchEngine, cluster: Cluster) -> None:
        reason = "No handler for type [wildcard] declared on field [taxid]"
        cluster.say = lambda method, path, _body: (
            failure(400, "mapper_parsing_exception", reason) if (method, path) == ("PUT", "/sourcebook~one") else None
        )
        with pytest.raises(MappingError, match=r"type \[wildcard\] declared on field \[taxid\].*mapping edit"):
            await fill(engine, {"_id": "a"})

    play(tmp_path, scenario)


OTHERS: list[tuple[str, Answer, str]] = [
    (
        "an old OpenSearch",
        (200, {"version": {"number": "1.3.2", "distribution": "opensearch"}}),
        "is OpenSearch 1.3.2.*2.0 or newer",
    ),
    ("Elasticsearch", (200, {"version": {"number": "8.15.0"}}), "is Elasticsearch 8.15.0.*needs OpenSearch 2.0"),
    ("a web site", (200, "<html>"), "is not OpenSearch"),
    ("another API", (200, {"hello": "world"}), "is not OpenSearch"),
    ("nothing", (404, "not here"), "is not OpenSearch"),
]


@pytest.mark.parametrize(("answer", "message"), [item[1:] for item in OTHERS], ids=[item[0] for item in OTHERS])
def test_another_program_at_the_address_is_named(tmp_path: Path, answer: Answer, message: str) -> None:
    async def scenario(engine: SearchEngine, cluster: Cluster) -> None:
        cluster.say = lambda _method, path, _body: answer if path == "/" else None
        with pytest.raises(EngineUnavailable, match=message):
            await fill(engine, {"_id": "a"})

    play(tmp_path, scenario)


def test_tls_spoken_to_a_server_without_it_names_the_scheme(tmp_path: Path) -> None:
    async def scenario(engine: SearchEngine, _cluster: Cluster) -> None:
        with pytest.raises(EngineUnavailable, match=r"does not speak TLS: write opensearch\+http://"):
            await engine.names()

    play(tmp_path, scenario, url="opensearch+https://127.0.0.1:{port}")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return make_certificate(tmp_path)


@pytest.mark.parametrize(
    ("scheme", "message"),
    [
        ("opensearch+http", r"closes the connection. If it speaks TLS, write opensearch\+https://"),
        ("opensearch+https", r"is not trusted: add \?ca_certs="),
    ],
)
def test_a_server_with_tls_is_trusted_only_with_its_certificate(
    tmp_path: Path, certificate: Path, scheme: str, message: str
) -> None:
    async def main() -> None:
        async with serving(Cluster(), serve_with(certificate)) as port:
            url = f"{scheme}://127.0.0.1:{port}"
            for wanted, options in ((message, ""), ("", f"?ca_certs={certificate}")):
                if scheme == "opensearch+http" and not wanted:
                    continue
                engine = await open_search(Settings(home=tmp_path, search_url=url + options), documents=None)  # type: ignore[arg-type]
                try:
                    if wanted:
                        with pytest.raises(EngineUnavailable, match=wanted):
                            await engine.names()
                    else:
                        assert await engine.names() == []
                finally:
                    await engine.close()

    asyncio.run(main())


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    async def scenario(engine: SearchEngine, _cluster: Cluster) -> None:
        with pytest.raises(
            EngineUnavailable, match=r"does not answer.*Check that it runs and that SOURCEBOOK_SEARCH_URL"
        ):
            await engine.names()

    play(tmp_path, scenario, url="opensearch+http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("opensearch+http://", "names no host"),
        ("opensearch+http://one,,two", "names no host"),
        ("opensearch+http://one:port,two", "cannot be read"),
        ("opensearch+http://user:s3cr3t/x@host", "cannot be read"),
        ("opensearch+http://host/Genes", "small letters"),
        ("opensearch+http://host?verify=0", "other options"),
        ("opensearch+http://user:s3#cr3t@host/", "are written as .* %23"),
        ("opensearch+http://host/one#two", "a # that is not written as %23"),
        ("opensearch+https://host?ca_certs=/not/there.pem", "no file /not/there.pem"),
    ],
)
def test_a_url_that_cannot_be_used_says_how_it_is_written(tmp_path: Path, url: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem) as caught:
        asyncio.run(open_search(Settings(home=tmp_path, search_url=url), documents=None))  # type: ignore[arg-type]
    assert "opensearch+https://user:password@host:9200/prefix" in caught.value.message
    assert "s3" not in caught.value.message


def test_a_wrong_scheme_says_which_there_are(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"opensearch\+http:, opensearch\+https:"):
        asyncio.run(open_search(Settings(home=tmp_path, search_url="https://host"), documents=None))  # type: ignore[arg-type]
