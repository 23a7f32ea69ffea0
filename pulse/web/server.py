"""The page at an address, until it is ended."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass

import gradio as gr
from gradio.themes import Base, Default
from starlette.middleware import Middleware

from pulse.imaging.pictures import InputError, setting
from pulse.web import html
from pulse.web.guard import Guard
from pulse.web.page import EXAMPLES, Page
from pulse.web.studio import Studio


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


def theme() -> Base:
    """Gradio's own without fonts from elsewhere."""
    system = ("system-ui", "-apple-system", "Segoe UI", "sans-serif")
    return Default(
        primary_hue="indigo", neutral_hue="slate", font=system,
        font_mono=("ui-monospace", "monospace"), radius_size="lg",
    )  # fmt: skip


def launch(studio: Studio, address: Address) -> tuple[gr.Blocks, str]:
    """Serve the page in threads of this process.

    Returns:
        The page, whose `close()` ends it, and its address.

    Raises:
        InputError: the address cannot be used.
    """
    # These were read already; Gradio would take them where a free port was asked for.
    for name in ("GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT", "GRADIO_ROOT_PATH"):
        os.environ.pop(name, None)
    os.environ["GRADIO_TEMP_DIR"] = str(studio.folder)  # Uploads are swept up with the rest.
    page = Page(studio).blocks
    guard = Middleware(Guard, login=address.auth is not None, root=address.root_path)
    try:
        _, url, _ = page.launch(
            server_name=address.host,
            server_port=address.port or None,
            auth=address.auth,
            root_path=address.root_path,
            share=False,
            quiet=True,
            show_error=True,
            prevent_thread_lock=True,
            max_file_size=studio.limits.upload,
            allowed_paths=[str(EXAMPLES)],
            footer_links=["api", "settings"],
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            theme=theme(),
            css=html.style(),
            app_kwargs={"middleware": [guard]},
        )
    except OSError as error:
        raise InputError(
            f"The page cannot be served at {address.host}, port {address.port}; perhaps another "
            f"program is there: give another {setting('port')} or {setting('host')}."
        ) from error
    return page, url


def serve(studio: Studio, address: Address) -> None:
    """Serve the page until Ctrl-C, and keep what visitors leave behind swept up.

    Raises:
        InputError: the address cannot be used.
    """
    # Being told to end is as good as Ctrl-C: either way the temporary files are removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    page, url = launch(studio, address)
    print(f"PULSE is at {url} (Ctrl-C ends it).", flush=True)
    try:
        while True:
            time.sleep(60)
            studio.sweep()
    except KeyboardInterrupt:
        pass
    finally:
        page.close(verbose=False)
