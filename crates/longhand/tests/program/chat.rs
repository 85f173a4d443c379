//! Conversations through the built program, in pipes.

use longhand::text::chat::{OWN_TEMPLATE, ROLE_TOKENS, TOKENIZER_CONFIG_FILE, TokenizerConfig};
use longhand_model::{Model, Preset};
use longhand_text::Tokenizer;
use serde_json::Value;

use crate::place::Place;

/// A folder with an untrained model over bytes that has our own template, and one without a template.
fn place() -> Place {
    let place = Place::new();
    let bytes = Tokenizer::byte().unwrap();
    let special = bytes.with_special_tokens(&ROLE_TOKENS).unwrap();
    for (name, tokenizer, preset) in
        [("model", &special, Preset::LonghandNano), ("bare", &bytes, Preset::Lstm)]
    {
        let folder = place.0.path().join(name);
        fs_err::create_dir(&folder).unwrap();
        tokenizer.save(&folder.join("tokenizer.json")).unwrap();
        Model::new(preset.config(tokenizer.vocab_size()), 1).unwrap().save(&folder).unwrap();
    }
    let config = place.0.path().join("model").join(TOKENIZER_CONFIG_FILE);
    TokenizerConfig::own(&special).save(&config).unwrap();
    place
}

/// What is printed for some lines, one JSON object each.
fn objects(place: &Place, flags: &str, input: &str) -> Vec<Value> {
    let most = if flags.contains("--max-tokens") { "" } else { "--max-tokens 9" };
    let line = format!("chat model --threads 1 --json {most} {flags}");
    let (code, stdout, errors) = place.run(&line, input);
    assert_eq!(code, 0, "{flags}: {errors}");
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn contents(objects: &[Value]) -> Vec<&str> {
    objects.iter().filter_map(|object| object["content"].as_str()).collect()
}

#[test]
fn each_line_is_answered_and_only_answers_are_printed() {
    let place = place();
    let (code, stdout, errors) =
        place.run("chat model --threads 1 --max-tokens 5", "Hi\n\n  \nAnd \\\nyou?\n//x\n");
    assert_eq!((code, errors.as_str()), (0, ""));
    let answers = objects(&place, "--max-tokens 5", "Hi\nAnd \\\nyou?\n//x\n");
    assert_eq!(answers.len(), 3);
    let printed: String = contents(&answers).iter().map(|text| format!("{text}\n")).collect();
    assert_eq!(stdout, printed);
    for (turn, answer) in answers.iter().enumerate() {
        assert_eq!(answer["role"], "assistant");
        assert_eq!(answer["turn"], turn + 1);
        let finish = answer["finish"].as_str().unwrap();
        assert!(finish == "length" || finish == "end", "{answer}");
        assert!(answer["tokens"].as_u64().unwrap() <= 5);
    }
    // <|user|>Hi<|end|><|assistant|> and the answer.
    let first = &answers[0];
    assert_eq!(first["position"].as_u64().unwrap(), 5 + first["tokens"].as_u64().unwrap());
    assert!(objects(&place, "", "").is_empty());
}

#[test]
fn a_conversation_goes_on_tomorrow_bit_for_bit() {
    let place = place();
    let whole = objects(&place, "--system Kind. --save whole.safetensors", "a\nb\nc\n");
    let first = objects(&place, "--system Kind. --save half.safetensors", "a\n");
    let rest = objects(&place, "--load half.safetensors --save half.safetensors", "b\nc\n");
    assert_eq!(contents(&whole), [contents(&first), contents(&rest)].concat());
    assert_eq!(rest[1]["turn"], 3);
    assert_eq!(place.read("whole.safetensors"), place.read("half.safetensors"));
    let shown = place.done("memory show half.safetensors --json");
    assert_eq!(shown["header"]["position"], whole[2]["position"]);
    assert_eq!(shown["conversation"], true);
    // Each kind of memory is a file for the other verb.
    place.write("text.txt", "It was dark.");
    place.done("memory save model --text text.txt --out text.safetensors");
    assert_eq!(objects(&place, "--load text.safetensors", "a\n").len(), 1);
    let write = "generate model --memory half.safetensors --max-tokens 2 --json";
    assert!(place.done(write)["ids"].is_array());
}

#[test]
fn commands_save_load_fork_and_go_back() {
    let place = place();
    let lines = "a\n/save one.safetensors\n/fork other\nb\n/save two.safetensors\n/fork\n/switch main\n\
                 b\n/back\n/back 0\n/back 0\n/load two.safetensors\n/save\n/system Be kind.\nc\n";
    let all = objects(&place, "", lines);
    let commands: Vec<&str> = all.iter().filter_map(|object| object["command"].as_str()).collect();
    let expected = [
        "save", "fork", "save", "fork", "switch", "back", "back", "back", "load", "save", "system",
    ];
    assert_eq!(commands, expected);
    let answers = contents(&all);
    assert_eq!(answers.len(), 4);
    // The same state and the same random numbers: a branch answers as the other does.
    assert_eq!(answers[1], answers[2]);
    let of = |command: &'static str| all.iter().filter(move |it| it["command"] == command);
    assert_eq!(of("fork").next_back().unwrap()["branches"]["main"], 1);
    assert_eq!(of("fork").next_back().unwrap()["branch"], "other");
    let turns: Vec<&Value> = of("back").map(|object| &object["turns"]).collect();
    assert_eq!(turns, [1, 0, 0]);
    assert!(of("back").all(|object| object["read_again"] == false));
    assert_eq!(of("load").next().unwrap()["turns"], 2);
    assert_eq!(all.last().unwrap()["turn"], 3);
    // A turn from before the file was written is read again.
    let back = objects(&place, "--load two.safetensors", "/back 1\nb\n");
    assert_eq!(back[0]["read_again"], true);
    assert_eq!(back[1]["turn"], 2);
    assert_eq!(back[0]["without_beginning"], false);
    // So is one behind the memory of a text, which stays.
    place.write("text.txt", "It was dark.");
    place.done("memory save model --text text.txt --out text.safetensors");
    objects(&place, "--load text.safetensors --save told.safetensors", "a\nb\n");
    let told = objects(&place, "--load told.safetensors", "/back 0\n/show\n");
    assert_eq!(told[0]["read_again"], true);
    let text = place.done("memory show text.safetensors --json");
    assert_eq!(told[1]["position"], text["header"]["position"]);
    let (code, stdout, errors) = place
        .run("chat model --load one.safetensors", "/back 1\n/fork x\n/system y\n/help\n/quit\nz\n");
    assert_eq!(code, 0, "{errors}");
    assert!(errors.contains("Back at the end of turn 1.") && errors.contains("In branch x"));
    assert!(stdout.contains("/switch NAME") && stdout.lines().count() == 10, "{stdout}");
}

#[test]
fn what_the_memories_gave_and_what_they_take_is_shown() {
    let place = place();
    let lines = "/show\nHi\n/show\nmuch more text than before\n/show\n/back\n/show\n";
    let all = objects(&place, "--max-tokens 20 --temperature 1.5", lines);
    let shown: Vec<&Value> = all.iter().filter(|object| object["command"] == "show").collect();
    let bytes: Vec<u64> = shown.iter().map(|it| it["memory_bytes"].as_u64().unwrap()).collect();
    assert!(bytes[0] > 0 && bytes.iter().all(|&size| size == bytes[0]), "{bytes:?}");
    let turns: Vec<&Value> = shown.iter().map(|object| &object["turns"]).collect();
    assert_eq!(turns, [0, 1, 2, 1]);
    assert_eq!(shown[0]["last_answer"], Value::Null);
    assert_eq!(shown[1]["last_answer"], shown[3]["last_answer"]);
    let answers: Vec<&Value> = all.iter().filter(|object| object["tokens"].is_u64()).collect();
    for (shown, answer) in [(shown[1], answers[0]), (shown[2], answers[1])] {
        assert_eq!(shown["last_answer"]["tokens"], answer["tokens"]);
        let losses = &shown["last_answer"]["losses"];
        assert!(losses["loss"].as_f64().unwrap() > 0.0);
        assert_ne!(losses["loss"], losses["without_working"]);
        assert_ne!(losses["loss"], losses["without_long"]);
    }
    let (code, stdout, _) = place.run("chat model --max-tokens 4 --temperature 0", "Hi\n/show\n");
    assert_eq!(code, 0);
    for words in ["turns        1", "state  ", "bytes", "last answer  ", "without it"] {
        assert!(stdout.contains(words), "{stdout}");
    }
}

#[test]
fn a_model_without_a_template_talks_in_plain_lines() {
    let place = place();
    let (code, stdout, errors) = place.run("chat bare --max-tokens 6 --json", "Hi\n");
    assert_eq!(code, 0, "{errors}");
    assert!(errors.contains("bare has no chat template, so the turns are lines"), "{errors}");
    let answer: Value = serde_json::from_str(stdout.trim()).unwrap();
    // `User: Hi`, a line break and `Assistant: `.
    let position = answer["position"].as_u64().unwrap();
    assert_eq!(position, 20 + answer["tokens"].as_u64().unwrap());
    assert!(!answer["content"].as_str().unwrap().contains('\n'));
    place.write("own.jinja", "{% for m in messages %}[{{ m.content }}]{% endfor %}\n");
    let (code, stdout, errors) =
        place.run("chat bare --template own.jinja --max-tokens 6 --json", "Hi\n");
    assert_eq!((code, errors.as_str()), (0, ""));
    let answer: Value = serde_json::from_str(stdout.trim()).unwrap();
    assert_eq!(answer["position"].as_u64().unwrap(), 4 + answer["tokens"].as_u64().unwrap());
}

#[test]
fn bad_input_gets_one_sentence() {
    let place = place();
    place.run("chat model --max-tokens 1 --save talk.safetensors", "a\n");
    place.write("text.txt", "text");
    place.write("bad.jinja", "{% for %}");
    place.write("mute.jinja", "nothing");
    place.write("strict.jinja", "{{ raise_exception('no turns today') }}");
    let other = OWN_TEMPLATE.replace("trim", "string");
    place.write("other.jinja", &other);
    for (line, input, words) in [
        ("chat model", "/nope\n", "line 1: there is no command /nope: /help lists them"),
        ("chat model", "\n/save\n", "line 2: the conversation has no file yet"),
        ("chat model", "/save talk.safetensors\n", "talk.safetensors exists: pass --force"),
        ("chat model", "/save no/where\n", "there is no folder no to write"),
        ("chat model", "/load nowhere\n", "there is no file nowhere: /save or --save writes one"),
        ("chat model", "/load text.txt\n", "line 1: text.txt: not a whole snapshot"),
        ("chat model", "/fork main\n", "there is a branch main already: /switch main"),
        ("chat model", "/switch x\n", "there is no branch x: the branches are main"),
        ("chat model", "/back\n", "the conversation has no turn to take back"),
        ("chat model", "/back 2\n", "the conversation has 0 turn(s): /back goes to"),
        ("chat model --load nowhere", "", "there is no file nowhere"),
        ("chat bare --load talk.safetensors", "", "belongs to another model"),
        ("chat model --save talk.safetensors", "a\n", "talk.safetensors exists: pass --force"),
        ("chat model --template nowhere", "", "there is no file nowhere: give a chat template"),
        ("chat model --template bad.jinja", "", "bad.jinja: the chat template is not usable"),
        ("chat model --template mute.jinja", "", "does not write what the assistant says"),
        ("chat model --template strict.jinja", "", "refuses this conversation: no turns today"),
        ("chat model --template other.jinja --load talk.safetensors", "", "another chat template"),
        ("chat model --temperature -1", "", "the temperature is -1"),
        ("chat nowhere", "", "there is no folder nowhere"),
    ] {
        let (code, stdout, errors) = place.run(line, input);
        assert_ne!(code, 0, "{line} {input}");
        assert!(errors.contains(words), "{line} {input}: {errors}");
        let sentences = errors.lines().filter(|line| !line.contains("no chat template")).count();
        assert_eq!((sentences, stdout.as_str()), (1, ""), "{line} {input}: {errors}");
    }
    // What was said before a line that is refused was answered.
    let (code, stdout, errors) = place.run("chat model --max-tokens 3", "a\n/back 7\nb\n");
    assert_eq!((code, stdout.lines().count()), (1, 1), "{errors}");
    assert!(errors.contains("line 2: the conversation has 1 turn(s)"), "{errors}");
    let bytes = place.0.path().join("model").join(TOKENIZER_CONFIG_FILE);
    fs_err::write(bytes, "{").unwrap();
    place.refused("chat model", "tokenizer_config.json: EOF while parsing");
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_an_answer_and_not_the_conversation() {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::process::{Command, Stdio};

    let place = place();
    let mut command = Command::new(env!("CARGO_BIN_EXE_longhand"));
    command
        .args(["chat", "bare", "--max-tokens", "1000000", "--threads", "1"])
        .args(["--template", "endless.jinja", "--save", "talk.safetensors"])
        .current_dir(place.0.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // Only a text ends an answer, and this one never comes.
    let endless = "{% for m in messages %}{{ m.content }}\u{1}never{% endfor %}";
    place.write("endless.jinja", endless);
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    for turn in 1..3 {
        input.write_all(b"Hi\n").unwrap();
        output.read_exact(&mut [0]).unwrap();
        let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        assert!(kill.success());
        input.write_all(b"/show\n").unwrap();
        let mut last = String::new();
        while !last.starts_with(&format!("turns        {turn}\n")) {
            let mut line = Vec::new();
            assert!(output.read_until(b'\n', &mut line).unwrap() > 0);
            last = String::from_utf8_lossy(&line).into_owned();
        }
        while !last.starts_with("  long") {
            last.clear();
            output.read_line(&mut last).unwrap();
        }
    }
    drop(input);
    drop(output);
    let ended = child.wait_with_output().unwrap();
    let errors = String::from_utf8(ended.stderr).unwrap();
    assert_eq!((ended.status.code(), errors.as_str()), (Some(0), ""));
    assert!(place.has("talk.safetensors"));
}

#[test]
fn dialogues_are_learnt_and_talked_with() {
    let place = place();
    let dialogue = r#"{"messages": [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "ba"}, {"role": "user", "content": "b"}]}"#;
    let one = |n: usize| dialogue.replace("\"ab\"", &format!("\"ab {n}\"")) + "\n";
    place.write("talk.jsonl", &(0..64).map(one).collect::<String>());
    place.write("daily.txt", &"ab __eou__ ba __eou__ b __eou__ b __eou__\n".repeat(3));
    let flags =
        "--task chat --data talk.jsonl --test daily.txt --steps 4 --batch 2 --threads 1 --json";
    place.done(&format!("finetune {flags} --preset longhand-nano --tokenizer byte --out talker"));
    let config: Value =
        serde_json::from_slice(&place.read("talker/tokenizer_config.json")).unwrap();
    assert_eq!(config["chat_template"], OWN_TEMPLATE);
    assert_eq!(config["eos_token"], "<|end|>");
    let eval = place.done("eval talker --data daily.txt --json --threads 1");
    let (perplexity, loss) = (eval["perplexity"].as_f64().unwrap(), eval["loss"].as_f64().unwrap());
    assert!((perplexity - loss.exp()).abs() < 1e-6 * perplexity, "{eval}");
    assert!(eval["distinct2"].is_f64() || eval["distinct2"].is_u64(), "{eval}");
    // Two models are compared by their perplexity where it is of the same tokens.
    place.done("quantize talker --weights int8 --out small --json");
    let eval = "eval talker --data daily.txt --samples 50 --threads 1";
    let compared = place.done(&format!("{eval} --against small --json"));
    let difference = &compared["against"]["differences"]["perplexity"];
    assert!(difference["value"].is_f64() && difference["p"].is_f64(), "{compared}");
    assert!(compared["intervals"]["perplexity"].is_array(), "{compared}");
    let (_, told, _) = place.run(&format!("{eval} --against talker"), "");
    assert!(told.contains("perplexity: +0.0000 against the other model"), "{told}");
    let (code, written, errors) = place.run("predict talker --max-length 4 --columns text", "ab\n");
    assert_eq!((code, errors.as_str()), (0, ""));
    let (_, plain, _) = place.run("predict talker --max-length 4", "ab\n");
    assert_eq!(written, plain.replace('\t', " "));
    let (code, stdout, errors) = place.run(
        "predict talker --max-length 4",
        "ab\n[{\"role\": \"user\", \
        \"content\": \"b\"}]\n[laughs] ab\n",
    );
    assert_eq!((code, stdout.lines().count()), (0, 3), "{errors}");
    let two = "predict talker --max-length 4 --temperature 0.9 --top-p 0.9 --seed 2 --nbest 2";
    let (code, drawn, errors) = place.run(two, "ab\n");
    assert_eq!((code, drawn.lines().count()), (0, 2), "{drawn}{errors}");
    assert_eq!(place.run(two, "ab\n").1, drawn);
    let (code, stdout, errors) = place.run("chat talker --max-tokens 4", "ab\n");
    assert_eq!((code, errors.as_str()), (0, ""));
    assert_eq!(stdout.lines().count(), 1);
    // A copy with fewer bits keeps the template.
    assert_eq!(
        place.read("small/tokenizer_config.json"),
        place.read("talker/tokenizer_config.json")
    );
    // A share of the dialogues is tested on, or it is said that it is none.
    let share = "finetune --task chat --preset longhand-nano --tokenizer byte --steps 2 --batch 2 \
                 --threads 1 --json --test-fraction 0.25";
    let tested = place.done(&format!("{share} --data talk.jsonl --out part"));
    assert!(tested["test"]["perplexity"].is_f64(), "{tested}");
    place.refused(
        &format!("{share} --data daily.txt --out no"),
        "daily.txt has 3 examples, of which 0.25 are to be held out to test on",
    );
    // A base model without role tokens learns plain lines; one with a template keeps it.
    place.done(&format!("finetune bare {flags} --out lines"));
    let config: Value = serde_json::from_slice(&place.read("lines/tokenizer_config.json")).unwrap();
    assert!(config["chat_template"].as_str().unwrap().contains("'Assistant: '"));
    let (code, _, errors) = place.run("chat lines --max-tokens 4", "ab\n");
    assert_eq!((code, errors.as_str()), (0, ""));
    place.refused(&format!("{eval} --against lines"), "--against has nothing to compare");
    place.write("none.jsonl", "[{\"role\": \"user\", \"content\": \"Hi\"}]\n");
    place.write("twice.jsonl", &dialogue.replace("\"user\"", "\"assistant\""));
    for (file, words) in [
        ("none.jsonl", "none.jsonl, line 1: no turn is the assistant's"),
        ("twice.jsonl", "twice.jsonl, line 1: turns 1 and 2 are both the assistant's"),
        ("nowhere.jsonl", "nowhere.jsonl does not exist"),
    ] {
        place.refused(&format!("finetune --task chat --data {file} --out no"), words);
        place.refused(&format!("eval talker --data {file}"), words);
    }
}
