//! One JSON object per line, for programs that read along.

use std::io::Write;

use serde::Serialize;

use super::LogError;

/// Writes one JSON object per line and flushes after each, so that a reader at the other end of
/// a pipe sees every line at once.
#[derive(Debug)]
pub struct JsonLines<W> {
    writer: W,
}

impl<W: Write> JsonLines<W> {
    /// A log that goes to `writer`: a file, a pipe, standard output.
    pub fn new(writer: W) -> Self {
        Self { writer }
    }

    /// Writes `object` as one line. A number that is not finite becomes `null`.
    ///
    /// # Errors
    /// [`LogError::Json`] or [`LogError::NotAnObject`] if `object` has no such form, in which case
    /// nothing is written; [`LogError::Write`] if the writer fails.
    pub fn write(&mut self, object: &impl Serialize) -> Result<(), LogError> {
        let mut line = serde_json::to_vec(object)?;
        if line.first() != Some(&b'{') {
            return Err(LogError::NotAnObject(String::from_utf8_lossy(&line).into_owned()));
        }
        line.push(b'\n');
        self.writer.write_all(&line)?;
        self.writer.flush()?;
        Ok(())
    }

    /// The writer, for whoever needs it back.
    pub fn into_inner(self) -> W {
        self.writer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Progress<'a> {
        step: u64,
        loss: f32,
        note: &'a str,
    }

    #[test]
    fn every_entry_is_one_line_and_one_object() {
        let mut log = JsonLines::new(Vec::new());
        log.write(&Progress { step: 1, loss: 0.5, note: "two\nlines" }).unwrap();
        log.write(&Progress { step: 2, loss: f32::NAN, note: "" }).unwrap();
        let text = String::from_utf8(log.into_inner()).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["note"], "two\nlines");
        assert!(lines[1]["loss"].is_null());
    }

    #[test]
    fn what_is_not_an_object_is_refused_and_leaves_no_trace() {
        let mut log = JsonLines::new(Vec::new());
        let error = log.write(&[1, 2]).unwrap_err();
        assert!(error.to_string().contains("`[1,2]` is not a JSON object"));
        assert!(log.into_inner().is_empty());
    }
}
