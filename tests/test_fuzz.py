"""The fuzzing harnesses: over their corpus, over inputs made up, and over code that is broken.

Knows how code can be broken so that a harness has to notice. Must not know what chance finds.
"""

import random
import ssl
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, replace
from functools import partial
from itertools import islice
from pathlib import Path

import pytest

from fuzz import run
from fuzz.engine import Client, client, server
from fuzz.fake_tls import FakeTLS
from fuzz.harnesses import HARNESSES
from fuzz.leaks import PASSWORD, assert_hidden, said
from fuzz.opening import open_session
from fuzz.policy import policy
from fuzz.proxy import proxy_codecs, proxy_header, proxy_values
from fuzz.sasl import sasl_both, sasl_client, sasl_server
from fuzz.script import Script, Turn, cuts, the_same_however_cut, whole
from fuzz.sending import send_mail, send_many
from fuzz.serving import serve
from fuzz.settings import settings_env, settings_toml, settings_url
from fuzz.states import (
    ALPHABET,
    CLIENT_STATES,
    OPEN_STATES,
    SERVE_STATES,
    SERVER_STATES,
    Harness,
    in_states,
)
from fuzz.steps import steps
from fuzz.tls import tls
from fuzz.wire import commands, content_in, content_out, replies, values
from smtp_adapters.settings import Settings, SettingsError, from_env, from_toml, from_url
from smtp_proto.engine import ServerConnection, ServerEvent, Signal
from smtp_proto.flow import (
    ConnectionLost,
    Done,
    OpenSession,
    OpenSettings,
    Outcome,
    Receive,
    Security,
    SendMail,
    SendMany,
    SendResult,
    Serve,
    Session,
    Timer,
)
from smtp_proto.flow.actions import Action
from smtp_proto.flow.journal import Journal
from smtp_proto.flow.tls import TLSLayer
from smtp_proto.proxy import Proxy, ProxyHeaderReader, parse_proxy
from smtp_proto.sasl import (
    Accepted,
    Answer,
    AnyCredentials,
    Choice,
    ClientContext,
    ClientFactory,
    Credentials,
    Policy,
    Rejected,
    SASLError,
    ServerFactory,
    Step,
    choose,
)
from smtp_proto.sasl.cram_md5 import CramMD5Client, CramMD5Server
from smtp_proto.sasl.external import ExternalServer
from smtp_proto.sasl.plain import PlainServer
from smtp_proto.sasl.xoauth2 import XOAuth2Client
from smtp_proto.wire import (
    Command,
    ContentDecoder,
    ContentEncoder,
    Mailbox,
    Noop,
    Octets,
    ReceiveBuffer,
    Reply,
    ReplyReader,
    WireError,
    escaped,
    parse_command,
    shown,
)

GENERATED = 200
CORPUS = sorted(run.CORPUS.glob("*/*"))

# --- What holds ------------------------------------------------------------------------------


@pytest.mark.parametrize("file", CORPUS, ids=lambda file: f"{file.parent.name}-{file.name}")
def test_the_corpus(file: Path) -> None:
    HARNESSES[file.parent.name](file.read_bytes())


@pytest.mark.parametrize("name", HARNESSES)
def test_inputs_made_up(name: str) -> None:
    inputs = run.Inputs(run.seeds(run.CORPUS / name), random.Random(name))
    for data in islice(inputs, GENERATED):
        HARNESSES[name](data)


def test_each_harness_has_seeds_and_each_seed_a_harness() -> None:
    assert {file.parent.name for file in CORPUS} == set(HARNESSES)


# --- Code that is broken ---------------------------------------------------------------------


class ForgetsHalfLines(ReplyReader):
    def read(self, buffer: ReceiveBuffer) -> Reply | None:
        reply = super().read(buffer)
        if reply is None:
            buffer.clear()
        return reply


class KeepsLinesWithoutEnd(ReplyReader):
    def read(self, buffer: ReceiveBuffer) -> Reply | None:
        return super().read(buffer) if buffer.find(b"\r\n") >= 0 else None


class RaisesKeyError(ReplyReader):
    def read(self, buffer: ReceiveBuffer) -> Reply | None:
        if buffer.find(b"\xff") >= 0:
            raise KeyError
        return super().read(buffer)


def parse_and_inject(line: bytes) -> Command:
    command = parse_command(line)
    if isinstance(command, Noop):
        object.__setattr__(command, "string", "\r\nDATA")
    return command


def parse_and_change(line: bytes) -> Command:
    command = parse_command(line)
    return Noop("x" + command.string) if isinstance(command, Noop) else command


def parse_ascii_only(line: bytes) -> Command:
    return parse_command(line.decode("ascii").encode())


def read_another_mailbox(text: str) -> tuple[object, object]:
    return Mailbox.parse(text), Mailbox("another", "example.org")


def read_ascii(text: str) -> tuple[object, object]:
    return text.encode("ascii"), b""


class EndsAtBareLF(ContentDecoder):
    def decode(self, buffer: ReceiveBuffer) -> bytes:
        octets = buffer.take(len(buffer))
        buffer.feed(octets.replace(b"\n.\n", b"\r\n.\r\n"))
        return super().decode(buffer)


class WaitsForTheEnd(ContentDecoder):
    def decode(self, buffer: ReceiveBuffer) -> bytes:
        return super().decode(buffer) if buffer.find(b"\r\n.\r\n") >= 0 else b""


class TakesDotsOff(ContentEncoder):
    def encode(self, data: Octets) -> bytes:
        return super().encode(data).replace(b"..", b".")


class SendsBareLF(ContentEncoder):
    def encode(self, data: Octets) -> bytes:
        return super().encode(data).replace(b"\r\n", b"\n")


class DropsSingleOctets(Client):
    def receive_data(self, data: Octets) -> None:
        if len(data) > 1:
            super().receive_data(data)


class HoldsMoreThanALine(Client):
    @property
    def held(self) -> int:
        return super().held + 64


class ForgetsThoughItRefuses(Client):
    def tls_started(self) -> None:
        self._queue.clear()
        super().tls_started()


class RaisesOSError(Client):
    def receive_eof(self) -> None:
        raise ConnectionResetError


class ServesNoSingleOctets(ServerConnection):
    def receive_data(self, data: Octets) -> None:
        if len(data) > 1:
            super().receive_data(data)


class NeverReads(ServerConnection):
    def next_event(self) -> ServerEvent | Signal:
        return Signal.PAUSED if self._due is not None else Signal.NEED_DATA


class ForgetsWhatIsDue(ServerConnection):
    def next_event(self) -> ServerEvent | Signal:
        event = super().next_event()
        if not isinstance(event, Signal):
            self._due = None
        return event


def open_carelessly(settings: OpenSettings, journal: Journal) -> OpenSession:
    return OpenSession(replace(settings, policy=Policy(allow_cleartext=True)), journal)


def open_and_tell(settings: OpenSettings, journal: Journal) -> OpenSession:
    if settings.credentials is not None:
        journal.happened(f"{astuple(settings.credentials)}")
    return OpenSession(settings, journal)


class BeginsAnotherWaitForEachPiece(OpenSession):
    def next_action(self) -> Action | Done[Session]:
        action = super().next_action()
        if isinstance(action, Receive):
            return Receive(Timer(action.timer.phase, action.timer.seconds))
        return action


class NeverEnds(OpenSession):
    def receive_eof(self) -> None:
        """Wait on."""

    def next_action(self) -> Action | Done[Session]:
        waits = isinstance(self.action, Receive) and not self._answered
        return self.action if waits and self.action else super().next_action()


class TellsOfSuccess(SendMail):
    def next_action(self) -> Action | Done[SendResult]:
        return Done(SendResult({"c@d.example": Reply(250, ("Ok",))}, {}, Reply(250, ("Ok",))))


class RaisesAttributeError(SendMail):
    def receive_data(self, data: Octets) -> None:
        if b"550" in bytes(data):
            raise AttributeError
        super().receive_data(data)


class LosesAnOutcome(SendMany):
    def next_outcome(self) -> Outcome | None:
        outcome = super().next_outcome()
        return super().next_outcome() if isinstance(outcome, SendResult) else outcome


class TellsOfTooManySuccesses(SendMany):
    def next_outcome(self) -> Outcome | None:
        outcome = super().next_outcome()
        if isinstance(outcome, ConnectionLost):
            return SendResult({}, {}, Reply(250, ("Ok",)))
        return outcome


class ServesInCapitals(Serve):
    def receive_data(self, data: Octets) -> None:
        super().receive_data(bytes(data).upper() if len(data) == 1 else data)


class LeavesWithoutAWord(Serve):
    def next_action(self) -> Action | Done[None]:
        action = super().next_action()
        return Done(None) if isinstance(action, Receive) else action


class SaysThePassword(CramMD5Client):
    def respond(self, challenge: bytes) -> bytes:
        return super().respond(challenge) + PASSWORD.encode()


class ShowsThePasswordBehind(CramMD5Client):
    def respond(self, challenge: bytes) -> bytes:
        super().respond(challenge)
        raise SASLError("no") from ValueError(PASSWORD)


class ShowsTheToken(XOAuth2Client):
    def _readable(self, text: str, escape: str = "") -> str:
        return escaped(text)


class AcceptsAnybody(PlainServer):
    def answer(self, value: Answer) -> Step:
        return super().answer(value=True)


class TellsThePassword(CramMD5Server):
    def answer(self, value: Answer) -> Step:
        super().answer(value)
        return Rejected(f"it is {value}")


class RaisesUnicodeError(ExternalServer):
    def start(self, initial_response: bytes | None) -> Step:
        return super().start((initial_response or b"").decode().encode())


def log_in_anybody(
    _client: ClientFactory, _server: ServerFactory, credentials: Credentials, _password: str
) -> Step:
    who = credentials.authentication_identity
    return Accepted(who, credentials.authorization_identity or who)


def refuse_anybody(*_arguments: object) -> Step:
    return Rejected("no")


def choose_as_if_with_tls(
    policy: Policy,
    offered: Sequence[str],
    credentials: AnyCredentials,
    _secure: bool,
    *,
    context: ClientContext,
    excluded: Mapping[str, str],
) -> Choice:
    return choose(policy, offered, credentials, True, context=context, excluded=excluded)


class LosesTheGreeting:
    def __init__(self, proxy: Proxy) -> None:
        self._codec = proxy.codec("192.0.2.1", 25)
        self.leftover = b""

    @property
    def established(self) -> bool:
        return self._codec.established

    def start(self) -> bytes:
        return self._codec.start()

    def receive_data(self, data: Octets) -> bytes:
        before = len(self._codec.leftover)
        answer = self._codec.receive_data(data)
        self.leftover = self._codec.leftover[before:]
        return answer

    def receive_eof(self) -> None:
        self._codec.receive_eof()


class LosesTheFirstWords(ProxyHeaderReader):
    @property
    def leftover(self) -> bytes:
        return b""


def read_proxy_and_tell(url: str) -> Proxy:
    try:
        return parse_proxy(url)
    except WireError as error:
        raise WireError("proxy URL", shown(url)) from error


def open_without_need(settings: OpenSettings, journal: Journal) -> OpenSession:
    return OpenSession(replace(settings, security=Security.OPPORTUNISTIC), journal)


class RaisesSSLError(FakeTLS):
    def receive_data(self, data: Octets) -> bytes:
        raise ssl.SSLError(bytes(data[:1]).hex())


class EndsWithoutAWord(FakeTLS):
    def receive_eof(self) -> None:
        """Take the end for one."""


def break_layer(kind: type[FakeTLS], _layer: TLSLayer) -> TLSLayer:
    return kind()


def read_settings_and_tell(text: str) -> Settings:
    try:
        return from_url(text)
    except SettingsError as error:
        raise SettingsError("URL", text) from error


def read_file_and_tell(file: Path) -> Settings:
    try:
        return from_toml(file)
    except SettingsError as error:
        raise SettingsError(str(file), file.read_text(encoding="latin-1")) from error


def read_variables_and_lose(prefix: str, variables: dict[str, str]) -> Settings:
    del variables[f"{prefix}HOST"]
    return from_env(prefix, variables)


def read_again_and_again(data: bytes) -> None:
    seen = b""
    for octet in data:
        seen += bytes([octet])
        for other in seen:
            assert other >= 0


BROKEN: list[tuple[Harness, type[Exception], str]] = [
    (partial(replies, reader=ForgetsHalfLines), AssertionError, "replies/one-line"),
    (partial(replies, reader=KeepsLinesWithoutEnd), AssertionError, "replies/too-long"),
    (partial(replies, reader=RaisesKeyError), KeyError, "replies/not-utf-8"),
    (partial(commands, parse=parse_and_inject), AssertionError, "commands/questions"),
    (partial(commands, parse=parse_and_change), AssertionError, "commands/questions"),
    (partial(commands, parse=parse_ascii_only), UnicodeDecodeError, "commands/utf-8"),
    (partial(values, readers={"Mailbox": read_another_mailbox}), AssertionError, "values/mailbox"),
    (partial(values, readers={"Mailbox": read_ascii}), UnicodeEncodeError, "values/utf-8"),
    (partial(content_in, decoder=EndsAtBareLF), AssertionError, "content_in/bare-lf"),
    (partial(content_in, decoder=WaitsForTheEnd), AssertionError, "content_in/dots"),
    (partial(content_out, encoder=TakesDotsOff), AssertionError, "content_out/dots"),
    (partial(content_out, encoder=SendsBareLF), AssertionError, "content_out/end-behind-line"),
    (partial(client, connection=DropsSingleOctets), AssertionError, "client/pipelined"),
    (partial(client, connection=HoldsMoreThanALine), AssertionError, "client/pipelined"),
    (partial(client, connection=ForgetsThoughItRefuses), AssertionError, "client/refuses"),
    (partial(client, connection=RaisesOSError), ConnectionResetError, "client/lost"),
    (partial(server, connection=ServesNoSingleOctets), AssertionError, "server/pipelined"),
    (partial(server, connection=NeverReads), AssertionError, "server/pipelined"),
    (partial(server, connection=ForgetsWhatIsDue), AssertionError, "server/remarks"),
    (
        partial(open_session, flow=open_carelessly),
        AssertionError,
        "open_session/plain-not-in-clear",
    ),
    (
        partial(open_session, flow=BeginsAnotherWaitForEachPiece),
        AssertionError,
        "open_session/in-clear",
    ),
    (partial(open_session, flow=NeverEnds), AssertionError, "open_session/wrong-password"),
    (partial(send_mail, flow=TellsOfSuccess), AssertionError, "send_mail/one-flight"),
    (partial(send_mail, flow=RaisesAttributeError), AttributeError, "send_mail/recipients-refused"),
    (partial(send_many, many=LosesAnOutcome), AssertionError, "send_many/lost-between"),
    (partial(send_many, many=TellsOfTooManySuccesses), AssertionError, "send_many/lost-between"),
    (partial(serve, flow=ServesInCapitals), AssertionError, "serve/one-message"),
    (partial(serve, flow=LeavesWithoutAWord), AssertionError, "serve/one-message"),
    (
        partial(sasl_client, mechanisms={"CRAM-MD5": SaysThePassword}),
        AssertionError,
        "sasl_client/cram-md5",
    ),
    (
        partial(sasl_client, mechanisms={"CRAM-MD5": ShowsThePasswordBehind}),
        AssertionError,
        "sasl_client/cram-md5",
    ),
    (
        partial(sasl_client, mechanisms={"XOAUTH2": ShowsTheToken}),
        AssertionError,
        "sasl_client/token-refused-in-text",
    ),
    (
        partial(sasl_server, mechanisms={"PLAIN": AcceptsAnybody}),
        AssertionError,
        "sasl_server/application-refuses",
    ),
    (
        partial(sasl_server, mechanisms={"CRAM-MD5": TellsThePassword}),
        AssertionError,
        "sasl_server/cram-md5",
    ),
    (
        partial(sasl_server, mechanisms={"EXTERNAL": RaisesUnicodeError}),
        UnicodeDecodeError,
        "sasl_server/not-utf-8",
    ),
    (partial(sasl_both, log_in=log_in_anybody), AssertionError, "sasl_both/ascii"),
    (partial(sasl_both, log_in=refuse_anybody), AssertionError, "sasl_both/ascii"),
    (partial(policy, choose=choose_as_if_with_tls), AssertionError, "policy/clear"),
    (partial(proxy_codecs, make=LosesTheGreeting), AssertionError, "proxy_codecs/socks4"),
    (partial(proxy_header, reader=LosesTheFirstWords), AssertionError, "proxy_header/v1-tcp4"),
    (partial(proxy_values, parse=read_proxy_and_tell), AssertionError, "proxy_values/port-zero"),
    (partial(open_session, flow=open_and_tell), AssertionError, "open_session/implicit"),
    (
        partial(open_session, flow=open_without_need),
        AssertionError,
        "open_session/starttls-not-offered",
    ),
    (partial(tls, wrap=partial(break_layer, RaisesSSLError)), ssl.SSLError, "tls/alert"),
    (partial(tls, wrap=partial(break_layer, EndsWithoutAWord)), AssertionError, "tls/no-words"),
    (
        partial(settings_url, read=read_settings_and_tell),
        AssertionError,
        "settings_url/slash-in-password",
    ),
    (partial(settings_toml, read=read_file_and_tell), AssertionError, "settings_toml/date"),
    (partial(settings_env, read=read_variables_and_lose), KeyError, "settings_env/url"),
    (partial(steps, reads={"r": read_again_and_again}), AssertionError, "steps/replies"),
]


@pytest.mark.parametrize(("harness", "error", "seed"), BROKEN)
def test_broken_code_is_found(harness: Harness, error: type[Exception], seed: str) -> None:
    with pytest.raises(error):
        harness((run.CORPUS / seed).read_bytes())


# --- Scripts ---------------------------------------------------------------------------------


def test_a_script() -> None:
    script = Script.read(b"LA\n220 a\r\n\x1eem\n250 b\r\n\x1ex")
    assert script.options == "LA"
    assert script.turns == (Turn("", b"220 a\r\n"), Turn("em", b"250 b\r\n"), Turn("x", b""))


def test_each_cutting_has_all_octets_and_no_empty_piece() -> None:
    for size in range(30):
        data = bytes(range(size))
        for cut in (whole, *cuts(data)):
            assert b"".join(cut(data)) == data
            assert all(cut(data))


def test_what_depends_on_the_cutting_is_found() -> None:
    assert the_same_however_cut(b"abc", lambda cut: b"".join(cut(b"abc"))) == b"abc"
    with pytest.raises(AssertionError):
        the_same_however_cut(b"abc", lambda cut: len(cut(b"abc")))


# --- States and words ------------------------------------------------------------------------


def test_the_octets_are_said_in_the_state_that_the_letter_names() -> None:
    said: list[bytes] = []
    harness = in_states(said.append, {"a": b"1", "b": b"2"})
    for data in (b"axy", b"bxy", b"", b"\x03x"):
        harness(data)
    assert said == [b"1xy", b"2xy", b"1", b"2x"]


def test_behind_a_capital_the_octets_are_words() -> None:
    said: list[bytes] = []
    in_states(said.append, {"a": b"1"})(b"A\x00\x03")
    assert said == [b"1" + ALPHABET[0] + ALPHABET[3]]


@pytest.mark.parametrize(
    ("name", "states"),
    [
        ("client_states", CLIENT_STATES),
        ("server_states", SERVER_STATES),
        ("serve_states", SERVE_STATES),
        ("open_states", OPEN_STATES),
    ],
)
def test_each_state_has_a_seed(name: str, states: Mapping[str, bytes]) -> None:
    letters = {file.read_bytes()[:1].decode() for file in CORPUS if file.parent.name == name}
    assert states.keys() <= letters


# --- Secrets ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "octets",
    [
        PASSWORD.encode(),
        b64encode(PASSWORD.encode()),
        b"AUTH PLAIN " + b64encode(f"\0user\0{PASSWORD}".encode()) + b"\r\n",
    ],
)
def test_a_secret_is_found(octets: bytes) -> None:
    assert said(octets) == [PASSWORD]


def test_where_there_is_no_secret_none_is_found() -> None:
    assert said(b"AUTH PLAIN AHVzZXIA\r\n334 \xff\r\n") == []


def test_what_the_peer_has_said_may_be_shown() -> None:
    assert_hidden([ValueError(PASSWORD)], PASSWORD.encode())
    with pytest.raises(AssertionError):
        assert_hidden([ValueError(PASSWORD)], b"")


# --- The plain driver ------------------------------------------------------------------------


PROBE = """
import sys
sys.path.insert(0, sys.argv[1])
import fuzz.run
print(*{name.partition(".")[0] for name in sys.modules})
"""


def breaks_at_crlf(data: bytes) -> None:
    if b"\r\n" in data:
        raise KeyError


def is_fine(data: bytes) -> None:
    assert isinstance(data, bytes)


def test_a_finding_is_made_small_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    harnesses: dict[str, Harness] = {"fine": is_fine, "broken": breaks_at_crlf}
    assert run.main(["--seconds", "20", "--harness", "broken"], harnesses, tmp_path) == 1
    (file,) = tmp_path.glob("broken/finding-*")
    assert file.read_bytes() == b"\r\n"
    shown = capsys.readouterr()
    assert "executions" in shown.out
    assert str(file) in shown.err
    assert "KeyError" in shown.err


def test_where_nothing_is_found_all_is_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    harnesses: dict[str, Harness] = {"fine": is_fine, "too": is_fine}
    assert run.main(["--seconds", "0.02"], harnesses, tmp_path) == 0
    assert not list(tmp_path.glob("*/*"))
    assert len(capsys.readouterr().out.splitlines()) == len(harnesses)


def test_one_finding_spoils_all(tmp_path: Path) -> None:
    harnesses: dict[str, Harness] = {"broken": breaks_at_crlf, "fine": is_fine}
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "seed").write_bytes(b"a\r\nb")
    assert run.main(["--seconds", "0.02"], harnesses, tmp_path) == 1


def test_the_same_seed_gives_the_same_inputs() -> None:
    def some(seed: int) -> list[bytes]:
        return list(islice(run.Inputs([b"seed"], random.Random(seed)), 100))

    assert some(1) == some(1)
    assert some(1) != some(2)


def test_all_seeds_come_first() -> None:
    inputs = run.Inputs([b"one", b"two"], random.Random(0))
    assert list(islice(inputs, 3)) == [b"", b"one", b"two"]


def test_the_dictionary_is_read() -> None:
    tokens = run.tokens()
    assert {b"\r\n", b"\x00", b'"', b"\\", b"STARTTLS\r\n", b'EXPN "a b" SMTPUTF8\r\n'} <= set(
        tokens
    )
    assert len(tokens) == len(set(tokens))


@pytest.mark.parametrize(
    ("breaks", "smallest"),
    [
        (lambda data: b"ab" in data, b"ab"),
        (lambda data: data.count(b"a") >= 3, b"aaa"),
        (lambda _: True, b""),
    ],
)
def test_a_finding_is_made_small(breaks: Callable[[bytes], bool], smallest: bytes) -> None:
    def harness(data: bytes) -> None:
        if breaks(data):
            raise KeyError
        if not data:
            raise ValueError  # another one, which must not be taken for it

    assert run.smallest(harness, b"xxababyya-aab" * 3) == smallest


def test_the_plain_driver_needs_the_standard_library_only() -> None:
    command = [sys.executable, "-I", "-S", "-c", PROBE, str(run.HERE.parent)]
    loaded = set(subprocess.check_output(command, text=True).split())
    assert loaded - sys.stdlib_module_names - {"__main__"} == {
        "fuzz",
        "smtp_adapters",
        "smtp_proto",
    }
