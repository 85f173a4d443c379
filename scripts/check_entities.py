"""Checks that seqeval scores entities as Longhand does.

    python scripts/check_entities.py FOLDER

Each file of FOLDER holds pairs of tag sequences, the truth and an answer, and Longhand's precision,
recall and F1 of all entities and of each type. seqeval's default mode is that of `conlleval`.

`cargo run --package longhand-tasks --example entities_sample -- FOLDER` writes it.
"""

import json
import pathlib
import sys
import warnings

from seqeval.metrics import classification_report


def differences(path):
    """Yields a line for each number of a file on which the two disagree."""
    sample = json.loads(path.read_text())
    truth, found = zip(*sample["sentences"])
    with warnings.catch_warnings():
        # Types without an entity in the truth or in the answer.
        warnings.simplefilter("ignore")
        report = classification_report(
            list(truth), list(found), output_dict=True, zero_division=0
        )
    expected = {"micro avg": sample["overall"], **sample["types"]}
    for name, ours in expected.items():
        theirs = [report[name][key] for key in ("precision", "recall", "f1-score")]
        if any(abs(a - b) > 1e-9 for a, b in zip(ours, theirs)):
            yield f"{path.name}, {name}: {theirs} in seqeval, {ours} in Longhand"
    macro = report["macro avg"]["f1-score"]
    if abs(macro - sample["macro_f1"]) > 1e-9:
        yield f"{path.name}: macro F1 {macro} in seqeval, {sample['macro_f1']} in Longhand"


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
