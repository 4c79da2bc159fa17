"""PIE-Bench: its published format, and the study `python -m lr_helpers study pie` on a folder of it.

In the order of work: `masks` (run lengths), `items` (the mapping file), `wording` (what to ask of an editor), `rows`
(who edits), `runner` (every item by every row, resumable), `table` (means with intervals beside published ones).
"""
