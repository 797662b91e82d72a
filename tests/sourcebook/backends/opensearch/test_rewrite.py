"""What query strings become on their way to OpenSearch."""

import pytest

from sourcebook.backends.opensearch.rewrite import find_ignored
from sourcebook.language.query_string import parse_query_string


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("_exists_:n", "(_exists_:n OR _ignored:n OR _ignored:n.* OR \\~ignored:n OR \\~ignored:n.*)"),
        (
            "a:b -_exists_:o.n^2 c",
            "a:b -(_exists_:o.n OR _ignored:o.n OR _ignored:o.n.* OR \\~ignored:o.n OR \\~ignored:o.n.*)^2 c",
        ),
        ('NOT _exists_:"a b"', 'NOT (_exists_:"a b" OR _ignored:"a b" OR \\~ignored:"a b")'),
        ("n:* OR _id:x", "(n:* OR _ignored:n OR _ignored:n.* OR \\~ignored:n OR \\~ignored:n.*) OR _id:x"),
        (
            "(x _exists_:a)",
            "(x (_exists_:a OR _ignored:a OR _ignored:a.* OR \\~ignored:a OR \\~ignored:a.*))",
        ),
        ("_exists_:_id", "_exists_:_id"),
        ("_id:*", "_id:*"),
        ("*:*", "*:*"),
        ("_exists_:_ignored", "(_exists_:_ignored OR _exists_:\\~ignored)"),
        ("_ignored:*", "(_ignored:* OR \\~ignored:*)"),
        ("-_ignored:(a OR (b c))^2 n:1", "-(_ignored:(a OR (b c)) OR \\~ignored:(a OR (b c)))^2 n:1"),
        ("_ignored: nn~1 x", "(_ignored: nn~1 OR \\~ignored:nn~1) x"),
        ("_ignored:/a.b/", "(_ignored:/a.b/ OR \\~ignored:/a.b/)"),
        ('"_ignored:n"', '"_ignored:n"'),
        ('n:x* "_exists_:n"', 'n:x* "_exists_:n"'),
        ("n:5", "n:5"),
    ],
)
def test_a_query_for_presence_finds_what_was_ignored_too(query: str, expected: str) -> None:
    assert find_ignored(query) == expected
    parse_query_string(expected)
