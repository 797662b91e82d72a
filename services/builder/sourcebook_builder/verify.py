"""Verify: read everything that is stored, and say what is damaged."""

from sourcebook.context import Context
from sourcebook.errors import IndexDamaged, IndexOutdated, NotFound, StoreDamaged
from sourcebook.flow.messages import StoredVerified, VerifyStored
from sourcebook.hub.upkeep.verify import Stored, find_stored
from sourcebook.logging import get_logger
from sourcebook.worker import JobRun

log = get_logger(__name__)

_SHOWN = 20


async def verify_stored(context: Context, run: JobRun, command: VerifyStored) -> StoredVerified:
    """Read collections and indices whole.

    Raises:
        NotFound: nothing of this name is stored.
        StoreDamaged: something is damaged; the message says what.
    """
    stored = await find_stored(context, command.name)
    total, done = sum(item.documents for item in stored), 0
    damaged: dict[str, list[str]] = {}
    for item in stored:
        problems = await _verify(context, run, item)
        if problems:
            log.error("store_damaged", what=item.shown, collection=item.name, problems=problems)
            damaged[f"{item.shown} ({item.name})"] = problems
        done += item.documents
        await run.progress("verify", done, total, "documents")
    if damaged:
        told = "; ".join(f"{what}: {', '.join(problems)}" for what, problems in list(damaged.items())[:_SHOWN])
        raise StoreDamaged(
            f"{len(damaged)} of {len(stored)} collections and indices are damaged. {told}. Upload a damaged source again, build "
            "a damaged build again in full, release a damaged index again in full; or restore a backup.",
            damaged=damaged,
        )
    return StoredVerified(checked=len(stored), documents=total)


async def _verify(context: Context, run: JobRun, item: Stored) -> list[str]:
    try:
        engine = context.search if item.is_index else context.documents
        return await engine.verify(item.name)
    except IndexOutdated as error:
        run.warn(f"{item.shown} was not verified. {error.message}")
        return []
    except NotFound as error:
        # What was found may have been replaced meanwhile; what the state still names must be there.
        still = [stored.name for stored in await find_stored(context)]
        return [error.message] if item.name in still else []
    except (StoreDamaged, IndexDamaged) as error:
        return [error.message]
