//! Which settings are allowed, each by itself and with the others.

use longhand_kernel::Precision;
use longhand_kernel::weights::{Format, MOST_INT8_COLUMNS};

use super::error::{BlockError, ConfigError};
use super::{
    BlockConfig, Cell, CharacterFilters, CharacterLstm, CharacterReader, Config, CrossAttention,
    Dropout, FORMAT, Filters, FinalNorm, Fusion, HeadConfig, HeadKind, Order, Positions, Stacks,
    WorkingMemory,
};

/// The largest value of any single size: far above what a machine can hold, and small enough that
/// no product of three overflows.
pub(super) const LARGEST: usize = 1 << 20;

/// The most positions that a filter of a convolution sees.
const WIDEST_FILTER: usize = 64;

/// The first part of the names of the second stack's parameters.
pub(crate) const BACKWARD: &str = "backward";

/// Names of the body's parameters, which no head may take.
const BODY: [&str; 6] = ["embedding", "features", "characters", "positions", "blocks", "norm"];

impl CharacterReader {
    /// The characters that have a vector, and the width of a vector.
    pub fn table(&self) -> [usize; 2] {
        match *self {
            Self::Convolution(CharacterFilters { vocabulary, width, .. })
            | Self::Lstm(CharacterLstm { vocabulary, width, .. }) => [vocabulary, width],
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let [vocabulary, width] = self.table();
        size("characters.vocabulary", vocabulary, 1, LARGEST)?;
        size("characters.width", width, 1, LARGEST)?;
        match *self {
            Self::Convolution(CharacterFilters { filters, kernel, .. }) => {
                size("characters.filters", filters, 1, LARGEST)?;
                size("characters.kernel", kernel, 1, WIDEST_FILTER)
            }
            Self::Lstm(CharacterLstm { hidden, .. }) => {
                size("characters.hidden", hidden, 1, LARGEST)
            }
        }
    }

    /// The largest number of columns of its matrices, or a little more.
    fn widest(&self) -> usize {
        match *self {
            Self::Convolution(CharacterFilters { width, filters, kernel, .. }) => {
                filters.max(kernel * width)
            }
            Self::Lstm(CharacterLstm { width, hidden, .. }) => width.max(2 * hidden),
        }
    }
}

impl Config {
    /// Checks every size, and every pair of settings that must agree.
    /// [`Model::check`](crate::Model::check) adds how large the model would be.
    ///
    /// # Errors
    /// [`ConfigError`] names the first setting that is refused.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.format != FORMAT {
            return Err(ConfigError::Format(self.format.into()));
        }
        size("vocab_size", self.vocab_size, 1, LARGEST)?;
        size("width", self.width, 1, LARGEST)?;
        size("the number of blocks", self.blocks.len(), 1, 1024)?;
        size("the number of heads", self.heads.len(), 1, 64)?;
        size("the number of features", self.features.len(), 0, 64)?;
        for (index, &rows) in self.features.iter().enumerate() {
            size(&format!("features[{index}]"), rows, 1, LARGEST)?;
        }
        if let Some(characters) = self.characters {
            characters.check()?;
        }
        if let Positions::Learned { count } = self.positions {
            size("positions.count", count, 1, LARGEST)?;
        }
        if let Some(inner) = self.adapters {
            size("adapters", inner, 1, LARGEST)?;
        }
        self.dropout.check()?;
        let mut width = self.width;
        for (index, block) in self.blocks.iter().enumerate() {
            width = block.check("", index, width)?;
        }
        self.check_encoder()?;
        self.check_stacks()?;
        self.check_heads()?;
        self.check_weights()?;
        self.check_kv_cache()?;
        self.check_dropout()
    }

    fn check_stacks(&self) -> Result<(), ConfigError> {
        if self.stacks == Stacks::Forward {
            return Ok(());
        }
        let named = |head: &HeadConfig| head.name == BACKWARD;
        let refused = [
            (!self.has_causal_blocks(), "blocks that read forward: leave out `bidirectional`"),
            (self.final_norm != FinalNorm::BeforeHeads, "`final_norm` before the heads"),
            (self.heads.iter().any(named), "heads of another name than `backward`"),
        ];
        match refused.into_iter().find(|(is_refused, _)| *is_refused) {
            Some((_, needs)) => Err(ConfigError::Bicausal(needs)),
            None => Ok(()),
        }
    }

    fn check_heads(&self) -> Result<(), ConfigError> {
        for (place, head) in self.heads.iter().enumerate() {
            head.check()?;
            if self.heads[..place].iter().any(|other| other.name == head.name) {
                return Err(ConfigError::SameHeadName(head.name.clone()));
            }
            let output = self.input_width(&head.kind);
            if head.kind.is_tied() && output != self.width {
                let (head, width) = (head.name.clone(), self.width);
                return Err(ConfigError::TiedWidth { head, width, output });
            }
            if matches!(head.kind, HeadKind::LanguageModel { .. }) && !self.has_causal_blocks() {
                return Err(ConfigError::SeesAhead(head.name.clone()));
            }
        }
        match (self.final_norm, &self.heads[..]) {
            (FinalNorm::BeforeHeads, _) => Ok(()),
            (FinalNorm::AfterPooling, [head]) if head.kind.pooling().is_some() => Ok(()),
            (FinalNorm::AfterPooling, _) => Err(ConfigError::FinalNorm),
        }
    }

    fn check_weights(&self) -> Result<(), ConfigError> {
        let widest = self.widest();
        if self.weights == Format::Int8 && widest > MOST_INT8_COLUMNS {
            return Err(ConfigError::Int8Width(widest));
        }
        Ok(())
    }

    /// The largest number of columns of any matrix, or a little more.
    fn widest(&self) -> usize {
        let mut widest = self.width.max(self.output_width()).max(self.adapters.unwrap_or(0));
        if let Some(characters) = self.characters {
            widest = widest.max(characters.widest());
        }
        let widths = self.all_stacks().map(|blocks| widest_of(blocks, self.width));
        widths.fold(widest, usize::max)
    }

    fn check_kv_cache(&self) -> Result<(), ConfigError> {
        let odd = self.blocks.iter().find_map(|block| match block.working {
            Some(WorkingMemory::Attention { head_width, bidirectional: false, .. }) => {
                (head_width % 2 == 1).then_some(head_width)
            }
            _ => None,
        });
        match odd {
            Some(width) if self.kv_cache == Precision::Bf16 => Err(ConfigError::OddCache(width)),
            _ => Ok(()),
        }
    }

    fn check_dropout(&self) -> Result<(), ConfigError> {
        let recurs = |block: &BlockConfig| block.long.is_some_and(|l| l.cell() != Cell::Mlstm);
        if self.dropout.recurrent > 0.0 && !self.all_stacks().flatten().any(recurs) {
            return Err(ConfigError::NoRecurrentWeights);
        }
        if self.dropout.working > 0.0
            && !self.all_stacks().flatten().any(BlockConfig::is_parallel_pair)
        {
            return Err(ConfigError::NoParallelMemories);
        }
        Ok(())
    }
}

/// The largest number of columns of any matrix of some blocks, or a little more.
fn widest_of(blocks: &[BlockConfig], mut width: usize) -> usize {
    let mut widest = width;
    for block in blocks {
        let working = block.working.map_or(0, |w| w.output_width(width));
        let long = block.long.map_or(0, |long| long.output_width());
        let window = match block.working {
            Some(WorkingMemory::Convolution(filters)) => filters.longest * width.max(long),
            _ => 0,
        };
        width = block.output_width(width);
        let cross = block.cross.map_or(0, |c| c.source_width.max(c.heads * c.head_width));
        let inner = block.feed_forward.unwrap_or(0).max(window);
        widest = widest.max(working + long).max(cross).max(width).max(inner);
    }
    widest
}

impl BlockConfig {
    /// Gives the width of the block's output. `stack` begins the names of its settings.
    pub(super) fn check(
        &self,
        stack: &str,
        index: usize,
        input: usize,
    ) -> Result<usize, ConfigError> {
        let refused = |source: BlockError| ConfigError::Block { index, source };
        self.check_sizes(stack, index)?;
        self.check_memories().and_then(|()| self.check_fusion(input)).map_err(refused)?;
        let output = self.output_width(input);
        if self.residual && output != input {
            return Err(refused(BlockError::Residual { input, output }));
        }
        Ok(output)
    }

    fn check_sizes(&self, stack: &str, index: usize) -> Result<(), ConfigError> {
        let size = |name: &str, value: usize, least: usize, most: usize| {
            size(&format!("{stack}blocks[{index}].{name}"), value, least, most)
        };
        if let Some(WorkingMemory::Attention { heads, kv_heads, head_width, window, .. }) =
            self.working
        {
            size("working.heads", heads, 1, 4096)?;
            size("working.kv_heads", kv_heads, 1, heads)?;
            size("working.head_width", head_width, 1, 4096)?;
            size("working.window", window, 1, LARGEST)?;
        }
        if let Some(WorkingMemory::Convolution(Filters { filters, shortest, longest, .. })) =
            self.working
        {
            size("working.filters", filters, 1, LARGEST)?;
            size("working.longest", longest, 1, WIDEST_FILTER)?;
            size("working.shortest", shortest, 1, longest)?;
        }
        if let Some(long) = self.long {
            size("long.hidden", long.hidden(), 1, LARGEST)?;
            size("long.heads", long.heads(), 1, long.hidden())?;
            if let Some(timescale) = long.timescale() {
                size("long.timescale", timescale as usize, 2, LARGEST)?;
            }
        }
        if let Some(CrossAttention { heads, kv_heads, head_width, source_width }) = self.cross {
            size("cross.heads", heads, 1, 4096)?;
            size("cross.kv_heads", kv_heads, 1, heads)?;
            size("cross.head_width", head_width, 1, 4096)?;
            size("cross.source_width", source_width, 1, LARGEST)?;
        }
        self.feed_forward.map_or(Ok(()), |width| size("feed_forward", width, 1, LARGEST))
    }

    /// Each memory by itself.
    fn check_memories(&self) -> Result<(), BlockError> {
        if let Some(WorkingMemory::Attention { heads, kv_heads, head_width, rotary, .. }) =
            self.working
        {
            if heads % kv_heads != 0 {
                return Err(BlockError::KeyHeads { heads, kv_heads });
            }
            if rotary && head_width % 2 != 0 {
                return Err(BlockError::OddRotary(head_width));
            }
        }
        if let Some(CrossAttention { heads, kv_heads, .. }) = self.cross
            && heads % kv_heads != 0
        {
            return Err(BlockError::KeyHeads { heads, kv_heads });
        }
        match self.long.map(|long| (long.hidden(), long.heads())) {
            Some((hidden, heads)) if hidden % heads != 0 => {
                Err(BlockError::Heads { hidden, heads })
            }
            _ => Ok(()),
        }
    }

    fn check_fusion(&self, input: usize) -> Result<(), BlockError> {
        let working = self.working.map(|memory| memory.output_width(input));
        let long = self.long.map(|memory| memory.output_width());
        let parallel = self.order == Order::Parallel;
        match (self.fusion, working, long) {
            (_, None, None) => Err(BlockError::NoMemory),
            (_, None, _) | (_, _, None) if !parallel => Err(BlockError::OneMemory),
            (Fusion::Gate | Fusion::Sum, ..) if !parallel => Err(BlockError::NotParallel),
            (Fusion::Gate | Fusion::Sum, Some(working), Some(long)) if working != long => {
                Err(BlockError::Widths { working, long })
            }
            (Fusion::Gate | Fusion::Sum, None, _) | (Fusion::Gate | Fusion::Sum, _, None) => {
                Err(BlockError::NothingToFuse)
            }
            (Fusion::None, Some(_), Some(_)) if parallel => Err(BlockError::NoFusion),
            _ => Ok(()),
        }
    }
}

impl HeadConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let name = &self.name;
        if name.is_empty() || !name.chars().all(allowed) || BODY.contains(&name.as_str()) {
            return Err(ConfigError::HeadName(name.clone()));
        }
        let (setting, value) = match self.kind {
            HeadKind::Classifier { classes, .. } | HeadKind::SentencePair { classes, .. } => {
                ("classes", classes)
            }
            HeadKind::MultiLabel { labels, .. } => ("labels", labels),
            HeadKind::Tags { tags, .. } => ("tags", tags),
            HeadKind::LanguageModel { .. } | HeadKind::MaskedTokens { .. } | HeadKind::Span {} => {
                return Ok(());
            }
        };
        size(&format!("{setting}` of the head `{name}"), value, 1, LARGEST)
    }
}

impl Dropout {
    fn check(&self) -> Result<(), ConfigError> {
        let all = [
            ("dropout.token", self.token),
            ("dropout.input", self.input),
            ("dropout.memory", self.memory),
            ("dropout.working", self.working),
            ("dropout.block", self.block),
            ("dropout.output", self.output),
            ("dropout.recurrent", self.recurrent),
        ];
        match all.into_iter().find(|(_, value)| !(0.0..1.0).contains(value)) {
            Some((name, value)) => Err(ConfigError::Probability { name, value }),
            None => Ok(()),
        }
    }
}

/// Checks that a size is within its bounds.
pub(super) fn size(name: &str, value: usize, least: usize, most: usize) -> Result<(), ConfigError> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(ConfigError::Size { name: name.into(), value, least, most })
    }
}
