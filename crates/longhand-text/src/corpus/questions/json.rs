//! The two forms of JSON that hold questions.

use std::io::{self, Write};
use std::sync::Arc;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use super::{Article, KnownAnswer, Paragraph, Question, Repairs};
use crate::error::TextError;

/// A file in SQuAD's form.
#[derive(Deserialize)]
struct File {
    data: Vec<FileArticle>,
}

#[derive(Deserialize)]
struct FileArticle {
    #[serde(default)]
    title: String,
    paragraphs: Vec<FileParagraph>,
}

#[derive(Deserialize)]
struct FileParagraph {
    context: String,
    qas: Vec<FileQuestion>,
}

#[derive(Deserialize)]
struct FileQuestion {
    id: Option<Id>,
    question: String,
    answers: Option<Vec<FileAnswer>>,
    #[serde(default)]
    is_impossible: bool,
}

/// A line that holds one question.
#[derive(Deserialize)]
struct Line {
    id: Option<Id>,
    context: String,
    question: String,
    #[serde(alias = "answer")]
    answers: Option<LineAnswers>,
    #[serde(default)]
    is_impossible: bool,
}

/// The forms of a line's answers.
#[derive(Deserialize)]
#[serde(untagged)]
enum LineAnswers {
    Text(String),
    Texts(Vec<String>),
    List(Vec<FileAnswer>),
    Columns {
        text: Vec<String>,
        #[serde(default)]
        answer_start: Vec<f64>,
    },
}

#[derive(Deserialize)]
struct FileAnswer {
    text: String,
    /// Any number: one outside the text is found to be so later.
    answer_start: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Text(String),
    Number(serde_json::Number),
}

/// The keys that tell a line from a file.
#[derive(Deserialize)]
struct Probe {
    question: Option<IgnoredAny>,
    context: Option<IgnoredAny>,
}

/// The articles of a text in either form.
pub(super) fn articles(
    name: &str,
    text: &str,
    repairs: &mut Repairs,
) -> Result<Vec<Article>, TextError> {
    let mut reading = Reading { count: 0, repairs };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let Some(first) = text.lines().find(|line| !line.trim().is_empty()) else {
        return Ok(Vec::new());
    };
    let is_line = serde_json::from_str::<Probe>(first)
        .is_ok_and(|Probe { question, context }| question.is_some() || context.is_some());
    if !is_line {
        let File { data } = parsed(name, 0, text)?;
        return Ok(data.into_iter().map(|article| reading.article(article)).collect());
    }
    let mut paragraphs: Vec<Paragraph> = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let (context, question) = reading.line(parsed(name, number, line)?);
        // Neighbouring lines about one text share it.
        match paragraphs.last_mut().filter(|last| *last.context == *context) {
            Some(last) => last.questions.push(question),
            None => {
                paragraphs.push(Paragraph { context: context.into(), questions: vec![question] });
            }
        }
    }
    Ok(vec![Article::untitled(paragraphs)])
}

fn parsed<T: DeserializeOwned>(name: &str, lines: usize, text: &str) -> Result<T, TextError> {
    serde_json::from_str(text).map_err(|error| {
        let words = error.to_string();
        TextError::Questions {
            name: name.to_owned(),
            line: (lines + error.line()) as u64,
            column: error.column(),
            reason: words.split(" at line ").next().unwrap_or_default().to_owned(),
        }
    })
}

/// A file that is read.
struct Reading<'a> {
    /// Questions so far.
    count: usize,
    repairs: &'a mut Repairs,
}

impl Reading<'_> {
    fn article(&mut self, article: FileArticle) -> Article {
        let FileArticle { title, paragraphs } = article;
        let paragraphs = paragraphs.into_iter().map(|paragraph| {
            let FileParagraph { context, qas } = paragraph;
            let context: Arc<str> = context.into();
            let questions = qas.into_iter().map(|question| {
                let FileQuestion { id, question, answers, is_impossible } = question;
                let answers = answers.unwrap_or_default().into_iter();
                let answers = answers.map(|answer| (answer.text, answer.answer_start)).collect();
                let id = self.id(id);
                let answers = self.answers(&context, answers);
                Question { id, text: question, answers, is_impossible }
            });
            let questions = questions.collect();
            Paragraph { context, questions }
        });
        Article { title, paragraphs: paragraphs.collect() }
    }

    fn line(&mut self, line: Line) -> (String, Question) {
        let Line { id, context, question, answers, is_impossible } = line;
        let answers: Vec<(String, Option<f64>)> = match answers {
            None => Vec::new(),
            Some(LineAnswers::Text(text)) => vec![(text, None)],
            Some(LineAnswers::Texts(texts)) => texts.into_iter().map(|text| (text, None)).collect(),
            Some(LineAnswers::List(list)) => {
                list.into_iter().map(|answer| (answer.text, answer.answer_start)).collect()
            }
            Some(LineAnswers::Columns { text, answer_start }) => {
                let starts = answer_start.into_iter().map(Some).chain(std::iter::repeat(None));
                text.into_iter().zip(starts).collect()
            }
        };
        let id = self.id(id);
        let answers = self.answers(&context, answers);
        (context, Question { id, text: question, answers, is_impossible })
    }

    fn id(&mut self, id: Option<Id>) -> String {
        self.count += 1;
        match id {
            Some(Id::Text(id)) => id,
            Some(Id::Number(id)) => id.to_string(),
            None => self.count.to_string(),
        }
    }

    fn answers(&mut self, context: &str, answers: Vec<(String, Option<f64>)>) -> Vec<KnownAnswer> {
        let find = |(text, start): (String, Option<f64>)| {
            // A number too large is outside the text all the same.
            KnownAnswer::find(context, text, start.map(|start| start as i64), self.repairs)
        };
        answers.into_iter().filter_map(find).collect()
    }
}

/// A file in SQuAD's form, to be written.
#[derive(Serialize)]
struct Written<'a> {
    version: &'static str,
    data: Vec<WrittenArticle<'a>>,
}

#[derive(Serialize)]
struct WrittenArticle<'a> {
    title: &'a str,
    paragraphs: Vec<WrittenParagraph<'a>>,
}

#[derive(Serialize)]
struct WrittenParagraph<'a> {
    context: &'a str,
    qas: Vec<WrittenQuestion<'a>>,
}

#[derive(Serialize)]
struct WrittenQuestion<'a> {
    id: &'a str,
    question: &'a str,
    answers: Vec<WrittenAnswer<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_impossible: Option<bool>,
}

#[derive(Serialize)]
struct WrittenAnswer<'a> {
    text: &'a str,
    answer_start: i64,
}

/// Writes articles in SQuAD's form.
pub(super) fn write(articles: &[Article], out: &mut dyn Write) -> io::Result<()> {
    let paragraphs = || articles.iter().flat_map(|article| &article.paragraphs);
    let mut questions = paragraphs().flat_map(|paragraph| &paragraph.questions);
    let second = questions.any(|question| question.is_impossible);
    let answer = |answer: &'_ KnownAnswer| -> i64 {
        answer.place.as_ref().map_or(-1, |place| place.characters.start as i64)
    };
    let mut data = Vec::new();
    for Article { title, paragraphs } in articles {
        let mut written = Vec::new();
        for Paragraph { context, questions } in paragraphs {
            let qas = questions.iter().map(|question| WrittenQuestion {
                id: &question.id,
                question: &question.text,
                answers: (question.answers.iter())
                    .map(|known| WrittenAnswer { text: &known.text, answer_start: answer(known) })
                    .collect(),
                is_impossible: second.then_some(question.is_impossible),
            });
            written.push(WrittenParagraph { context, qas: qas.collect() });
        }
        data.push(WrittenArticle { title, paragraphs: written });
    }
    let version = if second { "v2.0" } else { "1.1" };
    serde_json::to_writer(&mut *out, &Written { version, data })?;
    writeln!(out)
}
