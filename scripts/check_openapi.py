"""Checks with schemathesis that a running server is what its OpenAPI document says.

    python scripts/check_openapi.py LONGHAND FOLDER

LONGHAND is the program. It trains a small language model and a small model of each kind of task in
FOLDER, and serves them with a key and with sessions. Requests made of the document are sent with a fixed
seed: first those that must be refused, then those that must be answered as the document says. There are
as many on each machine, or, with LONGHAND_SCHEMATHESIS_SECONDS, as many as that time allows, with the seed
LONGHAND_SCHEMATHESIS_SEED (default: 1). What differs is printed, and the exit code is 1.
"""

import copy
import json
import os
import pathlib
import re
import subprocess
import sys

from serving import Server, new_key, train

SECONDS = int(os.environ.get("LONGHAND_SCHEMATHESIS_SECONDS", "0"))
SEED = os.environ.get("LONGHAND_SCHEMATHESIS_SEED", "1")
# Requests of each operation in a phase, without a time.
EXAMPLES = 12
# The model that each path is asked of. Tasks have models of their own.
MODELS = {
    "/classify": "mood",
    "/tag": "names",
    "/answer": "reader",
    "/translate": "words",
    "/summarize": "short",
}


def tune(program, folder):
    """Small models of tasks: they need to answer, not to be right."""
    mood = "good\tit was glad\nbad\tit was sad\n" * 30
    names = "Bora B-PER\nsees O\nriver O\n\nKato B-PER\ncalls O\n\n" * 30
    context = "Ada lives in Bern and has a map."
    question = {"question": "Where does Ada live?", "answers": [{"text": "Bern", "answer_start": 13}]}
    paragraphs = [
        {"context": f"{context} It is {i} years old.", "qas": [{"id": str(i), **question}]}
        for i in range(40)
    ]
    pairs = "".join(f"ein Haus {i}\ta house {i}\n" for i in range(60))
    texts = {
        "mood.tsv": "label\ttext\n" + mood,
        "names.conll": names,
        "reader.json": json.dumps({"version": "1.1", "data": [{"title": "a", "paragraphs": paragraphs}]}),
        "words.tsv": "source\ttarget\n" + pairs,
        "short.tsv": "document\tsummary\n" + pairs,
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    tasks = {"mood": "classify", "names": "tag", "reader": "span", "words": "translate", "short": "summarize"}
    for name, task in tasks.items():
        data = next(file for file in texts if file.startswith(name + "."))
        run = [program, "finetune", "--task", task, "--data", data, "--out", name]
        run += ["--steps", "2", "--threads", "1"]
        made = subprocess.run(run, cwd=folder, capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
    return list(tasks)


def requests(document):
    """The path and the schema of each JSON request, each with a copy of its own."""
    for path, methods in document["paths"].items():
        for operation in methods.values():
            content = operation.get("requestBody", {}).get("content", {})
            body = content.get("application/json")
            if body is None:
                continue
            if "$ref" in body["schema"]:
                name = body["schema"]["$ref"].rsplit("/", 1)[1]
                body["schema"] = copy.deepcopy(document["components"]["schemas"][name])
            yield path, body["schema"]


def with_models(document):
    """The document with the names of the models: a server may have others."""
    document = copy.deepcopy(document)
    for path, schema in requests(document):
        if "model" in schema["properties"]:
            model = schema["properties"]["model"]
            none = [None] if "null" in model["type"] else []
            schema["properties"]["model"] = {"enum": [MODELS.get(path, "chat"), *none]}
    for methods in document["paths"].values():
        for operation in methods.values():
            for parameter in operation.get("parameters", []):
                if parameter["name"] == "model":
                    parameter["schema"] = {"enum": ["chat"]}
    return document


def narrowed(document):
    """The document without what no schema can say, and with short answers: every request must be taken."""
    document = with_models(document)
    few = {"type": "integer", "minimum": 1, "maximum": 4}
    byte = {"type": "integer", "minimum": 0, "maximum": 255}
    for path, schema in requests(document):
        fields = schema["properties"]
        for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
            if name in fields:
                fields[name] = few
                schema["required"] = sorted({*schema["required"], name})
        # A number that depends on another, and a state that the server seals.
        for name in ("best_of", "state"):
            fields.pop(name, None)
        if "logit_bias" in fields:
            fields["logit_bias"]["propertyNames"] = {"enum": ["0", "7", "255"]}
        if "tokens" in fields:
            fields["tokens"]["items"] = byte
        # The last message must be the user's.
        if path.startswith("/v1/messages"):
            document["components"]["schemas"]["MessageParam"]["properties"]["role"] = {"const": "user"}
        # Lists that must be as long as each other.
        for name in ("text_1", "second"):
            if name in fields:
                fields[name] = {"type": "string", "minLength": 1}
        if path == "/classify":
            del fields["second"]
        if path == "/answer":
            fields["context"] = {"type": "string", "minLength": 1}
            schema["required"] = sorted({*schema["required"], "context"})
        # Nothing to read is something where a token begins a document, which bytes have not.
        for name in {"/v1/completions": ["prompt"], "/v1/embeddings": ["input"]}.get(path, []):
            fields[name] = prompts(byte)
            schema["required"] = sorted({*schema["required"], name})
    pin_forms(document)
    # No schema can say which bytes are a snapshot.
    del document["paths"]["/v1/sessions/import"]
    return document


def prompts(token):
    """Texts or tokens, few of them and none empty."""
    text = {"type": "string", "minLength": 1}
    tokens = {"type": "array", "items": token, "minItems": 1}
    lists = [{"type": "array", "items": one, "minItems": 1, "maxItems": 3} for one in (text, tokens)]
    return {"anyOf": [text, tokens, *lists]}


def pin_forms(document):
    """Has expressions, grammars and schemas be some that can be written."""
    known = {
        "regex": ["[a-c]{1,3}", "(yes|no)"],
        "grammar": ['start: "a" | "b"'],
        "schema": [{"type": "boolean"}, {"enum": ["a", 1]}, {"type": "array", "maxItems": 2}],
    }
    schemas = document["components"]["schemas"]
    forms = [*schemas["ResponseFormat"]["oneOf"], *schemas["TextFormat"]["oneOf"], schemas["NamedSchema"]]
    for form in forms:
        for name, values in known.items():
            if name in form["properties"]:
                form["properties"][name] = {"enum": values}


def ask(server, document, folder, mode):
    """Has schemathesis ask; says whether it found nothing."""
    place = folder / f"{mode}.json"
    place.write_text(json.dumps(document))
    program = pathlib.Path(sys.executable).parent / "schemathesis"
    run = [program, "run", place]
    run += ["--url", server.address, "--header", f"Authorization: Bearer {server.key}"]
    run += ["--checks", "all", "--mode", mode, "--seed", SEED]
    run += ["--max-time", str(SECONDS // 2)] if SECONDS else ["--max-examples", str(EXAMPLES)]
    run += ["--generation-database", "none", "--suppress-health-check", "all", "--warnings", "off"]
    run += ["--request-timeout", "60", "--continue-on-failure", "--no-color"]
    asked = subprocess.run(run, cwd=folder, capture_output=True, text=True)
    if asked.returncode != 0:
        print(asked.stdout, asked.stderr)
        return False
    counted = re.search(r"(\d+) generated", asked.stdout)
    print(f"{mode}: {counted.group(1) if counted else 'no'} requests, nothing differs")
    return True


def main():
    program, folder = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    train(program, folder, "--tokenizer", "byte", "--steps", "3", "--batch", "2", "--chunk", "32")
    (folder / "sealing.keys").write_text("first " + "ab" * 32 + "\n")
    key = new_key(program, folder, "suite")
    serving = ["chat=model", *tune(program, folder), "--sessions", "sessions"]
    serving += ["--api-key-file", "keys.toml", "--sealing-key-file", "sealing.keys"]
    with Server(program, folder, key, serving) as server:
        _, _, document = server.ask("/openapi.json")
        found = [
            ask(server, with_models(document), folder, "negative"),
            ask(server, narrowed(document), folder, "positive"),
        ]
    if not all(found):
        raise SystemExit("the server is not what its document says")


if __name__ == "__main__":
    main()
