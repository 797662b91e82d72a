"""Checks that an index holds the documents of a build, before an API is pointed at it."""

from collections.abc import Iterable

from sourcebook.context import Context
from sourcebook.errors import VerificationFailed
from sourcebook.hub.builds.model import Build
from sourcebook.hub.documents.record import read_document
from sourcebook.language.requests import MatchQuery, SearchRequest

_SAMPLES = 20
KEPT = "The API keeps its release; release the build in full (`sourcebook release apply BUILD --mode full`)."


async def verify_index(context: Context, index: str, build: Build) -> None:
    """Compare number and digest of the documents, and look some of them up.

    Raises:
        VerificationFailed: the index is not that of the build.
    """
    info = await context.search.info(index)
    found = (0, "") if info is None else (info.count, info.digest)
    if found != (build.count, build.digest):
        raise VerificationFailed(
            f"Index {index} has {found[0]} documents, build {build.name} has {build.count}; the digests are {found[1]} and "
            f"{build.digest}. {KEPT}",
            index=index,
            expected=build.count,
            found=found[0],
        )
    async for batch in context.documents.scan(build.collection, size=context.settings.batch_documents):
        samples = batch[:: max(1, len(batch) // _SAMPLES)]
        await look_up(context, index, [str(read_document(record)["_id"]) for record in samples], expected=True)
        return


async def look_up(context: Context, index: str, ids: Iterable[str], *, expected: bool) -> None:
    """Search documents by their ids.

    Raises:
        VerificationFailed: one is not found, or is found although it should not be.
    """
    for document_id in ids:
        request = SearchRequest(query=(MatchQuery(document_id, ("_id",)),), size=2)
        result = await context.search.search(index, request)
        if [hit.id for hit in result.hits] != [document_id] * expected:
            what = "does not find" if expected else "still finds"
            raise VerificationFailed(
                f"Index {index} {what} the document {document_id!r} by its id. {KEPT}", index=index, id=document_id
            )
