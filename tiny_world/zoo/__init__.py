"""The training of the miniature models, one module each; `training` is the loop that they share."""
