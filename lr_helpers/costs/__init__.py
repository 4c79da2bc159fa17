"""What it costs: benchmarks of an edit and of a batch, true sizes, models with random weights."""
