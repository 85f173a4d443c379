"""A small model, a server of it in a process of its own, and what must be refused: for the scripts that
ask a server with other people's clients."""

import json
import re
import signal
import subprocess
import threading
import urllib.error
import urllib.request


class Server:
    """A server in a process of its own, at a free port."""

    def __init__(self, program, folder, key=None, arguments=("chat=model",)):
        command = [program, "serve", "--port", "0", *arguments]
        self.process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
        self.lines = []
        for line in self.process.stderr:
            self.lines.append(line)
            if found := re.search(r"listening at (http://\S+)", line):
                self.address = found.group(1)
                break
        else:
            raise SystemExit("the server did not start:\n" + "".join(self.lines))
        # Nobody else reads what it says, and a full pipe would stop it.
        threading.Thread(target=self.drain, daemon=True).start()
        self.key = key

    def drain(self):
        for line in self.process.stderr:
            self.lines.append(line)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.end()
        else:
            self.process.kill()

    def request(self, path, body=None, method=None):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        return urllib.request.Request(
            self.address + path, data=data, headers=headers, method=method
        )

    def ask(self, path, body=None, method=None):
        """The status, the headers and the JSON of an answer, without any client."""
        try:
            with urllib.request.urlopen(self.request(path, body, method)) as answer:
                return answer.status, answer.headers, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, error.headers, json.load(error)

    def events(self, path, body):
        """The pairs of name and data of a stream; the data of `[DONE]` is None."""
        with urllib.request.urlopen(self.request(path, body)) as answer:
            assert answer.headers["Content-Type"] == "text/event-stream"
            text = answer.read().decode()
        found = []
        for event in text.split("\n\n"):
            fields = [line.split(": ", 1) for line in event.split("\n") if ": " in line]
            # A line that begins with a colon is a comment.
            fields = {name: value for name, value in fields if name}
            if data := fields.get("data"):
                found.append((fields.get("event"), None if data == "[DONE]" else json.loads(data)))
        return found

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=60)
        assert code == 0, f"the server ended with {code}:\n" + "".join(self.lines)
        said = "".join(self.lines)
        assert "lantern" not in said, "what a prompt says is in the log"


def train(program, folder, *arguments):
    """Trains a small language model in `folder`/model."""
    run = [program, "train", "--out", "model", "--preset", "longhand-nano", *arguments]
    trained = subprocess.run(run, cwd=folder, capture_output=True, text=True)
    assert trained.returncode == 0, trained.stderr


def new_key(program, folder, name):
    """Adds a key to `folder`/keys.toml, as its last table."""
    make = [program, "serve", "--new-key", name, "--api-key-file", "keys.toml"]
    made = subprocess.run(make, cwd=folder, capture_output=True, text=True, check=True)
    return made.stdout.strip()


def refused(kind, ask, **expected):
    """Asks for what must be refused, and compares fields of the error."""
    try:
        ask()
    except kind as error:
        for name, value in expected.items():
            found = getattr(error, name)
            assert found == value, (name, found, value)
        # An error within a stream has no answer of its own, and so no id.
        assert getattr(error, "request_id", "none")
        return error
    raise AssertionError(f"nothing was refused, where {kind.__name__} is due")
