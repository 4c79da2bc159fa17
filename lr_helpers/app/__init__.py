"""The editor to play with: one engine, in a notebook (`lr_helpers.course.editor`) and as a local web page."""
