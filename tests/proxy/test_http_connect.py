"""HTTP CONNECT: the request line by line, and each kind of header."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_proto.proxy import HttpConnect, ProxyCodec, ProxyMalformed, ProxyRefused
from smtp_proto.wire import WireError
from tests.proxy.exchanges import CANARY, CUTS, GREETING, Outcome, cut, talk, ways_to_cut

PROXY = HttpConnect("proxy.test", 3128)
LOGIN = HttpConnect("proxy.test", 3128, "tim", CANARY)
OK = b"HTTP/1.1 200 OK\r\n\r\n"
LONGEST = 32_768


def begun(proxy: HttpConnect = PROXY) -> ProxyCodec:
    codec = proxy.codec("mx.test", 25)
    codec.start()
    return codec


def outcome_of(answer: bytes, proxy: HttpConnect = PROXY) -> Outcome:
    """What comes of an answer; it must not depend on how it is cut."""
    (outcome,) = {talk(proxy.codec("mx.test", 25), pieces) for pieces in ways_to_cut(answer)}
    return outcome


# --- the request


@pytest.mark.parametrize(
    ("host", "authority"),
    [
        ("mx.test", b"mx.test:25"),
        ("ü.test", b"xn--tda.test:25"),
        ("192.0.2.1", b"192.0.2.1:25"),
        ("2001:db8::1", b"[2001:db8::1]:25"),
        ("[::1]", b"[::1]:25"),
    ],
)
def test_the_request(host: str, authority: bytes) -> None:
    request = b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (authority, authority)
    assert PROXY.codec(host, 25).start() == request


def test_credentials_go_out_once() -> None:
    basic = base64.b64encode(b"tim:" + CANARY.encode())
    codec = LOGIN.codec("mx.test", 25)
    assert codec.start() == (
        b"CONNECT mx.test:25 HTTP/1.1\r\nHost: mx.test:25\r\n"
        b"Proxy-Authorization: Basic " + basic + b"\r\n\r\n"
    )
    with pytest.raises(ProxyRefused):
        codec.receive_data(b"HTTP/1.1 407 Again\r\nProxy-Authenticate: Basic\r\n\r\n")


@pytest.mark.parametrize(("username", "password"), [("", ""), ("", "a:b"), ("jörg", "ü:")])
def test_credentials_of_all_kinds(username: str, password: str) -> None:
    request = HttpConnect("p", 1, username, password).codec("mx.test", 25).start()
    basic = request.partition(b"Basic ")[2].removesuffix(b"\r\n\r\n")
    assert base64.b64decode(basic, validate=True).decode() == f"{username}:{password}"


@pytest.mark.parametrize(
    ("username", "password", "what"),
    [
        ("tim", None, "password"),
        (None, CANARY, "user name"),
        ("ti:m", CANARY, "user name"),
        ("ti\nm", CANARY, "user name"),
        ("tim", CANARY + "\r\nX: y", "password"),
        ("tim", CANARY + "\0", "password"),
        ("tim", CANARY + "\udcff", "password"),
    ],
    ids=ascii,
)
def test_credentials_that_it_cannot_carry(
    username: str | None, password: str | None, what: str
) -> None:
    with pytest.raises(WireError, match=what) as caught:
        HttpConnect("proxy.test", 3128, username, password)
    assert CANARY not in str(caught.value)
    assert caught.value.__context__ is None


def test_what_it_is() -> None:
    assert PROXY.resolves_names
    assert PROXY.url == "http://proxy.test:3128"
    assert HttpConnect("proxy.test", 443, tls=True).url == "https://proxy.test:443"


# --- answers that make a tunnel


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        b"HTTP/1.0 200 Connection established\r\n\r\n",
        b"HTTP/1.0 204\r\n\r\n",
        b"HTTP/1.1 200 \r\n\r\n",
        b"HTTP/1.1 299 \xff\xfe\r\n\r\n",
        b"HTTP/1.9 200 OK\r\n\r\n",
        # Of a tunnel there is no length, and no coding.
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        # A folded line, and names that are still those of fields.
        b"HTTP/1.1 200 OK\r\nA: b\r\n\tc: d\r\n \r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA : b\r\n!#$%&'*+.^_`|~-09:\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        b"HTTP/1.1 102 Processing\r\nA: b\r\n\r\n" * 3 + OK,
    ],
)
def test_a_tunnel(answer: bytes) -> None:
    outcome = outcome_of(answer + GREETING)
    assert (outcome.established, outcome.leftover, outcome.error) == (True, GREETING, None)


@given(st.binary(max_size=60), CUTS)
def test_the_tunnel_begins_behind_the_first_empty_line(behind: bytes, places: list[int]) -> None:
    outcome = talk(PROXY.codec("mx.test", 25), cut(OK + behind, places))
    assert (outcome.established, outcome.leftover) == (True, behind)


# --- answers that do not


REFUSALS = [
    (b"HTTP/1.1 407 Proxy Authentication Required", PROXY, "give it a user name and a password"),
    (b"HTTP/1.1 407 Proxy Authentication Required", LOGIN, "does not accept the user name"),
    (b"HTTP/1.0 401 Unauthorized", LOGIN, "does not accept the user name"),
    (b"HTTP/1.1 403 Forbidden", PROXY, "its rules have to allow the destination"),
    (b"HTTP/1.1 405 Method Not Allowed", PROXY, "does not make tunnels"),
    (b"HTTP/1.1 501 Not Implemented", PROXY, "does not make tunnels"),
    (b"HTTP/1.0 500 Unable to connect", PROXY, "cannot reach the destination"),
    (b"HTTP/1.1 503 Service Unavailable", PROXY, "cannot reach the destination"),
    (b"HTTP/1.1 301 Moved", PROXY, "301 Moved"),
    (b"HTTP/1.1 302", PROXY, "302"),
    (b"HTTP/1.1 400 Bad Request", PROXY, "400 Bad Request"),
    (b"HTTP/1.1 101 Switching Protocols", PROXY, "101 Switching Protocols"),
]


@pytest.mark.parametrize(("line", "proxy", "advice"), REFUSALS)
def test_a_refusal_is_told_by_its_first_line(line: bytes, proxy: HttpConnect, advice: str) -> None:
    codec = begun(proxy)
    codec.receive_data(line)
    with pytest.raises(ProxyRefused, match=advice) as caught:
        codec.receive_data(b"\r\n")
    assert caught.value.code == int(line[9:12])
    assert line.decode() in str(caught.value)
    assert str(caught.value).startswith("http://proxy.test:3128, asked for mx.test:25: ")


def test_a_body_is_not_read() -> None:
    page = b"HTTP/1.1 503 No\r\nContent-Length: 27\r\n\r\n<html>HTTP/1.1 200 OK\r\n\r\n"
    outcome = outcome_of(page + OK)
    assert not outcome.established
    assert "html" not in str(outcome.error)
    assert str(outcome.error).startswith("ProxyRefused")


def test_what_is_said_first_counts() -> None:
    outcome = outcome_of(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 407 No\r\n\r\n" + OK)
    assert "407 No" in str(outcome.error)


_CANARY_IN_BASE64 = base64.b64encode(CANARY.encode()).decode()


@pytest.mark.parametrize(
    "secret",
    [
        CANARY,
        CANARY[1:9],
        f"tim:{CANARY}",
        base64.b64encode(b"tim:" + CANARY.encode()).decode(),
        base64.b64encode(b"tim:" + CANARY.encode()).decode()[8:16],
        _CANARY_IN_BASE64,
        _CANARY_IN_BASE64[:8],
    ],
)
@pytest.mark.parametrize(
    "answer",
    ["HTTP/1.1 407 not %s\r\n", "HTTP/1.1 200: %s\r\n", "HTTP/1.1 200 OK\r\nnot %s\r\n"],
)
def test_credentials_that_the_proxy_repeats_are_not_shown(answer: str, secret: str) -> None:
    error = outcome_of((answer % secret).encode(), LOGIN).error
    assert error is not None
    assert "***" in error
    assert CANARY not in error
    assert secret not in error


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/0.9 200 OK\r\n\r\n",
        b"HTTP/1.10 200 OK\r\n\r\n",
        b"HTTP/1.1 2000\r\n\r\n",
        b"HTTP/1.1 20\r\n\r\n",
        b"HTTP/1.1 200OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1 +20 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 600 OK\r\n\r\n",
        "HTTP/1.1 ٢٠٠ OK\r\n\r\n".encode(),
        b"HTTP/1.1\r\n\r\n",
        b"http/1.1 200 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP 200 OK\r\n\r\n",
        # Who takes a bare LF for a line end sees the tunnel begin elsewhere.
        b"HTTP/1.1 200 OK\n\n",
        b"HTTP/1.1 200 OK\nX: y\n\n",
        b"HTTP/1.1 200 OK\r\nX: y\n\n220 evil\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\n",
        b"HTTP/1.1 200 OK\r\n\rX: y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: y\r\r\n\r\n",
        b"HTTP/1.1 200 O\0K\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: \0\r\n\r\n",
        # No empty line: what follows is the server already.
        b"HTTP/1.1 200 OK\r\n" + GREETING,
        b"HTTP/1.1 200 OK\r\n: y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX y: z\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n\r\n",
    ],
)
def test_no_answer_of_http(answer: bytes) -> None:
    outcome = outcome_of(answer)
    assert str(outcome.error).startswith("ProxyMalformed")
    assert str(outcome.error).isprintable()
    assert outcome.leftover == b""


def test_a_bare_line_feed_is_told_at_once() -> None:
    codec = begun()
    with pytest.raises(ProxyMalformed, match="bare LF"):
        codec.receive_data(b"HTTP/1.1 200 OK\n")


def header(octets: int, lines: int = 3) -> bytes:
    """A header of so many octets and lines, the empty one counted."""
    start, end = b"HTTP/1.1 200 OK\r\n", b"\r\n"
    short = b"A: b\r\n" * (lines - 3)
    rest = octets - len(start) - len(short) - len(end) - len("X: \r\n")
    return start + short + b"X: " + b"y" * rest + b"\r\n" + end


@pytest.mark.parametrize("places", [[], [1, 100, 32_767], [32_768], list(range(0, 40_000, 7))])
def test_a_header_may_be_so_long_and_no_longer(places: list[int]) -> None:
    longest = talk(PROXY.codec("mx.test", 25), cut(header(LONGEST) + GREETING, places))
    assert (longest.established, longest.leftover) == (True, GREETING)
    longer = talk(PROXY.codec("mx.test", 25), cut(header(LONGEST + 1) + GREETING, places))
    assert "more than 32768 octets" in str(longer.error)


def test_a_header_without_an_end_is_not_waited_for() -> None:
    for endless in (b"HTTP/1.1 200 " + b"x" * LONGEST, b"HTTP/1.1 200 OK\r\nX: " + b"y" * LONGEST):
        codec = begun()
        assert codec.receive_data(endless[: LONGEST - 1]) == b""
        with pytest.raises(ProxyMalformed, match="more than 32768 octets"):
            codec.receive_data(endless[LONGEST - 1 : LONGEST])


def test_a_header_may_have_so_many_lines_and_no_more() -> None:
    assert outcome_of(header(650, lines=100)).established
    assert "more than 100 lines" in str(outcome_of(header(650, lines=101)).error)


def test_interim_answers_count() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    assert outcome_of(interim * 49 + OK).established
    assert "more than 100 lines" in str(outcome_of(interim * 50 + OK).error)
