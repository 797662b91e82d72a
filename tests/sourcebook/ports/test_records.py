"""Records carry the version of their kind; earlier ones are migrated, newer ones refused."""

import orjson
import pytest

from sourcebook.errors import RecordTooNew
from sourcebook.hub.builds.model import BuildConfig
from sourcebook.hub.jobs.model import Job
from sourcebook.hub.sources.model import Dump, Upload
from sourcebook.ports import records
from sourcebook.ports.records import MIGRATIONS, decode_record, encode_record
from sourcebook.ports.state import INDEXES

DUMP = {"id": "one@1", "source": "one", "folder": "archive/one/1", "files": []}
UPLOAD = {"id": "u", "source": "one", "uploader": "one", "collection": "c", "count": 0, "digest": "0"}


def test_dumps_and_uploads_of_version_0_1_say_release() -> None:
    found = [
        decode_record(kind, orjson.dumps({**fields, "release": "2026-01"}).decode())
        for kind, fields in ((Dump, DUMP), (Upload, UPLOAD))
    ]
    assert [record.model_dump()["version"] for record in found] == ["2026-01", "2026-01"]
    for record in found:
        written = orjson.loads(encode_record(record))
        assert (written["_version"], written["version"], "release" in written) == (2, "2026-01", False)
        assert decode_record(type(record), encode_record(record)) == record


def test_the_first_version_of_a_kind_is_written_as_ever() -> None:
    job = Job(id="a", kind="dump", target="s", lock="x")
    assert encode_record(job) == job.model_dump_json(by_alias=True)
    assert decode_record(Job, encode_record(job)) == job


def test_each_step_is_taken_from_the_version_that_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def name(fields: dict[str, object]) -> dict[str, object]:
        return {**fields, "target": f"{fields.pop('source')}"}

    def shout(fields: dict[str, object]) -> dict[str, object]:
        return {**fields, "target": f"{fields['target']}!"}

    monkeypatch.setattr(records, "MIGRATIONS", {Job: (name, shout)})
    first, second, third = (
        '{"id":"a","kind":"dump","source":"s","lock":"x"}',
        '{"_version":2,"id":"a","kind":"dump","target":"s","lock":"x"}',
        '{"_version":3,"id":"a","kind":"dump","target":"s!","lock":"x"}',
    )
    assert {decode_record(Job, text).target for text in (first, second, third)} == {"s!"}
    assert encode_record(decode_record(Job, first)).startswith('{"_version":3,"id":"a",')


def test_a_record_of_a_newer_version_is_refused_with_what_to_do() -> None:
    with pytest.raises(
        RecordTooNew, match=r"kind Dump \(version 7 .* reads up to 2\)\. Use that version again"
    ) as caught:
        decode_record(Dump, '{"_version":7,"id":"a"}')
    assert (caught.value.code, caught.value.status) == ("record_too_new", 503)
    with pytest.raises(RecordTooNew):
        decode_record(BuildConfig, '{"_version":2,"name":"a"}')


def test_no_step_touches_a_field_that_records_are_found_by() -> None:
    for kind, steps in MIGRATIONS.items():
        searched = {field: "value" for index in INDEXES.get(kind, ()) for field in index}
        fields: dict[str, object] = {"release": "1", **searched}
        for step in steps:
            fields = step(fields)
        assert searched.items() <= fields.items(), kind
