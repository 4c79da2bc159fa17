# /// script
# requires-python = ">=3.11"
# dependencies = ["pillow==13.0.0", "scikit-image==0.26.0", "scikit-learn==1.9.1"]
# ///
"""Make the shipped photographs again from the packages they come from: uv run data/photographs/make.py [FOLDER]

Without uv: pip install the three packages above into a throw-away environment, and run this with its Python. What
differs from the SHA-256 in index.toml is not written.
"""

import io
import sys
import tomllib
from hashlib import sha256
from importlib.metadata import distribution
from pathlib import Path

from PIL import Image

HERE = Path(__file__).resolve().parent


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    for name, entry in tomllib.loads((HERE / "index.toml").read_text(encoding="utf-8")).items():
        if "file" not in entry:
            continue  # fetched when it is asked for
        original = Path(str(distribution(entry["package"]).locate_file(entry["member"])))
        if original.suffix == ".jpg":
            data = original.read_bytes()
        else:
            buffer = io.BytesIO()
            with Image.open(original) as image:
                image.convert("RGB").save(buffer, "JPEG", quality=90, optimize=True)
            data = buffer.getvalue()
        if sha256(data).hexdigest() != entry["sha256"]:
            sys.exit(f"{name}: what comes out is not what index.toml tells (SHA-256); use the versions above.")
        (folder / entry["file"]).write_bytes(data)
        print(f"{entry['file']}: {len(data):,} bytes")


if __name__ == "__main__":
    main()
