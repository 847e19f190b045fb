"""`metarl report`: its numbers are those of `metarl evaluate` and `metarl compare`, and bad input is one line."""

from __future__ import annotations

import base64
import json
import math
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import pytest

from metarl.files import write_json
from metarl.intervals import Interval
from metarl.scripts.report_page.blocks import interval

NO_FILMS = ("--no-films", "--workers", "0")


@pytest.fixture(autouse=True)
def without_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skips the search for OpenGL, which these families do not need."""
    monkeypatch.setattr("metarl.scripts.report.use_off_screen_rendering", lambda: None)


class Read(HTMLParser):
    """The content of a page.

    Attributes:
        tables: Rows of each table by its caption, the headings first.
        tags: Names of all elements.
        links: Values of all attributes that a browser would load or follow.
        text: All text outside of styles.
    """

    def __init__(self, page: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.tables: dict[str, list[list[str]]] = {}
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self._caption, self._rows = "", list[list[str]]()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._open.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "poster", "action", "data")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag == "table":
            self._caption, self._rows = "", []
        if tag == "tr":
            self._rows.append([])
        if tag in ("td", "th"):
            self._rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            del self._open[len(self._open) - 1 - self._open[::-1].index(tag) :]
        if tag == "table":
            self.tables[self._caption] = self._rows

    def handle_data(self, data: str) -> None:
        inner = self._open[-1] if self._open else ""
        if inner == "caption":
            self._caption += data
        elif inner in ("td", "th"):
            self._rows[-1][-1] += data
        if "style" not in self._open:
            self.text += data

    def table(self, begin: str) -> dict[str, dict[str, str]]:
        """The table whose caption contains some words: cells by row and heading."""
        (rows,) = [rows for caption, rows in self.tables.items() if begin in caption]
        return {row[0]: dict(zip(rows[0][1:], row[1:], strict=True)) for row in rows[1:]}


def report(run_metarl: Any, *words: object) -> tuple[Read, str]:
    code, out, err = run_metarl("report", *words, "--out", "page.html")
    assert code == 0, err
    assert re.fullmatch(r"report: page.html \(\d+\.\d\d MB\)\n", out)
    return Read(Path("page.html")), err


def json_of(run_metarl: Any, *words: object) -> dict[str, Any]:
    code, out, err = run_metarl(*words, "--json")
    assert code == 0, err
    return json.loads(out.splitlines()[-1])


def cell(point: dict[str, Any], sign: str = "", prefix: str = "", digits: int = 2) -> str:
    """A cell of the page from a point of the JSON."""
    low, high = (point[f"{prefix}{bound}"] for bound in ("ci_low", "ci_high"))
    mean = point[prefix.rstrip("_") or "mean"]
    bounds = (math.nan if bound is None else bound for bound in (low, high))
    return interval(Interval(mean, *bounds), digits, sign)


# Numbers ----------------------------------------------------------------------------------------------------


def test_the_numbers_are_those_of_evaluate_whose_results_are_used_again(run_metarl, trained_run: Path) -> None:
    value = json_of(run_metarl, "evaluate", trained_run)
    saved = (trained_run / "evaluation" / "evaluation.json").read_bytes()
    page, err = report(run_metarl, trained_run, *NO_FILMS)
    assert "evaluating" not in err
    assert not (trained_run / "evaluation-2").exists()
    assert (trained_run / "evaluation" / "evaluation.json").read_bytes() == saved
    row = page.table("mean [95 % interval over 40 held-out tasks]")["maml-trpo"]
    first, last = value["curve"]
    assert (row["first *"], row["after adaptation"]) == (cell(first), cell(last))
    assert row["gain, paired"] == cell(value["differences"][-1], "+")
    assert row["success, last step"] == cell(last, prefix="success_last_")
    assert row["success, any step"] == cell(last, prefix="success_")
    points = page.table("return per episode, mean [95 % interval over tasks]")
    assert [points[str(k)]["return"] for k in (0, 1)] == [cell(first), cell(last)]
    returns = json.loads(saved)["returns"]
    means = sorted(sum(task[-1]) / len(task[-1]) for task in returns)
    lowest = page.table("5 tasks with the lowest return after adaptation")
    assert [row["after adaptation"] for row in lowest.values()] == [f"\u2212{-m:.2f}" for m in means[:5]]
    meaning = page.table("Parameters in which")["goal"]["meaning and range"]
    assert meaning == "goal position, length units; uniform on [-0.5, 0.5) in each of 2 components"


def test_seeds_and_references_have_the_numbers_of_compare(run_metarl, tmp_path: Path, tiny) -> None:
    for agent, more in (("maml-trpo", ("--seeds", "2")), ("multitask", ()), ("oracle", ())):
        assert run_metarl("train", agent, "point-robot", "--out", tmp_path / agent, *more, *tiny)[0] == 0
    words = ("maml-trpo", "multitask", "oracle", "--tasks", "6", "--workers", "0")
    rows = {row["agent"]: row for row in json_of(run_metarl, "compare", *words, "--episodes", "2")["rows"]}
    page, err = report(run_metarl, "maml-trpo", "--reference", "multitask", "oracle", "--tasks", "6", *NO_FILMS)
    assert err.count("evaluating") == 4
    table, seeds = page.table("over 6 held-out tasks"), page.table("by source of error")
    assert list(table) == ["maml-trpo", "multitask", "oracle"]
    for agent, row in rows.items():
        assert table[agent]["seeds"] == str(row["seeds"])
        assert table[agent]["after adaptation"] == cell(row["end"]["tasks"])
    mine = rows["maml-trpo"]
    assert table["maml-trpo"]["gain, paired"] == cell(mine["difference"], "+")
    assert table["maml-trpo"]["share of the gap"] == cell(mine["share_of_gap"]["tasks"])
    assert table["maml-trpo"]["success, last step"] == cell(mine["success_last"])
    assert table["oracle"]["share of the gap"] == "\u2013"
    for over in ("tasks", "seeds", "both"):
        assert seeds["maml-trpo"][f"over {over}"] == cell(mine["end"][over])
    assert seeds["maml-trpo"]["single seeds"].count(",") == 1
    costs = page.table("Cost of each training")
    assert costs["maml-trpo, seed 1"]["environment steps"] == f"{mine['env_steps'][1]:,}"
    assert set(costs) == {"maml-trpo, seed 0", "maml-trpo, seed 1", "multitask, seed 0", "oracle, seed 0"}
    assert costs["oracle, seed 0"]["peak memory"].endswith(("MiB", "GiB"))
    one = ("evaluate", "maml-trpo/seed-0", "--reference", "multitask", "--tasks", "6", "--out", "mine")
    difference = json_of(run_metarl, *one)["differences_to_references"]["multitask"]
    shutil.move("page.html", "seeds.html")
    alone, err = report(run_metarl, "maml-trpo/seed-0", "--reference", "multitask", "--tasks", "6", *NO_FILMS)
    assert "evaluating" not in err
    assert alone.table("minus that of each other")["multitask"]["maml-trpo minus it"] == cell(difference, "+")


def test_an_evaluation_of_something_else_is_not_used(run_metarl, trained_run: Path) -> None:
    older = sorted((trained_run / "checkpoints").iterdir())[0]
    for words in (
        ("--tasks", "3"),
        ("--checkpoint", older),
        ("--seed", "1"),
        ("--adapt-steps", "2"),
        ("--actions", "mode"),
    ):
        assert run_metarl("evaluate", trained_run, *words)[0] == 0
    damaged = trained_run / "evaluation-0" / "evaluation.json"
    damaged.parent.mkdir()
    damaged.write_text('{"agent": "maml-trpo", "command": 5')
    _, err = report(run_metarl, trained_run, *NO_FILMS)
    assert err.count("evaluating") == 1
    assert (trained_run / "evaluation-6" / "evaluation.json").exists()
    Path("page.html").unlink()
    _, err = report(run_metarl, trained_run, *NO_FILMS)
    assert "evaluating" not in err


def test_a_few_shot_run_has_its_own_curves(run_metarl, tmp_path: Path) -> None:
    small = ("--tasks", "4", "--eval-every", "0", "--track", "none", "--iterations", "2")
    assert run_metarl("train", "maml", "sinusoid", *small, "--out", "maml")[0] == 0
    assert run_metarl("train", "pooled", "sinusoid", *small, "--out", "pooled")[0] == 0
    value = json_of(run_metarl, "evaluate", "maml", "--no-oracle", "--tasks", "12")
    page, err = report(run_metarl, "maml", "pooled", "--tasks", "12")
    assert err.count("evaluating") == 1
    row = page.table("mean squared error, mean [95 % interval over 12 held-out tasks]")["maml"]
    points = {point["shots"]: point for point in value["learners"][0]["over_shots"]}
    assert (row["without shots"], row["10 shots"]) == (cell(points[0], digits=3), cell(points[10], digits=3))
    assert row["change, paired"] == cell(value["differences"]["before adaptation"], "+", digits=3)
    assert "5 tasks with the highest mean squared error" in page.text
    assert "pooled, not adapting" in page.text


def test_planners_and_agents_with_a_memory(run_metarl, suited, tiny) -> None:
    kind = suited("grbal")
    words = ("--tasks", "2", "--episodes", "1", "--horizon", "12", "--iterations", "2", "--eval-every", "0")
    assert run_metarl("train", "grbal", kind.family, *words, *kind.words, "--out", "grbal")[0] == 0
    page, _ = report(run_metarl, "grbal", *NO_FILMS)
    table = page.table("by the value of actuator_gear")
    assert sum(int(row["tasks"]) for row in table.values()) == len(table) == 2, "both held-out tasks, one per value"
    assert page.table("held-out tasks]")["grbal"]["gain, paired"] == "\u2013", "a single point"
    Path("page.html").unlink()
    assert run_metarl("train", "rl2", "point-robot", *tiny, "--out", "rl2")[0] == 0
    page, _ = report(run_metarl, "rl2", *NO_FILMS)
    assert "Return, last episode" in page.text
    assert "the 5 tasks with the lowest return in the last episode" in page.text


# Content of files -------------------------------------------------------------------------------------------


def test_films_are_in_the_page(run_metarl, trained_run: Path) -> None:
    page, _ = report(run_metarl, trained_run, "--tasks", "3", "--film-task", "2")
    films = [link.partition(",")[2] for link in page.links if link.startswith("data:video/mp4;base64,")]
    assert len(films) == 2
    for film in films:
        assert iio.imread(base64.b64decode(film), extension=".mp4", plugin="pyav").shape == (13, 240, 320, 3)
    assert page.text.count("Held-out task 2 (goal = (") == 2


def test_a_family_without_pictures_gets_a_page_without_films(run_metarl, tiny) -> None:
    assert run_metarl("train", "rl2", "bandit", *tiny, "--out", "run")[0] == 0
    page, err = report(run_metarl, "run", "--tasks", "3")
    assert "warning: no films: " in err
    assert "There are no films: " in page.text
    assert "video" not in page.tags


def test_text_of_files_stays_text(run_metarl, trained_run: Path, tmp_path: Path) -> None:
    evil = "</style><script>alert(1)</script><img src=x onerror=alert(2)>\"'"
    folder = tmp_path / "<b>run"
    shutil.move(trained_run, folder)
    assert run_metarl("evaluate", folder)[0] == 0
    path = folder / "evaluation" / "evaluation.json"
    value = json.loads(path.read_text())
    value["notes"], value["versions"]["machine"]["processor"] = [evil], evil
    value["versions"]["packages"][evil] = evil
    write_json(path, value)
    versions = json.loads((folder / "versions.json").read_text())
    versions["starts"][-1] |= {"commit": evil, "peak_memory": {"host": evil, "gpu": None}}
    write_json(folder / "versions.json", versions)
    log = folder / "metrics.jsonl"
    row = json.loads(log.read_text().splitlines()[-1])
    row |= {f"return/{evil}": 1.0, "time/update_s": evil, "evaluation/return/1": evil}
    log.write_text(log.read_text() + json.dumps(row) + '\n{"cut sh')
    page, _ = report(run_metarl, folder, *NO_FILMS, "--title", evil)
    assert not {"script", "img", "b", "iframe", "object"} & set(page.tags)
    assert page.text.count(evil) >= 4, "title, heading, note, versions"
    assert "<b>run" in page.text
    assert all(link.startswith(("#", "data:")) for link in page.links)
    text = Path("page.html").read_text(encoding="utf-8")
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', text)
    assert policy is not None
    assert "default-src &#39;none&#39;" in policy[1]
    assert "script-src" not in policy[1]
    assert "http:" not in policy[1]
    assert not re.search(r"(?i)@import|url\(", text)


# Bad input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "got no run, expected at least one folder"),
        (("nowhere",), "no config.json"),
        (("run", "--out", "taken.html"), "exists already"),
        (("run", "--out", "page.pdf"), "--out: got page.pdf, expected a name that ends in .html"),
        (("run", "--out", "page.htm"), "--out: got page.htm, expected a name that ends in .html"),
        (("run", "--out", "missing/page.html"), "create it first"),
        (("run", "--film-task", "5", "--tasks", "3"), "--film-task: got 5, expected 0 to 2"),
        (("run", "--reference", "run"), "one of the runs too"),
        (("run", "copy"), "expected different seeds"),
        (("run", "bandit"), "expected the same family and horizon for all"),
        (("run", "shots"), "a few-shot run; expected one kind"),
        (("run", "--title"), "--title"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    run_metarl, trained_run: Path, tmp_path: Path, words: tuple[str, ...], expected: str
) -> None:
    (tmp_path / "taken.html").write_text("mine")
    shutil.copytree(trained_run, tmp_path / "copy")
    for name, change in (("bandit", {"family": "bandit"}), ("shots", {"experience": "shots"})):
        shutil.copytree(trained_run, tmp_path / name)
        config = json.loads((trained_run / "config.json").read_text())
        (tmp_path / name / "config.json").write_text(json.dumps({**config, **change}))
    before = sorted(tmp_path.rglob("*"))
    code, _, err = run_metarl("report", *words, *(() if "--out" in words else ("--out", "page.html")))
    assert code == 2
    assert expected in err
    assert len(err.strip().splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "taken.html").read_text() == "mine"
