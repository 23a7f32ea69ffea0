"""Pages at an address, until they are ended."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import gradio as gr
from gradio.themes import Base, Default
from starlette.middleware import Middleware

from pulse.imaging.pictures import InputError, setting
from pulse.web.guard import Guard

SWITCH = 5e-4
"""Seconds after which a thread that computes lets another one in; Python's own are 5 ms."""


@dataclass(frozen=True)
class Address:
    """Where the page is, and for whom.

    Attributes:
        port: 0 takes a free one.
        root_path: where a proxy shows it, if not at its root.
        auth: name and password that visitors have to give.
    """

    host: str = "127.0.0.1"
    port: int = 0
    root_path: str | None = None
    auth: tuple[str, str] | None = None


def _theme() -> Base:
    """Gradio's own without fonts from elsewhere; light enough or dark enough to be read.

    Text has a contrast of 4.5 to its ground, and boxes are seen before they are ticked.
    """
    system = ("system-ui", "-apple-system", "Segoe UI", "sans-serif")
    return Default(
        primary_hue="indigo", neutral_hue="slate", font=system,
        font_mono=("ui-monospace", "monospace"), radius_size="lg",
    ).set(
        body_text_color_subdued="*neutral_500", body_text_color_subdued_dark="*neutral_400",
        block_info_text_color="*neutral_500", block_info_text_color_dark="*neutral_400",
        checkbox_border_color="*neutral_400", checkbox_border_color_dark="*neutral_400",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_cancel_background_fill="#dc2626", button_cancel_background_fill_hover="#b91c1c",
    )  # fmt: skip


@dataclass(frozen=True)
class Site:
    """A page, and what belongs to it.

    Attributes:
        footer: which of Gradio's own entries stand at the bottom.
        files: folder that pictures of the page itself come from.
        upload: bytes of a file that is sent to it, at most; None is whatever comes.
    """

    page: gr.Blocks
    css: str
    footer: tuple[Literal["api", "settings"], ...] = ()
    files: Path | None = None
    upload: int | None = None


def launch(site: Site, address: Address) -> str:
    """Serve a page in threads of this process, until it is closed.

    Returns:
        Where it is.

    Raises:
        InputError: the address cannot be used.
    """
    # These were read already; Gradio would take them where a free port was asked for.
    for name in ("GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT", "GRADIO_ROOT_PATH"):
        os.environ.pop(name, None)
    guard = Middleware(Guard, login=address.auth is not None, root=address.root_path)
    try:
        _, url, _ = site.page.launch(
            server_name=address.host,
            server_port=address.port or None,
            auth=address.auth,
            root_path=address.root_path,
            share=False,
            quiet=True,
            show_error=True,
            prevent_thread_lock=True,
            max_file_size=site.upload,
            allowed_paths=[] if site.files is None else [str(site.files)],
            footer_links=[*site.footer],
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            theme=_theme(),
            css=site.css,
            app_kwargs={"middleware": [guard]},
        )
    except OSError as error:
        raise InputError(
            f"The page cannot be served at {address.host}, port {address.port}; perhaps another "
            f"program is there: give another {setting('port')} or {setting('host')}."
        ) from error
    return url


def serve(
    site: Site, address: Address, words: str, sweep: Callable[[], None] | None = None
) -> None:
    """Serve a page until Ctrl-C.

    Args:
        words: what is said once it is up, before its address.
        sweep: what is done every minute.

    Raises:
        InputError: the address cannot be used.
    """
    # A search lets others in at each of its thousand small operations, and would wait 5 ms each
    # time to be let in again while requests are answered.
    sys.setswitchinterval(SWITCH)
    # Being told to end is as good as Ctrl-C: either way the temporary files are removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    url = launch(site, address)
    print(f"{words} {url} (Ctrl-C ends it).", flush=True)
    try:
        while True:
            time.sleep(60)
            if sweep is not None:
                try:
                    sweep()
                except Exception as error:  # The page goes on.
                    logging.getLogger("pulse").error("A fault of the page", exc_info=error)
    except KeyboardInterrupt:
        pass
    finally:
        site.page.close(verbose=False)
