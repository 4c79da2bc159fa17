"""Backgrounds: the eight drawn places, at twice the size with numpy alone and then averaged down, and the textures."""

from __future__ import annotations

from functools import cache

import numpy as np

from tiny_world import SIZE, textures
from tiny_world.textures import octaves
from tiny_world.words import DRAWN, HELD_OUT_TEXTURES, PLACES

VARIANTS = 64
"""Variants of each background in the trainings, 0 … 63. As many others, 64 … 127, are those of held-out scenes: no
model has seen them."""

SHADOWS: dict[str, str] = {
    **dict.fromkeys(("grass", "snow", "sand", "table", "room"), "stand"),
    **dict.fromkeys(("lawn", "bricks", "wood", "cloth", "plaster", "tiles", *HELD_OUT_TEXTURES), "lie"),
}
"""Where things throw a shadow: as they stand on the ground seen from the side, or lie on one seen from above."""

_N = 2 * SIZE
_Y, _X = np.mgrid[0:_N, 0:_N] / _N


def _ramp(top, bottom, start=0.0, end=1.0) -> np.ndarray:
    t = np.clip((_Y - start) / (end - start), 0, 1)[..., None]
    return (1 - t) * np.array(top, float) + t * np.array(bottom, float)


def _noise(rng, cells: int, count: int = 2, stretch: float = 1.0) -> np.ndarray:
    """(256, 256, 1) in about -1..1; `stretch` above 1 draws it out sideways."""
    return octaves(rng, cells, count, _Y, _X / stretch)[..., None]


def _blend(image, mask, colour, strength=1.0) -> np.ndarray:
    m = strength * np.asarray(mask, float)[..., None]
    return (1 - m) * image + m * np.array(colour, float)


def _disc(cx, cy, rx, ry=None) -> np.ndarray:
    r = np.sqrt(((_X - cx) / rx) ** 2 + ((_Y - cy) / (ry or rx)) ** 2)
    return np.clip((1 - r) * 6, 0, 1)


def _line(rng, low: float, high: float) -> np.ndarray:
    """Height of a gently waved line, for every column."""
    return rng.uniform(low, high) + 0.03 * np.sin(2 * np.pi * (_X * rng.uniform(0.5, 1.5) + rng.uniform()))


def _below(line) -> np.ndarray:
    """1 below the line, 0 above it."""
    return np.clip((_Y - line) * 80, 0, 1)[..., None]


def _cloud(image, cx, cy, r) -> np.ndarray:
    for dx in (-1.0, 0.0, 1.0):
        image = _blend(image, _disc(cx + dx * r, cy - 0.3 * r * (dx == 0), r * 1.3, r * 0.8), (250, 252, 255), 0.85)
    return image


def _grass(rng):
    image = _cloud(_ramp((135, 200, 245), (215, 238, 248), 0, 0.45), rng.uniform(), rng.uniform(0.04, 0.14), 0.07)
    hill = _ramp((150, 205, 130), (120, 185, 100), 0.1, 0.5)
    image = image + _below(_line(rng, 0.16, 0.34)) * (hill - image)
    blades = octaves(rng, 16, 3, _Y, _X * 4)[..., None]
    ground = _ramp((128, 198, 92), (62, 138, 52), 0.3, 1) + 8 * _noise(rng, 6) + 9 * blades
    return image + _below(_line(rng, 0.26, 0.42)) * (ground - image)


def _snow(rng):
    image = _ramp((160, 186, 218), (212, 223, 236), 0, 0.45)
    far = _ramp((214, 224, 238), (228, 235, 245), 0.1, 0.5)
    image = image + _below(_line(rng, 0.16, 0.32)) * (far - image)
    ground = _ramp((242, 246, 251), (208, 221, 240), 0.3, 1) + 5 * _noise(rng, 5, 3, 2)
    image = image + _below(_line(rng, 0.26, 0.42)) * (ground - image)
    for _ in range(rng.integers(6, 16)):
        image = _blend(image, _disc(rng.uniform(), rng.uniform(), 0.008), (255, 255, 255), 0.9)
    return image


def _sky(rng):
    image = _ramp((80, 152, 226), (190, 224, 247))
    for _ in range(rng.integers(1, 4)):
        image = _cloud(image, rng.uniform(0.05, 0.95), rng.uniform(0.05, 0.95), rng.uniform(0.07, 0.14))
    return image


def _sand(rng):
    image = _ramp((120, 196, 238), (196, 228, 242), 0, 0.4)
    sea = _ramp((60, 150, 190), (90, 180, 205), 0.15, 0.45) + 6 * _noise(rng, 16, 2, 4)
    image = image + _below(rng.uniform(0.16, 0.26)) * (sea - image)
    ripple = np.sin(2 * np.pi * (22 * _Y + 1.5 * octaves(rng, 4, 2, _Y, _X)))[..., None]
    ground = _ramp((242, 219, 165), (216, 180, 116), 0.3, 1) + 5 * _noise(rng, 24, 3) + 3 * ripple
    return image + _below(_line(rng, 0.28, 0.42)) * (ground - image)


def _water(rng):
    image = _ramp((70, 155, 205), (22, 80, 145)) + 5 * _noise(rng, 6, 2, 3)
    phase, bands = rng.uniform(), rng.uniform(6, 10)
    wave = np.sin(2 * np.pi * (bands * _Y + 0.25 * np.sin(2 * np.pi * (_X * 2.5 + phase)) + phase))
    return _blend(image, np.clip(2 * (wave - 0.6), 0, 1) * np.clip(0.6 + _noise(rng, 6)[..., 0], 0, 1),
                  (170, 218, 238), 0.7)


def _night(rng):
    image = _ramp((10, 12, 44), (54, 48, 108)) + 4 * _noise(rng, 4, 3)
    for _ in range(rng.integers(10, 24)):
        image = _blend(image, _disc(rng.uniform(), rng.uniform(0, 0.9), rng.uniform(0.006, 0.013)), (250, 245, 210))
    cx, cy, r = rng.uniform(0.1, 0.9), rng.uniform(0.08, 0.25), rng.uniform(0.06, 0.09)
    glow = np.clip(1 - np.sqrt((_X - cx) ** 2 + (_Y - cy) ** 2) / (2.6 * r), 0, 1)
    image = _blend(image, glow, (250, 240, 190), 0.25)
    return _blend(image, _disc(cx, cy, r), (250, 240, 190))


def _table(rng):
    wall = np.array((225, 205, 185), float) + rng.uniform(-20, 20, 3)
    image = wall + 3 * _noise(rng, 6)
    planks = rng.integers(4, 7)
    grain = octaves(rng, 16, 3, _Y / 6, _X * 2)[..., None]
    joints = np.clip(1 - 60 * np.abs((planks * _X + 0.5) % 1 - 0.5) / planks, 0, 1)[..., None]
    top = rng.uniform(0.28, 0.4)
    wood = _ramp((182, 122, 72), (146, 90, 50), top, 1) + 14 * grain - 28 * joints
    image = image + _below(top) * (wood - image)
    return _blend(image, np.clip(1 - 60 * np.abs(_Y - top - 0.012), 0, 1), (206, 150, 98), 0.8)


def _room(rng):
    wall = rng.choice([(200, 175, 210), (185, 205, 190), (210, 195, 160), (175, 195, 220)])
    image = np.array(wall, float) + 5 * np.sign(np.sin(2 * np.pi * 9 * _X))[..., None] * (rng.random() < 0.5)
    image = image + np.zeros((_N, _N, 3))
    x, y, w, h = rng.uniform(0.08, 0.6), rng.uniform(0.06, 0.12), rng.uniform(0.22, 0.3), rng.uniform(0.2, 0.26)
    across, down = abs(_X - x - w / 2), abs(_Y - y - h / 2)
    image = _blend(image, (across < w / 2 + 0.025) & (down < h / 2 + 0.025), (245, 245, 240))
    image = _blend(image, (across < w / 2) & (down < h / 2) & ((across > 0.008) & (down > 0.008)), (160, 212, 242))
    edge = rng.uniform(0.45, 0.6)
    boards = octaves(rng, 24, 2, _Y * 2, _X / 6)[..., None]
    floor = _ramp((172, 130, 92), (136, 98, 68), edge, 1) + 10 * boards
    image = image + _below(edge) * (floor - image)
    return _blend(image, np.abs(_Y - edge + 0.01) < 0.014, (240, 236, 228))


_DRAW = {name: globals()[f"_{name}"] for name in DRAWN}


@cache
def place(name: str, variant: int) -> np.ndarray:
    """(128, 128, 3) uint8 of one variant (0 … 127, see VARIANTS); shared and read-only."""
    known = [*PLACES, *HELD_OUT_TEXTURES]
    rng = np.random.default_rng([2, known.index(name), variant])
    if name in DRAWN:
        image = _DRAW[name](rng).reshape(SIZE, 2, SIZE, 2, 3).mean((1, 3))
    else:
        image = getattr(textures, name)(rng)
    image = np.clip(image + 0.5, 0, 255).astype(np.uint8)
    image.setflags(write=False)
    return image
