"""Runs one job: claims it, keeps its lock alive, reports progress, records how it ended, and sends what follows."""

import asyncio
import contextlib
import importlib
import shutil
import time
import traceback
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from sourcebook.context import Context
from sourcebook.errors import Cancelled, SourcebookError, TimeLimitExceeded, TransientError
from sourcebook.flow.messages import Message
from sourcebook.flow.stages import STAGES, next_commands
from sourcebook.hub import create_job, send_job
from sourcebook.logging import bind_log_context, get_logger, hide_secrets
from sourcebook.model.job import ACTIVE_STATES, Job, JobError, JobState, Progress

log = get_logger(__name__)

Handler = Callable[[Context, "JobRun", Any], Awaitable[Message]]
_PROGRESS_SECONDS = 0.3  # progress is written at most this often


class JobRun:
    """What business code knows of the job it works for."""

    def __init__(self, context: Context, job: Job) -> None:
        self.id = job.id
        self.job = job
        self.warnings: list[str] = list(job.warnings)
        self._context = context
        self._written = 0.0
        self.lock_lost = False

    async def progress(self, step: str, done: int, total: int | None = None, unit: str = "") -> None:
        """Report how far the job is; call it as often as you like, it is written a few times a second.

        Raises:
            Cancelled: someone cancelled the job, or another worker took it over.
        """
        if self.lock_lost:
            raise Cancelled(f"Job {self.id} was taken over by another worker.", job=self.id)
        now = time.monotonic()
        if now - self._written < _PROGRESS_SECONDS and done != total:
            return
        self._written = now
        progress = Progress(done=done, total=total, unit=unit, step=step)
        job = await self._context.catalog.update(Job, self.id, lambda j: j.model_copy(update={"progress": progress}))
        if job.cancel_requested or job.is_finished:
            raise Cancelled(f"Job {self.id} was cancelled.", job=self.id)

    def warn(self, message: str) -> None:
        """Add a warning to the job's record; the first hundred are kept."""
        if len(self.warnings) < 100:  # noqa: PLR2004 - a bound on the size of the record
            self.warnings.append(message)
        log.warning("job_warning", message=message)


class JobBusy(Exception):  # noqa: N818 - an answer to the bus, no error of a user
    """Another job holds the lock: try again in a few seconds."""
