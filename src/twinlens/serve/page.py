"""The search page: asks like any client, but inside the process."""

import asyncio
import hashlib
from functools import partial
from pathlib import Path

from fastapi import FastAPI, Request
from nicegui import app as pages
from nicegui import events, ui
from starlette.exceptions import HTTPException
from starlette.responses import Response

from twinlens.errors import InputError
from twinlens.ratings import RatingFile, Shown
from twinlens.serve.api import http_refusal
from twinlens.serve.facets import joined
from twinlens.serve.page_parts import (
    Rating,
    card,
    hidden_uploader,
    preview,
    range_filter,
    select_filter,
    weight_slider,
)
from twinlens.serve.refusals import Refusal
from twinlens.serve.schemas import SearchRequest
from twinlens.serve.service import Service

STYLE = Path(__file__).with_name("page.css")
AT_ONCE = 24  # answers; a row has 1, 2, 3, 4 or 6 of them


def add_page(app: FastAPI, service: Service, ratings: RatingFile) -> None:
    """Puts the search page at `/`; one service a process.

    Args:
        app: the service's HTTP API.
        service: whom the page asks.
        ratings: where people's ratings go.
    """
    title = f"twinlens · {service.model.name}"

    @ui.page("/", title=title, favicon="🔎", dark=None)
    async def page() -> None:
        await SearchPage(service, ratings).build()

    @pages.exception_handler(404)
    async def not_found(request: Request, error: HTTPException) -> Response:
        return http_refusal(request, error).response()

    ui.run_with(app, title=title, tailwind=False, show_welcome_message=False)


class SearchPage:
    """One visitor's page.

    Args:
        service: whom it asks.
        ratings: where the visitor's ratings go.
    """

    def __init__(self, service: Service, ratings: RatingFile) -> None:
        self.service, self.ratings = service, ratings
        self.facets = service.state.facets
        self.picture: tuple[str, bytes] | None = None  # name and contents
        self.item, self.k, self.turn = "", AT_ONCE, 0
        self.chosen: dict[str, ui.element] = {}

    async def build(self) -> None:
        """Draws the page."""
        ui.add_css(STYLE)
        with ui.element("main").classes("page"):
            with ui.element("header"):
                ui.label("twinlens").classes("name").props("role=heading aria-level=1")
                ui.label(f"{len(self.service.index):,} pictures").classes("faint")
            self._build_query()
            if self.facets:
                self._build_filters()
            self.status = ui.label().classes("status").props("role=status")
            self.grid = ui.element("section").classes("grid")
            self.grid.props("aria-label=Results")
            self.more = ui.button("More", on_click=self._more).props("flat no-caps")
            self.rating = Rating(self.ratings)
        self.more.set_visibility(False)
        self._show_parts()
        await self.rating.find_rater()

    def _build_query(self) -> None:
        with ui.element("div").classes("ask"):
            self.text = ui.input(
                "What should the pictures show?", on_change=self._show_parts
            )
            self.text.props("outlined clearable autofocus enterkeyhint=search")
            most = self.service.limits.text_length
            self.text.props(f"maxlength={most}").classes("words")
            self.text.on("keydown.enter", self.start)
            uploader = hidden_uploader(
                self.service.limits.upload_bytes, self._take_picture, self._refuse
            )
            pick = f"() => getElement({uploader.id}).$refs.qRef.pickFiles()"
            button = ui.button("Picture", icon="add_photo_alternate")
            button.props("outline no-caps").on("click", js_handler=pick)
            ui.button("Search", icon="search", on_click=self.start).props(
                "unelevated no-caps"
            )
        self.beside = ui.element("div").classes("beside")
        with self.beside:
            self.seen = ui.element("div").classes("seen")
            self.weight = weight_slider(self.service.index.defaults.text_weight)
            self.weight.slider.on("change", self._weigh)
            self.fused = ui.label(
                f"Picture and words are composed by the trained fusion "
                f"({self.service.model.fusion})."
            ).classes("faint")

    def _build_filters(self) -> None:
        with ui.expansion("Filters", icon="tune").classes("filters") as self.filters:
            with ui.element("div").classes("facets"):
                for facet in self.facets:
                    make = select_filter if facet.values else range_filter
                    self.chosen[facet.name] = make(facet, self.start)
            ui.button("Clear filters", on_click=self._clear).props("flat no-caps dense")

    # === What is asked ===

    async def _take_picture(self, event: events.UploadEventArguments) -> None:
        self.picture = event.file.name, await event.file.read()
        self.item = ""
        event.sender.reset()
        await self.start()

    def _refuse(self) -> None:
        size = self.service.limits.upload_bytes / 1e6
        self._say(
            f"That file is no picture, or larger than {size:g} MB. JPEG, PNG, GIF, BMP "
            "and WebP are read.",
            wrong=True,
        )

    async def _like(self, item: str) -> None:
        self.picture, self.item = None, item
        self.text.value = ""
        await self.start()
        ui.run_javascript("window.scrollTo({top: 0, behavior: 'smooth'})")

    async def _forget(self) -> None:
        self.picture, self.item = None, ""
        await self.start()

    async def _weigh(self, event: events.GenericEventArguments) -> None:
        self.weight.slider.value = event.args  # its own message may come later
        await self.search()

    async def _clear(self) -> None:
        for facet in self.facets:
            ends = {"min": facet.low, "max": facet.high}
            self.chosen[facet.name].value = [] if facet.values else ends
        await self.start()

    def _show_parts(self) -> None:
        """Shows what belongs to the query as it is: its picture, slider, or fusion."""
        pictured = self.picture is not None or bool(self.item)
        both = pictured and bool((self.text.value or "").strip())
        fused = bool(self.service.model.fusion)
        self.beside.set_visibility(pictured)
        self.weight.set_visibility(both and not fused)
        self.fused.set_visibility(both and fused)

    def _show_picture(self) -> None:
        self.seen.clear()
        with self.seen:
            if self.picture or self.item:
                preview(self.picture, self.item, self._forget)

    def _where(self) -> str:
        return joined([f.where(self.chosen[f.name].value) for f in self.facets])

    def _asked(self) -> SearchRequest:
        text = (self.text.value or "").strip()
        both = text and (self.picture or self.item) and not self.service.model.fusion
        return SearchRequest(
            text=text,
            item=self.item,
            k=self.k,
            where=self._where(),
            text_weight=self.weight.slider.value if both else None,
        )

    # === What is found ===

    async def start(self) -> None:
        """A new query, or another filter: from the first answers on."""
        self.k = AT_ONCE
        await self.search()

    async def _more(self) -> None:
        self.k = min(self.k + AT_ONCE, self.service.limits.k)
        await self.search()

    async def search(self) -> None:
        """Asks and shows; what was asked meanwhile has precedence."""
        self.turn += 1
        turn, asked, picture = self.turn, self._asked(), self.picture
        self._show_parts()
        self._show_picture()
        if not (asked.text or asked.item or picture):
            self._show([])
            return self._say("")
        try:
            contents = picture[1] if picture else None
            seconds = self.service.limits.timeout_seconds
            found = await asyncio.wait_for(
                self.service.search(asked, contents), seconds
            )
        except (Refusal, InputError, TimeoutError) as error:
            if turn == self.turn:
                self._fail(error)
            return
        if turn == self.turn:
            self._show(found["results"])
            self._say(_counted(found["results"], self.k) + found["note"])
            self.rating.offer(_shown(asked, picture, found))

    def _fail(self, error: Exception) -> None:
        words = str(error) or "That took too long. Try again."
        if self.picture:
            words = words.replace("the picture:", f"{self.picture[0]}:", 1)
            self.picture = None
        self._show([])
        self._show_parts()
        self._show_picture()
        self._say(words, wrong=True)

    def _show(self, results: list[dict]) -> None:
        self.grid.clear()
        names = [facet.name for facet in self.facets if facet.values]
        with self.grid:
            for each in results:
                card(each, names, partial(self._like, each["id"]))
        most = min(self.service.limits.k, len(self.service.index))
        self.more.set_visibility(len(results) == self.k < most)
        self.rating.hide()

    def _say(self, words: str, wrong: bool = False) -> None:
        self.status.text = words
        self.status.classes(
            add="wrong" if wrong else "", remove="" if wrong else "wrong"
        )


def _counted(results: list, k: int) -> str:
    if not results:
        return "Nothing passes these filters. "
    return "" if len(results) == k else f"These {len(results)} are all. "


def _shown(
    asked: SearchRequest, picture: tuple[str, bytes] | None, found: dict
) -> Shown:
    digest = hashlib.blake2b(picture[1], digest_size=16).hexdigest() if picture else ""
    model = found["model"]
    results = tuple((each["id"], each["score"]) for each in found["results"])
    return Shown(
        model["digest"],
        model["name"],
        asked.text,
        asked.item,
        digest,
        asked.where,
        found["settings"],
        results,
    )
