"""Link: one stream, no layer, one, or TLS in TLS; both ends of it.

Knows layers that are real, and one that shows on its outside what is in it. Must not know SMTP.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, repeat

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from smtp_adapters.tls import MemoryTLSLayer
from smtp_proto.flow.actions import Done, Receive, Send, Timer
from smtp_proto.flow.errors import SMTPTimeout, TLSError
from smtp_proto.flow.flow import Flow, Steps
from smtp_proto.flow.link import Link
from smtp_proto.flow.timeouts import Phase, TotalTimeout
from smtp_proto.flow.tls import ClientTLSFactory, TLSInfo
from smtp_proto.wire import Octets
from tests.flow.scripted import Server, play
from tests.flow.stack import Encrypting, Says, serving_as, trusting

PROXY, HOST = "proxy.test", "mail.test"
TIMER = Timer(Phase.TLS, 60.0)
SIZES = st.lists(st.integers(1, 400), max_size=40)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def outer(authority: trustme.CA) -> ssl.SSLContext:
    return serving_as(authority, PROXY)


@pytest.fixture(scope="module")
def inner(authority: trustme.CA) -> ssl.SSLContext:
    return serving_as(authority, HOST)


@pytest.fixture(scope="module")
def factory(authority: trustme.CA) -> ClientTLSFactory:
    return trusting(authority)


def both_layers(link: Link, factory: ClientTLSFactory) -> Steps[None]:
    yield from link.start_tls(factory(PROXY), TIMER)
    yield from link.start_tls(factory(HOST), TIMER)


def tls_in_tls(server: Server, factory: ClientTLSFactory) -> Link:
    link = Link()
    play(Flow(both_layers(link, factory)), server)
    return link


def receive_all(link: Link) -> Steps[bytes]:
    received = b""
    while octets := (yield from link.receive(TIMER)):
        received += octets
    return received


# --- TLS in TLS ----------------------------------------------------------------------------------


def test_what_is_said_goes_through_both_layers(
    outer: ssl.SSLContext, inner: ssl.SSLContext, factory: ClientTLSFactory
) -> None:
    there = Says(b"220 mail.test\r\n")
    server = Encrypting(outer, Encrypting(inner, there))
    link = tls_in_tls(server, factory)
    assert link.encrypted
    play(Flow(link.send(b"EHLO x\r\n", TIMER)), server)
    assert there.sent == b"EHLO x\r\n"
    assert play(Flow(link.receive(TIMER)), server) == b"220 mail.test\r\n"
    assert not link.closed


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("of_outer", [1, 1_000_000])
@pytest.mark.parametrize("of_inner", [1, 1_000_000])
def test_cut_at_every_octet(
    authority: trustme.CA,
    factory: ClientTLSFactory,
    version: ssl.TLSVersion,
    of_outer: int,
    of_inner: int,
) -> None:
    contexts = [serving_as(authority, name) for name in (PROXY, HOST)]
    for context in contexts:
        context.minimum_version = context.maximum_version = version
    inside = Encrypting(contexts[1], Says(b"one", b"two"), repeat(of_inner))
    server = Encrypting(contexts[0], inside, repeat(of_outer))
    link = tls_in_tls(server, factory)
    assert play(Flow(receive_all(link)), server) == b"onetwo"


def test_an_answer_cut_in_two_at_each_place(
    outer: ssl.SSLContext, inner: ssl.SSLContext, factory: ClientTLSFactory
) -> None:
    for place in range(1, 60):  # in both records, and behind them
        inside = Encrypting(inner, Says())
        server = Encrypting(outer, inside)
        link = tls_in_tls(server, factory)
        inside.inside = Says(b"220 mail.test\r\n")
        whole = server.read() + server.read()
        assert len(whole) > 60
        assert play(Flow(receive_all(link)), Says(whole[:place], whole[place:])) == (
            b"220 mail.test\r\n"
        )


def test_each_layer_is_ended_the_innermost_first(
    outer: ssl.SSLContext, inner: ssl.SSLContext, factory: ClientTLSFactory
) -> None:
    inside = Encrypting(inner, Says())
    server = Encrypting(outer, inside)
    link = tls_in_tls(server, factory)
    server.write(link.close())
    assert inside.closed, "which is not to be seen behind the end of the layer below"
    assert server.closed


@pytest.mark.parametrize("which", ["outer", "inner", "both", "neither"])
def test_the_end_of_either_layer_is_the_end(
    outer: ssl.SSLContext, inner: ssl.SSLContext, factory: ClientTLSFactory, which: str
) -> None:
    inside = Encrypting(inner, Says(b"last words"), cut_off=which in ("outer", "neither"))
    server = Encrypting(outer, inside, cut_off=which in ("inner", "neither"))
    link = tls_in_tls(server, factory)
    assert play(Flow(receive_all(link)), server) == b"last words"
    assert link.closed is (which != "neither")


class NeverEnding(Says):
    """Lets the time run out when there is nothing more to say."""

    def read(self) -> bytes:
        if not self.things:
            raise TimeoutError
        return super().read()


def test_what_comes_together_with_the_end_is_heard_and_then_the_end_at_once(
    outer: ssl.SSLContext, factory: ClientTLSFactory
) -> None:
    server = Encrypting(outer, Says(b"last words"))
    link = Link()
    play(Flow(link.start_tls(factory(PROXY), TIMER)), server)
    still_there = NeverEnding(b"".join(server.read() for _ in range(3)))  # tickets, and these
    assert play(Flow(receive_all(link)), still_there) == b"last words", "and no wait for more"


@given(of_outer=SIZES, of_inner=SIZES)
@settings(max_examples=30)
def test_however_it_is_cut(
    outer: ssl.SSLContext,
    inner: ssl.SSLContext,
    factory: ClientTLSFactory,
    of_outer: list[int],
    of_inner: list[int],
) -> None:
    inside = Encrypting(inner, Says(b"a" * 5000, b"b"), of_inner)
    server = Encrypting(outer, inside, of_outer)
    link = tls_in_tls(server, factory)
    assert play(Flow(receive_all(link)), server) == b"a" * 5000 + b"b"


# --- Both ends -----------------------------------------------------------------------------------


def meet(one: Steps[None], other: Steps[None], sizes: Iterable[int]) -> None:
    """Let two ends of a stream speak with each other, until both have come to their end."""
    cuts: Iterator[int] = chain(sizes, repeat(1_000_000))
    ends = [(Flow(one), deque[int]()), (Flow(other), deque[int]())]
    actions = [flow.next_action() for flow, _ in ends]
    while not all(isinstance(action, Done) for action in actions):
        before = list(actions)
        for this, (flow, heard) in enumerate(ends):
            match actions[this]:
                case Send(data):
                    ends[1 - this][1].extend(data)
                case Receive() if heard:
                    size = min(next(cuts), len(heard))
                    flow.receive_data(bytes(heard.popleft() for _ in range(size)))
                case _:
                    continue
            actions[this] = flow.next_action()
        assert before != actions or any(heard for _, heard in ends), "both wait"


def chat(link: Link, layers: Iterable[MemoryTLSLayer], says: bytes, hears: bytes) -> Steps[None]:
    for layer in layers:
        yield from link.start_tls(layer, TIMER)
    yield from link.send(says, TIMER)
    heard = b""
    while len(heard) < len(hears):
        heard += yield from link.receive(TIMER)
    assert heard == hears


@given(sizes=SIZES)
@settings(max_examples=30)
def test_a_link_at_both_ends(
    authority: trustme.CA, outer: ssl.SSLContext, inner: ssl.SSLContext, sizes: list[int]
) -> None:
    trust = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    here = [
        MemoryTLSLayer(trust, server_side=False, server_hostname=name) for name in (PROXY, HOST)
    ]
    there = [MemoryTLSLayer(context, server_side=True) for context in (outer, inner)]
    links = Link(), Link()
    meet(
        chat(links[0], here, b"ping" * 500, b"pong"),
        chat(links[1], there, b"pong", b"ping" * 500),
        sizes,
    )
    assert all(link.encrypted for link in links)


# --- What a layer wants to say by itself ---------------------------------------------------------


class Shown:
    """A layer whose cipher text is its name and the clear text in brackets. "?" wants an answer."""

    def __init__(self, name: str) -> None:
        self.name = name.encode()
        self.answer = b""
        self.closed = False

    def handshake(self) -> bool:
        return True

    def receive_data(self, data: Octets) -> bytes:
        octets = bytes(data)
        if not octets:
            return b""
        assert octets.startswith(self.name + b"(")
        clear = octets[len(self.name) + 1 : -1]
        if clear == b"?":
            self.answer = self.name + b"(!)"
            return b""
        return clear

    def receive_eof(self) -> None:
        raise AssertionError

    def encrypt(self, data: Octets) -> bytes:
        return self.name + b"(" + bytes(data) + b")"

    def data_to_send(self) -> bytes:
        answer, self.answer = self.answer, b""
        return answer

    def close(self) -> bytes:
        return self.name + b".end"

    @property
    def info(self) -> TLSInfo:
        raise AssertionError


def shown() -> Link:
    link = Link()
    for name in ("A", "B"):
        play(Flow(link.start_tls(Shown(name), TIMER)), Says())
    return link


def test_the_order_of_the_layers() -> None:
    link = shown()
    assert link.encrypt(b"x") == b"A(B(x))"
    assert link.decrypt(b"A(B(x))") == (b"x", b"")
    assert link.close() == b"A(B.end)A.end"


@pytest.mark.parametrize(("asked", "answer"), [(b"A(?)", b"A(!)"), (b"A(B(?))", b"A(B(!))")])
def test_an_answer_of_a_layer_goes_through_those_below(asked: bytes, answer: bytes) -> None:
    """As to a key update of TLS 1.3, which nobody above hears of."""
    server = Says(asked, b"A(B(x))")
    link = shown()
    assert play(Flow(link.receive(TIMER)), server) == b"x"
    assert server.sent == answer


# --- The handshake -------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [0, 1])
def test_the_alert_goes_out_through_the_layers_below(
    outer: ssl.SSLContext, factory: ClientTLSFactory, depth: int
) -> None:
    stranger = Encrypting(serving_as(trustme.CA(), HOST), Says(b"220 hello"))
    server: Server = Encrypting(outer, stranger) if depth else stranger
    link = Link()
    if depth:
        play(Flow(link.start_tls(factory(PROXY), TIMER)), server)
    with pytest.raises(TLSError, match="certificate is refused for mail.test"):
        play(Flow(link.start_tls(factory(HOST), TIMER)), server)
    assert "UNKNOWN_CA" in stranger.failure
    assert link.encrypted is bool(depth), "the layer that failed is none"


def test_an_alert_that_cannot_be_sent_hides_no_error(factory: ClientTLSFactory) -> None:
    stranger = Encrypting(serving_as(trustme.CA(), HOST), Says())

    class Deaf(Says):
        heard = 0

        def write(self, data: bytes) -> None:
            self.heard += 1
            if self.heard > 1:
                raise BrokenPipeError(32, "Broken pipe")
            stranger.write(data)

        def read(self) -> bytes:
            return stranger.read()

    with pytest.raises(TLSError, match="certificate is refused"):
        play(Flow(Link().start_tls(factory(HOST), TIMER)), Deaf())


def handshake_octets(context: ssl.SSLContext, factory: ClientTLSFactory) -> bytes:
    """The first flight of a server."""
    layer = factory(HOST)
    layer.handshake()
    server = Encrypting(context, Says())
    server.write(layer.data_to_send())
    return server.read()


@pytest.mark.parametrize("depth", [0, 1])
@pytest.mark.parametrize("end", ["EOF", "reset", "time"])
def test_a_handshake_cut_anywhere(
    outer: ssl.SSLContext, inner: ssl.SSLContext, factory: ClientTLSFactory, depth: int, end: str
) -> None:
    last: dict[str, bytes | OSError] = {
        "EOF": b"",
        "reset": ConnectionResetError(104, "Connection reset by peer"),
        "time": TimeoutError(),
    }
    length = len(handshake_octets(inner, factory)) - 8  # signatures are not all of one length
    for place in chain(range(12), range(12, length - 12, 97), range(length - 12, length)):

        class Cut(Encrypting):
            """Ends in the middle of its first flight."""

            def read(self) -> bytes:
                if not self._ended:
                    self._ended = True
                    octets = super().read()[:place]  # noqa: B023 - it is used in this round
                    if octets:
                        return octets
                match last[end]:
                    case OSError() as error:
                        raise error
                    case octets:
                        return octets

        broken = Cut(inner, Says())
        server: Server = Encrypting(outer, broken) if depth else broken
        link = Link()
        if depth:
            play(Flow(link.start_tls(factory(PROXY), TIMER)), server)
        expected = SMTPTimeout if end == "time" else TLSError
        with pytest.raises(expected, match="in phase tls|in the TLS handshake|lost"):
            play(Flow(link.start_tls(factory(HOST), TIMER)), server)
        assert link.encrypted is bool(depth)


@pytest.mark.parametrize("depth", [0, 1])
def test_what_comes_right_behind_the_handshake_is_read_next(
    authority: trustme.CA, outer: ssl.SSLContext, factory: ClientTLSFactory, depth: int
) -> None:
    context = serving_as(authority, HOST)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # here the server's part of it comes last
    inside = Encrypting(context, Says(b"220 early\r\n", b"later"), at_once=True)
    server: Server = Encrypting(outer, inside) if depth else inside
    link = Link()
    if depth:
        play(Flow(link.start_tls(factory(PROXY), TIMER)), server)
    play(Flow(link.start_tls(factory(HOST), TIMER)), server)
    flow = Flow(link.receive(TIMER))
    assert flow.next_action() == Done(b"220 early\r\n"), "without any wait"
    assert play(Flow(link.receive(TIMER)), server) == b"later"
    assert link.take_pending() == b""


def test_clear_text_that_was_there_before_the_handshake(factory: ClientTLSFactory) -> None:
    link = Link()
    link.push_back(b"220 mail.test ESMTP\r\n")
    server = Says()
    with pytest.raises(TLSError, match=r"speaks clear text .*220 mail\.test ESMTP"):
        play(Flow(link.start_tls(factory(HOST), TIMER)), server)
    assert not server.sent, "not a word was needed"
    assert not link.encrypted


def test_cipher_text_that_was_there_before_is_part_of_the_handshake(
    inner: ssl.SSLContext, factory: ClientTLSFactory
) -> None:
    """As for a server, which is spoken to first."""
    here, there = factory(HOST), Link()
    here.handshake()
    there.push_back(here.data_to_send())
    steps = there.start_tls(MemoryTLSLayer(inner, server_side=True), TIMER)
    action = Flow(steps).next_action()
    assert isinstance(action, Send), "it has no need to wait for what it has"


# --- Without a layer, and time -------------------------------------------------------------------


def test_a_clear_stream() -> None:
    link = Link()
    server = Says(b"220 x\r\n")
    play(Flow(link.send(b"hello", TIMER)), server)
    assert server.sent == b"hello"
    assert play(Flow(receive_all(link)), server) == b"220 x\r\n"
    assert not link.encrypted
    assert not link.closed
    assert link.close() == b""


def test_what_was_pushed_back_is_read_once() -> None:
    link = Link()
    link.push_back(b"220 ")
    assert play(Flow(receive_all(link)), Says(b"x\r\n")) == b"220 x\r\n"


def test_how_much_came_is_counted_for_each_wait() -> None:
    link = Link()
    first, second = Timer(Phase.GREETING, 1.0), Timer(Phase.GREETING, 1.0)
    link.count(b"abc", first)
    link.count(b"de", first)
    assert link.heard(first) == 5
    assert link.heard(second) == 0, "equal, but not the same wait"
    link.count(b"x", second)
    assert (link.heard(first), link.heard(second)) == (0, 1)


@pytest.mark.parametrize(
    ("error", "seconds", "whole"),
    [
        (TimeoutError(), 60.0, False),
        (TotalTimeout(90.0), 90.0, True),
        # The system has given up, which has nothing to do with the time that was given.
        (TimeoutError(110, "Connection timed out"), None, False),
    ],
)
def test_what_took_too_long(
    factory: ClientTLSFactory, error: TimeoutError, seconds: float | None, whole: bool
) -> None:
    link = Link()
    with pytest.raises(SMTPTimeout, match=r"in phase tls: 3 octets had come") as caught:
        play(Flow(link.start_tls(factory(HOST), TIMER)), Says(b"\x16\x03\x03", error))
    assert caught.value.seconds == seconds
    assert caught.value.whole is whole
    assert caught.value.received == 3
