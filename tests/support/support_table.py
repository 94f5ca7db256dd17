"""Write what ran on which array library into the README, from a run of the tests themselves.

    python -m pytest --support-table README.md

replaces what stands between the two markers by one row a room and one column a library: how many
of the tests that take the `library` fixture passed there, of how many. Run it where the libraries
are installed.
"""

import collections
from pathlib import Path

BEGIN, END = "<!-- support table: begin -->", "<!-- support table: end -->"
COLUMNS = ("numpy", "strict", "strict-device1", "torch", "jax", "cupy")
TITLES = ("NumPy", "array-api-strict", "the same, second device", "PyTorch", "JAX", "CuPy")
ROOMS = {
    "array functions and their gradients": ("arrays/",),
    "layers": ("layers/", "laws/test_layer_contract", "laws/test_fused_layers"),
    "measures": ("analysis/", "laws/test_measure_contract"),
    "models": ("models/", "laws/test_residual_rules"),
    "50 training steps, losses to 1e-10": ("laws/test_device",),
}


class SupportTable:
    """Collects the outcomes of the tests that ran on an array library."""

    def __init__(self, path):
        self.path = Path(path)
        self.passed, self.ran = collections.Counter(), collections.Counter()

    def pytest_runtest_logreport(self, report):
        library = dict(report.user_properties).get("library")  # of the fixture, from any process
        skipped = report.skipped and not hasattr(report, "wasxfail")
        if library is None or report.when != "call" or skipped:
            return
        cell = (room_of(report.nodeid), library)
        self.ran[cell] += 1
        self.passed[cell] += report.passed

    def pytest_sessionfinish(self, session):
        if hasattr(session.config, "workerinput"):
            return  # whoever started this process hears of its tests
        before, _, rest = self.path.read_text(encoding="utf-8").partition(BEGIN)
        _, _, after = rest.partition(END)
        text = f"{before}{BEGIN}\n{self.table()}\n{END}{after}"
        self.path.write_text(text, encoding="utf-8")

    def table(self):
        lines = [["", *TITLES], ["---"] * (len(TITLES) + 1)]
        for room in ROOMS:
            lines.append([room, *(self.cell(room, library) for library in COLUMNS)])
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def cell(self, room, library):
        ran, passed = self.ran[room, library], self.passed[room, library]
        if not ran:
            return "not run"
        return f"{passed}" if passed == ran else f"{passed} of {ran}"


def room_of(nodeid):
    """The row that a test counts in, by its folder; None for those that no row counts."""
    path = nodeid.partition("::")[0].removeprefix("tests/")
    return next((room for room, paths in ROOMS.items() if path.startswith(paths)), None)
