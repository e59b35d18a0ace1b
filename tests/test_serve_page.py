"""The search page in a real browser: Debian's Chromium, without a window."""

import re
import shutil
from pathlib import Path

import pytest
from PIL import Image
from serving import serving
from tiny import run

from twinlens.ratings import read_ratings

pytest.importorskip("nicegui", reason='needs pip install "twinlens[serve]"')
api = pytest.importorskip("playwright.sync_api", reason="needs playwright")

CHROMIUM = shutil.which("chromium")
SCREENSHOTS = Path(__file__).with_name("screenshots")  # ignored by git
QUESTION = "What should the pictures show?"
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def served(index, trained, tmp_path_factory):
    ratings = tmp_path_factory.mktemp("ratings") / "ratings.sqlite"
    with serving(index.vectors.folder, trained.folder, ratings) as service:
        yield service


@pytest.fixture(scope="module")
def browser():
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"]
        )
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, request):
    """Opens the page; in the end nothing was asked of other machines, or went wrong."""
    addresses, wrong, pages = set(), [], []

    def open_page(address, size=WIDE, **how):
        page = browser.new_context(viewport=size, **how).new_page()
        page.on("request", lambda each: addresses.add(each.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("websocket", lambda each: addresses.add(each.url))
        page.goto(address)
        page.wait_for_function("localStorage.twinlensRater")  # it is connected
        pages.append((address, page))
        return page

    yield open_page
    SCREENSHOTS.mkdir(exist_ok=True)
    for number, (address, page) in enumerate(pages):
        name = re.sub(r"\W+", "-", request.node.name)
        page.screenshot(path=SCREENSHOTS / f"{name}-{number}.png", full_page=True)
        own = (address, address.replace("http", "ws"), "data:", "blob:")
        assert not [each for each in addresses if not each.startswith(own)]
        page.context.close()
    assert not wrong


def ask(page, text):
    page.get_by_label(QUESTION).fill(text)
    page.get_by_label(QUESTION).press("Enter")


def shown(page):
    """Ids of the pictures that are shown, in order."""
    page.wait_for_selector("article img")
    page.wait_for_timeout(300)  # an older answer may still be there
    sources = page.eval_on_selector_all(
        "article img", "all => all.map(e => e.getAttribute('src'))"
    )
    return [re.fullmatch(r"/items/(.+)/image\?size=\d+", each)[1] for each in sources]


def pick(page, path):
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Picture", exact=True).click()
    chooser.value.set_files(path)


def drop_file(page, name, contents, kind="image/png"):
    page.evaluate(
        """([name, contents, kind]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(contents)], name, {type: kind}));
            dispatchEvent(new DragEvent("drop", {dataTransfer: data}));
        }""",
        [name, list(contents), kind],
    )


def test_a_text_finds_pictures_with_scores(served, index, visit):
    page = visit(served.address)
    ask(page, "a red disc")
    found = index.search("a red disc", k=24)
    assert shown(page) == found["id"].tolist()
    score = f"{found['score'].iloc[0]:.2f}"
    assert page.locator("article .score").first.inner_text() == score


def test_a_picture_and_then_words_beside_it_weighed_by_a_slider(served, index, visit):
    page = visit(served.address)
    path = index.vectors.items["image_path"].iloc[5]
    pick(page, path)
    assert shown(page) == index.search(image=path, k=24)["id"].tolist()
    assert page.locator(".seen img").is_visible()
    slider = page.get_by_role("slider", name="Weight of the words")
    assert not slider.is_visible()
    ask(page, "a red disc")
    both = index.search("a red disc", image=path, k=24)
    assert shown(page) == both["id"].tolist() and slider.is_visible()
    track = slider.locator("[tabindex='0']")
    for _ in range(10):
        track.press("ArrowRight")
    words = index.search("a red disc", image=path, k=24, text_weight=1.0)
    for _ in range(100):
        if shown(page) == words["id"].tolist():
            break
        page.wait_for_timeout(100)
    assert shown(page) == words["id"].tolist()
    page.get_by_role("button", name="Without this picture").click()
    page.wait_for_selector(".seen img", state="hidden")


def test_a_dropped_picture_is_searched_by(served, index, visit):
    page = visit(served.address)
    path = Path(index.vectors.items["image_path"].iloc[9])
    drop_file(page, "dropped.png", path.read_bytes())
    assert shown(page) == index.search(image=str(path), k=24)["id"].tolist()
    assert page.get_by_text("dropped.png").is_visible()


def test_a_click_finds_more_like_one(served, index, visit):
    page = visit(served.address)
    ask(page, "a green square")
    first = shown(page)[0]
    page.locator("article .tile").first.click()
    page.wait_for_selector(".seen img")
    assert shown(page) == index.search(item=first, k=24)["id"].tolist()


def test_filters_leave_what_passes(served, index, visit):
    page = visit(served.address)
    ask(page, "a red disc")
    shown(page)
    page.get_by_text("Filters", exact=True).click()
    page.get_by_label("colour").click()
    page.get_by_role("option", name="blue").click()
    page.keyboard.press("Escape")
    page.wait_for_function("document.querySelectorAll('article').length === 8")
    found = index.search("a red disc", k=24, where='colour = "blue"')
    assert shown(page) == found["id"].tolist()
    thumb = page.locator(".q-range__thumb, .q-slider__thumb").first
    thumb.focus()
    page.get_by_role("slider").first.press("ArrowRight")
    page.wait_for_timeout(800)
    some = index.search("a red disc", k=24, where='colour = "blue" and number >= 1')
    assert shown(page) == some["id"].tolist()
    page.get_by_role("button", name="Clear filters").click()
    page.wait_for_function("document.querySelectorAll('article').length === 24")


def test_what_people_think_is_kept(served, index, visit, trained):
    page = visit(served.address)
    ask(page, "a red square")
    found = shown(page)
    for question, stars in (("match", 4), ("satisfied", 2)):
        row = page.locator(".rating > div", has_text=question)
        row.get_by_role("radio").nth(stars - 1).click()
    page.get_by_text("Thank you").wait_for()
    kept = read_ratings(served.ratings).iloc[-1]
    assert (kept["match"], kept["satisfaction"]) == (4, 2)
    assert kept["query_text"] == "a red square" and len(kept["rater"]) == 16
    assert kept["model"] == index.model().digest
    assert kept["results"].startswith('[{"id": "' + found[0])
    said = run("evaluate", "--ratings", served.ratings)
    assert said.code == 0 and trained.folder.name in said.out.replace("\n", "")


@pytest.mark.parametrize("how", ["text", "cut", "kind"])
def test_a_wrong_file_is_named(served, index, visit, how):
    page = visit(served.address)
    whole = Path(index.vectors.items["image_path"].iloc[0]).read_bytes()
    contents = whole[: len(whole) // 2] if how == "cut" else b"just words"
    kind = "text/plain" if how == "kind" else "image/jpeg"
    drop_file(page, "odd.jpg" if how != "kind" else "odd.txt", contents, kind)
    message = {"text": "not a picture", "cut": "damaged", "kind": "no picture"}[how]
    said = page.locator(".status.wrong", has_text=message)
    said.wait_for()
    page.screenshot(path=SCREENSHOTS / f"wrong-file-{how}.png")
    if how != "kind":
        assert "odd.jpg" in said.inner_text()
    ask(page, "a red disc")  # and it goes on
    assert len(shown(page)) == 24 and not page.locator(".status.wrong").count()


def test_everything_can_be_reached_by_the_keyboard(served, index, visit):
    page = visit(served.address)
    keys, focus = page.keyboard, "document.activeElement"
    page.wait_for_function(f"{focus}.tagName === 'INPUT'")  # ready to type
    keys.type("a blue disc")
    keys.press("Enter")
    first = shown(page)[0]
    reached = []
    for _ in range(40):
        keys.press("Tab")
        name = page.evaluate(f"{focus}.ariaLabel || {focus}.innerText")
        reached.append(name)
        if name.startswith("More like this"):
            break
    assert any("Picture" in each for each in reached)
    assert any("Filters" in each for each in reached)
    keys.press("Enter")
    page.wait_for_selector(".seen img")
    assert shown(page) == index.search(item=first, k=24)["id"].tolist()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(served, index, visit, scheme):
    page = visit(served.address, PHONE, color_scheme=scheme, has_touch=True)
    pick(page, index.vectors.items["image_path"].iloc[5])
    shown(page)
    ask(page, "a red disc")
    page.get_by_text("Filters", exact=True).click()
    page.wait_for_timeout(800)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    for button in page.get_by_role("button").all():
        box = button.bounding_box()
        assert box is None or box["x"] >= 0 and box["x"] + box["width"] <= 390


def test_a_fusion_composes_without_a_slider(composed, visit, tmp_path):
    folder = tmp_path / "index"
    made = run("index", "--run", composed.folder, "--index", folder)
    assert made.code == 0, made.err
    found = run("search", folder, "x", "--run", composed.folder, "--json")
    assert found.code == 0, found.err
    with serving(folder, composed.folder, tmp_path / "ratings.sqlite") as service:
        page = visit(service.address)
        picture = tmp_path / "grey.png"
        Image.new("RGB", (40, 40), "grey").save(picture)
        pick(page, picture)
        shown(page)
        ask(page, "make it red")
        page.get_by_text("trained fusion (attention)").wait_for()
        assert len(shown(page)) == 24
        assert not page.get_by_role("slider", name="Weight of the words").is_visible()
