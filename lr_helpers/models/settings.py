"""What the small files of a model may say: an allow-list that each of them passes before a library reads it.

A model's folder comes from a stranger, and libraries do what it says: they import code that a tokenizer's settings
name, fetch a second model that a text tower's name, open a file that a list of arguments points at. So no library sees
such a file. `admitted` takes over what the classes that are driven here know, by their own signatures; all else stays
behind, which is what the libraries do with it too (a published model says where it was saved from, and what older
versions could do). What asks for code or for another place is refused by name, not left out: the model means it.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Collection, Iterable
from functools import cache
from typing import Any

from lr_helpers.models.layouts import DENOISERS, INDEX, PIPELINES, UNUSED, Read
from lr_helpers.models.origins import State, UnavailableError

# Libraries are imported where they are used: `doctor` has to run where they are missing.

Settings = dict[str, Any]

NETWORKS = {"backbone": "ViTModel", "clipseg": "CLIPSegForImageSegmentation",
            "grounding_dino": "GroundingDinoForObjectDetection", "sam": "SamModel", "sam3": "Sam3Model"}
"""The class of transformers by part; pipelines name the classes of their components themselves."""

PROCESSORS = {"backbone": "ViTImageProcessor", "clipseg": "ViTImageProcessor",
              "grounding_dino": "GroundingDinoImageProcessor", "sam": "SamImageProcessor", "sam3": "Sam3ImageProcessor"}
"""Likewise the class that prepares pictures, unless the model says another of these."""

INNER = {("grounding-dino", "backbone_config"): "SwinConfig", ("grounding-dino", "text_config"): "BertConfig",
         ("sam3", "text_config"): "CLIPTextConfig", ("sam3_vision_model", "backbone_config"): "Sam3ViTConfig"}
"""The class of a configuration within another one, by that one's kind, where it leaves that open."""

PIPELINE_CLASSES = (*DENOISERS, "StableDiffusionImg2ImgPipeline", "StableDiffusionInstructPix2PixPipeline")
"""Classes that a pipeline's index may name."""

COMPONENTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "unet": ("diffusers", ("UNet2DConditionModel",)),
    "transformer": ("diffusers", ("UVit2DModel", "ZImageTransformer2DModel", "SD3Transformer2DModel",
                                  "FluxTransformer2DModel", "Flux2Transformer2DModel")),
    "vae": ("diffusers", ("AutoencoderKL", "AutoencoderTiny", "AutoencoderKLFlux2")),
    "vqvae": ("diffusers", ("VQModel",)),
    "text_encoder": ("transformers", ("CLIPTextModel", "CLIPTextModelWithProjection", "Qwen3Model",
                                      "Qwen3ForCausalLM")),
    "text_encoder_2": ("transformers", ("CLIPTextModelWithProjection", "T5EncoderModel")),
    "text_encoder_3": ("transformers", ("T5EncoderModel",)),
    "tokenizer": ("transformers", ("CLIPTokenizer", "CLIPTokenizerFast", "Qwen2Tokenizer", "Qwen2TokenizerFast")),
    "tokenizer_2": ("transformers", ("CLIPTokenizer", "CLIPTokenizerFast", "T5Tokenizer", "T5TokenizerFast")),
    "tokenizer_3": ("transformers", ("T5Tokenizer", "T5TokenizerFast")),
    "scheduler": ("diffusers", ()),
}
"""What a pipeline is made of: library and classes of each component; a scheduler is any of the library's own."""

TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast", "BertTokenizer", "BertTokenizerFast", "Qwen2Tokenizer",
              "Qwen2TokenizerFast", "T5Tokenizer", "T5TokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend")

CODE = ("auto_map", "trust_remote_code", "custom_pipeline", "custom_pipelines", "custom_generate", "init_inputs")
"""Keys by which a configuration asks for code of its own, or gives a class arguments without a name."""

ELSEWHERE = ("base_model_name_or_path", "backbone", "use_pretrained_backbone", "use_timm_backbone", "hf_model_name")
"""Keys by which it asks for a second model from another place."""

KERNELS = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal", "experts_implementation",
           "kernel_config")
"""Keys whose value is a word of the library, or else compiled code on the hub."""

WORD = re.compile(r"[\w .+-]{0,100}")
"""Values that are texts: names of layers, activations, schedules. No path and no address is one."""


def refusal(part: str, files: Iterable[str], read: Read) -> State | None:
    """The refusal of a model by what its small files say; None if all of them pass."""
    files = tuple(files)
    try:
        # That it asks for code is worth more than that it is of another kind.
        for file in files:
            if _holds_settings(file):
                _look_for_code(file, read(file))
        for file in files:
            admitted(part, file, read, files)
    except UnavailableError as error:
        return error.state
    return None


def admitted(part: str, file: str, read: Read, files: Collection[str]) -> Settings | None:
    """What a library gets of a small file instead of the file; None for one that holds data, e.g. a vocabulary or
    weights, which libraries read themselves.

    `part`: as for `resolve`; `files`: all that is read of the model. Raises UnavailableError for a file that asks for
    code or another place, names a class that is not driven here, or is no settings at all.
    """
    folder, _, name = file.rpartition("/")
    if not _holds_settings(file):
        return None
    content = read(file)
    if not isinstance(content, dict):
        raise _refused(f"missing or damaged: {file}", "is incomplete", "give a folder with the whole model")
    _look_for_code(file, content)
    if ".index." in name:
        return _shards(file, content, files)
    about = _About(part, folder, file, read)
    return _READERS[name](about, content)


def _holds_settings(file: str) -> bool:
    name = file.rpartition("/")[2]
    return name in _READERS or ".index." in name


@dataclasses.dataclass(frozen=True)
class _About:
    """Where settings stand."""

    part: str
    folder: str
    """The component of a pipeline; "" beside it."""
    file: str
    read: Read

    @property
    def named(self) -> str:
        """The class that a pipeline's index names for this component."""
        index = _About(self.part, "", INDEX[self.part], self.read)
        return _pipeline(index, self.read(index.file))[self.folder][1]


def _refused(text: str, trouble: str, fix: str) -> UnavailableError:
    return UnavailableError(State(text, trouble, fix))


def _unknown(file: str, what: str) -> UnavailableError:
    return _refused(f"{file} {what}", "holds settings that are not allowed",
                    "give a model of the families that data/models.toml names")


def _look_for_code(file: str, content: Any) -> None:
    """Raise UnavailableError where a configuration, however deep, asks for code or another place."""
    if file.endswith("added_tokens.json"):  # its keys are words of a vocabulary
        return
    own, without = "asks for code of its own", "give another model, or this one without that entry"
    todo = [content]
    while todo:
        inner = todo.pop()
        if isinstance(inner, list):
            todo += inner
        if not isinstance(inner, dict):
            continue
        for key, value in inner.items():
            if value and key in CODE:
                raise _refused(f"{file} asks for code of its own ({key}), which is never run", own, without)
            if value and key in ELSEWHERE:
                raise _refused(f"{file} asks for a model from another place ({key})", "asks for another place", without)
            if key in KERNELS and (isinstance(value, dict) or (isinstance(value, str) and not WORD.fullmatch(value))):
                raise _refused(f"{file} asks for compiled code ({key}), which is never run", own, without)
            if value and key == "quantization_config":
                raise _unknown(file, "asks for quantised weights, which are not read here")
            todo.append(value)


def _plain(file: str, key: str, value: Any) -> Any:
    """A value that is made of numbers and words; UnavailableError for any other, and for one that is nested deep."""
    level = [value]
    for _ in range(4):
        inner = []
        for one in level:
            if isinstance(one, dict):
                inner += [*one, *one.values()]
            elif isinstance(one, list):
                inner += one
            elif isinstance(one, str) and not WORD.fullmatch(one):
                raise _unknown(file, f"has a value that is no plain word under {_brief(key)}")
        level = inner
    if level:
        raise _unknown(file, f"is nested too deep under {_brief(key)}")
    return value


def _brief(name: Any) -> str:
    """A name from a stranger's file in a sentence."""
    text = repr(name)
    return text if len(text) <= 60 else f"{text[:60]} …"


# What classes know


@cache
def _parameters(kind: type) -> frozenset[str]:
    """The settings that a class of transformers, diffusers or open_clip knows by name."""
    if dataclasses.is_dataclass(kind):
        # A field with an underscore is set by a key without one.
        return frozenset(name for field in dataclasses.fields(kind) for name in (field.name.lstrip("_"),))
    return frozenset(inspect.signature(kind.__init__).parameters) - {"self", "args", "kwargs"}


def _taken(file: str, content: Settings, known: Collection[str]) -> Settings:
    """What is known of a configuration, with plain values; an older version's keys and the rest stay behind."""
    return {key: _plain(file, key, value) for key, value in content.items() if key in known}


def _of_diffusers(about: _About, content: Settings, kind: type) -> Settings:
    """Settings of a network of diffusers."""
    if content.get("_class_name", kind.__name__) != kind.__name__:
        raise _unknown(about.file, f"is of the class {_brief(content['_class_name'])} and not {kind.__name__}")
    return {"_class_name": kind.__name__} | _taken(about.file, content, {*_parameters(kind), "_diffusers_version"})


def _of_transformers(file: str, content: Settings, kind: Any) -> Settings:
    """Settings of a configuration class of transformers, and of those within it, whose kind published models often
    leave out or misspell where there is no choice.
    """
    import transformers

    # Types are chosen here, and labels of classes name nothing that is used.
    known = _parameters(kind) - {"dtype", "id2label", "label2id", "problem_type"}
    if "rope_parameters" in known:  # published models say it by these names, which every such class takes over
        known |= {"rope_theta", "rope_scaling"}
    found, nested = {"model_type": kind.model_type}, dict(kind.sub_configs)
    for key, value in content.items():
        inner = nested.get(key) or nested.get(key.removesuffix("_dict"))
        if inner is None:
            found |= _taken(file, {key: value}, known)
        elif isinstance(value, dict):
            if inner is transformers.AutoConfig:
                named = INNER[kind.model_type, key.removesuffix("_dict")]
                inner = _of_kind(file, value, getattr(transformers, named))
            found[key] = _of_transformers(file, value, inner)
        elif value is not None:
            raise _unknown(file, f"has no settings under {key!r}")
    return found


def _of_kind(file: str, content: Settings, kind: Any) -> Any:
    """The configuration class, for a configuration that is of its kind or says none."""
    said = content.get("model_type") or kind.model_type
    if said != kind.model_type:
        raise _unknown(file, f"is of the kind {_brief(said)} and not {kind.model_type}")
    return kind


# The files


def _network(about: _About, content: Settings) -> Settings:
    """config.json: of a network."""
    import transformers

    if about.part != "decoder" and (about.part not in PIPELINES or COMPONENTS[about.folder][0] == "transformers"):
        name = about.named if about.part in PIPELINES else NETWORKS[about.part]
        kind = getattr(transformers, name).config_class
        if about.part == "sam3" and content.get("model_type") == "sam3_video":  # which holds it, beside a tracker
            content = content.get("detector_config")
            if not isinstance(content, dict):
                raise _unknown(about.file, "has no settings under 'detector_config'")
        return _of_transformers(about.file, content, _of_kind(about.file, content, kind))
    import diffusers

    name = "AutoencoderTiny" if about.part == "decoder" else about.named
    return _of_diffusers(about, content, getattr(diffusers, name))


def _pipeline(about: _About, content: Any) -> Settings:
    """model_index.json: the pipeline's class and its components."""
    import diffusers

    name = content.get("_class_name") if isinstance(content, dict) else None
    if isinstance(name, list):
        raise _refused(f"{about.file} asks for code of its own (_class_name), which is never run",
                       "asks for code of its own", "give another model, or this one without that entry")
    if name not in PIPELINE_CLASSES:
        raise _unknown(about.file, f"is of the class {_brief(name)}, which is not driven here")
    if not hasattr(diffusers, name):
        raise _refused(f"{about.file} is of the class {name}, which diffusers {diffusers.__version__} does not have",
                       "is too new", "install a newer diffusers")
    known = {*_parameters(getattr(diffusers, name)), "_diffusers_version"}
    found = {"_class_name": name}
    for key, value in content.items():
        if isinstance(value, list):
            found[key] = _component(about.file, key, value)
        else:
            found |= _taken(about.file, {key: value}, known)
    return found


def _component(file: str, name: str, entry: list[Any]) -> list[Any]:
    """An entry of a pipeline's index, [library, class]: [None, None] for what is left out or never loaded."""
    if name in UNUSED or entry == [None, None]:
        return [None, None]
    if name not in COMPONENTS:
        raise _unknown(file, f"has a component {_brief(name)}, which is not known here")
    library, classes = COMPONENTS[name]
    if len(entry) != 2 or entry[0] != library:
        raise _refused(f"{file} takes {name} from {_brief(entry[0] if entry else None)}, whose code is never run",
                       "asks for code of its own", "give another model, or this one without that entry")
    if entry[1] not in classes and not (name == "scheduler" and _scheduler_class(entry[1])):
        raise _unknown(file, f"has a {name} of the class {_brief(entry[1])}, which is not driven here")
    return entry


def _scheduler_class(name: Any) -> Any:
    """diffusers' scheduler of this name; None for anything else."""
    import diffusers

    kind = getattr(diffusers, name, None) if isinstance(name, str) and name.endswith("Scheduler") else None
    return kind if isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin) else None


def _scheduler(about: _About, content: Settings) -> Settings:
    """scheduler_config.json: what the scheduler knows, or one that takes over its settings."""
    kind = _scheduler_class(content.get("_class_name", about.named))
    if kind is None:
        raise _unknown(about.file, f"is of the class {_brief(content['_class_name'])}, which is not driven here")
    known = {"_diffusers_version", *_parameters(kind)}
    for name in kind._compatibles:
        known |= _parameters(other) if (other := _scheduler_class(name)) else set()
    return {"_class_name": kind.__name__} | _taken(about.file, content, known)


def _image_processor(about: _About, content: Settings) -> Settings:
    """preprocessor_config.json: how pictures are prepared."""
    import transformers

    said = content.get("image_processor_type") or content.get("feature_extractor_type") or PROCESSORS[about.part]
    # It was called so, or carries its implementation in its name.
    name = re.sub(r"(Fast|Pil)$", "", str(said).replace("FeatureExtractor", "ImageProcessor"))
    if name not in PROCESSORS.values():
        raise _unknown(about.file, f"is of the class {_brief(said)}, which is not driven here")
    known = set(getattr(transformers, name).valid_kwargs.__annotations__) - {"device", "return_tensors"}
    return {"image_processor_type": name} | _taken(about.file, content, known)


def _processor(about: _About, content: Settings) -> Settings:
    """processor_config.json: how pictures are prepared, where that stands here."""
    inner = content.get("image_processor")
    return {"image_processor": _image_processor(about, inner)} if isinstance(inner, dict) else {}


def _tokenizer(about: _About, content: Settings) -> Settings:
    """tokenizer_config.json."""
    import transformers

    name = content.get("tokenizer_class")
    if name is not None and name not in TOKENIZERS:
        raise _unknown(about.file, f"is of the class {_brief(name)}, which is not driven here")
    known = {"model_max_length", "padding_side", "truncation_side", "clean_up_tokenization_spaces",
             "split_special_tokens", "add_prefix_space", "errors", "model_input_names"}
    for kind in (transformers.CLIPTokenizer, transformers.BertTokenizer, transformers.Qwen2Tokenizer,
                 transformers.T5Tokenizer):
        known |= _parameters(kind)
    # A vocabulary stands in its own file; here it could only be the path of another.
    known = {key for key in known if not re.search(r"vocab|merges|_file$|_path$|_token$", key)}
    found = {} if name is None else {"tokenizer_class": name}
    return found | _taken(about.file, content, known) | _special_tokens(about, content)


def _special_tokens(about: _About, content: Settings) -> Settings:
    """special_tokens_map.json, and the same in tokenizer_config.json: words of any letters."""
    found = {}
    for key, value in content.items():
        if key == "added_tokens_decoder" and isinstance(value, dict):
            found[key] = {str(int(number)): _token(about.file, key, token) for number, token in value.items()
                          if number.isdecimal()}
        elif key in ("additional_special_tokens", "extra_special_tokens") and isinstance(value, list):
            found[key] = [_token(about.file, key, token) for token in value]
        elif re.fullmatch(r"(bos|eos|unk|sep|pad|cls|mask)_token", key) and value is not None:
            found[key] = _token(about.file, key, value)
    return found


def _token(file: str, key: str, token: Any) -> Any:
    """One token: its text, or that with how it is found."""
    known = ("content", "lstrip", "rstrip", "normalized", "single_word", "special", "__type")
    if isinstance(token, dict):
        inner = {name: value for name, value in token.items() if name in known}
        if isinstance(inner.get("content"), str) and all(isinstance(v, (bool, str)) for v in inner.values()):
            return inner
    elif isinstance(token, str):
        return token
    raise _unknown(file, f"has a token that is no text under {_brief(key)}")


def _added_tokens(about: _About, content: Settings) -> Settings:
    """added_tokens.json: words and their numbers."""
    if not all(isinstance(number, int) for number in content.values()):
        raise _unknown(about.file, "has a token without a number")
    return content


def _shards(file: str, content: Settings, files: Collection[str]) -> Settings:
    """*.safetensors.index.json: in which of the model's own files each tensor is."""
    where = content.get("weight_map")
    folder = file.rpartition("/")[0]
    for name in where.values() if isinstance(where, dict) else (None,):
        place = f"{folder}/{name}" if folder else name
        if not isinstance(name, str) or not name.endswith(".safetensors") or place not in files:
            raise _refused(f"{file} takes weights from {_brief(name)}, which is no file of theirs",
                           "asks for another place", "give another model, or this one with its own index")
    return {"metadata": {}, "weight_map": where}


def _clip(about: _About, content: Settings) -> Settings:
    """open_clip_config.json. open_clip refuses what it does not know, so nothing is left out of the model's own."""
    import open_clip
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg
    from open_clip.transform import PreprocessCfg

    model = content.get("model_cfg")
    if not isinstance(model, dict):
        raise _refused(f"missing or damaged: {about.file}", "is incomplete", "give a folder with the whole model")
    towers = {"vision_cfg": _parameters(CLIPVisionCfg), "text_cfg": _parameters(CLIPTextCfg)}
    known = {*_parameters(open_clip.CLIP), "custom_text"} - {"cast_dtype", "output_dict"}
    found: Settings = {}
    for key, value in model.items():
        if key not in known:
            raise _unknown(about.file, f"has {_brief(key)}, which open_clip does not know of a CLIP")
        if key not in towers:
            found[key] = _plain(about.file, key, value)
            continue
        if not isinstance(value, dict) or not set(value) <= towers[key]:
            odd = sorted(set(value) - towers[key])[:1] if isinstance(value, dict) else []
            raise _unknown(about.file, f"has {_brief(odd[0] if odd else key)}, which no tower of open_clip knows")
        found[key] = {name: _tower(about.file, name, setting) for name, setting in value.items()}
    seen = content.get("preprocess_cfg", {})
    return {"model_cfg": found, "preprocess_cfg": _taken(about.file, seen if isinstance(seen, dict) else {},
                                                         _parameters(PreprocessCfg))}


def _tower(file: str, key: str, value: Any) -> Any:
    """One setting of a tower of a CLIP."""
    import open_clip
    from open_clip.tokenizer import HFTokenizer

    if key == "hf_tokenizer_name":
        return "local" if value else value  # the folder's own, always
    if key == "tokenizer_kwargs" and value:
        known = _parameters(HFTokenizer) | _parameters(open_clip.SimpleTokenizer)
        known = {name for name in known if not re.search(r"_name$|_path$|_dir$|_mode$", name)}
        if not isinstance(value, dict) or not set(value) <= known:
            odd = sorted(set(value) - known)[:1] if isinstance(value, dict) else []
            raise _unknown(file, f"gives the tokenizer {_brief(odd[0] if odd else value)}, which is not allowed")
    return _plain(file, key, value)


_READERS = {
    "model_index.json": _pipeline, "config.json": _network, "scheduler_config.json": _scheduler,
    "preprocessor_config.json": _image_processor, "processor_config.json": _processor,
    "tokenizer_config.json": _tokenizer, "special_tokens_map.json": _special_tokens,
    "added_tokens.json": _added_tokens, "open_clip_config.json": _clip,
}
"""What is taken over of each file; any other holds data, which no library takes for settings."""
