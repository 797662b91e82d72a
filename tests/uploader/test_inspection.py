"""The mapping of an upload: what is inferred, what is committed of it, and what a person's edit changes about that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sourcebook.errors import MissingUpload
from sourcebook.flow.messages import InspectUpload
from sourcebook.hub.mappings.commands import commit_mapping, save_mapping
from sourcebook.hub.mappings.model import Mapping
from sourcebook_uploader.tasks import inspect

if TYPE_CHECKING:
    from support.uploads import Outcome, SourceBench

    from sourcebook.context import Context

THREE = """
    def load_data(data_folder):
        yield {"_id": "b", "n": 2}
        yield {"_id": "c", "n": 3}
        yield {"_id": "a", "n": 1}
"""

EXACT = {"type": "keyword", "normalizer": "keyword_lowercase_normalizer"}
KEYWORD = {**EXACT, "copy_to": "all"}
CATEGORY = {"type": "text", "fields": {"keyword": EXACT}, "copy_to": "all"}
NUMBERS = [{"_id": f"d{number}", "n": number} for number in range(40)]


def upload(bench: SourceBench, *documents: dict[str, Any], **options: bool) -> Outcome:
    bench.write(f"def load_data(data_folder):\n    return {list(documents)!r}\n")
    return bench.run(lambda context: bench.upload(context, job_id=None, **options))


def edit(bench: SourceBench, properties: dict[str, Any]) -> None:
    bench.run(lambda context: save_mapping(context, "bench", "bench", properties))


@pytest.mark.parametrize(
    ("first", "second", "before", "after"),
    [
        (3, 3.7, {"type": "integer"}, {"type": "float"}),
        (3, 2**40, {"type": "integer"}, {"type": "long"}),
        (3, "N/A", {"type": "integer"}, KEYWORD),
        (3.5, "N/A", {"type": "float"}, KEYWORD),
        (True, "N/A", {"type": "boolean"}, KEYWORD),
        ("2024-01-02", "N/A", {"type": "date"}, KEYWORD),
        ("asthma", "breast cancer", KEYWORD, CATEGORY),
        ("two words", "many more words " * 10, CATEGORY, {"type": "text", "copy_to": "all"}),
        ("x", {"y": 1}, KEYWORD, {"type": "object", "enabled": False}),
    ],
    ids=str,
)
def test_a_mapping_that_nobody_edited_follows_the_data(
    bench: SourceBench, first: Any, second: Any, before: dict[str, Any], after: dict[str, Any]
) -> None:
    assert upload(bench, {"_id": "a", "v": first}).mapping.committed == {"v": before}
    outcome = upload(bench, {"_id": "a", "v": first}, {"_id": "b", "v": second}, {"_id": "c", "new": 1})
    assert outcome.mapping.committed == {"v": after, "new": {"type": "integer"}}
    assert not outcome.mapping.edited
    (moved,) = [text for text in outcome.warnings if "indexes all documents again" in text]
    assert "Field 'v'" in moved
    assert "in 'b'" in moved or before["type"] == "text"
    # Back as it was, the type is too.
    assert upload(bench, {"_id": "a", "v": first}).mapping.committed == {"v": before}


def test_the_reason_of_a_new_type_names_both_types_and_documents(bench: SourceBench) -> None:
    upload(bench, *NUMBERS)
    outcome = upload(bench, *NUMBERS, {"_id": "odd", "n": 3.7})
    (warning,) = outcome.warnings
    assert warning == (
        "Field 'n' was integer and is float now (an integer in 'd0', a float in 'odd'); the next release "
        "indexes all documents again."
    )


def test_a_mapping_that_was_edited_stays_and_what_does_not_fit_is_said(bench: SourceBench) -> None:
    upload(bench, {"_id": "a", "n": 1, "gone": 1})
    edit(bench, {"n": {"type": "long"}})
    outcome = upload(bench, {"_id": "a", "n": "one", "new": 1}, {"_id": "b", "new": [1, 2]})
    assert outcome.mapping.committed == {"n": {"type": "long"}}
    assert outcome.mapping.edited
    added, changed = outcome.warnings
    assert "'new' (values: 3) not in the committed mapping" in added
    assert "sourcebook mapping commit --new-fields" in added
    assert "'n' is long in the committed mapping, but documents have keyword" in changed
    assert "`_ignored:n`" in changed


@pytest.mark.parametrize(
    ("spec", "values"),
    [
        ({"type": "keyword"}, ["plain", {"key": 1}]),
        ({"type": "keyword"}, [1, "two words"]),
        ({"type": "text"}, ["MKV", "M" * 34_350]),
    ],
)
def test_types_that_the_mapping_decides_are_not_said_to_become_others(
    bench: SourceBench, spec: dict[str, Any], values: list[Any]
) -> None:
    documents = [{"_id": str(number), "v": value} for number, value in enumerate(values)]
    upload(bench, *documents)
    edit(bench, {"v": spec})
    assert not [
        text for text in upload(bench, *documents).warnings if "cannot be searched" in text or "mapped as" in text
    ]
    assert not [text for text in upload(bench, *documents).warnings if "too long" in text]


def test_an_edit_that_is_committed_over_follows_the_data_again(bench: SourceBench) -> None:
    upload(bench, *NUMBERS)
    edit(bench, {"n": {"type": "long"}})
    assert not bench.run(lambda context: commit_mapping(context, "bench", "bench")).edited
    assert upload(bench, {"_id": "a", "n": 1.5}).mapping.committed == {"n": {"type": "float"}}


def test_new_fields_of_an_edited_mapping_leave_it_edited(bench: SourceBench) -> None:
    upload(bench, *NUMBERS)
    edit(bench, {"n": {"type": "long"}})
    upload(bench, {"_id": "a", "n": 1, "new": 1})
    mapping = bench.run(lambda context: commit_mapping(context, "bench", "bench", new_fields_only=True))
    assert mapping.committed == {"n": {"type": "long"}, "new": {"type": "integer"}}
    assert mapping.edited


def test_saving_what_was_inferred_is_no_edit(bench: SourceBench) -> None:
    upload(bench, *NUMBERS)
    edit(bench, {"n": {"type": "integer"}})
    assert upload(bench, {"_id": "a", "n": 1.5}).mapping.committed == {"n": {"type": "float"}}


def test_an_upload_that_infers_anew_replaces_an_edited_mapping_and_keeps_what_it_was(bench: SourceBench) -> None:
    upload(bench, *NUMBERS)
    edit(bench, {"n": {"type": "keyword"}})
    outcome = upload(bench, {"_id": "a", "n": 1.5}, infer_anew=True)
    assert outcome.mapping.committed == {"n": {"type": "float"}}
    assert outcome.mapping.replaced == {"n": {"type": "keyword"}}
    assert not outcome.mapping.edited
    (warning,) = outcome.warnings
    assert "--keep-mapping" in warning


@pytest.mark.parametrize(
    ("record", "edited"),
    [
        ({"inferred": {"a": KEYWORD}, "committed": {"a": KEYWORD}}, False),
        ({"inferred": {"a": KEYWORD}, "committed": {"a": {"type": "text"}}}, True),
        ({"inferred": {"a": KEYWORD}, "committed": {"a": {"type": "text"}}, "from_plugin": True}, False),
        ({"inferred": {"a": KEYWORD}, "committed": None}, False),
    ],
)
def test_what_an_older_version_wrote_may_be_an_edit_where_it_differs(record: dict[str, Any], edited: bool) -> None:
    assert Mapping.model_validate({"name": "x", **record}).edited is edited


def test_nothing_is_committed_when_the_setting_is_off(bench: SourceBench) -> None:
    bench.overrides["auto_commit_mapping"] = False
    bench.write(THREE)
    mapping = bench.upload_once().mapping
    assert mapping.committed is None
    assert mapping.inferred == {"n": {"type": "integer"}}


def test_inspect_infers_the_same_from_stored_documents(bench: SourceBench) -> None:
    bench.write("""
        def load_data(data_folder):
            for n in range(3000):
                yield {"_id": str(n), "n": n, "tags": ["a", "b c"], "at": "2024-01-02", "o": {"x": n / 7, "y": None}}
    """)
    mapping = bench.upload_once().mapping

    async def again(context: Context) -> Mapping | None:
        await context.state.put(mapping.name, mapping.model_copy(update={"inferred": {}, "counts": {}}))
        message = await inspect(context, await bench.start(context), InspectUpload(source="bench", uploader="bench"))
        assert (message.fields, message.differences) == (4, 0)
        return await context.state.get(Mapping, "bench/bench")

    assert bench.run(again) == mapping


def test_inspect_without_documents_says_what_to_do(bench: SourceBench) -> None:
    bench.write(THREE)

    async def start(context: Context) -> None:
        with pytest.raises(MissingUpload, match="sourcebook upload bench"):
            await inspect(context, await bench.start(context), InspectUpload(source="bench", uploader="bench"))

    bench.run(start)
