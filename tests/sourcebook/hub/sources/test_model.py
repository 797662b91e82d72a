"""Records of sources, also as earlier versions of Sourcebook wrote them."""

from sourcebook.flow.messages import DumpReady
from sourcebook.hub.sources.model import Dump, Upload

DUMP = {"id": "one@1", "source": "one", "folder": "archive/one/1", "files": []}
UPLOAD = {"id": "u", "source": "one", "uploader": "one", "collection": "c", "count": 0, "digest": "0"}


def test_a_dump_and_an_upload_are_read_whether_they_say_version_or_release() -> None:
    for key in ("version", "release"):
        found = Dump.model_validate(DUMP | {key: "2026-01"}), Upload.model_validate(UPLOAD | {key: "2026-01"})
        assert [record.version for record in found] == ["2026-01", "2026-01"]


def test_a_dump_and_an_upload_are_written_with_a_version() -> None:
    written = [
        Dump.model_validate(DUMP | {"release": "1"}).model_dump(mode="json"),
        Upload.model_validate(UPLOAD | {"release": "1"}).model_dump(mode="json", by_alias=True),
    ]
    assert [(record["version"], "release" in record) for record in written] == [("1", False), ("1", False)]


def test_the_result_of_a_dump_that_an_earlier_version_recorded_is_read() -> None:
    assert DumpReady.model_validate({"source": "one", "dump": "one@1", "release": "1"}).version == "1"
