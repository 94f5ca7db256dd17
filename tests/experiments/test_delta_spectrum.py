"""The Delta Operator's spectrum: verdicts that follow the errors."""

from small_settings import small_run, verdicts


def test_verdicts_follow_the_rows():
    result = small_run("delta-spectrum")
    assert verdicts(result) == ["holds", "holds"]
    assert verdicts(result, error=1e-3) == ["does not hold", "holds"]
