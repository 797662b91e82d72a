"""Changes folders: what is written is read back, and damage is noticed before anything is given out."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard

from sourcebook.errors import DamagedChanges
from sourcebook.hub.changes.folder import (
    METADATA_FILE,
    ChangesWriter,
    apply_change,
    encode_delete,
    encode_document,
    encode_patch,
    read_changes,
    read_id,
    read_metadata,
    verify_changes,
    write_metadata,
)
from sourcebook.hub.changes.model import Change, ChangeKind, ChangesMetadata, ComparedSide, MappingChanges
from sourcebook.hub.documents.record import make_record, record_body, record_hash

OLD = {"_id": "b", "x": [1, 2], "y": 1}
NEW = make_record({"_id": "b", "x": [1, 3], "y": True})
PATCH = b'[{"op":"replace","path":"/x/1","value":3},{"op":"replace","path":"/y","value":true}]'
SIDE = ComparedSide(build="b", version="1", collection="c", count=1, digest="0")


def write_folder(folder: Path, *, documents: int = 3, file_bytes: int = 50_000_000) -> ChangesMetadata:
    """For each of `documents` ids: one added, one updated, one deleted."""
    writer = ChangesWriter(folder, file_bytes=file_bytes)
    for number in range(documents):
        writer.write(ChangeKind.ADD, encode_document(ChangeKind.ADD, make_record({"_id": f"a{number}", "é": "\n"})))
        writer.write(ChangeKind.UPDATE, encode_patch(NEW, PATCH))
        writer.write(ChangeKind.DELETE, encode_delete(make_record({"_id": f"c{number}"})))
    files = writer.finish()
    metadata = ChangesMetadata(
        config="g", doc_type="gene", old=SIDE, new=SIDE, counts=writer.counts, mapping=MappingChanges(), files=files
    )
    write_metadata(folder, metadata)
    return metadata


@pytest.mark.parametrize("file_bytes", [1, 200, 50_000_000])
def test_what_is_written_is_read_back(tmp_path: Path, file_bytes: int) -> None:
    metadata = write_folder(tmp_path, file_bytes=file_bytes)
    assert read_metadata(tmp_path) == metadata
    verify_changes(tmp_path, metadata)
    assert (metadata.counts.add, metadata.counts.update, metadata.counts.delete, metadata.counts.total) == (3, 3, 3, 9)
    assert sum(file.changes for file in metadata.files) == 9
    assert [file.size for file in metadata.files] == [(tmp_path / file.name).stat().st_size for file in metadata.files]
    changes = list(read_changes(tmp_path))
    assert [(change.op.value, change.id) for change in changes[:3]] == [
        ("add", "a0"),
        ("update", "b"),
        ("delete", "c0"),
    ]
    assert changes[0].doc == {"_id": "a0", "é": "\n"}
    assert changes[1].patch == orjson.loads(PATCH)
    assert changes[1].hash == record_hash(NEW).hex()


@pytest.mark.parametrize("file_bytes", [1, 200, 50_000_000])
def test_a_page_of_one_kind_can_be_read(tmp_path: Path, file_bytes: int) -> None:
    metadata = write_folder(tmp_path, documents=10, file_bytes=file_bytes)
    for skip in range(11):
        adds = [change.id for change in read_changes(tmp_path, kind=ChangeKind.ADD, skip=skip, metadata=metadata)]
        assert adds == [f"a{number}" for number in range(skip, 10)]
    assert len(list(read_changes(tmp_path, skip=7))) == 23


def replace(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (flip, "is damaged: expected .* sha256"),
        (lambda path: replace(path, path.read_bytes()[:-1]), "is damaged"),
        (lambda path: replace(path, b""), "is damaged"),
        (Path.unlink, "is missing"),
        (lambda path: (path.parent / METADATA_FILE).unlink(), "metadata.json is missing"),
        (lambda path: replace(path.parent / METADATA_FILE, b"{}"), "metadata.json cannot be read: config"),
        (lambda path: replace(path.parent / METADATA_FILE, b"\xff"), "metadata.json cannot be read"),
    ],
    ids=["one bit", "cut", "emptied", "removed", "no metadata", "other metadata", "no text"],
)
def test_damage_is_noticed_before_anything_is_given_out(
    tmp_path: Path, damage: Callable[[Path], Any], told: str
) -> None:
    metadata = write_folder(tmp_path)
    damage(tmp_path / metadata.files[0].name)
    with pytest.raises(DamagedChanges, match=told):
        next(read_changes(tmp_path))


def rewrite(folder: Path, metadata: ChangesMetadata, data: bytes) -> None:
    """Replace the first file by one that its metadata describe rightly: what a wrong writer would leave."""
    (folder / metadata.files[0].name).write_bytes(data)
    file = metadata.files[0].model_copy(update={"size": len(data), "sha256": hashlib.sha256(data).hexdigest()})
    write_metadata(folder, metadata.model_copy(update={"files": [file]}))


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"not zstd", "cannot be unpacked"),
        (zstandard.compress(b""), "has 0 changes, its metadata say 9"),
        (zstandard.compress(b'{"op":"delete","_id":"a"}'), "ends within a change"),
        (zstandard.compress(b'{"op":"delete","_id":"a"\n'), "line 1: this is not a change"),
        (zstandard.compress(b'{"op":"delete"}\n'), "line 1: this is not a change"),
        (zstandard.compress(b"[]\n"), "this is not a change|has 1 changes"),
    ],
    ids=["no zstd", "nothing", "cut", "no JSON", "no id", "a list"],
)
def test_what_a_wrong_writer_left_is_refused(tmp_path: Path, data: bytes, told: str) -> None:
    rewrite(tmp_path, write_folder(tmp_path), data)
    with pytest.raises(DamagedChanges, match=told):
        list(read_changes(tmp_path))


def test_a_file_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    metadata = write_folder(tmp_path).model_dump(mode="json")
    metadata["files"][0]["name"] = "../changes-00001.jsonl.zst"
    (tmp_path / METADATA_FILE).write_bytes(orjson.dumps(metadata))
    with pytest.raises(DamagedChanges, match="name"):
        read_metadata(tmp_path)


def test_a_change_leads_to_the_new_document_or_is_refused() -> None:
    old = record_body(make_record(OLD))
    change = Change(op=ChangeKind.UPDATE, id="b", hash=record_hash(NEW).hex(), patch=orjson.loads(PATCH))
    assert apply_change(change, old) == NEW
    for wrong, told in (
        (record_body(make_record(OLD | {"z": 1})), "leads to a document with the hash"),
        (record_body(make_record({"_id": "b"})), "does not fit its old document"),
        (None, "is not there"),
    ):
        with pytest.raises(DamagedChanges, match=told):
            apply_change(change, wrong)
    whole = Change(op=ChangeKind.ADD, id="b", hash=record_hash(NEW).hex(), doc=orjson.loads(record_body(NEW)))
    assert apply_change(whole, None) == NEW
    with pytest.raises(DamagedChanges, match="leads to"):
        apply_change(whole.model_copy(update={"id": "c"}), None)
    for patch in ([{"op": "replace", "path": "", "value": 1}], [{"op": "remove", "path": "/_id"}]):
        with pytest.raises(DamagedChanges, match="leaves no document"):
            apply_change(change.model_copy(update={"patch": patch}), old)
    assert apply_change(Change(op=ChangeKind.DELETE, id="b"), old) is None


def test_the_id_is_read_without_the_document() -> None:
    for document_id in ("a", 'q"\\\n', "é" * 256, "x" * 512):
        assert read_id(make_record({"A": {"_id": 3}, "_id": document_id, "z": 1})) == document_id
