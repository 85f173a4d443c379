use std::path::PathBuf;

use crate::chat::ChatFault;
use crate::corpus::fault::{DialogueFault, LineFault, RowFault, StoryFault, VectorFault};
use crate::quote::{quoted, shortened};
use crate::shard::fault::ShardFault;
use crate::tokenizer::fault::{TokenizerFault, TrainingFault};

/// An error between a text and its ids. Each message is one sentence for the user.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// The operating system refused a file operation; the message of `fs_err` names the path.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A source named by the user does not exist.
    #[error("{} does not exist: check the path", .0.display())]
    Missing(PathBuf),
    /// A model folder that is not there.
    #[error("there is no folder {}", .0.display())]
    NoFolder(PathBuf),
    /// A model folder without its tokeniser.
    #[error(
        "{} is missing: a model folder holds it beside config.json and model.safetensors",
        .0.display()
    )]
    NoTokenizer(PathBuf),
    /// A source holds no text at all.
    #[error("{0} is empty: give a text with at least two tokens")]
    Empty(String),
    /// A file of examples holds none.
    #[error("{0} is empty: give at least one example")]
    NoExamples(String),
    /// The first words of lines are too many to be labels.
    #[error(
        "the {lines} lines of {name} begin with {words} different words, {once} of them only once, \
         which is too many for labels"
    )]
    NoLabelWords {
        /// The name of the source.
        name: String,
        /// The number of its lines.
        lines: usize,
        /// The number of different first words.
        words: usize,
        /// The number of words that one line alone begins with.
        once: usize,
    },
    /// Lines that were taken for `LABEL text` lines are a table, or may be one.
    #[error(
        "the lines of {0} were read as a label and a text each, but the first one has tabs, as the rows \
         of a table have"
    )]
    Tabbed(String),
    /// A folder holds no file.
    #[error("the folder {} holds no file to read", .0.display())]
    EmptyFolder(PathBuf),
    /// A folder where a file belongs.
    #[error("{} is a folder: name a file", .0.display())]
    Folder(PathBuf),
    /// A source is not text.
    #[error(
        "{name} is a binary file (byte 0 at offset {offset}): give UTF-8 text, .gz, .zst, \
         .jsonl, .csv, .tsv or .parquet"
    )]
    Binary {
        /// The name of the source.
        name: String,
        /// Offset of the first zero byte, in the decompressed text.
        offset: u64,
    },
    /// A source is UTF-16.
    #[error("{0} is UTF-16 text: convert it to UTF-8, for example with `iconv -f UTF-16 -t UTF-8`")]
    Utf16(String),
    /// A source is not UTF-8.
    #[error("{name} is not valid UTF-8 at byte offset {offset}")]
    InvalidUtf8 {
        /// The name of the source.
        name: String,
        /// Offset of the first invalid byte, in the decompressed text.
        offset: u64,
    },
    /// A compressed source is damaged.
    #[error("{name} could not be decompressed: {reason}")]
    Compression {
        /// The name of the source.
        name: String,
        /// The words of the decompressor.
        reason: String,
    },
    /// A row of a table cannot be read.
    #[error("{name}, row {row}: {fault}")]
    Row {
        /// The name of the table.
        name: String,
        /// The row, counted from 1; a header counts.
        row: u64,
        /// Why it cannot be read.
        fault: RowFault,
    },
    /// A line of a CoNLL file cannot be read.
    #[error("{name}, line {line}: {fault}")]
    Line {
        /// The name of the file.
        name: String,
        /// The line, counted from 1.
        line: u64,
        /// Why it cannot be read.
        fault: LineFault,
    },
    /// A line of a file of word vectors cannot be read.
    #[error("{name}, line {line}: {fault}")]
    Vector {
        /// The name of the file.
        name: String,
        /// The line, counted from 1.
        line: u64,
        /// Why it cannot be read.
        fault: VectorFault,
    },
    /// A file of word vectors without any that is wanted.
    #[error(
        "{0} has no vector of a word that is looked for: give vectors of the text's language, a \
         word and its numbers in each line"
    )]
    NoVector(String),
    /// A file of questions has another form.
    #[error("{name}, line {line}, column {column}: {}", shortened(reason))]
    Questions {
        /// The name of the file.
        name: String,
        /// The line, counted from 1.
        line: u64,
        /// The column in the line, counted from 1; 0 where the line has not begun.
        column: usize,
        /// The words of the JSON reader.
        reason: String,
    },
    /// A file of questions without any.
    #[error(
        "{0} holds no question: give SQuAD's JSON, or lines of JSON with a context and a question \
         each"
    )]
    NoQuestion(String),
    /// A line of a file of dialogues cannot be read.
    #[error("{name}, line {line}: {fault}")]
    Dialogue {
        /// The name of the file.
        name: String,
        /// The line, counted from 1.
        line: u64,
        /// Why it cannot be read.
        fault: DialogueFault,
    },
    /// A file of dialogues without any.
    #[error(
        "{0} holds no dialogue: give lines of JSON with `messages`, or DailyDialog's lines with \
         __eou__"
    )]
    NoDialogue(String),
    /// A chat template cannot be used.
    #[error("{name}: {fault}")]
    Chat {
        /// The name of the file that holds the template.
        name: String,
        /// Why it cannot be used.
        fault: ChatFault,
    },
    /// One of two parallel files has more lines.
    #[error(
        "line {line} of {longer} has no partner, as {shorter} has {} line(s): give files of as many \
         lines",
        line - 1
    )]
    Unequal {
        /// The name of the file with more lines.
        longer: String,
        /// The name of the file with fewer lines.
        shorter: String,
        /// The first line without a partner, counted from 1.
        line: u64,
    },
    /// A line of a story cannot be read.
    #[error("{name}, line {line}: {fault}")]
    Story {
        /// The name of the file.
        name: String,
        /// The line, counted from 1.
        line: u64,
        /// Why it cannot be read.
        fault: StoryFault,
    },
    /// A file of stories without a question.
    #[error(
        "{0} holds no question: give stories in the form of bAbI, a question with a tab before its \
         answer"
    )]
    NoStory(String),
    /// A column that is to be appended is there already.
    #[error("{name} has a column {} already: give the new one another name", quoted(column))]
    ColumnTaken {
        /// The name of the table, or of its row.
        name: String,
        /// The name of the column.
        column: String,
    },
    /// The text and the label would be the same.
    #[error("{name}: the text and the label are both column {column}: name two columns")]
    SameColumn {
        /// The name of the table.
        name: String,
        /// The column that was named twice.
        column: String,
    },
    /// Two of the two texts and the label would be the same.
    #[error(
        "{name}: the two texts and the label need a column each, but column {column} is named twice"
    )]
    SameColumns {
        /// The name of the table.
        name: String,
        /// The column that was named twice.
        column: String,
    },
    /// A column was asked for that the table lacks.
    #[error("{name} has no column {column}: its columns are {found}; name one of them")]
    Column {
        /// The name of the table.
        name: String,
        /// The column that was asked for.
        column: String,
        /// The columns that the table has.
        found: String,
    },
    /// A table as a whole cannot be read.
    #[error("{name} cannot be read as a table: {reason}")]
    Table {
        /// The name of the table.
        name: String,
        /// Why it cannot be read.
        reason: String,
    },
    /// Too few tokens to predict anything.
    #[error("the text has {tokens} token(s), but at least 2 are needed: give a longer text")]
    TooShort {
        /// The number of tokens.
        tokens: u64,
    },
    /// Too few tokens for one batch.
    #[error(
        "the text has {tokens} tokens, but one batch of {batch} streams of {time} tokens needs \
         {needed}: give more text, or a smaller batch or chunk"
    )]
    ShorterThanBatch {
        /// The number of tokens.
        tokens: u64,
        /// Tokens one batch needs.
        needed: u64,
        /// Streams in a batch.
        batch: usize,
        /// Tokens in a chunk.
        time: usize,
    },
    /// Too little text to hold a part of it out.
    #[error("{name} has {characters} character(s), too few to hold out {fraction} of them")]
    TooShortToSplit {
        /// Name of the text.
        name: String,
        /// Number of its characters.
        characters: u64,
        /// The share to hold out.
        fraction: f64,
    },
    /// A size or fraction is out of its range.
    #[error("{what} is {value}, but must be {allowed}")]
    Setting {
        /// The name of the setting.
        what: &'static str,
        /// The value that was given.
        value: String,
        /// The values that are allowed.
        allowed: &'static str,
    },
    /// A tokeniser file cannot be used.
    #[error("{name} is not a usable tokenizer.json: {fault}")]
    TokenizerFile {
        /// The name of the file.
        name: String,
        /// The fault of the file.
        fault: TokenizerFault,
    },
    /// A tokeniser could not be trained.
    #[error("the {kind} tokeniser could not be trained: {fault}")]
    Training {
        /// The kind of tokeniser.
        kind: &'static str,
        /// Why it could not be trained.
        fault: TrainingFault,
    },
    /// The tokeniser failed on a text.
    #[error("the tokeniser failed on a text: {0}")]
    Encode(#[source] tokenizers::Error),
    /// An id outside of the vocabulary.
    #[error("the token id {id} is out of range: the vocabulary has {vocabulary} tokens")]
    TokenId {
        /// The id that was given.
        id: u32,
        /// Size of the vocabulary.
        vocabulary: usize,
    },
    /// A token shard that cannot be trusted.
    #[error("{name} is not a usable token shard: {fault}; delete it to have it made anew")]
    Shard {
        /// The name of the shard.
        name: String,
        /// Why it cannot be trusted.
        fault: ShardFault,
    },
    /// A range outside of the tokens.
    #[error("the tokens {start}..{end} were asked for, but there are {tokens}")]
    TokenRange {
        /// First token asked for.
        start: u64,
        /// One past the last token asked for.
        end: u64,
        /// The number of tokens.
        tokens: u64,
    },
    /// A saved position does not fit the data.
    #[error("the saved data position ({position}) does not fit this data: {reason}")]
    Position {
        /// The position that was saved.
        position: String,
        /// Why it does not fit.
        reason: String,
    },
    /// A label that training did not know.
    #[error("the label {} is unknown: known labels are {}", quoted(label), shortened(known))]
    Label {
        /// The label that was given.
        label: String,
        /// The labels there are.
        known: String,
    },
}
