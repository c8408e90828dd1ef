"""aioamqp's defects in dialling, watching and closing (facts/drivers.md, A12 to A32), as users see them."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
import traceback
from collections.abc import AsyncIterator, Iterator, Sized
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pika
import pytest
import trustme

from rpckit import Client, ConnectionLost, NotSent, OutcomeUnknown, RpcError, Server, Service, UsageError
from rpckit.ids import new_id
from rpckit.testing import RabbitMq
from rpckit.testing._ports import free_port
from rpckit.transport import OnMessage, State
from rpckit_amqp._driver import FastProtocol

from .world import Figure, eventually, proxied, session_of, with_options

pytestmark = pytest.mark.timeout(20)

HEARTBEAT = 1  # second
MARGIN = 0.3  # seconds for a busy machine, on top of two heartbeats
PASSWORD = "s3cr3t#/@%:?&=ü"
CONSUME_OK = b"\x00\x3c\x00\x15"


def service_at(address: str) -> Service:
    service = Service("connections", address=address)

    @service.method
    async def echo(value: object) -> object:
        return value

    @service.method
    async def slow(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    return service


@pytest.fixture
def address() -> str:
    return f"faults.connections.{new_id()[:8]}"


async def seconds_of(work: object) -> tuple[object, float]:
    """The outcome of an awaitable, result or error, and how long it took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    (outcome,) = await asyncio.gather(work, return_exceptions=True)  # type: ignore[call-overload]
    return outcome, loop.time() - began


def everything_said(error: object, caplog: pytest.LogCaptureFixture) -> str:
    assert isinstance(error, BaseException)
    return "".join(traceback.format_exception(error)) + repr(error) + caplog.text


# -- a peer that is silent --------------------------------------------------------------------------


async def test_a_frozen_peer_is_found_within_two_heartbeats(
    own_rabbitmq: RabbitMq, address: str, figure: Figure
) -> None:
    """A12: little in flight. Pending calls fail at once then, each with `ConnectionLost`."""
    async with (
        Server(service_at(address), url=own_rabbitmq.url, grace=0),
        proxied(own_rabbitmq.url, heartbeat=HEARTBEAT) as (proxy, url),
        Client(url) as client,
    ):
        calls = [asyncio.create_task(client.call(f"{address}.slow", 10)) for _ in range(5)]
        await asyncio.sleep(0.2)
        proxy.freeze()
        results, took = await seconds_of(asyncio.gather(*calls, return_exceptions=True))
        figure("frozen peer found, little in flight (heartbeat 1 s)", took)
        assert [type(result) for result in results] == [ConnectionLost] * 5  # type: ignore[attr-defined]
        assert took < 2 * HEARTBEAT + MARGIN


async def test_a_frozen_peer_is_found_with_the_send_buffer_full(
    own_rabbitmq: RabbitMq, address: str, figure: Figure
) -> None:
    """A13: `close()` waited for a flush that never came: no error ever, and 100 % CPU."""
    async with (
        Server(service_at(address), url=own_rabbitmq.url),
        proxied(own_rabbitmq.url, heartbeat=HEARTBEAT) as (proxy, url),
        Client(url, send_wait=10) as client,
    ):
        assert await client.call(f"{address}.echo", 1) == 1
        proxy.freeze()
        body = bytes(1_000_000)
        cpu = time.process_time()
        calls = [asyncio.create_task(client.call(f"{address}.echo", body)) for _ in range(30)]
        await asyncio.sleep(0.1)
        assert session_of(client).protocol.congested()
        marshalled = time.process_time() - cpu
        results, took = await seconds_of(asyncio.gather(*calls, return_exceptions=True))
        figure("frozen peer found, send buffer full (heartbeat 1 s)", took + 0.1)
        figure("CPU while it was frozen", time.process_time() - cpu - marshalled)
        assert all(isinstance(result, OutcomeUnknown | NotSent) for result in results)  # type: ignore[attr-defined]
        assert took < 2 * HEARTBEAT + MARGIN
        assert time.process_time() - cpu - marshalled < 0.5


async def test_a_heartbeat_of_zero_is_refused() -> None:
    """A14: a frozen peer was never found."""
    with pytest.raises(UsageError, match="heartbeat"):
        Client("amqp://localhost?heartbeat=0")
    with pytest.raises(UsageError, match="heartbeat"):
        await Server(service_at("x"), url="amqp://localhost?heartbeat=0").start()


async def test_a_busy_connection_is_not_taken_for_dead(own_rabbitmq: RabbitMq, address: str) -> None:
    """A12's other side: deliveries without a pause for three heartbeats are signs of life, both ways."""
    url = with_options(own_rabbitmq.url, heartbeat=HEARTBEAT)
    async with Server(service_at(address), url=url) as server, Client(url) as client:
        session = session_of(client)
        assert server._dispatcher is not None
        transport = server._dispatcher.links[0].transport
        consuming = transport._consuming.session  # type: ignore[attr-defined]
        until = asyncio.get_running_loop().time() + 3.2 * HEARTBEAT

        async def stream() -> None:
            while asyncio.get_running_loop().time() < until:
                await client.call(f"{address}.echo", 1)

        await asyncio.gather(*(stream() for _ in range(8)))
        assert session_of(client) is session
        assert transport._consuming.session is consuming  # type: ignore[attr-defined]


async def test_a_one_way_stream_keeps_its_connection(own_rabbitmq: RabbitMq, address: str) -> None:
    """A12's other side: a subscriber that only receives still sends its heartbeats."""
    url = with_options(own_rabbitmq.url, heartbeat=HEARTBEAT)
    async with Server(service_at(address), url=url) as server, Client(url) as client:
        assert server._dispatcher is not None
        transport = server._dispatcher.links[0].transport
        consuming = transport._consuming.session  # type: ignore[attr-defined]
        assert await client.call(f"{address}.echo", 1) == 1
        until = asyncio.get_running_loop().time() + 3.2 * HEARTBEAT
        while asyncio.get_running_loop().time() < until:
            task = asyncio.create_task(client.call(f"{address}.slow", 5))
            await asyncio.sleep(0.01)
            task.cancel()  # the cancel comes on a queue whose messages are not acked
            await asyncio.gather(task, return_exceptions=True)
        assert transport._consuming.session is consuming  # type: ignore[attr-defined]
    assert client.pending == 0


# -- connecting to what is no broker, or not well -----------------------------------------------------


class Impostor:
    """Accepts, and answers what it was told to; counts the connections that are still open."""

    def __init__(self, answer: bytes, *, closes: bool = False) -> None:
        self._answer, self._closes = answer, closes
        self.open = self.accepted = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.accepted += 1
        try:
            await reader.read(8)
            writer.write(self._answer)
            while not self._closes and await reader.read(1024):
                pass
        except ConnectionError:
            pass
        finally:
            self.open -= 1
            writer.close()


@asynccontextmanager
async def impostor(answer: bytes, *, closes: bool = False) -> AsyncIterator[tuple[Impostor, str]]:
    what = Impostor(answer, closes=closes)
    server = await asyncio.start_server(what.handle, "127.0.0.1", 0)
    try:
        yield what, f"amqp://127.0.0.1:{server.sockets[0].getsockname()[1]}/?connect_timeout=0.5"
    finally:
        server.close()
        await eventually(lambda: what.open == 0)


ANSWERS = {
    "silent": (b"", False),
    "closing": (b"", True),
    "HTTP": (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", False),
    "another version": (b"AMQP\x00\x01\x00\x00", True),
    "SSH": (b"SSH-2.0-OpenSSH_9.2\r\n", False),
    "half a frame": (b"\x01\x00\x00\x00\x00\x01\xff", False),
    "a frame without end": (b"\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x0aX", False),
    "an undecodable frame": (b"\x01\x00\x00\x00\x00\x00\x06\x00\x0a\x00\x0a\x00\x09\xce", False),
    "zeros": (bytes(64), False),
}


@pytest.mark.parametrize("answer", ANSWERS)
async def test_connecting_to_no_broker_ends_in_time_and_leaves_nothing(answer: str) -> None:
    """A15: it hung for ever, and giving up leaked the socket."""
    data, closes = ANSWERS[answer]
    async with impostor(data, closes=closes) as (peer, url):
        client = Client(url)
        error, took = await seconds_of(client.connect())
        assert isinstance(error, NotSent)
        assert took < 0.8
        await client.close()
        await eventually(lambda: peer.open == 0, 1)
        assert peer.accepted == 1
        with pytest.raises(NotSent):
            await Server(service_at("x"), url=url).start()
        await eventually(lambda: peer.open == 0, 1)


async def test_connecting_cancelled_at_any_moment_leaves_nothing_to_complain_of() -> None:
    """A24's other side: uvloop closes a connection that is cancelled as it is made, but says of it that it is open."""
    async with impostor(b"") as (peer, url):
        for moment in range(20):
            client = Client(url)
            connecting = asyncio.create_task(client.connect())
            for _ in range(moment):
                await asyncio.sleep(0)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
            await client.close()
        with pytest.raises(NotSent):  # the peer has accepted all the others before this one
            await Client(url).connect()
        await eventually(lambda: peer.open == 0, 1)
    gc.collect()  # what complains, complains here


async def test_connecting_to_a_frozen_broker_ends_in_time(own_rabbitmq: RabbitMq) -> None:
    """A15, with a connection that is accepted into silence."""
    async with proxied(own_rabbitmq.url, connect_timeout=0.5) as (proxy, url):
        proxy.freeze()
        error, took = await seconds_of(Client(url).connect())
        assert isinstance(error, NotSent)
        assert "did not answer within 0.5 s" in str(error)
        assert took < 0.8


@pytest.mark.parametrize("after", [100, 400, 560, 640, 700, 800, 1000])
async def test_a_link_cut_anywhere_in_the_handshake_is_not_sent(own_rabbitmq: RabbitMq, after: int) -> None:
    """A15 and A28: whichever of the driver's steps is under way."""
    async with proxied(own_rabbitmq.url) as (proxy, url):
        proxy.cut_after(after, "to_client")
        client = Client(url, send_wait=1)
        (outcome,) = await asyncio.gather(client.connect(), return_exceptions=True)
        assert outcome is None or isinstance(outcome, RpcError)
        await client.close()
        await eventually(lambda: proxy.connections == 0)


@pytest.mark.parametrize("turns", range(5))
async def test_a_link_lost_as_the_inbox_opens_is_waited_for(
    own_rabbitmq: RabbitMq, address: str, turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost so many turns of the loop after the last answer came in: the inbox went with it, and so did being ready."""
    loop = asyncio.get_running_loop()

    def lose(link: Any, turns: int) -> None:
        if turns:
            loop.call_soon(lose, link, turns - 1)
        else:
            link.transport.abort()

    async with Server(service_at(address), url=own_rabbitmq.url), proxied(own_rabbitmq.url) as (proxy, url):
        client = Client(url)
        open_inbox, heard = client.transport.open_inbox, FastProtocol.data_received
        doomed: list[FastProtocol] = []
        refusing: list[asyncio.Future[None]] = []

        def hear(link: FastProtocol, data: bytes) -> None:
            heard(link, data)
            if link in doomed and CONSUME_OK in data:
                doomed.clear()
                refusing.append(asyncio.ensure_future(proxy.refuse()))
                lose(link, turns)

        async def lose_it(on_message: OnMessage, pending: Sized = ()) -> None:
            client.transport.open_inbox = open_inbox  # type: ignore[method-assign]
            doomed.append(session_of(client).protocol)
            await open_inbox(on_message, pending)

        monkeypatch.setattr(FastProtocol, "data_received", hear)  # of the class: uvloop looks it up once
        client.transport.open_inbox = lose_it  # type: ignore[method-assign]
        (outcome,) = await asyncio.gather(client.connect(), return_exceptions=True)
        assert outcome is None or isinstance(outcome, NotSent)
        await eventually(lambda: client.state is State.RECONNECTING)
        assert client.transport.inbox == ""
        call = asyncio.create_task(client.call(f"{address}.echo", 1))
        await asyncio.gather(*refusing)
        await proxy.accept()
        assert await call == 1
        await client.close()


async def test_a_dead_host_is_passed_over(own_rabbitmq: RabbitMq, address: str) -> None:
    """Several hosts: the first that answers; and after a loss the same search again."""
    url = f"amqp://127.0.0.1:{free_port()},127.0.0.1:{own_rabbitmq.port}/"
    async with Server(service_at(address), url=url), Client(url) as client:
        assert await client.call(f"{address}.echo", 1) == 1
        session = session_of(client)
        session.protocol.transport.abort()
        await eventually(lambda: session_of(client) not in (None, session))
        assert await client.call(f"{address}.echo", 2) == 2


async def test_several_dead_hosts_are_all_named() -> None:
    ports = free_port(), free_port()
    with pytest.raises(NotSent) as caught:
        await Client(f"amqp://127.0.0.1:{ports[0]},127.0.0.1:{ports[1]}/").connect()
    assert all(str(port) in str(caught.value) for port in ports)


# -- credentials ----------------------------------------------------------------------------------


async def test_a_wrong_password_is_a_quick_usage_error(
    own_rabbitmq: RabbitMq, caplog: pytest.LogCaptureFixture, figure: Figure
) -> None:
    """A16: 3.0 s, then an error without a reason."""
    caplog.set_level(logging.DEBUG)
    url = f"amqp://guest:{quote('wr0ng#pass', safe='')}@127.0.0.1:{own_rabbitmq.port}/"
    error, took = await seconds_of(Client(url).connect())
    figure("wrong password told", took)
    assert isinstance(error, UsageError)
    assert "user and password in the URL" in str(error)
    assert took < 1.0
    assert "wr0ng" not in everything_said(error, caplog)


async def test_a_missing_vhost_is_a_quick_usage_error(
    own_rabbitmq: RabbitMq, caplog: pytest.LogCaptureFixture, figure: Figure
) -> None:
    """A17: an error without a reason."""
    caplog.set_level(logging.DEBUG)
    error, took = await seconds_of(Client(f"{own_rabbitmq.url}nowhere").connect())
    figure("missing vhost told", took)
    assert isinstance(error, UsageError)
    assert "no vhost 'nowhere'" in str(error)
    assert took < 1.0
    assert "guest:guest" not in everything_said(error, caplog)


async def test_a_password_of_any_characters_works_and_is_never_shown(
    own_rabbitmq: RabbitMq, caplog: pytest.LogCaptureFixture, address: str
) -> None:
    """A30 and A31: no unquoting, and a `ValueError` that showed the password."""
    caplog.set_level(logging.DEBUG)
    await asyncio.to_thread(own_rabbitmq.ctl, "add_user", "rows", PASSWORD)
    await asyncio.to_thread(own_rabbitmq.ctl, "add_vhost", "a/b")
    await asyncio.to_thread(own_rabbitmq.ctl, "set_permissions", "-p", "a/b", "rows", ".*", ".*", ".*")
    here = f"127.0.0.1:{own_rabbitmq.port}/a%2Fb?heartbeat=7"
    url = f"amqp://rows:{quote(PASSWORD, safe='')}@{here}"
    async with Server(service_at(address), url=url), Client(url) as client:
        assert await client.call(f"{address}.echo", 1) == 1
        said = f"{client!r} {client.url!r} {client.url} {client.at(address)!r} {client.settings!r}"
        session_of(client).protocol.transport.abort()
        await asyncio.sleep(0)
    said += caplog.text
    for raw in (f"amqp://rows:{PASSWORD}@{here}", f"amqp://rows:{PASSWORD}@127.0.0.1:{own_rabbitmq.port}"):
        (outcome,) = await asyncio.gather(connect_and_close(raw), return_exceptions=True)
        said += "" if outcome is None else everything_said(outcome, caplog)
    assert "s3cr3t" not in said
    assert quote(PASSWORD, safe="") not in said


async def connect_and_close(url: str) -> None:
    async with Client(url):
        pass


async def test_a_refused_reply_queue_leaves_no_connection(own_rabbitmq: RabbitMq) -> None:
    """A20 and A28: refused only after the connection stood; nobody would have closed it."""
    await asyncio.to_thread(own_rabbitmq.ctl, "add_user", "reader", "reader")
    await asyncio.to_thread(own_rabbitmq.ctl, "set_permissions", "reader", "^$", "^$", ".*")
    async with proxied(f"amqp://reader:reader@127.0.0.1:{own_rabbitmq.port}/") as (proxy, url):
        with pytest.raises(UsageError, match="set_permissions"):
            await connect_and_close(url)
        await eventually(lambda: proxy.connections == 0)
        with pytest.raises(UsageError, match="set_permissions"):
            await Server(service_at("x"), url=url).start()
        await eventually(lambda: proxy.connections == 0)


async def test_who_may_not_read_a_queue_is_told_so(own_rabbitmq: RabbitMq, address: str) -> None:
    """A28: consuming ends the channel and its connection; that was told as a loss, which may be tried again."""
    ctl = own_rabbitmq.ctl
    await asyncio.to_thread(ctl, "add_user", "writer", "writer")
    url = f"amqp://writer:writer@127.0.0.1:{own_rabbitmq.port}/"
    await asyncio.to_thread(ctl, "set_permissions", "writer", ".*", ".*", r"^rpckit\.")
    with pytest.raises(UsageError, match=f"consuming from '{address}'.*set_permissions"):
        await Server(service_at(address), url=url).start()
    await asyncio.to_thread(ctl, "set_permissions", "writer", ".*", ".*", "^$")
    client = Client(url, timeout=3)
    for _ in range(2):
        with pytest.raises(UsageError, match=r"consuming from 'rpckit\.inbox.*set_permissions"):
            await client.call(f"{address}.echo", 1)
    await client.close()


async def test_a_queue_in_exclusive_use_is_served_again_once_it_is_free(amqp_url: str, address: str) -> None:
    """A20: met by a reconnect, it was taken for a refused password, and the server ended for good."""
    async with proxied(amqp_url) as (proxy, url), Client(amqp_url) as client:
        with taken(amqp_url, address), pytest.raises(UsageError, match=r"in exclusive use$"):
            await Server(service_at(address), url=url).start()
        async with Server(service_at(address), url=url) as server:
            assert server._dispatcher is not None
            consuming = server._dispatcher.links[0].transport._consuming  # type: ignore[attr-defined]
            await proxy.refuse()
            proxy.reset()
            await asyncio.sleep(0.2)  # for the broker to notice
            with taken(amqp_url, address):
                await proxy.accept()
                await asyncio.sleep(1)
                assert consuming.state is State.RECONNECTING
            await eventually(lambda: consuming.state is State.CONNECTED)
            assert await client.call(f"{address}.echo", 1) == 1


@contextmanager
def taken(url: str, queue: str) -> Iterator[None]:
    """By another program, for itself alone."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.queue_declare(queue, durable=True)
        channel.basic_consume(queue, lambda *_: None, exclusive=True)
        yield


# -- closing --------------------------------------------------------------------------------------


async def test_a_forced_close_fails_pending_calls_at_once(own_rabbitmq: RabbitMq, address: str, figure: Figure) -> None:
    """A18: consumers and reply futures heard nothing."""
    async with Server(service_at(address), url=own_rabbitmq.url, grace=0), Client(own_rabbitmq.url) as client:
        call = asyncio.create_task(client.call(f"{address}.slow", 10))
        await asyncio.sleep(0.1)
        began = asyncio.get_running_loop().time()
        closing = asyncio.create_task(asyncio.to_thread(own_rabbitmq.ctl, "close_all_connections", "maintenance work"))
        with pytest.raises(ConnectionLost, match="maintenance work"):
            await call
        figure(
            "forced close told to a pending call, rabbitmqctl's start included",
            asyncio.get_running_loop().time() - began,
        )
        await closing
        assert await client.call(f"{address}.echo", 1, no_server="wait") == 1


async def test_closing_twice_is_closing_once(own_rabbitmq: RabbitMq, address: str) -> None:
    """A29: closing a closed connection raised."""
    server, client = Server(service_at(address), url=own_rabbitmq.url), Client(own_rabbitmq.url)
    await server.start()
    await client.connect()
    for _ in range(2):
        await client.close()
        await server.stop()
    with pytest.raises(NotSent):
        await client.call(f"{address}.echo", 1)


async def test_closing_a_lost_connection_is_quiet(own_rabbitmq: RabbitMq, address: str) -> None:
    """A29: closing a connection that the other side has closed."""
    async with proxied(own_rabbitmq.url) as (proxy, url):
        server, client = Server(service_at(address), url=url), Client(url)
        await server.start()
        await client.connect()
        await proxy.refuse()
        proxy.reset()
        await client.close()
        await server.stop()


async def test_stopping_a_server_whose_link_is_lost_meanwhile_is_quiet(own_rabbitmq: RabbitMq, address: str) -> None:
    """A23 and A29: the question under way was cancelled, and whoever stopped the server with it."""
    async with proxied(own_rabbitmq.url) as (proxy, url):
        server = Server(service_at(address), url=url)
        await server.start()
        proxy.freeze()
        stopping = asyncio.create_task(server.stop(grace=0))
        await asyncio.sleep(0.1)
        await proxy.refuse()
        proxy.cut()
        await asyncio.wait_for(stopping, 5)


async def test_closing_over_a_frozen_link_ends_soon(own_rabbitmq: RabbitMq, address: str, figure: Figure) -> None:
    """A13 and A29: a goodbye that nobody answers."""
    async with proxied(own_rabbitmq.url, heartbeat=HEARTBEAT) as (proxy, url):
        server, client = Server(service_at(address), url=url), Client(url)
        await server.start()
        await client.connect()
        proxy.freeze()
        results, took = await seconds_of(asyncio.gather(client.close(), server.stop(grace=0)))
        figure("client and server closed over a frozen link (heartbeat 1 s)", took)
        assert results == [None, None]
        assert took < 5


# -- an unusual broker: TLS, other limits -------------------------------------------------------------


class Secured:
    """A broker that speaks TLS too, and offers few channels, larger frames and no heartbeat."""

    def __init__(self, folder: Path) -> None:
        authority, stranger = trustme.CA(), trustme.CA()
        self.cafile, self.other_cafile = folder / "ca.pem", folder / "other.pem"
        authority.cert_pem.write_to_path(str(self.cafile))
        stranger.cert_pem.write_to_path(str(self.other_cafile))
        certificate = authority.issue_cert("127.0.0.1")
        certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
        certificate.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
        self.tls_port = free_port()
        self.broker = RabbitMq(
            config={
                "listeners.ssl.1": f"127.0.0.1:{self.tls_port}",
                "ssl_options.cacertfile": str(self.cafile),
                "ssl_options.certfile": str(folder / "cert.pem"),
                "ssl_options.keyfile": str(folder / "key.pem"),
                "channel_max": "4",
                "frame_max": "262144",
                "heartbeat": "0",
            }
        )

    def url(self, cafile: Path | None = None) -> str:
        options = f"?cafile={quote(str(cafile))}" if cafile else ""
        return f"amqps://guest:guest@127.0.0.1:{self.tls_port}/{options}"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, own_rabbitmq: RabbitMq) -> Iterator[Secured]:
    secured = Secured(tmp_path_factory.mktemp("tls"))
    with secured.broker:
        yield secured


async def test_tls_carries_large_bodies_and_closes_cleanly(secured: Secured, address: str) -> None:
    """A32, with an authority of one's own."""
    url = secured.url(secured.cafile)
    async with Server(service_at(address), url=url), Client(url) as client:
        body = bytes(range(256)) * 3900
        assert await client.call(f"{address}.echo", body) == body


async def test_an_untrusted_certificate_is_a_clear_error(secured: Secured) -> None:
    """A32: what is not trusted, and how to say whom to trust."""
    for cafile in (None, secured.other_cafile):
        with pytest.raises(UsageError, match=r"not trusted.*cafile"):
            await Client(secured.url(cafile)).connect()


async def test_a_certificate_for_another_name_is_a_clear_error(secured: Secured) -> None:
    url = secured.url(secured.cafile).replace("127.0.0.1", "localhost")
    with pytest.raises(UsageError, match="not trusted"):
        await Client(url).connect()


async def test_a_missing_or_broken_cafile_is_a_clear_error(secured: Secured, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("this is no certificate")
    for cafile in (tmp_path / "missing.pem", broken):
        with pytest.raises(UsageError, match="cafile"):
            await Client(secured.url(cafile)).connect()


@pytest.mark.parametrize("scheme", ["amqp", "amqps"])
async def test_the_wrong_scheme_for_a_port_ends_soon(secured: Secured, scheme: str) -> None:
    """A15 and A32: TLS to a plain port, and plain to a TLS port."""
    port = secured.tls_port if scheme == "amqp" else secured.broker.port
    error, took = await seconds_of(Client(f"{scheme}://guest:guest@127.0.0.1:{port}/?connect_timeout=2").connect())
    assert isinstance(error, NotSent)
    assert took < 2.5


async def test_a_broker_of_few_channels_is_enough(secured: Secured, address: str) -> None:
    """A26: the channel after the last killed the connection; and what the broker offers was exceeded."""
    url = secured.broker.url
    async with Server(service_at(address), url=url), Client(url) as client:
        session = session_of(client)
        assert session.protocol.server_channel_max == 4
        for n in range(10):
            with pytest.raises(RpcError):
                await client.call(f"faults.nowhere.{n}.x")
        await client.notify(f"{address}.echo", 1)
        assert await client.call(f"{address}.echo", 1) == 1
        assert session_of(client) is session


async def test_a_broker_of_larger_frames_sends_none_that_are_refused(secured: Secured, address: str) -> None:
    """A5: the driver accepts what the broker offers; a frame above our own limit ended the connection."""
    url = secured.broker.url
    async with Server(service_at(address), url=url), Client(url) as client:
        session = session_of(client)
        body = bytes(1_000_000)
        assert await client.call(f"{address}.echo", body) == body
        assert session_of(client) is session
        assert session.protocol.server_frame_max == 131_072


async def test_a_broker_without_heartbeats_of_its_own_sends_ours(secured: Secured, address: str) -> None:
    """A14: an idle connection stays, and the watchdog has something to watch."""
    url = with_options(secured.broker.url, heartbeat=HEARTBEAT)
    async with Server(service_at(address), url=url), Client(url) as client:
        session = session_of(client)
        await asyncio.sleep(4 * HEARTBEAT)  # RabbitMQ closes after two or three without a sign
        assert session_of(client) is session
        assert await client.call(f"{address}.echo", 1) == 1
