"""Messages as earlier versions of Sourcebook wrote them."""

from sourcebook.flow.messages import DumpReady


def test_the_result_of_a_dump_that_an_earlier_version_recorded_is_read() -> None:
    assert DumpReady.model_validate({"source": "one", "dump": "one@1", "release": "1"}).version == "1"
