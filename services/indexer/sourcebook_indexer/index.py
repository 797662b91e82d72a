"""Index a build beside what is served, verify it, then switch."""

from sourcebook.context import Context
from sourcebook.errors import NotFound, VerificationFailed
from sourcebook.flow.messages import IndexBuild, IndexReady
from sourcebook.hub.builds import check_has_documents
from sourcebook.model.build import Build
from sourcebook.model.document import read_document
from sourcebook.model.query import MatchQuery, SearchRequest
from sourcebook.model.release import Release
from sourcebook.worker import JobRun
from sourcebook_indexer.cleanup import drop_unused_indices
from sourcebook_indexer.rollover import build_index_name, choose_release_name, switch_api

_SAMPLES = 20


async def index_build(context: Context, run: JobRun, command: IndexBuild) -> IndexReady:
    """Index the documents of a build under a new name; when count and samples agree, the API serves it.

    Raises:
        NotFound: there is no such build.
        Conflict: it is archived.
        MappingError: the engine cannot index a field as the mapping says.
        VerificationFailed: the index is not complete; the API keeps its release.
    """
    build = await context.catalog.get(Build, command.build)
    if build is None:
        raise NotFound(f"There is no build {command.build!r}.", build=command.build)
    check_has_documents(build)
    index = build_index_name(command.api, build.name, run.id)
    count = await context.search.count(index)  # not None if this job ran before and died after the commit
    if count is None:
        count = await _write_index(context, run, index, build)
    await _verify(context, index, build, count)
    release = Release(
        name=await choose_release_name(context, command.api, build, index),
        build=build.name,
        config=build.config,
        doc_type=build.doc_type,
        collection=build.collection,
        index=index,
        count=count,
        mapping=build.mapping,
        metadata=build.metadata,
    )
    await switch_api(context, command.api, release)
    await drop_unused_indices(context)
    return IndexReady(release=release.name, api=command.api, count=count)


async def _write_index(context: Context, run: JobRun, index: str, build: Build) -> int:
    settings = build.index_settings.model_dump()
    done = 0
    async with context.search.create(
        index, collection=build.collection, properties=build.mapping, settings=settings
    ) as writer:
        async for batch in context.documents.scan(build.collection, size=context.settings.batch_documents):
            await writer.add(batch)
            done += len(batch)
            await run.progress("index", done, build.count, "documents")
        return await writer.commit()


async def _verify(context: Context, index: str, build: Build, count: int) -> None:
    if count != build.count:
        raise VerificationFailed(
            f"Index {index} has {count} documents, build {build.name} has {build.count}. The API keeps its release; "
            "release the build again.",
            index=index,
            expected=build.count,
            found=count,
        )
    async for batch in context.documents.scan(build.collection, size=context.settings.batch_documents):
        for record in batch[:: max(1, len(batch) // _SAMPLES)]:
            document_id = str(read_document(record)["_id"])
            request = SearchRequest(query=(MatchQuery(document_id, ("_id",)),), size=2)
            result = await context.search.search(index, request)
            if [hit.id for hit in result.hits] != [document_id]:
                raise VerificationFailed(
                    f"Index {index} does not find the document {document_id!r} by its id. The API keeps its release.",
                    index=index,
                    id=document_id,
                )
        return
