"""The three worlds have the same names, parameters and errors.

Knows their public classes. Must not know what they do.
"""

import inspect

import pytest

import smtp_adapters.asyncio
import smtp_adapters.socket
import smtp_adapters.trio

KINDS = [
    (smtp_adapters.socket.SMTPClient, smtp_adapters.asyncio.SMTPClient),
    (smtp_adapters.socket.SMTPClient, smtp_adapters.trio.SMTPClient),
    (smtp_adapters.socket.SMTPServer, smtp_adapters.asyncio.SMTPServer),
    (smtp_adapters.socket.SMTPServer, smtp_adapters.trio.SMTPServer),
]
each_pair = pytest.mark.parametrize(
    ("blocking", "awaiting"), KINDS, ids=lambda kind: kind.__module__.rpartition(".")[2]
)


def public(kind: type) -> dict[str, object]:
    return {
        name: member
        for name, member in inspect.getmembers(kind)
        if not name.startswith("_") or name == "__init__"
    }


def parameters(function: object) -> list[tuple[str, object, object]]:
    """Names, kinds and defaults: the types of content differ, as the worlds can take more."""
    assert callable(function)
    return [
        (parameter.name, parameter.kind, parameter.default)
        for parameter in inspect.signature(function).parameters.values()
    ]


@each_pair
def test_names_are_the_same(blocking: type, awaiting: type) -> None:
    assert list(public(blocking)) == list(public(awaiting))


@each_pair
def test_parameters_and_results_are_the_same(blocking: type, awaiting: type) -> None:
    for name, member in public(blocking).items():
        other = public(awaiting)[name]
        if inspect.ismethod(member):  # a class method
            assert inspect.ismethod(other)
            assert member.__func__ is other.__func__
            continue
        if not inspect.isfunction(member):
            assert isinstance(member, property)
            assert isinstance(other, property)
            continue
        assert inspect.isfunction(other)
        assert parameters(member) == parameters(other)
        result, others = (inspect.signature(each).return_annotation for each in (member, other))
        assert others == ("AsyncOutcomes" if result == "Outcomes" else result)
        assert not inspect.iscoroutinefunction(member)
        # An iterator is there at once; what it gives is awaited.
        assert inspect.iscoroutinefunction(other) is (name not in ("__init__", "send_many"))


@each_pair
def test_each_is_a_context_manager_of_its_world(blocking: type, awaiting: type) -> None:
    for name in ("enter", "exit"):
        plain = inspect.getattr_static(blocking, f"__{name}__")
        assert parameters(plain) == parameters(inspect.getattr_static(awaiting, f"__a{name}__"))


@each_pair
def test_what_needs_words_has_the_same_ones(blocking: type, awaiting: type) -> None:
    for name, member in public(blocking).items():
        words, other = inspect.getdoc(member), inspect.getdoc(public(awaiting)[name])
        assert words, name
        assert other, name
        assert words.splitlines()[0] == other.splitlines()[0]
