"""What the README shows works as written."""

import re
from pathlib import Path

from mgt_np.experiments import EXPERIMENTS, recorded, verdicts_of
from mgt_np.experiments.writing import BEGIN, END, findings

README = Path(__file__).parents[1] / "README.md"
ROOT = README.parent


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_the_example_runs_as_written_and_prints_what_it_says(capsys):
    (code,) = blocks("python")
    assert len([line for line in code.splitlines() if line]) <= 10
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    promised = re.search(r"# a reflection: (.*)", code)[1]
    assert capsys.readouterr().out.strip() == promised
    assert 0.0 < float(names["value"]) < 20.0
    assert abs(names["gradient"]["blocks"][0]["attention"]["W_q"]).max() > 0.0


def test_its_links_lead_somewhere():
    text = README.read_text(encoding="utf-8")
    targets = [t for t in re.findall(r"\]\(([^)]+)\)", text) if not t.startswith("http")]
    assert len(targets) >= 8
    headings = {
        f"#{line.lstrip('# ').lower().replace(' ', '-')}"
        for line in text.splitlines()
        if "# " in line
    }
    missing = [t for t in targets if t not in headings and not (ROOT / t).exists()]
    assert missing == []


def test_its_commands_are_targets_of_the_makefile():
    commands = re.findall(r"^make (\w+)", "".join(blocks("sh")), re.MULTILINE)
    assert commands == ["reproduce", "test"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(re.search(rf"^{command}:", makefile, re.MULTILINE) for command in commands)


def test_its_comparison_is_that_of_the_page():
    (shown,) = re.findall(
        r"```\n\$ mgt-np compare (\S+)\n(.*?)```", README.read_text("utf-8"), re.DOTALL
    )
    page = (ROOT / "docs" / "compare.md").read_text(encoding="utf-8")
    assert f"mgt-np compare {shown[0]}\n```\n\n```text\n{shown[1]}```" in page


def test_its_findings_are_those_of_the_committed_rows():
    """`mgt-np reproduce --redraw --findings README.md` would change nothing."""
    results = recorded(EXPERIMENTS, ROOT / "figures")
    assert [each.name for each in results] == list(EXPERIMENTS)
    claims = verdicts_of(results)
    text = README.read_text(encoding="utf-8")
    assert f"{BEGIN}\n{findings(claims)}\n{END}" in text
    assert 8 <= sum(each.readme for _, each in claims) <= 16


def test_its_picture_is_told_in_words():
    alt = re.search(r"!\[([^]]*)\]\(figures/headline.png\)", README.read_text(encoding="utf-8"))[1]
    assert alt == EXPERIMENTS["headline"].alt
