"""Students' answers to the exercises of notebook A1."""

import contextlib
import hashlib
import json
import math
import os
import shutil
import tempfile
from itertools import islice
from pathlib import Path

import numpy as np


def temporary(path, data, flush=True, sync=True, mode="wb", folder=None, name=None):
    other = Path(folder or path.parent) / (name or f".{path.name}.part")
    f = open(other, mode)
    f.write(data)
    if flush:
        f.flush()
    if sync:
        os.fsync(f.fileno())
    f.close()
    return other


def moved_from_another_folder(path, data):
    with tempfile.TemporaryDirectory() as folder:
        shutil.move(temporary(path, data, folder=folder), path)


def in_subfolder(path, data):
    folder = path.parent / "tmp"
    folder.mkdir(exist_ok=True)
    temporary(path, data, folder=folder).replace(path)
    folder.rmdir()


def unlink_first(path, data):
    other = temporary(path, data)
    if path.exists():
        os.remove(path)
    other.rename(path)


def leaves_it(path, data):
    other = temporary(path, data)
    shutil.copy(other, path)


def link(path, data):
    other = temporary(path, data)
    path.unlink(missing_ok=True)
    os.link(other, path)
    other.unlink()


def os_level(path, data):
    name = str(path) + "~"
    handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        os.write(handle, data)
        os.fsync(handle)
    finally:
        os.close(handle)
    os.rename(name, path)


def named_temporary(path, data):
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    os.replace(f.name, path)


def with_folder_sync(path, data):
    os.replace(temporary(path, data), path)
    handle = os.open(path.parent, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def unbuffered(path, data):
    other = path.with_suffix(".tmp")
    with open(other, "wb", buffering=0) as f:
        f.write(data)
        os.fsync(f.fileno())
    other.replace(path)


def half(path, data):
    other = temporary(path, data[:len(data) // 2])
    os.replace(other, path)


def replaces_open(path, data):
    other = path.with_suffix(".tmp")
    with open(other, "wb") as f:
        f.write(data)
        os.replace(other, path)
        f.flush()
        os.fsync(f.fileno())


def tidies(path, data):
    os.replace(temporary(path, data), path)
    for file in path.parent.iterdir():
        if file != path:
            file.unlink()


def empties_first(path, data):
    for file in path.parent.iterdir():
        if file != path:
            file.unlink()
    os.replace(temporary(path, data), path)


def removes_tmp(path, data):
    for file in path.parent.glob("*.tmp"):
        file.unlink()
    os.replace(temporary(path, data), path)


def synced_folder(path, data):
    other = temporary(path, data, sync=False)
    handle = os.open(path.parent, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
    os.replace(other, path)


def synced_old(path, data):
    other = temporary(path, data, sync=False)
    if path.exists():
        with open(path, "rb") as f:
            os.fsync(f.fileno())
    else:
        os.sync()
    os.replace(other, path)


def synced_nothing(path, data):
    other = temporary(path, data, sync=False)
    handle = os.open("/dev/null", os.O_WRONLY)
    with contextlib.suppress(OSError):
        os.fsync(handle)
    os.close(handle)
    os.replace(other, path)


def synced_again_opened(path, data):
    other = path.with_name("x.tmp")
    other.write_bytes(data)
    handle = os.open(other, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
    os.replace(other, path)


def all_synced(path, data):
    other = temporary(path, data, sync=False)
    os.sync()
    os.replace(other, path)


def in_pieces(path, data):
    other = path.with_name("x.tmp")
    with open(other, "wb") as f:
        for i in range(0, len(data), 1000):
            f.write(data[i:i + 1000])
        f.flush()
        os.fsync(f)
    other.rename(path)


def breaks_off(path, data):
    raise RuntimeError("no idea")


def sha(b):
    return hashlib.sha256(b).hexdigest()


def key(picture, settings, **options):
    return sha(json.dumps({**settings, "image": sha(picture)}, **{"sort_keys": True, **options}).encode())


def mutating(picture, settings):
    settings["image"] = sha(picture)
    return sha(json.dumps(settings, sort_keys=True).encode())


def by_update_of_copy(picture, settings):
    d = dict(settings)
    d["image"] = hashlib.new("sha256", picture).hexdigest()
    h = hashlib.sha256()
    h.update(bytes(json.dumps(d, sort_keys=True), "utf-8"))
    return h.hexdigest()


def sort_deep(value):
    return {k: sort_deep(value[k]) for k in sorted(value)} if isinstance(value, dict) else value


def sort_deeper(value):
    if isinstance(value, list):
        return [sort_deeper(v) for v in value]
    return {k: sort_deeper(value[k]) for k in sorted(value)} if isinstance(value, dict) else value


def sort_lists(value):
    if isinstance(value, list):
        return sorted(value, key=str)
    return {k: sort_lists(v) for k, v in value.items()} if isinstance(value, dict) else value


def popping(items, rank, processes):
    out = []
    for i in range(len(items)):
        x = items.pop(0)
        if i % processes == rank:
            out.append(x)
    return out


def pool(items, seconds, hours, gigabytes, cores, memory):
    need = math.ceil(items * seconds / hours / 3600)
    per = min(cores, int(memory / gigabytes))
    return need, math.ceil(need / per)


def pool_loop(items, seconds, hours, gigabytes, cores, memory):
    workers = 0
    while workers * hours * 3600 < items * seconds:
        workers += 1
    per = 1
    while per < cores and (per + 1) * gigabytes <= memory:
        per += 1
    machines = 0
    while machines * per < workers:
        machines += 1
    return [workers, machines]


def rounded(items, seconds, hours, gigabytes, cores, memory, up=math.ceil, up_machines=math.ceil):
    need = up(work(items, seconds, hours))
    return need, up_machines(need / min(cores, math.floor(memory / gigabytes)))


def work(i, s, h):
    return i * s / (h * 3600)


WRONG = {
    "write_whole": [
        ("direct", "another name", lambda p, d: p.write_bytes(d)),
        ("fsync without flush", "flush", lambda p, d: os.replace(temporary(p, d, flush=False), p)),
        ("no fsync", "fsync", lambda p, d: os.replace(temporary(p, d, sync=False), p)),
        ("another folder", "same folder", moved_from_another_folder),
        ("a folder inside", "same folder", in_subfolder),
        ("unlink first", "os.replace alone|at every moment", unlink_first),
        ("link", "os.replace alone|at every moment", link),
        ("copy", "copying", leaves_it),
        ("half of it", "new content|whole", half),
        ("forgets to rename", "name", lambda p, d: temporary(p, d)),
        ("exclusive", "crash", lambda p, d: os.replace(temporary(p, d, mode="xb"), p)),
        ("append", "crash|begins anew", lambda p, d: os.replace(temporary(p, d, mode="ab"), p)),
        ("renames an open file", "at every moment|flush", replaces_open),
        ("text mode", "TypeError|bytes", lambda p, d: os.replace(temporary(p, d, mode="w"), p)),
        ("does nothing", "content", lambda p, d: None),
        ("removes all other files", "other files", tidies),
        ("empties the folder first", "other files", empties_first),
        ("removes others' *.tmp", "other files", removes_tmp),
        ("a name written down", "any name", lambda p, d: os.replace(temporary(p, d), p.with_name("picture.png"))),
        ("syncs the folder", "temporary file itself", synced_folder),
        ("syncs the old file", "very file|temporary file itself", synced_old),
        ("syncs another file", "very file|temporary file itself", synced_nothing),
        ("breaks off", "Hint 1 under the stub", breaks_off),
    ],
    "key_of": [
        ("changes the settings", "settings stay as they were|dictionary was changed", mutating),
        ("ensure_ascii=False", "ensure_ascii", lambda p, s: key(p, s, ensure_ascii=False)),
        ("unsorted", "sort|order", lambda p, s: key(p, s, sort_keys=False)),
        ("sorted at the top only", "every depth", lambda p, s: key(p, dict(sorted({**s, "image": 0}.items())), sort_keys=False)),
        ("separators", "separators|json.dumps as it is", lambda p, s: key(p, s, separators=(",", ":"))),
        ("indent", "indent|json.dumps as it is", lambda p, s: key(p, s, indent=4)),
        ("no picture", "picture", lambda p, s: sha(json.dumps(s, sort_keys=True).encode())),
        ("no settings", "settings", lambda p, s: sha(p)),
        ("length of the picture", "bytes", lambda p, s: sha(json.dumps({**s, "image": len(p)}, sort_keys=True).encode())),
        ("digest", "hex", lambda p, s: hashlib.sha256(json.dumps({**s, "image": sha(p)}, sort_keys=True).encode()).digest()),
        ("md5", "SHA-256|64 hex", lambda p, s: hashlib.md5(json.dumps({**s, "image": sha(p)}, sort_keys=True).encode()).hexdigest()),
        ("hash()", "hex|same call", lambda p, s: hash((p, json.dumps(s, sort_keys=True)))),
        ("str", "json.dumps", lambda p, s: sha(str(sort_deep({**s, "image": sha(p)})).encode())),
        ("repr of items", "json.dumps", lambda p, s: sha(repr(sorted({**s, "image": sha(p)}.items())).encode())),
        ("another name", "image", lambda p, s: sha(json.dumps({**s, "picture": sha(p)}, sort_keys=True).encode())),
        ("concatenated", "one dictionary|one behind the other", lambda p, s: sha(sha(p).encode() + json.dumps(s, sort_keys=True).encode())),
        ("settings in a field", "beside \"image\"", lambda p, s: sha(json.dumps({"image": sha(p), "settings": s}, sort_keys=True).encode())),
        ("upper case", "hex", lambda p, s: key(p, s).upper()),
        ("shortened", "64", lambda p, s: key(p, s)[:12]),
        ("sorted by hand, not in lists", "in lists", lambda p, s: sha(json.dumps(sort_deep({**s, "image": sha(p)})).encode())),
        ("sorts lists", "order of the lists|hash of one JSON text", lambda p, s: key(p, sort_lists(s))),
        ("returns nothing", "return statement", lambda p, s: None),
        ("digest of the picture as bytes", "JSON serializable", lambda p, s: sha(json.dumps(
            {**s, "image": hashlib.sha256(p).digest()}, sort_keys=True).encode())),
        ("UTF-16", "text is|key", lambda p, s: sha(json.dumps({**s, "image": sha(p)}, sort_keys=True).encode("utf-16"))),
    ],
    "dealt": [
        ("blocks", "block", lambda x, r, n: x[r * len(x) // n:(r + 1) * len(x) // n]),
        ("blocks rounded down", "block", lambda x, r, n: x[len(x) // n * r:len(x) // n * (r + 1)]),
        ("from 1", "from 0", lambda x, r, n: x[r + 1::n]),
        ("ranks from 1", "from 0", lambda x, r, n: x[r - 1::n]),
        ("blocks of n", "block", lambda x, r, n: x[r * n:(r + 1) * n]),
        ("blocks and one more", "block", lambda x, r, n: x[r * (len(x) // n + 1):(r + 1) * (len(x) // n + 1)]),
        ("generator", "make a list", lambda x, r, n: (v for i, v in enumerate(x) if i % n == r)),
        ("islice", "make a list", lambda x, r, n: islice(x, r, None, n)),
        ("filter", "make a list", lambda x, r, n: filter(None, x[r::n])),
        ("map", "make a list", lambda x, r, n: map(x.__getitem__, range(r, len(x), n))),
        ("each item once", "alike", lambda x, r, n: list(dict.fromkeys(x[r::n]))),
        ("by value", "place|not all arguments converted|type", lambda x, r, n: [i for i in x if i % n == r]),
        ("indices", "not their places", lambda x, r, n: list(range(len(x)))[r::n]),
        ("by index()", "alike|place", lambda x, r, n: [i for i in x if x.index(i) % n == r]),
        ("pops", "in place", popping),
        ("count", "number of items|values", lambda x, r, n: len(x[r::n])),
        ("drops the rest", "every item", lambda x, r, n: x[:len(x) - len(x) % n][r::n]),
        ("swapped", "swapped|zero", lambda x, r, n: x[n::r]),
        ("all", "only its own", lambda x, r, n: x),
        ("reversed", "order|last", lambda x, r, n: x[r::n][::-1]),
        ("set", "values were expected|order", lambda x, r, n: set(x[r::n])),
        ("one item", "one item", lambda x, r, n: x[r:r + 1]),
        ("round by round, only the first two", "whole list|every item|values were expected|last", lambda x, r, n: x[r:2 * n:n]),
    ],
    "plan_pool": [
        ("int + 1", "even|one too many", lambda i, s, h, g, c, m: (int(work(i, s, h)) + 1, math.ceil(
            (int(work(i, s, h)) + 1) / min(c, m // g)))),
        ("rounded down", "round up", lambda i, s, h, g, c, m: (int(work(i, s, h)), math.ceil(int(work(i, s, h)) / min(c, m // g)))),
        ("round", "round up", lambda i, s, h, g, c, m: (round(work(i, s, h)), math.ceil(round(work(i, s, h)) / min(c, m // g)))),
        ("no memory", "memory", lambda i, s, h, g, c, m: (math.ceil(work(i, s, h)), math.ceil(math.ceil(work(i, s, h)) / c))),
        ("no cores", "cores", lambda i, s, h, g, c, m: (math.ceil(work(i, s, h)), math.ceil(math.ceil(work(i, s, h)) / (m // g)))),
        ("minutes", "3600", lambda i, s, h, g, c, m: pool(i, s, h / 60, g, c, m)),
        ("swapped", "in this order|order", lambda i, s, h, g, c, m: pool(i, s, h, g, c, m)[::-1]),
        ("max", "smaller", lambda i, s, h, g, c, m: (math.ceil(work(i, s, h)), math.ceil(math.ceil(work(i, s, h)) / max(c, m // g)))),
        ("memory not rounded", "rounded down|round", lambda i, s, h, g, c, m: (math.ceil(work(i, s, h)), math.ceil(
            math.ceil(work(i, s, h)) / min(c, m / g)))),
        ("memory rounded up", "rounded down|round", lambda i, s, h, g, c, m: (math.ceil(work(i, s, h)), math.ceil(
            math.ceil(work(i, s, h)) / min(c, math.ceil(m / g))))),
        ("machines rounded down", "machines", lambda i, s, h, g, c, m: (math.ceil(work(i, s, h)), max(1, int(
            math.ceil(work(i, s, h)) // min(c, m // g))))),
        ("machines int + 1", "even|one too many", lambda i, s, h, g, c, m: (math.ceil(work(i, s, h)), int(
            math.ceil(work(i, s, h)) / min(c, m // g)) + 1)),
        ("a name that is missing", "import it", lambda i, s, h, g, c, m: ceiling(work(i, s, h))),  # noqa: F821
        ("int of a little more", "small rests|however small", lambda *a: rounded(*a, up=lambda x: int(x + .99))),
        ("int of nearly one more", "small rests|however small", lambda *a: rounded(*a, up=lambda x: int(x + .999))),
        ("round of a half more", "comes out even|small rests", lambda *a: rounded(*a, up=lambda x: round(x + .5))),
        ("two decimals", "small rests|however small", lambda *a: rounded(*a, up=lambda x: math.ceil(round(x, 2)))),
        ("machines of a little more", "small rests|however small", lambda *a: rounded(*a, up_machines=lambda x: int(x + .99))),
        ("np.ceil", "whole number", lambda *a: rounded(*a, up=np.ceil, up_machines=np.ceil)),
        ("workers only", "both|values", lambda i, s, h, g, c, m: math.ceil(work(i, s, h))),
        ("fractions", "whole numbers|round up", lambda i, s, h, g, c, m: (work(i, s, h), work(i, s, h) / min(c, m // g))),
    ],
}

RIGHT = {
    "write_whole": [("open and replace", lambda p, d: os.replace(temporary(p, d), p)), ("os level", os_level),
                    ("NamedTemporaryFile", named_temporary), ("folder synced too", with_folder_sync), ("unbuffered", unbuffered),
                    ("Path.replace", lambda p, d: temporary(p, d).replace(p)),
                    ("shutil.move in the folder", lambda p, d: shutil.move(temporary(p, d), p)),
                    ("opened again to sync it", synced_again_opened), ("os.sync", all_synced), ("in pieces", in_pieces)],
    "key_of": [("dumps", key), ("copy", by_update_of_copy), ("dict union", lambda p, s: sha(json.dumps(
        s | {"image": sha(p)}, sort_keys=True).encode("ascii"))),
               ("sorted by hand, in lists too", lambda p, s: sha(json.dumps(sort_deeper({**s, "image": sha(p)})).encode()))],
    "dealt": [("slice", lambda x, r, n: x[r::n]), ("enumerate", lambda x, r, n: [v for i, v in enumerate(x) if i % n == r]),
              ("range", lambda x, r, n: [x[i] for i in range(r, len(x), n)]), ("tuple", lambda x, r, n: tuple(x[r::n])),
              ("numpy", lambda x, r, n: np.array(x)[r::n])],
    "plan_pool": [("ceil", pool), ("loops", pool_loop), ("numpy", lambda *a: np.array(pool(*a))),
                  ("floor", lambda i, s, h, g, c, m: (-int(-i * s // (h * 3600)), -(-(-int(-i * s // (h * 3600))) // min(c, int(m // g)))))],
}
