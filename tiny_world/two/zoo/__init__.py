"""One module for each miniature model of world two."""
