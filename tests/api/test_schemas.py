"""Every answer is as the OpenAPI documents say, whatever is asked: both documents, by schemathesis (issue: query API, Verify)."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

Run = Callable[..., Any]
ServeWhile = Callable[..., Any]

schemathesis = pytest.importorskip("schemathesis", reason="a development dependency")
schemathesis.checks.load_all_checks()
CHECKS = schemathesis.checks.CHECKS.get_by_names(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    ]
)


def try_document(url: str, path: str, examples: int, skipped: tuple[str, ...] = ()) -> None:
    """Send made-up requests, valid ones and others, to every operation of an OpenAPI document."""
    document = httpx.get(f"{url}{path}").json()
    schema = schemathesis.openapi.from_dict(shorten_lists(document))
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) > 5
    for operation in operations:
        if operation.label not in skipped:
            try_operation(operation, schemathesis.GenerationMode.POSITIVE, url, examples)
            with suppress(Unsatisfiable):  # an operation without parameters has no wrong ones
                try_operation(operation, schemathesis.GenerationMode.NEGATIVE, url, examples)


def shorten_lists(node: Any) -> Any:
    """Return a document whose lists are short: a URL with a thousand made-up items is refused by the server before us."""
    if isinstance(node, dict):
        return {key: min(value, 5) if key == "maxItems" else shorten_lists(value) for key, value in node.items()}
    return [shorten_lists(item) for item in node] if isinstance(node, list) else node


def try_operation(operation: Any, mode: Any, url: str, examples: int) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        case.call_and_validate(base_url=url, checks=CHECKS, timeout=10)

    check()


def test_section_1_the_query_api_answers_as_its_document_says(genes: Run, serve_while: ServeWhile) -> None:
    async def work(gateway: Any) -> None:
        await serve_while(gateway.query_app, lambda url: try_document(url, "/openapi.json", 15))

    genes(work, served=True)


def test_the_hub_answers_as_its_document_says(genes: Run, serve_while: ServeWhile) -> None:
    async def work(gateway: Any) -> None:
        await serve_while(gateway.app, lambda url: try_document(url, "/openapi.json", 2, skipped=("GET /hub/events",)))

    genes(work)
