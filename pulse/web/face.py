"""The Face view: what happens when one of its parts is touched."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import randrange
from typing import Any

import gradio as gr

from pulse.imaging.pictures import InputError
from pulse.web import html
from pulse.web.api import offer
from pulse.web.blocks import address_of
from pulse.web.controls import sentence
from pulse.web.face_parts import FaceParts
from pulse.web.history import FACES, PASTING, Asked, Past, Visit
from pulse.web.order import ALL, Order
from pulse.web.scripts import SCROLL
from pulse.web.studio import Studio, archive
from pulse.web.updates import Done, Near, Pasted, Searching, Updates, Waiting, repeating

GONE = "This result is not kept any more; please search again."
PUTTING = "Putting it into the photo. Where the face there is large, that can take a minute."
CHOOSE_FIRST = "The picture shows several faces: choose one of them, or all, then search."


class FaceView:
    """One small face goes in, several large ones come out."""

    def __init__(self, studio: Studio) -> None:
        self.studio, self.parts = studio, FaceParts(studio)
        self._events()
        offer(studio, self.parts.controls)

    def _events(self) -> None:
        parts, controls = self.parts, self.parts.controls
        private: Any = {"api_visibility": "private", "show_progress": "hidden"}
        anew: Any = {"concurrency_limit": None, **private}
        at_once: Any = {"queue": False, **private}
        looked: Any = [parts.problem, parts.faces, parts.face, parts.run]
        seen: Any = [parts.problem, parts.matched, parts.command]
        pasted: Any = [parts.photo, parts.photo_file]
        chosen: Any = [parts.detail, parts.one, parts.all, parts.paste, parts.chosen, *pasted]
        gr.on(
            [parts.picture.change, parts.as_it_is.change],
            self.begin,
            parts.picture,
            [*parts.shown, parts.faces, parts.matched],
            **at_once,
        ).then(self.look, [parts.picture, parts.as_it_is], looked, **anew).then(
            self.preview, controls, seen, **anew
        )
        of_face = [
            parts.generator, parts.lr_size, parts.pixelated, parts.blur, parts.grey, parts.jpeg,
            parts.noise,
        ]  # fmt: skip
        gr.on(
            [part.change for part in of_face],
            self.preview,
            controls,
            seen,
            trigger_mode="always_last",
            **anew,
        )
        of_search = [
            parts.candidates, parts.steps, parts.seed, parts.tolerance, parts.preset, parts.size,
            parts.finish,
        ]  # fmt: skip
        gr.on(
            [part.change for part in of_search],
            self.tell,
            controls,
            parts.command,
            trigger_mode="always_last",
            **anew,
        )
        parts.faces.select(self.chosen_face, None, parts.face, **at_once).then(
            self.preview, controls, seen, **anew
        )
        starts = [parts.run.click, parts.more.click]
        for event in (*starts, parts.tried.select) if parts.examples else starts:
            event(None, js=SCROLL, **at_once)
        parts.run.click(self.search, controls, parts.shown, **anew)
        parts.more.click(self.more, parts.chosen, parts.shown, **anew)
        parts.stop.click(self.halt, None, parts.stop, **at_once)
        for gallery in (parts.gallery, parts.earlier):
            gallery.select(self.choose, None, chosen, **at_once)
        parts.paste.click(self.put_back, parts.chosen, pasted, **anew)
        parts.dice.click(lambda: randrange(2**31), None, parts.seed, **at_once)
        if parts.examples:
            parts.tried.select(self.example, None, [parts.picture, parts.face], **at_once).then(
                self.look, [parts.picture, parts.as_it_is], looked, **anew
            ).then(self.try_it, controls, parts.shown, **anew)

    def begin(self, picture: str | None, request: gr.Request) -> Updates:
        """Another picture: what was searched for, and is shown, was for the one before."""
        parts, visit = self.parts, self.studio.find(str(request.session_hash))
        given = None if picture is None else Path(picture)
        busy: Updates = {parts.run: gr.Button(interactive=given is None)}
        if visit is not None and visit.picture == given:
            return busy
        if visit is None:
            return {**busy, parts.status: html.status(_invitation(given is not None))}
        visit.turn_to(given, threading.Event(), idle=True)
        return {
            **self._cleared(visit),
            parts.run: gr.Button(visible=True, interactive=given is None),
            parts.problem: "",
            parts.faces: "",
            parts.matched: "",
        }

    def look(self, picture: str | None, as_it_is: bool) -> Updates:
        """Show the faces of a new picture; only then it can be searched for one of them."""
        parts = self.parts
        nothing: Updates = {
            parts.problem: "", parts.faces: "", parts.face: 0,
            parts.run: gr.Button(interactive=True),
        }  # fmt: skip
        if picture is None:
            return nothing
        try:
            framings = self.studio.framings(Path(picture), as_it_is)
            if len(framings) == 1:
                return nothing
            image = self.studio.read(Path(picture)).image
        except Exception as error:
            return {**nothing, parts.problem: html.message(sentence(error))}
        cuts = [(framing.cut(image), f"{framing.index + 1}") for framing in framings]
        title = f"<h3>{len(cuts)} faces were found. Which one?</h3>"
        cards = html.choices(cuts, 0, "The faces of the picture", ALL)
        return {**nothing, parts.faces: title + cards}

    def preview(self, *controls: Any) -> Updates:
        """Show what of the chosen face will be matched."""
        parts, order = self.parts, Order(*controls)
        if order.picture is None:
            return {parts.problem: "", parts.matched: "", parts.command: ""}
        told = self.tell(*controls)
        try:
            matched = ""
            if order.face != ALL:
                matched = html.matched(self.studio.face(order.wish()))
        except Exception as error:
            message = html.message(sentence(error))
            return {parts.problem: message, parts.matched: "", parts.command: told}
        return {parts.problem: "", parts.matched: matched, parts.command: told}

    def tell(self, *controls: Any) -> str:
        """The settings as a command line; nothing while they say what cannot be."""
        order = Order(*controls)
        if order.picture is None:
            return ""
        try:
            wish = order.wish(0 if order.face == ALL else None)
            degrade = None if wish.degrade is None else self.studio.face(wish).degrade
            return html.command(order.command(degrade))
        except InputError:
            return ""

    @repeating
    def search(self, request: gr.Request, *controls: Any) -> Iterator[Updates]:
        """Search for the chosen face, or all, and show the candidates as they get nearer."""
        order = Order(*controls)

        def asked() -> list[Asked]:
            if order.picture is None or order.face is None:
                return [order.asked()]
            picture = Path(order.picture)
            known = self.studio.has_looked(picture, order.as_it_is)
            several = len(self.studio.framings(picture, order.as_it_is))
            if several > 1 and not known:  # Who was so quick has not seen them.
                raise InputError(CHOOSE_FIRST)
            if order.face != ALL:
                return [order.asked()]
            if several * order.candidates > FACES:
                raise InputError(
                    f"{several} times {order.candidates} faces are too many at once, at most "
                    f"{FACES} can be kept: ask for {max(FACES // several, 1)} or choose one face."
                )
            return [order.asked(face) for face in range(several)]

        given = None if order.picture is None else Path(order.picture)
        yield from self._search(request, asked, given)

    @repeating
    def more(self, chosen: int, request: gr.Request) -> Iterator[Updates]:
        """Search near the chosen face, for others that are like it."""

        def asked() -> list[Asked]:
            visit = self.studio.find(str(request.session_hash))
            found = None if visit is None else visit.find(chosen)
            if found is None:
                raise InputError(GONE)
            past, index = found
            near = Near(past.asked.config.seed + index, past.ws[index])
            config = replace(past.asked.config, seed=randrange(2**31))
            return [replace(past.asked, wish=replace(past.asked.wish, near=near), config=config)]

        visit = self.studio.find(str(request.session_hash))
        yield from self._search(request, asked, None if visit is None else visit.picture)

    def try_it(self, request: gr.Request, *controls: Any) -> Iterator[Updates]:
        """Search for the face of an example, if it shows only one."""
        order = Order(*controls)
        several = order.picture is not None and len(
            self.studio.framings(Path(order.picture), order.as_it_is)
        )
        if several == 1:
            yield from self.search(request, *controls)

    def _search(
        self, request: gr.Request, asked: Callable[[], list[Asked]], picture: Path | None
    ) -> Iterator[Updates]:
        """Search, one after another, for what is asked for.

        Args:
            picture: that it is for.
        """
        parts, key, stop = self.parts, str(request.session_hash), threading.Event()
        before, visit = self.studio.find(key), None
        yield {
            parts.problem: "",
            parts.status: html.status("Starting."),
            parts.run: gr.Button(visible=False),
            parts.stop: gr.Button(visible=True, interactive=True),
        }
        if before is not None:
            before.turn_to(picture, stop)  # An earlier search, should one go on, ends.
        past: Past | None = None
        try:
            for one in asked():
                past = None
                for update in self.studio.run(
                    one.wish, one.config, one.preset, stop, address=address_of(request)
                ):
                    if visit is None:  # Only who gave a picture that can be searched for is kept.
                        visit = self.studio.visit(key)
                        if visit is not before:
                            visit.turn_to(picture, stop)
                        visit.running += 1
                        yield self._anew(visit)
                    if visit.stop is not stop:  # Something else is wanted meanwhile.
                        continue
                    if isinstance(update, Done):
                        place = visit.place(one)
                        archive(update.result, place.folder)
                        past = Past.of(update.result, place, html.thumbnails(update.result.state))
                        visit.keep(past)
                        yield self._found(visit, past, html.outcome(update.result))
                    else:
                        yield self._progress(update)
                if stop.is_set():
                    break
            known = before if visit is None else visit  # It may end before its first update.
            if known is None or known.stop is stop:
                nothing = {parts.status: html.status("Stopped before anything was found.")}
                yield {**(nothing if past is None else {}), **self._idle()}
            elif known.idle:  # Its picture went, and what it said may have come after that.
                yield self._cleared(known)
        except Exception as error:
            failed = html.status("The search could not begin.")
            text = html.message(sentence(error))
            yield {parts.problem: text, parts.status: failed, **self._idle()}
        finally:
            if visit is not None:
                visit.running -= 1

    def _anew(self, visit: Visit) -> Updates:
        """What was found before makes room for what is coming."""
        parts = self.parts
        return {
            parts.gallery: "",
            parts.detail: "",
            parts.downloads: gr.Row(visible=False),
            parts.earlier: html.earlier(visit, None),
            **self._without_photo(),
        }

    def _cleared(self, visit: Visit) -> Updates:
        """Nothing is shown of what was searched for, and nothing goes on."""
        return {
            **self._anew(visit),
            **self._idle(),
            self.parts.status: html.status(_invitation(visit.picture is not None)),
            self.parts.gallery: html.explanation(),
        }

    def _progress(self, update: Any) -> Updates:
        parts = self.parts
        updates: Updates = {parts.status: html.progress(update)}
        if isinstance(update, Searching):
            updates[parts.gallery] = html.gallery(update.state, update.tolerance)
        return updates

    def _found(self, visit: Visit, past: Past, outcome: str) -> Updates:
        parts, best = self.parts, past.ranked[0]
        return {
            parts.status: outcome,
            parts.gallery: html.found(past, best),
            parts.earlier: html.earlier(visit, past),
            parts.downloads: gr.Row(visible=True),
            **self._chosen(past, best),
        }

    def _chosen(self, past: Past, index: int) -> Updates:
        parts = self.parts
        return {
            parts.detail: html.detail(past, index),
            parts.chosen: past.first + index,
            parts.one: str(past.file(index)),
            parts.all: str(past.folder / "pulse.zip"),
            parts.paste: gr.Button(visible=past.pastable),
            **self._without_photo(),
        }

    def _idle(self) -> Updates:
        return {self.parts.run: gr.Button(visible=True), self.parts.stop: gr.Button(visible=False)}

    def _without_photo(self) -> Updates:
        return {self.parts.photo: "", self.parts.photo_file: gr.DownloadButton(visible=False)}

    def halt(self, request: gr.Request) -> Any:
        """Stop the visitor's search."""
        visit = self.studio.find(str(request.session_hash))
        if visit is not None:
            visit.stop.set()
        return gr.Button(interactive=False)

    def choose(self, event: gr.EventData, request: gr.Request) -> Updates:
        """Show one candidate large."""
        visit = self.studio.find(str(request.session_hash))
        found = None if visit is None else visit.find(int(event.index))
        if found is None:
            return {self.parts.detail: html.message(GONE)}
        return self._chosen(*found)

    @repeating
    def put_back(self, chosen: int, request: gr.Request) -> Iterator[Updates]:
        """Show the photo with the chosen face in it."""
        parts, visit = self.parts, self.studio.find(str(request.session_hash))
        found = None if visit is None else visit.find(chosen)
        if visit is None or found is None:
            yield {parts.photo: html.message(GONE)}
            return
        yield {parts.photo: html.status(PUTTING)}
        stop = visit.stops[PASTING] = threading.Event()
        visit.running += 1
        try:
            for update in self.studio.paste(visit, chosen, stop, address_of(request)):
                if isinstance(update, Waiting):
                    yield {parts.photo: html.progress(update)}
                elif isinstance(update, Pasted):
                    framing = found[0].face.framing
                    assert framing is not None
                    yield {
                        parts.photo: html.photo(update, framing),
                        parts.photo_file: gr.DownloadButton(value=str(update.file), visible=True),
                    }
        except Exception as error:
            yield {parts.photo: html.message(sentence(error))}
        finally:
            visit.running -= 1

    @staticmethod
    def chosen_face(event: gr.EventData) -> int:
        return int(event.index)

    def example(self, event: gr.EventData) -> tuple[str, int]:
        """Take an example as the picture."""
        return str(self.parts.examples[int(event.index)]), 0


def _invitation(given: bool) -> str:
    return "Ready: press 'Imagine faces'." if given else "Choose a picture to begin."
