"""Our own marks of serving: many streams against one, the slowest tokens, and a session that goes on.

    python3 bench/compare/sessions.py --folder models --threads 2

The models are made where they are missing, trained for a few steps: longhand-nano with weights of eight
bits, and longhand-small as it is. This program needs no package. For each mark it prints what was
measured and how the mark was met; the last line is all of it as JSON.
"""

import argparse
import json
import pathlib
import statistics
import sys
import tempfile
import threading

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "peers"))

from serving import Line, Server, run, train  # noqa: E402

ROOT = HERE.parent.parent
# Tokens of the prompt whose state is restored, and of the turn behind it: a short message.
PROMPT, TURN = 5892, 8
# Bytes that a snapshot may have.
SNAPSHOT = 10 << 20
# Words of a prompt of about 2,000 tokens, where a character is a token.
LONG = 310


def model(arguments, preset, steps, weights):
    """The folder of a model, made where it is missing."""
    folder = arguments.folder / f"{preset}-{weights}"
    if not folder.exists():
        train(arguments.longhand, preset, folder, steps, weights)
    return folder


def server(arguments, folder, *more):
    asked = argparse.Namespace(
        server="longhand", program=arguments.longhand, model=folder, threads=arguments.threads
    )
    return Server(asked, more)


def load(arguments, url, *more, requests=1_000_000):
    words = [arguments.longhand, "bench", "serve", url, "--json", "--requests", requests, *more]
    told = json.loads(run(*words, "--timeout", 120))
    if told["errors"]:
        raise RuntimeError(f"requests failed: {told['errors']}")
    return told


def throughput(arguments, url):
    """Tokens a second of 64 streams and of one."""
    asked = ["--words", 4, "--tokens", 256, "--seconds", arguments.seconds]
    load(arguments, url, "--clients", 64, "--words", 4, "--seconds", 1)
    one = load(arguments, url, "--clients", 1, *asked)
    many = load(arguments, url, "--clients", 64, *asked)
    ratio = many["tokens_per_second"] / one["tokens_per_second"]
    return {
        "one_stream_tokens_per_s": one["tokens_per_second"],
        "streams_64_tokens_per_s": many["tokens_per_second"],
        "streams_64_per_token_ms": many["per_token"],
        "ratio": ratio,
        "met": ratio >= 8,
    }


def tail(arguments, url):
    """Time per token of 63 streams while another client asks with prompts of 2,000 tokens."""
    told = {}

    def writers():
        asked = ["--clients", 63, "--words", 4, "--tokens", 512, "--seconds", arguments.seconds]
        told["writers"] = load(arguments, url, *asked)

    thread = threading.Thread(target=writers)
    thread.start()
    asked = ["--clients", 1, "--words", LONG, "--tokens", 1, "--seconds", arguments.seconds]
    told["prompts"] = load(arguments, url, *asked)
    thread.join()
    times, prompts = told["writers"]["per_token"], told["prompts"]
    ratio = times["p99"] / times["p50"]
    return {
        "per_token_ms": times,
        "prompts": prompts["answered"],
        "prompt_tokens": prompts["prompt_tokens"] / max(1, prompts["answered"]),
        "prompt_first_token_ms": prompts["first_token"],
        "ratio": ratio,
        "met": ratio <= 3,
    }


def ids(seed, count):
    """Tokens of a prompt that no other seed begins alike: letters, of a byte tokeniser."""
    state, found = seed, []
    for _ in range(count):
        state = (state * 48271 + 11) % 2147483647
        found.append(97 + state % 26)
    return found


def ask(line, prompt, tokens, **fields):
    # A model that was hardly trained writes bytes that are no text; a letter is text at once.
    return line.ask(prompt, tokens, logit_bias={"97": 100}, **fields)


def resume(arguments, folder):
    """As `resumed`, with a folder of sessions of its own."""
    with tempfile.TemporaryDirectory(dir=arguments.folder) as store:
        return resumed(arguments, folder, store)


def resumed(arguments, folder, store):
    """The first token of a session's next turn: in memory, after a restart, and read anew."""
    times = {"cold": [], "memory": [], "restarted": []}
    talks, sizes = range(arguments.talks), {}
    with server(arguments, folder, "--sessions", store) as ours:
        line = Line(ours.url)
        ask(line, ids(1, 300), 4)
        for talk in talks:
            asked = ids(1000 * talk + 7, PROMPT)
            ask(line, asked, 4, session_id=f"long-{talk}")
            ask(line, asked[:100], 4, session_id=f"short-{talk}")
            times["memory"].append(ask(line, ids(talk, TURN), 4, session_id=f"long-{talk}")[0])
            times["cold"].append(ask(line, ids(1000 * talk + 9, PROMPT + TURN), 4)[0])
        for name in ("long-0", "short-0"):
            line.connection.request("GET", f"/v1/sessions/{name}/export")
            answer = line.connection.getresponse()
            sizes[name] = len(answer.read()) if answer.status == 200 else answer.status
    with server(arguments, folder, "--sessions", store) as ours:
        line = Line(ours.url)
        ask(line, ids(2, 300), 4)
        for talk in talks:
            times["restarted"].append(ask(line, ids(talk, TURN), 4, session_id=f"long-{talk}")[0])
    milliseconds = {name: 1e3 * statistics.median(found) for name, found in times.items()}
    ratios = {name: milliseconds["cold"] / milliseconds[name] for name in ("memory", "restarted")}
    long, short = sizes["long-0"], sizes["short-0"]
    return {
        "first_token_ms": milliseconds,
        "ratios": ratios,
        "snapshot_bytes": sizes,
        "met": min(ratios.values()) >= 100 and long <= SNAPSHOT and abs(long - short) < 4096,
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--longhand", default=str(ROOT / "target" / "release" / "longhand"))
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("comparison/models"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=int, default=10, help="length of each load")
    parser.add_argument("--talks", type=int, default=5, help="sessions that go on")
    parser.add_argument("--only", nargs="*", choices=["throughput", "tail", "resume"])
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    wanted, told = arguments.only or ["throughput", "tail", "resume"], {}
    if {"throughput", "tail"} & set(wanted):
        with server(arguments, model(arguments, "longhand-nano", 60, "int8")) as ours:
            for name, measure in (("throughput", throughput), ("tail", tail)):
                if name in wanted:
                    told[name] = measure(arguments, ours.url)
                    print(f"{name}: {json.dumps(told[name], indent=1)}", file=sys.stderr)
    if "resume" in wanted:
        told["resume"] = resume(arguments, model(arguments, "longhand-small", 1, "f32"))
        print(f"resume: {json.dumps(told['resume'], indent=1)}", file=sys.stderr)
    print(json.dumps(told))
    return 0 if all(mark["met"] for mark in told.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
