"""Hub control, health, consoles and the front page, through real ASGI calls on the embedded engines."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from sourcebook.errors import EngineUnavailable
from sourcebook.hub.builds.model import Build
from sourcebook.hub.jobs.model import Job
from sourcebook.hub.mappings.model import Mapping
from sourcebook.hub.releases.model import Api, Release
from sourcebook.hub.sources.model import SourceState
from sourcebook.settings import MIB

Hub = Callable[..., Any]


def make_plugin(folder: Path, name: str = "hgnc", uploaders: int = 1) -> Path:
    path = folder / name
    path.mkdir(parents=True)
    manifest: dict[str, Any] = {"version": "1", "display_name": "HGNC <genes>", "dumper": {"data_url": "genes.tsv"}}
    items = [{"name": f"part{number}", "parser": "parser:load"} for number in range(uploaders)]
    manifest |= {"uploader": {"parser": "parser:load"}} if uploaders == 1 else {"uploaders": items}
    (path / "manifest.json").write_text(json.dumps(manifest))
    (path / "parser.py").write_text("def load(folder):\n    yield {'_id': '1'}\n")
    (path / "genes.tsv").write_text("x")
    return path


def assert_refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["code"]) == (status, code), body
    assert {*body} == {"code", "message", "details", "request_id"}
    assert answer.headers["x-request-id"] == body["request_id"]
    assert "Traceback" not in answer.text
    return body


def test_plugins_are_registered_listed_and_removed(hub: Hub, tmp_path: Path) -> None:
    folder = make_plugin(tmp_path)

    async def work(gateway: Any) -> None:
        added = await gateway.ask("POST", "/hub/plugins", json={"folder": str(folder)})
        assert (added.status_code, added.json()["name"]) == (201, "hgnc")
        assert [item["name"] for item in (await gateway.ask("GET", "/hub/plugins")).json()] == ["hgnc"]
        source = (await gateway.ask("GET", "/hub/sources/hgnc")).json()
        assert (source["display_name"], source["uploaders"], source["error"]) == ("HGNC <genes>", ["hgnc"], None)
        assert len((await gateway.ask("GET", "/hub/sources")).json()) == 1
        assert (await gateway.ask("DELETE", "/hub/plugins/hgnc")).status_code == 204
        assert_refused(await gateway.ask("DELETE", "/hub/plugins/hgnc"), 404, "not_found")
        assert_refused(await gateway.ask("POST", "/hub/plugins", json={"folder": str(tmp_path)}), 422, "manifest")

    hub(work)


def test_commands_answer_202_with_the_job_and_its_location(hub: Hub, tmp_path: Path) -> None:
    folder = make_plugin(tmp_path)

    async def work(gateway: Any) -> None:
        await gateway.ask("POST", "/hub/plugins", json={"folder": str(folder)})
        started = await gateway.ask("POST", "/hub/sources/hgnc/dump", json={"force": True})
        job = started.json()
        assert (started.status_code, job["kind"], job["command"]["force"]) == (202, "dump", True)
        assert started.headers["location"] == f"/hub/jobs/{job['id']}"
        assert (await gateway.ask("GET", started.headers["location"])).json()["id"] == job["id"]
        busy = assert_refused(await gateway.ask("POST", "/hub/sources/hgnc/dump"), 409, "busy")
        assert busy["details"]["job"] == job["id"]
        assert_refused(await gateway.ask("POST", "/hub/sources/hgnc/upload"), 409, "missing_upload")
        assert_refused(await gateway.ask("POST", "/hub/sources/hgnc/inspect"), 409, "missing_upload")
        cancelled = await gateway.ask("POST", f"/hub/jobs/{job['id']}/cancel")
        assert cancelled.json()["state"] == "cancelled"
        assert_refused(await gateway.ask("POST", f"/hub/jobs/{job['id']}/cancel"), 409, "conflict")

    hub(work)


def test_an_upload_with_several_uploaders_answers_a_list(hub: Hub, tmp_path: Path) -> None:
    folder = make_plugin(tmp_path, uploaders=2)

    async def work(gateway: Any) -> None:
        await gateway.ask("POST", "/hub/plugins", json={"folder": str(folder)})
        state = SourceState(name="hgnc", dump="d", uploads={"part0": "a", "part1": "b"})
        await gateway.context.state.put("hgnc", state)
        started = await gateway.ask("POST", "/hub/sources/hgnc/upload")
        assert [job["target"] for job in started.json()] == ["hgnc/part0", "hgnc/part1"]
        assert started.headers["location"] == "/hub/jobs?kind=upload"
        for job in started.json():
            await gateway.ask("POST", f"/hub/jobs/{job['id']}/cancel")
        one = await gateway.ask("POST", "/hub/sources/hgnc/inspect", json={"uploader": "part1"})
        assert (one.status_code, one.json()["target"]) == (202, "hgnc/part1")
        assert_refused(await gateway.ask("POST", "/hub/sources/hgnc/upload", json={"uploader": "x"}), 404, "not_found")

    hub(work)


def test_mappings_are_read_edited_and_committed(hub: Hub, tmp_path: Path) -> None:
    folder = make_plugin(tmp_path)

    async def work(gateway: Any) -> None:
        url = "/hub/sources/hgnc/mappings/hgnc"
        await gateway.ask("POST", "/hub/plugins", json={"folder": str(folder)})
        assert_refused(await gateway.ask("GET", url), 404, "not_found")
        mapping = Mapping(name="hgnc/hgnc", inferred={"a": {"type": "keyword"}})
        await gateway.context.state.put("hgnc/hgnc", mapping)
        assert (await gateway.ask("GET", url)).json()["committed"] is None
        tried = await gateway.ask("PUT", f"{url}?dry_run=true", json={"properties": {"b": {"type": "text"}}})
        assert (tried.json()["edit"]["added"], tried.json()["edit"]["removed"]) == (["b"], ["a"])
        assert tried.json()["committed"] is None
        assert (await gateway.ask("GET", url)).json()["committed"] is None
        edited = await gateway.ask("PUT", url, json={"properties": {"a": {"type": "text"}}})
        assert edited.json()["committed"]["a"]["type"] == "text"
        assert (await gateway.ask("POST", f"{url}/commit")).json()["committed"]["a"]["type"] == "keyword"
        assert_refused(await gateway.ask("PUT", url, json={"properties": {"a": {"type": "nosuch"}}}), 422, "mapping")
        assert_refused(await gateway.ask("PUT", url, json={"a": 1}), 422, "invalid_request")

    hub(work)


def test_build_configurations_and_builds(hub: Hub, tmp_path: Path) -> None:
    folder = make_plugin(tmp_path)

    async def work(gateway: Any) -> None:
        await gateway.ask("POST", "/hub/plugins", json={"folder": str(folder)})
        config = {"doc_type": "gene", "sources": ["hgnc"], "_meta": {"x": 1}}
        put = await gateway.ask("PUT", "/hub/build-configs/genes", json=config)
        assert (put.status_code, put.json()["name"], put.json()["_meta"]) == (200, "genes", {"x": 1})
        assert (await gateway.ask("GET", "/hub/build-configs/genes")).json() == put.json()
        assert len((await gateway.ask("GET", "/hub/build-configs")).json()) == 1
        other = {**config, "name": "other"}
        assert_refused(await gateway.ask("PUT", "/hub/build-configs/genes", json=other), 422, "invalid_request")
        bad = {**config, "sources": ["nosuch"]}
        assert_refused(await gateway.ask("PUT", "/hub/build-configs/genes", json=bad), 404, "not_found")
        assert_refused(await gateway.ask("PUT", "/hub/build-configs/..x", json=config), 422, "invalid_name")
        started = await gateway.ask("POST", "/hub/builds", json={"config": "genes"})
        assert (started.status_code, started.json()["kind"]) == (202, "build")
        assert_refused(await gateway.ask("POST", "/hub/builds", json={"config": "nosuch"}), 404, "not_found")
        build = Build(
            name="genes_1",
            config="genes",
            doc_type="gene",
            collection="c",
            count=1,
            digest="0",
            uploads=[],
            linked=True,
        )
        await gateway.context.state.put("genes_1", build)
        assert (await gateway.ask("GET", "/hub/builds/genes_1")).json()["count"] == 1
        assert len((await gateway.ask("GET", "/hub/builds?config=genes")).json()) == 1
        assert (await gateway.ask("GET", "/hub/builds?config=other")).json() == []
        released = await gateway.ask("POST", "/hub/builds/genes_1/release", json={"api": "live"})
        assert released.json()["command"]["api"] == "live"
        assert_refused(await gateway.ask("DELETE", "/hub/builds/genes_1"), 409, "conflict")
        await gateway.ask("POST", f"/hub/jobs/{released.json()['id']}/cancel")
        assert (await gateway.ask("DELETE", "/hub/builds/genes_1")).status_code == 204
        assert (await gateway.ask("DELETE", "/hub/build-configs/genes")).status_code == 204
        assert_refused(await gateway.ask("POST", "/hub/builds/genes_1/release"), 404, "not_found")

    hub(work)


def test_apis_and_rollback(hub: Hub) -> None:
    async def work(gateway: Any) -> None:
        assert (await gateway.ask("PUT", "/hub/apis/genes", json={"config": "genes"})).json()["max_age"] == 60
        api = Api(name="genes", config="genes", release="new", history=["old"])
        await gateway.context.state.put("genes", api)
        assert (await gateway.ask("PUT", "/hub/apis/genes", json={"config": "genes", "max_age": 5})).json()[
            "release"
        ] == "new"
        assert (await gateway.ask("GET", "/hub/apis/genes")).json()["history"] == ["old"]
        assert len((await gateway.ask("GET", "/hub/apis")).json()) == 1
        back = await gateway.ask("POST", "/hub/apis/genes/rollback")
        assert (back.json()["release"], back.json()["history"]) == ("old", ["new"])
        assert_refused(await gateway.ask("POST", "/hub/apis/genes/rollback", json={"to": "x"}), 409, "conflict")
        assert_refused(
            await gateway.ask("PUT", "/hub/apis/genes", json={"config": "g", "max_age": -1}), 422, "invalid_request"
        )
        assert (await gateway.ask("DELETE", "/hub/apis/genes")).status_code == 204
        assert_refused(await gateway.ask("GET", "/hub/apis/genes"), 404, "not_found")

    hub(work)


def test_jobs_are_filtered(hub: Hub) -> None:
    async def work(gateway: Any) -> None:
        for number in range(3):
            await gateway.context.state.put(
                f"j{number}", Job(id=f"j{number}", kind="dump", target=f"s{number}", lock="x")
            )
        assert [job["id"] for job in (await gateway.ask("GET", "/hub/jobs?limit=2")).json()] == ["j2", "j1"]
        assert [job["id"] for job in (await gateway.ask("GET", "/hub/jobs?limit=2&after=j1")).json()] == ["j0"]
        assert (await gateway.ask("GET", "/hub/jobs?after=j0")).json() == []
        assert len((await gateway.ask("GET", "/hub/jobs?target=s1&state=queued&kind=dump")).json()) == 1
        assert_refused(await gateway.ask("GET", "/hub/jobs?state=nosuch"), 422, "invalid_request")
        assert_refused(await gateway.ask("GET", "/hub/jobs?limit=0"), 422, "invalid_request")
        assert_refused(await gateway.ask("GET", "/hub/jobs/nosuch"), 404, "not_found")
        assert_refused(await gateway.ask("GET", "/hub/jobs/nosuch/events"), 404, "not_found")

    hub(work)


# Bad input (the last rows of the fault table)


TRICKS = ("..", "%2e%2e", "..%2fx", "%2e%2e%2fx", "%00", "x%0a", "-" * 300)


@pytest.mark.parametrize("name", ["%2e%2e", "%2e%2e%2fx", "..%2fx", "%2e", "%00", "x%0a"])
def test_a_path_trick_is_422(hub: Hub, name: str) -> None:
    async def work(gateway: Any) -> None:
        for method, path in (("GET", f"/hub/sources/{name}"), ("POST", f"/hub/sources/{name}/dump")):
            assert_refused(await gateway.ask(method, path), 422, "invalid_name")

    hub(work)


def test_path_tricks_in_names_are_refused(hub: Hub) -> None:
    async def work(gateway: Any) -> None:
        for name in TRICKS:
            for method, path in [
                ("GET", f"/hub/sources/{name}"),
                ("POST", f"/hub/sources/{name}/dump"),
                ("GET", f"/hub/sources/{name}/mappings/{name}"),
                ("DELETE", f"/hub/plugins/{name}"),
                ("GET", f"/hub/builds/{name}"),
                ("DELETE", f"/hub/build-configs/{name}"),
                ("GET", f"/hub/apis/{name}"),
                ("GET", f"/hub/jobs/{name}"),
            ]:
                answer = await gateway.ask(method, path)
                assert answer.status_code in {404, 405, 422}, (method, path)
                assert {"code", "message"} <= {*answer.json()}
            put = await gateway.ask("PUT", f"/hub/apis/{name}", json={"config": "x"})
            assert put.status_code in {404, 405, 422}, name

    hub(work)


def test_a_bad_body_is_422(hub: Hub) -> None:
    async def work(gateway: Any) -> None:
        headers = {"Content-Type": "application/json"}
        for body in (b"{", b"[]", b'{"folder": 1}', b"null", b'{"folder": "/x", "other": 1}', b"\xff", b""):
            answer = await gateway.ask("POST", "/hub/plugins", content=body, headers=headers)
            assert_refused(answer, 422, "invalid_request")

    hub(work)


def test_a_large_body_is_413_announced_or_in_chunks(genes: Hub) -> None:
    async def chunks() -> Any:
        for _ in range(10):
            yield b"x" * MIB

    async def work(gateway: Any) -> None:
        headers = {"Content-Type": "application/json"}
        for content in (b"x" * 10 * MIB, chunks()):
            answer = await gateway.ask("POST", "/hub/plugins", content=content, headers=headers)
            assert_refused(answer, 413, "payload_too_large")
        for content in (b"x" * 10 * MIB, chunks()):
            answer = await gateway.ask("POST", "/apis/genes/query", content=content, headers=headers)
            assert (answer.status_code, answer.json()["code"], answer.json()["success"]) == (413, 413, False)

        async def small() -> Any:
            yield b'{"ids": '
            yield b'["1000"]}'

        answer = await gateway.ask("POST", "/apis/genes/gene", content=small(), headers=headers)
        assert answer.json()[0]["_id"] == "1000"

    genes(work)


def test_an_unexpected_error_says_nothing_of_the_inside(hub: Hub) -> None:
    async def work(gateway: Any) -> None:
        async def surprise(*_: Any, **__: Any) -> Any:
            raise RuntimeError("secret inside")

        gateway.context.state.find = surprise
        body = assert_refused(
            await gateway.ask("GET", "/hub/jobs", headers={"X-Request-ID": "mine-1"}), 500, "internal"
        )
        assert "secret" not in str(body)
        assert body["request_id"] == "mine-1"
        strange = await gateway.ask("GET", "/hub/jobs/x", headers={"X-Request-ID": b"a b\xe9"})
        assert strange.json()["request_id"] != "a b\u00e9"

    hub(work)


FOREIGN: list[tuple[dict[str, str], int]] = [
    ({"Host": "evil.example"}, 421),
    ({"Host": "127.0.0.1.evil.example:8000"}, 421),
    ({"Host": ""}, 421),
    ({"Origin": "http://evil.example"}, 403),
    ({"Origin": "null"}, 403),
    ({"Origin": "http://127.0.0.1:3000"}, 403),
    ({"Sec-Fetch-Site": "cross-site"}, 403),
    ({"Sec-Fetch-Site": "same-site"}, 403),
    ({"Content-Type": "text/plain"}, 415),
    ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
]


def test_pages_of_other_sites_cannot_command_the_hub(hub: Hub) -> None:
    async def work(gateway: Any) -> None:
        for given, status in FOREIGN:
            headers = {"Content-Type": "application/json", **given}
            answer = await gateway.ask("POST", "/hub/plugins", content=b'{"folder": "/x"}', headers=headers)
            assert answer.status_code == status, given
            assert {"code", "message"} <= {*answer.json()}
            assert "access-control-allow-origin" not in answer.headers

    hub(work)


def test_the_hub_answers_to_its_own_names(hub: Hub) -> None:
    async def work(gateway: Any) -> None:
        for headers in (
            {"Host": "localhost:8000", "Origin": "http://localhost:8000", "Sec-Fetch-Site": "same-origin"},
            {"Host": "[::1]:8000"},
            {"Host": "127.0.0.1"},
            {"Host": "LOCALHOST"},
        ):
            answer = await gateway.ask("POST", "/hub/plugins", json={"folder": "/nosuch"}, headers=headers)
            assert answer.status_code == 422, headers
            assert answer.headers["x-frame-options"] == "DENY"

    hub(work)


def test_listening_on_every_address_the_hub_answers_to_addresses(hub: Hub) -> None:
    async def work(gateway: Any) -> None:
        assert (await gateway.ask("GET", "/hub/jobs", headers={"Host": "192.168.1.7:8000"})).status_code == 200
        assert (await gateway.ask("GET", "/hub/jobs", headers={"Host": "evil.example"})).status_code == 421

    hub(work, host="0.0.0.0")


def test_behind_a_proxy_the_hub_answers_to_the_names_of_a_setting(hub: Hub) -> None:
    async def work(gateway: Any) -> None:
        for host, status in (("genes.example.org", 200), ("Other.example:443", 200), ("evil.example", 421)):
            assert (await gateway.ask("GET", "/hub/jobs", headers={"Host": host})).status_code == status

    hub(work, host="0.0.0.0", hub_names="genes.example.org, other.example")


def test_health(hub: Hub) -> None:
    async def work(gateway: Any) -> None:
        assert (await gateway.ask("GET", "/health/live", headers={"Host": "pod.cluster"})).json() == {"status": "live"}
        ready = await gateway.ask("GET", "/health/ready")
        assert (ready.status_code, {*ready.json()["engines"].values()}) == (200, {True})

        async def down() -> None:
            raise EngineUnavailable("The broker does not answer.")

        gateway.context.bus.ping = down
        broken = await gateway.ask("GET", "/health/ready")
        assert (broken.status_code, broken.json()["engines"]["broker"]) == (503, False)

    hub(work)


def test_the_front_page_lists_what_is_there(genes: Hub, tmp_path: Path) -> None:
    folder = make_plugin(tmp_path)

    async def work(gateway: Any) -> None:
        await gateway.ask("POST", "/hub/plugins", json={"folder": str(folder)})
        (folder / "manifest.json").write_text("{")
        make_plugin(tmp_path, "other")
        await gateway.ask("POST", "/hub/plugins", json={"folder": str(tmp_path / "other")})
        await gateway.context.state.put("empty", Api(name="empty", config="x"))
        page = (await gateway.ask("GET", "/")).text
        assert "/apis/genes/docs" in page
        assert "no release yet" in page
        assert "nothing downloaded yet" in page
        assert "HGNC &lt;genes&gt;" in page
        assert "manifest.json" in page
        assert "<script" not in page
        assert "//" not in page.replace("http-equiv", "")

    genes(work)


def test_the_front_page_of_an_empty_hub_says_what_to_do(hub: Hub) -> None:
    async def work(gateway: Any) -> None:
        page = (await gateway.ask("GET", "/")).text
        assert "sourcebook plugin add" in page
        assert "sourcebook build" in page

    hub(work)


def test_the_openapi_document_names_every_command(hub: Hub) -> None:
    async def work(gateway: Any) -> None:
        paths = (await gateway.ask("GET", "/openapi.json")).json()["paths"]
        for path, methods in {
            "/hub/sources": "get",
            "/hub/sources/{name}": "get",
            "/hub/sources/{name}/dump": "post",
            "/hub/sources/{name}/upload": "post",
            "/hub/sources/{name}/inspect": "post",
            "/hub/sources/{name}/mappings/{uploader}": "get put",
            "/hub/plugins": "get post",
            "/hub/plugins/{name}": "delete",
            "/hub/build-configs": "get",
            "/hub/build-configs/{name}": "get put delete",
            "/hub/builds": "get post",
            "/hub/builds/{name}": "get delete",
            "/hub/builds/{name}/release": "post",
            "/hub/apis": "get",
            "/hub/apis/{name}": "get put delete",
            "/hub/apis/{name}/rollback": "post",
            "/hub/jobs": "get",
            "/hub/jobs/{job_id}": "get",
            "/hub/jobs/{job_id}/cancel": "post",
            "/hub/jobs/{job_id}/events": "get",
            "/hub/events": "get",
            "/health/live": "get",
            "/health/ready": "get",
        }.items():
            assert {*methods.split()} <= {*paths[path]}, path
            for method in methods.split():
                assert paths[path][method]["summary"].endswith((".", ")")), (path, method)
        assert Release.__name__ not in paths

    hub(work)
