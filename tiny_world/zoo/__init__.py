"""The training of the miniature models: `python -m tiny_world train --part NAME`.

`training` is the loop that all share. `tokenizer` makes every word of the world one token. `vae` comes first, then
`inpainting` (the editor) on its latents, then `comparison` (text-to-image and instructions), which starts from the
editor's weights. `clip`, `dino` (the backbone) and `judge` stand alone.
"""
