"""Longhand beside what one would pick instead, on one machine, in turns.

Set up once (about 6 GB; PyTorch's ordinary wheel also runs on the processor alone):

    python3 -m venv PEERS
    PEERS/bin/pip install torch numpy onnx onnxruntime transformers xlstm safetensors ctranslate2
    cargo build --release

The peer of the rows `serving` is llama.cpp's server, or that of its Python package, whichever is faster. The
package's source has both:

    PEERS/bin/pip install gguf cmake ninja 'llama-cpp-python[server]'
    PEERS/bin/pip download --no-binary :all: --no-deps llama-cpp-python && tar xf llama_cpp_python-*.tar.gz
    PEERS/bin/cmake -G Ninja -S llama_cpp_python-*/vendor/llama.cpp -B LLAMA -DCMAKE_BUILD_TYPE=Release \\
        -DGGML_NATIVE=ON -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF
    PEERS/bin/ninja -C LLAMA llama-server

Then, with nothing else running:

    python3 bench/compare/compare.py --python PEERS/bin/python
    python3 bench/compare/compare.py --python PEERS/bin/python --only lstm-decode xlstm
    python3 bench/compare/compare.py --python PEERS/bin/python --only serving --llama-server LLAMA/bin/llama-server

For each row of rows.py: the peer's settings are tried, the fastest then runs in turns with ours, and
the ratio of each turn is taken. A turn in which other processes used more than 0.1 processors on
average is run again, a few times at most; so is one before or after which this machine's processors
turned out to share a core, as those of a virtual machine do at times unseen. The folder `--out` receives `results.json` (added to by
each row, so that a run may be broken off and continued by `--continue`), `results.md` and
`results.svg`. This program needs no package itself.
"""

import argparse
import datetime
import json
import multiprocessing
import pathlib
import platform
import statistics
import subprocess
import sys
import time

import rows as comparisons
import table

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# Processors that others may use in a turn that counts.
QUIET = 0.1
# Speed of each of several busy processors, as a share of one alone, below which they share a core.
WHOLE = 0.8
# Seconds after which a program is taken to hang.
PATIENCE = 900


class Processors:
    """Tells whether processors that are busy together are as fast as one alone."""

    def __init__(self, count):
        self.count, self.pool = count, multiprocessing.Pool(count)

    def share(self):
        alone = min(self.pool.apply(spin) for _ in range(3))
        together = max(self.pool.map(spin, [None] * self.count, chunksize=1))
        return alone / together


def spin(_=None):
    began = time.perf_counter()
    sum(number * number for number in range(500_000))
    return time.perf_counter() - began


class Runner:
    """Runs programs and reads the line of JSON that they print last."""

    def __init__(self, arguments):
        self.arguments = arguments

    def run(self, words, seconds=None):
        length = ["--window-seconds", str(seconds or self.arguments.window_seconds)]
        threads = ["--threads", str(self.arguments.threads)]
        if words[0].endswith(".py"):
            command = [self.arguments.python, str(HERE / "peers" / words[0]), *words[1:]]
        else:
            command = [self.arguments.longhand, "bench", *words]
        timed = [] if "--first-token" in words or words[0] == "first-token" else length
        return run(command + threads + timed)

    def ours(self, row, models):
        return self.run(filled(row.ours, models))

    def theirs(self, words, models, seconds=None):
        words = filled(words, models)
        return self.run(words[1:] if words[0] == "longhand" else words, seconds)

    def models(self, row):
        """Paths that a row's words name; the models that it needs are written where they are missing."""
        a = self.arguments
        paths = {"longhand": a.longhand, "llama": a.llama_server}
        paths["models"] = (pathlib.Path(a.out) / "models").absolute()
        if not row.model:
            return paths
        size = comparisons.SHAPES[row.model]
        words = ["--vocab", str(size["vocab"]), "--dim", str(size["dim"]), "--layers", "2"]
        folder = (pathlib.Path(self.arguments.out) / "models" / row.model).absolute()
        if not (folder / "step.int8.onnx").exists():
            program = str(HERE / "peers" / "lstm_decoding.py")
            run([self.arguments.python, program, "--write", str(folder), *words], reads=False)
        ours = folder / "longhand-int8"
        if "{ours}" in row.ours and not ours.exists():
            self.run(["lstm-decode", *words, "--weights", "int8", "--save", str(ours)], seconds=0.1)
        return {**paths, "model": folder, "ours": ours}


def run(command, reads=True):
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"{' '.join(map(str, command))}: {last}")
    return json.loads(done.stdout.strip().splitlines()[-1]) if reads else None


def filled(words, models):
    return [word.format(**models) for word in words]


def value(line, path):
    for key in path.split("."):
        line = line[key]
    return line


def disturbance(line):
    return line.get("other_cpus_busy") or 0.0


def compare(row, runner, processors, arguments):
    models = runner.models(row)
    best, tried = row.peers[0], []
    if len(row.peers) > 1:
        for words in row.peers:
            try:
                line = runner.theirs(words, models, seconds=min(1.0, arguments.window_seconds))
            except RuntimeError as error:
                print(f"  a setting was left out: {error}", file=sys.stderr)
                continue
            tried.append((value(line, row.field), words))
        best = (max if row.more else min)(tried, key=lambda pair: pair[0])[1]
    turns, left = [], arguments.turns + arguments.repeats
    while len([turn for turn in turns if turn["quiet"]]) < arguments.turns and left > 0:
        left -= 1
        shares = [processors.share()]
        theirs = runner.theirs(best, models)
        shares.append(processors.share())
        ours = runner.ours(row, models)
        shares.append(processors.share())
        busy, share = max(disturbance(theirs), disturbance(ours)), min(shares)
        a, b = value(theirs, row.field), value(ours, row.field)
        ratio = b / a if row.more else a / b
        quiet = busy <= QUIET and share >= WHOLE
        turns.append(
            {"theirs": theirs, "ours": ours, "ratio": ratio, "quiet": quiet, "core_share": share}
        )
        print(
            f"  {a:,.2f} against {b:,.2f}: {ratio:.2f}, others {busy:.2f}, core {share:.2f}",
            file=sys.stderr,
        )
    quiet = [turn for turn in turns if turn["quiet"]]
    counted = quiet or turns

    def middle(of):
        return statistics.median(of(turn) for turn in counted)

    return {
        **{key: getattr(row, key) for key in ("group", "name", "against", "mark", "field", "more")},
        "peer": best,
        "command": row.ours,
        "theirs": middle(lambda turn: value(turn["theirs"], row.field)),
        "ours": middle(lambda turn: value(turn["ours"], row.field)),
        "ratio": middle(lambda turn: turn["ratio"]),
        "windows": sum(turn["ours"].get("tokens_per_s", {"windows": 1})["windows"] for turn in counted),
        "other_cpus_busy": middle(
            lambda turn: max(disturbance(turn["theirs"]), disturbance(turn["ours"]))
        ),
        "quiet": bool(quiet),
        "turns": turns,
    }


def about(arguments):
    with open("/proc/cpuinfo") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    packages = ("torch", "onnxruntime", "transformers", "xlstm", "ctranslate2", "llama_cpp_python")
    ask = (
        "import importlib.metadata as m\n"
        "have = {d.metadata['Name'] for d in m.distributions()}\n"
        f"print(', '.join(f'{{p}} {{m.version(p)}}' for p in {packages} if p in have))"
    )
    versions = subprocess.run([arguments.python, "-c", ask], capture_output=True, text=True)
    return {
        "date": datetime.date.today().isoformat(),
        "machine": f"{len(names)} cores of {names[0] if names else platform.processor()}",
        "threads": arguments.threads,
        "versions": versions.stdout.strip() or "versions unknown",
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", required=True, help="the interpreter that has the peers")
    parser.add_argument("--longhand", default=str(ROOT / "target" / "release" / "longhand"))
    parser.add_argument("--llama-server", default="llama-server", help="llama.cpp's server")
    parser.add_argument("--out", default="comparison", help="the folder of the results")
    parser.add_argument("--only", nargs="*", help="groups, or parts of rows' names")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3, help="undisturbed turns of each row")
    parser.add_argument("--repeats", type=int, default=3, help="turns more where some are disturbed")
    parser.add_argument("--window-seconds", type=float, default=2.0)
    parser.add_argument("--continue", dest="resume", action="store_true")
    arguments = parser.parse_args()
    out = pathlib.Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    file, runner = out / "results.json", Runner(arguments)
    processors = Processors(arguments.threads)
    old = json.loads(file.read_text())["rows"] if arguments.resume and file.exists() else []
    results, described = {row["name"]: row for row in old}, about(arguments)
    failed = False
    for row in comparisons.rows():
        wanted = not arguments.only or any(
            part == row.group or part in row.name for part in arguments.only
        )
        if not wanted or row.name in results:
            continue
        print(f"{row.name} against {row.against}", file=sys.stderr)
        try:
            results[row.name] = compare(row, runner, processors, arguments)
        except (RuntimeError, KeyError, ValueError, subprocess.TimeoutExpired) as error:
            print(f"  not measured: {error}", file=sys.stderr)
            failed = True
            continue
        done = list(results.values())
        file.write_text(json.dumps({"about": described, "rows": done}, indent=1))
        (out / "results.md").write_text(table.markdown(done, described))
        (out / "results.svg").write_text(table.svg(done))
    print(table.markdown(list(results.values()), described))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
