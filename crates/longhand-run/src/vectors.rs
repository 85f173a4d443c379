//! The word vectors that a task's embedding begins with.

use longhand_text::corpus::vectors::{VectorFile, WordVectors};
use longhand_text::{Tokenizer, TokenizerKind};

use crate::error::RunError;
use crate::recipe::{self, Recipe};
use crate::watch::{Preparation, Watch};

/// Reads the vectors of the recipe's file for the tokens of the tokeniser, if the recipe names one,
/// and writes the file's hash into the recipe. A run that is resumed needs the hash alone.
pub(crate) fn read(
    recipe: &mut Recipe,
    tokenizer: &Tokenizer,
    resumed: bool,
    watch: &mut dyn Watch,
) -> Result<Option<WordVectors>, RunError> {
    let width = recipe.model.config(tokenizer.vocab_size())?.width;
    let Some(vectors) = &mut recipe.model.vectors else { return Ok(None) };
    if recipe.model.base.is_some() {
        return Err(RunError::VectorsWithBase);
    }
    if !matches!(tokenizer.kind(), TokenizerKind::Word | TokenizerKind::Char) {
        return Err(RunError::VectorsOfWords(tokenizer.kind()));
    }
    let path = vectors.path.clone();
    let file = VectorFile::open(&path, recipe.data.lossy)?;
    if file.width() != width {
        return Err(RunError::VectorWidth { path, found: file.width(), width });
    }
    let hash = recipe::sha256(&path)?;
    if !vectors.sha256.is_empty() && !vectors.sha256.eq_ignore_ascii_case(&hash) {
        let expected = vectors.sha256.clone();
        return Err(RunError::OtherVectors { path, expected, got: hash });
    }
    vectors.sha256 = hash;
    if resumed {
        return Ok(None);
    }
    let words = (0..tokenizer.vocab_size() as u32).map_while(|id| tokenizer.token(id));
    let found = file.find(words)?;
    watch.prepare(&Preparation::Vectors {
        path: &path,
        found: found.found(),
        in_lower_case: found.found_in_lower_case(),
        vocabulary: tokenizer.vocab_size(),
    });
    Ok(Some(found))
}
