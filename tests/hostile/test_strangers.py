"""Who may not in: M03, M14 to M24, F59. Certificates, handshakes, revocation and rotation.

Over real TLS against a real server, and a real client against servers that are not what they
should be. Half handshakes against the clock are in ``tests/unit/net/test_dial.py``, files of an
identity in ``tests/unit/identity/test_directory.py``.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from netsync.errors import NetsyncError
from netsync.identity import files
from netsync.identity.contexts import Credentials, client_context, server_context
from netsync.identity.directory import load_identity
from netsync.net.channel import StreamChannel
from netsync.server.admission import SESSIONS_MAX, STRANGERS_MAX, Admission, strangers_max
from netsync.server.mirrors import Mirrors
from netsync.server.session import Session, Superseding
from netsync.wire import messages as m
from netsync.wire.order import State
from tests.hostile.conftest import MODULE, Victim
from tests.support.certificates import certificates, issue, make_authority
from tests.support.forged import CLIENT, SERVER, Forgery, trusting
from tests.support.liars import (
    HELLO,
    PATIENCE,
    Ended,
    Liar,
    frame,
    lying_client,
    lying_server,
    resident_peak,
)
from tests.support.processes import Server, netsync, running, serving
from tests.support.samples import MIB, contents, random_bytes, write
from tests.unit.net.test_channel_time import FakeStream


def bare(context: ssl.SSLContext) -> ssl.SSLContext:
    """Return ``context`` with nothing asked of the server: an attacker does not mind."""
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def without_certificate() -> ssl.SSLContext:
    return bare(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


def at_most_tls_1_2() -> ssl.SSLContext:
    context = bare(client_context(certificates().client))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def of(who: Credentials) -> ssl.SSLContext:
    return bare(client_context(who))


def dated(base: Path, start: float, days: float) -> ssl.SSLContext:
    return of(issue(base / "dated", starts_in_days=start, days=days))


STRANGERS: dict[str, Callable[[Path], ssl.SSLContext]] = {
    "M14 no certificate": lambda base: without_certificate(),
    "M15 a self-signed one": lambda base: of(Forgery(self_signed=True).made()),
    "M15 one of another CA": lambda base: of(
        trusting(certificates().stranger, certificates().client)
    ),
    "M15 another CA's own": lambda base: of(
        Forgery().made(certificates().stranger.directory)
    ),
    "M16 an expired one": lambda base: dated(base, -3, 1),
    "M16 one of tomorrow": lambda base: dated(base, 1, 1),
    "M17 a server's only": lambda base: of(Forgery(purposes=(SERVER,)).made()),
    "M22 TLS 1.2": lambda base: at_most_tls_1_2(),
}  # fmt: skip


@pytest.mark.parametrize("context", STRANGERS.values(), ids=STRANGERS)
def test_m14_to_m22_a_stranger_is_turned_away(
    victim: Victim, tmp_path: Path, context: Callable[[Path], ssl.SSLContext]
) -> None:
    """It is told in TLS's own words, before anything of ours is read; one line of the log."""
    made = context(tmp_path)
    with socket.create_connection(("127.0.0.1", victim.server.port), timeout=PATIENCE) as tcp:
        port = tcp.getsockname()[1]
        with contextlib.suppress(OSError, Ended), made.wrap_socket(tcp) as tls:
            liar = Liar(tls)
            liar.say(HELLO)
            liar.hear(m.Welcome)
            pytest.fail("welcomed")
    victim.unharmed(port, 1)


def test_m17_who_has_both_purposes_is_let_in(victim: Victim) -> None:
    """Else the test above would pass for another reason."""
    with victim.attacked(Forgery(purposes=(CLIENT, SERVER)).made(), lines=0) as liar:
        liar.greet()
        liar.say(m.Bye())
        liar.end()


NAMES: dict[str, Forgery] = {
    "M21 no name at all": Forgery(()),
    "M21 two names, one of them privileged": Forgery(("netsync://nobody", "netsync://primary1")),
    "M21 the name only as common name": Forgery((), ("primary1",)),
    "M21 a wildcard": Forgery(("netsync://*",)),
    "M21 a NUL in it": Forgery(("netsync://primary1\0.example",)),
    "M21 a newline in it": Forgery(("netsync://a\nnetsync: all is well",)),
    "M21 a path in it": Forgery(("netsync://primary1/../root",)),
    "M21 65 letters": Forgery(("netsync://" + "a" * 65,)),
    "M21 another scheme": Forgery(("https://primary1",)),
}


@pytest.mark.parametrize("forgery", NAMES.values(), ids=NAMES)
def test_m21_a_certificate_of_our_ca_with_no_clear_name_is_refused(
    victim: Victim, forgery: Forgery
) -> None:
    """Whatever a careless CA signed: rights belong to exactly one name."""
    with victim.attacked(forgery.made()) as liar:
        liar.say(HELLO)
        with pytest.raises(Ended) as ended:
            liar.hear(m.Welcome)
    assert ended.value.fault is None or ended.value.fault.code == 5


def test_m21_the_common_name_grants_nothing(victim: Victim) -> None:
    with victim.attacked(Forgery(("netsync://nobody",), common_name="primary1").made()) as liar:
        liar.say(HELLO)
        welcome = liar.hear(m.Welcome)
        liar.say(m.Opened())
        liar.end()
    assert isinstance(welcome, m.Welcome)
    assert welcome.identity == "nobody"


@pytest.mark.parametrize(
    "words",
    [b"GET / HTTP/1.0\r\n\r\n", b"SSH-2.0-x\r\n", bytes(5), b"\x16\x03\x01\xff\xff" + bytes(99)],
)
def test_a_stranger_in_the_clear_is_turned_away(victim: Victim, words: bytes) -> None:
    with socket.create_connection(("127.0.0.1", victim.server.port), timeout=PATIENCE) as tcp:
        port = tcp.getsockname()[1]
        tcp.sendall(words)
        tcp.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            while tcp.recv(4096):
                pass
    victim.unharmed(port, 1)


def test_m22_no_session_is_resumed(victim: Victim) -> None:
    """A ticket would outlive a revocation; the server gives none, and takes none."""
    context = client_context(certificates().client)
    with lying_client(victim.server.port, context=context) as liar:
        liar.greet()
        session = liar.tls.session
        assert session is not None
        assert not session.has_ticket
    with socket.create_connection(("127.0.0.1", victim.server.port), timeout=PATIENCE) as tcp:
        tls = context.wrap_socket(tcp, server_hostname="127.0.0.1", session=session)
        Liar(tls).greet()
        assert not tls.session_reused
        tls.close()


# --- the clock ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bytes_said", [1000, 1, 0])
async def test_m03_a_client_that_greets_a_byte_a_second_has_ten_seconds(
    autojump_clock: trio.testing.MockClock, bytes_said: int
) -> None:
    """The time to greet is for all of it: each byte does not start it anew, nor does silence."""
    stream = FakeStream()
    channel = StreamChannel(stream, peer="x", expects=State.CLIENT_GREETS, timeout=30)

    async def refuse(token: bytes, generation: bytes = b"") -> None:
        raise AssertionError(token, generation)

    session = Session(
        channel,
        "primary1",
        {},
        Path("/nowhere"),
        Superseding(refuse, refuse),
        Mirrors(Path("/nowhere"), refuse),
    )
    hello = frame(HELLO.type, b"\x83\xa8protocol\x01\xa8software\xa1x\xa8features\x90")

    async def dribble() -> None:
        for byte in hello[:bytes_said]:
            stream.say_bytes(bytes([byte]))
            await trio.sleep(1)

    started, code = trio.current_time(), 0
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dribble)
            try:
                await session.greet()
            except NetsyncError as error:
                code = error.exit_code
                scope.cancel()
    assert code == 12
    assert trio.current_time() - started == pytest.approx(10)


async def test_m24_the_oldest_stranger_makes_way(autojump_clock: trio.testing.MockClock) -> None:
    """As many as are allowed wait, and one more: the first has to go, nobody else."""
    admission, most = Admission(), strangers_max()
    gone: list[int] = []

    async def stand(number: int) -> None:
        with trio.CancelScope() as scope, admission.stranger(scope):
            await trio.sleep(100 if number < most else 1)
        if scope.cancelled_caught:
            gone.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(most + 2):
            nursery.start_soon(stand, number)
            await trio.testing.wait_all_tasks_blocked()
    assert gone == [0, 1]


async def test_m60_one_name_holds_so_many_sessions_and_others_are_served() -> None:
    admission = Admission()
    with contextlib.ExitStack() as stack:
        for _ in range(SESSIONS_MAX):
            stack.enter_context(admission.session(trio.CancelScope(), "greedy"))
        with (
            pytest.raises(NetsyncError) as refused,
            admission.session(trio.CancelScope(), "greedy"),
        ):
            pass
        assert refused.value.exit_code == 5
        with admission.session(trio.CancelScope(), "other"):
            pass
    with admission.session(trio.CancelScope(), "greedy"):
        pass


def test_m24_a_storm_of_connections_costs_a_bounded_amount(victim: Victim) -> None:
    """More than may wait: the oldest go, memory is bounded, and who means it is served."""
    process = victim.server.process.pid
    before = resident_peak(process, reset=True)
    with contextlib.ExitStack() as stack:
        connections = [
            stack.enter_context(socket.create_connection(("127.0.0.1", victim.server.port)))
            for _ in range(STRANGERS_MAX + 100)
        ]
        with lying_client(victim.server.port) as liar:
            liar.greet()
        connections[0].settimeout(4)  # its own time would be over after ten seconds
        assert connections[0].recv(1) == b"", "the first has made way"
        victim.others_are_served()
        grown = resident_peak(process) - before
    assert grown < 200 * MIB, f"{grown >> 20} MiB"
    victim.unharmed()


# --- revocation and rotation --------------------------------------------------------------------


class Rotating:
    """A server with an identity of its own, and a client that pushes for two seconds."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.identity = make_authority(base / "identity")
        self.client = base / "client"
        issue(self.client, "primary1", issuing=self.identity)
        self.target = base / "target"
        self.target.mkdir()
        self.source = write(
            base / "source", {f"{i:03}": random_bytes(10_000, i) for i in range(300)}
        )

    @contextlib.contextmanager
    def serving(self) -> Iterator[Server]:
        with serving("--module", f"{MODULE}={self.target}", identity=self.identity) as server:
            yield server
            assert "internal error" not in server.log

    def may(self, server: Server, who: Path) -> bool:
        """Tell whether ``who`` can list the module."""
        return netsync("ls", server.url(MODULE), identity=who).code == 0


def test_m18_a_revoked_certificate_opens_no_session_and_loses_its_own(tmp_path: Path) -> None:
    """Also one that idles between two requests, and one that comes back with its TLS session."""
    made = Rotating(tmp_path)
    who = load_identity(made.client)
    context = client_context(who)
    with made.serving() as server, lying_client(server.port, context=context) as idle:
        idle.greet()
        session = idle.tls.session
        (made.identity / files.REVOKED).write_text(f"{who.serial:x}\n")
        server.reload()
        last = idle.end()
        assert last is not None
        assert "refuses us" in str(last), "it is ended now, and not for its silence later"
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as tcp:
            tls = context.wrap_socket(tcp, server_hostname="127.0.0.1", session=session)
            back = Liar(tls)
            back.say(HELLO)
            fault = back.end()
            tls.close()
        assert fault is not None
        assert fault.code == 5
        assert str(tmp_path) not in str(fault), "M57: where our keys are is our own business"
        assert not made.may(server, made.client)


def test_m19_a_list_that_cannot_be_read_lets_nobody_back_in(tmp_path: Path) -> None:
    """The reload fails, and what was revoked stays revoked; a start fails closed."""
    made = Rotating(tmp_path)
    who = load_identity(made.client)
    revoked = made.identity / files.REVOKED
    revoked.write_text(f"{who.serial:x}\n")
    with made.serving() as server:
        assert not made.may(server, made.client)
        revoked.write_text("not a serial\n")
        server.reload()
        assert "reload failed" in server.log
        assert not made.may(server, made.client)
    result = netsync("serve", "--listen", "127.0.0.1:0", "--module", f"{MODULE}={made.target}",
                     identity=made.identity)  # fmt: skip
    assert result.code == 1
    assert "not a serial" in result.stderr


def test_f59_certificate_and_ca_are_rotated_under_load_and_no_session_is_dropped(
    tmp_path: Path,
) -> None:
    """Old CA, both, new certificate, new CA alone: sessions that began first go on."""
    made = Rotating(tmp_path)
    fresh = make_authority(tmp_path / "fresh")
    new_client = tmp_path / "new-client"
    issue(new_client, "primary1", issuing=fresh)
    old_ca, new_ca = (made.identity / files.CA).read_bytes(), (fresh / files.CA).read_bytes()
    both = old_ca + new_ca
    with made.serving() as server, lying_client(server.port, load_identity(made.client)) as idle:
        idle.greet()
        words = ("push", "--no-fsync", "--bwlimit", "1M", f"{made.source}/", server.url(MODULE))
        with running(*words, identity=made.client) as push:
            push.wait_for((made.target / "000").exists, "the transfer is under way")
            (made.identity / files.CA).write_bytes(both)
            server.reload()
            assert made.may(server, made.client)
            for directory in (made.client, new_client):
                (directory / files.CA).write_bytes(both)
            assert made.may(server, new_client)
            for name in (files.KEY, files.CERTIFICATE):
                shutil.copy(fresh / name, made.identity / name)
            server.reload()
            assert made.may(server, made.client)
            assert made.may(server, new_client)
            (made.identity / files.CA).write_bytes(new_ca)
            server.reload()
            assert not made.may(server, made.client)
            assert made.may(server, new_client)
            idle.say(m.Browse(MODULE, b""))
            idle.hear(m.Browsed)
            result = push.wait()
    assert (result.code, result.stderr) == (0, "")
    assert contents(made.target) == contents(made.source)


# --- servers that are not what they should be ---------------------------------------------------


def server_of(**more: object) -> Credentials:
    return Forgery(("netsync://standby1",), ("127.0.0.1",), purposes=(SERVER,), **more).made()  # type: ignore[arg-type]


SERVERS: dict[str, Callable[[Path], Credentials]] = {
    "another CA": lambda base: certificates().stranger,
    "self-signed": lambda base: server_of(self_signed=True),
    "expired": lambda base: issue(base / "s", hosts=("127.0.0.1",), starts_in_days=-3, days=1),
    "not yet valid": lambda base: issue(base / "s", hosts=("127.0.0.1",), starts_in_days=1),
    "another host": lambda base: issue(base / "s", hosts=("example.org",)),
    "M23 a client's": lambda base: certificates().other,
    "M21 two names": lambda base: Forgery(
        ("netsync://a", "netsync://b"), purposes=(CLIENT, SERVER)
    ).made(),
}


@pytest.mark.parametrize("who", SERVERS.values(), ids=SERVERS)
def test_a_server_that_is_not_who_it_should_be_is_refused(
    tmp_path: Path, who: Callable[[Path], Credentials]
) -> None:
    """Before the client says what it wants: exit code 5, one line."""
    asked: list[bytes] = []

    def script(liar: Liar) -> None:
        asked.append(liar.tls.recv(1))

    with lying_server(script, who(tmp_path)) as server:
        result = netsync("ls", server.url(""))
    assert (result.code, len(result.stderr.splitlines())) == (5, 1), result
    assert asked in ([], [b""])


def test_a_server_that_the_client_has_revoked_is_refused(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(certificates().client.directory, mine)
    (mine / files.REVOKED).write_text(f"{certificates().server.serial:x}\n")
    with lying_server(lambda liar: None) as server:
        result = netsync("ls", server.url(""), identity=mine)
    assert (result.code, "revoked" in result.stderr) == (5, True)


def test_m22_a_server_of_tls_1_2_is_refused() -> None:
    context = server_context(certificates().server)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with lying_server(lambda liar: None) as server:
        server._context = context
        result = netsync("ls", server.url(""))
    assert result.code in (5, 12), result
    assert len(result.stderr.splitlines()) == 1


def test_a_half_open_handshake_costs_the_client_its_connect_timeout() -> None:
    """A server that takes the ClientHello and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"netsync://127.0.0.1:{listener.getsockname()[1]}/"
        held: list[socket.socket] = []
        thread = threading.Thread(target=lambda: held.append(listener.accept()[0]))
        thread.start()
        result = netsync("ls", "--connect-timeout", "1", url)
        thread.join()
        held[0].close()
    assert (result.code, len(result.stderr.splitlines())) == (35, 1), result


@pytest.mark.parametrize("name", [files.KEY])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_a_key_that_others_can_read_is_refused_by_both_ends(
    tmp_path: Path, name: str, mode: int
) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(certificates().issuing, mine)
    (mine / name).chmod(mode)
    for words in (
        ("ls", "netsync://127.0.0.1:1/"),
        ("serve", "--listen", "127.0.0.1:0", "--module", f"m={tmp_path}"),
    ):
        result = netsync(*words, identity=mine)
        assert result.code == 1, result
        assert "chmod 600" in result.stderr
