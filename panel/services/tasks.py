"""Tasks: stored before they begin, one writer per VM, with progress, log, cancel, and an honest end after a crash."""

from __future__ import annotations

import asyncio
import contextvars
import json
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog
from tortoise.exceptions import IntegrityError

from panel.errors import Conflict, HostUnreachable, NotFound, PanelError
from panel.events import EventBus, Resynced, TaskCancelAsked, TaskChanged, TaskLogged, TaskQueued
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import Host, Task, TaskLine, TaskStatus, Vm
from panel.models.database import is_away, is_unable
from panel.security import Actor, SecretBox
from panel.services.audit import AuditLog
from panel.services.clock import now
from panel.services.nodes import Nodes
from panel.services.taskcontext import TaskContext
from panel.services.taskends import LIVING, SETTLE_RETRY, TaskEnds
from panel.services.texts import pack, unpack
from panel.services.whole import whole

REPEATABLE = (TaskStatus.FAILED, TaskStatus.CANCELLED)
STOP_GRACE = 1.5  # seconds that tasks get to clean up when the panel stops

terminal = structlog.get_logger("panel.tasks")


Run = Callable[[TaskContext], Awaitable[dict[str, Any] | None]]
Settle = Callable[[TaskContext], Awaitable[tuple[TaskStatus, Text]]]
Said = Callable[[Mapping[str, Any]], Text | None]
Again = Callable[[Actor, Task, dict[str, Any], Sequence[Text]], Awaitable[Task]]


@dataclass(frozen=True, slots=True)
class TaskKind:
    """How a kind of task runs; and how one that the panel died over is settled: against what the hypervisor says.
    ``again`` asks for the same once more, with all checks: only for kinds that are safe to repeat and have no secret among
    their parameters, which are kept when the task fails or is cancelled. ``said`` tells more than the title, of the parameters
    or of the result; None where it cannot."""

    run: Run
    settle: Settle
    title: str
    again: Again | None = None
    said: Said | None = None


class TaskService:
    """Submits, runs, cancels and settles tasks."""

    def __init__(self, box: SecretBox, events: EventBus, audit: AuditLog, nodes: Nodes) -> None:
        self.events = events
        self._nodes = nodes
        self.kinds: dict[str, TaskKind] = {}
        self._box = box
        self._audit = audit
        self._ends = TaskEnds(events, audit, nodes, self.repeatable)
        self._running: dict[str, asyncio.Task[None]] = {}
        self._starting: dict[str, asyncio.Event] = {}  # stored, or about to be, and not begun yet
        self._cancelled: set[str] = set()  # of those that run: asked to stop

    def register(
        self, kind: str, run: Run, settle: Settle, title: str, again: Again | None = None, said: Said | None = None
    ) -> None:
        """Name the code behind a kind of task. ``title`` is a msgid."""
        self.kinds[kind] = TaskKind(run, settle, title, again, said)

    def asked(self, kind: str, sealed: str, result: Mapping[str, Any] | None) -> Text:
        """What a task was asked for, as far as its parameters (``sealed``) or its result, whichever is kept, tell."""
        known = self.kinds.get(kind)
        if known is None:
            return Text(kind)
        params = (json.loads(self._box.unseal(sealed)) if sealed else result or {}) if known.said else {}
        return (known.said and known.said(params)) or Text(known.title)

    @whole
    async def submit(
        self,
        actor: Actor,
        kind: str,
        params: Mapping[str, Any],
        *,
        host: tuple[int, str],
        vm: tuple[int, str] | None = None,
        lock: str = "",
        notes: Sequence[Text] = (),
    ) -> Task:
        """Store a task and start it, or let the process start it that watches its host. ``host`` and ``vm`` are (id, name).
        While it lives it has ``lock`` (at most 64 characters);
        by default the VM's, or else that of its kind on the host.
        ``notes`` are warnings of the door it came through, for its log.

        Raises:
            Conflict: another task has the lock; its id is in the message.
        """
        task_id = uuid.uuid4().hex
        self._starting[task_id] = asyncio.Event()
        try:
            lock = lock or (f"vm:{vm[0]}" if vm else f"host:{host[0]}:{kind}")
            return await self._submit(task_id, actor, kind, params, host, vm, lock, notes)
        finally:
            self._begun(task_id)

    async def _submit(
        self,
        task_id: str,
        actor: Actor,
        kind: str,
        params: Mapping[str, Any],
        host: tuple[int, str],
        vm: tuple[int, str] | None,
        lock: str,
        notes: Sequence[Text],
    ) -> Task:
        here = self._nodes.owns(host[0])
        moment = now()  # one for both: what is begun at once is not begun before it is there
        task = await self._store(
            id=task_id,
            kind=kind,
            status=TaskStatus.RUNNING if here else TaskStatus.QUEUED,
            created_at=moment,
            started_at=moment if here else None,
            owner=self._nodes.id if here else None,
            lock=lock,
            host_id=host[0],
            host_name=host[1],
            vm_id=vm[0] if vm else None,
            vm_name=vm[1] if vm else "",
            actor=actor.name,
            source=actor.source,
            params=self._box.seal(json.dumps(dict(params))),
        )
        for note in notes:
            await self.log(task.id, "warning", note)
        name = f"{host[1]}/{vm[1]}" if vm else host[1]
        await self._audit.write(actor, kind, "vm" if vm else "host", name, self.asked(kind, task.params, None))
        self.events.publish(TaskChanged(task.id, ended=False))
        if here:
            self._start(task, self._run(task))
            await self._starting[task_id].wait()
        else:
            self.events.publish(TaskQueued(task.id))
        return task

    def _begun(self, task_id: str) -> None:
        if event := self._starting.pop(task_id, None):
            event.set()

    async def _store(self, **columns: Any) -> Task:
        """The task's row, with its lock, or ``Conflict`` naming who has the lock."""
        while True:
            try:
                return await Task.create(**columns)
            except IntegrityError as error:
                holder = await Task.get_or_none(lock=columns["lock"])
                if holder is None:
                    continue  # it ended just now: the lock is free
                raise Conflict(
                    _("Task {task} ({kind}) is at work on {name}. Wait for it, or cancel it."),
                    task=holder.id,
                    kind=holder.kind,
                    name=holder.vm_name or holder.host_name,
                ) from error

    async def wait(self, task_id: str, seconds: float) -> Task:
        """Wait until a task ended, at most ``seconds``; returns its row as it is then."""
        with self.events.subscribe() as subscription:
            task = await self.get(task_id)
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while not task.status.ended:
                        event = await subscription.get()
                        if event == TaskChanged(task_id, ended=True) or isinstance(event, Resynced):
                            task = await self.get(task_id)
        return await self.get(task_id)

    async def get(self, task_id: str) -> Task:
        """The task, or ``NotFound``."""
        task = await Task.get_or_none(id=task_id) if len(task_id) <= 32 else None
        if task is None:
            raise NotFound(_("There is no task {task}."), task=task_id[:32])
        return task

    async def cancel(self, actor: Actor, task_id: str) -> Task:
        """Ask a living task to stop; what it made so far is cleaned up. ``Conflict`` when it ended already."""
        task = await self.get(task_id)
        if task.status.ended:
            raise Conflict(_("Task {task} has ended already."), task=task_id)
        await Task.filter(id=task_id, cancel_requested=False).update(cancel_requested=True)
        await self._audit.write(actor, "task.cancel", "task", task_id, Text(_("Asked a task to stop.")))
        if not await self.cancel_here(task_id):
            task = await self.get(task_id)
            if task.status is TaskStatus.QUEUED:
                await self._ends.write(task, TaskStatus.CANCELLED, Text(_("Cancelled.")))
            elif task.status is TaskStatus.RUNNING and task.owner != self._nodes.id:
                self.events.publish(TaskCancelAsked(task_id))
            elif not task.status.ended:  # its process is gone
                await self._ends.write(task, TaskStatus.CANCELLED, Text(_("Cancelled before it could be settled.")))
        return await self.get(task_id)

    async def cancel_here(self, task_id: str) -> bool:
        """Cancel a task that this process is at work on, once: a second time would break the clean-up that the first began.
        False when it is not."""
        if starting := self._starting.get(task_id):
            await starting.wait()  # what has not begun cannot clean up
        running = self._running.get(task_id)
        if running is not None and task_id not in self._cancelled:
            self._cancelled.add(task_id)
            running.cancel()
        return running is not None

    def repeatable(self, task: Task) -> bool:
        """Whether the task did not succeed, and all that is needed to try again was kept."""
        kind = self.kinds.get(task.kind)
        return task.status in REPEATABLE and bool(task.params) and kind is not None and kind.again is not None

    async def again(self, actor: Actor, task_id: str) -> Task:
        """Try again what a task did not do: a new task, whose log names the first.

        Raises:
            Conflict: the task cannot be repeated, or what it would do is not possible now.
            NotFound: the task, its VM or its host is gone.
        """
        task = await self.get(task_id)
        again = self.kinds[task.kind].again if self.repeatable(task) else None
        if again is None:
            raise Conflict(_("Task {task} cannot be tried again. Ask for it anew."), task=task_id)
        note = Text(_("Tried again after task {task}."), {"task": task.id})
        return await again(actor, task, self._context(task).params, (note,))

    async def log(self, task_id: str, level: str, text: Text) -> None:
        """Append a line to a task's log."""
        await TaskLine.create(task_id=task_id, at=now(), level=level, message=pack(text))
        self.events.publish(TaskLogged(task_id))

    async def recover(self) -> int:
        """Settle what an earlier process left unfinished, in the background. Returns how many tasks that is. Where several
        processes serve, ``panel.services.taskshares`` does that all the time."""
        if self._nodes.id is not None:
            return 0
        unfinished = await Task.filter(status__in=LIVING)
        for task in unfinished:
            self.settle(task)
        return len(unfinished)

    def begin(self, task: Task) -> None:
        """Run a task that was claimed for this process."""
        self._starting[task.id] = asyncio.Event()
        self._start(task, self._run(task))

    def settle(self, task: Task) -> None:
        """Settle a task that nobody is at work on any more."""
        if task.cancel_requested:
            self._cancelled.add(task.id)  # that was meant for whoever was
        self._start(task, self._settle(task))

    def at_work(self) -> set[str]:
        """The tasks that this process is at work on, or about to be."""
        return {*self._running, *self._starting}

    def abandon(self) -> None:
        """Others may take this process for dead: stop at once what they are going to settle."""
        for job in self._running.values():
            job.cancel()

    async def stop(self) -> None:
        """Stop everything within ``STOP_GRACE``; what does not end is settled at the next start."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=STOP_GRACE)

    def _start(self, task: Task, work: Any) -> None:
        # a fresh context: a transaction of the caller must not leak into the task
        job = asyncio.get_running_loop().create_task(
            self._watched(task, work), name=f"task {task.id}", context=contextvars.Context()
        )
        self._running[task.id] = job
        job.add_done_callback(lambda _job: self._done(task.id))

    def _done(self, task_id: str) -> None:
        self._running.pop(task_id, None)
        self._cancelled.discard(task_id)
        self._begun(task_id)

    async def _watched(self, task: Task, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # it is settled once the database answers
            terminal.error("the end of a task was not written", task=task.id, reason=type(error).__name__)

    async def _run(self, task: Task) -> None:
        self._begun(task.id)
        kind = self.kinds[task.kind]
        context = self._context(task)
        try:
            task.result = await kind.run(context)
        except asyncio.CancelledError:
            if task.id not in self._cancelled:
                return  # the panel stops: settled at the next start, or by another process
            await self._ends.write(task, TaskStatus.CANCELLED, Text(_("Cancelled.")))
        except PanelError as error:
            await self._ends.write(task, TaskStatus.FAILED, error.text, error.status)
        except Exception as error:
            if is_away(error):
                raise  # nobody knows how far it came: it is settled when the database answers
            terminal.exception("task failed", task=task.id, kind=task.kind)
            if is_unable(error):
                await self._settle(task, error)  # as after a crash: what is done and what is stored may differ
            else:
                text = Text(_("An internal error; the panel's log has its trace."))
                await self._ends.write(task, TaskStatus.FAILED, text, 500)
        else:
            text = context.outcome or unpack(task.message) or Text(_("Done."))
            await self._ends.write(task, TaskStatus.SUCCEEDED, text)

    async def _settle(self, task: Task, trouble: Exception | None = None) -> None:
        """``trouble``: why, when it is the database's and not the panel's end."""
        context = self._context(task)
        told = False
        while True:
            try:
                if told or trouble:
                    await asyncio.sleep(SETTLE_RETRY)
                if trouble:
                    await self.log(task.id, "warning", Text(_("What this task did could not be stored.")))
                    trouble = None
                status, text = await self.kinds[task.kind].settle(context)
            except HostUnreachable as error:
                if not told:
                    told = True
                    await self.log(task.id, "warning", Text(_("The panel stopped during this task.")))
                    await self.log(task.id, "warning", error.text)
            except asyncio.CancelledError:
                if task.id in self._cancelled:
                    await self._ends.write(task, TaskStatus.CANCELLED, Text(_("Cancelled before it could be settled.")))
                return
            except PanelError as error:
                await self._ends.write(task, TaskStatus.INTERRUPTED, error.text, error.status)
                return
            except Exception as error:
                if is_away(error):
                    raise
                terminal.exception("task not settled", task=task.id, kind=task.kind)
                if is_unable(error):
                    trouble = error
                    continue
                text = Text(_("An internal error; the panel's log has its trace."))
                await self._ends.write(task, TaskStatus.INTERRUPTED, text, 500)
                return
            else:
                await self._ends.write(task, status, text)
                return

    def params_of(self, task: Task) -> dict[str, Any]:
        """What a task was given; nothing any more when it ended and cannot be repeated."""
        return json.loads(self._box.unseal(task.params)) if task.params else {}

    def _context(self, task: Task) -> TaskContext:
        return TaskContext(self, task, self.params_of(task))


async def subject(context: TaskContext) -> tuple[Vm, Host]:
    """The VM and host that a task is about. ``NotFound`` when the VM is gone."""
    vm = await vm_of(context.task)
    return vm, vm.host


async def vm_of(task: Task) -> Vm:
    """The VM that a task is or was about, with host and interfaces. ``NotFound`` when it is gone."""
    vm = await Vm.get_or_none(id=task.vm_id).prefetch_related("host", "nics")
    if vm is None:
        raise NotFound(_("There is no VM {name} on host {host}."), name=task.vm_name, host=task.host_name)
    return vm
