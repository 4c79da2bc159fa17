"""A CLIP's configuration against what open_clip builds: where they differ the model is refused, not only warned of.

open_clip builds a released model by its name, while its tag says how the weights were trained: `ViT-B-16` alone has
plain GELU, and OpenAI's weights need QuickGELU. So the tag's settings are forced, and what is built is compared with
them, and they with the configuration that lies beside the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from lr_helpers.models.origins import State, UnavailableError

if TYPE_CHECKING:
    import torch

# Libraries are imported where they are used: `doctor` has to run where they are missing.

Facts = dict[str, Any]
"""Settings by the names that sentences use, e.g. {"embedding width": 512, "QuickGELU": True}."""


@dataclass(frozen=True)
class Released:
    """A CLIP that open_clip has released, `openclip:NAME:TAG`, or `openclip:NAME:TAG@COMMIT` of its repository."""

    name: str
    tag: str
    repo: str
    """Where its weights are on the hub."""
    revision: str | None
    """The commit of that repository, if one was asked for."""
    config: dict[str, Any]
    """As `open_clip_config.json` has it, with the settings of the tag."""


def released(origin: str) -> Released:
    """What open_clip knows of `openclip:NAME:TAG[@COMMIT]`; UnavailableError if it has no such model as safetensors."""
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    model, _, revision = origin.removeprefix("openclip:").partition("@")
    name, _, tag = model.partition(":")
    about = get_pretrained_cfg(name, tag)
    if not about:
        raise UnavailableError(State("open_clip knows no such model", "is unknown",
                                     "name one of open_clip.list_pretrained(), as openclip:NAME:TAG"))
    repo = about.get("hf_hub", "").rpartition("/")[0]
    if not repo:
        raise UnavailableError(State("it is not on the hub as safetensors, and pickles are never loaded",
                                     "holds pickles", "name one of open_clip.list_pretrained() that is on the hub"))
    # The name says how the model is built, the tag how its weights were trained.
    built = {**open_clip.get_model_config(name), "quick_gelu": bool(about.get("quick_gelu", False))}
    seen = {key: about[key] for key in ("mean", "std", "interpolation", "resize_mode") if key in about}
    return Released(name, tag, repo, revision or None, {"model_cfg": built, "preprocess_cfg": seen})


def facts(config: Mapping[str, Any]) -> Facts:
    """What a configuration says, with open_clip's defaults where it is silent."""
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    model, seen = config["model_cfg"], config.get("preprocess_cfg", {})
    vision, text = _filled(CLIPVisionCfg, model["vision_cfg"]), _filled(CLIPTextCfg, model["text_cfg"])
    found = {"embedding width": model["embed_dim"], "QuickGELU": bool(model.get("quick_gelu", False)),
             "picture side": _side(vision.image_size),
             "mean": _rounded(seen.get("mean", OPENAI_DATASET_MEAN)),
             "standard deviation": _rounded(seen.get("std", OPENAI_DATASET_STD))}
    if not vision.timm_model_name:
        found |= {"patch side": _side(vision.patch_size), "width of the image tower": vision.width,
                  "layers of the image tower": vision.layers,
                  "heads of the image tower": vision.width // vision.head_width if vision.head_width else None}
    if not text.hf_model_name:
        found |= {"context length": text.context_length, "vocabulary": text.vocab_size,
                  "width of the text tower": text.width, "layers of the text tower": text.layers,
                  "heads of the text tower": text.heads}
    return found


def _filled(kind: type, settings: Mapping[str, Any]) -> Any:
    """open_clip's dataclass of a tower's settings; keys that this version does not know are left out."""
    known = {field.name for field in fields(kind)}
    return kind(**{key: value for key, value in settings.items() if key in known})


def _side(size: Any) -> int:
    return size[0] if isinstance(size, (tuple, list)) else size


def _rounded(numbers: Any) -> tuple[float, ...]:
    return tuple(round(float(x), 6) for x in numbers)


def built(model: torch.nn.Module) -> Facts:
    """The same of a model, asked of its modules; what its towers do not tell is left out."""
    from open_clip.transformer import QuickGELU, ResidualAttentionBlock

    def blocks(tower: Any) -> list[Any]:
        return [m for m in tower.modules() if isinstance(m, ResidualAttentionBlock)]

    visual = model.visual
    image = blocks(visual)
    text = [block for block in blocks(model) if all(block is not other for other in image)]
    found: Facts = {"embedding width": getattr(visual, "output_dim", None),
                    "picture side": _side(visual.image_size), "mean": _rounded(visual.image_mean),
                    "standard deviation": _rounded(visual.image_std),
                    "context length": getattr(model, "context_length", None),
                    "vocabulary": getattr(model, "vocab_size", None)}
    if hasattr(visual, "patch_size"):
        found["patch side"] = _side(visual.patch_size)
    for name, tower in (("image", image), ("text", text)):
        if tower:
            found |= {f"layers of the {name} tower": len(tower),
                      f"width of the {name} tower": tower[0].attn.embed_dim,
                      f"heads of the {name} tower": tower[0].attn.num_heads}
    quick = {isinstance(block.mlp.gelu, QuickGELU) for block in (*image, *text)}
    if quick:
        # A model of both kinds is as wrong as one of the other kind.
        found["QuickGELU"] = quick.pop() if len(quick) == 1 else "in a part of the layers"
    return {key: value for key, value in found.items() if value is not None}


def difference(wanted: Facts, given: Facts) -> str:
    """What two sources say differently of the same settings, in words; "" where they agree."""
    return ", ".join(f"{key} {_said(wanted[key])} and not {_said(given[key])}"
                     for key in wanted if key in given and wanted[key] is not None and wanted[key] != given[key])


def _said(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def misfit(origin: str, config: Any) -> State | None:
    """The refusal of a released model whose configuration on the hub is another than open_clip's; else None."""
    try:
        own = facts(config)
        own |= {} if "quick_gelu" in config["model_cfg"] else {"QuickGELU": None}  # silent: the tag alone says it
    except (TypeError, KeyError, AttributeError):
        return State("missing or damaged: open_clip_config.json", "is incomplete", "name another model")
    found = difference(own, facts(released(origin).config))
    return _refused(found, "open_clip would build it otherwise") if found else None


def require_built(model: torch.nn.Module, config: Mapping[str, Any]) -> None:
    """Raise UnavailableError if a model is not what its configuration says, above all in its activation."""
    found = difference(facts(config), built(model))
    if found:
        raise UnavailableError(_refused(found, "open_clip built it otherwise"))


def _refused(found: str, what: str) -> State:
    return State(f"its configuration wants {found}, and {what}", "does not fit its configuration",
                 "give a folder with open_clip_config.json and open_clip_model.safetensors that belong together")
