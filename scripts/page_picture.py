"""Takes the picture of the server's page for the README: a chat with a model, in headless Chromium.

    python scripts/page_picture.py --model DIR [--program LONGHAND] [--say TEXT …] [--out docs/page.png]

The model is served by `longhand serve` with its sessions in memory. Each TEXT is one message; the answer
to each is awaited. A token of the last answer is chosen then, so that the picture shows its alternatives.
"""

import argparse
import pathlib
import shutil
import sys
import tempfile

from playwright.sync_api import sync_playwright

from check_page import Visit, serving

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Bytes that the picture may have.
MOST_BYTES = 200_000
SAID = ["Hello! How was your day?", "What would you like to eat tonight?"]


def take(url, said, seed, out):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        raise SystemExit("there is no chromium: install Debian's package")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        size = {"width": 1280, "height": 900}
        visit = Visit(browser, url, "", None, viewport=size, locale="en-GB", color_scheme="light")
        visit.open()
        page = visit.page
        page.locator("#chat details summary").click()
        page.fill("#most", "60")
        page.fill("#seed", str(seed))
        page.locator("#chat details summary").click()
        for text in said:
            visit.send(text)
        tokens = page.locator("#messages > li.assistant").last.locator(".token")
        tokens.nth(min(2, tokens.count() - 1)).click()
        page.screenshot(path=out, full_page=True)
        visit.close()
        browser.close()
    if out.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{out} has {out.stat().st_size} bytes, more than {MOST_BYTES}: say less")
    print(f"{out}: {out.stat().st_size} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--program", type=pathlib.Path, default=ROOT / "target/release/longhand")
    parser.add_argument("--say", nargs="+", default=SAID)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "docs/page.png")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model.resolve()
        with serving(arguments.program.resolve(), folder, f"{model.name}={model}") as url:
            take(url, arguments.say, arguments.seed, arguments.out)


if __name__ == "__main__":
    sys.exit(main())
