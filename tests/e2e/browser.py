"""A headless Chromium driven over WebDriver, for tests of the page at /: what they need of it and no more."""
import base64
import os
import re
import shutil
import subprocess
import tempfile

import httpx

DRIVER = shutil.which("chromedriver")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
MISSING = None if DRIVER and CHROMIUM else "Chromium is not installed: packages chromium and chromium-driver"

# As root, without a screen, in containers with a small /dev/shm; and nobody outside is asked for anything.
ARGUMENTS = ["--no-sandbox", "--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--no-default-browser-check", "--disable-background-networking", "--disable-component-update",
             "--disable-sync", "--disable-extensions", "--no-proxy-server", "--hide-scrollbars"]

ENTER, SHIFT, TAB, ESCAPE, SPACE = "\ue007", "\ue008", "\ue004", "\ue00c", " "
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    def __init__(self, width=1100, height=800):
        self.home = tempfile.mkdtemp(prefix="vlmd-browser-")
        self.driver = subprocess.Popen([DRIVER, "--port=0"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=subprocess.STDOUT, env=dict(os.environ, HOME=self.home))
        self.session = None
        try:
            self.http = httpx.Client(base_url=f"http://127.0.0.1:{self._port()}", timeout=60, trust_env=False)
            options = {"binary": CHROMIUM, "args": [*ARGUMENTS, f"--window-size={width},{height}",
                                                    f"--user-data-dir={self.home}/profile"]}
            value = self._call("POST", "/session", capabilities={"alwaysMatch": {
                "browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}})
            self.session = f"/session/{value['sessionId']}"
        except BaseException:
            self.close()
            raise

    def _port(self):
        for line in self.driver.stdout:
            found = re.search(rb"started successfully on port (\d+)", line)
            if found:
                return int(found.group(1))
        raise AssertionError("chromedriver does not start")

    def _call(self, method, path, **body):
        r = self.http.request(method, path, json=body if method == "POST" else None)
        value = r.json()["value"]
        assert r.status_code == 200, f"{path}: {value['error']}: {value['message']}"
        return value

    def close(self):
        try:
            if self.session is not None:
                self._call("DELETE", self.session)
        finally:
            self.driver.terminate()
            self.driver.wait(20)
            self.driver.stdout.close()
            shutil.rmtree(self.home, ignore_errors=True)

    def open(self, url):
        self._call("POST", self.session + "/url", url=url)

    def js(self, script, *args):
        """What the script returns; it finds args in `arguments`.  A promise is waited for."""
        return self._call("POST", self.session + "/execute/sync", script=script, args=list(args))

    def _element(self, selector):
        value = self._call("POST", self.session + "/element", using="css selector", value=selector)
        return f"{self.session}/element/{value[ELEMENT]}"

    def click(self, selector):
        self._call("POST", self._element(selector) + "/click")

    def type(self, selector, text):
        """Keys to an element; for a file input the path of a file."""
        self._call("POST", self._element(selector) + "/value", text=text)

    def keys(self, *keys):
        """Each pressed and let go, wherever the focus is; a tuple is pressed together."""
        actions = []
        for key in keys:
            together = key if isinstance(key, tuple) else (key,)
            actions += [{"type": "keyDown", "value": k} for k in together]
            actions += [{"type": "keyUp", "value": k} for k in reversed(together)]
        self._call("POST", self.session + "/actions",
                   actions=[{"type": "key", "id": "keyboard", "actions": actions}])

    def cdp(self, command, **params):
        return self._call("POST", self.session + "/goog/cdp/execute", cmd=command, params=params)

    def console(self):
        """What the console has got since the last call, warnings and violations of policies included."""
        return [f"{e['level']} {e['source']}: {e['message']}"
                for e in self._call("POST", self.session + "/se/log", type="browser")]

    def screenshot(self):
        return base64.b64decode(self._call("GET", self.session + "/screenshot"))

    def size(self, width, height, scale=1, mobile=False):
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale,
                 mobile=mobile)
        self.cdp("Emulation.setTouchEmulationEnabled", enabled=mobile)

    def scheme(self, name):
        self.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def reset(self):
        self.cdp("Emulation.clearDeviceMetricsOverride")
        self.cdp("Emulation.setTouchEmulationEnabled", enabled=False)
        self.cdp("Emulation.setEmulatedMedia", features=[])
