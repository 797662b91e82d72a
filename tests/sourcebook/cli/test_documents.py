"""`show`: a look at the documents of a source before they are built."""

from .conftest import Sourcebook


def test_documents_are_shown_by_id_and_as_a_sample(served: Sourcebook) -> None:
    assert served("show", "fruit", "kiwi").json == {"_id": "kiwi", "grams": 75}
    assert [document["_id"] for document in served("show", "fruit").json] == ["apple", "kiwi", "plum"]
    assert [len(served("show", "fruit/fruit", "--sample", str(size)).json) for size in (1, 2, 9)] == [1, 2, 3]


def test_a_field_is_described(served: Sourcebook) -> None:
    shown = served("show", "fruit", "--field", "grams").out.splitlines()
    assert [" ".join(line.split()) for line in shown if line.strip()] == [
        "documents that have it 3 of 3",
        "values 3",
        "different ones 3",
        "types integer (3)",
        "smallest 66",
        "largest 180",
        "examples 180, 75, 66",
        "in apple, kiwi, plum",
    ]
    assert served("show", "fruit", "--field", "grams", "--json").json["count"] == 3


def test_what_is_not_there_is_said(served: Sourcebook) -> None:
    for arguments, message in (
        (("nope",), "There is no source 'nope'"),
        (("fruit/x",), "has no uploader 'x'"),
        (("fruit", "fig"), "fruit/fruit has no document 'fig'"),
        (("fruit", "--field", "colour"), "No document of fruit/fruit has the field 'colour'"),
    ):
        ended = served("show", *arguments)
        assert (ended.status, message in ended.err) == (3, True), ended
