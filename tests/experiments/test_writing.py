"""What is written of a result: whole files that can be read back, and the table of its claims."""

import csv
import json

import pytest
from toy_experiment import TOY

from mgt_np import experiments
from mgt_np.experiments import Claim


def test_written_files_hold_rows_claims_and_provenance(tmp_path):
    result = experiments.run(TOY, command="mgt-np reproduce toy")
    claims = TOY.claims(result)
    experiments.write(result, claims, TOY.plot(result), tmp_path / "new")
    files = {path.name: path for path in (tmp_path / "new").iterdir()}
    assert files.keys() == {"toy.csv", "toy.json", "toy.png"}
    with files["toy.csv"].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [list(row) for row in rows] == [list(row) for row in result.rows]
    for row, wanted in zip(rows, result.rows, strict=True):
        assert int(row["draw"]) == wanted["draw"]
        assert float(row["value"]) == pytest.approx(wanted["value"], rel=1e-9)
    record = json.loads(files["toy.json"].read_text())
    assert record["settings"] == {
        "array_library": "numpy",
        "device": None,
        "dtype": "float64",
        "n_draws": 2,
        "data": "python-docs",
        "seed": 0,
    }
    assert record["command"] == "mgt-np reproduce toy"
    assert {"python", "numpy", "autograd", "mgt-np"} <= record["versions"].keys()
    assert [Claim(**claim) for claim in record["claims"]] == claims
    assert record["arrays"]["values"] == result.column("value")
    assert files["toy.png"].read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("width", [80, 120])
def test_the_claims_table_keeps_its_width_and_its_words(width):
    claim = Claim("a claim " * 12, "a source", "0.1 " * 30, "holds only if it rains")
    table = experiments.claims_table([("figure.png", claim)], width)
    assert max(map(len, table.splitlines())) <= width
    assert table.count("0.1") == 30
    titles = [title.strip() for title in table.splitlines()[0].split("│")]
    assert titles == ["claim", "source", "measured", "figure", "verdict"]
