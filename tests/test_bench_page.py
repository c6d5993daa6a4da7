"""The page, the picture and the comparison of benchmark runs."""

import copy
import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from fastconv.bench import command, compare, page, roofline
from fastconv.bench.targets import full_name

MACHINE = {"cpu": "a CPU <&>", "isa": "avx2", "cores": 2, "threads": 2, "system": "a system", "python": "3.12",
           "fma_peak": {"float32": 1e11}, "copy_bandwidth": 1e10, "ping_pong": 2e-7}
VOID = {"meta", "input"}
EMPTY = {"line"}  # of SVG, closed where they open
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def interval(median, spread=0.01):
    return {"low": median * (1 - spread), "median": median, "high": median * (1 + spread)}


def row(name, op="forward", seconds=1e-3, peer=3e-3, layer_class="3x3 s1, large", unit="FLOP/s", **more):
    """A row of a run's JSON."""
    times = {"fastconv": interval(seconds), "numpy": interval(1e-2), "torch": interval(peer)}
    return {
        "name": name, "op": op, "dtype": "float32", "order": "channels_first", "class": layer_class, "family": "conv",
        "source": "a paper", "flops": 10**7, "bytes": 10**5, "algorithm": "direct", "seconds": times,
        "seconds_cold": {}, "rounds": 8, "rate": interval(10**7 / seconds), "unit": unit, "share_of_limit": 0.5,
        "times_faster_than": {who: interval(times[who]["median"] / seconds) for who in ("numpy", "torch")},
        "times_faster_than_cold": {}, "loops_seconds_scaled": 5.0, "errors": {"fastconv": 1e-7}, "wrong": {}, **more,
    }


def wrong_row(name):
    nothing = {"rate": None, "share_of_limit": None, "seconds": {}, "times_faster_than": {}, "errors": {}}
    return row(name) | nothing | {"wrong": {"fastconv": "element 3 is 1"}}


def run_of(*rows):
    return {"machine": MACHINE, "date": "2026-01-02T03:04:05+00:00", "cpus_taken_by_others": 0.0, "settings": {},
            "versions": {"fastconv": "1", "numpy": "2", "torch": "3"}, "rows": list(rows), "summary": {}}


@pytest.fixture
def run():
    return run_of(
        row("fine <b>"), row("short", peer=1.6e-3), row("lost", peer=0.5e-3), row("fine", "backward"),
        row("pool", layer_class="", unit="bytes/s"), wrong_row("bad"),
    )


class Outline(HTMLParser):
    """Checks that tags are balanced; keeps the rows of tables, titles of drawings and addresses."""

    def __init__(self, text):
        super().__init__()
        self.open, self.rows, self.titles, self.addresses = [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.addresses += [value for name, value in attributes if name in ("src", "href", "action", "data")]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attributes):
        assert tag in EMPTY

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data
        elif self.open and self.open[-1] == "title" and "svg" in self.open:
            self.titles.append(data)


# ---------------------------------------------------------------------------------------------------------- the page


def test_page_has_every_row_in_table_roofline_and_bars(run):
    text = page.page(run)
    outline = Outline(text)
    table = [cells for cells in outline.rows if len(cells) > 10]
    assert sorted((cells[0], cells[2]) for cells in table[1:]) == sorted((r["name"], r["op"]) for r in run["rows"])
    for each in run["rows"]:
        drawn = [title for title in outline.titles if title.startswith(full_name(each) + ":")]
        assert len(drawn) == (each["rate"] is not None)
    timed = [each for each in run["rows"] if each["rate"]]
    assert text.count('class="bar"') == sum(len(each["seconds"]) for each in timed)
    assert "535" not in text and "100 GFLOP/s" in text and "10.0 GB/s" in text and "torch" in text


def test_page_needs_no_network_and_escapes(run):
    text = page.page(run)
    assert "//" not in re.sub(r"<script>.*</script>", "", text, flags=re.S)
    assert "http" not in text.replace("http-equiv", "")
    assert Outline(text).addresses == []
    assert "default-src 'none'" in text
    assert "<b>" not in text and html.escape("fine <b>") in text and html.escape(MACHINE["cpu"]) in text


def test_worst_rows_come_first(run):
    judged = page.judge(run["rows"])
    assert [(each.row["name"], each.standing) for each in judged[:3]] == [
        ("bad", "wrong"), ("lost", "lost"), ("short", "short"),
    ]
    assert {each.standing for each in judged[3:]} == {"fine"}
    worst = Outline(page.page(run)).rows
    assert worst[1:4] == [
        [full_name(run["rows"][5]), "fastconv: element 3 is 1", "", "", "wrong result"],
        [full_name(run["rows"][2]), "0.5 (0.495-0.505)", "3.2", "torch", "lost to a peer"],
        [full_name(run["rows"][1]), "1.6 (1.58-1.62)", "3.2", "torch", "below its target"],
    ]


def test_roofline_places_rows_by_intensity_and_speed():
    low, high = row("low"), row("high", seconds=1e-4)
    svg = roofline.roofline(MACHINE, [(low, "low", "fine"), (high, "high", "fine")])
    places = [tuple(map(float, found)) for found in re.findall(r'<circle[^>]*cx="([\d.]+)" cy="([\d.]+)"', svg)]
    assert places[0][0] == places[1][0] and places[0][1] > places[1][1]
    assert "10 GFLOP/s at 100 FLOP a byte" in svg.replace("10.0 G", "10 G")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_page_in_a_browser_sorts_and_filters_without_errors(run, tmp_path):
    probe = """<script>
        const rows = () => [...document.querySelectorAll("#rows tbody tr")].filter(r => !r.hidden);
        const names = () => rows().map(r => r.cells[0].textContent);
        const head = [...document.querySelectorAll("#rows thead button")].find(b => b.textContent === "x torch");
        const first = names(); head.click(); const up = names(); head.click(); const down = names();
        const find = document.getElementById("find"); find.value = "sho"; find.dispatchEvent(new Event("input"));
        const found = names(); const counted = document.getElementById("count").textContent;
        const point = document.querySelector(".point"); point.dispatchEvent(new Event("click"));
        const tapped = document.getElementById("mark").textContent === point.querySelector("title").textContent;
        document.body.textContent = JSON.stringify({first, up, down, found, counted, tapped});
    </script>"""
    path = tmp_path / "page.html"
    path.write_text(page.page(run).replace("</body>", probe + "</body>"))
    done = subprocess.run(
        [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom",
         f"--user-data-dir={tmp_path / 'profile'}", path.as_uri()], capture_output=True, text=True, timeout=120,
    )
    assert "CONSOLE" not in done.stderr, done.stderr
    seen = json.loads(re.search(r"<body>(\{.*\})", done.stdout)[1].replace("&lt;", "<").replace("&gt;", ">"))
    assert seen["first"][:3] == ["bad", "lost", "short"]
    assert seen["up"][:2] == ["lost", "short"] and seen["up"][-1] == "bad" == seen["down"][-1]
    assert seen["down"][-3:] == ["short", "lost", "bad"]
    assert seen["found"] == ["short"] and seen["counted"] == "1 of 6 rows"
    assert seen["tapped"]


# ------------------------------------------------------------------------------------------------------ comparison


def slowed(run, factors, rivals=1.0):
    """The run as another one would have measured it."""
    later = copy.deepcopy(run)
    for each in later["rows"]:
        for who, seconds in each["seconds"].items():
            factor = factors.get(each["name"], 1.0) if who == "fastconv" else rivals
            each["seconds"][who] = {key: value * factor for key, value in seconds.items()}
    return later


def test_compare_tells_what_moved_beyond_the_intervals(run):
    found = compare.compare(run, slowed(run, {"lost": 1.5, "short": 0.5, "pool": 1.015}))
    assert [change.row for change in found.slower] == [full_name(run["rows"][2])]
    assert [change.row for change in found.faster] == [full_name(run["rows"][1])]
    assert found.slower[0].factor == pytest.approx(1.5)
    assert "times as long" in found.text() and len(found.changes) == 5


def test_compare_learns_the_noise_between_runs_from_unchanged_rivals(run):
    later = slowed(run, {"lost": 1.5, "pool": 1.15}, rivals=1.3)
    assert [change.row for change in compare.compare(run, later).slower] == [full_name(run["rows"][2])]
    later["versions"] |= {"numpy": "new", "torch": "new"}
    found = compare.compare(run, later)
    assert len(found.slower) == 2 and "not known" in found.noise_text()


def test_compare_counts_rows_of_one_run_alone(run):
    later = copy.deepcopy(run)
    later["rows"].append(row("new"))
    assert compare.compare(run, later).only_new == ("new forward, float32, channels_first",)
    assert compare.compare(later, run).only_old == ("new forward, float32, channels_first",)
    assert "1 rows only in the new run" in page.page(later, compare.compare(run, later))


# ------------------------------------------------------------------------------------------------------ the command


@pytest.fixture
def files(run, tmp_path):
    (tmp_path / "old.json").write_text(json.dumps(run))
    (tmp_path / "slow.json").write_text(json.dumps(slowed(run, {"lost": 1.5})))
    (tmp_path / "text.json").write_text("hello")
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "rows.json").write_text(json.dumps({**run, "rows": [{"name": "a"}]}))
    return tmp_path


def test_command_writes_a_page_from_an_old_run_and_compares(files, capsys):
    words = ["--from", files / "slow.json", "--compare", files / "old.json", "--html", files / "page.html"]
    assert command.main(list(map(str, words))) == 1
    assert "slower: 1" in capsys.readouterr().out
    assert "What moved since the old run" in (files / "page.html").read_text()
    assert command.main(["--from", str(files / "old.json"), "--compare", str(files / "slow.json")]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--from", "gone.json"], "gone.json: No such file"),
        (["--from", "text.json"], "text.json: not JSON"),
        (["--from", "old.json", "--compare", "list.json"], "list.json: not a run of fastconv bench"),
        (["--from", "rows.json"], "rows.json: not a run of fastconv bench"),
        (["--from", "old.json", "--html", "no/page.html"], "no/page.html: No such file"),
    ],
)
def test_command_refuses_in_one_line(files, capsys, monkeypatch, words, message):
    monkeypatch.chdir(files)
    assert command.main(words) == 2
    said = capsys.readouterr().err
    assert message in said and len(said.splitlines()) == 1


def test_command_draws_a_picture(files):
    pytest.importorskip("matplotlib")
    assert command.main(["--from", str(files / "old.json"), "--png", str(files / "run.png")]) == 0
    assert (files / "run.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_command_names_matplotlib_where_it_is_missing(files, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    assert command.main(["--from", str(files / "old.json"), "--png", str(files / "run.png")]) == 2
    assert "--png needs matplotlib: pip install 'fastconv[demo]'" in capsys.readouterr().err
