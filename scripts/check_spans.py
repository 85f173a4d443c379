"""Checks that answers to questions are measured as the scripts of SQuAD and CMRC 2018 do.

    python scripts/check_spans.py FOLDER

Each file of FOLDER holds right answers, a found one, and Longhand's exact match and F1 by the rules
that the file names. The rules are written here anew, in Python's own notions of lower case, white
space and word boundaries, so that a difference to Rust's shows. Python's script for CMRC parts Latin
text with NLTK; Longhand parts it at white space, and so does this check.

`cargo run --package longhand-tasks --example spans_sample -- FOLDER` writes it.
"""

import collections
import json
import pathlib
import re
import string
import sys

CMRC_MARKS = set("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")


def squad_normal(text):
    """Lower case, no ASCII punctuation, no articles, single spaces."""
    kept = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(?:the|an?)\b", " ", kept).split())


def squad_f1(right, found, is_second):
    right, found = squad_normal(right).split(), squad_normal(found).split()
    if is_second and not (right and found):
        return float(right == found)
    shared = sum((collections.Counter(right) & collections.Counter(found)).values())
    return 2.0 * shared / (len(right) + len(found)) if shared else 0.0


def squad(right, found, is_second):
    if is_second:
        right = [text for text in right if squad_normal(text)] or [""]
    exact = max(float(squad_normal(text) == squad_normal(found)) for text in right)
    return exact, max(squad_f1(text, found, is_second) for text in right)


def cmrc_normal(text):
    return "".join(c for c in text.lower().strip() if c not in CMRC_MARKS)


def cmrc_segments(text):
    parts = re.split("([\u4e00-\u9fa5])", cmrc_normal(text))
    return [segment for part in parts for segment in part.split()]


def cmrc_f1(right, found):
    right, found = cmrc_segments(right), cmrc_segments(found)
    runs = (
        end - start
        for start in range(len(right))
        for end in range(start + 1, len(right) + 1)
        if any(right[start:end] == found[at : at + end - start] for at in range(len(found)))
    )
    shared = max(runs, default=0)
    return 2.0 * shared / (len(right) + len(found)) if shared else 0.0


def cmrc(right, found):
    exact = max(float(cmrc_normal(text) == cmrc_normal(found)) for text in right)
    return exact, max(cmrc_f1(text, found) for text in right)


MEASURES = {
    "squad-1.1": lambda right, found: squad(right, found, False),
    "squad-2.0": lambda right, found: squad(right, found, True),
    "cmrc-2018": cmrc,
}


def differences(path):
    """Yields a line for each question on which the two disagree, and one for the means."""
    sample = json.loads(path.read_text())
    measure = MEASURES[sample["rules"]]
    sums = [0.0] * 4
    for question in sample["questions"]:
        theirs = measure(question["right"], question["found"])
        ours = (question["exact"], question["f1"])
        sums = [a + b for a, b in zip(sums, (*theirs, *ours))]
        if any(abs(a - b) > 1e-9 for a, b in zip(theirs, ours)):
            yield f"{path.name}, {question}: {theirs} by the rules, {ours} in Longhand"
    if not 0 < sums[0] < len(sample["questions"]) or sums[1] == sums[0]:
        yield f"{path.name}: the sample tells nothing apart"


def main():
    paths = sorted(pathlib.Path(sys.argv[1]).glob("*.json"))
    if not paths:
        sys.exit("no samples to check")
    found = [line for path in paths for line in differences(path)]
    if found:
        sys.exit("\n".join(found))
    print(f"{len(paths)} samples agree")


if __name__ == "__main__":
    main()
