"""The plain driver: `python -m fuzz.run --seconds 60 [--harness NAME] [--seed N]`.

Knows how to make inputs up: seeds that are mutated, and tokens that are strung together. Needs the
standard library only, and makes the same inputs of the same seed.
Must not know what a harness does with them.

A finding is made as small as may be and written to `fuzz/corpus/NAME/`; the exit code is 1 then.
"""

import argparse
import hashlib
import random
import re
import sys
import time
import traceback
from ast import literal_eval
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from fuzz.harnesses import HARNESSES
from fuzz.states import Harness

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
DICTIONARY = HERE / "smtp.dict"

_LONGEST = 1024  # octets; the limits that the harnesses set are far below
_TOKEN = re.compile(r'^[^#"]*("(?:[^"\\]|\\.)*")', re.MULTILINE)


def tokens() -> list[bytes]:
    """Return the tokens of the dictionary."""
    text = DICTIONARY.read_text(encoding="ascii")
    return [literal_eval(f"b{quoted}") for quoted in _TOKEN.findall(text)]


def seeds(folder: Path) -> list[bytes]:
    """Return the inputs in a folder of the corpus, in the order of their names."""
    return [file.read_bytes() for file in sorted(folder.glob("*"))]


# --- Inputs ----------------------------------------------------------------------------------

_Mutation: TypeAlias = Callable[["Inputs", bytearray], None]


class Inputs:
    """An endless stream of inputs: each seed as it is, then what chance makes of them."""

    def __init__(self, seeds: Sequence[bytes], chance: random.Random) -> None:
        self._seeds = seeds
        self._chance = chance
        self._tokens = tokens()

    def __iter__(self) -> Iterator[bytes]:
        yield b""
        yield from self._seeds
        while True:
            data = bytearray(self._start())
            for _ in range(self._chance.randint(0, 6)):
                self._chance.choice(_MUTATIONS)(self, data)
            yield bytes(data[:_LONGEST])

    def _start(self) -> bytes:
        if self._seeds and self._chance.random() < 0.6:
            return self._chance.choice(self._seeds)
        return b"".join(self._chance.choices(self._tokens, k=self._chance.randint(1, 16)))

    def _part(self, data: Sequence[int]) -> slice:
        """A part of `data`, short more often than long."""
        start = self._chance.randint(0, len(data))
        return slice(start, start + int(self._chance.expovariate(0.1)) + 1)

    def insert_token(self, data: bytearray) -> None:
        """Put a token somewhere."""
        place = self._chance.randint(0, len(data))
        data[place:place] = self._chance.choice(self._tokens)

    def replace_by_token(self, data: bytearray) -> None:
        """Put a token in the place of something."""
        data[self._part(data)] = self._chance.choice(self._tokens)

    def replace_octet(self, data: bytearray) -> None:
        """Put any octet in the place of another."""
        place = self._chance.randint(0, len(data))
        data[place : place + 1] = self._chance.randbytes(1)

    def delete(self, data: bytearray) -> None:
        """Take something out."""
        del data[self._part(data)]

    def cut_off(self, data: bytearray) -> None:
        """End it earlier."""
        del data[self._chance.randint(0, len(data)) :]

    def repeat(self, data: bytearray) -> None:
        """Say something again, perhaps often."""
        part = self._part(data)
        data[part] = data[part] * self._chance.choice((2, 2, 3, 20))

    def splice(self, data: bytearray) -> None:
        """Put a part of a seed somewhere."""
        if self._seeds:
            seed = self._chance.choice(self._seeds)
            place = self._chance.randint(0, len(data))
            data[place:place] = seed[self._part(seed)]


_MUTATIONS: Sequence[_Mutation] = (
    Inputs.insert_token,
    Inputs.replace_by_token,
    Inputs.replace_octet,
    Inputs.delete,
    Inputs.cut_off,
    Inputs.repeat,
    Inputs.splice,
)

# --- Running ---------------------------------------------------------------------------------


def failure(harness: Harness, data: bytes) -> Exception | None:
    """Return what a harness raises; None: the input is fine."""
    try:
        harness(data)
    except Exception as error:
        return error
    return None


def first_finding(harness: Harness, inputs: Iterable[bytes]) -> tuple[int, bytes | None]:
    """Return how many inputs were tried, and the one that fails, if any."""
    count = 0
    for count, data in enumerate(inputs, 1):
        if failure(harness, data) is not None:
            return count, data
    return count, None


def smallest(harness: Harness, data: bytes) -> bytes:
    """Return what is left when nothing can be taken out of `data` without another end."""
    kind = type(failure(harness, data))
    size = len(data)
    while size:
        for start in range(0, len(data), size):
            shorter = data[:start] + data[start + size :]
            if type(failure(harness, shorter)) is kind:
                data = shorter
                break
        else:
            size //= 2
    return data


def within(inputs: Iterable[bytes], seconds: float) -> Iterator[bytes]:
    """Yield inputs until the time is up."""
    end = time.monotonic() + seconds
    for data in inputs:
        yield data
        if time.monotonic() >= end:
            return


def fuzz(name: str, harness: Harness, corpus: Path, seed: int, seconds: float) -> bool:
    """Fuzz one harness and print what came of it; return whether all is well."""
    began = time.monotonic()
    inputs = Inputs(seeds(corpus / name), random.Random(f"{seed} {name}"))
    count, finding = first_finding(harness, within(inputs, seconds))
    speed = count / max(time.monotonic() - began, 0.001)
    print(f"{name:12} {count:9,} executions {speed:9,.0f} a second", flush=True)
    if finding is None:
        return True
    finding = smallest(harness, finding)
    file = corpus / name / f"finding-{hashlib.sha256(finding).hexdigest()[:12]}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(finding)
    traceback.print_exception(failure(harness, finding))
    print(f"{name}: {finding!r}\nkept in {file}", file=sys.stderr)
    return False


def main(
    arguments: Sequence[str] | None = None,
    harnesses: Mapping[str, Harness] = HARNESSES,
    corpus: Path = CORPUS,
) -> int:
    """Fuzz; return the exit code."""
    parser = argparse.ArgumentParser(prog="fuzz.run", description="Fuzz with random inputs.")
    parser.add_argument("--seconds", type=float, default=60.0, help="for all harnesses together")
    parser.add_argument(
        "--harness", action="append", choices=[*harnesses], help="only this one; may be repeated"
    )
    parser.add_argument("--seed", type=int, default=0, help="for other inputs than last time")
    options = parser.parse_args(arguments)
    names: list[str] = options.harness or [*harnesses]
    share = options.seconds / len(names)
    well = [fuzz(name, harnesses[name], corpus, options.seed, share) for name in names]
    return 0 if all(well) else 1


if __name__ == "__main__":
    sys.exit(main())
