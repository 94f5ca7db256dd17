"""JupyterLite's page of a lesson in headless Chromium, which reaches nothing but a local server."""

import functools
import json
import threading
import time
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

from selenium import webdriver
from selenium.common.exceptions import JavascriptException
from selenium.webdriver.common.keys import Keys

# The notebook that is open, as a model: what its cells hold is there, shown or not.
CELLS = "const cells = [...window.jupyterapp.shell.currentWidget.content.model.cells];"


@contextmanager
def served(folder):
    """Serve a folder on a free port; give its address."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def chromium(binary, driver, profile):
    """A browser with a new profile and no network: names resolve to nothing."""
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for option in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--window-size=1300,1000",
        f"--user-data-dir={profile}",
        "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    ):
        options.add_argument(option)
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    browser.set_script_timeout(60)
    try:
        yield browser
    finally:
        browser.quit()


class Lesson:
    """A lesson that is open, or opening, in the browser."""

    def __init__(self, browser):
        self.browser = browser
        self.wait(self.ready, 300, "the kernel does not answer")

    def ready(self):
        """Whether cells are there, and a kernel that waits for them."""
        return self.browser.execute_script(
            "const panel = window.jupyterapp?.shell?.currentWidget;"
            "return panel?.content?.model?.cells?.length > 1"
            " && panel.sessionContext?.session?.kernel?.status === 'idle';"
        )

    def wait(self, is_so, seconds, otherwise):
        """Wait until a function returns something true, and return that."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if found := is_so():
                    return found
            except JavascriptException:  # the page is not there yet
                pass
            time.sleep(0.2)
        raise AssertionError(f"{otherwise}; {self.errors()}")

    def run(self, command, seconds, is_done):
        """Give a command of JupyterLab's menus, and wait for what comes of it."""
        self.browser.execute_script(f"window.jupyterapp.commands.execute({json.dumps(command)})")
        self.wait(is_done, seconds, f"{command} does not end")

    def run_all(self, seconds):
        """Run all cells to the end."""
        self.run("notebook:run-all-cells", seconds, self.all_ran)

    def all_ran(self):
        return self.errors() or all(cell["count"] for cell in self.code_cells())

    def code_cells(self):
        """For each cell of code its id, its count, and its outputs, without pictures."""
        return self.browser.execute_script(
            CELLS + "return cells.filter((cell) => cell.type === 'code').map((cell) => {"
            "  const { id, execution_count: count, outputs } = cell.toJSON();"
            "  return { id, count, outputs: outputs.map((output) => ({"
            "    type: output.output_type, text: [output.text ?? ''].flat().join(''),"
            "    name: output.name ?? '', error: output.evalue ?? '',"
            "    kinds: Object.keys(output.data ?? {}) })) };"
            "});"
        )

    def errors(self):
        """The errors, and what was written to standard error, with the cell's id."""
        return [
            (cell["id"], output["error"] or output["text"])
            for cell in self.code_cells()
            for output in cell["outputs"]
            if output["type"] == "error" or output["name"] == "stderr"
        ]

    def text_of(self, cell_id):
        """What a cell printed."""
        found = next(cell for cell in self.code_cells() if cell["id"] == cell_id)
        return "".join(output["text"] for output in found["outputs"])

    def answer(self, cell_id, source, check_id):
        """Write an answer into its cell, run it and its check, and return what that prints."""
        for each, new in ((cell_id, source), (check_id, None)):
            self.browser.execute_script(
                CELLS + "const [id, source] = arguments;"
                "const index = cells.findIndex((cell) => cell.id === id);"
                "if (source !== null) cells[index].sharedModel.setSource(source);"
                "cells[index].executionCount = null;"
                "const content = window.jupyterapp.shell.currentWidget.content;"
                "content.activeCellIndex = index; content.deselectAll();",
                each,
                new,
            )
            self.run("notebook:run-cell", 60, functools.partial(self.ran, each))
        return self.text_of(check_id)

    def ran(self, cell_id):
        return any(cell["id"] == cell_id and cell["count"] for cell in self.code_cells())

    def pictures(self):
        """The pictures of all cells, as text in base64."""
        return self.browser.execute_script(
            CELLS + "return cells.flatMap((cell) => cell.toJSON().outputs ?? [])"
            ".map((output) => output.data?.['image/png']).filter(Boolean)"
            ".map((png) => [png].flat().join(''));"
        )

    def element(self, cell_id):
        """The part of the page that is a cell, scrolled to."""
        return self.browser.execute_script(
            "const content = window.jupyterapp.shell.currentWidget.content;"
            "const cell = content.widgets.find((each) => each.model.id === arguments[0]);"
            "content.scrollToCell(cell); return cell.node;",
            cell_id,
        )

    def slider(self, cell_id):
        """The number beside a slider, and the picture below it; None if one is not shown."""
        cell = self.element(cell_id)
        values = cell.find_elements("css selector", ".widget-readout")
        pictures = cell.find_elements("css selector", "img")
        if not (values and pictures):
            return None
        value = values[0].text.replace("\N{MINUS SIGN}", "-")
        return {"value": value, "picture": pictures[0].get_attribute("src")}

    def press_right(self, cell_id):
        """Move a cell's slider one step by the keyboard."""
        handle = self.element(cell_id).find_element("css selector", ".noUi-handle")
        handle.send_keys(Keys.ARROW_RIGHT)
