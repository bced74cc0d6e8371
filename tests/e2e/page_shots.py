#!/usr/bin/env python3
"""Pictures of the page at /, to look at: page_shots.py build/vlmd FOLDER.  docs/page.png is made of desktop-light.png."""
import os
import sys

os.environ["VLMD"] = sys.argv[1]

from api import Api, serve  # noqa: E402
from browser import ENTER, Browser  # noqa: E402
from helpers import DEMO  # noqa: E402
from servers import eventually  # noqa: E402

SIZES = {"desktop": (1000, 780, 1, False), "phone": (390, 760, 2, True), "small": (360, 560, 2, True)}


def ask(browser, question, n):
    browser.js("document.getElementById('text').focus()")
    browser.type("#text", question + ENTER)
    eventually(lambda: browser.js("return document.querySelectorAll('.answer[aria-busy=false]').length") == n, 30)


def shoot(browser, url, name, folder):
    def save(what):
        with open(os.path.join(folder, f"{name}-{what}.png"), "wb") as f:
            f.write(browser.screenshot())

    browser.open(url)
    eventually(lambda: browser.js("return document.getElementById('model-name').textContent") != "")
    save("welcome")
    browser.type("#file", os.path.join(DEMO, "examples/three.png"))
    eventually(lambda: browser.js("return document.querySelectorAll('#pending img').length") == 1)
    save("composer")
    ask(browser, "What is in this picture?", 1)
    ask(browser, "Where is the heart?", 2)
    save("chat")
    browser.js("document.querySelector('.figures').open = true; document.getElementById('settings').open = true; "
               "document.getElementById('scroller').scrollTop = 0")
    save("open")
    browser.js("document.getElementById('settings').open = false; showNotice('The server is busy or not ready. Try "
               "again in 2 s.'); document.getElementById('key-form').hidden = false; scrollDown()")
    save("trouble")
    browser.js("document.getElementById('new-chat').click(); document.getElementById('drop').hidden = false; showModels(["
               "{id: 'llava-1.5-7b-hf', status: 'loaded'}, {id: 'llava-1.5-13b-hf', status: 'unloaded'}], '')")
    save("drop")


def main():
    folder = sys.argv[2]
    os.makedirs(folder, exist_ok=True)
    browser = Browser()
    try:
        with serve("demo") as server:
            Api(server).wait_ready()
            for kind, size in SIZES.items():
                for scheme in ("light", "dark"):
                    browser.size(*size)
                    browser.scheme(scheme)
                    shoot(browser, server.url, f"{kind}-{scheme}", folder)
    finally:
        browser.close()


if __name__ == "__main__":
    main()
