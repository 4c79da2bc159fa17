"""Learning across pictures, as `python -m lr_helpers train-regions` does it: what is asked, the edits, the training."""
