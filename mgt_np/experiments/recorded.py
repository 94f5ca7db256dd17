"""What written results say, whoever ran them and when: the page of all claims, the findings."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from mgt_np.data.files import write_whole

from .claims import Judged

FULL = "full"  # the folder within, of results under the full settings
BRIEF = ", which train too briefly to judge a model by"  # quick settings where something is trained


@dataclass(frozen=True)
class Recorded:
    """What is written of an experiment's result: its figure, from the page's folder, its claims.

    `preset` is "quick", "full" or "other"; `trains` whether it trains models as long as it is told;
    `core_hours` None where an older version wrote it.
    """

    name: str
    question: str
    figure: str
    preset: str
    trains: bool
    claims: tuple[Judged, ...]
    core_hours: float | None

    @property
    def brief(self):
        """Whether models were trained too briefly to judge them by: to test the machinery."""
        return self.trains and self.preset == "quick"


def recorded(experiments, folder):
    """The records of all experiments that a folder holds, in the registry's order.

    Where the folder `full` within has an experiment's result, that is the one. Raises ValueError
    for a record that is damaged, or of a version with other fields.
    """
    found = []
    for name, experiment in experiments.items():
        for figure in (f"{FULL}/{name}.png", f"{name}.png"):
            path = (Path(folder) / figure).with_suffix(".json")
            if path.exists():
                found.append(_read(path, experiment, figure))
                break
    return found


def _read(path, experiment, figure):
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        preset = _preset(experiment, record["settings"])
        claims = tuple(Judged(**each) for each in record["claims"])
        hours = record.get("core_hours")
        texts = [text for each in claims for text in _texts(each)]
        if not all(type(text) is str for text in texts) or type(hours or 0.0) is not float:
            raise TypeError
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"expected the record of a result in {path}: run it again") from None
    return Recorded(
        name=experiment.name,
        question=experiment.question,
        figure=figure,
        preset=preset,
        trains=experiment.resumes,
        claims=claims,
        core_hours=hours,
    )


def verdicts_of(results):
    """All verdicts, each with the figure that it leads to."""
    return [(result.figure, each) for result in results for each in result.claims]


def _preset(experiment, settings):
    """Which of the experiment's settings these are, in a word."""
    presets = {"quick": experiment.quick, "full": experiment.full}
    plain = {name: json.loads(json.dumps(asdict(each))) for name, each in presets.items()}
    return next((name for name, each in plain.items() if each == settings), "other")


def write_claims(path, results):
    """Write the page of all claims: what was measured, the verdict, the figure and the cost."""
    write_whole(path, claims_page(results).encode())


def claims_page(results):
    """All claims as Markdown, a section an experiment; verdicts that fail stay as they are."""
    verdicts = [each.verdict for _, each in verdicts_of(each for each in results if not each.brief)]
    brief = len(verdicts_of(each for each in results if each.brief))
    hours = sum(result.core_hours or 0.0 for result in results)
    lines = [
        "# Claims, and what was measured",
        "",
        f"{len(verdicts)} claims: {verdicts.count('holds')} × holds, "
        f"{verdicts.count('does not hold')} × does not hold, the others under conditions that "
        f"their verdicts name; and {brief} claims on models that were trained too briefly to judge "
        f"them by. Computed in {_hours(hours)}, of interrupted cells only the last sitting; "
        "written by `mgt-np reproduce`.",
        "",
        "Where a criterion has two standard errors, a difference that is none passes it by luck: "
        "once in 11 comparisons of three seeds, once in 17 of five.",
    ]
    for result in results:
        lines += ["", *_section(result)]
    return "\n".join(lines) + "\n"


def _section(result):
    rows = result.figure.replace(".png", ".csv")
    hours = "cost not recorded" if result.core_hours is None else _hours(result.core_hours)
    yield f"## {result.name}"
    yield ""
    yield (
        f"{result.question} ({result.preset} settings{BRIEF if result.brief else ''}; {hours}; "
        f"[figure]({result.figure}), [rows]({rows}))"
    )
    yield ""
    yield "| claim | source | criterion | measured | verdict |"
    yield "| --- | --- | --- | --- | --- |"
    for each in result.claims:
        yield f"| {' | '.join(_cell(text) for text in _texts(each))} |"


def _texts(judged):
    """The cells of a claim's line."""
    return judged.claim, judged.source, judged.criterion, judged.measured, judged.verdict


def _hours(hours):
    return f"{hours:.2g} core-hours" if hours >= 0.1 else f"{3600.0 * hours:.3g} core-seconds"


def _cell(text):
    return text.replace("|", "\\|")
