"""Celery's configuration and its tasks: one a stage, each hands a job id to `worker.execute_job`.

Each worker process has one event loop and one context, opened when the process starts and closed when it ends.
"""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from typing import Any

from celery import Celery
from celery.signals import (
    beat_embedded_init,
    setup_logging,
    worker_process_init,
    worker_process_shutdown,
    worker_ready,
    worker_shutting_down,
)
from celery.worker.consumer import Consumer
from kombu.message import Message

from sourcebook.backends import broker_transport_options
from sourcebook.context import Context, open_context
from sourcebook.flow.stages import BEAT_QUEUE, STAGES
from sourcebook.home import own_temporary_folder, prepare_home
from sourcebook.hub.access.model import SYSTEM
from sourcebook.hub.schedules.commands import recover_jobs, run_schedules
from sourcebook.logging import configure_logging, get_logger
from sourcebook.probes import BEAT_SECONDS, serve_probes
from sourcebook.sdk.sandbox import die_with_parent
from sourcebook.settings import Settings
from sourcebook.worker import RETRY_SECONDS, Outcome, StopSign, execute_job

# What beat does: its name, the function, and how often, in seconds.
_CHORES = {"recover": (recover_jobs, 5.0), "schedule": (run_schedules, 2.0)}
_CLOCK_SECONDS = 1.0
_END_SECONDS = 15.0  # for a beat worker to end once its clock has died

log = get_logger(__name__)


class JobConsumer(Consumer):
    """Celery's consumer, which connects again when a message cannot be acknowledged.

    A job may end while the broker is down. Celery logs that and keeps the message in hand, which, as a worker takes one
    message at a time, means that it never takes another. An error of the connection makes it connect anew.
    """

    def call_soon(self, p: Any, *args: Any, **kwargs: Any) -> Any:
        """Run `p` in the worker's loop; Celery before 5.7 acknowledges by it."""
        return super().call_soon(_settle_message, p, *args, **kwargs)

    def call_soon_ack(self, p: Any, *args: Any, **kwargs: Any) -> Any:
        """Run `p`, which acknowledges or rejects a message, in the worker's loop."""
        return super().call_soon_ack(_settle_message, p, *args, **kwargs)


def _settle_message(p: Any, *args: Any, **kwargs: Any) -> None:
    p(*args, **kwargs)
    message = getattr(p, "__self__", None)
    if isinstance(message, Message) and not message.acknowledged:
        raise BrokenPipeError("the broker did not take an acknowledgement")


class _Process:
    """The loop and the context of this worker process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.stop = StopSign()
        self._runner: asyncio.Runner | None = None
        self._stack = AsyncExitStack()
        self._context: Context | None = None

    def run(self, work: Any) -> Any:
        """Run `work(context)` on the loop; the context is opened at the first call."""
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner.run(self._with_context(work))

    async def _with_context(self, work: Any) -> Any:
        if self._context is None:
            self._context = await self._stack.enter_async_context(open_context(self._settings, SYSTEM))
        return await work(self._context)

    def close(self) -> None:
        """Close the context and the loop."""
        if self._runner is not None:
            self._runner.run(self._stack.aclose())
            self._runner.close()


def make_celery(settings: Settings, tick: Callable[[], None] = lambda: None) -> Celery:
    """Return the Celery app of the broker that the settings name; `tick` is called after each scheduled chore."""
    celery = Celery("sourcebook", broker=settings.celery_broker_url)
    celery.conf.update(
        broker_transport_options=broker_transport_options(),
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_consumer=JobConsumer,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        task_serializer="json",
        accept_content=["json"],
        enable_utc=True,
        beat_schedule={
            name: {
                "task": f"sourcebook.{name}",
                "schedule": seconds,
                "options": {"queue": BEAT_QUEUE, "expires": seconds},
            }
            for name, (_, seconds) in _CHORES.items()
        },
        beat_schedule_filename=str(settings.home / "run" / "beat-schedule"),
    )
    process = _Process(settings)
    for name in STAGES:
        celery.task(_make_task(process), name=f"sourcebook.{name}", bind=True, max_retries=None)
    for name, (work, _) in _CHORES.items():
        celery.task(_make_chore(process, work, tick), name=f"sourcebook.{name}")
    _connect_signals(process, settings)
    return celery


def _make_task(process: _Process) -> Any:
    def run_job(task: Any, job_id: str) -> None:
        outcome = process.run(lambda context: execute_job(context, job_id, process.stop))
        if outcome is Outcome.LATER:
            raise task.retry(countdown=RETRY_SECONDS)
        if outcome is Outcome.AT_ONCE:
            raise task.retry(countdown=0)

    return run_job


def _make_chore(process: _Process, work: Any, tick: Callable[[], None]) -> Any:
    def do_chore() -> None:
        process.run(work)
        tick()

    return do_chore


def _connect_signals(process: _Process, settings: Settings) -> None:
    main_pid = os.getpid()

    # Celery keeps weak references to receivers: hold these for the life of the process.
    @worker_process_shutdown.connect(weak=False)
    def close_context(**_: Any) -> None:
        process.close()

    @worker_shutting_down.connect(weak=False)
    def end_jobs_in_time(**_: Any) -> None:
        process.stop.set(settings.stop_grace)

    @beat_embedded_init.connect(weak=False)
    @worker_process_init.connect(weak=False)
    def end_with_the_main_process(**_: Any) -> None:
        if os.getpid() != main_pid:  # a forked child; the solo pool has no process of its own
            die_with_parent(main_pid)

    @setup_logging.connect(weak=False)
    def use_our_logging(**_: Any) -> None:
        configure_logging(settings.log_level, as_json=settings.log_json)


def run_worker(settings: Settings, queue: str, *, concurrency: int = 1) -> int:
    """Run a worker of one queue until it is told to stop; return its exit status.

    The `beat` queue's worker also sends the scheduled tasks.
    """
    prepare_home(settings.home)
    (settings.home / "run").mkdir(exist_ok=True)
    ready_file = settings.worker_ready_file(queue)
    ready_file.unlink(missing_ok=True)
    worker_ready.connect(lambda **_: ready_file.write_text(str(os.getpid())), weak=False)
    options = ["worker", "-Q", queue, "-n", f"{queue}@%h", "-c", str(concurrency), "-l", settings.log_level]
    options += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    options += ["-P", "solo", "-B"] if queue == BEAT_QUEUE else ["-P", "prefork"]
    clock = _Clock()
    with ExitStack() as stack:
        stack.enter_context(own_temporary_folder(settings.home))
        if settings.metrics_port:
            probes, start_answering = stack.enter_context(serve_probes(settings, queue))
            app = make_celery(settings, probes.tick)
            app.conf.worker_consumer = _watched_by(probes.beat)
            worker_ready.connect(lambda **_: start_answering(), weak=False)
        else:
            app = make_celery(settings)
        if queue == BEAT_QUEUE:
            clock.connect()
        try:
            app.worker_main(options)
        except SystemExit as end:
            return int(end.code or clock.has_died)
        return int(clock.has_died)


class _Clock:
    """The process that sends the scheduled tasks, a child of the beat worker. The worker ends when it has died.

    Celery goes on without it: nothing would be scheduled or recovered any more, and nobody would know.
    """

    def __init__(self) -> None:
        self.has_died = False
        self._is_stopping = False

    def connect(self) -> None:
        """Watch it once the worker has started."""
        worker_shutting_down.connect(self._note_stop, weak=False)
        worker_ready.connect(self._watch, weak=False)

    def _note_stop(self, **_: Any) -> None:
        self._is_stopping = True

    def _watch(self, sender: Any, **_: Any) -> None:
        threading.Thread(target=self._wait, args=(sender.controller.beat,), daemon=True, name="clock").start()

    def _wait(self, process: Any) -> None:
        while process.is_alive():  # it closes the file that would tell of its end
            time.sleep(_CLOCK_SECONDS)
        if self._is_stopping:
            return
        self.has_died = True
        log.error("clock_died", pid=process.pid, hint="the worker ends too, so that what keeps it starts it anew")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_END_SECONDS)
        os._exit(1)  # a chore may wait for an engine that is away


def _watched_by(beat: Callable[[], None]) -> type[JobConsumer]:
    """Return the consumer that calls `beat` every second while its loop turns, which it does while it is connected."""

    class WatchedConsumer(JobConsumer):
        def register_with_event_loop(self, hub: Any) -> None:
            super().register_with_event_loop(hub)
            # Celery cancels it when the connection is lost, and comes by again with the next one.
            self.timer.call_repeatedly(BEAT_SECONDS, beat)

    return WatchedConsumer
