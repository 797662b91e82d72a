"""A job: one run of a stage, its states and which may follow which."""

import time
import uuid
from enum import StrEnum
from typing import Any, Self

from pydantic import BaseModel, Field

from sourcebook.errors import Conflict
from sourcebook.hub.access.model import UNKNOWN, Caller


class JobState(StrEnum):
    """Where a job stands; it never goes backwards."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL_STATES = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})
ACTIVE_STATES = frozenset({JobState.QUEUED, JobState.RUNNING})
# RUNNING may follow RUNNING: a job whose worker died is taken over by another.
_NEXT = {
    JobState.QUEUED: {JobState.RUNNING, JobState.FAILED, JobState.CANCELLED},
    JobState.RUNNING: {JobState.RUNNING, *FINAL_STATES},
}


class Progress(BaseModel):
    """How far a job is."""

    done: int = 0
    total: int | None = None
    unit: str = ""
    step: str = ""


class JobError(BaseModel):
    """Why a job failed."""

    code: str
    message: str
    details: dict[str, Any] = Field(default_factory=dict)
    traceback: str | None = None


def new_job_id() -> str:
    """Return a new id; later ids sort after earlier ones (milliseconds, then random bits)."""
    return f"{int(time.time() * 1000):011x}{uuid.uuid4().hex[:8]}"


class Job(BaseModel):
    """One run of a stage.

    `lock` names what it works on: two jobs with the same lock never run at once. Times are seconds since 1970.
    """

    id: str = Field(default_factory=new_job_id)
    kind: str
    target: str
    lock: str
    command: dict[str, Any] = Field(default_factory=dict)
    caller: Caller = UNKNOWN
    """Who asked for it, or for the job that it follows or is a part of."""
    state: JobState = JobState.QUEUED
    progress: Progress = Field(default_factory=Progress)
    parent: str | None = None
    children: list[str] = Field(default_factory=list)
    parts_open: bool = False
    """Whether parts of it may be unfinished, or may have left something; their `parent` is this job."""
    attempt: int = 0
    cancel_requested: bool = False
    warnings: list[str] = Field(default_factory=list)
    output: str = ""
    """What the plugin printed: its beginning and its end, if it was much."""
    result: dict[str, Any] | None = None
    error: JobError | None = None
    queued_at: float = Field(default_factory=time.time)
    sent_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None

    @property
    def is_finished(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in FINAL_STATES

    def move_to(self, state: JobState, **changes: Any) -> Self:
        """Return this job in its next state.

        Raises:
            Conflict: `state` may not follow the present one.
        """
        if state not in _NEXT.get(self.state, ()):
            raise Conflict(f"Job {self.id} is {self.state}; it cannot become {state}.", job=self.id, state=self.state)
        times = (
            {"finished_at": time.time()} if state in FINAL_STATES else {"started_at": self.started_at or time.time()}
        )
        return self.model_copy(update={"state": state, **times, **changes})
