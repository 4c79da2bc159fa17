"""PIE-Bench: its published format, and the study `python -m lr_helpers study pie` on a folder of it.

In the order of work: `masks` (run lengths), `items` (the mapping file), `wording` (what to ask of an editor), `rows`
(who edits), `study` (every item by every row), `table` (means with intervals beside published ones). `emoji` writes a
small benchmark of its own.
"""
