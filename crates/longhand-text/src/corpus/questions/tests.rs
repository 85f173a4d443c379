use std::io::Write as _;

use proptest::prelude::*;
use serde_json::json;

use super::*;

const CONTEXT: &str = "Zürich ist groß. 苏黎世很大。 Zürich ist schön.";

fn parse(text: &str) -> Result<Questions, TextError> {
    Questions::parse("it", text.as_bytes().to_vec(), false)
}

fn file(context: &str, questions: serde_json::Value) -> String {
    let paragraph = json!({"context": context, "qas": questions});
    json!({"version": "1.1", "data": [{"title": "T", "paragraphs": [paragraph]}]}).to_string()
}

fn answered(text: &str, start: i64) -> Questions {
    let answers = json!([{"text": text, "answer_start": start}]);
    let question = json!([{"id": "q", "question": "?", "answers": answers}]);
    parse(&file(CONTEXT, question)).unwrap()
}

#[test]
fn offsets_are_characters() {
    let check = |text: &str, start: i64, found: Option<usize>, repairs: Repairs| {
        let read = answered(text, start);
        let (context, question) = read.iter().next().unwrap();
        let place = question.answers[0].place.as_ref();
        assert_eq!(place.map(|place| place.characters.start), found, "{text} at {start}");
        assert_eq!(read.repairs(), repairs, "{text} at {start}");
        if let Some(Offsets { bytes, characters }) = place {
            assert_eq!(&context[bytes.clone()], text);
            let characters = context.chars().skip(characters.start).take(characters.len());
            assert_eq!(characters.collect::<String>(), text);
        }
    };
    let (none, moved) = (Repairs::default(), Repairs { moved: 1, ..Repairs::default() });
    check("groß", 11, Some(11), none);
    check("苏黎世", 17, Some(17), none);
    check("Zürich", 0, Some(0), none);
    // The nearest place, on either side.
    check("Zürich", 3, Some(0), moved);
    check("Zürich", 20, Some(24), moved);
    check("Zürich", -5, Some(0), moved);
    check("Zürich", i64::MAX, Some(24), moved);
    check("Bern", 2, None, Repairs { absent: 1, ..Repairs::default() });
}

#[test]
fn both_versions_are_read() {
    let questions = json!([
        {"id": "a", "question": "Wo?", "answers": [{"text": "Zürich", "answer_start": 0}]},
        {"id": 7, "question": "Wer?", "answers": [], "is_impossible": true,
         "plausible_answers": [{"text": "groß", "answer_start": 11}]},
        {"question": "Was?", "answers": [{"text": "", "answer_start": 0}]},
    ]);
    let read = parse(&file(CONTEXT, questions)).unwrap();
    let ids: Vec<&str> = read.iter().map(|(_, question)| question.id.as_str()).collect();
    assert_eq!(ids, ["a", "7", "3"]);
    let impossible: Vec<bool> = read.iter().map(|(_, q)| q.is_impossible).collect();
    assert_eq!(impossible, [false, true, false]);
    assert!(read.iter().skip(1).all(|(_, question)| question.answers.is_empty()));
    assert_eq!(read.repairs(), Repairs { empty: 1, ..Repairs::default() });
    let mut written = Vec::new();
    read.write(&mut written).unwrap();
    assert!(written.starts_with(br#"{"version":"v2.0""#));
    let again = Questions::parse("it", written, false).unwrap();
    assert_eq!(again.articles(), read.articles());
}

#[test]
fn lines_are_read() {
    let lines = [
        json!({"context": CONTEXT, "question": "1", "answer": "groß"}),
        json!({"context": CONTEXT, "question": "2", "answers": ["Zürich", "Bern"], "id": "x"}),
        json!({"context": CONTEXT, "question": "3",
               "answers": {"text": ["Zürich"], "answer_start": [24]}}),
        json!({"context": "Basel", "question": "4"}),
        json!({"context": "Basel", "question": "5", "answers": null, "is_impossible": true}),
    ];
    let text: String = lines.iter().map(|line| format!("{line}\n\n")).collect();
    let read = parse(&text).unwrap();
    let starts = |question: &Question| -> Vec<Option<usize>> {
        let place = |answer: &KnownAnswer| Some(answer.place.as_ref()?.characters.start);
        question.answers.iter().map(place).collect()
    };
    let found: Vec<_> = read.iter().map(|(_, question)| starts(question)).collect();
    assert_eq!(found, [vec![Some(11)], vec![Some(0), None], vec![Some(24)], vec![], vec![]]);
    let paragraphs = &read.articles()[0].paragraphs;
    assert_eq!(paragraphs.iter().map(|p| p.questions.len()).collect::<Vec<_>>(), [3, 2]);
    // A search is no repair.
    assert_eq!(read.repairs(), Repairs { absent: 1, ..Repairs::default() });
}

#[test]
fn compressed_files_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("q.json.gz");
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let text = file(CONTEXT, json!([{"id": "a", "question": "?"}]));
    encoder.write_all(text.as_bytes()).unwrap();
    fs_err::write(&path, encoder.finish().unwrap()).unwrap();
    assert_eq!(Questions::read(&path, false).unwrap().iter().count(), 1);
}

#[test]
fn bad_files_are_told_in_one_sentence() {
    let check = |text: &str, words: &str| {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    check("{\"data\": [\n  {\"title\": 3}]}", "it, line 2, column 13: invalid type");
    check("{\"data\": [{\"title\": \"\"}]}", "it, line 1, column 23: missing field `paragraphs`");
    check("{\"dat\": []}", "missing field `data`");
    check("{\"data\": []}", "it holds no question");
    check("", "it holds no question");
    check("\u{feff} \n\n", "it holds no question");
    check("[1]", "it, line 1");
    let good = json!({"context": "a", "question": "b"});
    check(&format!("{good}\n\n{{\"context\": \"a\"}}\n"), "it, line 3, column 16: missing field");
    check(&format!("{good}\nnonsense\n"), "it, line 2, column 2: expected");
    let bytes = Questions::parse("it", vec![b'{', 0xff], false).unwrap_err().to_string();
    assert!(bytes.contains("not valid UTF-8"), "{bytes}");
    assert!(Questions::read(Path::new("/nowhere"), false).is_err());
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        context in "[aé中 ]{0,12}",
        answers in prop::collection::vec(("[aé中 ]{0,3}", -3_i64..15), 0..4),
        is_impossible in any::<bool>(),
    ) {
        let answers: Vec<_> = answers
            .iter()
            .map(|(text, start)| json!({"text": text, "answer_start": start}))
            .collect();
        let question = json!([{
            "id": "q", "question": "?", "answers": answers, "is_impossible": is_impossible,
        }]);
        let read = parse(&file(&context, question)).unwrap();
        for (context, question) in read.iter() {
            for KnownAnswer { text, place } in &question.answers {
                prop_assert_eq!(place.is_some(), context.contains(text.as_str()));
                if let Some(place) = place {
                    prop_assert_eq!(&context[place.bytes.clone()], text);
                }
            }
        }
        let mut written = Vec::new();
        read.write(&mut written).unwrap();
        let again = Questions::parse("it", written, false).unwrap();
        prop_assert_eq!(again.articles(), read.articles());
        prop_assert_eq!(again.repairs().moved, 0);
    }
}
