"""Gradio's blocks, which take what a program sends only as the page's controls would send it."""

from __future__ import annotations

import re
from typing import Any

import gradio as gr
from gradio.data_classes import ImageData

LINK = "Links are not fetched: save the picture and give its file."
ODD = (
    "What was sent is not what the page's controls give: send the picture as a file that was "
    "uploaded here, and numbers as numbers."
)


class Blocks(gr.Blocks):
    """Refuses in a sentence what Gradio would fetch, or refuse with a traceback."""

    async def preprocess_data(
        self, block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False
    ) -> Any:
        if any(_is_link(value) for value in inputs):
            raise gr.Error(LINK, print_exception=False)
        try:
            return await super().preprocess_data(block_fn, inputs, state, explicit_call)
        except gr.Error:
            raise
        except Exception as error:
            raise gr.Error(ODD, print_exception=False) from error


def _is_link(value: Any) -> bool:
    """Whether a file is given by its address elsewhere."""
    if isinstance(value, list):
        return any(_is_link(part) for part in value)
    path = value.get("path") if isinstance(value, dict) else value
    return isinstance(path, str) and re.match(r"\s*\w[\w+.-]*://", path) is not None


def file_of(payload: ImageData | None) -> str | None:
    """What was uploaded, as it is."""
    return None if payload is None else payload.path


def address_of(request: gr.Request) -> str:
    """Of who asks, where it is known."""
    return request.client.host if request.client else ""
