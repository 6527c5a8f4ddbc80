"""The coverage-guided driver: `python -m fuzz.run_atheris NAME [option of libFuzzer ...]`.

Knows atheris, and where the inputs are kept. Must not know what a harness does with them.

What atheris learns goes into a folder of its own for temporary files, so that the corpus stays
small; the smallest inputs of interest can be taken from there. A finding is written to
`fuzz/corpus/NAME/`.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["smtp_proto", "smtp_adapters"]):
    from fuzz.harnesses import HARNESSES
from fuzz.run import CORPUS, DICTIONARY


def main() -> None:
    """Fuzz one harness, until it fails or the options say so."""
    name = next(iter(sys.argv[1:]), "")
    if name not in HARNESSES:
        sys.exit(f"usage: python -m fuzz.run_atheris {{{','.join(HARNESSES)}}} [-option=value ...]")
    seeds = CORPUS / name
    learnt = Path(tempfile.gettempdir()) / "smtp_proto-fuzz" / name
    for folder in (seeds, learnt):
        folder.mkdir(parents=True, exist_ok=True)
    atheris.Setup(
        [
            sys.argv[0],
            f"-dict={DICTIONARY}",
            f"-artifact_prefix={seeds}/",
            "-timeout=10",  # seconds for one input: what is slow is a finding, too
            "-max_len=1024",
            "-print_final_stats=1",
            *sys.argv[2:],
            str(learnt),
            str(seeds),
        ],
        HARNESSES[name],
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
