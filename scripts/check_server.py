"""Checks that other people's clients understand a running server.

    python scripts/check_server.py LONGHAND FOLDER

LONGHAND is the program. It trains a small model in FOLDER, serves it at a free port with a key, is
asked by OpenAI's client here, by Anthropic's in server_messages.py and by the cases of Open Responses
in server_responses.py, and ends by SIGTERM. A second server then goes on with its sessions, and a
third one breaks off what takes long. Whatever differs is printed, and the exit code is 1.
"""

import array
import base64
import pathlib
import struct
import sys

import openai

import server_messages
from server_responses import open_responses
from serving import Server, new_key, refused, train


def client(server, key=None, max_retries=0):
    key = key or server.key
    return openai.OpenAI(base_url=f"{server.address}/v1", api_key=key, max_retries=max_retries)


def models(server):
    models = client(server).models
    assert [model.id for model in models.list()] == ["chat"]
    assert models.retrieve("chat").object == "model"


def chats(server):
    create = client(server).chat.completions.create
    messages = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Where is the lantern?"},
    ]
    asked = {"model": "chat", "messages": messages, "temperature": 0, "max_tokens": 12}
    answer = create(**asked, logprobs=True, top_logprobs=3)
    choice = answer.choices[0]
    assert choice.finish_reason in ("stop", "length") and choice.message.role == "assistant"
    tokens = choice.logprobs.content
    assert all(token.top_logprobs[0].logprob == token.logprob for token in tokens)
    assert all(len(token.top_logprobs) == 3 for token in tokens)
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens_details.cached_tokens is not None
    chunks = list(
        create(
            **asked,
            logprobs=True,
            top_logprobs=3,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    told = [chunk.choices[0] for chunk in chunks if chunk.choices]
    text = "".join(choice.delta.content or "" for choice in told)
    assert text == choice.message.content, (text, choice.message.content)
    streamed = [token for it in told if it.logprobs for token in it.logprobs.content]
    assert streamed == tokens
    assert told[-1].finish_reason == choice.finish_reason
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == usage.completion_tokens
    two = create(model="chat", messages=messages, n=2, seed=4, max_tokens=8)
    again = create(model="chat", messages=messages, n=2, seed=4, max_tokens=8)
    said = [[choice.message.content for choice in it.choices] for it in (two, again)]
    assert said[0] == said[1] and len(said[0]) == 2


def completions(server):
    create = client(server).completions.create
    asked = {"model": "chat", "temperature": 0, "max_tokens": 8}
    whole = create(prompt="One day", logprobs=2, echo=True, **asked)
    lists = whole.choices[0].logprobs
    assert lists.token_logprobs[0] is None and all(x <= 0 for x in lists.token_logprobs[1:])
    # What was drawn greedily is the largest, by exact equality, as evaluation harnesses compare; any
    # token has the same value in both lists.
    own = whole.usage.prompt_tokens
    for place, token in enumerate(lists.tokens[1:], 1):
        value, top = lists.token_logprobs[place], lists.top_logprobs[place]
        assert top[token] == value and (place < own or value == max(top.values()))
    _, _, tokens = server.ask("/tokenize", {"prompt": "One day", "add_special_tokens": False})
    batch = create(prompt=[tokens["tokens"], tokens["tokens"]], logprobs=2, echo=True, **asked)
    assert [choice.text for choice in batch.choices] == [whole.choices[0].text] * 2
    scores = [choice.logprobs.token_logprobs for choice in batch.choices]
    assert scores[0] == scores[1] == lists.token_logprobs
    chunks = list(create(prompt="One day", stream=True, **asked))
    streamed = "".join(chunk.choices[0].text for chunk in chunks)
    assert "One day" + streamed == whole.choices[0].text
    empty = create(prompt="One day", model="chat", max_tokens=0, echo=True, logprobs=1)
    assert empty.choices[0].text == "One day"


def embeddings(server):
    create = client(server).embeddings.create
    plain = create(model="chat", input=["One day", "a bell"], encoding_format="float")
    # The client asks for base64 by itself, and decodes it.
    coded = create(model="chat", input=["One day", "a bell"])
    # A decimal number of JSON is read in double precision; as single ones both are the same.
    for one, other in zip(plain.data, coded.data, strict=True):
        assert array.array("f", one.embedding) == array.array("f", other.embedding)
    _, _, raw = server.ask(
        "/v1/embeddings", {"model": "chat", "input": "One day", "encoding_format": "base64"}
    )
    data = base64.b64decode(raw["data"][0]["embedding"])
    assert data == struct.pack(f"<{len(data) // 4}f", *plain.data[0].embedding)


def responses(server):
    responses = client(server).responses
    create = responses.create
    asked = {"model": "chat", "temperature": 0, "max_output_tokens": 10}
    first = create(input="Where is the lantern?", **asked)
    assert first.status in ("completed", "incomplete") and first.output_text
    second = create(input="And the bell?", previous_response_id=first.id, **asked)
    assert second.usage.input_tokens_details.cached_tokens > 0
    assert second.usage.input_tokens_details.cache_write_tokens > 0
    events = list(
        create(input="And the bell?", previous_response_id=first.id, stream=True, **asked)
    )
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(
        event.delta for event in events if event.type == "response.output_text.delta"
    )
    last = events[-1]
    assert last.type == f"response.{last.response.status}"
    assert text == last.response.output_text == second.output_text
    assert responses.retrieve(first.id).output_text == first.output_text
    items = responses.input_items.list(first.id)
    assert items.data[0].content[0].text == "Where is the lantern?"
    count = responses.input_tokens.count(model="chat", input="a bell")
    assert count.input_tokens > 0
    responses.delete(first.id)
    refused(openai.NotFoundError, lambda: responses.retrieve(first.id))


def conversations(server):
    conversations = client(server).conversations
    conversation = conversations.create(
        items=[{"type": "message", "role": "user", "content": "A bell rang."}],
        metadata={"a": "b"},
    )
    client(server).responses.create(
        model="chat", input="Who heard it?", conversation=conversation.id, max_output_tokens=6
    )
    items = conversations.items.list(conversation.id, order="asc")
    assert [item.role for item in items] == ["user", "user", "assistant"]
    assert conversations.delete(conversation.id).deleted


def errors(server):
    models = client(server).models
    create = client(server).chat.completions.create
    messages = [{"role": "user", "content": "a bell"}]
    stranger = client(server, "lh-" + "0" * 64).models
    refused(openai.AuthenticationError, stranger.list, code="invalid_api_key")
    refused(openai.NotFoundError, lambda: models.retrieve("x"), code="model_not_found")
    refused(
        openai.BadRequestError,
        lambda: create(model="chat", messages=messages, tools=[]),
        param="tools",
        code="unsupported_parameter",
    )
    refused(
        openai.BadRequestError,
        lambda: create(model="chat", messages=messages, temperature=9),
        param="temperature",
    )
    refused(
        openai.BadRequestError,
        lambda: create(model="chat", messages=messages, top_logprobs=2),
        param="top_logprobs",
    )
    status, headers, body = server.ask("/v1/models", method="DELETE")
    assert (status, headers["Allow"]) == (405, "GET, HEAD"), (status, headers["Allow"])
    assert body["error"]["type"] == "invalid_request_error"
    assert server.ask("/nothing")[0] == 404
    status, _, _ = server.ask("/v1/completions", {"model": "chat", "prompt": "a" * (33 << 20)})
    assert status == 413


def limited(server, key):
    """A key that has used up what it may ask for, in the minute that it may ask 60 requests in."""
    models = client(server, key).models
    error = refused(
        openai.RateLimitError, lambda: [models.list() for _ in range(90)], code="rate_limit_exceeded"
    )
    headers = error.response.headers
    waits = int(headers["retry-after-ms"])
    assert 0 < waits <= 1000 and int(headers["retry-after"]) == 1, headers
    # A client that waits for as long as it is told gets its answer.
    assert client(server, key, max_retries=3).models.list().data


def broken_off(server):
    """Answers that take longer than the server allows end with an error within their streams."""
    endless = {"model": "chat", "stream": True, "temperature": 0}
    messages = [{"role": "user", "content": "Where is the lantern?"}]
    # One letter for ever: no text ends it.
    forced = {"max_tokens": 1_000_000, "logit_bias": {"97": 100}}
    chat = client(server).chat.completions.create(messages=messages, **endless, **forced)
    text = client(server).completions.create(prompt="One day", **endless, **forced)
    for events in (chat, text):
        error = refused(openai.APIError, lambda: list(events), code="timeout")
        assert "longer than the server allows" in error.message
    letters = {"format": {"type": "regex", "regex": "[a-z]+"}}
    events = client(server).responses.create(
        input="a bell", max_output_tokens=1_000_000, extra_body={"text": letters}, **endless
    )
    last = list(events)[-1]
    assert (last.type, last.response.status) == ("response.failed", "failed")
    assert last.response.error.code == "server_error" and not last.response.output
    server_messages.broken_off(server)


def sessions(server, name):
    """Says something in a session; gives its position and the answer."""
    answer = client(server).chat.completions.create(
        model="chat",
        messages=[{"role": "user", "content": "Where is the lantern?"}],
        temperature=0,
        max_tokens=8,
        extra_body={"session_id": name},
    )
    _, _, session = server.ask(f"/v1/sessions/{name}")
    return session["position"], answer.choices[0].message.content


def prepare(program, folder):
    """Trains a model, and makes keys: that of the server, and two that may ask little."""
    train(program, folder, "--tokenizer", "byte", "--steps", "3", "--batch", "2", "--chunk", "32")
    (folder / "sealing.keys").write_text("first " + "ab" * 32 + "\n")
    keys = []
    for name in ("suite", "slow", "idle"):
        keys.append(new_key(program, folder, name))
        if name != "suite":
            with open(folder / "keys.toml", "a") as file:
                file.write("requests_per_minute = 60\n")
    return keys


def main():
    program, folder = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    key, slow, idle = prepare(program, folder)
    guarded = ["chat=model", "--api-key-file", "keys.toml"]
    keeping = [*guarded, "--sessions", "sessions", "--sealing-key-file", "sealing.keys"]
    suite = [models, chats, completions, embeddings, responses, conversations, errors]
    suite += [open_responses, *server_messages.checks()]
    with Server(program, folder, key, keeping) as server:
        for check in suite:
            check(server)
        limited(server, slow)
        server_messages.limited(server, idle)
        one, _ = sessions(server, "one")
        server.ask("/v1/sessions/one/fork", {"name": "other"})
        _, goes_on = sessions(server, "other")
    # Another process goes on where the first one stopped.
    with Server(program, folder, key, keeping) as server:
        position, restored = sessions(server, "one")
    assert position > one and restored == goes_on, (restored, goes_on)
    with Server(program, folder, key, [*guarded, "--request-seconds", "1"]) as server:
        broken_off(server)
    print(
        f"the clients understand {len(suite)} kinds of answers, wait as they are told, and see errors "
        "within streams; sessions outlive the server"
    )


if __name__ == "__main__":
    main()
