//! N-best lists as files hold them.

use std::collections::HashMap;
use std::io::{self, Write};

use serde_json::{Map, Value, json};

use crate::error::NbestError;
use crate::weights::Weights;

/// The lists of a file, with the features of their hypotheses.
#[derive(Clone, Debug, PartialEq)]
pub struct Lists {
    /// Names; each hypothesis has its values in the same order.
    features: Vec<String>,
    /// How many features were read; those behind them were added.
    read: usize,
    lists: Vec<List>,
}

/// The hypotheses for one input, best first as they came.
#[derive(Clone, Debug, PartialEq)]
pub struct List {
    id: String,
    hypotheses: Vec<Hypothesis>,
    /// The object of a list that is one line of JSON, and the key of its hypotheses.
    frame: Option<(Map<String, Value>, &'static str)>,
}

/// One hypothesis.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    text: String,
    /// By feature; those behind the last one are 0.
    values: Vec<f64>,
    origin: Origin,
}

/// What else stood beside a hypothesis.
#[derive(Clone, Debug, PartialEq)]
enum Origin {
    /// The features as they are written, and fields behind the score.
    Moses {
        features: String,
        rest: Vec<String>,
    },
    Json(Map<String, Value>),
}

/// The separator of fields in the format of Moses.
const SEPARATOR: &str = "|||";
/// The feature that is the log-probability of a text, in nats.
pub const LOG_PROBABILITY: &str = "logprob";
/// The key of JSON that a hypothesis' log-probability has.
const LOG_PROBABILITY_KEY: &str = "log_probability";
/// The feature that the total of the program is which made the lists.
const SCORE: &str = "score";
/// Keys of JSON that a hypothesis' text has, the first one that is there.
const TEXTS: [&str; 4] = ["text", "hypothesis", "output", "answer"];
/// Keys of JSON that a list's hypotheses have.
const HYPOTHESES: [&str; 2] = ["nbest", "hypotheses"];

/// A text as a field of Moses' format, which allows neither its separator nor line breaks in one: `|||`
/// becomes `| | |`, and a line break a space.
pub fn field(text: &str) -> String {
    let mut text = text.replace(['\n', '\r'], " ");
    // A longer run has a further separator behind the one that was parted.
    while text.contains(SEPARATOR) {
        text = text.replace(SEPARATOR, "| | |");
    }
    text
}

impl Lists {
    /// Reads lists; `name` is for messages. A line is one hypothesis in the format of Moses,
    /// `id ||| text ||| features ||| score`, of which features and score may be missing and more fields
    /// may follow; or a JSON object with `id`, `text` and perhaps `score`, `log_probability` (the feature
    /// [`LOG_PROBABILITY`]) and `features`; or a JSON object with a whole list in `nbest` or `hypotheses`,
    /// whose id is its place, from 0, unless it has one. Hypotheses with one id are one list. Empty lines
    /// are passed over.
    ///
    /// # Errors
    /// A line without an id or a text, a number that is none, a file without a hypothesis.
    pub fn parse(text: &str, name: &str) -> Result<Self, NbestError> {
        let mut reading = Reading { name, line: 0, places: HashMap::new(), by_id: HashMap::new() };
        let mut lists = Self { features: Vec::new(), read: 0, lists: Vec::new() };
        for (line, text) in (1..).zip(text.lines()) {
            reading.line = line;
            let text = text.trim_end_matches('\r');
            if text.trim().is_empty() {
                continue;
            }
            match text.trim_start().starts_with('{') {
                true => reading.json(text, &mut lists)?,
                false => reading.moses(text, &mut lists)?,
            }
        }
        if lists.lists.is_empty() {
            return Err(NbestError::Empty(name.to_owned()));
        }
        lists.read = lists.features.len();
        Ok(lists)
    }

    /// The names of the features: `score`, the total that was read, if there is one, those that were
    /// read beside it, and those that were added.
    pub fn features(&self) -> &[String] {
        &self.features
    }

    /// The lists in their order.
    pub fn lists(&self) -> &[List] {
        &self.lists
    }

    /// The text of every hypothesis, list after list.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.lists.iter().flat_map(|list| list.hypotheses.iter().map(|one| one.text.as_str()))
    }

    /// Checks that a feature of that name can be added, before its values are found.
    ///
    /// # Errors
    /// [`NbestError::Taken`] if there is a feature of that name.
    pub fn check_free(&self, name: &str) -> Result<(), NbestError> {
        match self.features.iter().any(|known| known == name) {
            true => Err(NbestError::Taken(name.to_owned())),
            false => Ok(()),
        }
    }

    /// Adds a feature, with a value for each hypothesis in the order of [`Lists::texts`].
    ///
    /// # Errors
    /// [`NbestError::Taken`] if there is a feature of that name, [`NbestError::Values`] if there are
    /// more or fewer values than hypotheses.
    pub fn add(&mut self, name: &str, values: Vec<f64>) -> Result<(), NbestError> {
        self.check_free(name)?;
        let (expected, got) = (self.texts().count(), values.len());
        if expected != got {
            return Err(NbestError::Values { expected, got });
        }
        let place = self.features.len();
        self.features.push(name.to_owned());
        let hypotheses = self.lists.iter_mut().flat_map(|list| &mut list.hypotheses);
        for (hypothesis, value) in hypotheses.zip(values) {
            hypothesis.put(place, value);
        }
        Ok(())
    }

    /// Divides the features that `is_divided` names by the number of words of the text and its end.
    pub fn per_word(&mut self, is_divided: impl Fn(&str) -> bool) {
        let places: Vec<usize> =
            (0..self.features.len()).filter(|&place| is_divided(&self.features[place])).collect();
        for hypothesis in self.lists.iter_mut().flat_map(|list| &mut list.hypotheses) {
            let words = hypothesis.text.split_whitespace().count() + 1;
            for &place in &places {
                hypothesis.put(place, hypothesis.value(place) / words as f64);
            }
        }
    }

    /// For each list the places of its hypotheses, the largest total first; equal ones stay in order.
    pub fn order(&self, weights: &Weights) -> Vec<Vec<usize>> {
        let order = self.lists.iter().map(|list| {
            let totals: Vec<f64> =
                list.hypotheses.iter().map(|one| weights.total(&one.values)).collect();
            let mut order: Vec<usize> = (0..totals.len()).collect();
            order.sort_by(|&a, &b| totals[b].total_cmp(&totals[a]));
            order
        });
        order.collect()
    }

    /// Writes the lists in the form in which they came, each in its `order`, with the added features
    /// behind the others and the new total as the score. JSON objects get the added features under
    /// their names and the total as `total`.
    ///
    /// # Errors
    /// If `out` cannot be written.
    pub fn write(
        &self,
        out: &mut dyn Write,
        weights: &Weights,
        order: &[Vec<usize>],
    ) -> io::Result<()> {
        for (list, order) in self.lists.iter().zip(order) {
            let mut objects = Vec::new();
            for hypothesis in order.iter().filter_map(|&place| list.hypotheses.get(place)) {
                let total = weights.total(&hypothesis.values);
                let added = (self.read..self.features.len())
                    .map(|place| (self.features[place].as_str(), hypothesis.value(place)));
                match &hypothesis.origin {
                    Origin::Moses { features, rest } => {
                        let mut fields = features.clone();
                        for (name, value) in added {
                            let space = if fields.is_empty() { "" } else { " " };
                            fields += &format!("{space}{name}= {value:.4}");
                        }
                        write!(
                            out,
                            "{} ||| {} ||| {fields} ||| {total:.4}",
                            list.id, hypothesis.text
                        )?;
                        rest.iter().try_for_each(|field| write!(out, " ||| {field}"))?;
                        writeln!(out)?;
                    }
                    Origin::Json(object) => {
                        let mut object = object.clone();
                        object.extend(added.map(|(name, value)| (name.to_owned(), json!(value))));
                        object.insert("total".to_owned(), json!(total));
                        objects.push(Value::Object(object));
                    }
                }
            }
            match &list.frame {
                Some((frame, key)) => {
                    let mut frame = frame.clone();
                    frame.insert((*key).to_owned(), Value::Array(objects));
                    writeln!(out, "{}", Value::Object(frame))?;
                }
                None => objects.iter().try_for_each(|object| writeln!(out, "{object}"))?,
            }
        }
        Ok(())
    }
}

impl List {
    /// The id as it was read.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The hypotheses in the order in which they came.
    pub fn hypotheses(&self) -> &[Hypothesis] {
        &self.hypotheses
    }

    /// The place of the hypothesis with the largest total, the first among equals.
    pub(crate) fn best(&self, total: impl Fn(&[f64]) -> f64) -> usize {
        let totals = self.hypotheses.iter().map(|one| total(&one.values)).enumerate();
        let best = totals.reduce(|best, next| if next.1 > best.1 { next } else { best });
        best.map_or(0, |(place, _)| place)
    }
}

impl Hypothesis {
    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The value of a feature by its place; 0 where it was not given.
    pub fn value(&self, place: usize) -> f64 {
        self.values.get(place).copied().unwrap_or(0.0)
    }

    /// The values by feature; those behind the last one are 0.
    pub(crate) fn values(&self) -> &[f64] {
        &self.values
    }

    fn put(&mut self, place: usize, value: f64) {
        if self.values.len() <= place {
            self.values.resize(place + 1, 0.0);
        }
        self.values[place] = value;
    }
}

/// What is known while lines are read.
struct Reading<'a> {
    name: &'a str,
    /// The line's number, from 1.
    line: usize,
    /// The place of each feature.
    places: HashMap<String, usize>,
    /// The place of each list.
    by_id: HashMap<String, usize>,
}

impl Reading<'_> {
    fn moses(&mut self, line: &str, lists: &mut Lists) -> Result<(), NbestError> {
        let mut fields = line.split(SEPARATOR).map(str::trim);
        let (id, text) = match (fields.next(), fields.next()) {
            (Some(id), Some(text)) if !id.is_empty() => (id, text),
            _ => return Err(NbestError::NoId { name: self.name.to_owned(), line: self.line }),
        };
        let features = fields.next().unwrap_or("").to_owned();
        let score = fields.next();
        let rest = fields.map(str::to_owned).collect();
        let mut values = Vec::new();
        if let Some(score) = score.filter(|score| !score.is_empty()) {
            values.push((SCORE.to_owned(), self.number(score)?));
        }
        let mut name = None;
        let mut count = 0;
        for word in features.split_whitespace() {
            // `name= 1 2`, `name=1` or a number alone.
            let value = match word.rsplit_once('=') {
                Some((given, value)) => {
                    (name, count) = (Some(given.to_owned()), 0);
                    value
                }
                None => word,
            };
            if value.is_empty() {
                continue;
            }
            let value = self.number(value)?;
            count += 1;
            let own = match (&name, count) {
                (None, _) => format!("f{count}"),
                (Some(name), 1) => name.clone(),
                (Some(name), _) => format!("{name}_{count}"),
            };
            values.push((own, value));
        }
        let origin = Origin::Moses { features, rest };
        let hypothesis = self.hypothesis(text, values, origin, lists);
        self.list(id, lists).hypotheses.push(hypothesis);
        Ok(())
    }

    fn json(&mut self, line: &str, lists: &mut Lists) -> Result<(), NbestError> {
        let (name, number) = (self.name.to_owned(), self.line);
        let object: Result<Map<String, Value>, _> = serde_json::from_str(line);
        let mut object = object.map_err(|error| NbestError::Json {
            name: name.clone(),
            line: number,
            reason: error.to_string(),
        })?;
        let id = match object.get("id") {
            Some(Value::String(id)) => Some(id.clone()),
            Some(Value::Number(id)) => Some(id.to_string()),
            _ => None,
        };
        let key = HYPOTHESES.into_iter().find(|key| object.get(*key).is_some_and(Value::is_array));
        let Some(key) = key else {
            let id = id.ok_or(NbestError::NoId { name, line: number })?;
            let hypothesis = self.of_object(object, lists)?;
            self.list(&id, lists).hypotheses.push(hypothesis);
            return Ok(());
        };
        let Some(Value::Array(items)) = object.get_mut(key).map(Value::take) else { return Ok(()) };
        let mut hypotheses = Vec::with_capacity(items.len());
        for item in items {
            let Value::Object(item) = item else {
                let what = "object for each hypothesis of its list";
                return Err(NbestError::Lacks { name, line: number, what });
            };
            hypotheses.push(self.of_object(item, lists)?);
        }
        if hypotheses.is_empty() {
            let what = "hypothesis in its list";
            return Err(NbestError::Lacks { name, line: number, what });
        }
        let id = id.unwrap_or_else(|| lists.lists.len().to_string());
        lists.lists.push(List { id, hypotheses, frame: Some((object, key)) });
        Ok(())
    }

    fn of_object(
        &mut self,
        object: Map<String, Value>,
        lists: &mut Lists,
    ) -> Result<Hypothesis, NbestError> {
        let text = TEXTS.into_iter().find_map(|key| object.get(key).and_then(Value::as_str));
        let Some(text) = text.map(str::to_owned) else {
            let (name, line, what) = (self.name.to_owned(), self.line, "text");
            return Err(NbestError::Lacks { name, line, what });
        };
        let mut values = Vec::new();
        let mut take = |name: &str, value: &Value| -> Result<(), NbestError> {
            let value = value.as_f64().ok_or_else(|| NbestError::Number {
                name: self.name.to_owned(),
                line: self.line,
                value: value.to_string(),
            })?;
            values.push((name.to_owned(), value));
            Ok(())
        };
        if let Some(score) = object.get(SCORE).filter(|score| !score.is_null()) {
            take(SCORE, score)?;
        }
        if let Some(value) = object.get(LOG_PROBABILITY_KEY).filter(|value| value.is_number()) {
            take(LOG_PROBABILITY, value)?;
        }
        if let Some(Value::Object(features)) = object.get("features") {
            features.iter().try_for_each(|(name, value)| take(name, value))?;
        }
        Ok(self.hypothesis(&text, values, Origin::Json(object), lists))
    }

    fn hypothesis(
        &mut self,
        text: &str,
        values: Vec<(String, f64)>,
        origin: Origin,
        lists: &mut Lists,
    ) -> Hypothesis {
        let mut hypothesis = Hypothesis { text: text.to_owned(), values: Vec::new(), origin };
        for (name, value) in values {
            let place = match self.places.get(&name) {
                Some(&place) => place,
                None => {
                    let place = lists.features.len();
                    lists.features.push(name.clone());
                    self.places.insert(name, place);
                    place
                }
            };
            hypothesis.put(place, value);
        }
        hypothesis
    }

    /// The list of an id, which may be a new one.
    fn list<'l>(&mut self, id: &str, lists: &'l mut Lists) -> &'l mut List {
        let place = match self.by_id.get(id) {
            Some(&place) => place,
            None => {
                let list = List { id: id.to_owned(), hypotheses: Vec::new(), frame: None };
                lists.lists.push(list);
                self.by_id.insert(id.to_owned(), lists.lists.len() - 1);
                lists.lists.len() - 1
            }
        };
        &mut lists.lists[place]
    }

    fn number(&self, text: &str) -> Result<f64, NbestError> {
        let number: Option<f64> = text.parse().ok();
        number.filter(|number| number.is_finite()).ok_or_else(|| NbestError::Number {
            name: self.name.to_owned(),
            line: self.line,
            value: text.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests;
