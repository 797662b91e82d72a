"""Uploads from end to end, with the embedded stores and a real parser process."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import SourceBench


def test_documents_are_stored_in_id_order(bench: SourceBench) -> None:
    bench.write("""
        def load_data(data_folder):
            for line in open(f"{data_folder}/data.txt"):
                yield {"_id": line.strip(), "size": len(line)}
            yield {"_id": "a", "name": "first of all"}
    """)
    outcome = bench.upload_once()
    assert outcome.documents == [{"_id": "a", "name": "first of all"}, {"_id": "one", "size": 4}, {"_id": "two", "size": 4}]
    assert outcome.message.count == 3
    assert not outcome.message.unchanged
    assert outcome.record.release == "1"
