"""The Face view for programs."""

from __future__ import annotations

import inspect
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

import gradio as gr
from gradio.components import Component

from pulse.imaging.pictures import InputError
from pulse.web.blocks import address_of
from pulse.web.controls import sentence
from pulse.web.order import ALL, Order
from pulse.web.studio import Studio, archive
from pulse.web.updates import Done, Searching


def offer(studio: Studio, controls: Sequence[Component]) -> None:
    """The endpoint `/upscale`; the page's controls are its arguments, defaults and limits."""

    def upscale(request: gr.Request, *said: Any) -> Iterator[tuple[Any, str | None]]:
        yield from _upscale(studio, Order(*said), address_of(request))

    # Gradio calls the API's arguments as the function's parameters are called.
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    names = ("request", *(field.name for field in fields(Order)))
    signature = inspect.Signature([inspect.Parameter(name, kind) for name in names])
    upscale.__signature__ = signature  # type: ignore[attr-defined]
    with gr.Row(visible=False):
        record, archived = gr.JSON(label="record"), gr.File(label="archive")
        gr.Button().click(
            upscale,
            [*controls],
            [record, archived],
            api_name="upscale",
            concurrency_limit=None,
            api_description="Search for faces that downscale to the one in a picture. Yields "
            "how far it is, and at last the record, as in result.json, and a ZIP file.",
        )


def _upscale(
    studio: Studio, order: Order, address: str
) -> Iterator[tuple[dict[str, Any], str | None]]:
    stop = threading.Event()
    try:
        if order.face == ALL:
            raise InputError("Ask for one face at a time; the largest is number 0.")
        one = order.asked()
        for update in studio.run(one.wish, one.config, one.preset, stop, address=address):
            if isinstance(update, Done):
                folder = studio.new_folder() / "results"
                zipped = archive(update.result, folder)
                yield json.loads((folder / "result.json").read_text("utf-8")), str(zipped)
            elif isinstance(update, Searching):
                state = update.state
                mse = state.best.nan_to_num(posinf=1.0).tolist()  # JSON knows no infinity.
                yield {"step": state.step, "steps": state.steps, "mse": mse}, None
    except Exception as error:
        raise gr.Error(sentence(error), print_exception=False) from error
