"""Checks that `transformers` renders and encodes conversations as Longhand does.

    python scripts/check_chat_templates.py FOLDER

FOLDER holds one folder for each template, with its `tokenizer.json`, its `tokenizer_config.json`
and `conversations.jsonl`, whose lines have the messages and what Longhand makes of them: `text`,
`ids` and `spoken` (which tokens the assistant says), or `refused`, the words by which the template
refuses them. Where messages spell special tokens (`forged`), the text must agree, and Longhand's
ids must hold the template's special tokens alone. `depends` says that Longhand refuses such messages.

`cargo run --package longhand-text --example chat_sample -- FOLDER` writes it.
"""

import json
import pathlib
import sys

import jinja2
from transformers import PreTrainedTokenizerFast


def problem_of(tokenizer, line):
    """What differs for one conversation, or none; and whether it was rendered."""
    messages, answering = line["messages"], line["answering"]
    arguments = {"add_generation_prompt": answering}
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, **arguments)
    except jinja2.exceptions.TemplateError as error:
        same = line.get("refused") == str(error)
        return (None if same else f"refuses it in Python alone: {error}"), False
    if "refused" in line:
        return f"refuses it in Longhand alone: {line['refused']}", False
    if line.get("depends"):
        return None, False
    if text != line["text"]:
        return f"text {text!r} in Python, {line['text']!r} in Longhand", True
    if line["forged"]:
        special = set(tokenizer.all_special_ids) | {
            id for id, token in tokenizer.added_tokens_decoder.items() if token.special
        }
        safe = tokenizer.apply_chat_template(messages, sanitize_control_tokens=True, **arguments)
        found = [id for id in safe["input_ids"] if id in special]
        ours = [id for id in line["ids"] if id in special]
        # Python takes tokens that a template makes of pieces for the messages' own, or the reverse;
        # a name that reaches over the bound of a message is a token there alone.
        return (None if len(ours) <= len(found) else f"special {ours}, not {found}"), True
    marks = "generation %}" in tokenizer.chat_template
    out = tokenizer.apply_chat_template(
        messages, return_assistant_tokens_mask=marks, **arguments
    )
    if out["input_ids"] != line["ids"]:
        return f"ids {out['input_ids']} in Python, {line['ids']} in Longhand", True
    if marks and out["assistant_masks"] != line["spoken"]:
        return f"spoken {out['assistant_masks']} in Python, {line['spoken']} in Longhand", True
    return None, True


def main():
    """Checks every template of the folder; exit code 1 where one differs."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    files = sorted(pathlib.Path(sys.argv[1]).glob("*/conversations.jsonl"))
    if not files:
        sys.exit(f"no */conversations.jsonl in {sys.argv[1]}")
    problems, rendered = [], 0
    for path in files:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(str(path.parent))
        lines = path.read_text(encoding="utf-8").split("\n")
        conversations = [json.loads(line) for line in lines if line]
        count = 0
        for number, line in enumerate(conversations, 1):
            problem, was_rendered = problem_of(tokenizer, line)
            count += was_rendered
            if problem:
                problems.append(f"{path.parent.name}, conversation {number}: {problem}")
        if count < len(conversations) // 4:
            problems.append(f"{path.parent.name}: only {count} conversations were rendered")
        rendered += count
    for problem in problems[:20]:
        print(problem[:2000])
    if problems:
        sys.exit(f"{len(problems)} differences")
    print(f"{len(files)} templates and tokenisers agree on {rendered} conversations")


main()
