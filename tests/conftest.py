"""What several test files share: the shipped models, loaded once, and a picture whose regions are known."""

import os

# No test may depend on the model hub; set before a library reads it.
os.environ["HF_HUB_OFFLINE"] = "1"
# The same bits in every test: torch's threads do not adapt to what else the machine does.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from PIL import Image
from shorter import shorten

LONGEST = ("test_other_profile.py",)
"""Files that take longest, measured; the longest first."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Notebooks measure on less, unless all tests are wanted; and long files come first: begun last, one would keep a
    process busy when all others are done."""
    if config.option.markexpr == "not all":
        for item in items:
            cell = getattr(item, "cell", None)  # of a notebook, collected by nbval
            if cell and "parameters" in cell.metadata.get("tags", []):
                cell.source = shorten(item.path.stem, cell.source)
    place = {name: at for at, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))  # stable: in a file the order stays


@pytest.fixture(scope="session")
def models():
    """The shipped miniature models on the CPU."""
    from lr_helpers import load_models

    return load_models("tiny", device="cpu")


@pytest.fixture(scope="session")
def scene_recipe():
    """A held-out scene of one object."""
    from tiny_world.scenes import scene

    return scene(7, 1)


@pytest.fixture
def scene_picture(scene_recipe) -> Image.Image:
    """The picture of `scene_recipe`, 64×64."""
    return Image.fromarray(scene_recipe.render())


@pytest.fixture
def scene_file(scene_picture, tmp_path):
    """The same as a PNG file, in a folder with a space in its name."""
    file = tmp_path / "my pictures" / "scene.png"
    file.parent.mkdir()
    scene_picture.save(file)
    return file
