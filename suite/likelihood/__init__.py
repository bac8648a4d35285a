"""Hidden states -> log-probabilities of tokens and chunks."""
