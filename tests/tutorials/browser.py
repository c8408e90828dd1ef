"""Debian's chromium, headless, driven through its DevTools protocol: pages as people have them.

Invariant: the browser and its profile are gone when `async with` ends, however it ends.
"""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

__all__ = ["Page", "browser", "find_chromium"]

STARTING = 20.0  # seconds for the browser to say where it listens
PATIENCE = 10.0  # seconds for what a page should show
POLL_S = 0.03
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")


def find_chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._ids = count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.said: list[str] = []  # errors on the consoles of its pages
        self.reading = asyncio.create_task(self._read())

    async def page(self, url: str, *, width: int = 1000, height: int = 680) -> Page:
        """A new window, with cookies and storage of its own."""
        context = (await self.ask("Target.createBrowserContext"))["browserContextId"]
        target = (await self.ask("Target.createTarget", url="about:blank", browserContextId=context))["targetId"]
        session = (await self.ask("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        page = Page(self, session)
        await page.ask("Runtime.enable")
        await page.ask("Page.enable")
        await page.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        await page.ask("Page.navigate", url=url)
        await page.until("document.readyState === 'complete'")
        return page

    async def ask(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        to = {"sessionId": session} if session else {}
        await self._connection.send(json.dumps({"id": number, "method": method, "params": params, **to}))
        return await asyncio.wait_for(answer, PATIENCE)

    async def _read(self) -> None:
        async for frame in self._connection:
            message = json.loads(frame)
            waiting = self._answers.pop(message.get("id", 0), None)
            if waiting is not None:
                if "error" in message:
                    waiting.set_exception(RuntimeError(str(message["error"])))
                else:
                    waiting.set_result(message["result"])
            elif message.get("method") == "Runtime.exceptionThrown":
                self.said.append(json.dumps(message["params"]["exceptionDetails"])[:500])


class Page:
    def __init__(self, owner: Browser, session: str) -> None:
        self._owner = owner
        self._session = session

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        return await self._owner.ask(method, self._session, **params)

    async def js(self, code: str) -> Any:
        """The value of an expression; promises are awaited."""
        answer = await self.ask("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise AssertionError(f"{code}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    async def until(self, code: str, timeout: float = PATIENCE) -> Any:
        """Wait until an expression is true; what the page shows is in the error when it does not become so."""
        end = asyncio.get_running_loop().time() + timeout
        while not (value := await self.js(code)):
            if asyncio.get_running_loop().time() > end:
                shown = await self.js("document.body?.innerText")
                raise AssertionError(f"{code} did not become true; the page shows:\n{shown}\n{self._owner.said}")
            await asyncio.sleep(POLL_S)
        return value

    async def type(self, selector: str, text: str, *, enter: bool = False) -> None:
        """As by a keyboard, into a field."""
        await self.js(f"document.querySelector({json.dumps(selector)}).focus()")
        await self.js(f"document.querySelector({json.dumps(selector)}).select?.()")
        await self.ask("Input.insertText", text=text)
        if enter:
            for kind in ("keyDown", "keyUp"):
                key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
                await self.ask("Input.dispatchKeyEvent", type=kind, **key)

    async def screenshot(self, path: Path) -> None:
        shot = await self.ask("Page.captureScreenshot", format="png")
        await asyncio.to_thread(path.write_bytes, base64.b64decode(shot["data"]))


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    chromium = find_chromium()
    assert chromium is not None, "no chromium here: apt-get install chromium"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            *(chromium, *FLAGS, f"--user-data-dir={profile}", "--remote-debugging-port=0", "about:blank"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        draining: asyncio.Task[None] | None = None
        try:
            address = await asyncio.wait_for(_address(process), STARTING)
            draining = asyncio.create_task(_drain(process))
            async with connect(address, max_size=None, compression=None, ping_interval=None) as connection:
                owner = Browser(connection)
                try:
                    yield owner
                finally:
                    owner.reading.cancel()
                    await asyncio.gather(owner.reading, return_exceptions=True)
        finally:
            process.kill()
            await process.wait()
            if draining is not None:
                await asyncio.gather(draining, return_exceptions=True)


async def _address(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    while line := (await process.stderr.readline()).decode():
        if "DevTools listening on" in line:
            return line.split()[-1]
    raise AssertionError("chromium ended before it listened")


async def _drain(process: asyncio.subprocess.Process) -> None:
    assert process.stderr is not None
    while await process.stderr.read(65536):
        pass
