"""What people ask of subscriptions."""

from pydantic import BaseModel

from sourcebook.context import Context
from sourcebook.hub.publishing.remotes import Remote, Subscription
from sourcebook.logging import hide_secrets


class SubscriptionView(BaseModel):
    """A subscription as people see it; `url` is without secrets."""

    name: str
    url: str
    cron: str
    api: str
    keep: int


async def list_subscriptions(context: Context) -> list[SubscriptionView]:
    """Return all subscriptions by name."""
    remotes = {remote.id: remote for remote in await context.state.find(Remote)}
    return [view_subscription(item, remotes.get(item.remote)) for item in await context.state.find(Subscription)]


def view_subscription(subscription: Subscription, remote: Remote | None) -> SubscriptionView:
    shown = hide_secrets(remote.url) if remote else ""
    kept = subscription.model_dump(include={"name", "cron", "api", "keep"})
    return SubscriptionView(url=shown, **kept)
