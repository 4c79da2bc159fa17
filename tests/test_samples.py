"""Sample pictures and prompts: what is shipped is whole and licensed, what is fetched is checked or refused."""

import hashlib
import os
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lr_helpers import UserError
from lr_helpers.course import samples
from lr_helpers.files.paths import DATA
from lr_helpers.models.profiles import PROFILES
from tiny_world.scenes import scene

ROOT = Path(__file__).resolve().parents[1]
FOLDER = DATA / "photographs"
INDEX = tomllib.loads((FOLDER / "index.toml").read_text(encoding="utf-8"))
SHIPPED = [name for name, entry in INDEX.items() if "file" in entry]
FETCHED = [name for name in INDEX if name not in SHIPPED]


# What is shipped


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_photograph_is_the_one_that_was_made_and_is_licensed(name):
    entry = INDEX[name]
    data = (FOLDER / entry["file"]).read_bytes()
    assert hashlib.sha256(data).hexdigest() == entry["sha256"]
    with Image.open(BytesIO(data)) as picture:
        assert picture.format == "JPEG" and max(picture.size) <= 768
    (row,) = [line for line in (FOLDER / "LICENSES.md").read_text(encoding="utf-8").splitlines()
              if line.startswith(f"| `{entry['file']}`")]
    assert entry["package"] in row and entry["member"] in row
    author, licence = entry["credit"].split(", ")[0].removesuffix(" on Flickr"), entry["credit"].split(", ")[-1]
    assert author in row and licence in row
    versions = {line.split(" ")[0]: line.split(" ")[1] for line in row.split(" | ") if line.startswith("scikit")}
    assert f'"{entry["package"]}=={versions[entry["package"]].rstrip(",")}"' in (FOLDER / "make.py").read_text()


def test_the_folder_holds_nothing_else_and_is_small():
    pictures = [f for f in FOLDER.iterdir() if f.suffix not in (".md", ".toml", ".py")]
    assert {f.name for f in pictures} == {INDEX[name]["file"] for name in SHIPPED}
    assert sum(f.stat().st_size for f in pictures) <= 600_000


@pytest.mark.parametrize("name", INDEX)
def test_every_photograph_has_a_source_and_prompts_that_ask_for_something_else(name):
    entry = INDEX[name]
    assert entry["source"].strip() and entry["title"].strip()
    assert len(set(entry["prompts"])) == len(entry["prompts"]) >= (3 if name in SHIPPED else 1)
    assert all(prompt.strip() and prompt != entry["source"] for prompt in entry["prompts"])


# sample and names


def test_profiles_that_know_the_world_get_photographs():
    for profile in ("sd2", PROFILES["sd15"]):
        assert samples.names(profile) == (*SHIPPED, *FETCHED)
        found = samples.sample(profile)
        assert (found.name, found.picture.mode, found.truth) == (SHIPPED[0], "RGB", (168, 85, 449, 361))
        assert found.prompt == found.prompts[0] == INDEX[SHIPPED[0]]["prompts"][0]
    pictures = [samples.sample("sd2", name).picture for name in SHIPPED]
    assert all(np.asarray(p).std() > 20 for p in pictures)
    assert len({p.tobytes() for p in pictures}) == len(SHIPPED)


def test_profiles_with_a_vocabulary_get_the_scene_of_notebook_06_and_its_truth():
    assert samples.names("tiny") == ("wolf",)
    found, recipe = samples.sample("tiny"), scene(samples.SCENE, count=1)
    assert found.picture.tobytes() == recipe.render().tobytes()
    assert (found.source, found.prompt, found.truth) == ("wolf", "a mushroom", recipe.objects[0].box)
    words = set(PROFILES["tiny"].vocabulary.read_text(encoding="utf-8").split())
    assert {word for text in (found.source, *found.prompts) for word in text.split()} <= words


def test_every_emoji_scene_names_the_drawings_that_it_shows():
    from lr_helpers.app import sources
    from tiny_world.sprites import CREDITS

    for name, (seed, count, _) in sources.SCENES.items():
        credit = sources.sample(PROFILES["tiny"], name).credit
        shown = {thing.style for thing in scene(seed, count).objects}
        assert {style for style, text in CREDITS.items() if text in credit} == shown


@pytest.mark.parametrize(("profile", "name", "told"), [("sd2", "dog", "flower, coffee"), ("tiny", "flower", "wolf"),
                                                       ("sd2", "../index.toml", "flower"), ("sd9", None, "tiny")])
def test_an_unknown_name_is_answered_with_the_known_ones(profile, name, told):
    with pytest.raises(UserError, match=told):
        samples.sample(profile, name)


# The official samples


@pytest.fixture
def picture() -> bytes:
    """A PNG file as the server should send it."""
    buffer = BytesIO()
    Image.fromarray(scene(3, 1).render()).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def server(picture):
    """A server on loopback; its paths say how it answers. Yields its address and the list of paths asked for."""
    asked, over = [], threading.Event()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            how = self.path.strip("/").split("/")[-1].removesuffix(".png")
            if how == "gone":
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(picture)))
            self.end_headers()
            if how == "silent":
                over.wait(20)
            self.wfile.write({"half": picture[:len(picture) // 2], "other": picture[::-1]}.get(how, picture))

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    over.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_right_bytes_are_kept_and_not_fetched_again(server, picture, tmp_path):
    address, asked = server
    file, checksum = tmp_path / "official" / "1.png", hashlib.sha256(picture).hexdigest()
    for _ in range(2):
        samples.fetch(f"{address}/right", checksum, file)
    assert file.read_bytes() == picture
    assert asked == ["/right"]
    file.write_bytes(picture[:100])  # damaged in the meantime
    samples.fetch(f"{address}/right", checksum, file)
    assert file.read_bytes() == picture
    assert [f.name for f in file.parent.iterdir()] == ["1.png"]


@pytest.mark.parametrize(("how", "told"), [("gone", "answers 404"), ("other", "SHA-256 differs"), ("silent", "timed out"),
                                           ("half", r"SHA-256 differs|IncompleteRead")])
def test_anything_else_is_refused_in_one_sentence_and_nothing_is_kept(how, told, server, picture, tmp_path):
    address, _ = server
    with pytest.raises(UserError, match=told) as error:
        samples.fetch(f"{address}/{how}", hashlib.sha256(picture).hexdigest(), tmp_path / "1.png", timeout=0.5)
    assert f"{address}/{how}" in str(error.value) and "shipped" in str(error.value)
    assert "\n" not in str(error.value) and str(error.value).endswith(".")
    assert list(tmp_path.iterdir()) == []


def test_a_server_out_of_reach_is_told(picture, tmp_path):
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:9/1\.png can't be fetched"):
        samples.fetch("http://127.0.0.1:9/1.png", hashlib.sha256(picture).hexdigest(), tmp_path / "1.png", timeout=2)
    assert list(tmp_path.iterdir()) == []


def test_an_official_sample_comes_by_its_name_into_the_users_cache(server, picture, tmp_path):
    """As a user meets it: another index in LR_DATA, the cache of XDG_CACHE_HOME, a process of its own."""
    address, asked = server
    (tmp_path / "data" / "photographs").mkdir(parents=True)
    (tmp_path / "data" / "models.toml").symlink_to(DATA / "models.toml")
    right = hashlib.sha256(picture).hexdigest()
    (tmp_path / "data" / "photographs" / "index.toml").write_text("".join(
        f'["official/{name}"]\ntitle = "x"\nurl = "{address}/{name}.png"\nsha256 = "{right}"\ncredit = "x"\n'
        'source = "bird"\nprompts = ["a rabbit"]\n' for name in ("1", "other")), encoding="utf-8")
    program = "import sys; from lr_helpers.course.samples import sample; s = sample('sd2', sys.argv[1]); " \
              "print(s.name, s.picture.size, s.source, s.prompt)"
    environment = {**os.environ, "LR_DATA": str(tmp_path / "data"), "XDG_CACHE_HOME": str(tmp_path / "cache"),
                   "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"}

    def run(name: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, "-c", program, name], env=environment, capture_output=True, text=True)

    assert run("official/1").stdout == "official/1 (128, 128) bird a rabbit\n"
    assert "SHA-256 differs" in run("official/other").stderr
    assert asked == ["/1.png", "/other.png"]
    kept = [f for f in (tmp_path / "cache").rglob("*") if f.is_file()]
    assert [f.read_bytes() for f in kept] == [picture]


def test_the_official_samples_are_those_whose_checksums_are_known():
    for name in FETCHED:
        entry = INDEX[name]
        assert entry["url"].endswith(f"/yuanze-lin/Learnable_Regions/main/images/{name.split('/')[1]}.png")
        assert len(bytes.fromhex(entry["sha256"])) == 32
    assert [f"official/{i}" for i in (1, 2, 3, 4)] == FETCHED


# The paper's prompts


def test_every_group_of_the_papers_prompts_is_there():
    counts = {group: len(samples.prompts(group)) for group in samples.groups()}
    assert counts == {"teaser": 6, "comparison": 6, "one kind": 3, "several objects": 3, "geometric relations": 3,
                      "long paragraphs": 3, "more": 16, "failures": 2}
    for group in counts:
        texts = samples.prompts(group)
        assert all(text == text.strip() and len(text.split()) >= 3 for text in texts)
        assert len(set(texts)) == len(texts)
    written = tomllib.loads((DATA / "prompts.toml").read_text(encoding="utf-8"))
    assert all(entry["source"].startswith("the paper's ") for entry in written.values())
    assert "arXiv 2311.16432" in (DATA / "prompts.toml").read_text(encoding="utf-8").split("[teaser]")[0]
    assert samples.prompts("failures") == ("a large flying fish", "a cat wearing sunglasses")


def test_an_unknown_group_is_answered_with_the_known_ones():
    with pytest.raises(UserError, match="teaser, comparison, one kind"):
        samples.prompts("none")


# Squares for the notebooks


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("size", [64, 512])
def test_a_square_shows_the_source_and_squashes_nothing(name, size):
    found = samples.sample("sd2", name)
    width, height = found.picture.size
    x0, y0, x1, y1 = found.truth
    assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
    picture, box = samples.square(found, size)
    assert picture.shape == (3, size, size)
    assert 0 <= box[0] < box[2] <= size and 0 <= box[1] < box[3] <= size
    # The box keeps its aspect where the square holds all of it, and so does what is inside.
    scale = size / min(width, height)
    if max(x1 - x0, y1 - y0) <= min(width, height):
        assert box[2] - box[0] == pytest.approx((x1 - x0) * scale, abs=1.01)
        assert box[3] - box[1] == pytest.approx((y1 - y0) * scale, abs=1.01)
        inside = samples.to_tensor(found.picture.crop(found.truth).resize((box[2] - box[0], box[3] - box[1])))
        if size == 512:  # at 64 pixels the box's rounding is too coarse
            assert (picture[:, box[1]:box[3], box[0]:box[2]] - inside).abs().mean() < 0.06


def test_a_square_of_the_scene_is_the_scene():
    found = samples.sample("tiny")
    picture, box = samples.square(found, 128)
    assert box == found.truth and torch.equal(picture, samples.to_tensor(found.picture))
    assert samples.square(found, 96)[1] == tuple(v * 96 // 128 for v in found.truth)


def test_where_no_box_is_known_the_middle_half_is_taken():
    unknown = samples.Sample("x", "x", Image.new("RGB", (300, 200)), "x", ("y",), "z")
    assert samples.square(unknown, 100)[1] == (12, 25, 87, 75)


def test_what_is_shipped_needs_no_network():
    assert samples.shipped("sd2") == tuple(SHIPPED)
    assert samples.shipped("tiny") == ("wolf",)
