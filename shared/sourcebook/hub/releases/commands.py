"""What changes releases and APIs: notes, names that releases are served under, going back."""

import time

from sourcebook.context import Context
from sourcebook.errors import Conflict
from sourcebook.hub.names import check_name
from sourcebook.hub.releases.answers import get_api, get_release
from sourcebook.hub.releases.model import Api, Release


async def put_api(context: Context, api: Api) -> Api:
    """Create an API or change its configuration and `max_age`; the release that it serves is moved by releases alone.

    Raises:
        InvalidName: its name cannot name an API.
    """
    check_name("API", api.name)
    fresh = Api(name=api.name, config=api.config, max_age=api.max_age)
    changes = {"config": api.config, "max_age": api.max_age, "updated_at": time.time()}
    return await context.state.update(Api, api.name, lambda known: known.model_copy(update=changes), default=fresh)


async def delete_api(context: Context, name: str) -> None:
    """Stop serving an API and remove its indices; the builds stay.

    Raises:
        NotFound: nothing has this name.
    """
    api = await get_api(context, name)
    await context.state.delete(Api, name)
    for release_name in [api.release, *api.history]:
        release = await context.state.get(Release, release_name) if release_name else None
        if release is not None:
            await context.state.delete(Release, release.name)
            await context.search.drop(release.index)


async def rollback(context: Context, name: str, to: str | None = None) -> Api:
    """Serve an earlier release again, in one step. The present one stays, so that `to` can lead back to it.

    Without `to` it is the release that was served before the present one; a release that was rolled back itself is passed over,
    so that going back twice goes back two releases.

    Raises:
        NotFound: there is no such API.
        Conflict: it has no such earlier release.
    """
    ages = {release.name: release.released_at for release in await context.state.find(Release)}

    def move(api: Api) -> Api:
        target = to or next((item for item in api.history if item not in api.rolled_back), None)
        if target is None or target not in api.history:
            raise Conflict(_say_what_is_kept(api, to), api=name, kept=api.history)
        history = [item for item in (api.release, *api.history) if item and item != target]
        left = {*api.rolled_back} - {target}
        # Going forward to a newer release says nothing against the one that is left.
        if api.release and ages.get(target, 0.0) <= ages.get(api.release, 0.0):
            left.add(api.release)
        rolled_back = [item for item in history if item in left]
        changes = {"release": target, "history": history, "rolled_back": rolled_back, "updated_at": time.time()}
        return api.model_copy(update=changes)

    await get_api(context, name)
    return await context.state.update(Api, name, move)


def _say_what_is_kept(api: Api, wanted: str | None) -> str:
    if wanted is None and api.history:
        return (
            f"API {api.name!r} keeps no release before this one that was not rolled back already; "
            f"say which to serve (--to): {', '.join(api.history)}."
        )
    kept = ", ".join(api.history) or "none"
    return f"API {api.name!r} keeps no release {wanted or 'before this one'}; kept are: {kept}."


MAX_NOTE_CHARACTERS = 10_000


async def set_note(context: Context, name: str, note: str) -> Release:
    """Replace what a person says of a release.

    Raises:
        NotFound: there is no such release.
    """
    await get_release(context, name)
    return await context.state.update(Release, name, lambda release: release.model_copy(update={"note": note}))
