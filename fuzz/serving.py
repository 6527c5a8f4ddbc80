"""The harness for the flow that serves: the octets are a script, see `fuzz.script`.

Knows what an application may answer, and what must come of it whatever the client says. Must not
know in which order a flow does things.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import TypeAlias, cast

from fuzz.engine import protocol_of
from fuzz.fake_tls import FakeTLS
from fuzz.leaks import PASSWORD, assert_hidden
from fuzz.notes import Notes
from fuzz.script import Cut, Script, Turn, patient, the_same_however_cut, whole
from fuzz.stream import Stream, carry_out
from fuzz.wire import LIMITS
from smtp_proto.flow import (
    Envelope,
    Flow,
    Handler,
    Security,
    Serve,
    ServerSession,
    ServeSettings,
)
from smtp_proto.flow.journal import Journal
from smtp_proto.sasl import SERVER_MECHANISMS, Credentials, ScramSecret, TokenCredentials
from smtp_proto.wire import (
    BareLineEndings,
    Limits,
    Mail,
    OtherCommand,
    Rcpt,
    ReceiveBuffer,
    Reply,
    ReplyReader,
)

_PEER = "192.0.2.1"

_ANSWERS: Mapping[str, object] = {
    "+": None,
    "p": Reply.build(250, "In my own words"),
    "-": Reply.build(550, "No"),
    "3": Reply.build(354, "No answer at all"),
    "4": Reply.build(421, "Go"),
    "y": True,
    "n": False,
    "s": PASSWORD,
    "l": [Reply.build(250, "One"), Reply.build(452, "Two")],
    "?": object(),
}


class _Application(Handler):
    """Answers whatever the options say, over and over, and takes note of what it was asked."""

    def __init__(self, options: str) -> None:
        known = [letter for letter in options if letter in _ANSWERS or letter == "!"]
        self._answers = cycle(known or "+")
        self.story: list[object] = []
        self.finding: Exception | None = None
        self.errors: list[Exception] = []
        self._content = b""

    def _answer(self, session: ServerSession, *question: object) -> object:
        assert self.story[-1:] != ["disconnect"]
        assert session.reverse_path is not None or not session.recipients
        self.story.append(question)
        letter = next(self._answers)
        if letter == "!":
            raise LookupError("the application has a bug")
        return _ANSWERS[letter]

    def _reply(self, session: ServerSession, *question: object) -> Reply | None:
        return cast("Reply | None", self._answer(session, *question))

    def on_connect(self, session: ServerSession) -> Reply | None:
        return self._reply(session, "connect")

    def on_helo(self, session: ServerSession, domain: str) -> Reply | None:
        return self._reply(session, "helo", domain)

    def on_auth(self, session: ServerSession, credentials: Credentials) -> bool | Reply:
        return cast("bool | Reply", self._answer(session, credentials))

    def find_password(self, session: ServerSession, authentication_identity: str) -> str | None:
        return cast("str | None", self._answer(session, "password", authentication_identity))

    def find_secret(
        self, session: ServerSession, authentication_identity: str, mechanism: str
    ) -> ScramSecret | None:
        answer = self._answer(session, "secret", authentication_identity, mechanism)
        return cast("ScramSecret | None", answer)

    def find_identity(self, session: ServerSession, authorization_identity: str) -> str | None:
        return cast("str | None", self._answer(session, "identity", authorization_identity))

    def on_token(self, session: ServerSession, credentials: TokenCredentials) -> bool | Reply:
        return cast("bool | Reply", self._answer(session, credentials))

    def on_anonymous(self, session: ServerSession, trace: str) -> bool | Reply:
        return cast("bool | Reply", self._answer(session, "anonymous", trace))

    def on_mail(self, session: ServerSession, mail: Mail) -> Reply | None:
        assert session.reverse_path is None
        return self._reply(session, mail)

    def on_rcpt(self, session: ServerSession, rcpt: Rcpt) -> Reply | None:
        assert session.reverse_path is not None
        return self._reply(session, rcpt)

    def on_message(
        self, session: ServerSession, envelope: Envelope, content: bytes
    ) -> Reply | Sequence[Reply] | None:
        assert len(content) <= LIMITS.message_size
        assert 0 < len(envelope.forward_paths) <= LIMITS.recipients
        answer = self._answer(session, envelope, content)
        return cast("Reply | Sequence[Reply] | None", answer)

    def on_verify(self, session: ServerSession, string: str) -> Reply | None:
        return self._reply(session, "verify", string)

    def on_expand(self, session: ServerSession, string: str) -> Reply | None:
        return self._reply(session, "expand", string)

    def on_other(self, session: ServerSession, command: OtherCommand) -> Reply | None:
        return self._reply(session, command)

    def on_reset(self, session: ServerSession) -> None:
        assert session.reverse_path is None
        self.story.append("reset")

    def on_disconnect(self, session: ServerSession) -> None:
        assert session.peer == _PEER
        self.story.append("disconnect")

    def on_error(self, session: ServerSession, error: Exception) -> None:
        if isinstance(error, AssertionError):
            self.finding = error  # the flow takes it for a fault of the application
        self.errors.append(error)
        self.story.append((session.reverse_path, str(error)))


class _StreamingApplication(_Application):
    """Takes the content as it comes."""

    def on_content(self, session: ServerSession, data: bytes) -> None:
        # It must not depend on the cutting how often an answer is asked for.
        assert session.recipients
        self._content += data

    def on_message(
        self, session: ServerSession, envelope: Envelope, content: bytes
    ) -> Reply | Sequence[Reply] | None:
        assert not content
        content, self._content = self._content, b""
        return super().on_message(session, envelope, content)

    def on_reset(self, session: ServerSession) -> None:
        self._content = b""
        super().on_reset(session)


ServeLike: TypeAlias = Callable[[Handler, ServeSettings, str, Journal], Flow[None]]

_CLEAR, _FROM_THE_START = Security.NONE, Security.IMPLICIT
_SECURITIES = {"T": Security.STARTTLS, "O": Security.OPPORTUNISTIC, "I": _FROM_THE_START}


def serve(data: bytes, flow: ServeLike = Serve) -> None:
    """Serve whatever a client says.

    Options: L for LMTP, A to accept bare line endings, R to require AUTH, M for all mechanisms, c
    for an application that takes the content as it comes; T to require STARTTLS, O to offer it, I
    for TLS from the start (see `fuzz.fake_tls`); those of `_ANSWERS`, and ! for an exception, are
    the application's answers.
    Writing never fails (see w): how much was done by then depends on the cutting.
    """
    script = Script.read(data)
    settings = _settings(script)
    turns = [Turn(turn.actions.replace("w", ""), turn.octets) for turn in script.turns]

    def tell(cut: Cut) -> tuple[bytes, list[object]]:
        kind = _StreamingApplication if "c" in script.options else _Application
        application = kind(script.options)
        stream = Stream(turns, cut)
        notes = Notes()
        carry_out(flow(application, settings, _PEER, notes), stream)
        notes.assert_fit_for_a_log(stream.heard)
        assert_hidden([*application.errors, stream.sent], stream.heard)
        if application.finding is not None:
            raise application.finding
        return stream.sent, application.story

    def tell_patiently(cut: Cut) -> tuple[bytes, list[object]]:
        return tell(patient(script, cut))

    # A client that does not wait for a reply may be heard or not, but nothing worse.
    for sent, story in (tell(whole), the_same_however_cut(data, tell_patiently)):
        # Who does not come through the handshake has never been there.
        assert story[-1:] == ["disconnect"] or (not story and settings.security is _FROM_THE_START)
        _check_replies(sent)


def _settings(script: Script) -> ServeSettings:
    options = script.options
    mechanisms = tuple(SERVER_MECHANISMS) if "M" in options else ("PLAIN", "LOGIN", "CRAM-MD5")
    return ServeSettings(
        hostname="s.example",
        nonce=lambda: b"0123456789abcdef",
        security=next((_SECURITIES[each] for each in options if each in _SECURITIES), _CLEAR),
        tls=lambda: FakeTLS(sealed=False),
        mechanisms=mechanisms,
        require_auth="R" in options,
        allow_cleartext_auth="M" not in options,
        protocol=protocol_of(script),
        bare_line_endings=(BareLineEndings.ACCEPT if "A" in options else BareLineEndings.REFUSE),
        limits=LIMITS,
    )


def _check_replies(sent: bytes) -> None:
    buffer = ReceiveBuffer()
    buffer.feed(sent)
    reader = ReplyReader(Limits())
    while reader.read(buffer) is not None:
        pass
    assert not len(buffer)
