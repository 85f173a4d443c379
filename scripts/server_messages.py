"""What Anthropic's own client must understand of a running server; a part of check_server.py."""

import anthropic

from serving import refused

SAID = {
    "model": "chat",
    "system": [{"type": "text", "text": "Be short."}],
    "messages": [
        {"role": "user", "content": "Where is the lantern?"},
        {"role": "assistant", "content": "By the door."},
        {"role": "user", "content": [{"type": "text", "text": "And the bell?"}]},
    ],
}
# The client knows no temperature any more, and passes on what it does not know.
ASKED = {**SAID, "max_tokens": 12, "extra_body": {"temperature": 0}}


def client(server, key=None, **more):
    key = key or server.key
    return anthropic.Anthropic(base_url=server.address, api_key=key, **{"max_retries": 0, **more})


def whole(server):
    assert [model.id for model in client(server).models.list()] == ["chat"]
    messages = client(server).messages
    answer = messages.create(**ASKED)
    assert (answer.type, answer.role, answer.model) == ("message", "assistant", "chat")
    assert answer._request_id
    assert answer.stop_reason in ("end_turn", "max_tokens") and answer.stop_sequence is None
    (block,) = answer.content
    # A chat in OpenAI's form reads the same tokens, and so says the same.
    chat = {"model": "chat", "temperature": 0, "max_tokens": 12, "messages": [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Where is the lantern?"},
        {"role": "assistant", "content": "By the door."},
        {"role": "user", "content": "And the bell?"},
    ]}
    _, _, chat = server.ask("/v1/chat/completions", chat)
    assert block.text == chat["choices"][0]["message"]["content"]
    usage = answer.usage
    read = usage.input_tokens + usage.cache_creation_input_tokens + usage.cache_read_input_tokens
    assert read == chat["usage"]["prompt_tokens"]
    assert usage.output_tokens == chat["usage"]["completion_tokens"]
    assert messages.count_tokens(**SAID).input_tokens == read
    # The key may come as a token of the header Authorization too.
    bearer = anthropic.Anthropic(base_url=server.address, auth_token=server.key, max_retries=0)
    assert bearer.messages.create(**ASKED).content == answer.content
    ends = {**ASKED, "stop_sequences": [block.text[-1]]}
    ended = messages.create(**ends)
    assert (ended.stop_reason, ended.stop_sequence) == ("stop_sequence", block.text[-1])
    assert block.text.startswith(ended.content[0].text)


def streamed(server):
    messages = client(server).messages
    answer = messages.create(**ASKED)
    events = list(messages.create(**ASKED, stream=True))
    kinds = [event.type for event in events]
    assert kinds[:2] == ["message_start", "content_block_start"], kinds
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"], kinds
    deltas = events[2:-3]
    assert {event.type for event in deltas} <= {"content_block_delta"}
    text = "".join(event.delta.text for event in deltas)
    assert text == answer.content[0].text
    assert events[0].message.content == [] and events[0].message.stop_reason is None
    assert events[-2].usage.output_tokens == answer.usage.output_tokens
    with messages.stream(**ASKED) as stream:
        assert "".join(stream.text_stream) == text
        last = stream.get_final_message()
    assert last.content[0].text == text and last.stop_reason == answer.stop_reason
    assert last.usage.output_tokens == answer.usage.output_tokens


def errors(server):
    messages = client(server).messages
    stranger = client(server, "lh-" + "0" * 64).messages
    kind = "authentication_error"
    refused(anthropic.AuthenticationError, lambda: stranger.create(**ASKED), type=kind)
    other = {**ASKED, "model": "other"}
    kind = "not_found_error"
    refused(anthropic.NotFoundError, lambda: messages.create(**other), type=kind)
    image = {"type": "image", "source": {"type": "url", "url": "http://localhost/a.png"}}
    tool = {"name": "look", "input_schema": {"type": "object"}}
    for wrong in (
        {"extra_body": {"temperature": 1.5}},
        {"tools": [tool]},
        {"messages": [{"role": "user", "content": [image]}]},
        {"messages": [{"role": "assistant", "content": "a"}]},
        {"messages": []},
    ):
        asked = {**ASKED, **wrong}
        error = refused(
            anthropic.BadRequestError,
            lambda: messages.create(**asked),
            type="invalid_request_error",
        )
        (field,) = wrong.get("extra_body", wrong)
        assert field in error.message, (wrong, error.message)
    both = {**SAID, "max_tokens": 1}
    refused(anthropic.BadRequestError, lambda: messages.count_tokens(extra_body=both, **SAID))
    long = {**ASKED, "messages": [{"role": "user", "content": "a" * (33 << 20)}]}
    error = refused(anthropic.APIStatusError, lambda: messages.create(**long))
    assert (error.status_code, error.type) == (413, "request_too_large")


def limited(server, key):
    """A key that has used up what it may ask for, in the minute that it may ask 60 requests in."""
    messages = client(server, key).messages
    error = refused(
        anthropic.RateLimitError,
        lambda: [messages.count_tokens(**SAID) for _ in range(90)],
        type="rate_limit_error",
    )
    assert 0 < int(error.response.headers["retry-after-ms"]) <= 1000
    # A client that waits for as long as it is told gets its answer.
    assert client(server, key, max_retries=3).messages.count_tokens(**SAID).input_tokens > 0


def broken_off(server):
    """An answer that takes longer than the server allows ends with an error within the stream."""
    endless = {**ASKED, "max_tokens": 1_000_000}
    events = client(server).messages.create(**endless, stream=True)
    error = refused(anthropic.APIStatusError, lambda: list(events), type="api_error")
    assert "longer than the server allows" in error.message


def checks():
    return [whole, streamed, errors]
