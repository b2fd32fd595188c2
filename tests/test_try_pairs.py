"""tools/try_pairs.py: each pair is the anagram it is said to be, and what judges say of it is counted as it is written."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from conftest import randn
from test_cascade import BOAT, MAN, cascade, folder  # noqa: F401  (fixtures)

from phosphene.drawing import Sampling, run
from phosphene.sampler import last
from phosphene.tasks.anagram import anagram
from phosphene.tasks.sketches import SIDE, Concepts
from phosphene.tasks.tried import read_tried
from phosphene.views import view

sys.path.append(str(Path(__file__).parent.parent / "tools"))
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


def test_nobody_is_his_own_partner_and_what_is_not_read_is_nobodys():
    known, readable = things(*map(str, range(12))), torch.tensor([True] * 10 + [False] * 2)
    for name in ("flip", "rotate-90", "jigsaw"):
        pairs = try_pairs.candidates(known, name, readable)
        assert pairs and all(a != b and b not in ("10", "11") for a, b in pairs)
        if name == "flip":
            assert not set(pairs) & {(b, a) for a, b in pairs}
        if name == "jigsaw":
            assert max(Counter(thing for pair in pairs for thing in pair).values()) <= try_pairs.THINGS
        else:
            assert any(a in ("10", "11") for a, _ in pairs)  # it may be asked for all the same


def test_the_table_leaves_out_one_thing_under_two_names_and_what_shows_both(tmp_path):
    trial = try_pairs.Trial(None, [Judge()], things("a", "b", "c"), 2)
    clear, blurred = (try_pairs.Found(torch.tensor([[[0.5, low], [low, 0.5]]]).log()) for low in (0.01, 0.4))
    trial.found["flip"] = {("a", "b"): [clear, clear], ("a", "c"): [blurred, blurred], ("b", "c"): [clear]}
    assert [row[:3] for row in trial.table(2)] == [("flip", "a", "b"), ("flip", "b", "c")]
    trial.texts = [torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])]
    assert [row[:3] for row in trial.table(2)] == [("flip", "b", "c")]
    try_pairs.write(trial.table(2), tmp_path / "x.tsv")
    assert read_tried(tmp_path / "x.tsv", "abc") == tuple(trial.table(2))
