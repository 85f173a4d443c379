"""Checks that TensorBoard's own package reads a folder of event files.

    python scripts/check_tensorboard.py FOLDER --scalar train/loss --histogram gates/forget --text sample

Each tag named must be there with at least one event and readable values. Steps of scalars and
histograms must rise: a resumed run shows each step once. (The package itself keeps overwritten
texts.) Exit code 1 names what is missing.
"""

import argparse
import math
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--scalar", action="append", default=[], metavar="TAG")
    parser.add_argument("--histogram", action="append", default=[], metavar="TAG")
    parser.add_argument("--text", action="append", default=[], metavar="TAG")
    arguments = parser.parse_args()

    # 0 keeps every event instead of a sample of them.
    everything = {"scalars": 0, "histograms": 0, "tensors": 0}
    events = EventAccumulator(arguments.folder, size_guidance=everything).Reload()
    present = events.Tags()
    faults = []

    for kind, tags, read, valid in (
        ("scalars", arguments.scalar, events.Scalars, valid_scalar),
        ("histograms", arguments.histogram, events.Histograms, valid_histogram),
        ("tensors", arguments.text, events.Tensors, valid_text),
    ):
        for tag in tags:
            if tag not in present[kind]:
                faults.append(f"{tag!r} is not among the {kind}: {sorted(present[kind])}")
                continue
            entries = read(tag)
            steps = [entry.step for entry in entries]
            rising = all(earlier < later for earlier, later in zip(steps, steps[1:]))
            if not steps or not (rising or kind == "tensors"):
                faults.append(f"{tag!r}: steps do not rise: {steps}")
            faults += [f"{tag!r} at step {e.step}: unreadable" for e in entries if not valid(e)]

    for tag in arguments.text:
        if tag in present["tensors"]:
            plugin = events.SummaryMetadata(tag).plugin_data.plugin_name
            if plugin != "text":
                faults.append(f"{tag!r} would be shown by the plugin {plugin!r}, not as text")

    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


def valid_scalar(entry) -> bool:
    return math.isfinite(entry.value) and entry.wall_time > 0


def valid_histogram(entry) -> bool:
    value = entry.histogram_value
    return len(value.bucket) == len(value.bucket_limit) > 0 and sum(value.bucket) == value.num


def valid_text(entry) -> bool:
    strings = tensor_util.make_ndarray(entry.tensor_proto).reshape(-1)
    return len(strings) == 1 and bool(strings[0].decode("utf-8"))


if __name__ == "__main__":
    sys.exit(main())
