#!/usr/bin/env bash
# Everything from a fresh clone: packages, then all notebooks (run) or all tests (test).
# Kept to what bash 3.2 knows, which is what macOS ships.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: ./reproduce.sh [run | test | lab | app | site | slides] [--profile NAME] [--allow-cpu] [--again] [--time-limit MINUTES] [--all]
       ./reproduce.sh --help

  run             check that the profile can run here, then run all notebooks and write results/NAME/index.html (the
                  default); notebooks that passed before and are unchanged are kept, so that what was interrupted goes on
  test            check the style, then run the unit tests and the notebooks' cells (profile tiny): on two cores about
                  12 minutes
  lab             open the notebooks in JupyterLab (installs it first, once)
  app             open the editor as a page in a browser (installs Gradio first, once)
  site            build the course as a web site in site/: notebooks, pages, reference (a minute; nothing is run)
  slides          build the slides of the teacher's meetings in slides/ (seconds; nothing is run)
  --profile NAME  which models `run`, `lab` and `app` use; the default is $LR_PROFILE, else tiny (shipped, no GPU needed)
  --allow-cpu     do without a GPU where the profile needs one (very slow)
  --again         let `run` run unchanged notebooks too
  --time-limit MINUTES
                  how long `run` lets a notebook take; the default is 120 with a GPU, without one 60, or 1440 for
                  full-size models
  --all           let `test` run everything: also what needs many processes, other models, full sizes or a browser (45
                  minutes); installs Gradio, JupyterLab and Playwright first, once
  --help          show this text

The first call makes a virtual environment in .venv and installs the versions of constraints.txt there (about 6.5
GB with CUDA on Linux; with uv on your PATH, UV_TORCH_BACKEND=cpu ./reproduce.sh takes the smaller CPU build of torch).
Needs Python 3.11, 3.12 or 3.13, or uv, which can fetch one.
TEXT
}

# Say one sentence and stop: fail CODE SENTENCE
fail() {
  printf 'reproduce.sh: %s\n' "$2" >&2
  exit "$1"
}

command=
profile=${LR_PROFILE:-tiny}
allow_cpu=
again=
time_limit=
all=
while [ $# -gt 0 ]; do
  case $1 in
    run | test | lab | app | site | slides)
      [ -z "$command" ] || fail 2 "Give one of run, test, lab, app, site and slides, once, not also '$1'; see ./reproduce.sh --help."
      command=$1
      ;;
    --profile)
      [ $# -ge 2 ] || fail 2 "--profile needs a name, for example --profile tiny."
      profile=$2
      shift
      ;;
    --profile=*) profile=${1#--profile=} ;;
    --allow-cpu) allow_cpu=--allow-cpu ;;
    --again) again=--again ;;
    --all) all=--all ;;
    --time-limit)
      [ $# -ge 2 ] || fail 2 "--time-limit needs a number of minutes, for example --time-limit 90."
      time_limit=$2
      shift
      ;;
    --time-limit=*) time_limit=${1#--time-limit=} ;;
    -h | --help)
      usage
      exit 0
      ;;
    *) fail 2 "Unknown argument '$1'; see ./reproduce.sh --help." ;;
  esac
  shift
done
command=${command:-run}
if [ -n "$all" ] && [ "$command" != test ]; then fail 2 "--all belongs to test: ./reproduce.sh test --all."; fi
case $profile in
  '' | *[!A-Za-z0-9_-]*) fail 2 "The profile '$profile' is not a name; it may hold letters, digits, - and _." ;;
esac
case $time_limit in
  *[!0-9.]* | .) fail 2 "The time limit '$time_limit' is not a number of minutes, for example 90." ;;
esac

unset CDPATH PYTHONHOME PYTHONPATH
# The folder of this script, also where it is called by a link to it (macOS has no readlink -f).
script=${BASH_SOURCE[0]}
while [ -L "$script" ]; do
  target=$(readlink -- "$script")
  case $target in
    /*) script=$target ;;
    *) script=$(dirname -- "$script")/$target ;;
  esac
done
cd -- "$(dirname -- "$script")"
python=.venv/bin/python
needed="Python 3.11, 3.12 or 3.13 is needed and was not found; install one and run this again."

# Is $1 a Python that the course supports?
supported() {
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

# The first supported Python on PATH, into $base.
find_python() {
  for base in python3 python3.13 python3.12 python3.11 python; do
    if supported "$base"; then return 0; fi
  done
  return 1
}

# Make an empty .venv and leave the uv to use in $uv; it stays empty where there is none and pip has to do.
make_environment() {
  rm -rf .venv
  mkdir .venv
  echo unfinished >.venv/stamp
  uv=$(command -v uv || true)
  if [ -n "$uv" ]; then
    "$uv" venv --quiet --allow-existing --python '>=3.11,<3.14' .venv || fail 1 "$needed"
    return
  fi
  find_python || fail 1 "$needed"
  if "$base" -m venv .venv >/dev/null 2>&1; then
    if "$python" -m pip install --quiet uv; then uv=.venv/bin/uv; fi
  # Debian's python3 without python3-venv can't make one, but its pip can fetch uv, which can.
  elif "$base" -m pip install --quiet --upgrade --target .cache/uv uv &&
    .cache/uv/bin/uv venv --quiet --allow-existing --python "$base" .venv; then
    uv=.cache/uv/bin/uv
  else
    fail 1 "$base can't make a virtual environment; install its venv module (on Debian: apt install python3-venv) or uv."
  fi
}

# Make .venv anew unless it already holds what is asked for.
prepare() {
  # The place belongs to the stamp because an environment that was moved still points to its old place.
  stamp="$(cat pyproject.toml constraints.txt | cksum) $PWD"
  if [ "$(cat .venv/stamp 2>/dev/null)" = "$stamp" ] && supported "$python"; then return; fi
  if [ -e .venv ] && [ ! -f .venv/stamp ]; then
    fail 1 "The folder .venv was not made by this script; move it away or delete it, and run this again."
  fi
  echo "Making the virtual environment .venv and installing the packages (once; a few minutes)"
  make_environment
  install test
  printf '%s\n' "$stamp" >.venv/stamp
}

# Install the project with an extra of pyproject.toml, by $uv or else by pip: install EXTRA
# The packages are byte-compiled, as pip does unasked: where Python may not write bytecode, each process would otherwise
# take ten seconds more to import them.
install() {
  if [ -n "$uv" ]; then
    "$uv" pip install --quiet --compile-bytecode --python "$python" -c constraints.txt -e ".[$1]"
  else
    "$python" -m pip install --quiet -c constraints.txt -e ".[$1]"
  fi || fail 1 "The packages could not be installed (see above); check the network and the disk, and run this again."
}

prepare
case $command in
  site | slides) exec "$python" -m lr_helpers "$command" --output "$command" ;;
esac

# Kernels come from .venv even if the user's home folder holds another kernel named python3.
export JUPYTER_PREFER_ENV_PATH=1 TOKENIZERS_PARALLELISM=false

# The doctor says whether the profile can run here, before anything is downloaded; of full-size profiles also what
# notebook 09 fetches, where notebooks are to be run.
if [ "$command" != test ]; then
  comparison=
  [ "$profile" = tiny ] || [ "$command" = app ] || comparison=--comparison
  "$python" -m lr_helpers doctor --profile "$profile" ${comparison:+"$comparison"} ${allow_cpu:+"$allow_cpu"} || exit $?
fi

if [ "$command" = run ]; then
  exec "$python" -m lr_helpers report --profile "$profile" --output "results/$profile" \
    ${allow_cpu:+"$allow_cpu"} ${again:+"$again"} ${time_limit:+--time-limit "$time_limit"}
fi

# Install extras of pyproject.toml later than .venv was made: add NAMES WHAT
add() {
  echo "Installing $2 (once)"
  for uv in "$(command -v uv || true)" .venv/bin/uv .cache/uv/bin/uv ''; do
    if [ -x "$uv" ]; then break; fi
  done
  install "$1"
}

if [ "$command" = lab ]; then
  "$python" -c 'import jupyterlab' >/dev/null 2>&1 || add lab JupyterLab
  [ -z "$allow_cpu" ] || export LR_ALLOW_CPU=1
  # Before the first notebook, and visibly; `run` does so too.
  [ "$profile" = tiny ] || "$python" -m lr_helpers fetch --profile "$profile" || exit $?
  LR_PROFILE=$profile exec "$python" -m jupyterlab notebooks
fi

if [ "$command" = app ]; then
  "$python" -c 'import gradio' >/dev/null 2>&1 || add app Gradio
  exec "$python" -m lr_helpers app --profile "$profile" --browser ${allow_cpu:+"$allow_cpu"}
fi

export LR_PROFILE=tiny
if [ -n "$all" ] && ! "$python" -c 'import gradio, jupyterlab, playwright' >/dev/null 2>&1; then
  (add app,lab,browser "what drives the editor in a browser") ||
    echo "The tests that drive the editor in a browser are skipped."
fi
# Our own packages are byte-compiled too; where the folder can't be written to, each process does it for itself.
"$python" -m compileall -q lr_helpers tiny_world >/dev/null 2>&1 || true
status=0
"$python" -m ruff check . || status=1
[ "$status" = 0 ] || echo "The style check failed (above); the tests run all the same."
# One run for both, so that the last line counts unit tests and notebook cells together. Two processes with one thread
# each are faster than one with two; a file's tests stay together, as a notebook's cells have to, and files that take
# long come first (tests/conftest.py).
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
set -- notebooks/*.ipynb
[ -f "$1" ] || fail 1 "notebooks/ holds no .ipynb to test; make them by: .venv/bin/python -m lr_helpers notebooks"
if [ -z "$all" ]; then set -- -m "not all" "$@"; fi
"$python" -m pytest -n 2 --dist loadfile --no-loadscope-reorder --nbval-lax --nbval-current-env \
  --continue-on-collection-errors --durations=15 --durations-min=1 tests "$@" || status=$?
exit "$status"
