"""The peers: one module each, with `fit(task) -> Result`; every setting is chosen inside the training part."""
