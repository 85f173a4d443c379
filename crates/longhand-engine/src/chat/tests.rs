use longhand_model::{Model, Preset};
use longhand_text::Tokenizer;
use longhand_text::chat::{ROLE_TOKENS, TokenizerConfig};

use super::*;
use crate::testing::cpu;

/// A byte-level model with the tokens of our own template, and random weights.
fn engine(preset: Preset) -> Arc<Engine> {
    let tokenizer = Tokenizer::byte().unwrap().with_special_tokens(&ROLE_TOKENS).unwrap();
    let model = Model::new(preset.config(tokenizer.vocab_size()), 3).unwrap();
    Engine::new(model, tokenizer).unwrap()
}

fn begin(engine: &Arc<Engine>) -> Chat {
    let template = Arc::new(ChatTemplate::own(engine.tokenizer()).unwrap());
    Chat::new(engine, template, SamplerSettings::default()).unwrap()
}

/// Asks and gives the answer's text.
fn ask(chat: &mut Chat, reader: &mut Reader, text: &str) -> String {
    let mut pieces = String::new();
    let each = &mut |piece: &str| {
        pieces.push_str(piece);
        ControlFlow::Continue(())
    };
    let answer = chat.ask(reader, text, 12, each).unwrap();
    assert_eq!(answer.text, pieces);
    assert_eq!(answer.text.trim(), pieces);
    assert!(answer.tokens <= 12 && answer.finish.is_some());
    answer.text
}

#[test]
fn a_conversation_goes_on_from_its_file_bit_for_bit() {
    for preset in [Preset::LonghandNano, Preset::Xlstm] {
        let engine = engine(preset);
        let mut reader = engine.reader(&cpu());
        let mut whole = begin(&engine);
        whole.instruct("Be kind.");
        let texts = ["Hi", "<|end|>you", "三", "Bye"];
        let answers: Vec<String> =
            texts.iter().map(|text| ask(&mut whole, &mut reader, text)).collect();
        let mut half = begin(&engine);
        half.instruct("Be kind.");
        for (text, answer) in texts.iter().zip(&answers) {
            // Through a file before each turn.
            let bytes = half.snapshot().to_bytes();
            let snapshot = Snapshot::from_bytes(&bytes).unwrap();
            assert!(snapshot.is_conversation());
            half = Chat::of_snapshot(&snapshot, &engine, &half.template).unwrap();
            assert_eq!(&ask(&mut half, &mut reader, text), answer);
        }
        assert_eq!(half.snapshot(), whole.snapshot());
        assert_eq!((half.turns(), half.messages().len()), (4, 9));
        assert_eq!(half.session().logits(), whole.session().logits());
    }
}

#[test]
fn the_session_reads_what_the_template_writes() {
    let engine = engine(Preset::LonghandNano);
    let mut reader = engine.reader(&cpu());
    let mut chat = begin(&engine);
    ask(&mut chat, &mut reader, "One");
    ask(&mut chat, &mut reader, "Two");
    let read: Vec<u32> = chat.kept.iter().flat_map(|kept| kept.read.clone()).collect();
    assert_eq!(read.len() as u64, chat.session().position());
    let special = engine.tokenizer().special_tokens();
    let marks = read.iter().filter_map(|&id| special.name(id)).collect::<Vec<_>>();
    let [_, user, assistant, end] = ROLE_TOKENS;
    assert_eq!(marks, [user, end, assistant, end, user, end, assistant]);
    let said = engine.tokenizer().decode(&read[..chat.kept[0].prompt]).unwrap();
    assert_eq!(said, "<|user|>One<|end|><|assistant|>");
}

#[test]
fn a_conversation_goes_back_to_the_session_that_it_had() {
    let engine = engine(Preset::LonghandNano);
    let mut reader = engine.reader(&cpu());
    let mut chat = begin(&engine);
    let mut states = vec![chat.session().state().clone()];
    for text in ["a", "b", "c"] {
        ask(&mut chat, &mut reader, text);
        states.push(chat.session().state().clone());
    }
    let draws = chat.session().sampler().draws;
    let mut branch = chat.clone();
    for turns in [3, 2, 1, 0] {
        assert_eq!(chat.back(&mut reader, turns).unwrap(), WayBack::Kept);
        assert_eq!(chat.turns(), turns);
        assert_eq!(chat.session().state().to_tensors(), states[turns].to_tensors());
    }
    assert_eq!(chat.session().sampler().draws, draws);
    assert!(chat.messages().is_empty() && chat.session().logits().is_empty());
    let error = chat.back(&mut reader, 1).unwrap_err().to_string();
    assert_eq!(error, "the turn to go back to is 1, but must be at most the number of turns");
    // The branch is untouched, and without kept sessions it reads again.
    assert_eq!(branch.turns(), 3);
    branch.kept.clear();
    assert_eq!(branch.back(&mut reader, 1).unwrap(), WayBack::ReadAgain);
    // What is read again is the answers' text: bytes that are no characters have other tokens then.
    assert!(branch.session().position() >= states[1].positions()[0]);
    ask(&mut branch, &mut reader, "d");
    assert_eq!(branch.turns(), 2);
}

#[test]
fn only_the_last_sessions_are_kept() {
    let engine = engine(Preset::Lstm);
    let mut reader = engine.reader(&cpu());
    let mut chat = begin(&engine);
    for _ in 0..MOST_KEPT + 3 {
        let each = &mut |_: &str| ControlFlow::Break(());
        chat.ask(&mut reader, "x", 1, each).unwrap();
    }
    assert_eq!(chat.kept.len(), MOST_KEPT);
    assert_eq!(chat.back(&mut reader, 2).unwrap(), WayBack::ReadAgain);
    assert!(chat.kept.is_empty());
    assert_eq!(chat.turns(), 2);
}

#[test]
fn what_cannot_be_said_leaves_the_conversation_as_it_was() {
    let engine = engine(Preset::Lstm);
    let mut reader = engine.reader(&cpu());
    let source = "{% for m in messages %}{% if m.content == 'no' %}{{ raise_exception('not this') }}\
                  {% endif %}{{ m.content }}<|end|>{% endfor %}";
    let config = TokenizerConfig::default();
    let template = Arc::new(ChatTemplate::new(source, &config, engine.tokenizer()).unwrap());
    let mut chat = Chat::new(&engine, template.clone(), SamplerSettings::default()).unwrap();
    ask(&mut chat, &mut reader, "yes");
    let before = chat.snapshot();
    for (text, words) in
        [(" \n", "the turn is empty"), ("no", "refuses this conversation: not this")]
    {
        let each = &mut |_: &str| ControlFlow::Continue(());
        let error = chat.ask(&mut reader, text, 3, each).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    assert_eq!(chat.snapshot(), before);
    let own = Arc::new(ChatTemplate::own(engine.tokenizer()).unwrap());
    let error = Chat::of_snapshot(&before, &engine, &own).err().unwrap().to_string();
    assert!(error.contains("another chat template"), "{error}");
    for (from, to) in [
        ("\"turns\":[0]", "\"turns\":[5]"),
        ("\"turns\":[0]", "\"turns\":[1]"),
        ("\"turns\":[0]", "\"turns\":[]"),
        ("\"version\":2", "\"version\":9"),
        ("\"user\"", "\"robot\""),
    ] {
        let mut bad = before.clone();
        bad.conversation = bad.conversation.map(|turns| turns.replace(from, to));
        let error = Chat::of_snapshot(&bad, &engine, &template).err().unwrap().to_string();
        assert!(error.contains("its conversation: "), "{to}: {error}");
    }
}

#[test]
fn the_memory_of_a_text_begins_a_conversation() {
    let engine = engine(Preset::LonghandNano);
    let mut reader = engine.reader(&cpu());
    let mut session = engine.session(SamplerSettings::default()).unwrap();
    session.read_text(&mut reader, "It was dark.").unwrap();
    let template = Arc::new(ChatTemplate::own(engine.tokenizer()).unwrap());
    let mut chat = Chat::of_snapshot(&Snapshot::of(&session), &engine, &template).unwrap();
    ask(&mut chat, &mut reader, "Was it?");
    assert!(chat.session().position() > 12 + 7);
    chat.back(&mut reader, 0).unwrap();
    assert_eq!(chat.session().position(), 12);
}

/// A turn that was read again was read without the text that the conversation had begun with.
#[test]
fn what_is_read_again_follows_what_the_conversation_began_with() {
    let engine = engine(Preset::LonghandNano);
    let mut reader = engine.reader(&cpu());
    let mut text = engine.session(SamplerSettings::default()).unwrap();
    text.read_text(&mut reader, "It was dark.").unwrap();
    let template = Arc::new(ChatTemplate::own(engine.tokenizer()).unwrap());
    let mut chat = Chat::of_snapshot(&Snapshot::of(&text), &engine, &template).unwrap();
    ask(&mut chat, &mut reader, "Was it?");
    ask(&mut chat, &mut reader, "Why?");
    let (said, answer) = (&chat.messages()[..1], &chat.messages()[1].content);
    let first_turn = |mut session: Session, reader: &mut Reader| {
        let said = template.render(said, true).unwrap().encode(engine.tokenizer()).unwrap();
        session.read(reader, &said.ids).unwrap();
        session.read_text(reader, answer).unwrap();
        session
    };
    let after_first = first_turn(text.clone(), &mut reader);
    let mut told = chat.clone();
    told.kept.clear();
    let file = Snapshot::from_bytes(&chat.snapshot().to_bytes()).unwrap();
    let loaded = Chat::of_snapshot(&file, &engine, &template).unwrap();
    assert_eq!(loaded.snapshot(), file);
    for mut chat in [told, loaded] {
        for (turns, expected) in [(1, &after_first), (0, &text)] {
            assert_eq!(chat.back(&mut reader, turns).unwrap(), WayBack::ReadAgain);
            assert_eq!(chat.session().state().to_tensors(), expected.state().to_tensors());
        }
        // Without turns, the session is the beginning.
        assert!(chat.snapshot().beginning.is_none());
    }
    // An older file does not hold the beginning, and going back says so once.
    let mut older = file;
    older.beginning = None;
    older.conversation =
        older.conversation.map(|turns| turns.replace("\"version\":2", "\"version\":1"));
    let mut old = Chat::of_snapshot(&older, &engine, &template).unwrap();
    assert_eq!(old.snapshot(), older);
    assert_eq!(old.back(&mut reader, 1).unwrap(), WayBack::ReadWithoutBeginning);
    let nothing = engine.session(SamplerSettings::default()).unwrap();
    let alone = first_turn(nothing, &mut reader);
    assert_eq!(old.session().state().to_tensors(), alone.state().to_tensors());
    assert_eq!(old.back(&mut reader, 0).unwrap(), WayBack::ReadAgain);
    assert_eq!(old.session().position(), 0);
}

#[test]
fn what_each_memory_gave_is_measured_after_all_that_was_read() {
    let engine = engine(Preset::LonghandNano);
    let mut reader = engine.reader(&cpu());
    let mut chat = begin(&engine);
    assert_eq!(chat.contribution(&cpu()).unwrap(), None);
    ask(&mut chat, &mut reader, "One");
    ask(&mut chat, &mut reader, "Two");
    let given = chat.contribution(&cpu()).unwrap().unwrap();
    let kept = chat.kept.back().unwrap();
    assert_eq!(given.tokens, kept.read.len() - kept.prompt);
    let mut losses = Vec::new();
    let all: Vec<u32> = chat.kept.iter().flat_map(|kept| kept.read.clone()).collect();
    let mut session = engine.session(SamplerSettings::default()).unwrap();
    session.score(&mut reader, &all, |_, loss| losses.push(loss.unwrap_or(0.0))).unwrap();
    let last = &losses[losses.len() - given.tokens..];
    let mean = last.iter().sum::<f32>() / given.tokens as f32;
    assert!((given.losses.loss - mean).abs() < 1e-4, "{given:?} {mean}");
    assert_ne!(given.losses.without_working, given.losses.loss);
    assert_ne!(given.losses.without_long, given.losses.loss);
}
