"""The eight places: drawn at twice the size with numpy alone, then averaged down, 48 variants each."""

from __future__ import annotations

from functools import cache

import numpy as np

from tiny_world import SIZE
from tiny_world.words import PLACES

VARIANTS = 48
"""Variants of each place."""

_N = 2 * SIZE
_Y, _X = np.mgrid[0:_N, 0:_N] / _N


def _ramp(top, bottom, start=0.0, end=1.0) -> np.ndarray:
    t = np.clip((_Y - start) / (end - start), 0, 1)[..., None]
    return (1 - t) * np.array(top, float) + t * np.array(bottom, float)


def _noise(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Smooth noise in -1..1: random values on a cells×cells lattice, bilinearly spread."""
    lattice = rng.uniform(-1, 1, (cells + 1, cells + 1))
    y, x = _Y * cells, _X * cells
    j, i = y.astype(int), x.astype(int)
    v, u = y - j, x - i
    return ((1 - v) * ((1 - u) * lattice[j, i] + u * lattice[j, i + 1])
            + v * ((1 - u) * lattice[j + 1, i] + u * lattice[j + 1, i + 1]))


def _blend(image, mask, colour, strength=1.0) -> np.ndarray:
    m = strength * np.asarray(mask, float)[..., None]
    return (1 - m) * image + m * np.array(colour, float)


def _disc(cx, cy, rx, ry=None) -> np.ndarray:
    r = np.sqrt(((_X - cx) / rx) ** 2 + ((_Y - cy) / (ry or rx)) ** 2)
    return np.clip((1 - r) * 6, 0, 1)


def _horizon(rng, low=0.2, high=0.45) -> np.ndarray:
    """1 below a gently waved line, 0 above it."""
    line = rng.uniform(low, high) + 0.03 * np.sin(2 * np.pi * (_X * rng.uniform(0.5, 1.5) + rng.uniform()))
    return np.clip((_Y - line) * 40, 0, 1)


def _grass(rng):
    image = _ramp((150, 205, 240), (205, 232, 245), 0, 0.45)
    ground = _ramp((120, 190, 90), (70, 145, 60), 0.3, 1) + 9 * _noise(rng, 12)[..., None]
    return image + _horizon(rng)[..., None] * (ground - image)


def _snow(rng):
    image = _ramp((170, 190, 215), (205, 216, 230), 0, 0.45)
    ground = _ramp((240, 244, 250), (215, 225, 240), 0.3, 1) + 4 * _noise(rng, 6)[..., None]
    return image + _horizon(rng)[..., None] * (ground - image)


def _sky(rng):
    image = _ramp((95, 165, 230), (185, 220, 245))
    for _ in range(rng.integers(1, 4)):
        cx, cy, r = rng.uniform(0.05, 0.95), rng.uniform(0.05, 0.95), rng.uniform(0.07, 0.14)
        for dx in (-1.0, 0.0, 1.0):
            image = _blend(image, _disc(cx + dx * r, cy, r * 1.3, r * 0.8), (250, 252, 255), 0.8)
    return image


def _sand(rng):
    image = _ramp((130, 200, 235), (190, 225, 240), 0, 0.4)
    ground = _ramp((238, 214, 160), (220, 185, 120), 0.3, 1) + 6 * _noise(rng, 10)[..., None]
    return image + _horizon(rng)[..., None] * (ground - image)


def _water(rng):
    image = _ramp((70, 150, 200), (25, 85, 150))
    phase, bands = rng.uniform(), rng.uniform(5, 8)
    wave = np.sin(2 * np.pi * (bands * _Y + 0.25 * np.sin(2 * np.pi * (_X * 1.5 + phase)) + phase))
    return _blend(image, np.clip(wave - 0.4, 0, 1), (160, 210, 235), 0.6)


def _night(rng):
    image = _ramp((12, 14, 48), (50, 45, 100))
    for _ in range(rng.integers(8, 16)):
        image = _blend(image, _disc(rng.uniform(), rng.uniform(0, 0.9), 0.018), (250, 245, 210), 0.9)
    cx, cy, r = rng.uniform(0.1, 0.9), rng.uniform(0.08, 0.25), rng.uniform(0.06, 0.09)
    return _blend(image, _disc(cx, cy, r), (250, 240, 190))


def _table(rng):
    wall = np.array((225, 205, 185), float) + rng.uniform(-15, 15, 3)
    image = np.broadcast_to(wall, (_N, _N, 3)).copy() + 3 * _noise(rng, 6)[..., None]
    top = rng.uniform(0.3, 0.42)
    planks = rng.integers(4, 7)
    wood = _ramp((165, 105, 60), (140, 85, 45), top, 1)
    wood = wood + 7 * np.sin(2 * np.pi * planks * _X + rng.uniform(0, 6))[..., None]
    return image + np.clip((_Y - top) * 40, 0, 1)[..., None] * (wood - image)


def _room(rng):
    wall = rng.choice([(200, 175, 210), (185, 205, 190), (210, 195, 160), (175, 195, 220)])
    image = np.broadcast_to(np.array(wall, float), (_N, _N, 3)).copy()
    x, y, w, h = rng.uniform(0.08, 0.6), rng.uniform(0.06, 0.14), rng.uniform(0.22, 0.3), rng.uniform(0.22, 0.3)
    frame = (abs(_X - x - w / 2) < w / 2 + 0.025) & (abs(_Y - y - h / 2) < h / 2 + 0.025)
    glass = (abs(_X - x - w / 2) < w / 2) & (abs(_Y - y - h / 2) < h / 2)
    image = _blend(_blend(image, frame, (245, 245, 240)), glass, (160, 210, 240))
    floor = np.clip((_Y - rng.uniform(0.66, 0.78)) * 40, 0, 1)
    return _blend(image, floor, (150, 115, 85))


_DRAW = dict(zip(PLACES, (_grass, _snow, _sky, _sand, _water, _night, _table, _room), strict=True))


@cache
def place(name: str, variant: int) -> np.ndarray:
    """(64, 64, 3) float32 array in 0..255 of one variant (0..47); shared and read-only."""
    rng = np.random.default_rng([list(PLACES).index(name), variant])
    image = np.clip(_DRAW[name](rng), 0, 255)
    image = image.reshape(SIZE, 2, SIZE, 2, 3).mean((1, 3)).astype(np.float32)
    image.setflags(write=False)
    return image
