"""From a delivery to its reply: the asyncio shell around `InFlight` and `Slots`.

Its invariant: each delivery accepted is settled once, with the reply its caller is owed, or left to a broker that
gives it to another server; and each handler's task is ended by its return, its deadline, its caller's cancel or the
drain.
User code never runs in `accept`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from time import perf_counter  # finer than the clock of every event loop
from typing import Any, cast

from rpckit.call import check_carried, check_size, event_message
from rpckit.context import Context, enter_slot
from rpckit.contract import MethodSpec, Service
from rpckit.deadline import MAX_SKEW_S, Deadline, deadline_on_arrival
from rpckit.errors import (
    Code,
    InvalidArgument,
    NotSent,
    RpcError,
)
from rpckit.events import EventBacklog, EventDelivery
from rpckit.fault import TOOLKIT, Fault, contract_changed
from rpckit.idle import Idle
from rpckit.ids import new_id
from rpckit.inflight import ADMITTED, Admission, InFlight
from rpckit.job import Job, Link, Stop, call_key
from rpckit.lending import Lending
from rpckit.message import CONTRACT_HEADER, NATIVE, REQUEST, Kind, Message
from rpckit.middleware import Middleware, compose
from rpckit.refusals import declared_fault, fault_for, not_one, same_contract, unknown_method
from rpckit.replies import Replies
from rpckit.schema import part_in
from rpckit.slots import Slots
from rpckit.stats import CallStats, MethodStats
from rpckit.threads import HandlerThreads
from rpckit.timer import TableTimer
from rpckit.transport import Delivery, begins
from rpckit.turns import Turns

__all__ = ["Dispatcher"]

log = logging.getLogger(__name__)

OTHERS_FIRST_S = 0.02  # seconds in which a server that can run a request claims it, before one that cannot refuses it
LAST_S = 1.0  # of the grace: nothing is begun in it
ENDING_S = 1.0  # seconds a stopped handler has for its own cleaning up


class Dispatcher:
    """Runs the methods of services for deliveries, at most `concurrency` at once."""

    def __init__(
        self,
        concurrency: int,
        *,
        max_body: int,
        prefetch_ahead: int,
        middleware: Sequence[Middleware[Context]] = (),
        debug: bool = False,
    ) -> None:
        self.slots = Slots(concurrency)
        self.max_body = max_body
        self.draining = False  # nothing more is taken
        self.links: list[Link] = []
        self.lending = Lending(self.slots, self.links, ahead=prefetch_ahead)
        self.events = EventBacklog()
        self.stats = CallStats()
        self._replies = Replies(self.stats, max_body=max_body, debug=debug)
        self._answer, self._fail = self._replies.answer, self._replies.fail
        self.inflight: InFlight[Job] = InFlight()
        self._running: set[Job] = set()  # with a slot, their handlers not yet over
        self._refusing: set[asyncio.Task[None]] = set()
        self._plain_serial = 0
        self._idle = Idle()
        self.loop = asyncio.get_running_loop()
        self._time = self.loop.time
        self._timer = TableTimer(self.loop, self._expire, self.inflight.next_deadline)
        self._call_turns = Turns(self.loop, enter_slot, self._run)
        self._event_turns = Turns(self.loop, enter_slot, self._run_event)
        through = compose(middleware, self._call_through)
        self._call_handler = (lambda job: through(job.context)) if middleware else self._call_function
        self._threads = HandlerThreads(self.loop, concurrency)

    # -- accepting: runs in a transport's reader --------------------------------------------------

    def accept(self, link: Link, service: Service, delivery: Delivery) -> None:
        """Take a delivery: it will run, be refused with a reply, or be handed back."""
        spec = service.find(delivery.message.method)
        if self.draining and not (delivery.redelivered and self._may_have_run(link, spec, delivery.message)):
            delivery.hand_back()
            return
        fault = self._refusal(link, service, spec, delivery)
        if fault is not None:
            self._refuse(link, delivery, fault, self.stats.of(spec or service))
            return
        assert spec is not None  # or there was a fault
        now = self._time()
        self._admit(Job(self, link, service, spec, delivery, self._deadline(link, delivery.message, now)), now)

    def accept_bare(self, link: Link, services: Sequence[Service], delivery: Delivery) -> None:
        """On a session a method may be called without its service's address, if only one service has it."""
        method = delivery.message.method
        at = next((service for service in services if service.address == method), None)
        if at is not None and at.default_method is not None and at.find(method) is None:
            delivery.message.method = ""  # the name of a service means its default method
            self.accept(link, at, delivery)
            return
        having = [service for service in services if service.find(method) is not None]
        if len(having) == 1:
            self.accept(link, having[0], delivery)
        elif self.draining:
            delivery.hand_back()
        else:
            self._refuse(link, delivery, not_one(services, having, method), self.stats.of(None))

    def cancel(self, link: Link, message: Message) -> None:
        """A caller's cancel, by address or to our inbox."""
        job = self.inflight.cancel(call_key(link, message), self.loop.time())
        if job is not None:
            self._stop(job, Stop.CANCELLED)

    def caller_gone(self, link: Link, reply_to: str) -> None:
        for key, job in self.inflight.of_caller(link.name, reply_to):
            self.inflight.pop(key)
            self._stop(job, Stop.GONE)

    def _refusal(self, link: Link, service: Service, spec: MethodSpec | None, delivery: Delivery) -> Fault | None:
        """Why it is not run, if it is not. What may have run already is told first: the others say that nothing ran."""
        message = delivery.message
        if message.kind is not REQUEST:
            return Fault(Code.INVALID_ARGUMENT, f"a {message.kind} is not a request", origin=TOOLKIT)
        if len(message.body) > self.max_body:
            text = f"{len(message.body)} bytes: over max_body ({self.max_body})"
            return Fault(Code.INVALID_ARGUMENT, text, type="InvalidArgument")
        if delivery.redelivered and self._may_have_run(link, spec, message):
            text = f"{service.address}.{message.method} was delivered before and may have run; it is not idempotent"
            return Fault(Code.ABORTED, text, origin=TOOLKIT)
        if self.lending.refuses(message.depth) and not delivery.redelivered:
            text = f"{self.lending.lent} handlers wait for nested calls here"
            return Fault(Code.RESOURCE_EXHAUSTED, text, details={"retry_after": 1.0}, retryable=True, origin=TOOLKIT)
        if message.headers and CONTRACT_HEADER in message.headers and not same_contract(service, message):
            return contract_changed(service.address, part_in(service, message.method))
        return unknown_method(service, message.method) if spec is None else None

    def _may_have_run(self, link: Link, spec: MethodSpec | None, message: Message) -> bool:
        """Elsewhere, once, and no claim would tell."""
        once = spec is None or not spec.idempotent
        return once and not link.claims and self.inflight.get(call_key(link, message)) is None

    def _refuse(self, link: Link, delivery: Delivery, fault: Fault, stats: MethodStats) -> None:
        """Only who claims it may say that it does not run, where every server has it or one had it before."""
        if link.claims and (delivery.redelivered or not link.shares):
            refusing = self.loop.create_task(self._refuse_if_claimed(delivery, fault, stats))
            self._refusing.add(refusing)
            refusing.add_done_callback(self._refusing.discard)
        else:
            stats.refused(fault.code)
            self._fail(delivery, fault)

    async def _refuse_if_claimed(self, delivery: Delivery, fault: Fault, stats: MethodStats) -> None:
        await asyncio.sleep(OTHERS_FIRST_S)
        try:
            if await begins(delivery):
                stats.refused(fault.code)
                self._fail(delivery, fault)
        except RpcError as error:
            log.info("a refusal could not be claimed: %s", error)
            self._fail(delivery, replace(fault_for(error), origin=TOOLKIT))

    def _deadline(self, link: Link, message: Message, now: float) -> Deadline | None:
        deadline, skewed = deadline_on_arrival(message.time_left_ms, message.deadline_ms, now, time.time())
        if skewed and not link.skew_logged:
            link.skew_logged = True
            log.warning(
                "a caller's clock and ours are over %s s apart: its absolute deadlines are ignored",
                MAX_SKEW_S,
            )
        return deadline

    def _admit(self, job: Job, now: float) -> None:
        if job.message.dialect != NATIVE or not job.message.correlation_id:
            self._plain_serial += 1
            job.key = (job.link.name, "plain", f"#{self._plain_serial}")
        deadline = job.deadline.at if job.deadline else None
        admission = self.inflight.admit(job.key, job, deadline=deadline)
        if admission is ADMITTED:
            self._idle.clear()
            if deadline is not None:
                self._timer.cover(deadline)
            if self.slots.take():
                self._start(job, now)
            else:
                self.slots.wait(job.key, partial(self._start, job))
        elif admission is Admission.CANCELLED:
            job.delivery.settle()
        else:
            self._adopt(job)

    def _adopt(self, job: Job) -> None:
        """The same attempt, delivered again while we run it: the new delivery is the one that can be settled."""
        running = self.inflight.get(job.key)
        if running is None or running.settled:
            job.delivery.settle()
        else:
            running.delivery.settle()  # does nothing if it came by a connection that is gone
            running.delivery = job.delivery

    # -- running -----------------------------------------------------------------------------------

    def _start(self, job: Job, now: float | None = None) -> None:
        """With a slot. A call whose time is up is not begun."""
        now = self._time() if now is None else now
        if job.deadline is not None and job.deadline.at <= now:
            self.inflight.pop(job.key)
            self._end_unbegun(job, Stop.DEADLINE)
            self.slots.release()
            self._check_idle()
            return
        if job.spec.timeout is not None:
            self._limit(job, now + job.spec.timeout)
        job.placed = True
        self._running.add(job)
        if job.needs_claim():
            job.delivery.begin(partial(self._claimed, job))
        elif job.delivery.redelivered:
            job.delivery.begin(partial(self._claimed, job), again=True)
        else:
            self._call_turns.add(job)

    def _claimed(self, job: Job, outcome: bool | RpcError) -> None:
        """What the broker refuses is answered: it did not run here; redelivered, it may have run elsewhere."""
        if outcome is True:
            self._call_turns.add(job)
            return
        if isinstance(outcome, RpcError):
            fault = replace(fault_for(outcome), origin=TOOLKIT)
            self._fail(job.delivery, fault if job.needs_claim() else replace(fault, code=Code.ABORTED), job)
        job.settled = True
        self._finish(job)

    def _limit(self, job: Job, own: float) -> None:
        """The end of a method's own time, if it is sooner than its caller's."""
        if job.deadline is None or own < job.deadline.at:
            job.deadline = Deadline(own)
            self.inflight.shorten(job.key, own)
            self._timer.cover(own)

    async def _run(self, job: Job, task: asyncio.Task[Any]) -> None:
        """The handler's own time. Its task is never cancelled before it, so what stands here always runs."""
        job.task = task
        try:
            if job.stop is None:
                job.started = perf_counter()
                job.read()
                self._answer(job, await self._call_handler(job))
            elif job.stop is Stop.DRAIN and job.needs_claim():
                self._end_stopped(job)  # claimed, it cannot be handed back
            else:
                self._end_unbegun(job, job.stop)
        except asyncio.CancelledError:
            self._end_stopped(job)
        except job.spec.raises as error:
            self._fail(job.delivery, declared_fault(error, job.spec.raises), job)
        except RpcError as error:
            self._fail(job.delivery, fault_for(error), job)
        except Exception as error:  # whatever a handler raises is answered, and logged once with its cause
            self._fail(job.delivery, self._replies.internal(job, error), job)
        except BaseException:  # SystemExit, KeyboardInterrupt: on their way out of the process
            self._fail(job.delivery, Fault(Code.INTERNAL, "the server is exiting"), job)
            raise
        finally:
            self._finish(job)

    def _finish(self, job: Job) -> None:
        job.finished = True
        job.task = None
        if job.started:
            self.stats.of(job.spec).ended(job.started - job.arrived, perf_counter() - job.started)
        self._running.discard(job)
        self.inflight.discard(job.key, job)
        if job.lent:  # it never took back the slot it lent
            self.lending.count(-1)
        else:
            self.slots.release()
        if not self._running:
            self._check_idle()

    def _call_through(self, context: Context) -> Awaitable[Any]:
        """The innermost of the middleware."""
        job = cast(Job, context.slot)
        job.arguments = context.arguments
        return self._call_function(job)

    def _call_function(self, job: Job) -> Awaitable[Any]:
        spec = job.spec
        args, kwargs = job.arguments
        if spec.context_parameter is not None:
            args, kwargs = spec.add_context(job.arguments, job.context)
        if spec.in_thread:
            return self._threads.call(spec.function, *args, **kwargs)
        called: Awaitable[Any] = spec.function(*args, **kwargs)
        return called

    # -- events --------------------------------------------------------------------------------------

    def accept_event(self, link: Link, service: Service, spec: MethodSpec, message: Message) -> None:
        """Take an event: its handler will run, unless the server is draining or falls too far behind."""
        if self.draining:
            return
        if message.kind is not Kind.EVENT or len(message.body) > self.max_body:
            size = f"{message.kind} of {len(message.body)} bytes"
            log.warning("%s.%s: dropped a %s; events have at most %d", service.name, spec.name, size, self.max_body)
            return
        if not self.events.admit(len(message.body)):
            return
        job = Job(self, link, service, spec, EventDelivery(message), None)
        self._plain_serial += 1
        job.key = (link.name, "event", f"#{self._plain_serial}")
        self.inflight.admit(job.key, job, deadline=None)
        self._idle.clear()
        if self.slots.take():
            self._start_event(job)
        else:
            self.slots.wait(job.key, partial(self._start_event, job))

    def _start_event(self, job: Job) -> None:
        self.events.begin(len(job.message.body))
        job.placed = True
        self._running.add(job)
        self._event_turns.add(job)

    async def _run_event(self, job: Job, task: asyncio.Task[Any]) -> None:
        """As `_run`, for nobody who waits: whatever goes wrong is logged, once."""
        job.task = task
        name = f"{job.service.name}.{job.spec.name}"
        fits = False
        try:
            if job.stop is None:
                job.started = perf_counter()
                job.read()
                fits = True
                await self._call_handler(job)
        except asyncio.CancelledError:
            self._replies.count_failed(job, Code.CANCELLED)
            log.warning("%s was cancelled while it handled an event", name, extra=job.context.log_fields())
        except Exception as error:
            self._replies.count_failed(job, fault_for(error).code if isinstance(error, RpcError) else Code.INTERNAL)
            fields = job.context.log_fields()
            if isinstance(error, InvalidArgument) and not fits:  # the emitter's mistake: no line of ours explains it
                what = f"an event on {job.context.topic}, which does not fit"
                log.error("%s failed to handle %s: %s", name, what, error, extra=fields)
            else:
                log.error("%s failed to handle an event", name, exc_info=error, extra=fields)
        finally:
            job.settled = True
            self._finish(job)

    async def emit(self, links: Sequence[Link], topic: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Tell everyone who listens to `topic` on `links`; at most once.

        Raises `UsageError`, and `NotSent` where no link took it: else telling it again would tell some of them twice.
        """
        event = event_message(topic, new_id(), args, kwargs, {})
        check_size(event.body, topic, self.max_body)
        for link in links:
            check_carried(link.transport.capabilities, topic)
        missed: list[NotSent] = []
        for link in links:
            try:
                await link.transport.publish(event.address, event)
            except NotSent as error:
                missed.append(error)
        if len(missed) == len(links):
            raise missed[0]
        for why in missed:
            log.warning("%s was told on %d of %d transports: %s", topic, len(links) - len(missed), len(links), why)

    # -- stopping ------------------------------------------------------------------------------------

    def _expire(self, now: float) -> None:
        for _, job in self.inflight.expire(now):
            self._stop(job, Stop.DEADLINE)

    def _stop(self, job: Job, why: Stop) -> None:
        """End a call that already left the table."""
        job.stop = job.stop or why
        if job.task is not None:
            job.task.cancel()
        elif not job.placed:
            self.slots.withdraw(job.key)
            self._end_unbegun(job, why)
            self._check_idle()

    def _end_unbegun(self, job: Job, why: Stop) -> None:
        if job.settled:
            return
        if why is Stop.DRAIN:
            job.settled = True
            job.delivery.hand_back()
        elif why is Stop.DEADLINE and job.link.claims and not job.delivery.redelivered:
            job.delivery.begin(partial(self._found_too_late, job))  # else another server may run it
        elif why is Stop.DEADLINE:
            self._found_too_late(job, True)
        else:
            self._replies.settle(job)

    def _found_too_late(self, job: Job, mine: bool | RpcError) -> None:
        """Only who has it may say that it does not run; from anybody else a caller whose time is up needs no word."""
        if mine is not True:
            self._replies.settle(job)
            return
        text = f"{job.service.address}.{job.spec.name} was not begun: its time was up"
        # delivered before, it may have run there
        code = Code.ABORTED if job.delivery.redelivered else Code.DEADLINE_EXCEEDED
        self._fail(job.delivery, Fault(code, text, origin=TOOLKIT), job)

    def _end_stopped(self, job: Job) -> None:
        """The handler's task was cancelled: by us, for the reason noted, or by somebody else."""
        if job.settled:
            return
        name = f"{job.service.address}.{job.spec.name}"
        if job.stop in (Stop.CANCELLED, Stop.GONE):
            self._replies.count_failed(job, Code.CANCELLED)
            self._replies.settle(job)
        elif job.stop is Stop.DEADLINE:
            self._fail(job.delivery, Fault(Code.DEADLINE_EXCEEDED, f"{name} was stopped: its time was up"), job)
        elif job.stop is Stop.DRAIN and job.spec.idempotent and job.link.gives_back:
            job.settled = True  # by closing: what is left open then goes to another server, or back to its caller
        elif job.stop is Stop.DRAIN:
            text = f"{name} was stopped while it ran: the server is stopping"
            self._fail(job.delivery, Fault(Code.ABORTED, text, origin=TOOLKIT), job)
        else:
            self._fail(job.delivery, Fault(Code.CANCELLED, f"{name} was cancelled on the server"), job)

    async def drain(self, grace: float) -> None:
        """Run what was delivered, hand back what has not begun in time, stop the rest: within `grace` seconds.

        Nothing is begun in the last second of it (or half, if that is less), so that what runs can end.
        No more deliveries may come from the receivers meanwhile.
        """
        last = min(LAST_S, grace / 2)
        if not await self._idle.within(grace - last):
            self.draining = True
            for key, job in self.inflight.waiting(lambda job: not job.placed):
                self.inflight.pop(key)
                self._stop(job, Stop.DRAIN)
            if not await self._idle.within(last):
                if self._idle.hurried:
                    log.warning("stopping at once, as told twice, with %d calls in flight", len(self.inflight))
                else:
                    log.warning("stopping after %s s of grace with %d calls in flight", grace, len(self.inflight))
        self.draining = True
        for _, job in self.inflight.drain():
            self._stop(job, Stop.DRAIN)
        await self._let_end()
        self.stop_timer()
        self._threads.stop()

    async def _let_end(self) -> None:
        """What was stopped, and what is being refused, each for at most `ENDING_S`."""
        if self._running:
            with suppress(TimeoutError):
                async with asyncio.timeout(ENDING_S):
                    await self._idle.wait()
        if self._refusing:
            await asyncio.wait(self._refusing, timeout=ENDING_S)
        for refusing in self._refusing:
            refusing.cancel()

    def hurry(self) -> bool:
        """The grace of a drain is over now. False if it was told before."""
        return self._idle.hurry()

    def stop_timer(self) -> None:
        self._timer.stop()

    def _check_idle(self) -> None:
        if not self._running and not self.slots.waiting:
            self._idle.set()
            self.lending.settle_down()

    # -- what there is, for whoever asks ---------------------------------------------------------------

    def specs_in_flight(self) -> list[MethodSpec]:
        """The method of each call and event delivered and not yet ended, or still ending."""
        jobs = {id(job): job for job in (*self.inflight.all(), *self._running)}
        return [job.spec for job in jobs.values()]

    def handler_of(self, task: asyncio.Task[Any] | None) -> str | None:
        """The method that a task runs, for warnings."""
        names = (f"{job.service.name}.{job.spec.name}" for job in list(self._running) if job.task is task)
        return next(names, None) if task is not None else None
