"""Checks that the Python `tokenizers` package encodes and decodes as Longhand does.

    python scripts/check_tokenizers.py FOLDER

FOLDER holds one folder for each tokeniser, with its `tokenizer.json`, and for each text
`N.txt`, made by Longhand:

- `N.ids`, the ids of the plain text (a JSON list), and `N.places`, the characters of each;
- `N.marked`, the ids where names of special tokens stand for them;
- `N.decoded`, the text of `N.marked`.

`cargo run --package longhand-text --example tokenizers_sample -- FOLDER` writes it.
"""

import json
import pathlib
import sys

from tokenizers import Tokenizer


def read(path):
    """The text of a file, with its line ends as they are."""
    return path.read_bytes().decode("utf-8")


def difference(found, expected):
    """The first difference of two lists, or none."""
    if found == expected:
        return None
    pairs = enumerate(zip(found, expected))
    at = next((i for i, pair in pairs if pair[0] != pair[1]), min(len(found), len(expected)))
    return (
        f"differ from place {at}: {found[at:at + 8]} in Python, "
        f"{expected[at:at + 8]} in Longhand"
    )


def differences(folder):
    """Yields a line for each text on which the two disagree."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    texts = sorted(folder.glob("*.txt"))
    if not texts:
        yield f"{folder.name}: no texts"
    for path in texts:
        text = read(path)
        tokenizer.encode_special_tokens = True
        plain = tokenizer.encode(text, add_special_tokens=False)
        tokenizer.encode_special_tokens = False
        marked = tokenizer.encode(text, add_special_tokens=False)
        found = {
            "ids": plain.ids,
            "places": [list(place) for place in plain.offsets],
            "marked": marked.ids,
        }
        for ending, ours in found.items():
            problem = difference(ours, json.loads(read(path.with_suffix(f".{ending}"))))
            if problem:
                yield f"{folder.name}/{path.name}: {ending} {problem}"
        decoded = tokenizer.decode(marked.ids, skip_special_tokens=False)
        ours = read(path.with_suffix(".decoded"))
        if decoded != ours:
            yield f"{folder.name}/{path.name}: decoded {decoded[:80]!r}, Longhand {ours[:80]!r}"


def main():
    """Checks every tokeniser of the folder; exit code 1 where one differs."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folders = sorted(path.parent for path in pathlib.Path(sys.argv[1]).glob("*/tokenizer.json"))
    if not folders:
        sys.exit(f"no */tokenizer.json in {sys.argv[1]}")
    problems = [line for folder in folders for line in differences(folder)]
    for line in problems:
        print(line)
    if problems:
        sys.exit(1)
    print(f"{len(folders)} tokenisers agree")


main()
