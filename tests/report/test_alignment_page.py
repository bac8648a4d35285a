from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest
from test_browser import FLAGS

from suite.report.alignment_page import render_alignment_page, row_markup
from suite.report.alignment_record import AlignmentView, ChunkView, TokenView

ATTACK = "<script>document.title='taken over'</script><img src=x onerror=\"document.title='a'\">"
WIDTHS = (320, 1280)
NUM_CHUNKS = 400


def token(text: str, chunk: int | None = 0, role: str | None = None) -> TokenView:
    return TokenView(7, text, role, chunk)


@pytest.fixture(scope="module")
def view() -> AlignmentView:
    """Words against bytes, long enough to scroll: begin on one side, hostile text, words, end."""
    words = [ATTACK, *[f" word{index}" for index in range(1, NUM_CHUNKS - 1)]]
    chunks = [ChunkView(word, 1, len(word), len(word), is_special=False) for word in words]
    teacher = [TokenView(1000 + index, word, None, index) for index, word in enumerate(words)]
    student = [
        TokenView(ord(letter), letter, None, index)
        for index, word in enumerate(words)
        for letter in word
    ]
    return AlignmentView(
        teacher_name="org/a_teacher",
        student_name="bytes:org/a_teacher",
        teacher_tokens=(
            TokenView(1, "<s>", "begin", None),
            *teacher,
            TokenView(2, "<end>", "end", NUM_CHUNKS - 1),
        ),
        student_tokens=(*student, TokenView(256, "</s>", "end", NUM_CHUNKS - 1)),
        chunks=(*chunks, ChunkView("<end>", 1, 1, 0, is_special=True)),
        facts=(("bytes in chunks", "99.5 %"), (ATTACK, ATTACK)),
        warnings=(ATTACK,),
        num_bytes=9_000,
        num_bytes_shown=9_000,
    )


class Tags(HTMLParser):
    """All start tags of a page with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def data_of(page: str) -> list[list[Any]]:
    (text,) = re.findall(r'<script type="application/json" id="chunks">(.*?)</script>', page)
    content: list[list[Any]] = json.loads(text)
    return content


def test_a_row_is_compact_markup() -> None:
    tokens = [token("The"), token(" qui", 1), token("ck", 1), token("</s>", 2, "end")]
    assert row_markup([token("<s>", None, "begin"), *tokens, token("x", None)]) == (
        '<i class="x s" data-id=7>&lt;s&gt;<small>(begin)</small></i>\n'
        "<b data-c=0>The</b>\n"
        "<b data-c=1><i>·qui</i><i>ck</i></b>\n"
        "<b data-c=2><i class=s>&lt;/s&gt;<small>(end)</small></i></b>\n"
        "<i class=x data-id=7>x</i>"
    )


def test_a_token_without_a_chunk_stays_where_it_is_inside_one() -> None:
    assert row_markup([token("a"), token("x", None), token("b")]) == (
        "<b data-c=0><i>a</i><i class=x data-id=7>x</i><i>b</i></b>"
    )


@pytest.mark.parametrize(
    ("tokens", "markup"),
    [
        ([token("\n"), token("a", 1)], "<b data-c=0>⏎</b><br>\n<b data-c=1>a</b>"),
        (
            [token("a\n\n"), token("\n", 1), token("b", 2)],
            "<b data-c=0>a⏎⏎</b>\n<b data-c=1>⏎</b><br>\n<b data-c=2>b</b>",
        ),
        ([token("\r\n  a")], r"<b data-c=0>\r⏎<br>··a</b>"),
        ([token("\n"), token(" ")], "<b data-c=0><i>⏎</i><br><i>·</i></b>"),
        ([token("a"), token("\n")], "<b data-c=0><i>a</i><i>⏎</i></b><br>"),
    ],
)
def test_a_line_breaks_after_a_run_of_newlines(tokens: list[TokenView], markup: str) -> None:
    assert row_markup(tokens) == markup


def test_text_is_never_markup(view: AlignmentView) -> None:
    page = render_alignment_page(replace(view, teacher_name=ATTACK, student_name=ATTACK))
    assert "<script>document" not in page
    assert "<img" not in page
    assert page.count("&lt;script&gt;document") == 2 * 2 + 2 + 2 + 1 + 1
    tags = Tags(page).found
    assert [attributes for tag, attributes in tags if tag == "script"] == [
        {"type": "application/json", "id": "chunks"},
        {},
    ]
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]


def test_text_does_not_end_the_script_element_that_lists_the_chunks(view: AlignmentView) -> None:
    assert data_of(render_alignment_page(view))[0][0] == ATTACK.replace(" ", "·")


def test_the_page_refers_to_nothing_outside_itself(view: AlignmentView) -> None:
    page = render_alignment_page(view)
    links = [
        value
        for _, attributes in Tags(page).found
        for name, value in attributes.items()
        if name in {"src", "href", "srcset", "action"} and value is not None
    ]
    assert links == ["data:,"]
    assert "url(" not in page
    assert "@import" not in page
    assert "http" not in re.sub('http-equiv="Content', "", page)


def test_only_the_pages_own_script_is_allowed_to_run(view: AlignmentView) -> None:
    page = render_alignment_page(view)
    (script,) = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page
    assert "default-src 'none'" in page


def test_the_status_lines_data_names_every_token_of_a_chunk(view: AlignmentView) -> None:
    data = data_of(render_alignment_page(view))
    assert len(data) == NUM_CHUNKS
    assert data[5] == ["·word5", False, 6, 1, [1005], 6, [32, 119, 111, 114, 100, 53]]


def test_the_page_says_when_it_shows_only_the_beginning(view: AlignmentView) -> None:
    note = "<p><strong>Only the first 4,000 of 9,000 bytes are shown.</strong></p>"
    assert note in render_alignment_page(replace(view, num_bytes_shown=4_000))
    assert "Only the first" not in render_alignment_page(view)


def test_facts_and_warnings_are_above_the_rows(view: AlignmentView) -> None:
    page = render_alignment_page(replace(view, warnings=("The text has few spaces.",)))
    places = [
        page.index(text)
        for text in (
            "<li><strong>Warning:</strong> The text has few spaces.</li>",
            "<dt>bytes in chunks</dt><dd>99.5 %</dd>",
            'aria-label="Teacher"',
        )
    ]
    assert places == sorted(places)
    assert '<ul class="warnings">' not in render_alignment_page(replace(view, warnings=()))


def test_a_text_without_tokens_gives_a_page(view: AlignmentView) -> None:
    page = render_alignment_page(replace(view, teacher_tokens=(), student_tokens=(), chunks=()))
    assert "0 chunks" in page
    assert data_of(page) == []


def test_a_tokens_markup_stays_small(view: AlignmentView) -> None:
    words = replace(view, student_tokens=view.teacher_tokens)
    num_letters = len(view.student_tokens) - NUM_CHUNKS
    extra = len(render_alignment_page(view)) - len(render_alignment_page(words))
    assert extra / num_letters < 14


# A browser window has a least width, a frame has not. Its results are written into the page
# around it, because that is what the browser prints.
AROUND = """<!DOCTYPE html><title>around</title><body><script>
const results = {};
const widths = WIDTHS;
function look(frame) {
  const page = frame.contentDocument;
  const rows = [...page.querySelectorAll(".rows .row")];
  const status = page.getElementById("status");
  const chunk = (side, number) => rows[side].querySelector(`[data-c="${number}"]`);
  const state = () => ({
    lit: rows.map((row) => [...row.querySelectorAll(".on")].map((lit) => lit.textContent)),
    inSight: rows.map((row) => [...row.querySelectorAll(".on")].every((lit) => {
      const [box, place] = [row.getBoundingClientRect(), lit.getBoundingClientRect()];
      const bottom = Math.min(box.bottom, status.getBoundingClientRect().top);
      return box.top <= place.top && place.bottom <= bottom;
    })),
    status: status.textContent,
    pageTop: frame.contentWindow.scrollY,
  });
  // What lies under the middle of an element gets the event, as from a real pointer.
  const point = (element, kind) => {
    const place = element.getClientRects()[0];
    const middle = [place.left + place.width / 2, place.top + place.height / 2];
    const under = page.elementFromPoint(...middle);
    under.dispatchEvent(new PointerEvent(kind, { bubbles: true }));
  };
  const press = (element, key) =>
    element.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));

  const result = { title: page.title, pageWidth: page.documentElement.scrollWidth };
  rows[0].scrollIntoView();
  const start = frame.contentWindow.scrollY;
  result.nothing = state();
  point(chunk(1, 2).children[1], "pointerover");
  result.byte = state();
  point(chunk(0, 1), "pointerover");
  result.next = state();
  rows[0].dispatchEvent(new PointerEvent("pointerleave"));
  result.left = state();
  point(rows[0].querySelector(".x"), "pointerover");
  result.unmatched = state();
  point(chunk(0, 1), "click");
  point(chunk(0, 2), "pointerover");
  rows[0].dispatchEvent(new PointerEvent("pointerleave"));
  result.pinned = state();
  point(chunk(0, 1), "click");
  point(chunk(0, 2), "pointerover");
  result.unpinned = state();
  press(rows[0], "ArrowRight");
  result.stepped = state();
  press(page.body, "Escape");
  result.escaped = state();
  rows[0].scrollTop = rows[0].scrollHeight;
  point(chunk(0, NUM_CHUNKS - 1), "pointerover");
  result.last = state();
  press(rows[0], "ArrowRight");
  result.end = state();
  result.pageMoved = frame.contentWindow.scrollY - start;
  return result;
}
for (const width of widths) {
  const frame = document.createElement("iframe");
  frame.width = width;
  frame.height = 700;
  frame.src = "index.html";
  frame.onload = () => {
    results[width] = look(frame);
    if (Object.keys(results).length === widths.length) {
      const output = document.createElement("pre");
      output.textContent = JSON.stringify(results);
      document.body.append(output);
    }
  };
  document.body.append(frame);
}
</script></body>""".replace("NUM_CHUNKS", str(NUM_CHUNKS)).replace("WIDTHS", str(list(WIDTHS)))


@pytest.fixture(scope="module")
def seen(view: AlignmentView, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the browser found in the page at each width, and its console under "console"."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("Chromium is not installed; apt-get install chromium")
    folder = tmp_path_factory.mktemp("alignment_page")
    (folder / "index.html").write_text(render_alignment_page(view), encoding="utf-8")
    (folder / "around.html").write_text(AROUND, encoding="utf-8")
    flags = (*FLAGS, "--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}")
    done = subprocess.run(
        [browser, *flags, "--dump-dom", (folder / "around.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found = re.search(r"<pre>(.*)</pre>", done.stdout, flags=re.DOTALL)
    assert found, done.stderr[-2000:]
    content: dict[str, Any] = json.loads(unescape(found[1]))
    content["console"] = re.findall(r".*CONSOLE.*", done.stderr)
    return content


@pytest.mark.browser
def test_the_browser_reports_no_error(seen: dict[str, Any]) -> None:
    assert seen["console"] == []


@pytest.mark.browser
@pytest.mark.parametrize("width", [str(width) for width in WIDTHS])
class TestInTheBrowser:
    """Each test reads what one visit of the page at one width saw."""

    def test_injected_text_does_not_run(self, seen: dict[str, Any], width: str) -> None:
        assert seen[width]["title"] == "Alignment of org/a_teacher and bytes:org/a_teacher"

    def test_the_page_is_never_wider_than_the_screen(
        self, seen: dict[str, Any], width: str
    ) -> None:
        assert seen[width]["pageWidth"] <= int(width)

    def test_pointing_at_a_token_lights_its_chunk_in_both_rows(
        self, seen: dict[str, Any], width: str
    ) -> None:
        page = seen[width]
        assert page["nothing"]["lit"] == [[], []]
        assert page["byte"]["lit"] == [["·word2"], ["·word2"]]
        assert page["byte"]["status"] == (
            "Chunk 3 of 400: ·word2 – 6 bytes, teacher 1 token [1002], "
            "student 6 tokens [32 119 111 114 100 50]."
        )
        assert page["next"]["lit"] == [["·word1"], ["·word1"]]
        assert page["left"] == page["nothing"]

    def test_a_token_without_a_chunk_is_lit_alone(self, seen: dict[str, Any], width: str) -> None:
        page = seen[width]
        assert page["unmatched"]["lit"] == [["<s>(begin)"], []]
        assert page["unmatched"]["status"] == "Token <s>(begin) [1] belongs to no chunk."

    def test_a_click_pins_a_chunk_until_the_next_click(
        self, seen: dict[str, Any], width: str
    ) -> None:
        page = seen[width]
        assert page["pinned"]["lit"] == [["·word1"], ["·word1"]]
        assert page["pinned"]["status"].endswith(" Pinned; Escape lets it go.")
        assert page["unpinned"]["lit"] == [["·word2"], ["·word2"]]

    def test_keys_step_through_the_chunks_and_let_them_go(
        self, seen: dict[str, Any], width: str
    ) -> None:
        page = seen[width]
        assert page["stepped"]["lit"] == [["·word3"], ["·word3"]]
        assert page["escaped"]["lit"] == [[], []]
        assert page["end"]["lit"] == [["<end>(end)"], ["</s>(end)"]]

    def test_the_other_row_scrolls_to_the_chunk_and_the_page_stays(
        self, seen: dict[str, Any], width: str
    ) -> None:
        page = seen[width]
        assert page["last"]["lit"] == [["<end>(end)"], ["</s>(end)"]]
        assert page["last"]["status"] == (
            "Chunk 400 of 400: <end> – special, teacher 1 token [2], student 1 token [256]."
        )
        assert page["last"]["inSight"] == [True, True]
        assert page["pageMoved"] == 0
