"""Documents by id: an id that exists wins, whatever characters it has, and every id can be had."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Serve = Callable[..., Any]

MAPPING: dict[str, Any] = {"hgnc": {"type": "keyword"}, "n": {"type": "integer"}}
IDS = (
    "hgnc:5",
    "_id:plain",
    "trail/",
    "http://a.example/x/",
    "/",
    "//a",
    "query",
    "metadata",
    "metadata/fields",
    "a b",
)
DOCUMENTS: list[dict[str, Any]] = [
    *({"_id": name} for name in IDS),
    {"_id": "other", "hgnc": "5"},
    {"_id": "another", "hgnc": "6"},
    {"_id": "plain"},
]


@pytest.fixture
def ask(tmp_path: Path, serve_documents: Serve) -> Callable[..., Any]:
    """Return the JSON of a request to the documents above."""

    def run(method: str, path: str, **options: Any) -> Any:
        async def work(gateway: Any) -> Any:
            return (await gateway.ask(method, f"/apis/genes{path}", **options)).json()

        return asyncio.run(serve_documents(tmp_path / "home", DOCUMENTS, MAPPING, work))

    return run


def test_an_existing_id_wins_against_field_and_value(ask: Callable[..., Any]) -> None:
    assert ask("GET", "/gene/hgnc:5")["_id"] == "hgnc:5"


def test_an_existing_id_wins_in_a_batch_too(ask: Callable[..., Any]) -> None:
    wanted = ["hgnc:5", "hgnc:6", "_id:plain", "_id:other", "hgnc:7", "hgnc:5"]
    rows = ask("POST", "/gene", json={"ids": wanted})
    assert [row["query"] for row in rows] == wanted
    assert [row.get("_id") for row in rows] == ["hgnc:5", "another", "_id:plain", "other", None, "hgnc:5"]
    assert rows[4]["notfound"] is True


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("trail%2F", "trail/"),
        ("trail/", "trail/"),
        ("trail%2F/", "trail/"),
        ("plain/", "plain"),
        ("http://a.example/x/", "http://a.example/x/"),
        ("http%3A%2F%2Fa.example%2Fx%2F", "http://a.example/x/"),
        ("%2F", "/"),
        ("%2F%2Fa", "//a"),
        ("a%20b", "a b"),
        ("_id:query", "query"),
        ("_id:metadata/fields", "metadata/fields"),
    ],
)
@pytest.mark.parametrize("version", ["", "/v1"])
def test_an_id_may_have_slashes_wherever(ask: Callable[..., Any], path: str, found: str, version: str) -> None:
    assert ask("GET", f"{version}/gene/{path}")["_id"] == found


@pytest.mark.parametrize("document_id", IDS)
def test_every_id_can_be_had_as_a_parameter_and_in_a_batch(ask: Callable[..., Any], document_id: str) -> None:
    assert ask("GET", "/gene", params={"id": document_id})["_id"] == document_id
    assert ask("POST", "/gene", json={"ids": [document_id]})[0]["_id"] == document_id
