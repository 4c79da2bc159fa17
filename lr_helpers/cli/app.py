"""`python -m lr_helpers app`: the editor as a local web page."""

from __future__ import annotations

import argparse
import threading

from lr_helpers.cli.options import (
    add_allow_cpu,
    add_command,
    add_count,
    add_device,
    add_models,
    add_regions,
    chosen_profile,
)
from lr_helpers.errors import UserError


def add(commands) -> None:
    """Declare the command's options."""
    app = add_command(commands, "app", run, summary="the editor as a local web page, for this machine alone")
    add_models(app)
    add_regions(app)
    add_device(app)
    add_allow_cpu(app)
    app.add_argument("--host", default="127.0.0.1",
                     help="the address to listen at; another lets other machines in, without a password")
    add_count(app, "--port", low=1, help="its port; the default is the first free one from 7860 on")
    app.add_argument("--browser", action="store_true", help="open the page in the browser")


def run(options: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C; the exit code."""
    if options.port is not None and options.port > 65535:
        raise UserError(f"--port is {options.port}; give a value from 1 to 65535.")
    profile = chosen_profile(options)
    from lr_helpers.app import page

    page.gradio()  # which may be missing, before models are loaded
    from lr_helpers.models.loading import load_models

    models = load_models(profile, options.device, allow_cpu=options.allow_cpu)
    with page.served(models, options.host, options.port, options.browser) as address:
        print(f"The editor is at {address} (end it by Ctrl-C).", flush=True)
        threading.Event().wait()
    return 0
