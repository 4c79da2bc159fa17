# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A1 · Editing many images
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/learnable-regions/blob/main/notebooks/A1_editing_many_images.ipynb)
#
# **You will** edit a folder of pictures as one batch, kill it in the middle, and see it go on where it was; write the few
# functions that make this possible; and find out how many processes a million pictures need.
#
# | | |
# |---|---|
# | time | 1-2 minutes on a laptop without GPU (profile `tiny`), 50 with the exercises |
# | memory | about 1.5 GB; twice that while two processes work |
# | paper | none: this is engineering. The official code edits a folder by a JSON file too; ours reads the same file |
# | before | to use it: nothing; to know what an edit is: [06 The whole method](06_the_whole_method.ipynb) |

# %% tags=["setup"]
import os, sys  # On Colab this fetches the course and what is missing; elsewhere it does nothing.
if "google.colab" in sys.modules and "lr_helpers" not in sys.modules:
    sys.exit("Nothing was fetched: https://github.com/OWNER/learnable-regions "
             "is only a placeholder for the real address; open the course "
             "from its own repository, or put its address into pyproject.toml and run: "
             "python -m lr_helpers notebooks --badges")

# %% tags=["parameters"]
import os

profile = os.environ.get("LR_PROFILE", "tiny")  # which models; see data/models.toml
count = 8  # how many pictures
options = ["--shortlist", "4"]  # fewer edits a picture than the default, so that the batch is short
seed = 42

# %% tags=["costs"]
from lr_helpers.costs import course

course.say("A1", profile, count=count)

# %%
import csv, json, math, re, shutil, subprocess, sys, time
from datetime import datetime
from hashlib import sha256
from pathlib import Path

import torch
from IPython.display import Image as Show
from PIL import Image

from lr_helpers import EditResult, checks, plots
from lr_helpers.batch.items import plan
from lr_helpers.models.profiles import get_profile
from lr_helpers.errors import UserError
from lr_helpers.course.samples import sample, shipped

work = Path("../results/A1_editing_many_images")
shutil.rmtree(work, ignore_errors=True)
(work / "images").mkdir(parents=True)
print("profile", profile)

# %% [markdown]
# ## The pictures and the batch file
#
# Emoji scenes that no model has seen; for models that know the world, the photographs that are shipped, each once.

# %%
from tiny_world.scenes import scene

wishes = ["a mushroom", "a cake", "a red car", "an apple", "a rabbit", "a boat"]


def example(i: int) -> tuple[Image.Image, str, str]:
    """The i-th picture, what is there, and what we want to see."""
    if get_profile(profile).vocabulary:
        recipe = scene(4730 + i, 1)
        picture = Image.fromarray(recipe.render())
        return picture, recipe.objects[0].name, wishes[(i + 1) % len(wishes)]
    shown = sample(profile, shipped(profile)[i])
    return shown.picture, shown.source, shown.prompt

# %%
if not get_profile(profile).vocabulary:
    count = min(count, len(shipped(profile)))
examples = [example(i) for i in range(count)]
for i, (picture, _, _) in enumerate(examples):
    picture.save(work / "images" / f"{i}.png")
plots.show_pictures(
    [e[0] for e in examples], [f"{s} →\n{p}" for _, s, p in examples], columns=8, side=1.2
);

# %% [markdown]
# The file is that of the official code: for each picture, what is there now and what you want to see. (A list of
# objects may say more: several prompts, a seed, settings of one picture.)

# %%
batch = {f"{i}.png": [source, prompt] for i, (_, source, prompt) in enumerate(examples)}
(work / "batch.json").write_text(json.dumps(batch, indent=1), encoding="utf-8")
print((work / "batch.json").read_text(encoding="utf-8")[:180], "…")

# %% [markdown]
# ## 1. Everything that is wrong, before any work
#
# A mistake in line 9,000 should not wait until three in the morning. So the whole file is read and checked first, and
# *all* that is wrong with it is told at once, with its line. Here is a file with five bad entries out of six.

# %% tags=["nbval-check-output"]
(work / "broken.json").write_text("""[
 {"image": "0.png", "source": "a thing", "prompt": "a cake"},
 {"image": "../secret.png", "source": "a thing", "prompt": "a cake"},
 {"image": "1.png", "source": "a thing", "prompt": "   "},
 {"image": "1.png", "source": "a thing", "prompt": "a cake", "settings": {"anchors": 0}},
 {"image": "2.png", "source": "a thing", "prompt": "a cake", "sed": 3},
 {"image": "99.png", "source": "a thing", "prompt": ["a cake", 7]}
]""", encoding="utf-8")
checked = plan(work / "broken.json", work / "images", work / "broken")
print(len(checked.items), "can be edited")
print(*checked.problems, sep="\n")

# %% [markdown]
# Nothing was opened or loaded for this. What can't be read as JSON at all is an error with line and column.

# %% tags=["nbval-check-output"]
(work / "broken.json").write_text(
    '{"0.png": ["wolf", "a cake"],\n "1.png" ["fox", "a cake"]}', encoding="utf-8"
)
try:
    plan(work / "broken.json", work / "images", work / "broken")
except UserError as error:
    print(error)

# %% [markdown]
# A picture that turns out to be none is found when its turn comes: it is *refused*, in a sentence, and the others go
# on. We put two into our batch: an empty file, and half of a PNG.

# %%
half = (work / "images" / "0.png").read_bytes()
(work / "images" / "empty.png").write_bytes(b"")
(work / "images" / "half.png").write_bytes(half[:len(half) // 2])
batch = {"empty.png": ["wolf", "a cake"], **batch, "half.png": ["wolf", "a cake"]}
(work / "batch.json").write_text(json.dumps(batch, indent=1), encoding="utf-8");

# %% [markdown]
# ## 2. What may be there after a crash?
#
# A process can die at any moment: no memory, no power, `kill -9`. It must never leave a file that looks whole and
# isn't. The trick is old: write under **another name** in the same folder, make sure the bytes are on the disk
# (`flush`, then `os.fsync`), then give it its name by `os.replace`, which happens as a whole or not at all.
#
# **Exercise 1** ★★☆ · 10 minutes. The check breaks your function off after each of its calls, and looks at what is there.

# %% tags=["solution"]
def write_whole(path: Path, data: bytes) -> None:
    """Write `data` to the file `path`, so that whoever looks, at any moment, finds the old file or
    the new one, whole.

    If `path` exists, it is replaced. No temporary file is left behind, and the folder's other files
    stay.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)

# %% tags=["nbval-check-output"]
checks.write_whole(write_whole)

# %% [markdown]
# An item has several files, so one more rule: its **record**, `item.json`, is written last. No record: not done.
#
# ## 3. Is it done already?
#
# Done means: done *from the same input*. All that decides the result is put into one hash, the **key**, and stored in the
# record: the picture's bytes, both texts, the seed, every setting, the weights of the models. If the key that we would
# write now is the one that stands there, there is nothing to do; run twice, nothing happens twice (*idempotence*).
#
# **Exercise 2** ★★☆ · 10 minutes. The key of a picture and its settings.

# %% tags=["solution"]
def key_of(picture: bytes, settings: dict) -> str:
    """The key: SHA-256, in hex, of the JSON text of one dictionary.

    That is a copy of `settings` with one more key, "image": the SHA-256 (hex) of the picture's
    bytes. Its keys are sorted, at every depth and in lists too (`json.dumps(...,
    sort_keys=True)`); `json.dumps` is otherwise used as it is, and the text is encoded as UTF-8.
    """
    decides = {**settings, "image": sha256(picture).hexdigest()}
    return sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()

# %% tags=["nbval-check-output"]
checks.key_of(key_of)

# %% tags=["nbval-check-output"]
one, other = {"prompt": "a cake", "seed": 42}, {"seed": 42, "prompt": "a cake"}
print("another order, the same key:", key_of(b"picture", one) == key_of(b"picture", other))
print(
    "another seed, another key:  ",
    key_of(b"picture", one) != key_of(b"picture", {**one, "seed": 43}),
)

# %% [markdown]
# ## 4. Kill it
#
# Now the real command, as a process of its own.

# %%
output, record = work / "edited", "item.json"


def start(output: Path, launcher: tuple[str, ...] = ()) -> subprocess.Popen:
    """Begin the batch in a process of its own."""
    what = [str(work / "batch.json"), "--images", str(work / "images"), "--output", str(output)]
    how = ["--profile", profile, "--seed", str(seed), "--quiet", *options]
    words = [sys.executable, *launcher, "-m", "lr_helpers", "batch", *what, *how]
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )

# %%
def finished(output: Path) -> dict[str, tuple]:
    """The items that are done, and by which file and when."""
    return {
        f.parent.name: (f.stat().st_ino, f.stat().st_mtime_ns) for f in output.glob(f"*/{record}")
    }

# %% [markdown]
# We wait until three items are done, and some milliseconds more, so that it is in the middle of the next: SIGKILL. No
# process can catch it, nothing is tidied up.

# %%
process = start(output)
while len(finished(output)) < 3 and process.poll() is None:
    time.sleep(0.005)
time.sleep(0.05)
process.kill()
process.wait()
before = finished(output)
print(f"{len(before)} of {count} items are done: {sorted(before)}")
print((output / "batch.log").read_text(encoding="utf-8"))

# %% [markdown]
# The log ends in the middle of things. What is in the folder?

# %% tags=["nbval-check-output"]
whole = [EditResult.load(output / name) for name in before]
print("finished items that can't be loaded:", len(before) - len(whole))
print("is there a summary?", (output / "summary.csv").exists())
print("killed by signal", -process.returncode)

# %% [markdown]
# ## 5. Start it again
#
# The same command. No `--resume`, no list of what is left: it looks, and does what is missing.

# %%
process = start(output)
said, _ = process.communicate()
print(said)

# %% tags=["nbval-check-output"]
after = finished(output)
begun = re.findall(r"\] begin (.*)", (output / "batch.log").read_text(encoding="utf-8"))
twice = {name for name in begun if begun.count(name) > 1}
print("done now:", len(after), "of", count)
print("finished items that were touched: ", sum(after[name] != before[name] for name in before))
print("finished items that were edited again:", len(twice & set(before)))
print("half-written files left:", len(list(output.rglob("*.tmp"))))
print("exit code", process.returncode, "because two entries were refused")

# %% [markdown]
# What was edited twice is at most the one item that the kill interrupted. Is the result the same as without a kill? The
# tests compare it bit by bit, after a hundred kills (`python tests/kill_loop.py`).
#
# We have seen what is wrong with the two pictures; take them out of the file, and start a third time. Nothing is to do,
# so not even the models are loaded.

# %%
table = (output / "summary.csv").read_text(encoding="utf-8")  # as it is now, to be looked at below
batch = {image: texts for image, texts in batch.items() if image not in ("empty.png", "half.png")}
(work / "batch.json").write_text(json.dumps(batch, indent=1), encoding="utf-8")
began = time.perf_counter()
process = start(output)
said, _ = process.communicate()
print(
    f"{said.strip() or 'nothing to tell'}; {time.perf_counter() - began:.1f} s, most of it "
    f"Python starting"
)

# %% tags=["nbval-check-output"]
print(
    "touched:",
    sum(finished(output)[name] != after[name] for name in after),
    " exit code",
    process.returncode,
)

# %% [markdown]
# ## 6. What came out
#
# A folder for each item, laid out as the official code's: the input, each anchor's edit, the same with its box, the final
# picture; and our records. Beside them the table, the log and a contact sheet. The hidden file lists what we wrote: nothing
# else is ever replaced or removed, so your own files are safe there.

# %% tags=["nbval-check-output"]
print(*sorted(f.name + "/" * f.is_dir() for f in output.iterdir()))
print(
    *sorted(
        f.relative_to(output / "0").as_posix()
        for f in (output / "0").rglob("*")
        if f.is_file() and f.parent.name not in ("boxes", "results")
    )
)

# %%
Show(
    filename=str(output / "contact_sheet.png"),
    alt="Contact sheet: of each item the input, the learned region and the result",
    width=900,
)

# %% [markdown]
# On the left the input, in the middle the learned region, on the right the result. The table has a line for each entry,
# also for what was refused, and why. This is how it was after the second start:

# %% tags=["nbval-check-output"]
for row in csv.DictReader(table.splitlines()):
    print(f"{row['name']:10} {row['status']:8} {row['message'].partition(' (')[0]}")

# %% [markdown]
# ## 7. Two processes
#
# Items do not depend on each other, so several processes share them, by nothing but their number: of $n$ processes,
# number $r$ takes the items $r, r + n, r + 2n, \dots$ of those that are to do. (The official code starts two processes but
# predicts in the first alone.)
#
# **Exercise 3** ★☆☆ · 5 minutes. Deal the items out.

# %% tags=["solution"]
def dealt(items: list, rank: int, processes: int) -> list:
    """The items of process number `rank` (0 … processes - 1), dealt out in turn like cards, in
    their order; some may be alike.
    """
    return list(items[rank::processes])

# %% tags=["nbval-check-output"]
checks.dealt(dealt)

# %% tags=["nbval-check-output"]
for rank in range(2):
    print(f"rank {rank}: {dealt(list(range(count)), rank, 2)}")

# %% [markdown]
# `torchrun` starts the processes and tells each its rank; the command is the same. One process a GPU; on a CPU, two here.

# %%
processes = torch.cuda.device_count() or 2
shared = work / "shared"
process = start(
    shared,
    launcher=("-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"),
)
said, _ = process.communicate()
print("exit code", process.returncode)

# %% [markdown]
# Who did what, and when? The log knows the process and the moment at which each item was begun; the records know
# how long it took.

# %%
def times(output: Path) -> list[tuple[str, int, float, float]]:
    """(item, number of the process, begin, seconds) of each item; times from the first begin on."""
    log = (output / "batch.log").read_text(encoding="utf-8")
    lines = re.findall(r"(\S+) \[(\d+)\] begin (.*)", log)
    # Process 0 is the one that took the first item, whoever wrote its first line sooner.
    in_order = sorted(lines, key=lambda line: line[2])
    processes = list(dict.fromkeys(process for _, process, _ in in_order))
    rows = []
    for when, process, name in lines:
        if not (output / name / record).exists():
            continue  # begun, but not finished by this process
        row = json.loads((output / name / record).read_text(encoding="utf-8"))["row"]
        begun = datetime.fromisoformat(when).timestamp()
        rows.append((name, processes.index(process), begun, row["seconds"]))
    first = min(begun for _, _, begun, _ in rows)
    return [(name, process, begun - first, seconds) for name, process, begun, seconds in rows]

# %%
rows = times(shared)
plots.show_processes(rows);

# %% tags=["nbval-check-output"]
same = [
    (output / n / "final_output.png").read_bytes() == (shared / n / "final_output.png").read_bytes()
    for n in after
]
workers = {process for _, process, _, _ in rows}
print("items done:", len(finished(shared)), "by", len(workers), "processes")
print("each item by one of them:", sorted(name for name, *_ in rows) == sorted(after))
print("left behind by them:", len(list(shared.rglob("*.tmp"))))

# %%
span = max(begin + seconds for _, _, begin, seconds in rows)
print(f"{sum(same)} of {len(same)} results have the very bytes of the single process")
print(
    f"{len(rows)} items in {span:.1f} s: {3600 * len(rows) / span:,.0f} images an hour, "
    f"{processes} processes, models loaded"
)

# %% [markdown]
# Another number of threads can round a sum differently, so bytes may differ where a process has fewer; with the same
# number they agree. A throughput over so few items is rough: `python -m lr_helpers.costs.batch` measures it properly, with one and
# two processes in turn.
#
# ## 8. A million images
#
# One more machine is no harder: `torchrun --nnodes=2 …` on both, or a Ray pool with `--engine ray --address …`
# ([both commands](../docs/batch.md#two-machines)). How many? Two figures of one item decide: its **seconds**, and the
# **memory** of a worker.
#
# $$\text{workers} = \left\lceil \frac{\text{items} \times \text{seconds}}{\text{hours} \times 3600} \right\rceil,
# \qquad \text{workers a machine} = \min\left(\text{cores}, \left\lfloor \frac{\text{memory}}{\text{memory of a worker}} \right\rfloor\right)$$
#
# **Exercise 4** ★☆☆ · 10 minutes. How many workers, on how many machines?

# %% tags=["solution"]
def plan_pool(
    items: int, seconds: float, hours: float, gigabytes: float, cores: int, memory: float
) -> tuple[int, int]:
    """(workers, machines), whole numbers, that edit so many items in so many hours.

    `seconds`: of one item; `gigabytes`: memory of one worker; `cores` and `memory` (GB): of one
    machine, which holds a worker a core if there is memory for them. All machines are alike, and
    one holds at least one worker.
    """
    workers = math.ceil(items * seconds / (hours * 3600))
    each = min(cores, math.floor(memory / gigabytes))
    return workers, math.ceil(workers / each)

# %% tags=["nbval-check-output"]
checks.plan_pool(plan_pool)

# %% [markdown]
# With the seconds measured above (this small search; the default takes longer), machines of 16 cores and 64 GB, and
# 1.5 GB a worker:

# %%
seconds = sum(row[3] for row in rows) / len(rows)
for hours in (8, 24, 7 * 24):
    workers, machines = plan_pool(1_000_000, seconds, hours, 1.5, 16, 64.0)
    print(
        f"a million images, {seconds:.2f} s each, in {hours:3} hours: {workers:,} workers on "
        f"{machines} machine(s)"
    )

# %% [markdown]
# Leave room: machines fail, and the last items keep a few workers busy while the others are idle.
#
# ## What we learned
#
# * Check everything that can be checked before the work begins, and tell it all at once.
# * A file is written under another name, flushed, renamed; the record comes last. So a crash leaves old or new, never half.
# * The key of an item holds all that decides its result. Then "go on" and "start" are the same command.
# * One bad picture costs one line in the table, not the night.
# * Independent items are shared by their number alone; launchers that exist already do the rest.
#
# ## More to try
#
# * Kill the two processes in the middle (`kill -9` one of them), start them again, and compare with `edited`.
# * Change one prompt in `batch.json`, start the batch again, and find in the log why one item was edited.
#
# **Next:** you have reached the end. Edit [pictures of your own](00_start_here.ipynb), or take a [real profile](../docs/real_models.md).
