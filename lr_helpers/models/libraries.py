"""diffusers and transformers as this package calls them: in silence, safetensors only, no weight made up."""

from __future__ import annotations

import inspect
import json
import platform
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import diffusers.utils.logging
import open_clip
import torch
import transformers
import transformers.utils.logging

LOCAL: dict[str, bool] = {"local_files_only": True, "trust_remote_code": False}
"""What every call that reads a model is told: ask no hub, run no code of the model's, and ask nobody for leave."""

# Loading the shipped models takes a second; bars would litter the notebooks.
diffusers.utils.logging.disable_progress_bar()
transformers.utils.logging.disable_progress_bar()


@contextmanager
def quiet() -> Iterator[None]:
    """Let diffusers log errors only: its other messages have our own words."""
    level = diffusers.utils.logging.get_verbosity()
    diffusers.utils.logging.set_verbosity_error()
    try:
        yield
    finally:
        diffusers.utils.logging.set_verbosity(level)


def require_weights(loaded: dict[str, Any]) -> None:
    """Raise ValueError if transformers found no stored value for some weights, which it fills with random numbers.

    `loaded`: what `from_pretrained(…, output_loading_info=True)` returns beside the model.
    """
    if loaded["missing_keys"]:
        raise ValueError(f"{len(loaded['missing_keys'])} weights are missing, e.g. {sorted(loaded['missing_keys'])[0]}")


def read_pipeline(folder: str, kind: Any, text_encoders: dict[str, Any], dtype: torch.dtype,
                  variants: Sequence[str] = (), variant: str | None = None, **given: Any) -> Any:
    """A diffusers pipeline from a folder, safetensors only, on the CPU.

    `kind`: the pipeline's class. `text_encoders`: the class of each text encoder by its name, where it is not the one
    that the folder's index names. `variants`: components that are read from their files of `variant` ("fp16").
    `given`: components that are not read from the folder (None: left out). Raises ValueError if weights of a text
    encoder are missing; else what diffusers raises.
    """

    def own(name: str) -> str | None:
        return variant if name in variants else None

    index = json.loads(Path(folder, "model_index.json").read_text(encoding="utf-8"))
    # What a checkpoint does without (Stable Diffusion 3 without its largest text encoder), diffusers wants to be told.
    absent = {name: None for name, entry in index.items()
              if name.startswith(("text_encoder", "tokenizer")) and entry == [None, None]}
    known = {name: getattr(transformers, entry[1]) for name, entry in index.items()
             if name.startswith("text_encoder") and entry[0] == "transformers" and name not in given}

    # diffusers fills missing weights of a text encoder with random ones, so text encoders are loaded here.
    networks = {}
    for name, encoder in (known | text_encoders).items():
        networks[name], loaded = encoder.from_pretrained(
            folder, subfolder=name, variant=own(name), use_safetensors=True, dtype=dtype, output_loading_info=True,
            **LOCAL)
        require_weights(loaded)
    with warnings.catch_warnings(), quiet():  # aMUSEd's classes say at every start that they are old
        # Newer versions prefer `dtype`, which older ones (Colab's) don't know.
        warnings.filterwarnings("ignore", "`torch_dtype` is deprecated", FutureWarning)
        # The others too: a pipeline takes a variant for a component as soon as any file is of it, be it a pickle.
        for name, entry in index.items():
            if isinstance(entry, list) and entry[0] == "diffusers" and name != "scheduler" and name not in given:
                networks[name] = getattr(diffusers, entry[1]).from_pretrained(
                    folder, subfolder=name, variant=own(name), use_safetensors=True, torch_dtype=dtype,
                    local_files_only=True)
        return kind.from_pretrained(folder, **networks, torch_dtype=dtype, use_safetensors=True, **LOCAL,
                                    **(absent | given))


def truncated(pipeline: Any, text: str) -> str:
    """The end of a text that none of a pipeline's text encoders reads; "" if one of them reads all of it."""
    lost = []
    for name in ("tokenizer", "tokenizer_2", "tokenizer_3"):  # one for each text encoder
        tokenizer = getattr(pipeline, name, None)
        if tokenizer is None:
            continue
        ids, most = tokenizer(text, truncation=False, verbose=False).input_ids, _places(pipeline, tokenizer)
        if len(ids) <= most:
            return ""
        closing = int(ids[-1] == tokenizer.eos_token_id)  # the last place is the end token's, where there is one
        lost.append(tokenizer.decode(ids[most - closing:len(ids) - closing]).strip())
    return min(lost, key=len, default="")


def _places(pipeline: Any, tokenizer: Any) -> int:
    """How many tokens of a text a text encoder is given."""
    longest = inspect.signature(type(pipeline).__call__).parameters.get("max_sequence_length")
    most = min(tokenizer.model_max_length, longest.default) if longest else tokenizer.model_max_length
    if tokenizer.chat_template:  # the text stands in a dialogue, which takes places too
        dialogue = [{"role": "user", "content": ""}]
        most -= len(tokenizer(tokenizer.apply_chat_template(dialogue, tokenize=False,
                                                            add_generation_prompt=True)).input_ids)
    return most


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide the pixels."""
    return {"python": platform.python_version(), "torch": torch.__version__, "diffusers": diffusers.__version__,
            "transformers": transformers.__version__, "open_clip": open_clip.__version__}
