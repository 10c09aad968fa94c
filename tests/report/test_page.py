"""The page as a file: it needs nothing else, it is small, and no text of the data does anything."""

import json
import re
import sys
from html.parser import HTMLParser

import pytest

from acn_hf import ConfidenceExit, EarlyExitReport
from acn_hf.report import ReportRecord, render_report, write_report
from tests.support.reported import CHOICES, CLASSES, LABELS, LANGUAGE, NUMBERS, QUESTIONS, TAGS, result, rows

EVIL = "</script><script>document.title='hacked'</script><img src=x onerror=alert(1)>{{ 7*7 }}<!--"
LARGEST = 6_000_000


class Tags(HTMLParser):
    """All tags of a page with what they have, and the text in scripts that are data."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.data, self._in_data = [], "", False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._in_data = dict(attrs).get("type") == "application/json"

    def handle_endtag(self, tag):
        self._in_data = False

    def handle_data(self, data):
        self.data += data if self._in_data else ""


def page_of(task=CLASSES, **options):
    given = {name: options.pop(name) for name in ("name", "exits", "command", "examples") if name in options}
    made = result(task, **options)
    return render_report(ReportRecord.of(made, rows=rows(made.measurements.answers().num_examples), **given))


@pytest.mark.parametrize(
    "task", [CLASSES, LABELS, NUMBERS, TAGS, CHOICES, QUESTIONS, LANGUAGE], ids=lambda task: "-".join(task)
)
def test_a_page_of_every_task(task):
    page = page_of(task)
    assert len(page.encode()) <= LARGEST
    fetched = [(tag, name, value) for tag, has in Tags(page).tags for name, value in has.items() if name in URLS]
    assert [value for _, _, value in fetched if not value.startswith(("#", "data:"))] == []


URLS = ("src", "href", "action", "srcset", "data", "poster")


def test_100_000_rows_make_no_larger_page_than_1_000():
    small, large = (len(page_of(number=number, names=("no", "yes"), depths=2).encode()) for number in (1000, 100_000))
    assert large - small < 3_000  # numbers have more digits


@pytest.mark.slow
def test_many_depths_classes_and_examples_stay_below_the_limit():
    page = page_of(number=3000, depths=100, names=tuple(f"class {number} " + "x" * 200 for number in range(300)))
    assert len(page.encode()) <= LARGEST


def evil_record():
    made = result(names=(EVIL, "no", "yes"))
    texts = [{"text": f"{row} {EVIL}"} for row in range(60)]
    return ReportRecord.of(made, rows=texts, name=EVIL, command=f"acn-hf compress '{EVIL}'")


def test_what_a_text_a_label_and_a_name_hold_does_nothing():
    page = render_report(evil_record())
    parsed = Tags(page)
    scripts = [has for tag, has in parsed.tags if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "data"}, {}, {}]
    assert [tag for tag, _ in parsed.tags if tag == "img"] == []
    assert (
        "49" not in re.sub(r"<script>.*?</script>", "", page, flags=re.S).split("How it was made")[1].split("date")[0]
    )
    data = json.loads(parsed.data)
    assert any(EVIL in example["text"] for example in data["examples"]["examples"])
    assert any(EVIL[:40] in row["name"] for row in data["classes"]["2"])


def test_no_script_but_its_own_is_allowed():
    page = render_report(evil_record())
    policy = next(has["content"] for tag, has in Tags(page).tags if has.get("http-equiv"))
    assert "default-src 'none'" in policy
    assert policy.count("'sha256-") == 2
    assert "unsafe-eval" not in policy
    assert re.search(r"script-src[^;]*unsafe-inline", policy) is None


def test_it_says_what_was_chosen_by_what_and_how():
    page = page_of(command="acn-hf compress model data.csv short --report", name="Reviews & more")
    assert "<h1>Reviews &amp; more</h1>" in page
    assert "acn-hf compress model data.csv short --report" in page
    assert "loses no more than 0.2 against full depth" in page
    assert "at most 10" in page
    assert "2026-11-29" in page
    assert "No policy of early exit was measured." in page


def test_limits_and_exits_are_named():
    report = EarlyExitReport(ConfidenceExit(0.9), 0.9, (10, 30, 20), full_depth_accuracy=0.91)
    page = page_of(limits={"max_latency_ms": 3.5, "max_mb": 1.0}, exits=report)
    assert "the best depth within 3.5 ms of latency and 1 MB" in page
    assert "leave after 1.17 layers on average, with accuracy 0.9000 against 0.9100 at full depth" in page
    assert "<td>50.0%</td>" in page


def test_what_there_is_not_is_said():
    page = page_of(LANGUAGE, with_costs=False)
    assert "There is nothing to say of single classes: perplexity is made of losses, so single answers are not" in page
    assert "None are shown: perplexity is made of losses, so single answers are not kept" in page
    assert "Points are missing: latency and megabytes were measured of the whole and of the short model alone" in page
    assert "none was asked for" in page_of(examples=0)


def test_a_record_that_was_saved_makes_the_same_page(tmp_path):
    record = ReportRecord.of(result(), rows=rows())
    record.save(tmp_path / "report.json")
    write_report(tmp_path / "report.html", ReportRecord.load(tmp_path / "report.json"))
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == render_report(record)


def test_the_method_of_a_result_writes_a_page(tmp_path):
    record = result().report(tmp_path / "deep" / "page.html", rows=rows(), name="A title", examples=3)
    assert record.examples.in_a_list == 3
    assert "<h1>A title</h1>" in (tmp_path / "deep" / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("missing", ["altair", "vl_convert"])
def test_without_the_extra_one_line_says_what_to_install(monkeypatch, tmp_path, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=r"needs altair and vl-convert: pip install 'acn-hf\[report\]'"):
        result().report(tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []
