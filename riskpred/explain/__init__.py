"""Why this risk: exact Shapley values over modalities, integrated gradients within one, and what the page draws."""
