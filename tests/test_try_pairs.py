"""tools/try_pairs.py: each pair is the anagram it is said to be, and what judges say of it is counted as it is written."""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import randn
from test_cascade import BOAT, MAN, cascade, folder  # noqa: F401  (fixtures)

from phosphene.defaults import CONCEPTS
from phosphene.drawing import Sampling, run
from phosphene.errors import UserError
from phosphene.models.cascade import open_cascade
from phosphene.sampler import last
from phosphene.tasks.anagram import anagram
from phosphene.tasks.sketches import SIDE, Concepts, read
from phosphene.tasks.tried import Tried, read_tried
from phosphene.views import view

sys.path.append(str(Path(__file__).parent.parent / "tools"))
import name_pairs
import try_pairs

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


class Judge:
    """Sees the first three numbers of a picture; texts are the axes, so that thing k is what number k is large of."""

    sharpness = 2.0

    def __init__(self) -> None:
        self.saw = []

    def texts(self, prompts):
        return torch.eye(3)[: len(prompts)]

    def pictures(self, pictures):
        self.saw.append(pictures)
        return pictures.flatten(1)[:, :3]


def things(*prompts: str) -> Concepts:
    return Concepts(prompts, randn(len(prompts), 2, 3, SIDE, SIDE, seed=3) / 3, 2.0)


def test_what_a_judge_says_is_a_softmax_over_all_things():
    trial = try_pairs.Trial(None, [Judge(), Judge()], things("a", "b", "c"), 2)
    pictures = torch.tensor([[1.0, 2.0, 4.0], [0.0, 0.0, 1.0]]).view(2, 3, 1, 1)
    said = trial.said(pictures, [["a", "c"], ["b", "b"]])
    wanted = (2 * pictures.flatten(1)).log_softmax(1)
    assert said.shape == (2, 2, 2)
    torch.testing.assert_close(said[1], torch.stack([wanted[[0, 1], [0, 2]], wanted[[0, 1], [1, 1]]]))


def test_the_weaker_reading_counts():
    half, tenth, much = (torch.tensor(share).log().item() for share in (0.5, 0.1, 0.9))
    found = try_pairs.Found(torch.tensor([[[much, tenth], [tenth, half]]] * 2))
    assert found.reads == pytest.approx(0.5) and found.told_apart == pytest.approx(0.5 / 0.6)


@pytest.mark.parametrize("batch", [2, 4])
def test_each_picture_is_the_anagram_of_its_pair_and_seed(cascade, batch):  # noqa: F811
    stage, judge = cascade.stages[0], Judge()
    cascade.encode([None, BOAT, MAN])
    trial = try_pairs.Trial(stage, [judge], things(BOAT, MAN), batch)
    trial.draw([(BOAT, MAN), (MAN, BOAT)], "rotate-90", [5, 6, 7], 2)
    there, turned = torch.cat(judge.saw[::2]), torch.cat(judge.saw[1::2])
    torch.testing.assert_close(turned, view("rotate-90").apply(there))
    for k, pair in enumerate([(BOAT, MAN), (MAN, BOAT)]):
        sampling = Sampling("dpm", 2, guidance=2.0)
        alone = last(run(anagram(pair, ["rotate-90"]), stage, [5, 6, 7], sampling=sampling)).clamp(-1, 1)
        torch.testing.assert_close(there[3 * k : 3 * k + 3], alone, rtol=0, atol=2e-5)
        assert len(trial.found["rotate-90"][pair]) == 3


def test_nobody_is_his_own_partner_and_what_is_not_read_is_in_no_pair():
    known, readable = things(*map(str, range(12))), torch.tensor([True] * 10 + [False] * 2)
    for name, (most, _) in try_pairs.PARTNERS.items():
        pairs = try_pairs.candidates(known, name, readable, readable, most)
        assert pairs and all(a != b and not {a, b} & {"10", "11"} for a, b in pairs)
        assert max(Counter(first for first, _ in pairs).values()) <= most
        if name == "flip":
            assert not set(pairs) & {(b, a) for a, b in pairs}


def test_of_what_is_asked_for_all_partners_are_tried_that_people_know(tmp_path):
    """Also of a thing that is hard to name, which is nobody's partner."""
    table = tmp_path / "readings.tsv"
    lines = [("flip", a, b, "190", reading, "x", right) for a, b in ("ab", "cb") for reading, right in (("1", "1"), ("2", "0"))]
    table.write_text(
        "\n".join("\t".join(line) for line in [("view", "first", "second", "seed", "reading", "named", "right"), *lines])
    )
    shares = try_pairs.known(table, "abcd")
    torch.testing.assert_close(shares, torch.tensor([2.5 / 4, 1.5 / 5, 2.5 / 4, 1.5 / 3]))
    partners, wanted = shares >= try_pairs.KNOWN, torch.tensor([False, True, False, False])
    found = try_pairs.candidates(things(*"abcd"), "rotate-90", wanted, partners, 9)
    assert sorted(found) == [("b", "a"), ("b", "c"), ("b", "d")]


def test_of_each_thing_those_that_read_best_are_drawn_again():
    trial = try_pairs.Trial(None, [Judge()], things("a", "b", "c"), 2)
    found = {share: try_pairs.Found(torch.full((1, 2, 2), share).log()) for share in (0.1, 0.5, 0.9)}
    trial.found["jigsaw"] = {
        ("a", "b"): [found[0.5]],
        ("a", "c"): [found[0.9]],
        ("a", "d"): [found[0.1]],
        ("b", "a"): [found[0.1]],
    }
    assert trial.again("jigsaw", 2, "ab") == [("a", "c"), ("a", "b"), ("b", "a")]  # two of each first thing
    assert trial.again("jigsaw", 1, "b") == [("b", "a")]


def test_the_table_leaves_out_one_thing_under_two_names_what_shows_both_and_what_was_drawn_but_once(tmp_path):
    trial = try_pairs.Trial(None, [Judge()], things("a", "b", "c"), 2)
    clear, blurred = (try_pairs.Found(torch.tensor([[[0.5, low], [low, 0.5]]]).log()) for low in (0.01, 0.4))
    clearer, first = try_pairs.Found(torch.tensor([[[0.75, 0.01], [0.01, 0.75]]]).log()), len(try_pairs.FIRST) * [clear]
    trial.found["flip"] = {("a", "b"): [*first, clear, clearer], ("a", "c"): [*first, blurred], ("b", "c"): [*first, clear]}
    trial.found["jigsaw"] = {("b", "c"): first}
    said = [("flip", "a", "b", 0.75, 2, try_pairs.THEN[1]), ("flip", "b", "c", 0.5, 1, try_pairs.THEN[0])]
    assert [(*row[:3], round(row.reads, 2), *row[4:6]) for row in trial.table()] == said
    trial.texts = [torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])]
    assert [row[:3] for row in trial.table()] == [("flip", "b", "c")]
    rows = [*trial.table(), Tried("rotate-90", "c", "a", 0.25, 10, 191, 2)]
    try_pairs.write(rows, tmp_path / "x.tsv")
    assert read_tried(tmp_path / "x.tsv", "abc") == tuple(row._replace(reads=round(row.reads, 2)) for row in rows)


# People


def rows_of(count: int) -> list[Tried]:
    return [Tried("flip", f"thing {k}", f"thing {k + 1}", 1 - k / 100, 10, 190) for k in range(count)]


def test_the_best_pairs_of_each_thing_are_asked_about_and_none_twice():
    rows = rows_of(6)
    assert name_pairs.chosen(rows, 1) == [rows[0], rows[1], rows[2], rows[3], rows[4], rows[5]]  # each the best of its second
    asked = [rows[0]._replace(named=2), *rows[1:]]
    assert rows[0] not in [pair._replace(named=None) for pair in name_pairs.chosen(asked, 2)]


def test_nobody_sees_both_readings_of_a_pair_and_all_are_seen():
    rows = rows_of(40)
    parts = name_pairs.dealt(rows, 3, random.Random(1))
    assert all(len({pair for pair, _ in part}) == len(part) for part in parts)
    assert sorted(one for part in parts for one in part) == sorted((pair, which) for pair in rows for which in (0, 1))
    assert {which for _, which in parts[0]} == {0, 1}


def test_what_people_named_is_counted_of_both_readings(tmp_path):
    rows, judged = rows_of(3), tmp_path / "judged.tsv"
    shown = [[*row[:3], row.seed] for row in rows]
    key = {"1": [*shown[0], 0], "2": [*shown[1], 1], "3": [*shown[0], 1], "4": [*shown[1], 0]}
    judged.write_text("1 1\ta red boat\n3\t1\tman\n2 0 a cat, upside down\n4 1\n")
    said = name_pairs.said_of(key, judged)
    assert said[0] == [*map(str, shown[0]), "1", "a red boat", "1"] and said[2][4:] == ["2", "a cat, upside down", "0"]
    found = name_pairs.counted(rows, said)
    assert [pair.named for pair in found] == [2, 1, None]
    assert [pair.share for pair in found] == [2 / 3, 1 / 3, None]  # of one who was asked, by Laplace's rule
    more = name_pairs.counted(rows, [*said, [*map(str, shown[0]), "2", "tree", "0"]])
    assert (more[0].named, more[0].share) == (1, 0.5)  # no more than half
    assert name_pairs.counted([rows[0]._replace(seed=7)], said)[0].named is None  # another picture
    judged.write_text("1 1\n3 1\n2 0\n")
    with pytest.raises(UserError, match="each number of the key once"):
        name_pairs.said_of(key, judged)


def test_sheets_show_each_reading_under_its_number(tmp_path, monkeypatch):
    pair = Tried("rotate-90", BOAT, MAN, 0.5, 10, 5)
    tiny = open_cascade("glyph")
    shown = name_pairs.readings(tiny, pair)
    gap = np.abs(np.array(shown[1], int) - np.array(shown[0].rotate(90), int))
    assert gap.max() <= 2  # rounded when resized
    monkeypatch.setattr(name_pairs, "readings", lambda *_: shown)  # each takes seconds
    name_pairs.write_sheets(tiny, [[(pair, 1)], [(pair, 0)]], tmp_path)
    assert json.loads((tmp_path / "key.json").read_text()) == {"1": [*pair[:3], 5, 1], "2": [*pair[:3], 5, 0]}
    assert sorted(path.name for path in tmp_path.glob("*/sheet-1.png")) == ["sheet-1.png"] * 2


def test_what_people_said_is_what_the_page_counts():
    """docs/illusions.md: 2,467 pictures, 35 of them twice, and 1,858 of 4,934 readings right; then 1,144, 1,347 of 2,615;
    1,473 of the ninth run; and 651 of the weights that ship."""
    lines = (Path(__file__).parent.parent / "tools" / "readings.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines[1:]]
    before, then, ninth, now = rows[: 2 * 2467], rows[2 * 2467 : 7549], rows[7549:12567], rows[12567:]
    asked = Counter(tuple(row[:4]) for row in before)
    assert set(asked.values()) == {2, 4} and len(asked) == 2467 - 35
    assert sum(row[6] == "1" for row in before) == 1858
    readings = Counter(tuple(row[:5]) for row in then)
    assert set(readings.values()) == {1, 2, 3} and (len(readings), len(then)) == (2 * 1144, 2615)
    assert sum(row[6] == "1" for row in then) == 1347
    assert len({tuple(row[:4]) for row in ninth}) == 1473 and (len(ninth), sum(row[6] == "1" for row in ninth)) == (5018, 3054)
    assert len({tuple(row[:4]) for row in now}) == 651 and (len(now), sum(row[6] == "1" for row in now)) == (2082, 1414)
    table = read(CONCEPTS).tried
    counted = name_pairs.counted([pair._replace(named=None, share=None) for pair in table], now)
    assert [pair.named for pair in counted] == [pair.named for pair in table]
    assert all(a.share == b.share or abs(a.share - b.share) < 0.006 for a, b in zip(counted, table, strict=True))


def test_with_other_weights_the_pairs_of_a_table_are_drawn_again_and_no_others(cascade):  # noqa: F811
    cascade.encode([None, BOAT, MAN])
    trial = try_pairs.Trial(cascade.stages[0], [Judge()], things(BOAT, MAN), 4)
    rows = [Tried("flip", BOAT, MAN, 0.5, 10, 186, 1), Tried("rotate-90", MAN, BOAT, 0.5, 10, 186)]
    list(try_pairs.draw_again(trial, rows))
    found = {(name, *pair): len(own) for name, tried in trial.found.items() for pair, own in tried.items()}
    assert found == dict.fromkeys([("flip", BOAT, MAN), ("rotate-90", MAN, BOAT)], len(try_pairs.THEN))
    most, tenth = torch.tensor([[0.9, 0.1], [0.1, 0.9]]).log(), torch.tensor([[0.8, 0.1], [0.1, 0.8]]).log()
    trial.found["flip"][BOAT, MAN] = [try_pairs.Found(tenth[None]), try_pairs.Found(most[None])]
    trial.texts = [torch.eye(2)]
    (row, *_) = [row for row in trial.table() if row.view == "flip"]
    assert (round(row.reads, 2), row.seeds, row.seed, row.named) == (0.9, 2, try_pairs.THEN[1], None)


def test_what_one_view_gave_is_kept_though_the_next_never_ends(cascade, tmp_path, monkeypatch):  # noqa: F811
    cascade.encode([None, BOAT, MAN])
    trial = try_pairs.Trial(cascade.stages[0], [Judge()], things(BOAT, MAN), 4)
    for least in ("READABLE", "APART", "LEAST"):
        monkeypatch.setattr(try_pairs, least, 0.0)
    monkeypatch.setattr(try_pairs, "PARTNERS", {"flip": (1, 1), "no such view": (1, 1)})
    monkeypatch.setattr(try_pairs, "STEPS", (2, 2))
    options = argparse.Namespace(readings=None, first=None, partners=None)
    with pytest.raises(UserError, match="no such view"):
        try_pairs.keep(trial, try_pairs.draw_new(trial, options), tmp_path / "tried.tsv")
    assert {row.view for row in read_tried(tmp_path / "tried.tsv", (BOAT, MAN))} == {"flip"}
