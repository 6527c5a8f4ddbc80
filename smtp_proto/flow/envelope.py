"""What is to be sent to whom, and what became of it.

Pure values: no connection, no header fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import cast

from smtp_proto.wire import (
    NO_MAIL_PARAMETERS,
    NO_RCPT_PARAMETERS,
    ForwardPath,
    Mailbox,
    MailParameters,
    NullReversePath,
    RcptParameters,
    Reply,
    ReversePath,
    WireError,
    domain_to_ascii,
    parse_forward_path,
    parse_reverse_path,
)
from smtp_proto.wire.errors import kind_of, shown
from smtp_proto.wire.quick import quick

_REVERSE_PATHS = (Mailbox, NullReversePath)
_MAPPINGS = (dict, Mapping)  # whoever is a dict is found out faster
_FOR_RECIPIENTS = "RcptParameters, or a mapping of them by recipient as str"


@quick
@dataclass(frozen=True, slots=True)
class Envelope:
    """A reverse-path, forward-paths and their parameters (RFC 5321 2.3.1).

    Make one from strings with `Envelope.of(sender, recipients)`.
    """

    reverse_path: ReversePath
    forward_paths: tuple[ForwardPath, ...]
    mail_parameters: MailParameters = NO_MAIL_PARAMETERS
    """What they say of the content is for whoever cannot see all of it: see `SendMail`."""
    rcpt_parameters: Mapping[ForwardPath, RcptParameters] = field(
        default_factory=dict[ForwardPath, RcptParameters],
        hash=False,  # a dict has none
    )
    """Parameters for single recipients; those not named have none."""
    recipients: tuple[str, ...] = field(init=False, repr=False, compare=False)
    """The forward-paths as they are written, in their order."""

    def __post_init__(self) -> None:
        if not self.forward_paths:
            raise ValueError("forward-paths: an envelope needs at least one recipient")
        try:
            recipients = tuple([path.text for path in self.forward_paths])
        except (AttributeError, TypeError):
            raise _wrong("forward_paths", "Mailbox values", self.forward_paths) from None
        _check_values(self.reverse_path, self.mail_parameters, self.rcpt_parameters)
        if len(set(recipients)) < len(recipients):
            raise WireError("forward-path", "a recipient is there twice")
        object.__setattr__(self, "recipients", recipients)

    @classmethod
    def of(
        cls,
        sender: str,
        recipients: str | Iterable[str],
        *,
        mail_parameters: MailParameters = NO_MAIL_PARAMETERS,
        rcpt_parameters: RcptParameters | Mapping[str, RcptParameters] = NO_RCPT_PARAMETERS,
    ) -> Envelope:
        """Parse the addresses.

        `sender` may be "" for the null reverse-path; a recipient given twice counts once, also
        where its domain is in U-labels and in A-labels: outcomes have it as it was given first, see
        `recipients`. `rcpt_parameters` are for every recipient, or by recipient, in any such
        spelling, for those that are named.

        Raises WireError for what is not an address, and TypeError for what is no text.
        """
        _check_texts(sender, rcpt_parameters)
        if isinstance(recipients, str):
            recipients = (recipients,)
        try:
            by_text = {path.text: path for path in map(parse_forward_path, recipients)}
        except (AttributeError, TypeError):
            raise _wrong("recipients", "addresses as str", recipients) from None
        if len(by_text) > 1 and not "".join(by_text).isascii():
            by_text = _by_spelling(by_text.values())
        paths = tuple(by_text.values())
        each = {} if rcpt_parameters is NO_RCPT_PARAMETERS else _by_path(paths, rcpt_parameters)
        return cls(parse_reverse_path(sender), paths, mail_parameters, each)

    @property
    def has_no_parameters(self) -> bool:
        """Whether neither MAIL nor any RCPT gets parameters from here."""
        return self.mail_parameters is NO_MAIL_PARAMETERS and not self.rcpt_parameters

    @property
    def ascii(self) -> bool:
        """Whether all addresses are ASCII, so that SMTPUTF8 is not needed for them."""
        return self.reverse_path.text.isascii() and "".join(self.recipients).isascii()

    def to_ascii(self) -> Envelope:
        """The same envelope with domains as A-labels.

        Raises WireError where a local part is not ASCII (RFC 6531 3.2), where a domain may be two
        (see `Mailbox.to_ascii()`), and where that makes one recipient of two.
        """
        reverse_path = self.reverse_path
        if isinstance(reverse_path, Mailbox):
            reverse_path = reverse_path.to_ascii()
        return Envelope(
            reverse_path,
            tuple(map(_ascii_path, self.forward_paths)),
            self.mail_parameters,
            {_ascii_path(path): each for path, each in self.rcpt_parameters.items()},
        )


def _by_spelling(paths: Iterable[ForwardPath]) -> dict[str, ForwardPath]:
    """The first of those that are one recipient, by the spelling that they have in common."""
    first: dict[str, ForwardPath] = {}
    for path in paths:
        first.setdefault(_spelling(path), path)
    return first


def _spelling(path: ForwardPath) -> str:
    """A path as it is written, with A-labels where its domain has such."""
    if not isinstance(path, Mailbox) or path.ascii:
        return path.text
    try:
        return path.text.removesuffix(path.domain) + domain_to_ascii(path.domain)
    except WireError:
        return path.text


def _by_path(
    paths: Iterable[ForwardPath], given: RcptParameters | Mapping[str, RcptParameters]
) -> dict[ForwardPath, RcptParameters]:
    """The parameters of each of `paths`. Raises WireError."""
    if isinstance(given, RcptParameters):
        return dict.fromkeys(paths, given)
    by_spelling = _by_spelling(paths)
    each: dict[ForwardPath, RcptParameters] = {}
    for recipient, parameters in given.items():
        _check_entry(given, recipient, parameters)
        named = parse_forward_path(recipient)
        path = by_spelling.get(_spelling(named))
        if path is None:
            raise WireError("rcpt_parameters", f"no recipient is {shown(named.text)}")
        if each.setdefault(path, parameters) != parameters:
            raise WireError("rcpt_parameters", f"two that differ for {shown(path.text)}")
    return each


def check_envelope(envelope: object) -> None:
    """Look at what a caller gave. Raises TypeError."""
    if not isinstance(envelope, Envelope):
        raise _wrong("envelope", "an Envelope, see Envelope.of()", envelope)


def _check_values(reverse_path: object, mail_parameters: object, rcpt_parameters: object) -> None:
    if not isinstance(reverse_path, _REVERSE_PATHS):
        raise _wrong("reverse_path", "a Mailbox or NULL_REVERSE_PATH", reverse_path)
    if not isinstance(mail_parameters, MailParameters):
        raise _wrong("mail_parameters", "MailParameters", mail_parameters)
    if not isinstance(rcpt_parameters, _MAPPINGS):
        raise _wrong("rcpt_parameters", "RcptParameters by path", rcpt_parameters)


def _check_texts(sender: object, rcpt_parameters: object) -> None:
    if not isinstance(sender, str):
        raise _wrong("sender", 'an address as str, "" for the null one', sender)
    if not isinstance(rcpt_parameters, (RcptParameters, *_MAPPINGS)):
        raise _wrong("rcpt_parameters", _FOR_RECIPIENTS, rcpt_parameters)


def _check_entry(given: object, recipient: object, parameters: object) -> None:
    if not (isinstance(recipient, str) and isinstance(parameters, RcptParameters)):
        raise _wrong("rcpt_parameters", _FOR_RECIPIENTS, given)


def _wrong(parameter: str, wanted: str, given: object) -> TypeError:
    kind = kind_of(given)
    if isinstance(given, list | tuple):
        members = {type(each).__name__ for each in cast("Iterable[object]", given)}
        kind = f"{kind} of {', '.join(sorted(members))}"
    return TypeError(f"{parameter}: it takes {wanted}, not {kind}")


def _ascii_path(path: ForwardPath) -> ForwardPath:
    return path.to_ascii() if isinstance(path, Mailbox) else path


@quick
@dataclass(frozen=True, slots=True)
class SendResult:
    """What became of a message that was sent.

    `accepted` and `refused` have every recipient between them, as `recipients` of the envelope has
    it, each with the server's reply to it.
    """

    accepted: Mapping[str, Reply]
    refused: Mapping[str, Reply]
    reply: Reply
    """The final reply, to the content. Its text often names the queue id."""
