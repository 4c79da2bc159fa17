"""Textures: crops of public-domain photographs in changing tints, and procedural patterns, 128×128 pixels each."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image

from tiny_world import DATA, SIZE

_Y, _X = np.mgrid[0:SIZE, 0:SIZE] / SIZE


def noise(rng: np.random.Generator, cells: int, y: np.ndarray = _Y, x: np.ndarray = _X) -> np.ndarray:
    """Smooth noise in -1..1: random values on a cells×cells lattice, spread by a smooth step; repeats outside 0..1."""
    lattice = rng.uniform(-1, 1, (cells, cells))
    y, x = y * cells, x * cells
    j, i = np.floor(y).astype(int), np.floor(x).astype(int)
    v, u = y - j, x - i
    v, u = v * v * (3 - 2 * v), u * u * (3 - 2 * u)
    j, i, below, right = j % cells, i % cells, (j + 1) % cells, (i + 1) % cells
    return ((1 - v) * ((1 - u) * lattice[j, i] + u * lattice[j, right])
            + v * ((1 - u) * lattice[below, i] + u * lattice[below, right]))


def octaves(rng: np.random.Generator, cells: int, count: int, y: np.ndarray = _Y, x: np.ndarray = _X) -> np.ndarray:
    """Fractal noise in about -1..1: `count` lattices, each twice as fine and half as strong as the one before."""
    return sum(noise(rng, cells * 2**k, y, x) / 2**k for k in range(count)) / 1.6


def ramp(t: np.ndarray, *colours) -> np.ndarray:
    """(H, W) in 0..1 → (H, W, 3): evenly spaced colours, blended."""
    t, stops = np.clip(t, 0, 1), np.linspace(0, 1, len(colours))
    return np.stack([np.interp(t, stops, channel) for channel in np.array(colours, float).T], axis=2)


def _tint(rng: np.random.Generator, image: np.ndarray, amount: float = 0.12) -> np.ndarray:
    """Every channel and the brightness a little other."""
    return image * (1 + rng.uniform(-amount, amount, 3)) * (1 + rng.uniform(-amount, amount))


def _lot(rng: np.random.Generator, *choices: tuple) -> tuple:
    return choices[rng.integers(len(choices))]


@cache
def _photograph(name: str) -> np.ndarray:
    return np.asarray(Image.open(next((DATA / "textures").glob(f"{name}.*"))).convert("RGB"))


def _crop(rng: np.random.Generator, name: str, low: int = 110, high: int = 260) -> np.ndarray:
    """(128, 128, 3) in 0..1: a square of the photograph, scaled, turned by right angles, mirrored."""
    whole = _photograph(name)
    side = int(rng.integers(low, min(high, *whole.shape[:2]) + 1))
    y, x = (int(rng.integers(0, n - side + 1)) for n in whole.shape[:2])
    part = Image.fromarray(whole[y:y + side, x:x + side]).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    part = np.rot90(np.asarray(part, float), int(rng.integers(4)))
    return (part[:, ::-1] if rng.random() < 0.5 else part) / 255


def lawn(rng):
    """Photographed grass, green to straw."""
    dark, light = _lot(rng, ((20, 52, 18), (150, 196, 92)), ((34, 58, 20), (190, 196, 110)),
                       ((14, 60, 40), (120, 200, 120)))
    return _tint(rng, ramp(0.15 + 0.85 * _crop(rng, "grass")[..., 0], dark, light))


def bricks(rng):
    """A photographed brick wall, red, yellow, grey or white."""
    dark, light = _lot(rng, ((90, 40, 30), (225, 140, 110)), ((110, 85, 50), (235, 205, 150)),
                       ((70, 72, 78), (190, 192, 196)), ((150, 145, 140), (245, 240, 235)))
    return _tint(rng, ramp(_crop(rng, "brick", 180, 380)[..., 0], dark, light))


def gravel(rng):
    """Photographed gravel, grey to sandy."""
    dark, light = _lot(rng, ((40, 38, 36), (210, 205, 198)), ((70, 55, 40), (225, 205, 175)))
    return _tint(rng, ramp(_crop(rng, "gravel")[..., 0], dark, light))


def fur(rng):
    """Photographed fur of a cat."""
    return _tint(rng, 255 * _crop(rng, "fur", 56, 76))


def wood(rng):
    """Planks with a grain along them."""
    planks = int(rng.integers(2, 5))
    light = np.array(_lot(rng, (200, 150, 95), (165, 110, 65), (215, 185, 140), (120, 78, 52)), float)
    row = np.floor(_Y * planks)
    shift = rng.uniform(0, 1, planks)[row.astype(int)]
    grain = np.sin(2 * np.pi * (5 * planks * _Y + 2.2 * noise(rng, 4, _Y * 2, _X + shift) + shift))
    fine = octaves(rng, 32, 2, _Y, _X / 8 + shift)
    image = light * (0.9 + 0.07 * grain + 0.09 * fine + 0.16 * (shift - 0.5))[..., None]
    gap = np.abs(_Y * planks - np.round(_Y * planks)) < 0.02
    image = np.where(gap[..., None], 0.55 * image, image)
    return _tint(rng, np.rot90(image) if rng.random() < 0.5 else image)


def cloth(rng):
    """Woven cloth: plain, striped or chequered."""
    a, b = rng.uniform(90, 250, 3), rng.uniform(60, 240, 3)
    bands, kind = rng.uniform(3, 7), int(rng.integers(3))
    across, down = (np.clip(3 * np.sin(2 * np.pi * bands * t + rng.uniform(0, 6)) + 0.5, 0, 1) for t in (_X, _Y))
    mix = (0.5 * np.ones_like(_X), across, 0.5 * (across + down))[kind]
    weave = np.sin(2 * np.pi * 32 * _X) * np.sin(2 * np.pi * 32 * _Y + np.pi * np.floor(32 * _X))
    folds = octaves(rng, 3, 2)
    return ramp(mix, a, b) * (1 + 0.05 * weave + 0.07 * folds)[..., None]


def clouds(rng):
    """White clouds all over a blue or evening sky."""
    blue, white = _lot(rng, ((92, 150, 220), (248, 250, 255)), ((110, 120, 180), (255, 214, 190)),
                       ((130, 150, 170), (225, 230, 236)))
    return ramp(0.5 + 0.75 * octaves(rng, 3, 5), blue, blue, white, white)


def waves(rng):
    """Water with bright crests."""
    deep, crest = _lot(rng, ((18, 84, 140), (170, 220, 240)), ((20, 110, 120), (170, 235, 225)),
                       ((40, 70, 110), (190, 205, 225)))
    turn = rng.uniform(-0.5, 0.5)
    along, out = _X + turn * _Y, _Y - turn * _X
    ridge = 1 - np.abs(octaves(rng, 4, 3, 2 * out, along)) * 2.4
    return ramp(0.35 + 0.5 * ridge**3 + 0.12 * octaves(rng, 8, 2, 2 * out, along), deep, deep, crest)


def plaster(rng):
    """Rough plaster in a pale colour."""
    height = octaves(rng, 8, 4)
    relief = np.roll(height, 1, (0, 1)) - height
    return rng.uniform(150, 240, 3) * (1 + 0.06 * octaves(rng, 2, 2) + 0.35 * relief)[..., None]


def tiles(rng):
    """Square or chequered tiles with grout."""
    count = int(rng.integers(3, 7))
    shift, (a, b) = rng.uniform(0, 1, 2), rng.uniform(90, 240, (2, 3))
    y, x = _Y * count + shift[0], _X * count + shift[1]
    odd = (np.floor(y) + np.floor(x)) % 2 if rng.random() < 0.5 else np.zeros_like(x)
    glaze = rng.uniform(-0.06, 0.06, (count + 1, count + 1))[np.floor(y).astype(int), np.floor(x).astype(int)]
    image = ramp(odd, a, b) * (1 + glaze + 0.05 * octaves(rng, 4, 3))[..., None]
    edge = np.minimum(np.abs(y - np.round(y)), np.abs(x - np.round(x))) * SIZE / count
    return np.where((edge < 1.2)[..., None], rng.uniform(150, 225), image)


def marble(rng):
    """Veined stone."""
    light, vein = _lot(rng, ((238, 236, 232), (120, 122, 130)), ((60, 92, 80), (200, 220, 205)),
                       ((225, 200, 190), (130, 70, 70)))
    along = _X * rng.uniform(0.5, 1.5) + _Y * rng.uniform(0.5, 1.5)
    veins = 1 - np.abs(np.sin(np.pi * (2 * along + 1.6 * octaves(rng, 3, 5))))
    return ramp(0.9 * veins**4 + 0.18 * octaves(rng, 4, 3) + 0.1, light, vein)


def cobbles(rng):
    """Cobble stones: cells nearest to scattered points (Voronoi), dark between."""
    count = int(rng.integers(5, 9))
    corners = np.mgrid[-1:count + 1, -1:count + 1].reshape(2, -1).T
    near = (corners + rng.uniform(0.1, 0.9, corners.shape)) / count
    away = np.sqrt((_Y[..., None] - near[:, 0]) ** 2 + (_X[..., None] - near[:, 1]) ** 2)
    order = np.argsort(away, axis=2)[..., :2]
    first, second = np.take_along_axis(away, order, 2).transpose(2, 0, 1)
    stone = rng.uniform(0.3, 0.95, len(near))[order[..., 0]]
    rim = np.clip((second - first) * count * 2.5, 0, 1)
    dark, light = _lot(rng, ((60, 58, 60), (190, 185, 180)), ((80, 60, 45), (205, 170, 135)))
    return ramp(stone + 0.1 * octaves(rng, 16, 2), dark, light) * (0.35 + 0.65 * rim)[..., None]
