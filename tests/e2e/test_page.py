"""The page at /: how it is sent, and what people do with it in headless Chromium."""
import base64
import hashlib
import io
import json
import os
import re

import httpx
import pytest
from PIL import Image

import browser as chromium
from api import Api, chat, check_error, data_uri, mock_digest, picture, serve
from browser import ENTER, ESCAPE, SHIFT, TAB, Browser
from helpers import ROOT
from servers import eventually

with open(os.path.join(ROOT, "src/gateway/page/index.html"), "rb") as _f:
    FILE = _f.read()


@pytest.fixture(scope="module")
def server():
    with serve("mock", "--mock-faults") as s:
        Api(s).wait_ready()
        yield s
        s.stop()


@pytest.fixture(scope="module")
def http(server):
    with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as client:
        yield client


# ---- how it is sent ----


def policy_of(response):
    return {name: sources for name, *sources in
            (part.split() for part in response.headers["content-security-policy"].split(";"))}


def test_headers(http):
    r = http.get("/")
    assert r.status_code == 200 and r.content == FILE
    assert r.headers["content-type"] == "text/html; charset=utf-8"
    assert r.headers["x-content-type-options"] == "nosniff"
    assert r.headers["referrer-policy"] == "no-referrer"
    assert r.headers["cross-origin-opener-policy"] == r.headers["cross-origin-resource-policy"] == "same-origin"
    assert r.headers["cache-control"] == "no-cache"
    assert http.get("/?a=b").content == FILE
    head = http.head("/")
    assert head.status_code == 200 and head.content == b""
    for name in ("content-length", "content-type", "etag", "content-security-policy"):
        assert head.headers[name] == r.headers[name]
    assert 'http_requests_total{handler="page",method="HEAD",status="2xx"}' in http.get("/metrics").text


def test_policy(http):
    """Nothing is allowed but what is in the file."""
    policy = policy_of(http.get("/"))

    def digests(name):
        inside = re.findall(rb"<%s[^>]*>(.*?)</%s>" % (name, name), FILE, re.S)
        assert len(inside) == 1
        return ["'sha256-" + base64.b64encode(hashlib.sha256(text).digest()).decode() + "'" for text in inside]

    assert policy == {
        "default-src": ["'none'"], "script-src": digests(b"script"), "style-src": digests(b"style"),
        "img-src": ["data:", "blob:"], "connect-src": ["'self'"], "base-uri": ["'none'"], "form-action": ["'none'"],
        "frame-ancestors": ["'none'"], "require-trusted-types-for": ["'script'"], "trusted-types": ["'none'"]}


def test_file():
    """It asks nobody else for anything, and makes no markup of text."""
    text = FILE.decode()
    # The one address is the name of SVG, inside the icon.
    assert re.findall(r"[a-z]+:?//[^\s'\"<]*", re.sub(r"(?s)<!--.*?-->", "", text)) == ["http://www.w3.org/2000/svg"]
    for attribute in re.findall(r"(?:src|href|action|srcset)=\"?([^\s\">]*)", text):
        assert attribute.startswith("data:"), attribute
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "@import",
                 "url(", "localStorage", "document.cookie"):
        assert word not in text, word
    markup = re.sub(r"(?s)<!--.*?-->|<script>.*?</script>|<style>.*?</style>", "", text)
    assert not re.search(r"<[^>]*\s(?:on\w+|style)=", markup)


def test_methods(http):
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        r = http.request(method, "/")
        check_error(r, 405, "invalid_request_error")
        assert r.headers["allow"] == "GET, HEAD, OPTIONS"
    for path in ("/index.html", "/%2f", "/page"):
        assert http.get(path).status_code == 404, path


def test_not_modified(http):
    etag = http.get("/").headers["etag"]
    for value in (etag, "W/" + etag, f'"x", {etag}', "*"):
        r = http.get("/", headers={"If-None-Match": value})
        assert r.status_code == 304 and r.content == b"" and "content-length" not in r.headers
        assert r.headers["etag"] == etag and "content-security-policy" in r.headers
    assert http.get("/", headers={"If-None-Match": '"x"'}).content == FILE


@pytest.fixture(scope="module")
def keyed(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text("sesame-of-the-page\n")
    with serve("mock", "--mock-faults", "--api-key-file", path) as s:
        Api(s).wait_ready()
        yield s
        s.stop()


def test_key_is_not_needed_for_the_page(keyed):
    with httpx.Client(base_url=keyed.url, trust_env=False) as http:
        assert http.get("/").content == FILE
        assert http.head("/").status_code == 200
        for path in ("/v1/models", "/nope", "/index.html"):
            check_error(http.get(path), 401, "authentication_error")


def test_off():
    with serve("mock", "--page", "off") as s:
        check_error(httpx.get(s.url + "/", trust_env=False), 404, "not_found_error")
        check_error(httpx.post(s.url + "/", trust_env=False), 404, "not_found_error")
        s.stop()


# ---- in a browser ----


@pytest.fixture(scope="module")
def chrome():
    if chromium.MISSING:
        pytest.skip(chromium.MISSING)
    b = Browser()
    yield b
    b.close()


class Page:
    """What people see and do."""

    def __init__(self, browser, url):
        self.browser = browser
        self.url = url
        self.js, self.click, self.keys = browser.js, browser.click, browser.keys
        self.open()

    def open(self):
        self.browser.open(self.url)
        eventually(lambda: self.js("return document.getElementById('model-name').textContent") != "" or
                   self.is_shown("#key-form"))

    def is_shown(self, selector):
        return self.js("const e = document.querySelector(arguments[0]); return e !== null && e.checkVisibility()",
                       selector)

    def texts(self, selector):
        return self.js("return [...document.querySelectorAll(arguments[0])].filter(e => e.checkVisibility())"
                       ".map(e => e.textContent)", selector)

    def answers(self):
        return self.texts(".answer .text")

    def is_busy(self):
        return self.js("return document.querySelector('[aria-busy=true]') !== null")

    def box(self):
        return self.js("return document.getElementById('text').value")

    def notice(self):
        return "".join(self.texts("#notice"))

    def add(self, *paths):
        before = self.pending()
        self.browser.type("#file", "\n".join(map(str, paths)))
        eventually(lambda: self.pending() == before + len(paths), 20)

    def pending(self):
        return self.js("return document.querySelectorAll('#pending img').length")

    def write(self, text):
        self.browser.type("#text", text)

    def ask(self, text, wait=True):
        """Write and send; the last answer in whole."""
        n = len(self.answers())
        self.write(text + ENTER)
        if wait:
            eventually(lambda: len(self.answers()) == n + 1 and not self.is_busy())
            return self.answers()[-1]
        return None

    def given_back(self):
        """The question that failed is in the box again, and no turn is left of it."""
        eventually(lambda: self.box() != "" and not self.is_busy())
        assert len(self.texts(".question")) == len(self.texts(".answer"))
        return self.box()

    def focus(self):
        return self.js("return document.activeElement.id || document.activeElement.className")


@pytest.fixture
def page(chrome, server):
    chrome.reset()
    chrome.console()
    p = Page(chrome, server.url)
    yield p
    assert chrome.console() == []


@pytest.fixture
def pictures(tmp_path):
    def write(n, **more):
        paths = []
        for i in range(n):
            paths.append(tmp_path / f"p{i}.png")
            paths[-1].write_bytes(picture(seed=i, **more))
        return paths
    return write


RECORD = """
window.sent = [];
const real = window.fetch;
window.fetch = (path, options) => {
  if (options.body) window.sent.push(options.body);
  return real(path, options);
};
"""


def test_ask_about_a_picture(page, pictures):
    assert page.texts("#welcome h2") == ["Ask about a picture"] and not page.is_shown("#turns")
    assert page.texts("#model-name") == ["mock"] and not page.is_shown("#model")
    assert page.texts("#api") == [page.url + "/v1"]
    path, = pictures(1)
    page.add(path)
    assert page.js("return document.querySelector('#pending img').naturalWidth") == 8
    # Its bytes arrive as they are.
    assert page.ask("what is it?") == "mock: what is it?" + mock_digest(path.read_bytes())
    assert not page.is_shown("#welcome") and page.pending() == 0 and page.box() == ""
    assert page.texts(".question .text") == ["what is it?"]
    assert page.js("return document.querySelector('.question img').naturalWidth") == 8
    assert re.fullmatch(r"(?:[\d.,]+\s+tokens/s · )?first token [\d.]+\s+m?s", page.texts(".figures summary")[0])
    page.click(".figures summary")
    figures = dict(zip(page.texts(".figures dt"), page.texts(".figures dd")))
    assert figures["of them, pictures"] == "16 tokens" and figures["Answer"] == "6 tokens"
    assert page.texts("#spoken") == ["Answer complete"]


def test_turns(page, pictures):
    a, b, c = pictures(3)
    page.js(RECORD)
    page.add(a)
    first = page.ask("one")
    second = page.ask("two")
    page.add(b, c)
    # Shift+Enter is a new line; markup stays text.
    page.write("<b>three</b>")
    page.keys((SHIFT, ENTER))
    third = page.ask("& four")
    assert third == "mock: <b>three</b>\n& four" + mock_digest(b.read_bytes()) + mock_digest(c.read_bytes())
    body = json.loads(page.js("return window.sent[2]"))

    def part(path):
        return {"type": "image_url", "image_url": {"url": data_uri(path.read_bytes())}}

    assert body == {
        "model": "mock", "stream": True, "stream_options": {"include_usage": True}, "messages": [
            {"role": "user", "content": [part(a), {"type": "text", "text": "one"}]},
            {"role": "assistant", "content": first},
            {"role": "user", "content": "two"},
            {"role": "assistant", "content": second},
            {"role": "user", "content": [part(b), part(c), {"type": "text", "text": "<b>three</b>\n& four"}]}]}
    page.click("#new-chat")
    assert page.is_shown("#welcome") and page.answers() == []
    page.ask("afresh")
    assert len(json.loads(page.js("return window.sent[3]"))["messages"]) == 1


def test_settings(page):
    page.js(RECORD)
    page.click("#settings summary")
    page.browser.type("#temperature", "0.5")
    page.browser.type("#max-tokens", "3")
    assert page.ask("a b c d e") == "mock: a b"
    assert not page.is_shown("#settings .panel")
    assert page.texts(".figures summary")[0].endswith("cut at the limit")
    body = json.loads(page.js("return window.sent[0]"))
    assert body["temperature"] == 0.5 and body["max_tokens"] == 3
    # What cannot be is told before anything is sent.
    page.click("#settings summary")
    page.browser.type("#max-tokens", "\ue003" * 3 + "0")
    page.write("more" + ENTER)
    assert page.is_shown("#settings .panel") and page.focus() == "max-tokens" and page.box() == "more"
    assert len(page.texts(".question")) == 1


def running(http):
    found = re.search(r"vlmd_num_requests_running\{[^}]*\} (\d+)", http.get("/metrics").text)
    return int(found.group(1))


@pytest.mark.parametrize("how", ["button", "escape", "enter on the button"])
def test_stop(page, http, how):
    page.ask("@slow 20 @repeat 5000", wait=False)
    eventually(lambda: page.answers() and len(page.answers()[0].split()) > 5)
    assert page.is_shown("#stop") and not page.is_shown("#send") and page.is_busy()
    assert "tokens/s" in page.texts(".figures summary")[0]  # while it streams
    if how == "button":
        page.click("#stop")
    elif how == "escape":
        page.keys(ESCAPE)
    else:
        page.js("document.getElementById('stop').focus()")
        page.keys(ENTER)
        assert page.focus() == "text"
    eventually(lambda: not page.is_busy())
    assert page.is_shown("#send") and not page.is_shown("#stop")
    assert page.texts(".figures summary")[0].endswith("stopped")
    words = page.answers()[0].split()
    assert words[:4] == ["mock:", "w0", "w1", "w2"] and len(words) < 4000
    eventually(lambda: running(http) == 0)
    # What was there of it belongs to the chat.
    page.js(RECORD)
    assert page.ask("go on") == "mock: go on"
    assert json.loads(page.js("return window.sent[0]"))["messages"][1]["content"].split() == words


def test_stop_before_the_first_word(page, pictures):
    page.add(*pictures(1))
    page.ask("@hang please", wait=False)
    eventually(lambda: page.texts(".waiting") and "Looking at the picture" in page.texts(".waiting")[0])
    page.keys(ESCAPE)
    assert page.given_back() == "@hang please" and page.pending() == 1 and page.notice() == ""


def test_new_chat_while_one_answers(page, http):
    page.ask("@slow 20 @repeat 5000", wait=False)
    eventually(lambda: page.answers() != [])
    page.click("#new-chat")
    assert page.answers() == [] and page.is_shown("#send")
    eventually(lambda: running(http) == 0)
    assert page.ask("second") == "mock: second" and page.texts(".question .text") == ["second"]


def test_pictures_come_and_go(page, pictures):
    page.add(*pictures(3))
    page.click("#pending li:nth-child(2) button")
    assert page.pending() == 2 and "p1.png removed" in page.texts("#spoken")
    # Only as many as the server takes, in a chat as a whole.
    page.add(*pictures(14)[:13])
    page.ask("fifteen")
    page.add(*pictures(1))
    page.browser.type("#file", str(pictures(1)[0]))
    eventually(lambda: "16 pictures" in page.notice())
    assert page.pending() == 1
    page.ask("sixteen")
    page.click("#new-chat")
    assert page.notice() == ""


def test_no_picture(page, tmp_path):
    path = tmp_path / "letter.png"
    path.write_bytes(b"Dear Sir")
    page.browser.type("#file", str(path))
    eventually(lambda: "letter.png is not a picture" in page.notice())
    assert page.pending() == 0 and page.js("return document.getElementById('send').disabled")


def test_pictures_the_server_would_refuse_are_made_smaller(page, tmp_path):
    """More bytes, a longer side, another format."""
    Image.new("RGB", (2700, 2700), "teal").save(tmp_path / "heavy.bmp")
    Image.new("RGB", (16400, 20), "red").save(tmp_path / "long.png")
    (tmp_path / "drawn.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30">'
                                        '<circle cx="9" cy="9" r="5"/></svg>')
    assert (tmp_path / "heavy.bmp").stat().st_size > 20 << 20
    page.add(tmp_path / "heavy.bmp", tmp_path / "long.png", tmp_path / "drawn.svg")
    assert re.fullmatch(r"mock: sizes \[2700x2700 sha256:\w+\] \[4096x5 sha256:\w+\] \[40x30 sha256:\w+\]",
                        page.ask("sizes"))


DROP = """
const data = new DataTransfer();
for (const [name, text] of arguments[1])
  data.items.add(new File([Uint8Array.from(atob(text), c => c.charCodeAt(0))], name, {type: 'image/png'}));
const event = arguments[0] === 'paste'
  ? new ClipboardEvent('paste', {clipboardData: data, bubbles: true, cancelable: true})
  : new DragEvent(arguments[0], {dataTransfer: data, bubbles: true, cancelable: true});
return !document.querySelector(arguments[2]).dispatchEvent(event);
"""


def test_drop_and_paste(page, pictures):
    a, b = (p.read_bytes() for p in pictures(2))
    files = [[["a.png", base64.b64encode(a).decode()]], [["", base64.b64encode(b).decode()]]]
    assert page.js(DROP, "dragenter", files[0], "#welcome") and page.is_shown("#drop")
    assert page.js(DROP, "dragover", files[0], "#welcome")
    assert page.js(DROP, "dragleave", files[0], "#welcome") and not page.is_shown("#drop")
    page.js(DROP, "dragenter", files[0], "#welcome")
    assert page.js(DROP, "drop", files[0], "#welcome") and not page.is_shown("#drop")
    eventually(lambda: page.pending() == 1)
    assert page.js(DROP, "paste", files[1], "#text")
    eventually(lambda: page.pending() == 2)
    # Text goes its own way.
    assert not page.js("const d = new DataTransfer(); d.setData('text/plain', 'x'); return !document.querySelector("
                       "'#text').dispatchEvent(new ClipboardEvent('paste', {clipboardData: d, cancelable: true}))")
    assert page.ask("both") == "mock: both" + mock_digest(a) + mock_digest(b)


def test_a_real_drop(page, pictures):
    """As the browser itself does it."""
    path, = pictures(1)
    data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        page.browser.cdp("Input.dispatchDragEvent", type=kind, x=300, y=300, data=data)
    eventually(lambda: page.pending() == 1)
    assert page.ask("dropped") == "mock: dropped" + mock_digest(path.read_bytes())


def test_without_a_mouse(page, pictures):
    """Everything by the keyboard: the focus is seen, goes through all controls and comes back."""
    assert page.focus() == "text"
    page.add(*pictures(1))
    page.write("@slow 20 @repeat 5000")
    page.keys(TAB)
    assert page.focus() == "add"
    page.js("window.clicked = 0; document.getElementById('file').click = () => window.clicked++")
    page.keys(ENTER, " ")
    assert page.js("return window.clicked") == 2
    page.keys(TAB)
    assert page.js("return document.activeElement.tagName") == "SUMMARY"
    assert page.js("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keys(ENTER)
    assert page.is_shown("#settings .panel")
    page.keys(ESCAPE)
    assert not page.is_shown("#settings .panel")
    page.keys(TAB)
    assert page.focus() == "send"
    page.keys(ENTER)
    eventually(lambda: page.answers() != [])
    assert page.focus() == "stop"
    page.keys(" ")
    eventually(lambda: not page.is_busy())
    assert page.focus() == "text"
    # Backwards to the picture's button and the answer's own controls.
    seen = set()
    for _ in range(12):
        page.keys((SHIFT, TAB))
        seen.add(page.focus())
    assert {"scroller", "new-chat", "plain copy"} <= seen
    page.js("document.querySelector('.copy').focus()")
    page.browser.cdp("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    page.keys(ENTER)
    eventually(lambda: page.texts(".copy") == ["Copied"])
    assert page.js("return navigator.clipboard.readText()") == page.answers()[0]


def test_names_for_screen_readers(page, pictures):
    page.add(*pictures(1))
    nodes = page.browser.cdp("Accessibility.getFullAXTree")["nodes"]
    named = {(n["role"]["value"], n["name"]["value"]) for n in nodes if not n["ignored"] and "name" in n}
    for wanted in (("heading", "vlmd"), ("heading", "Ask about a picture"), ("textbox", "Your question"),
                   ("button", "Picture"), ("button", "Send"), ("button", "New chat"), ("button", "Remove p0.png"),
                   ("image", "p0.png"), ("main", "Conversation")):
        assert wanted in named, named
    assert not [role for role, name in named if role in ("button", "textbox", "combobox", "link") and name == ""]


def overflow(page):
    return page.js("return [document.documentElement.scrollWidth - innerWidth, "
                   "document.getElementById('scroller').scrollWidth - document.getElementById('scroller').clientWidth]")


def test_narrow(page, pictures):
    page.browser.size(360, 640, 2, mobile=True)
    page.open()
    assert page.js("return innerWidth") == 360 and overflow(page) == [0, 0]
    page.add(*pictures(5, width=900, height=300))
    page.click("#settings summary")
    assert overflow(page) == [0, 0]
    box = page.js("const r = document.querySelector('#settings .panel').getBoundingClientRect(); return [r.left, r.right]")
    assert box[0] >= 0 and box[1] <= 360
    page.click("#settings summary")
    page.ask("@bytes 500 x")
    page.click(".figures summary")
    assert overflow(page) == [0, 0]
    # Fingers, and fields that a phone does not zoom into.
    small = page.js("""return [...document.querySelectorAll('header button, #dock button, #dock summary')]
        .filter(e => e.checkVisibility()).map(e => e.getBoundingClientRect()).filter(r => r.width < 40 || r.height < 40).length""")
    assert small == 0
    assert page.js("""return [...document.querySelectorAll('input:not([type=file]), textarea, select')]
        .every(e => parseFloat(getComputedStyle(e).fontSize) >= 16)""")
    # The box stays in view, above what the keyboard leaves.
    page.browser.size(360, 330, 2, mobile=True)
    bottom = page.js("return document.getElementById('composer').getBoundingClientRect().bottom")
    assert 0 < bottom <= 330


LUMINANCE = """
const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const light = colour => {
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
};
const style = getComputedStyle(document.documentElement);
return Object.fromEntries(arguments[0].map(name => [name, light(style.getPropertyValue('--' + name))]));
"""


def test_dark_and_light(page):
    pairs = [("text", "ground"), ("text", "surface"), ("text", "mine"), ("muted", "ground"), ("muted", "surface"),
             ("muted", "soft"), ("on-accent", "accent"), ("on-accent", "accent-strong"), ("accent", "ground"),
             ("bad", "bad-soft")]
    names = sorted({name for pair in pairs for name in pair})
    for scheme in ("light", "dark"):
        page.browser.scheme(scheme)
        value = page.js(LUMINANCE, names)
        assert (value["ground"] > 0.5) == (scheme == "light")
        for a, b in pairs:
            low, high = sorted((value[a], value[b]))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (scheme, a, b)
        image = Image.open(io.BytesIO(page.browser.screenshot())).convert("L")
        assert (image.getpixel((5, image.height - 5)) > 128) == (scheme == "light")


# A stream cut into pieces of one byte, or as given.
STREAM = """
const bytes = new TextEncoder().encode(arguments[0]), size = arguments[1];
window.fetch = async (path, options) => new Response(path !== 'v1/chat/completions'
  ? JSON.stringify({data: [{id: 'mock'}]})
  : new ReadableStream({
    async start(c) {
      for (let i = 0; i < bytes.length; i += size) {
        c.enqueue(bytes.slice(i, i + size));
        if (size < bytes.length && i % 16 === 0) await new Promise(done => setTimeout(done));
      }
      c.close();
    }}));
"""


def chunk(text, **more):
    return "data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}], **more},
                                 ensure_ascii=False)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [1, 2, 7, 1 << 20])
def test_streams_however_they_are_cut(page, end, size):
    lines = [": a comment", "", "event: x", "id: 1", chunk("grüß "), "", ":", "", "data:" + chunk("日本 ")[6:], "",
             chunk("🦊🧡"), "", 'data: {"choices":[],', 'data: "usage":{"prompt_tokens":3,"completion_tokens":4}}', "",
             "data: [DONE]", "", ""]
    page.js(STREAM, end.join(lines), size)
    assert page.ask("x") == "grüß 日本 🦊🧡"
    assert page.notice() == "" and not page.is_shown(".fault")


@pytest.mark.parametrize("lines, words", [
    ([chunk("so far"), ""], "The connection ended before the answer did."),
    ([chunk("so far"), "", "data: [DONE]"], "The connection ended before the answer did."),  # no empty line behind it
    ([chunk("so far"), "", 'data: {"error":{"message":"it broke","code":null}}', ""], "The server says: it broke"),
    ([chunk("so far"), "", "data: {", ""], "cannot be understood"),
])
def test_streams_that_break(page, lines, words):
    page.js("window.keptFetch = window.fetch")
    page.js(STREAM, "\n".join(lines) + "\n", 1 << 20)
    assert page.ask("x") == "so far"
    assert words in page.texts(".fault span")[0]
    page.js("window.fetch = window.keptFetch")
    page.click(".fault button")
    eventually(lambda: page.answers() == ["mock: x"] and not page.is_busy())
    assert page.texts(".question .text") == ["x"] and not page.is_shown(".fault")


def test_models(page):
    page.js("""
        window.list = [{id: 'first', status: 'loaded'}, {id: 'second', status: 'unloaded'}];
        window.sent = [];
        window.fetch = async (path, options) => {
          if (options.body) window.sent.push(JSON.parse(options.body).model);
          return new Response(options.body ? 'data: {"choices":[{"index":0,"delta":{"content":"y"}}]}\\n\\ndata: [DONE]\\n\\n'
            : JSON.stringify({data: window.list}));
        };
        return loadModels();""")
    def options():
        assert page.is_shown("#model") and page.texts("#model-name") == [""]
        return page.js("return [...document.getElementById('model').options].map(o => o.text)")

    assert options() == ["first", "second · unloaded"]
    page.browser.type("#model", "sec")
    page.ask("x")
    page.js("window.list.reverse(); window.list[0].status = 'loaded'; return loadModels()")
    assert options() == ["second", "first"]
    page.ask("y")
    assert page.js("return window.sent") == ["second", "second"]
    page.js("window.list = [{id: 'third', status: 'loading'}]; return loadModels()")
    assert page.texts("#model-name") == ["third · loading"] and not page.is_shown("#model")


# ---- when it goes wrong: these leave lines in the console, but no violation of the policy ----


@pytest.fixture
def troubled(chrome):
    chrome.reset()
    chrome.console()
    yield chrome
    lines = chrome.console()
    assert [line for line in lines if " network: " not in line] == []


def test_key(troubled, keyed, pictures):
    page = Page(troubled, keyed.url)
    assert page.is_shown("#key-form") and page.focus() == "key"
    assert page.js("return document.getElementById('key').type") == "password"
    # Asked before there is a key, nothing is lost.
    page.add(*pictures(1))
    page.write("who are you?" + ENTER)
    assert page.given_back() == "who are you?" and page.pending() == 1 and page.is_shown("#key-form")
    for wrong in ("two words", "ключ", "wrong"):
        page.browser.type("#key", wrong)
        page.js("document.getElementById('notice').textContent = ''")
        page.browser.type("#key", ENTER)
        eventually(lambda: page.notice() != "")
        page.js("document.getElementById('key').value = ''")
    assert page.given_back() == "who are you?" and "does not accept" in page.notice()
    page.browser.type("#key", "sesame-of-the-page" + ENTER)
    eventually(lambda: len(page.answers()) == 1 and not page.is_busy())
    assert page.answers()[0].startswith("mock: who are you? [8x6") and page.notice() == ""
    assert not page.is_shown("#key-form")
    # This tab keeps it, and nothing else does.
    page.open()
    assert page.texts("#model-name") == ["mock"] and not page.is_shown("#key-form")
    assert page.js("return [JSON.stringify(localStorage), document.cookie]") == ["{}", ""]
    page.click("#settings summary")
    page.click("#forget-key")
    eventually(lambda: page.is_shown("#key-form"))
    assert page.js("return JSON.stringify(sessionStorage)") == "{}"


def test_errors_of_the_model(troubled, server, pictures):
    page = Page(troubled, server.url)
    page.add(*pictures(1))
    for question, words in (("@error INTERNAL", "The server says: the server had an error"),
                            ("@error UNAVAILABLE", "busy or not ready. Try again in "),
                            ("@error DEADLINE_EXCEEDED", "longer than the server allows"),
                            ("@slow x", "The server says: a mock fault wants a number"),
                            ("@repeat 1048577", "The server says: ")):
        page.ask(question, wait=False)
        assert page.given_back() == question and page.pending() == 1
        assert words in page.notice(), question
        page.js("document.getElementById('text').value = ''")
    assert page.ask("good").startswith("mock: good [")
    assert page.notice() == ""


def test_the_worker_dies(troubled):
    with serve("mock", "--mock-faults", "--mock-token-ms", "30",
               ASAN_OPTIONS="handle_segv=0:allocator_may_return_null=1") as s:
        Api(s).wait_ready()
        page = Page(troubled, s.url)
        assert page.ask("@crash a b c").startswith("mock:")
        assert page.texts(".fault span")[0].startswith("The server says: ") and page.is_shown(".fault button")
        eventually(lambda: httpx.get(s.url + "/readyz", trust_env=False).status_code == 200, 20)
        assert page.ask("on") == "mock: on"
        # The server itself goes, and comes back elsewhere for this page: nothing is lost meanwhile.
        s.stop(None)
        page.ask("anybody?", wait=False)
        assert page.given_back() == "anybody?" and "cannot be reached" in page.notice()
        eventually(lambda: page.texts("#model-name") == ["not reachable"])


def test_busy(troubled, pictures):
    with serve("mock", "--mock-faults", "--max-running", "1", "--max-waiting", "0") as s:
        api = Api(s).wait_ready()
        page = Page(troubled, s.url)
        page.add(*pictures(1))
        with api.http.stream("POST", "/v1/chat/completions",
                             json=chat("@slow 50 @repeat 100000", stream=True)) as r:
            pieces = r.iter_bytes()
            next(pieces)
            page.ask("me too", wait=False)
            assert page.given_back() == "me too" and page.pending() == 1
            assert re.search(r"busy or not ready\. Try again in \d+ s\.", page.notice())
        eventually(lambda: running(api.http) == 0)
        page.keys(ENTER)
        eventually(lambda: page.answers() != [] and not page.is_busy())
        assert page.answers()[0].startswith("mock: me too [8x6") and page.notice() == ""
        s.stop()


def test_limits_of_the_server(troubled, tmp_path, pictures):
    """They may be lower than those the page knows."""
    with serve("mock", "--max-body", "100KiB", "--max-images", "1") as s:
        Api(s).wait_ready()
        page = Page(troubled, s.url)
        path = tmp_path / "noise.png"
        path.write_bytes(picture(1000, 1000))
        page.add(path)
        page.ask("too much", wait=False)
        assert page.given_back() == "too much" and page.pending() == 1
        assert "more than the server takes at once" in page.notice()
        page.click("#pending button")
        page.add(*pictures(2))
        page.click("#send")
        assert page.given_back() == "too much" and page.pending() == 2
        assert "at most 1 pictures" in page.notice()
        page.click("#pending button")
        page.click("#send")
        eventually(lambda: page.answers() != [] and not page.is_busy())
        assert page.answers()[0] == "mock: too much" + mock_digest(pictures(2)[1].read_bytes())
        s.stop()


def test_not_ready(troubled):
    """The page is there before the model is."""
    with serve("mock", "--mock-faults") as s:
        page = Page(troubled, s.url)
        eventually(lambda: page.texts("#model-name") == ["mock"], 20)
        s.stop()


def test_demo(chrome, tmp_path):
    """A newcomer's first minute: the example, asked of the built-in model."""
    chrome.reset()
    chrome.console()
    with serve("demo") as s:
        Api(s).wait_ready()
        page = Page(chrome, s.url)
        assert page.is_shown("#demo-note")
        page.click("#example")
        eventually(lambda: page.pending() == 1 and page.box() != "")
        page.keys(ENTER)
        eventually(lambda: page.answers() != [] and not page.is_busy(), 30)
        assert page.answers() == ["The picture shows a red star, a blue circle and a green heart."]
        assert page.ask("How many shapes are there?") == "There are 3 shapes."
        s.stop()
    assert chrome.console() == []
