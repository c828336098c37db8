"""One page per person and an index, made from the scores file alone: read -> summarise to a dict -> render."""
