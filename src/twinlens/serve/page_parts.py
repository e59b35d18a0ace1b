"""Parts of the search page, from picture previews to stars."""

import base64
from collections.abc import Callable, Sequence
from typing import Any

from nicegui import events, ui

from twinlens.errors import InputError
from twinlens.ratings import HIGHEST, SCALES, RatingFile, Shown
from twinlens.report.pictures import open_picture, score
from twinlens.serve.facets import Facet, number
from twinlens.serve.thumbnails import address, as_jpeg

TILE = 320  # pixels of a thumbnail: two a phone's width, sharp on most screens
PREVIEW = 160
KINDS = "image/jpeg,image/png,image/gif,image/bmp,image/webp"
SHOWN_ATTRIBUTES = 3  # below a picture
QUESTIONS = dict(
    zip(
        SCALES,
        ("Do they match what you asked for?", "Are you satisfied with them?"),
        strict=True,
    )
)
# Files dropped anywhere on the page, or pasted, go to the uploader.
DROP = """
const give = (files) => files.length &&
  getElement(%d).$refs.qRef.addFiles([files[0]]);
addEventListener("dragover", (e) => {
  e.preventDefault(); document.body.classList.add("drop"); });
addEventListener("dragleave", (e) =>
  e.relatedTarget || document.body.classList.remove("drop"));
addEventListener("drop", (e) => {
  e.preventDefault(); document.body.classList.remove("drop");
  give(e.dataTransfer.files); });
addEventListener("paste", (e) => give(e.clipboardData.files));
"""
RATER = """
(localStorage.twinlensRater ??=
  Array.from(crypto.getRandomValues(new Uint8Array(8)),
             (b) => b.toString(16).padStart(2, "0")).join(""))
"""


def hidden_uploader(
    most_bytes: int, take: Callable, refuse: Callable[[], None]
) -> ui.upload:
    """Takes files that are picked by a button, dropped or pasted."""
    uploader = ui.upload(
        auto_upload=True, max_file_size=most_bytes, on_upload=take, on_rejected=refuse
    )
    uploader.props(f"accept={KINDS}").classes("hidden")
    ui.add_body_html(
        f"<script>addEventListener('load', () => {{{DROP % uploader.id}}})</script>"
    )
    return uploader


def preview(picture: tuple[str, bytes] | None, item: str, forget: Callable) -> None:
    """The picture of a query, with a button that takes it away."""
    name = picture[0] if picture else item
    source = _data_url(picture[1]) if picture else f"{address(item)}?size={PREVIEW}"
    if source:
        _image(source, name)
    ui.label(name).classes("words")
    button = ui.button(icon="close", on_click=forget).props("flat round dense")
    button.props["aria-label"] = "Without this picture"


def _data_url(contents: bytes) -> str:
    opened = open_picture(contents, PREVIEW)
    if opened is None:
        return ""
    return "data:image/jpeg;base64," + base64.b64encode(as_jpeg(opened)).decode()


def _image(source: str, alt: str) -> None:
    image = ui.element("img")
    image.props["src"], image.props["alt"] = source, alt
    image.props["loading"] = "lazy"


class weight_slider(ui.element):  # noqa: N801, named as NiceGUI's own
    """Between picture and words."""

    def __init__(self, text_weight: float) -> None:
        super().__init__("div")
        self.classes("weight")
        with self:
            ui.label("Picture").classes("faint")
            self.slider = ui.slider(min=0, max=1, step=0.05, value=text_weight)
            self.slider.props["aria-label"] = "Weight of the words beside the picture"
            ui.label("Words").classes("faint")


def select_filter(facet: Facet, changed: Callable) -> ui.element:
    """Some of few values."""
    options = {value: str(value) for value in facet.values}
    chosen = ui.select(
        options, label=facet.name, multiple=True, value=[], on_change=changed
    )
    return chosen.props("outlined dense use-chips options-dense")


def range_filter(facet: Facet, changed: Callable) -> ui.element:
    """Numbers between two ends."""
    with ui.element("div").classes("range"):
        said = ui.label()
        chosen = ui.range(
            min=facet.low,
            max=facet.high,
            step=facet.step,
            value={"min": facet.low, "max": facet.high},
        ).props("dense")
        chosen.props["aria-label"] = facet.name
        said.bind_text_from(
            chosen,
            "value",
            lambda v: f"{facet.name}: {number(v['min'])} to {number(v['max'])}",
        )

    async def moved(event: events.GenericEventArguments) -> None:
        chosen.value = event.args  # its own message may come later
        await changed()

    chosen.on("change", moved)
    return chosen


def card(found: dict[str, Any], names: Sequence[str], like: Callable) -> None:
    """One answer: its picture asks for more like it."""
    title = found["title"] or found["id"]
    with ui.element("article"):
        tile = ui.element("button").classes("tile").on("click", like)
        tile.props["aria-label"] = f"More like this: {title}"
        tile.props["title"] = "More like this"
        with tile:
            _image(f"{found['image']}?size={TILE}", title)
        with ui.element("p"):
            ui.label(score(found["score"])).classes("score")
            ui.label(title).classes("title")
        values = [found["attributes"].get(name) for name in names[:SHOWN_ATTRIBUTES]]
        said = " · ".join(str(value) for value in values if value is not None)
        if said:
            ui.label(said).classes("faint")


class Rating:
    """Two rows of stars below the results.

    Args:
        file: where ratings go.
    """

    def __init__(self, file: RatingFile) -> None:
        self._file, self._rater = file, ""
        self._shown: Shown | None = None
        self._stars: dict[str, ui.rating] = {}
        self._box = ui.element("section").classes("rating")
        with self._box:
            for name, question in QUESTIONS.items():
                with ui.element("div"):
                    ui.label(question)
                    stars = ui.rating(
                        max=HIGHEST,
                        icon="star_border",
                        icon_selected="star",
                        size="28px",
                        on_change=self._keep,
                    )
                    stars.props["aria-label"] = question
                    stars.props["no-reset"] = True
                    self._stars[name] = stars
            self._said = ui.label().classes("faint").props("role=status")
        self.hide()

    async def find_rater(self) -> None:
        """An anonymous number that the visitor's browser keeps."""
        await ui.context.client.connected()
        self._rater = await ui.run_javascript(RATER.strip())

    def hide(self) -> None:
        """There is nothing to rate."""
        self._shown = None
        self._box.set_visibility(False)

    def offer(self, shown: Shown) -> None:
        """Asks about results."""
        if not shown.results:
            return
        for stars in self._stars.values():
            stars.value = None
        self._shown, self._said.text = shown, "1 star: not at all, 5: completely."
        self._box.set_visibility(True)

    def _keep(self) -> None:
        values = {name: stars.value for name, stars in self._stars.items()}
        if self._shown is None or not all(values.values()):
            return
        rated = {name: int(value) for name, value in values.items()}
        try:
            self._file.add(self._rater, self._shown, **rated)
        except InputError as error:
            self._said.text = str(error)
        else:
            self._said.text = "Thank you, that is kept."
