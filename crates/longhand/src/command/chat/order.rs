//! What a line asks for.

use std::path::PathBuf;

/// A line of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// A turn of the user.
    Say(String),
    Save(Option<PathBuf>),
    Load(PathBuf),
    Fork(Option<String>),
    Switch(String),
    /// The number of turns that stay; all but the last one where not given.
    Back(Option<usize>),
    Show,
    System(String),
    /// Rules of a file; none where not given.
    Rules(Option<PathBuf>),
    Help,
    Quit,
}

/// The commands with what they do.
pub(super) const COMMANDS: [(&str, &str); 10] = [
    ("/save [FILE]", "keep the conversation in a file, or in the file it has"),
    ("/load FILE", "go on with another conversation; this one is left"),
    ("/fork [NAME]", "go on in a copy of this branch; without a name, list the branches"),
    ("/switch NAME", "go on in another branch"),
    ("/back [TURN]", "go back to the end of that turn, or to before the last one"),
    ("/show", "tell the size of the state, and what each memory gave to the last answer"),
    ("/system TEXT", "give the model instructions, which it reads before your next turn"),
    ("/rules FILE", "answer only what matches a file, as generate --rules; /rules off: anything"),
    ("/help", "list the commands"),
    ("/quit", "end the conversation"),
];

impl Order {
    /// Reads a line; the error is one sentence.
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        let text = line.trim();
        if let Some(escaped) = text.strip_prefix("//") {
            return Ok(Self::Say(format!("/{escaped}")));
        }
        if !text.starts_with('/') {
            return Ok(Self::Say(text.to_owned()));
        }
        let (command, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = Some(rest.trim()).filter(|rest| !rest.is_empty());
        let needed = |what: &str| rest.ok_or_else(|| format!("{command} needs {what} behind it"));
        let bare = |order: Self| match rest {
            None => Ok(order),
            Some(_) => Err(format!("{command} takes nothing behind it")),
        };
        match command {
            "/save" => Ok(Self::Save(rest.map(PathBuf::from))),
            "/load" => Ok(Self::Load(needed("a file")?.into())),
            "/fork" => Ok(Self::Fork(rest.map(name).transpose()?)),
            "/switch" => Ok(Self::Switch(name(needed("the name of a branch")?)?)),
            "/back" => match rest.map(str::parse) {
                None => Ok(Self::Back(None)),
                Some(Ok(turn)) => Ok(Self::Back(Some(turn))),
                Some(Err(_)) => {
                    Err("/back takes the number of a turn, or 0 for the beginning".into())
                }
            },
            "/system" => Ok(Self::System(needed("the instructions")?.to_owned())),
            "/rules" => match needed("a file, or off,")? {
                "off" => Ok(Self::Rules(None)),
                file => Ok(Self::Rules(Some(file.into()))),
            },
            "/show" => bare(Self::Show),
            "/help" => bare(Self::Help),
            "/quit" => bare(Self::Quit),
            _ => Err(format!(
                "there is no command {}: /help lists them, and // begins a turn with a /",
                command.chars().take(40).collect::<String>()
            )),
        }
    }
}

/// The name of a branch.
fn name(text: &str) -> Result<String, String> {
    match text.contains(char::is_whitespace) || text.chars().count() > 40 {
        true => Err("the name of a branch is one word of at most 40 characters".into()),
        false => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_turns_or_commands() {
        for (line, order) in [
            (" Hi there ", Order::Say("Hi there".into())),
            ("//etc is a folder", Order::Say("/etc is a folder".into())),
            ("/save", Order::Save(None)),
            ("/save a b.safetensors", Order::Save(Some("a b.safetensors".into()))),
            ("/load  x", Order::Load("x".into())),
            ("/fork", Order::Fork(None)),
            ("/fork other", Order::Fork(Some("other".into()))),
            ("/switch main", Order::Switch("main".into())),
            ("/back", Order::Back(None)),
            ("/back 3", Order::Back(Some(3))),
            ("/system Be brief.\nAlways.", Order::System("Be brief.\nAlways.".into())),
            ("/rules off", Order::Rules(None)),
            ("/rules a.json", Order::Rules(Some("a.json".into()))),
            ("/quit ", Order::Quit),
        ] {
            assert_eq!(Order::parse(line), Ok(order), "{line}");
        }
        for (line, words) in [
            ("/load", "/load needs a file behind it"),
            ("/switch", "/switch needs the name of a branch"),
            ("/system", "/system needs the instructions"),
            ("/rules", "/rules needs a file, or off"),
            ("/back x", "/back takes the number of a turn"),
            ("/back -1", "/back takes the number of a turn"),
            ("/fork a b", "the name of a branch is one word"),
            ("/show all", "/show takes nothing behind it"),
            ("/quiet", "there is no command /quiet: /help lists them"),
        ] {
            let error = Order::parse(line).unwrap_err();
            assert!(error.starts_with(words), "{line}: {error}");
        }
    }

    #[test]
    fn every_command_that_is_listed_is_known() {
        for (form, _) in COMMANDS {
            let line = form.replace(['[', ']'], "").replace("TURN", "1");
            assert!(!matches!(Order::parse(&line), Err(_) | Ok(Order::Say(_))), "{form}");
        }
    }
}
