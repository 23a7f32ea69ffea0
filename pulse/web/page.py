"""The page: a picture goes in, imaginary faces come out. Gradio's part of the browser front end."""

from __future__ import annotations

import os

# Nothing is reported to anyone, and no model hub is asked for anything.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_OFFLINE"] = "1"

import gradio as gr

from pulse.web import html
from pulse.web.blocks import Blocks
from pulse.web.face import FaceView
from pulse.web.face_parts import EXAMPLES
from pulse.web.markup import lead
from pulse.web.server import Site
from pulse.web.studio import Studio
from pulse.web.tabs import limit_of, other_tabs, style


def site_of(studio: Studio) -> Site:
    """The page of a studio."""
    os.environ["GRADIO_TEMP_DIR"] = str(studio.folder)  # Uploads are swept up with the rest.
    blocks = Page(studio).blocks
    return Site(blocks, style(), ("api", "settings"), EXAMPLES, limit_of(studio.limits))


class Page:
    """What stands around the views, and what happens when a visitor leaves."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        with Blocks(title="PULSE", analytics_enabled=False, fill_width=True) as self.blocks:
            with gr.Tabs():
                with gr.Tab("Face"):
                    lead(
                        "Give it a small, blurred or pixelated face. It imagines people who would "
                        "look just like that if they were as small."
                    )
                    gr.HTML(html.caution(), elem_id="caution")
                    view = FaceView(studio)
                other_tabs(studio, view.parts.examples)
            self.blocks.unload(self.leave)

    def leave(self, request: gr.Request) -> None:
        """The visitor closed the page."""
        self.studio.leave(str(request.session_hash))
