"""The cases of Open Responses that are about text: basic, streamed, with a system prompt, of several
turns, and after a response that was kept. A part of check_server.py.

The cases are those of the compliance test at openresponses.org, and what an answer must hold is of its
document of 2026-04-24. Tools, images and files are not asked for: the server refuses them.
"""

import re

# What a field must be: a type, several, or a word.
TEXT, NUMBER, NONE = (str,), (int, float), type(None)
RESPONSE = {
    "id": TEXT, "object": "response", "created_at": (int,), "completed_at": (int, NONE),
    "status": TEXT, "incomplete_details": (dict, NONE), "model": TEXT,
    "previous_response_id": (str, NONE), "instructions": (str, NONE), "output": (list,),
    "error": (dict, NONE), "tools": (list,), "tool_choice": (str, dict),
    "truncation": TEXT, "parallel_tool_calls": (bool,), "text": (dict,), "top_p": NUMBER,
    "presence_penalty": NUMBER, "frequency_penalty": NUMBER, "top_logprobs": (int,),
    "temperature": NUMBER, "reasoning": (dict, NONE), "usage": (dict, NONE),
    "max_output_tokens": (int, NONE), "max_tool_calls": (int, NONE), "store": (bool,),
    "background": (bool,), "service_tier": TEXT, "metadata": (dict,),
    "safety_identifier": (str, NONE), "prompt_cache_key": (str, NONE),
}  # fmt: skip
USAGE = {
    "input_tokens": (int,), "output_tokens": (int,), "total_tokens": (int,),
    "input_tokens_details": (dict,), "output_tokens_details": (dict,),
}  # fmt: skip
MESSAGE = {"type": "message", "id": TEXT, "status": TEXT, "role": TEXT, "content": (list,)}
PART = {"type": "output_text", "text": TEXT, "annotations": (list,)}
PLACE = {"item_id": TEXT, "output_index": (int,), "content_index": (int,)}
EVENTS = {
    "response.created": {"response": RESPONSE},
    "response.in_progress": {"response": RESPONSE},
    "response.completed": {"response": RESPONSE},
    "response.incomplete": {"response": RESPONSE},
    "response.output_item.added": {"output_index": (int,), "item": MESSAGE},
    "response.output_item.done": {"output_index": (int,), "item": MESSAGE},
    "response.content_part.added": {**PLACE, "part": PART},
    "response.content_part.done": {**PLACE, "part": PART},
    "response.output_text.delta": {**PLACE, "delta": TEXT},
    "response.output_text.done": {**PLACE, "text": TEXT},
}
# Whatever a model has learnt, such an answer comes to its end.
SHORT = {"text": {"format": {
    "type": "json_schema", "name": "answer", "description": None, "strict": True,
    "schema": {"enum": ["Hello, dear friend!", "One, two, three.", "Alice."]},
}}}  # fmt: skip


def user(text):
    return {"type": "message", "role": "user", "content": text}


CASES = {
    "basic": [user("Say hello in exactly 3 words.")],
    "streamed": [user("Count from 1 to 5.")],
    "system prompt": [
        {"type": "message", "role": "system", "content": "You are a pirate. Speak like one."},
        user("Say hello."),
    ],
    "several turns": [
        user("My name is Alice."),
        {"type": "message", "role": "assistant", "content": "Hello Alice! Nice to meet you."},
        user("What is my name?"),
    ],
}


def holds(value, form, where):
    """Compares an object with the fields that it must have."""
    for name, kind in form.items():
        assert name in value, f"{where} has no {name}"
        found = value[name]
        if isinstance(kind, dict):
            holds(found, kind, f"{where}.{name}")
        elif isinstance(kind, str):
            assert found == kind, f"{where}.{name} is {found}, not {kind}"
        else:
            # A truth value is a number for Python alone.
            fits = isinstance(found, kind) and (bool in kind or not isinstance(found, bool))
            assert fits, f"{where}.{name} is {found}"


def response(value, where, ends=True):
    """Compares a response with the document; one that has ended has an answer too."""
    holds(value, RESPONSE, where)
    assert value["truncation"] in ("auto", "disabled")
    assert value["tool_choice"] in ("none", "auto", "required")
    form = value["text"]["format"]
    if form["type"] == "json_schema":
        needed = {"name": TEXT, "description": (str, NONE), "strict": (bool,)}
        holds(form, needed, f"{where}.text.format")
    if not ends:
        assert value["status"] == "in_progress" and value["completed_at"] is None
        return
    assert value["status"] in ("completed", "incomplete"), value["status"]
    assert value["output"], f"{where} has no output"
    for item in value["output"]:
        holds(item, MESSAGE, f"{where}.output")
        assert item["status"] == value["status"] and item["role"] == "assistant"
        for part in item["content"]:
            holds(part, PART, f"{where}.output.content")
    holds(value["usage"], USAGE, f"{where}.usage")
    usage = value["usage"]
    assert isinstance(usage["input_tokens_details"]["cached_tokens"], int)
    assert isinstance(usage["output_tokens_details"]["reasoning_tokens"], int)
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    if value["status"] == "completed":
        assert value["completed_at"] >= value["created_at"]
        assert value["incomplete_details"] is None and value["error"] is None
    else:
        assert isinstance(value["incomplete_details"]["reason"], str)


def whole(server, asked, where):
    status, _, answer = server.ask("/v1/responses", asked)
    assert status == 200, (where, answer)
    response(answer, where)
    return answer


def streamed(server, asked, where):
    """The last response of a stream, whose events are compared with the document."""
    events = server.events("/v1/responses", {**asked, "stream": True})
    assert events.pop() == (None, None), f"{where} does not end with [DONE]"
    for number, (name, data) in enumerate(events):
        assert data["type"] == name, f"{where}: the event {name} says {data['type']}"
        assert data["sequence_number"] == number
        holds(data, EVENTS[name], f"{where}, {name}")
        if "response" in data:
            response(data["response"], f"{where}, {name}", ends=number == len(events) - 1)
    names = "\n".join(name.removeprefix("response.") for name, _ in events)
    order = (
        r"created\nin_progress\noutput_item\.added\ncontent_part\.added\n(output_text\.delta\n)*"
        r"output_text\.done\ncontent_part\.done\noutput_item\.done\n(completed|incomplete)"
    )
    assert re.fullmatch(order, names), names
    last = events[-1][1]["response"]
    text = "".join(data["delta"] for _, data in events if "delta" in data)
    assert last["output"][0]["content"][0]["text"] == text
    return last


def open_responses(server):
    for name, items in CASES.items():
        ask = streamed if name == "streamed" else whole
        # Once as the case is written, where a model that has learnt little may find no end, and once so
        # that it does.
        ask(server, {"model": "chat", "input": items}, name)
        answer = ask(server, {"model": "chat", "input": items, **SHORT}, name)
        assert answer["status"] == "completed", (name, answer["status"])
    asked = {"model": "chat", "input": "Remember this code word: papaya.", **SHORT}
    first = whole(server, asked, "a response to follow")
    asked = {"model": "chat", "input": "Which code word?", "previous_response_id": first["id"]}
    second = whole(server, {**asked, **SHORT}, "a response that follows")
    assert second["status"] == "completed"
    assert second["previous_response_id"] == first["id"]
    refuses(server)


def refuses(server):
    """The cases of tools and images are refused, and say what is at fault."""
    tool = {"type": "function", "name": "get_weather", "parameters": {"type": "object"}}
    image = {"type": "input_image", "image_url": "data:image/png;base64,AA=="}
    for field, value in (("tools", [tool]), ("input", [user([image])])):
        asked = {"model": "chat", "input": "What is it?", field: value}
        status, _, answer = server.ask("/v1/responses", asked)
        assert (status, answer["error"]["type"]) == (400, "invalid_request_error"), answer
        assert answer["error"]["param"].startswith(field), answer
