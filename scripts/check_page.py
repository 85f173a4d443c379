"""Drives the server's page in headless Chromium as people would, and checks it with axe-core.

    python scripts/check_page.py [--program LONGHAND | --url URL] [--key KEY] [--shots FOLDER]

The page is served first by a small server below, which speaks the JSON that the page reads and writes
answers of its own; then, with --program, by `longhand serve` with a small model that it trains before. With
--url it is a server that runs already, and no other. What only the small server can show (refusals, broken streams, task models, markup in answers) is left
out then. Screenshots go to FOLDER.

Checked: chat with streaming and the tint of tokens, alternatives, fork, rename, export, import, delete,
dark and light, Chinese, keyboard alone, a narrow window, the content security policy, that the page asks
no other server, its size, and that axe-core finds no violation in any of these states.
"""

import argparse
import base64
import contextlib
import hashlib
import http.server
import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

PAGE = pathlib.Path(__file__).parent.parent / "crates/longhand-serve/src/page/index.html"
MOST_BYTES = 100_000
KEY = "the-key-of-the-check"
CHINESE = re.compile("[\u4e00-\u9fff]")
# Longer than any answer here takes on a machine that does much else; an assertion that fails waits this
# long.
PATIENCE = 120_000


def policy(page):
    """The policy that `longhand serve` sends: the hashes of the one style and the one script."""
    def source(tag):
        inside = re.search(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL).group(1)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        return f"'sha256-{digest}'"
    return (f"default-src 'none'; script-src {source('script')}; style-src {source('style')}; "
            "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'")


class Small(http.server.BaseHTTPRequestHandler):
    """A server with sessions that hold bytes, and a model that answers with fixed words."""

    protocol_version = "HTTP/1.1"
    sessions = {}
    # What the next requests of a path get in place of an answer.
    refusals = []
    bodies = []

    def log_message(self, *_):
        pass

    def reply(self, status, body, kind="application/json", headers=()):
        body = json.dumps(body).encode() if kind == "application/json" else body
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, status, message, headers=(), param=None):
        kind = "authentication_error" if status == 401 else "invalid_request_error"
        error = {"message": message, "type": kind, "param": param, "code": None}
        self.reply(status, {"error": error}, headers=headers)

    def session(self, name):
        # An import's name is the server's own; messages are what the page may draw again.
        entry = Small.sessions[name]
        return {"id": name, "name": name, "object": "session", "model": "small", "turns": 1,
                "position": entry["position"], "bytes": len(entry["bytes"])}

    def do_GET(self):
        self.handle_request("GET")

    def do_POST(self):
        self.handle_request("POST")

    def do_PATCH(self):
        self.handle_request("PATCH")

    def do_DELETE(self):
        self.handle_request("DELETE")

    def handle_request(self, method):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if method == "GET" and self.path == "/":
            page = PAGE.read_text(encoding="utf-8")
            return self.reply(200, page.encode(), "text/html; charset=utf-8",
                              [("Content-Security-Policy", policy(page)),
                               ("X-Content-Type-Options", "nosniff")])
        if self.headers.get("Authorization") != f"Bearer {KEY}":
            return self.refuse(401, "the key is missing or unknown")
        if Small.refusals and Small.refusals[0][0] == self.path:
            _, status, message, headers = Small.refusals.pop(0)
            return self.refuse(status, message, headers)
        try:
            return self.answer(method, body)
        except BrokenPipeError:
            # The page has stopped the answer.
            self.close_connection = True
            return None

    def answer(self, method, body):
        path = self.path.split("/")[1:]
        if (method, self.path) == ("GET", "/v1/models"):
            kinds = {"small": "language", "moods": "classify", "names": "tag", "facts": "span"}
            data = [{"id": id, "object": "model", "kind": kind} for id, kind in kinds.items()]
            return self.reply(200, {"object": "list", "data": data})
        if (method, self.path) == ("GET", "/v1/sessions"):
            data = [self.session(name) for name in sorted(Small.sessions)]
            return self.reply(200, {"object": "list", "data": data})
        if (method, self.path) == ("POST", "/v1/sessions/import?model=small"):
            Small.sessions["imported"] = {"position": 7, "bytes": body, "messages": []}
            return self.reply(200, self.session("imported"))
        if path[:2] == ["v1", "sessions"] and len(path) > 2:
            return self.one_session(method, path[2], path[3:], body)
        if (method, self.path) == ("POST", "/v1/chat/completions"):
            return self.chat(json.loads(body))
        return self.task(json.loads(body))

    def one_session(self, method, name, verb, body):
        if name not in Small.sessions:
            return self.refuse(404, f"there is no session {name}")
        entry = Small.sessions[name]
        if (method, verb) == ("POST", ["fork"]) or method == "PATCH":
            to = json.loads(body)["name"]
            if not re.fullmatch(r"[\w.:-]{1,128}", to):
                return self.refuse(400, f"{to} is no name of a session")
        if (method, verb) == ("POST", ["fork"]):
            Small.sessions[to] = dict(entry)
            return self.reply(200, self.session(to))
        if method == "PATCH":
            Small.sessions[to] = Small.sessions.pop(name)
            return self.reply(200, self.session(to))
        if verb == ["export"]:
            return self.reply(200, entry["bytes"], "application/octet-stream")
        if method == "DELETE":
            del Small.sessions[name]
            return self.reply(200, {"id": name, "deleted": True})
        return self.reply(200, self.session(name) | {"messages": entry["messages"]})

    def chat(self, body):
        Small.bodies.append(body)
        asked = body["messages"][-1]["content"]
        if asked == "no memories" and "memory_shares" in body:
            return self.refuse(400, "the model has no memories", param="memory_shares")
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        # A part of a character, markup, and white space; 你 comes in two tokens.
        words = [b"One", b" day", b" ", b"<img src=x onerror=alert(1)>", b"\xe4\xbd", b"\xa0", b"\n",
                 b" she", b" slept", b"."]
        self.event({"choices": [{"index": 0, "delta": {"role": "assistant"}}]})
        for place, token in enumerate(words):
            if asked == "break" and place == 3:
                return self.event({"error": {"message": "the worker has ended", "type": "server_error"}})
            if asked == "vanish" and place == 3:
                return None
            self.event({"choices": [self.choice(body, token, place, len(words))]})
            time.sleep(0.2 if asked == "slowly" else 0.01)
        usage = {"prompt_tokens": 12, "completion_tokens": len(words), "total_tokens": 22,
                 "prompt_tokens_details": {"cached_tokens": 5}}
        self.event({"choices": [], "usage": usage})
        self.wfile.write(b": a comment\n\ndata: [DONE]\n\n")
        if name := body.get("session_id"):
            entry = Small.sessions.setdefault(name, {"position": 0, "bytes": b"", "messages": []})
            entry["position"] += 22
            entry["bytes"] = b"snapshot of " + name.encode() + bytes(2048)
            entry["messages"] = [*entry["messages"], body["messages"][-1],
                                 {"role": "assistant", "content": b"".join(words).decode()}]
        return None

    @staticmethod
    def choice(body, token, place, count):
        working = place / (count - 1)
        text = {4: "", 5: "你"}.get(place) if place in (4, 5) else token.decode()
        other = [{"token": t, "logprob": -1.0 - i, "bytes": list(t.encode())}
                 for i, t in enumerate([" a", " b", "\n", " d", " e"])]
        entry = {"token": token.decode(errors="backslashreplace"), "logprob": -0.5,
                 "bytes": list(token), "top_logprobs": other}
        choice = {"index": 0, "delta": {"content": text}, "logprobs": {"content": [entry]},
                  "finish_reason": "stop" if place == count - 1 else None}
        if body.get("memory_shares"):
            gates = [{"memory": f"blocks.{b}.lstm", "input": 0.2 + 0.05 * place, "forget": 0.9}
                     for b in range(2)]
            share = {"working": working, "long": 1 - working, "gates": gates}
            choice["memory_shares"] = [share if place else {"working": None, "long": None, "gates": []}]
        return choice

    def event(self, data):
        data.setdefault("object", "chat.completion.chunk")
        self.wfile.write(f"data: {json.dumps(data)}\n\n".encode())
        self.wfile.flush()

    def task(self, body):
        answers = {
            "/classify": {"data": [{"index": 0, "label": "glad", "num_classes": 2,
                                    "probabilities": {"sad": 0.2, "glad": 0.8}}]},
            "/tag": {"words": ["Bora", "Kato", "sleeps"], "tags": ["B-PER", "I-PER", "O"],
                     "entities": [{"type": "PER", "first": 0, "last": 1, "text": "Bora Kato"}]},
            "/answer": {"answer": "Bern", "start": 14, "end": 18, "probability": 0.9},
        }
        return self.reply(200, answers[self.path])


class Visit:
    """A browser's window, what it asked for, and what it complained of."""

    def __init__(self, browser, url, key, shots, **options):
        self.context = browser.new_context(accept_downloads=True, **options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        self.url, self.key, self.shots = url, key, shots
        self.asked, self.said = [], []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.said.append((message.type, message.text)))
        self.page.on("pageerror", lambda error: self.said.append(("error", str(error))))

    def open(self):
        self.page.goto(self.url)
        if self.key:
            self.page.fill("#key", self.key)
            self.page.locator("#key").press("Tab")
        self.page.wait_for_selector("#model option", state="attached")

    def send(self, text):
        self.page.fill("#prompt", text)
        self.page.press("#prompt", "Enter")
        self.idle()

    def idle(self):
        expect(self.page.locator("#send")).to_be_enabled()
        expect(self.page.locator("#stop")).to_be_disabled()
        # The list of sessions is read anew behind each answer.
        expect(self.page.locator("#sessions")).to_have_attribute("aria-busy", "false")

    def axe(self, state):
        # The policy of the page lets no script of anybody else run, axe-core's neither; the debugger
        # that injects it is not bound by it.
        found = Axe().run(self.page).response["violations"]
        for violation in found:
            nodes = [node["html"][:200] for node in violation["nodes"]]
            print(f"axe-core, {state}: {violation['id']}: {violation['help']}\n  " + "\n  ".join(nodes))
        assert not found, f"{len(found)} violations of accessibility in state: {state}"

    def shot(self, name):
        if self.shots:
            self.page.screenshot(path=self.shots / f"{name}.png", full_page=True)

    def close(self, allowed=()):
        outside = [url for url in self.asked
                   if not url.startswith((self.url, "data:", "blob:" + self.url))]
        assert not outside, f"the page asked other servers: {outside}"
        wrong = [said for said in self.said
                 if said[0] == "error" and not any(part in said[1] for part in allowed)]
        assert not wrong, f"the console has errors: {wrong}"
        self.context.close()


def chat(visit, small):
    """Streaming, the tint, alternatives, the memory panel."""
    page = visit.page
    visit.open()
    visit.axe("empty")
    visit.send("Hello")
    answer = page.locator("#messages > li.assistant").last
    assert len(answer.inner_text()) > 8, "the answer is empty"
    if small:
        text = answer.inner_text()
        assert "<img src=x onerror=alert(1)>" in text, "markup of an answer is shown as text"
        assert "你" in text and "\ufffd" not in text, "characters of several tokens are whole"
        assert not page.locator("#messages img").count(), "markup of an answer was interpreted"
        assert Small.bodies[-1]["memory_shares"] is True
        assert [m["role"] for m in Small.bodies[-1]["messages"]] == ["user"]
    tinted = page.locator("#messages .token[data-lead]")
    assert tinted.count() > 2, "no token has a tint"
    colours = {token.evaluate("it => getComputedStyle(it).backgroundColor") for token in tinted.all()}
    assert len(colours) > 1 or not small, "all tokens have one tint"
    tinted.nth(1).click()
    expect(page.locator("#alternatives tbody tr")).to_have_count(5)
    assert tinted.nth(1).get_attribute("aria-pressed") == "true"
    expect(page.locator("#gates-plot svg")).to_be_visible()
    expect(page.locator("#shares-plot svg")).to_be_visible()
    assert "MiB" in page.inner_text("#facts") or "KiB" in page.inner_text("#facts")
    assert page.inner_text("#live").strip(), "a screen reader is told nothing"
    visit.axe("an answer")
    visit.shot("chat-light")
    # Without the tint nothing is asked that costs steps.
    page.locator("details summary").click()
    page.uncheck("#shares")
    expect(page.locator("#legend")).to_be_hidden()
    visit.send("And then?")
    if small:
        assert "memory_shares" not in Small.bodies[-1]
        assert len(Small.bodies[-1]["messages"]) == 1, "a session is told the new message alone"
    page.check("#shares")
    # Without a session everything is said again.
    page.uncheck("#keep")
    visit.send("Once more")
    visit.send("And more")
    if small:
        assert "session_id" not in Small.bodies[-1]
        roles = [message["role"] for message in Small.bodies[-1]["messages"]]
        assert roles == ["user", "assistant", "user"], roles
    page.check("#keep")


def sessions(visit):
    """Fork, rename, export, import and delete, by the mouse."""
    page = visit.page
    before = page.locator("#sessions > li").count()
    assert before >= 1, "the chat made no session"
    page.locator("[data-act^='open ']").first.click()
    expect(page.locator("#sessions [aria-current=true]")).to_have_count(1)
    assert page.locator("#messages > li").count() > 0
    page.locator("[data-act^='fork ']").first.click()
    visit.axe("a dialog")
    page.fill("#dialog-input", "the-branch")
    page.click("#dialog-yes")
    expect(page.locator("#sessions > li")).to_have_count(before + 1)
    branch = page.locator("#sessions > li", has_text="the-branch")
    expect(branch.locator("[aria-current=true]")).to_be_visible()
    assert page.locator("#messages > li").count() > 1, "a branch shows what was said before"

    branch.get_by_role("button", name=re.compile("^(Rename|改名)")).click()
    page.fill("#dialog-input", "renamed by me")
    page.press("#dialog-input", "Enter")
    renamed = page.locator("#sessions > li", has_text="renamed-by-me")
    expect(renamed).to_be_visible()
    expect(page.locator("#sessions > li", has_text="the-branch")).to_have_count(0)

    with page.expect_download() as download:
        renamed.get_by_role("button", name=re.compile("^Export")).click()
    file = download.value
    assert file.suggested_filename == "renamed-by-me.safetensors", file.suggested_filename
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / file.suggested_filename
        file.save_as(path)
        assert path.stat().st_size > 100
        page.set_input_files("#import", path)
        expect(page.locator("#sessions > li")).to_have_count(before + 2)
    # The words come with the state, or the page says that the server does not have them.
    expect(page.locator("#messages")).to_contain_text(re.compile("Hello|remembers"))

    renamed.get_by_role("button", name=re.compile("^Delete")).click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#sessions > li")).to_have_count(before + 2)
    renamed.get_by_role("button", name=re.compile("^Delete")).click()
    page.click("#dialog-yes")
    expect(page.locator("#sessions > li")).to_have_count(before + 1)
    visit.shot("sessions")


def brightness(page):
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3


def looks(visit):
    """Dark and light, by the switch and by the system; Chinese; a narrow window."""
    page = visit.page
    page.locator("[data-act^='open ']").first.click()
    visit.send("In the dark")
    assert brightness(page) > 200
    page.select_option("#theme", "dark")
    assert brightness(page) < 60
    visit.axe("dark")
    visit.shot("chat-dark")
    page.select_option("#theme", "system")
    page.emulate_media(color_scheme="dark")
    assert brightness(page) < 60
    page.select_option("#theme", "light")
    assert brightness(page) > 200
    page.emulate_media(color_scheme="light")

    page.select_option("#language", "zh")
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    assert page.inner_text("#send") == "发送"
    for element in page.locator("[data-word]:visible").all():
        assert CHINESE.search(element.inner_text()), f"not in Chinese: {element.inner_text()}"
    visit.axe("Chinese")
    visit.shot("chat-chinese")
    page.reload()
    page.wait_for_selector("#model option", state="attached")
    assert page.input_value("#key") == visit.key, "the key is kept for this window"
    assert page.inner_text("#send") == "发送", "the language is kept"
    page.select_option("#language", "en")

    page.set_viewport_size({"width": 360, "height": 740})
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 360, f"a narrow window scrolls sideways: {wide}"
    visit.axe("narrow")
    visit.shot("narrow")


def tab_to(page, selector, most=80, key="Tab"):
    for _ in range(most):
        page.keyboard.press(key)
        if page.evaluate("s => document.activeElement.matches(s)", selector):
            return
    raise AssertionError(f"{selector} is not reached by {most} times {key}")


def focus_is_seen(page):
    width = page.evaluate("parseFloat(getComputedStyle(document.activeElement).outlineWidth)")
    assert width >= 2, "the focus is not seen"


def keyboard(visit):
    """Chat, a token's alternatives, a fork and a delete without a mouse."""
    page = visit.page
    page.goto(visit.url)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    focus_is_seen(page)
    if visit.key:
        tab_to(page, "#key")
        page.keyboard.type(visit.key)
        page.keyboard.press("Tab")
        page.wait_for_selector("#model option", state="attached")
        tab_to(page, "a.skip", key="Shift+Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "prompt", "the skip link leads elsewhere"
    focus_is_seen(page)
    page.keyboard.type("By the keyboard")
    page.keyboard.press("Enter")
    visit.idle()
    expect(page.locator("#messages > li")).to_have_count(2)
    assert page.evaluate("document.activeElement.id") == "prompt", "the focus went elsewhere"
    tab_to(page, ".token", key="Shift+Tab")
    focus_is_seen(page)
    for key in ["ArrowRight", "ArrowRight", "Enter"]:
        page.keyboard.press(key)
    expect(page.locator("#alternatives tbody tr")).to_have_count(5)
    count = page.locator("#sessions > li").count()
    tab_to(page, "[data-act^='fork ']", key="Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#dialog")).to_be_hidden()
    assert page.evaluate("document.activeElement.dataset.act").startswith("fork "), "focus after Escape"
    # At once, before the event of the first dialog's end has come.
    page.evaluate("""() => {
        document.activeElement.click();
        document.getElementById("dialog").close();
        document.activeElement.click();
    }""")
    expect(page.locator("#dialog")).to_be_visible()
    name = page.input_value("#dialog-input")
    page.keyboard.press("Enter")
    expect(page.locator("#sessions > li")).to_have_count(count + 1)
    expect(page.locator(f"[data-act='open {name}']")).to_be_focused()
    tab_to(page, f"[data-act='delete {name}']")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    expect(page.locator("#sessions > li")).to_have_count(count)


def trouble(visit):
    """Refusals, streams that break, an answer that is stopped."""
    page = visit.page
    page.goto(visit.url)
    page.evaluate("sessionStorage.clear()")
    page.goto(visit.url)
    expect(page.locator("#problem")).to_contain_text("API key")
    visit.axe("a problem")
    page.click("#refresh")
    expect(page.locator("#key")).to_be_focused()
    visit.open()
    expect(page.locator("#problem")).to_be_hidden()
    Small.refusals.append(("/v1/chat/completions", 429, "The queue is full.", [("Retry-After", "3")]))
    visit.send("too much")
    expect(page.locator("#problem")).to_have_text("The queue is full. Try again in 3 s.")
    assert page.input_value("#prompt") == "too much", "a refused message comes back"
    visit.send("no memories")
    expect(page.locator("#problem")).to_be_hidden()
    assert not page.is_checked("#shares"), "a model without memories is asked without shares"
    assert "slept" in page.locator("#messages > li").last.inner_text()
    visit.send("break")
    expect(page.locator("#problem")).to_have_text("the worker has ended")
    assert "One day" in page.locator("#messages > li").last.inner_text()
    visit.send("vanish")
    expect(page.locator("#problem")).to_contain_text("broke off")
    page.fill("#prompt", "slowly")
    page.press("#prompt", "Enter")
    page.wait_for_selector("#messages > li:last-child .token")
    page.keyboard.press("Escape")
    visit.idle()
    assert "slept" not in page.locator("#messages > li").last.inner_text()


def tasks(visit):
    """The views of models that classify, tag and find answers, by the keyboard's tabs."""
    page = visit.page
    page.focus("#tab-chat")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#classify")).to_be_visible()
    assert page.input_value("#model") == "moods"
    page.fill("#classify-text", "she was glad")
    page.locator("#classify button").click()
    expect(page.locator("#classify-result tbody tr")).to_have_count(2)
    assert page.locator("#classify-result tbody th").first.inner_text() == "glad"
    visit.axe("classify")
    visit.shot("classify")
    page.focus("#tab-classify")
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    page.fill("#tag-text", "Bora Kato sleeps")
    page.locator("#tag button").click()
    expect(page.locator("#tag-result mark")).to_have_text("Bora KatoPER")
    expect(page.locator("#tag-result")).to_contain_text("sleeps")
    visit.axe("tag")
    page.click("#tab-span")
    page.fill("#span-context", "😀 Bo lives in Bern.")
    page.fill("#span-question", "Where?")
    page.locator("#span button").click()
    expect(page.locator("#span-result mark")).to_have_text("Bern")
    visit.axe("span")
    visit.shot("span")


def check(url, key, shots, small):
    page = PAGE.read_bytes()
    assert len(page) < MOST_BYTES, f"the page has {len(page)} bytes"
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium, "there is no chromium: install Debian's package"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        options = {"viewport": {"width": 1280, "height": 900}, "locale": "en-GB"}
        visit = Visit(browser, url, key, shots, **options)
        chat(visit, small)
        sessions(visit)
        looks(visit)
        visit.close(["401"])
        visit = Visit(browser, url, key, shots, **options)
        keyboard(visit)
        visit.close(["401"])
        if small:
            visit = Visit(browser, url, key, shots, **options)
            trouble(visit)
            tasks(visit)
            visit.close(["400", "401", "429"])
        browser.close()


def with_program(program, shots):
    """Trains a small model, serves it with a key, and checks its page."""
    with tempfile.TemporaryDirectory() as folder:
        def run(*words):
            ran = subprocess.run([program, *words], cwd=folder, capture_output=True, text=True)
            assert ran.returncode == 0, f"{words}: {ran.stderr}"
            return ran.stdout.strip()

        words = ["--preset", "longhand-nano", "--tokenizer", "byte"]
        words += ["--steps", "3", "--batch", "2", "--chunk", "32"]
        run("train", "--out", "model", *words)
        key = run("serve", "--new-key", "page", "--api-key-file", "keys.toml")
        words = ["model", "--sessions", "sessions", "--api-key-file", "keys.toml"]
        with serving(program, folder, *words) as url:
            check(url, key, shots, small=False)


@contextlib.contextmanager
def serving(program, folder, *words):
    """The address of `longhand serve` with these words, run in a folder, until the block ends."""
    command = [program, "serve", "--port", "0", *words]
    with open(pathlib.Path(folder) / "log", "w+", encoding="utf-8") as log:
        server = subprocess.Popen(command, cwd=folder, stderr=log)
        try:
            end, url = time.monotonic() + 60, None
            while not url and server.poll() is None and time.monotonic() < end:
                time.sleep(0.1)
                said = pathlib.Path(folder, "log").read_text(encoding="utf-8")
                url = re.search(r"listening at (\S+)", said)
            assert url, f"the server does not start:\n{said}"
            yield url.group(1).rstrip("/") + "/"
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", type=pathlib.Path, help="the program, to serve a real model")
    parser.add_argument("--url", help="a running server, as http://127.0.0.1:8080/")
    parser.add_argument("--key", default="", help="its API key")
    parser.add_argument("--shots", type=pathlib.Path, help="a folder for screenshots")
    arguments = parser.parse_args()
    if arguments.shots:
        arguments.shots.mkdir(parents=True, exist_ok=True)
    if arguments.url:
        check(arguments.url.rstrip("/") + "/", arguments.key, arguments.shots, small=False)
    else:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Small)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        check(f"http://127.0.0.1:{server.server_port}/", KEY, arguments.shots, small=True)
        server.shutdown()
        if arguments.program:
            real = arguments.shots and arguments.shots / "real"
            if real:
                real.mkdir(exist_ok=True)
            with_program(arguments.program.resolve(), real)
    print("the page holds")


if __name__ == "__main__":
    sys.exit(main())
