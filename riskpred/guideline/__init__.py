"""Published risk equations: numbers in, risk out, to stand beside the model's own."""
