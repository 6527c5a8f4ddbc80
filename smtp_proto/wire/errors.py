"""What goes wrong between octets and values.

Knows how to say it, so that whatever a peer sent can be printed.
Must not know which value it was, nor what is to be done about it.

    ValueError
        WireError           a text is not the value that it should be
            LimitExceeded   a peer sent more than a limit allows
"""

_SHOWN_CHARACTERS = 80
_CUT_MARK = "..."
_VOWELS = ("a", "e", "i", "o", "u")


class WireError(ValueError):
    """A text is not the value that it should be.

    `what` names the grammar rule in the words of the RFC ("forward-path"); `why` says what is
    wrong with the text, and where. Text of the peer gets into `why` through `shown()` only.
    `str()` gives both on one line that any terminal or log can take.
    """

    # Not calling super().__init__() leaves in `args` what each class was built with: with that
    # the errors can be copied and pickled, whatever a subclass adds.
    def __init__(self, what: str, why: str) -> None:
        self.what = what
        self.why = why

    def __str__(self) -> str:
        return escaped(f"{self.what}: {self.why}")


class LimitExceeded(WireError):
    """A peer sent more than a limit allows.

    `limit` is the name of the field in `Limits`, `maximum` its value, in octets or as a count.
    """

    def __init__(self, what: str, limit: str, maximum: int) -> None:
        super().__init__(what, f"more than the {maximum} that the limit {limit} allows")
        self.limit = limit
        self.maximum = maximum


def refuse_text(what: str, members: object) -> None:
    """Raises TypeError for a str where a tuple is meant: each letter would be a member."""
    if isinstance(members, str):
        raise TypeError(f"{what}: a tuple, not one str")


def check_flag(name: str, flag: object) -> None:
    """Raises TypeError for what is neither True nor False: "no" must not mean yes."""
    if not isinstance(flag, bool):
        raise TypeError(f"{name} is True or False, not {kind_of(flag)}")


def kind_of(value: object) -> str:
    """The type of what a caller gave: "a str", "an int", "None".

    Of the value itself nothing is shown: there may be a secret in it.
    """
    if value is None:
        return "None"
    name = type(value).__name__
    article = "an" if name.lower().startswith(_VOWELS) else "a"
    return f"{article} {name}"


def escaped(text: str) -> str:
    r"""Return `text` with everything unprintable escaped: ESC becomes "\x1b".

    Unprintable are the control characters, line ends among them, the bidirectional overrides
    and lone surrogates. Unlike `shown()`, it cuts nothing.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def shown(text: str | bytes) -> str:
    """Return `text` as an error message may quote it: escaped, and cut to 80 characters."""
    # One character more than can be shown tells that there is more; the rest is never looked at.
    start = text[: _SHOWN_CHARACTERS + 1]
    if isinstance(start, bytes):
        start = start.decode("utf-8", "backslashreplace")
    line = escaped(start)
    if len(line) <= _SHOWN_CHARACTERS:
        return line
    return line[: _SHOWN_CHARACTERS - len(_CUT_MARK)] + _CUT_MARK
