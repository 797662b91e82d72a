"""What is remembered of things that are done by themselves: schedules, and what follows in a build configuration."""

from pydantic import BaseModel, Field


class ScheduleState(BaseModel):
    """When a schedule is due again, and what it did last. `key` is `kind:target`; times are seconds since 1970."""

    key: str
    cron: str
    due_at: float
    last_at: float | None = None
    last_job: str | None = None
    last_error: str | None = None


class ChainState(BaseModel):
    """How far a build configuration went by itself.

    `uploads` are those of the last build that was started because of new ones. Builds that ended up to `released_until`, and
    releases up to `published_until`, are dealt with: nothing starts for them any more.
    """

    config: str
    uploads: list[str] = Field(default_factory=list)
    released_until: float = 0.0
    published_until: float = 0.0
    seen_builds: int = 0
    """Position of the state's builds at which there was nothing to release: until it moves, nobody looks again."""
    last_error: str | None = None
