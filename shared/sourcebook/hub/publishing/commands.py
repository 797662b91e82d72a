"""Publish builds to addresses, install releases from them, and subscribe to them."""

from urllib.parse import urlsplit

from pydantic import ValidationError

from sourcebook.context import Context
from sourcebook.errors import Conflict, InvalidRequest, NotFound
from sourcebook.flow.messages import InstallRelease, PublishRelease
from sourcebook.hub.builds.answers import check_has_documents, get_build, get_build_config
from sourcebook.hub.builds.model import BuildConfig
from sourcebook.hub.jobs.commands import submit
from sourcebook.hub.jobs.model import Job
from sourcebook.hub.names import check_name
from sourcebook.hub.publishing.answers import SubscriptionView, view_subscription
from sourcebook.hub.publishing.model import LATEST_FILE, VERSIONS_FILE
from sourcebook.hub.publishing.remotes import Remote, Subscription, check_address, make_remote
from sourcebook.logging import hide_secrets


async def start_publish(
    context: Context, build_name: str, url: str | None = None, *, mode: str = "auto", job_id: str | None = None
) -> Job:
    """Start to write a build to an address (default: the one in its build configuration), below its configuration's name.

    Raises:
        NotFound: there is no such build, or no address is known.
        Conflict: the build is archived.
        InvalidRequest: the address cannot be written to.
        Busy: something is being published there.
    """
    build = await get_build(context, build_name)
    check_has_documents(build)
    if url is None:
        config = await get_build_config(context, build.config)
        if config.publish is None:
            raise InvalidRequest(
                f"Configuration {config.name!r} says no address to publish to: give one, or set its `publish`.",
                config=config.name,
            )
        url = config.publish
    remote = await _store_remote(context, url, to_write=True)
    command = PublishRelease.model_validate({"build": build.name, "remote": remote.id, "mode": mode})
    return await submit(context, command, job_id=job_id)


async def start_install(
    context: Context,
    url: str,
    *,
    name: str | None = None,
    version: str | None = None,
    api: str | None = None,
) -> Job:
    """Start to install a release (default: the newest) from an address, and to serve it.

    Args:
        context: the engines.
        url: the folder with `versions.json`.
        name: what its builds are called here; default: the last part of the address.
        version: which release, by build or version.
        api: the API to serve it under; default: `name`.

    Raises:
        InvalidRequest: the address cannot be read from.
        InvalidName: a name is not allowed.
        Conflict: builds of this name are made here.
        Busy: an installation of this name is active.
    """
    address = _strip_file(url)
    chosen = await _check_install_name(context, name or _last_part(address))
    remote = await _store_remote(context, address)
    command = InstallRelease(config=chosen, remote=remote.id, api=check_name("API", api or chosen), version=version)
    return await submit(context, command)


async def subscribe(
    context: Context, url: str, cron: str, *, name: str | None = None, api: str | None = None, keep: int = 2
) -> SubscriptionView:
    """Look at an address on a schedule and install what is new; a second call changes the subscription of that name.

    Raises:
        InvalidRequest: the address, the schedule or the number to keep is not allowed.
        InvalidName: a name is not allowed.
        Conflict: builds of this name are made here.
    """
    address = _strip_file(url)
    chosen = await _check_install_name(context, name or _last_part(address))
    remote = await _store_remote(context, address)
    try:
        made = Subscription(name=chosen, remote=remote.id, cron=cron, api=check_name("API", api or chosen), keep=keep)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InvalidRequest(f"{first['loc'][0]}: {first['msg']}", key=str(first["loc"][0])) from error
    await context.state.put(chosen, made)
    return view_subscription(made, remote)


async def unsubscribe(context: Context, name: str) -> None:
    """End a subscription; what was installed stays.

    Raises:
        NotFound: nothing has this name.
    """
    if not await context.state.delete(Subscription, name):
        known = ", ".join(item.name for item in await context.state.find(Subscription)) or "none"
        raise NotFound(f"There is no subscription {name!r}. There are: {known}.", name=name)


async def start_subscribed_install(context: Context, name: str, *, job_id: str) -> Job:
    """Start to install what is new at the address of a subscription.

    Raises:
        NotFound: nothing has this name.
        Busy: an installation of this name is active.
    """
    found = await context.state.get(Subscription, name)
    if found is None:
        raise NotFound(f"There is no subscription {name!r}.", name=name)
    return await submit(context, InstallRelease(config=name, remote=found.remote, api=found.api), job_id=job_id)


async def _store_remote(context: Context, url: str, *, to_write: bool = False) -> Remote:
    try:
        remote = make_remote(check_address(url, to_write=to_write))
    except ValueError as error:
        raise InvalidRequest(f"{hide_secrets(url)}: {error}", url=hide_secrets(url)) from error
    await context.state.insert(remote.id, remote)
    return remote


async def _check_install_name(context: Context, name: str) -> str:
    check_name("build configuration", name)
    if await context.state.get(BuildConfig, name) is not None:
        raise Conflict(
            f"{name!r} is built here: there is a build configuration of this name. Install under another name (--name).",
            config=name,
        )
    return name


def _strip_file(url: str) -> str:
    text = url.strip().rstrip("/")
    for name in (VERSIONS_FILE, LATEST_FILE):
        text = text.removesuffix(f"/{name}")
    return text


def _last_part(url: str) -> str:
    parts = urlsplit(url)
    return parts.path.rstrip("/").rpartition("/")[2] or parts.netloc.rpartition("@")[2]
