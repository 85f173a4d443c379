"""A server of language models and its clients: ours, llama.cpp's, or that of its Python package.

    serving.py --server llama --program LLAMA_SERVER --model FILE --client LONGHAND --clients 64
    serving.py --server llama-python --model FILE --client LONGHAND --clients 64
    serving.py --server longhand --program LONGHAND --model DIR --client LONGHAND --clients 64
    serving.py … --second-turn                            # first token of the second turn

With --clients, `longhand bench serve` is the client of either server: a closed loop of prompts of
about 300 tokens, each answered by 64. With --second-turn, each of --talks conversations says 4,000
tokens, and then a short second turn; our server keeps them in sessions, the others find what they
have read in slots and in a cache of prompts. Words after `--` go to the server as they are.

A model that is missing is made: longhand-nano with a byte tokeniser, trained for a few steps, with weights
of eight bits, and a Llama of random weights (tiny_llama.py), which is about as large.
"""

import http.client
import json
import pathlib
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse

from measuring import flags, machine_busy, own_busy, report

# Seconds that a server has to start and to end.
PATIENCE = 120
WORDS = (
    "river stone letter garden winter paper window morning story bread mountain silver evening market"
    " little road"
).split()
# Tokens of a conversation's first turn, of its answer, and of the second turn; a character is a token.
HISTORY, ANSWER, TURN = 4000, 16, 50
# Tokens that a client of the closed loop has in a slot: its prompt and its answer.
SLOT = 512


def prepare(arguments):
    """Makes the model where it is missing."""
    folder = pathlib.Path(arguments.model)
    if folder.exists():
        return
    if arguments.server != "longhand":
        program = str(pathlib.Path(__file__).with_name("tiny_llama.py"))
        return run(sys.executable, program, "--out", folder)
    train(arguments.program, "longhand-nano", folder, steps=60)


def train(longhand, preset, folder, steps, weights="int8"):
    """Trains a model of bytes on the built-in sample, and writes it with weights of this format."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        exact, small = pathlib.Path(made) / "exact", pathlib.Path(made) / "int8"
        size = ["--steps", steps, "--batch", 4, "--chunk", 64, "--tokenizer", "byte"]
        run(longhand, "train", "--preset", preset, "--out", exact, *size)
        if weights == "f32":
            exact.rename(folder)
        else:
            run(longhand, "quantize", exact, "--weights", weights, "--out", small)
            small.rename(folder)


def run(*words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, words))}: {done.stderr.strip()[-600:]}")
    return done.stdout


class Server:
    """A server that runs as long as the block of its `with`."""

    def __init__(self, arguments, more=()):
        self.ours, self.folder = arguments.server == "longhand", tempfile.TemporaryDirectory()
        self.log = pathlib.Path(self.folder.name) / "log"
        threads = ["--threads", str(arguments.threads)]
        program, model = str(arguments.program), str(arguments.model)
        if self.ours:
            self.url = None
            self.command = [program, "serve", f"model={model}", "--port", "0", *threads, *more]
            return
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        self.url, at = f"http://127.0.0.1:{port}", ["--model", model, "--port", port]
        if arguments.server == "llama":
            self.command = [program, *at, *threads, "--threads-batch", threads[1], *more]
        else:
            self.command = [sys.executable, "-m", "llama_cpp.server", *at, "--n_threads", threads[1]]
            self.command += ["--n_threads_batch", threads[1], "--model_alias", "model", *more]

    def __enter__(self):
        with open(self.log, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        end = time.monotonic() + PATIENCE
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > end:
                self.__exit__()
                raise RuntimeError(f"the server does not start: {self.said[-600:]}")
            time.sleep(0.02)
        return self

    def is_ready(self):
        if self.url is None:
            told = re.search(r"listening at (\S+?)/?\s", self.log.read_text(encoding="utf-8"))
            self.url = told and told.group(1)
            return bool(told)
        try:
            line = Line(self.url)
            line.connection.request("GET", "/v1/models")
            return line.connection.getresponse().status == 200
        except OSError:
            return False

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.said = self.log.read_text(encoding="utf-8")
        self.folder.cleanup()


class Line:
    """A connection to a server, and what is asked over it."""

    def __init__(self, url):
        self.connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=PATIENCE)

    def ask(self, prompt, tokens, **fields):
        """Seconds to the first text, the text, and the usage."""
        body = {"model": "model", "prompt": prompt, "max_tokens": tokens, "stream": True}
        body |= {"stream_options": {"include_usage": True}, "temperature": 0, **fields}
        headers = {"Content-Type": "application/json"}
        # A server may have closed what it answered on; so each request opens a connection.
        self.connection.close()
        first, text, usage, began = None, "", None, time.perf_counter()
        self.connection.request("POST", "/v1/completions", json.dumps(body), headers)
        answer = self.connection.getresponse()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {answer.read()[:300]}")
        for line in answer:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[len(b"data: ") :])
            piece = event["choices"][0]["text"] if event.get("choices") else ""
            if piece and first is None:
                first = time.perf_counter() - began
            text, usage = text + piece, event.get("usage") or usage
        if first is None:
            raise RuntimeError("an answer without text")
        return first, text, usage


def words(seed, length):
    """So many characters of words; texts of different seeds part at their first word."""
    text, at = f" {WORDS[seed % 16]} {WORDS[seed // 16 % 16]}", seed
    while len(text) < length:
        at = (at * 48271 + 11) % 2147483647
        text += " " + WORDS[at % 16]
    return text[:length]


def second_turns(server, talks):
    """Milliseconds to the first token of each conversation's first and second turn."""
    line, said, firsts, seconds, read = Line(server.url), [], [], [], []
    line.ask(words(9999, 300), ANSWER)
    for talk in range(talks):
        prompt = words(talk, HISTORY)
        kept = {"session_id": f"talk-{talk}"} if server.ours else {}
        first, text, _ = line.ask(prompt, ANSWER, **kept)
        firsts.append(1e3 * first)
        said.append((prompt + text, kept))
    for talk, (before, kept) in enumerate(said):
        turn = words(talk + 77, TURN)
        second, _, usage = line.ask(turn if server.ours else before + turn, ANSWER, **kept)
        seconds.append(1e3 * second)
        cached = (usage or {}).get("prompt_tokens_details") or {}
        read.append((usage or {}).get("prompt_tokens", 0) - (cached.get("cached_tokens") or 0))
    return {
        "first_turn_ms": statistics.median(firsts),
        "second_turn_ms": spread(seconds),
        "tokens_read": statistics.median(read),
    }


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def closed_loop(server, arguments):
    """What `longhand bench serve` tells of a closed loop."""
    command = [arguments.client, "bench", "serve", server.url, "--clients", str(arguments.clients)]
    command += ["--requests", "1000000", "--tokens", str(arguments.tokens), "--json"]

    def load(seconds, seed):
        more = ["--seconds", str(max(1, round(seconds))), "--seed", str(seed)]
        return json.loads(run(*command, *more))

    load(1, 1)
    told = load(arguments.windows * arguments.window_seconds, 2)
    if told["errors"]:
        raise RuntimeError(f"requests failed: {told['errors']}")
    return told


def settings(arguments):
    """The server's settings for the work."""
    slots = arguments.talks if arguments.second_turn else arguments.clients
    slots = arguments.slots or slots
    if arguments.server == "longhand":
        return ["--capacity", str(max(1, min(slots, 1024)))]
    each = HISTORY + 512 if arguments.second_turn else SLOT
    if arguments.server == "llama-python":
        # It has one slot, and breaks an answer off for the next request unless told otherwise.
        cache = "true" if arguments.second_turn else "false"
        more = ["--interrupt_requests", "false", "--cache", cache, "--verbose", "false"]
        return ["--n_ctx", str(each), *more]
    return ["--parallel", str(slots), "--ctx-size", str(slots * each), "--log-disable"]


def parsed():
    parser = flags(__doc__.splitlines()[0])
    parser.add_argument("--server", required=True, choices=["longhand", "llama", "llama-python"])
    parser.add_argument("--program", help="the server's program; the package needs none")
    parser.add_argument("--model", required=True)
    parser.add_argument("--client", help="the program whose `bench serve` is the client")
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--slots", type=int, help="places of the server [default: one for each]")
    parser.add_argument("--second-turn", action="store_true")
    parser.add_argument("--talks", type=int, default=16)
    own, more = sys.argv[1:], []
    if "--" in own:
        # What compare.py adds at the end is this program's.
        at = own.index("--")
        end = next((i for i in range(at + 1, len(own)) if own[i] == "--threads"), len(own))
        own, more = own[:at] + own[end:], own[at + 1 : end]
    return parser.parse_args(own), more


def main():
    arguments, more = parsed()
    prepare(arguments)
    machine, began = machine_busy(), time.perf_counter()
    with Server(arguments, [*settings(arguments), *more]) as server:
        if arguments.second_turn:
            fields = second_turns(server, arguments.talks)
        else:
            fields = closed_loop(server, arguments)
    spent = time.perf_counter() - began
    others = machine_busy() - machine - own_busy(children=True)
    fields["other_cpus_busy"] = max(0.0, others / spent)
    report("serving", server=arguments.server, clients=arguments.clients, **fields)


if __name__ == "__main__":
    main()
