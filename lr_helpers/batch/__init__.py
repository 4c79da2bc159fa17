"""Many images: a batch file in, a folder for each item out; killed anywhere, it goes on where it was.

`items.plan` reads and checks the whole file, `folder.check` says cheaply what is done already, `work.edit_item` does
one item from picture to record, `summary.finish` writes the contact sheet and the tables. `run.run` is the loop of one
process, or has an engine for several do the items: `ranks` for what torchrun or accelerate launch starts, `ray_pool`
for Ray. What either of them starts is a `worker`.
"""
