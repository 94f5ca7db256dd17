"""What the README shows works as written."""

import re
from pathlib import Path

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
    assert [target for target in targets if not (ROOT / target).exists()] == []


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
