"""What a client's engine tells of its pipeline, and what it keeps when the session is over."""

import pytest

from smtp_proto.engine import ClientConnection, RemoteProtocolError, State
from smtp_proto.wire import Noop, Reply, Rset
from tests.engine.sessions import OK, answers, client_in


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("offered", [True, False])
def test_pipelining_is_used_where_it_is_wanted_and_offered(wanted: bool, offered: bool) -> None:
    keywords = ["PIPELINING"] if offered else ["SIZE"]
    client = client_in(State.READY, keywords=keywords, pipelining=wanted)
    assert client.pipelining is (wanted and offered)
    assert client_in(State.GREETING).pipelining is False


def test_tls_forgets_that_pipelining_was_offered() -> None:
    client = client_in(State.TLS)
    client.tls_started()
    assert client.pipelining is False


def half_a_reply() -> ClientConnection:
    client = client_in(State.READY)
    client.send(Noop())
    assert answers(client, OK)
    client.send(Noop())
    client.receive_data(b"250-one\r\n")
    return client


def test_nothing_is_kept_of_half_a_reply_when_the_session_is_over() -> None:
    client = half_a_reply()
    client.receive_data(b"no reply\r\n")
    with pytest.raises(RemoteProtocolError):
        client.next_event()
    assert client.state is State.CLOSED
    assert not client._reader.partial
    assert client.unread == 0


def test_an_error_of_the_peer_says_what_it_did_and_nothing_else() -> None:
    error = RemoteProtocolError("It said nonsense", Reply(500, ("What?",)))
    assert str(error) == "It said nonsense"
    assert error.reply_hint == Reply(500, ("What?",))
    assert RemoteProtocolError("It said nonsense").reply_hint is None


@pytest.mark.parametrize("early", [b"2", b"25", b"250 Ok"])
def test_one_octet_before_the_question_is_too_early(early: bytes) -> None:
    client = client_in(State.READY)
    client.receive_data(early)
    client.send(Noop())
    client.receive_data(b"250 Ok\r\n"[len(early) :])
    with pytest.raises(RemoteProtocolError):
        client.next_event()


def test_a_client_is_idle_between_transactions_with_nothing_outstanding() -> None:
    client = client_in(State.READY)
    looks = [client.idle]
    client.send(Noop())
    looks.append(client.idle)
    answers(client, OK)
    looks.append(client.idle)
    client.send_failed()
    looks.append(client.idle)
    assert looks == [True, False, True, False]


@pytest.mark.parametrize(
    "state", [state for state in State if state is not State.READY], ids=lambda state: state.name
)
def test_a_client_is_idle_in_no_other_state(state: State) -> None:
    assert client_in(state).idle is False


def test_a_client_is_not_idle_behind_a_failed_chunk() -> None:
    client = client_in(State.RCPT)
    client.send_chunk(b"half", last=True)
    answers(client, Reply(451, ("Later",)))
    looks = [client.idle]
    client.send(Rset())
    answers(client, OK)
    assert [*looks, client.idle] == [False, True]
