"""What a stranger's model, picture or text might do, and what it got; `python tests/attacks.py` prints the table.

Every attack carries a trap: code that writes a sentinel file when it runs (as a module, a pickle, or a program for
Ghostscript, which stands on the PATH as a script of ours), and names of other places, whose host is a server on loopback
that hears every request. All libraries are asked at that host, "y" waits on standard input for whoever asks for leave,
and the doctor has to say what loading does.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import pickle
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

QUESTION = "[y/N]"
"""Of transformers, when it asks for leave."""

EVIL = "evil/elsewhere"
"""Another place: a repository that the server on loopback would be asked for."""


@dataclass(frozen=True)
class Attack:
    """One attack by way of a model."""

    title: str
    part: str
    """As for `resolve`."""
    make: Callable[[Path, Path], Any]
    """Changes a whole folder of that part; the second path is the sentinel. May return another origin."""
    words: str
    """Of the refusal; "" where the model loads without what was smuggled in."""
    hub: bool = False
    """Does it lie on the hub instead of in a folder?"""


def change(file: str, **settings: Any) -> Callable[[Path, Path], None]:
    """Settings changed in one of its JSON files (made if it is missing), and a module beside that would run."""
    def make(folder: Path, sentinel: Path) -> None:
        place = folder / file
        content = json.loads(place.read_text()) if place.is_file() else {}
        place.write_text(json.dumps(content | settings))
        module(place.parent, sentinel)
        module(folder, sentinel)
    return make


def module(folder: Path, sentinel: Path, name: str = "evil") -> None:
    """Code that betrays itself as soon as it is imported."""
    folder.joinpath(f"{name}.py").write_text(
        f"open({str(sentinel)!r}, 'w').close()\nclass E: pass\nPipeline = AutoencoderKL = E\n")


def towers(tower: str, **settings: Any) -> Callable[[Path, Path], None]:
    """Settings of a tower in a CLIP's configuration, with a tokenizer beside that names code."""
    def make(folder: Path, sentinel: Path) -> None:
        file = folder / "open_clip_config.json"
        config = json.loads(file.read_text())
        config["model_cfg"][tower] |= settings
        file.write_text(json.dumps(config))
        module(folder, sentinel)
    return make


def both(*makes: Callable[[Path, Path], Any]) -> Callable[[Path, Path], None]:
    def make(folder: Path, sentinel: Path) -> None:
        for one in makes:
            one(folder, sentinel)
    return make


class Bomb:
    """What writes the sentinel when it is unpickled."""

    def __init__(self, sentinel: Path):
        self.sentinel = sentinel

    def __reduce__(self):
        return open, (str(self.sentinel), "w")


def bomb(file: str, instead: str = "") -> Callable[[Path, Path], None]:
    """A pickle at this place; `instead` of that file."""
    def make(folder: Path, sentinel: Path) -> None:
        if instead:
            (folder / instead).unlink()
        (folder / file).write_bytes(pickle.dumps(Bomb(sentinel)))
    return make


def component(name: str, entry: list[Any], file: str = "") -> Callable[[Path, Path], None]:
    """A component of a pipeline that is taken from a module in its folder."""
    def make(folder: Path, sentinel: Path) -> None:
        index = json.loads((folder / "model_index.json").read_text()) | {name: entry}
        (folder / "model_index.json").write_text(json.dumps(index))
        if file:
            module(folder / name, sentinel, file)
    return make


def outside(file: str) -> Callable[[Path, Path], None]:
    """A link to a file beside the folder, which holds what the folder's did."""
    def make(folder: Path, sentinel: Path) -> None:
        secret = folder.parent / f"{folder.name} secret" / Path(file).name
        secret.parent.mkdir()
        shutil.move(folder / file, secret)
        (folder / file).symlink_to(secret)
    return make


def shards(*names: str) -> Callable[[Path, Path], None]:
    """Weights in parts, whose index takes them from these files."""
    def make(folder: Path, sentinel: Path) -> None:
        from safetensors import safe_open

        with safe_open(folder / "model.safetensors", "np") as weights:
            keys = list(weights.keys())
        shutil.copy(folder / "model.safetensors", folder.parent / "secret.safetensors")
        (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
        where = {key: names[i % len(names)] for i, key in enumerate(keys)}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return make


def header(length: int, size: int = 0) -> Callable[[Path, Path], None]:
    """Weights whose header claims this many bytes, in a file of that `size`."""
    def make(folder: Path, sentinel: Path) -> None:
        with (folder / "model.safetensors").open("wb") as file:
            file.write(struct.pack("<Q", length) + b"{")
            file.truncate(size or 9)
    return make


def content(file: str, data: bytes, size: int = 0) -> Callable[[Path, Path], None]:
    def make(folder: Path, sentinel: Path) -> None:
        with (folder / file).open("wb") as stream:
            stream.write(data)
            if size:
                stream.truncate(size)  # with a hole: it takes no space
    return make


CODE = "asks for code of its own"
MODELS = [
    # Code
    Attack("tokenizer_kwargs that trust code, auto_map in the tokenizer", "clip", both(
        towers("text_cfg", tokenizer_kwargs={"trust_remote_code": True}),
        change("tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.E", None]}, tokenizer_class="E")),
        "open_clip_config.json asks for code of its own (trust_remote_code)"),
    Attack("auto_map in the tokenizer alone", "clip", change(
        "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.E", "evil.E"]}, tokenizer_class="E"),
        "tokenizer_config.json asks for code of its own (auto_map)"),
    Attack("a tokenizer's class that no library has", "clip", change("tokenizer_config.json", tokenizer_class="E"),
           "tokenizer_config.json is of the class 'E'"),
    Attack("a tokenizer's arguments without names, which are paths", "clip", change(
        "tokenizer_config.json", init_inputs=["/etc/passwd", "/etc/passwd"]), "(init_inputs)"),
    Attack("auto_map in the processor; asks at the terminal, where y waits", "backbone", both(
        change("preprocessor_config.json", auto_map={"AutoImageProcessor": "evil.E"}, image_processor_type=None),
        change("config.json", model_type="evil")), "preprocessor_config.json asks for code of its own (auto_map)"),
    Attack("auto_map in the network's settings", "backbone", change(
        "config.json", auto_map={"AutoConfig": "evil.E", "AutoModel": "evil.E"}),
        "config.json asks for code of its own (auto_map)"),
    Attack("auto_map to another repository", "backbone", change(
        "preprocessor_config.json", auto_map={"AutoImageProcessor": f"{EVIL}--evil.E"}), CODE),
    Attack("auto_map in a text encoder within a pipeline", "editor", change(
        "text_encoder/config.json", auto_map={"AutoModel": "evil.E"}),
        "text_encoder/config.json asks for code of its own (auto_map)"),
    Attack("auto_map in a pipeline's tokenizer", "editor", change(
        "tokenizer/tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.E", "evil.E"]}),
        "tokenizer/tokenizer_config.json asks for code of its own (auto_map)"),
    Attack("a component from a module in its folder", "editor", component("unet", ["evil", "E"], "evil"),
           "takes unet from 'evil', whose code is never run"),
    Attack("a component whose module is called like the library", "editor", component(
        "vae", ["diffusers", "AutoencoderKL"], "diffusers"), ""),
    Attack("a component of a class that opens files", "editor", component("vae", ["diffusers", "ConfigMixin"]),
           "a vae of the class 'ConfigMixin'"),
    Attack("a component that is not part of such a pipeline", "editor", component("watermark", ["os", "system"]),
           "has a component 'watermark'"),
    Attack("a safety checker, which is never loaded, from a module", "editor", both(
        component("safety_checker", ["evil", "E"]), lambda folder, sentinel: module(folder, sentinel)), ""),
    Attack("a scheduler from a module in its folder", "editor", component("scheduler", ["evil", "E"], "evil"),
           "takes scheduler from 'evil', whose code is never run"),
    Attack("a scheduler's settings of another class", "editor", change(
        "scheduler/scheduler_config.json", _class_name="FlowMatchImportScheduler"),
        "scheduler/scheduler_config.json is of the class 'FlowMatchImportScheduler'"),
    Attack("a pipeline from a module in the folder", "editor", change("model_index.json", _class_name=["evil", "Pipeline"]),
           "model_index.json asks for code of its own (_class_name)"),
    Attack("a pipeline from another repository", "editor", change("model_index.json", custom_pipeline=EVIL),
           "model_index.json asks for code of its own (custom_pipeline)"),
    Attack("compiled kernels from another repository", "backbone", change("config.json", attn_implementation=EVIL),
           "config.json asks for compiled code (attn_implementation)"),
    Attack("auto_map on the hub", "backbone", change(
        "preprocessor_config.json", auto_map={"AutoImageProcessor": "evil.E"}), CODE, hub=True),
    Attack("a component from a module on the hub", "editor", component("unet", ["evil", "E"], "evil"), "whose code is never run",
           hub=True),
    Attack("auto_map in a processor of a region finder", "clipseg", change(
        "processor_config.json", auto_map={"AutoProcessor": "evil.E"}, processor_class="E"),
        "processor_config.json asks for code of its own (auto_map)"),
    # Another place
    Attack("a text tower from another repository", "clip", towers("text_cfg", hf_model_name=EVIL),
           "open_clip_config.json asks for a model from another place (hf_model_name)"),
    Attack("an image tower from another repository", "clip", towers("vision_cfg", timm_model_name=f"hf-hub:{EVIL}"),
           "no plain word under 'timm_model_name'"),
    Attack("a tokenizer's name of another repository", "clip", towers("text_cfg", hf_tokenizer_name=EVIL), ""),
    Attack("the repository that it says it was saved from", "backbone", change("config.json", _name_or_path=EVIL), ""),
    Attack("an adapter beside the weights, with its base elsewhere", "backbone", change(
        "adapter_config.json", base_model_name_or_path=EVIL, peft_type="LORA"), ""),
    Attack("a backbone from another repository, within the network", "grounding_dino", change(
        "config.json", backbone=EVIL, use_pretrained_backbone=True, backbone_config=None),
        "config.json asks for a model from another place"),
    Attack("a vocabulary by its path, among the special tokens", "editor", change(
        "tokenizer/special_tokens_map.json", vocab_file="/etc/passwd", tokenizer_file="/etc/passwd"), ""),
    Attack("an activation that is a path", "backbone", change("config.json", hidden_act="../../evil"),
           "no plain word under 'hidden_act'"),
    Attack("parts of the weights out of the folder", "backbone", shards("../secret.safetensors"),
           "takes weights from '../secret.safetensors'"),
    Attack("parts of the weights at an absolute path", "backbone", shards(
        "model-00001-of-00001.safetensors", "/tmp/secret.safetensors"), "takes weights from '/tmp/secret.safetensors'"),
    Attack("weights that are a link out of the folder", "backbone", outside("model.safetensors"),
           "model.safetensors is a link that leads out of the folder"),
    Attack("settings that are a link out of the folder", "editor", outside("unet/config.json"),
           "unet/config.json is a link that leads out of the folder"),
    # Pickles
    Attack("a pickle instead of safetensors", "backbone", bomb("pytorch_model.bin", "model.safetensors"),
           "its weights are pickles (pytorch_model.bin)"),
    Attack("a pickle that is called safetensors", "backbone", bomb("model.safetensors", "model.safetensors"),
           "missing or damaged: *.safetensors"),
    Attack("pickles beside safetensors", "editor", both(
        bomb("unet/diffusion_pytorch_model.bin"), bomb("unet/diffusion_pytorch_model.fp16.bin"),
        bomb("text_encoder/pytorch_model.bin")), ""),
    Attack("a pickle beside a CLIP's safetensors", "clip", both(
        bomb("open_clip_pytorch_model.bin"), bomb("aaa.pth")), ""),
    Attack("a LoRA as a pickle", "lora", bomb("pytorch_lora_weights.bin", "pytorch_lora_weights.safetensors"),
           "its weights are pickles (pytorch_lora_weights.bin)"),
    Attack("a LoRA's pickle that is called safetensors", "lora", bomb(
        "pytorch_lora_weights.safetensors", "pytorch_lora_weights.safetensors"), "missing or damaged: *.safetensors"),
    Attack("a LoRA that is a link out of the folder", "lora", outside("pytorch_lora_weights.safetensors"),
           "pytorch_lora_weights.safetensors is a link that leads out of the folder"),
    Attack("an adapter's settings beside a LoRA, with code and a base elsewhere", "lora", content(
        "adapter_config.json", json.dumps({"auto_mapping": {"parent_library": "evil"}, "base_model_name_or_path": EVIL,
                                           "peft_type": "LORA"}).encode()), ""),
    Attack("auto_map in a small decoder's settings", "decoder", change("config.json", auto_map={"AutoModel": "evil.E"}),
           "config.json asks for code of its own (auto_map)"),
    Attack("a small decoder of a class that opens files", "decoder", change("config.json", _class_name="ConfigMixin"),
           "config.json is of the class 'ConfigMixin' and not AutoencoderTiny"),
    # Absurd files
    Attack("a header of 4 EB", "backbone", header(2**62), "missing or damaged: *.safetensors"),
    Attack("a header of 90 MB", "backbone", header(90_000_000, 90_000_008), "missing or damaged: *.safetensors"),
    Attack("settings of 4 GB", "backbone", content("config.json", b"{", 2**32), "missing or damaged: config.json"),
    Attack("settings nested 100,000 deep", "backbone", content("config.json", b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
           "missing or damaged: config.json"),
    Attack("a list nested 900 deep in a setting", "backbone", change(
        "config.json", image_size=json.loads("[" * 900 + "]" * 900)), "nested too deep under 'image_size'"),
    Attack("a name that would break the line", "editor", component("evil\n\x1b[2J", ["os", "system"]),
           r"has a component 'evil\n\x1b[2J'"),
]


# A region predictor


def predictor(sizes: dict[str, Any] | None = None, models: dict[str, str] | None = None, **changed: Any) -> Callable[[Path, Path], None]:
    """Its file with other `sizes` in its settings, other names of its models, and other entries in its header."""
    def make(file: Path, sentinel: Path) -> None:
        from safetensors.torch import load_file, save

        from lr_helpers.models.region_weights import KIND, read_header

        about = vars(read_header(file)) | changed
        about["settings"] = about["settings"] | (sizes or {})
        about["trained_on"] = about["trained_on"] | {part: {"name": name, "fingerprint": "0" * 16} for part, name in (models or {}).items()}
        file.write_bytes(save(load_file(file), {KIND: json.dumps(about)}))
    return make


def instead(data: bytes | Callable[[Path], bytes]) -> Callable[[Path, Path], None]:
    def make(file: Path, sentinel: Path) -> None:
        file.write_bytes(data if isinstance(data, bytes) else data(sentinel))
    return make


def pipe(file: Path, sentinel: Path) -> None:
    file.unlink()
    os.mkfifo(file)


REGIONS = [
    Attack("a predictor of a size that fills any memory", "regions", predictor({"hidden": 10**9}), "not a whole number from 1 to 512"),
    Attack("a predictor of the largest size there may be, without weights for it", "regions",
           predictor({"features": 4096, "embedding": 4096, "hidden": 512}), "not the shapes that its settings say"),
    Attack("a predictor whose size is code", "regions", predictor({"features": "__import__('os')"}), "not a whole number"),
    Attack("a predictor with a setting more", "regions", predictor({"auto_map": "evil.E"}), "settings that no predictor has"),
    Attack("a predictor for a model with a name that would break the line", "regions", predictor(models={"backbone": "evil\n\x1b[2J"}),
           r"another ViT ('evil\n\x1b[2J')"),
    Attack("a predictor for another repository's CLIP", "regions", predictor(models={"clip": EVIL}), f"another CLIP ({EVIL})"),
    Attack("a predictor's card that is no card", "regions", predictor(card=[EVIL]), "its header can't be read"),
    Attack("a pickle that is called a predictor", "regions", instead(lambda sentinel: pickle.dumps(Bomb(sentinel))), "header"),
    Attack("a predictor's header of 4 EB", "regions", instead(struct.pack("<Q", 2**62) + b"{"), "cut off or too long"),
    Attack("a predictor's header nested 100,000 deep", "regions", instead(struct.pack("<Q", 600_001) + b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
           "its header can't be read"),
    Attack("a predictor of 1 TB", "regions", lambda file, sentinel: os.truncate(file, 2**40), "more than any predictor"),
    Attack("a pipe in a predictor's place", "regions", pipe, "no plain file"),
]


def run_regions(folder: Path, hub: Any) -> list[dict[str, Any]]:
    """The same of a region predictor's file."""
    from predictors import untrained

    from lr_helpers import UserError, load_models
    from lr_helpers.models import doctor
    from lr_helpers.predictor import RegionPredictor, predictor_of

    models, rows = load_models("tiny", "cpu"), []
    whole = untrained(models).to_bytes()
    for number, attack in enumerate(REGIONS):
        file, sentinel = folder / f"{number}.safetensors", folder / f"{number} predictor was here"
        file.write_bytes(whole)
        attack.make(file, sentinel)
        models.profile = models.profile.but(regions=file)
        hub.asked.clear()
        said = doctor._regions(models.profile, RegionPredictor.load)
        try:
            predictor_of(models)
            got, message = "loads without it", ""
        except UserError as error:
            got, message = "refused", str(error)
        # The doctor loads no ViT and no CLIP, so of what is another one's it tells the names.
        alike = said.text == message if said.fix else got != "refused" or "was trained on another" in message
        rows.append({"title": attack.title, "door": "regions", "got": got, "message": message.replace(str(folder), "…"),
                     "doctor": said.text, "ran": sentinel.exists(), "asked": [*hub.asked], "alike": alike})
        file.unlink()
    return rows


def run_models(folder: Path, hub: Any) -> list[dict[str, Any]]:
    """What each attack by a model got: a row each, with what loading did, what the doctor says, and what was betrayed."""
    import random_parts
    import torch
    from safetensors.torch import save_file

    from lr_helpers import UserError
    from lr_helpers.baselines.segmenters import ClipSeg, Detector
    from lr_helpers.costs import random_weights
    from lr_helpers.models.layouts import LORA_WEIGHTS
    from lr_helpers.models.loading import first_origin, load_backbone, load_clip
    from lr_helpers.models.lora import Lora
    from lr_helpers.models.pipelines import load_decoder, load_editor
    from lr_helpers.models.profiles import get_profile
    from lr_helpers.models.resolve import resolve

    tiny = get_profile("tiny")
    wholes = {part: Path(getattr(tiny, part)[0]) for part in ("editor", "backbone", "clip")}
    extras = random_parts.write("tiny", folder / "parts")
    wholes |= {part: Path(extras[part].origins[0]) for part in ("clipseg", "grounding_dino")}
    wholes |= {part: folder / part for part in ("lora", "decoder")}
    wholes["lora"].mkdir()
    save_file(random_weights.lora(random_weights.networks("sd15", reduced=True)["unet"], rank=4),
              wholes["lora"] / LORA_WEIGHTS)
    random_weights.small_decoder("sd15_lcm", reduced=True).save_pretrained(wholes["decoder"])
    settings = {"size": 64, "steps": 1, "guidance": 1.0, "batch": 1}
    load = {"backbone": lambda origin: load_backbone((origin,), "cpu", 64),
            "clip": lambda origin: load_clip((origin,), "cpu"),
            "editor": lambda origin: first_origin("editor", (origin,), lambda o: load_editor(
                o, "cpu", torch.float32, **settings)),
            "clipseg": lambda origin: first_origin("CLIPSeg model", (origin,), lambda o: ClipSeg.load(o, "cpu")),
            "grounding_dino": lambda origin: first_origin("detector", (origin,), lambda o: Detector.load(o, "cpu")),
            "lora": lambda origin: first_origin("LoRA", (origin,), Lora.load),
            "decoder": lambda origin: first_origin("small decoder", (origin,), load_decoder)}
    rows = []
    for number, attack in enumerate(MODELS):
        place, sentinel = folder / f"{number} model", folder / f"{number} was here"
        shutil.copytree(wholes[attack.part], place)
        attack.make(place, sentinel)
        if attack.hub:
            hub.folders[f"stranger/model-{number}"] = place
        origin = f"stranger/model-{number}" if attack.hub else str(place)
        hub.asked.clear()
        said = resolve(attack.part, origin).state
        try:
            load[attack.part](origin)
            got, message = "loads without it", ""
        except UserError as error:
            got, message = "refused", str(error)
        # A repository may be asked for its own list and small files; what the library asks once a process is not ours.
        foreign = [path for path in hub.asked if path != "/api/agent-harnesses" and (
            not attack.hub or f"/model-{number}" not in path or path.endswith((".py", ".safetensors", ".bin")))]
        rows.append({"title": attack.title, "door": attack.part + (" (hub)" if attack.hub else ""), "got": got,
                     "message": message.replace(str(folder), "…"), "doctor": said.text, "ran": sentinel.exists(),
                     "asked": foreign, "alike": bool(said.trouble) == (got == "refused") and (
                         got != "refused" or said.text in message)})
        shutil.rmtree(place)
    return rows


# Pictures


def eps(sentinel: Path) -> bytes:
    """A drawing that Pillow would have Ghostscript run."""
    return (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(" + os.fsencode(sentinel)
            + b") (w) file closefile\nshowpage\n%%EOF\n")


def iptc(inner: bytes) -> bytes:
    """Data in the container of a news agency, which Pillow unpacks."""
    def field(record: int, number: int, data: bytes) -> bytes:
        return bytes([28, record, number]) + len(data).to_bytes(2, "big") + data

    return (field(3, 20, b"\0\x08") + field(3, 30, b"\0\x08") + field(3, 60, b"\1\0") + field(3, 120, b"\5")
            + field(8, 10, inner))


PICTURES: list[tuple[str, str, Callable[[Path], bytes]]] = [
    ("EPS in an IPTC container, called PNG", "w.png", lambda sentinel: iptc(eps(sentinel))),
    ("EPS called JPEG", "drawing.jpg", eps),
    ("EPS in a DOS container", "drawing.tif", lambda s: b"\xc5\xd0\xd3\xc6" + struct.pack(
        "<6IH", 30, len(eps(s)), 0, 0, 0, 0, 0xFFFF) + eps(s)),
    ("SVG that names another place", "drawing.png", lambda _: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="'
     + os.environ.get("HF_ENDPOINT", "http://127.0.0.1:9").encode() + b'/evil.png"/></svg>'),
]


def fake_ghostscript(folder: Path, sentinel: Path) -> None:
    """A `gs` on the PATH that only says that it was called."""
    folder.mkdir()
    for name in ("gs", "gswin32c", "gswin64c"):
        (folder / name).write_text(f"#!/bin/sh\ntouch '{sentinel}'\nexit 1\n")
        (folder / name).chmod(0o755)
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"


def run_pictures(folder: Path, hub: Any) -> list[dict[str, Any]]:
    """What each attack by a picture got from the one reader, and from the command."""
    from lr_helpers import UserError
    from lr_helpers.files.pictures import read_image

    sentinel, rows = folder / "Ghostscript was here", []
    fake_ghostscript(folder / "bin", sentinel)
    for title, name, make in PICTURES:
        file = folder / name
        file.write_bytes(make(sentinel))
        hub.asked.clear()
        try:
            read_image(file).load()
            got, message = "read", ""
        except UserError as error:
            got, message = "refused", str(error)
        rows.append({"title": title, "door": "picture", "got": got, "message": message, "ran": sentinel.exists(),
                     "asked": list(hub.asked), "alike": True})
    return rows


# Texts

HTML = "<script>alert(1)</script><img src=x onerror=alert(1)>"


def is_live(cell: str) -> bool:
    """Would a spreadsheet compute this cell of a table?"""
    try:
        float(cell)
    except ValueError:
        return cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    return False


def run_texts(folder: Path) -> list[dict[str, Any]]:
    """What formulas in a batch's table and HTML on the report's page got."""
    from PIL import Image

    from lr_helpers.authoring.report_page import Figure, NotebookRun, index
    from lr_helpers.cli import main as command

    Image.new("RGB", (40, 30), "orange").save(folder / "good.png")
    texts = ('=HYPERLINK("http://x","y")', "+1+1", "-1+1", "@SUM(1)")
    entries = [{"image": "good.png", "source": texts[3], "prompt": texts[1], "name": "=SUM(1)"},
               *({"image": text, "source": text, "prompt": text} for text in texts)]
    (folder / "batch.json").write_text(json.dumps(entries))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        command(["batch", str(folder / "batch.json"), "--images", str(folder), "--output", str(folder / "out"), "--quiet",
                 "--steps", "1", "--anchors", "2", "--sizes", "0.4", "--shortlist", "1", "--iterations", "1"])
    with (folder / "out" / "summary.csv").open(encoding="utf-8", newline="") as stream:
        lines = list(csv.reader(stream))
    cells = [cell for line in lines[1:] for cell in line]
    live = [cell for cell in cells if is_live(cell)]
    shown = [cell for cell in cells if is_live(cell.removeprefix("'"))]
    rows = [{"title": "formulas in a batch's table", "door": "text", "message": " ".join(dict.fromkeys(shown)),
             "got": "live" if live else "shown as text" if len(lines) == 6 and len(shown) >= 5 else "lost",
             "doctor": "", "ran": bool(live), "asked": [], "alike": True}]
    figures = [Figure(HTML, HTML, file="pictures/x.png"), Figure(HTML, text=HTML)]
    page = index([NotebookRun("01", HTML, HTML, 1.0, 0, 0, HTML, {"page": HTML}, figures)], [HTML],
                 {"profile": HTML, "system": HTML})
    live = "<script>alert" in page or "<img src=x" in page
    rows.append({"title": "HTML in the texts of the report's page", "door": "text", "message": "", "doctor": "",
                 "got": "live" if live else "shown as text" if "&lt;script&gt;" in page else "lost", "ran": live,
                 "asked": [], "alike": True})
    return rows


def run_traps(folder: Path, hub: Any) -> dict[str, bool]:
    """Does each kind of trap betray what is run, asked or answered, where nobody keeps it off?"""
    from huggingface_hub import hf_hub_download
    from PIL import Image
    from transformers import AutoImageProcessor, AutoTokenizer

    from lr_helpers.models.profiles import get_profile

    found, tiny = {}, get_profile("tiny")

    def sprung(name: str, act: Callable[[Path], Any]) -> None:
        sentinel = folder / f"trap {name}"
        with contextlib.suppress(Exception):
            act(sentinel)
        found[name] = sentinel.exists()

    def bare(part: str, attack: Attack, load: Callable[[str], Any]) -> Callable[[Path], Any]:
        def act(sentinel: Path) -> None:
            place = folder / f"bare {part}"
            shutil.copytree(getattr(tiny, part)[0], place)
            attack.make(place, sentinel)
            load(str(place))
        return act

    def picture(sentinel: Path) -> None:
        (folder / "trap.png").write_bytes(iptc(eps(sentinel)))
        Image.init()
        with contextlib.suppress(Exception):  # what ours gives is no picture
            Image.open(folder / "trap.png").load()
        (folder / "Ghostscript was here").rename(sentinel)

    sprung("a tokenizer's code", bare("clip", MODELS[1], lambda place: AutoTokenizer.from_pretrained(
        place, trust_remote_code=True)))
    sprung("a question at the terminal", bare("backbone", MODELS[4], AutoImageProcessor.from_pretrained))
    sprung("a pickle", lambda sentinel: pickle.loads(pickle.dumps(Bomb(sentinel))))
    sprung("Ghostscript", picture)
    hub.asked.clear()
    with contextlib.suppress(Exception):
        hf_hub_download(EVIL, "config.json")
    found["another place"] = any(EVIL in path for path in hub.asked)
    found["a formula"] = is_live("=1+1") and not is_live("-1.5")
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = ["| attack | door | got | with these words | code ran | asked elsewhere | doctor says the same |",
             "|---|---|---|---|---|---|---|"]
    for row in rows:
        words = row["message"].replace("|", "\\|").replace("\n", " ")
        lines.append(f"| {row['title']} | {row['door']} | {row['got']} | {words if len(words) < 190 else words[:189] + '…'} "
                     f"| {'YES' if row['ran'] else 'no'} | {len(row['asked']) or 'no'} | {'yes' if row['alike'] else 'NO'} |")
    return "\n".join(lines)


def main() -> int:
    """Print the table, or the rows with --json; 1 if anything ran, was asked, or is told otherwise than loaded."""
    from fake_hub import Hub

    with tempfile.TemporaryDirectory() as scratch, Hub() as hub:
        # Before any library reads them; and who asks for leave gets it.
        environment = hub.environment(Path(scratch, "home")) | {"HF_HUB_ETAG_TIMEOUT": "20", "OMP_NUM_THREADS": "1"}
        os.environ.clear()
        os.environ.update(environment)
        sys.stdin = io.StringIO("y\n" * 1000)
        sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
        folder = Path(scratch, "attacks")
        folder.mkdir()
        with contextlib.redirect_stdout(io.StringIO()) as said:
            rows = [*run_models(folder, hub), *run_regions(folder, hub), *run_pictures(folder, hub), *run_texts(folder)]
        with contextlib.redirect_stdout(io.StringIO()) as unguarded:
            traps = run_traps(folder, hub)
        traps["a question at the terminal"] &= QUESTION in unguarded.getvalue()
    questions = said.getvalue().count(QUESTION)
    if "--json" in sys.argv:
        print(json.dumps({"rows": rows, "traps": traps, "questions": questions}))
    else:
        print(table(rows))
        print(f"\n{len(rows)} attacks; traps that would have told: {', '.join(k for k, v in traps.items() if v)}")
    return int(questions > 0 or not all(traps.values()) or any(row["ran"] or row["asked"] or not row["alike"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
