"""Checks that the Python package `kenlm` reads our ARPA files and scores as Longhand does.

    python scripts/check_arpa.py FOLDER

FOLDER holds for each kind of tokeniser `KIND.arpa`, a model, and `KIND.scores`: the words of a text,
each with its log10 p after all before it.

`cargo run --package longhand-ngram --example arpa_sample -- FOLDER` writes it.
"""

import pathlib
import sys

import kenlm

# Of a log10 p, which both hold in single precision; a sum of backoffs rounds at each of them.
TOLERANCE = 2e-5


def difference(path):
    """The first word on which the two disagree, or none, and the number of words."""
    model = kenlm.Model(str(path))
    before, after = kenlm.State(), kenlm.State()
    model.BeginSentenceWrite(before)
    lines = path.with_suffix(".scores").read_bytes().decode("utf-8").split("\n")[:-1]
    for number, line in enumerate(lines, 1):
        word, ours = line.rsplit(" ", 1)
        theirs = model.BaseScore(before, word, after)
        if abs(theirs - float(ours)) > TOLERANCE:
            return f"word {number}, {word}: {theirs} in KenLM, {ours} in Longhand", number
        before, after = after, before
    return None, len(lines)


def main():
    """Checks every model of the folder; exit code 1 where one differs."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    paths = sorted(pathlib.Path(sys.argv[1]).glob("*.arpa"))
    if not paths:
        sys.exit(f"no *.arpa in {sys.argv[1]}")
    words = 0
    for path in paths:
        problem, count = difference(path)
        if problem or count == 0:
            sys.exit(f"{path.name}: {problem or 'no words'}")
        words += count
    print(f"{len(paths)} models agree on {words} words")


main()
