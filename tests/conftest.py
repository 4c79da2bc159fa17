"""What several test files share: the shipped models, loaded once, and a picture whose regions are known."""

import os

# No test may depend on the model hub; set before a library reads it.
os.environ["HF_HUB_OFFLINE"] = "1"
# The same bits in every test: torch's threads do not adapt to what else the machine does.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import shorter
from PIL import Image

LONGEST = (
    "test_other_profile.py", "test_batch.py", "04_the_losses.ipynb", "test_study.py", "08_reproduction.ipynb",
    "A1_editing_many_images.ipynb", "test_baselines.py", "test_net.py", "test_app_widget_browser.py", "test_app_page.py",
    "test_engines.py", "05_learning_the_region.ipynb",
    "test_compare.py", "test_threads.py", "06_the_whole_method.ipynb", "01_the_inpainting_model.ipynb",
    "10_extended_experiments.ipynb", "test_colab.py", "test_extended.py", "test_batch_crash.py", "test_pie.py",
    "09_comparison.ipynb", "test_origins.py", "test_real_models.py", "test_docs.py", "test_report.py", "test_attacks.py",
)
"""Files that take longest, by their CPU seconds; the longest first."""


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Notebooks take less time, unless all tests are wanted; and long files come first: begun last, one would keep a
    process busy when all others are done."""
    if config.option.markexpr == "not all":
        shorter.shorten_items(items)
        config.add_cleanup(shorter.share_kernel())
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
    """The picture of `scene_recipe`, 128×128."""
    return Image.fromarray(scene_recipe.render())


@pytest.fixture
def scene_file(scene_picture, tmp_path):
    """The same as a PNG file, in a folder with a space in its name."""
    file = tmp_path / "my pictures" / "scene.png"
    file.parent.mkdir()
    scene_picture.save(file)
    return file
