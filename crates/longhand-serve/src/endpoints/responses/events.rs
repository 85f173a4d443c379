//! The events of a response that is streamed.

use schemars::JsonSchema;
use serde::Serialize;

use super::object::ResponseObject;
use crate::items::{Item, ItemPart};
use crate::log_probabilities::ChatLogProbability;
use crate::sse::{Gone, Writer};

/// An event with its number.
#[derive(Serialize, JsonSchema)]
pub(crate) struct NumberedEvent<'a> {
    /// The number of the event, counted from 0.
    sequence_number: u64,
    /// What happened to the response.
    #[serde(flatten)]
    event: &'a ResponseEvent,
}

/// What happened to a response.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "type")]
pub(crate) enum ResponseEvent {
    /// It began, and nothing is written yet.
    #[serde(rename = "response.created")]
    Created {
        /// The response so far.
        response: Box<ResponseObject>,
    },
    /// It is being written.
    #[serde(rename = "response.in_progress")]
    InProgress {
        /// The response so far.
        response: Box<ResponseObject>,
    },
    /// A message begins, without any part.
    #[serde(rename = "response.output_item.added")]
    ItemAdded {
        /// Its place in the list, counted from 0.
        output_index: usize,
        /// The message so far.
        item: Item,
    },
    /// A part of a message begins.
    #[serde(rename = "response.content_part.added")]
    PartAdded {
        /// The name of the message.
        item_id: String,
        /// Its place in the list, counted from 0.
        output_index: usize,
        /// The place of the part.
        content_index: usize,
        /// The part so far.
        part: ItemPart,
    },
    /// More text behind what was given.
    #[serde(rename = "response.output_text.delta")]
    TextDelta {
        /// The name of the message.
        item_id: String,
        /// Its place in the list, counted from 0.
        output_index: usize,
        /// The place of the part.
        content_index: usize,
        /// The text that follows what was given.
        delta: String,
        /// Log-probabilities of its tokens, where they were asked for.
        logprobs: Vec<ChatLogProbability>,
    },
    /// The text is whole.
    #[serde(rename = "response.output_text.done")]
    TextDone {
        /// The name of the message.
        item_id: String,
        /// Its place in the list, counted from 0.
        output_index: usize,
        /// The place of the part.
        content_index: usize,
        /// All of the text.
        text: String,
        /// Log-probabilities of its tokens, where they were asked for.
        logprobs: Vec<ChatLogProbability>,
    },
    /// The part is whole.
    #[serde(rename = "response.content_part.done")]
    PartDone {
        /// The name of the message.
        item_id: String,
        /// Its place in the list, counted from 0.
        output_index: usize,
        /// The place of the part.
        content_index: usize,
        /// The part of the message, as a whole.
        part: ItemPart,
    },
    /// The message is whole.
    #[serde(rename = "response.output_item.done")]
    ItemDone {
        /// Its place in the list, counted from 0.
        output_index: usize,
        /// The message as it is now.
        item: Item,
    },
    /// The response is whole.
    #[serde(rename = "response.completed")]
    Completed {
        /// The response as it is now.
        response: Box<ResponseObject>,
    },
    /// The response was broken off by its longest length.
    #[serde(rename = "response.incomplete")]
    Incomplete {
        /// The response as it is now.
        response: Box<ResponseObject>,
    },
    /// The response failed, and says why.
    #[serde(rename = "response.failed")]
    Failed {
        /// The response as it is now.
        response: Box<ResponseObject>,
    },
}

impl ResponseEvent {
    fn name(&self) -> &'static str {
        match self {
            Self::Created { .. } => "response.created",
            Self::InProgress { .. } => "response.in_progress",
            Self::ItemAdded { .. } => "response.output_item.added",
            Self::PartAdded { .. } => "response.content_part.added",
            Self::TextDelta { .. } => "response.output_text.delta",
            Self::TextDone { .. } => "response.output_text.done",
            Self::PartDone { .. } => "response.content_part.done",
            Self::ItemDone { .. } => "response.output_item.done",
            Self::Completed { .. } => "response.completed",
            Self::Incomplete { .. } => "response.incomplete",
            Self::Failed { .. } => "response.failed",
        }
    }
}

/// Writes events and counts them.
pub(super) struct Events {
    writer: Writer,
    next: u64,
}

impl Events {
    pub(super) fn new(writer: Writer) -> Self {
        Self { writer, next: 0 }
    }

    pub(super) fn writer(&self) -> &Writer {
        &self.writer
    }

    pub(super) async fn send(&mut self, event: ResponseEvent) -> Result<(), Gone> {
        let sequence_number = self.next;
        self.next += 1;
        let numbered = NumberedEvent { sequence_number, event: &event };
        self.writer.event(event.name(), &numbered).await
    }
}
