"""The night: what to score, the rows it gives, and how they are published; later explanations of a published night."""
