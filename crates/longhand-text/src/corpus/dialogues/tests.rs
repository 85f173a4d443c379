use super::*;

fn read(text: &str) -> Result<Dialogues, TextError> {
    Dialogues::parse("talk.jsonl", text.as_bytes().to_vec(), false)
}

fn turns(dialogue: &Dialogue) -> Vec<(&str, &str)> {
    dialogue.messages().iter().map(|turn| (turn.role.name(), turn.content.as_str())).collect()
}

#[test]
fn messages_are_read_from_an_object_or_a_list() {
    let file = concat!(
        "{\"messages\": [{\"role\": \"system\", \"content\": \"Be brief.\"}, {\"role\": \"user\", ",
        "\"content\": \"Hi\", \"name\": \"Ann\"}, {\"role\": \"assistant\", \"content\": [{\"type\": ",
        "\"text\", \"text\": \"He\"}, {\"type\": \"text\", \"text\": \"llo\"}]}], \"id\": 3}\n\n",
        "[{\"role\": \"user\", \"content\": \"a\\nb\"}]\r\n"
    );
    let file = read(file).unwrap();
    let [(1, first), (3, second)] = &file.dialogues[..] else { panic!("{file:?}") };
    assert_eq!(turns(first), [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello")]);
    assert_eq!(turns(second), [("user", "a\nb")]);
    assert_eq!(second.clone().up_to_last_answer(), Err(DialogueFault::NoAssistant));
    assert_eq!(turns(&first.clone().before_last_answer()).len(), 2);
    assert_eq!(&second.clone().before_last_answer(), second);
    let swapped = first.swapped().unwrap();
    assert_eq!(turns(&swapped), [("system", "Be brief."), ("assistant", "Hi")]);
}

#[test]
fn utterances_of_daily_dialogue_alternate() {
    let file = read("Hi . __eou__ Hello ! __eou__ Bye . __eou__ \nOh __eou__No__eou__\n").unwrap();
    let [(1, first), (2, second)] = &file.dialogues[..] else { panic!("{file:?}") };
    assert_eq!(turns(first), [("user", "Hi ."), ("assistant", "Hello !"), ("user", "Bye .")]);
    assert_eq!(turns(second), [("user", "Oh"), ("assistant", "No")]);
    assert_eq!(turns(&first.clone().up_to_last_answer().unwrap()).len(), 2);
    let roles = [("assistant", "Hi ."), ("user", "Hello !"), ("assistant", "Bye .")];
    assert_eq!(turns(&first.swapped().unwrap()), roles);
    for line in ["Oh __eou__ No __eou__", "[{\"role\": \"user\", \"content\": \"Oh\"}]", " Oh\n"] {
        assert_eq!(turns(&Dialogue::of_line(line).unwrap())[0], ("user", "Oh"));
    }
    assert_eq!(Dialogue::of_line(" "), Err(DialogueFault::Empty { turn: 1 }));
}

/// `[laughs] Hi` was refused, as it is no JSON.
#[test]
fn a_line_that_only_begins_as_json_does_is_what_the_user_says() {
    for line in ["[laughs] Hi", "{shrugs}", "[1] is a reference", "{\"messages\": [", " [ "] {
        assert_eq!(turns(&Dialogue::of_line(line).unwrap()), [("user", line.trim())]);
        // A file to learn from tells its form, and its lines keep to it.
        assert!(matches!(Dialogue::from_json(line), Err(DialogueFault::Json { .. })), "{line}");
    }
    let both = "[laughs] Hi __eou__ {waves} __eou__";
    let said = [("user", "[laughs] Hi"), ("assistant", "{waves}")];
    assert_eq!(turns(&Dialogue::of_line(both).unwrap()), said);
    for (line, fault) in [
        ("[3]", DialogueFault::NoRole { turn: 1 }),
        ("[]", DialogueFault::NoTurn),
        ("{\"text\": \"Hi\"}", DialogueFault::NoMessages),
    ] {
        assert_eq!(Dialogue::of_line(line), Err(fault));
    }
}

#[test]
fn each_fault_is_told_with_its_line() {
    let user = r#"{"role": "user", "content": "Hi"}"#;
    let answer = r#"{"role": "assistant", "content": "Hi"}"#;
    for (line, words) in [
        ("{\"messages\": [".to_owned(), "EOF while parsing a list at its column"),
        ("{\"turns\": []}".to_owned(), "it has no list `messages`"),
        ("[]".to_owned(), "it has no turn"),
        ("[3]".to_owned(), "turn 1 has no role"),
        (r#"[{"role": "robot", "content": "x"}]"#.into(), "the role of turn 1 is \"robot\", but"),
        (r#"[{"role": "user"}]"#.into(), "the content of turn 1 is not a text"),
        (r#"[{"role": "user", "content": [{"type": "image"}]}]"#.into(), "the content of turn 1"),
        (format!(r#"[{user}, {{"role": "assistant", "content": " "}}]"#), "turn 2 is empty"),
        (format!("[{user}, {answer}, {answer}]"), "turns 2 and 3 are both the assistant's"),
    ] {
        let error = read(&format!("[{user}]\n{line}\n")).unwrap_err().to_string();
        assert!(error.starts_with("talk.jsonl, line 2: ") && error.contains(words), "{error}");
        assert_eq!(error.lines().count(), 1);
    }
    for (line, words) in [
        ("Hi there", "it has no __eou__"),
        ("Hi __eou__ there", "its last utterance lacks"),
        ("Hi __eou__ __eou__", "turn 2 is empty"),
    ] {
        let error = read(line).unwrap_err().to_string();
        assert!(error.starts_with("talk.jsonl, line 1: ") && error.contains(words), "{error}");
    }
    assert!(read(" \n\n").unwrap_err().to_string().contains("talk.jsonl holds no dialogue"));
    assert!(read("\0").is_err());
}
