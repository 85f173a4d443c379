//! Text in, ids out: tokenisers, corpora, token shards, batches of ids and the built-in sample.
