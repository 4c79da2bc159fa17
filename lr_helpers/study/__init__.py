"""Studies: regions that are learned, measured against regions that are known. Run by `python -m lr_helpers study`."""
