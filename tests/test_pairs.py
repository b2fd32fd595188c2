"""Laws of the matchmaker: what fits what, through which view, and how sketches are kept."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import randn, refusal
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from test_cascade import BOAT, MAN, cascade, folder  # noqa: F401  (fixtures)
from test_cli import call, here, refused, tree  # noqa: F401  (fixtures)

from phosphene.cli.pairs import _turned as turned
from phosphene.defaults import CONCEPTS, HYBRIDS
from phosphene.errors import UserError
from phosphene.expression import bands, cond, factorized
from phosphene.models.cascade import open_cascade
from phosphene.models.protocol import Estimate
from phosphene.readers import PROVENANCE, read_provenance
from phosphene.schedule import linear
from phosphene.tasks import pairs, sketches
from phosphene.tasks import tried as tries
from phosphene.tasks.hybrid import part_of
from phosphene.tasks.pairs import Pair, best, compared, fits, parted, partners, promised, through, together, unit
from phosphene.tasks.sketches import SIDE, Concepts, large, seen, small
from phosphene.tasks.tried import Tried, experience
from phosphene.views import VIEWS, view

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
MOVING = [name for name in VIEWS if name != "identity"]
SELF_INVERSE = ["flip", "mirror", "rotate-180", "negate", "inner-circle"]
WHOLE = ["flip", "mirror", "rotate-90", "rotate-180", "rotate-270", "negate"]  # of these a sketch loses nothing
seeds = st.integers(0, 99)
EVERY_PIXEL = torch.arange(3.0 * 64 * 64).view(1, 3, 64, 64)


def known(count: int = 12, each: int = 2, seed: int = 0, spread: float = 0.3) -> Concepts:
    """Things that nobody drew, each with sketches of its own that are somewhat alike."""
    own = randn(count, 1, 3, SIDE, SIDE, seed=seed) + spread * randn(count, each, 3, SIDE, SIDE, seed=seed + 1)
    return Concepts(tuple(f"thing {k}" for k in range(count)), (own / 3).clamp(-1, 1), 4.0)


def with_copy(name: str, seed: int = 0) -> Concepts:
    """As ``known``, and last what thing 0 is through the view, under another name."""
    things = known(seed=seed)
    shown = seen(things.sketches[:1], view(name).apply)
    return things.joined(Concepts(("a copy",), shown, 4.0))


# What fits


@given(seeds, st.sampled_from(SELF_INVERSE))
def test_what_fits_is_the_same_from_either_side_of_a_view_that_undoes_itself(seed, name):
    things = known(seed=seed)
    fit, alike = compared(things, things, through(VIEWS[name]))
    torch.testing.assert_close(fit, fit.T, rtol=0, atol=1e-5)
    torch.testing.assert_close(alike, alike.T, rtol=0, atol=1e-5)


@given(seeds, st.sampled_from([*VIEWS]))
def test_turned_back_the_partners_change_places(seed, name):
    """Through the inverse view the second prompt fits the first as well."""
    things, one = known(seed=seed), VIEWS[name]
    back = SimpleNamespace(apply=one.invert, invert=one.apply)
    forth, undone = (compared(things, things, through(each))[0] for each in (one, back))
    torch.testing.assert_close(forth, undone.T, rtol=0, atol=1e-5)
    assert forth.abs().max() <= 1 + 1e-5


@given(seeds)
def test_as_it_is_everything_fits_itself_best(seed):
    things = known(seed=seed)
    fit, alike = compared(things, things, through(VIEWS["identity"]))
    assert fit.argmax(1).tolist() == list(range(len(things.prompts)))
    torch.testing.assert_close(fit.diagonal(), torch.ones(len(fit)))
    torch.testing.assert_close(fit, alike, rtol=0, atol=1e-5)


@given(seeds, st.sampled_from(WHOLE))
def test_a_copy_is_found_through_its_view_and_not_without(seed, name):
    things = with_copy(name, seed)
    first = things.of("thing 0")
    (pair, *others) = partners(first, things, through(view(name)), 5)
    assert (pair.first, pair.second) == ("thing 0", "a copy") and pair.fit == pytest.approx(1, abs=1e-4)
    assert all(other.fit < pair.fit for other in others)
    plain = partners(first, things, through(VIEWS["identity"]), 12)
    assert next(p for p in plain if p.second == "a copy").fit < 0.5


def test_the_best_of_all_has_the_copy_and_nobody_twice():
    things = with_copy("rotate-90")
    found = best(things, through(VIEWS["rotate-90"]), 20)
    assert found[0][:2] == ("thing 0", "a copy") and len(found) == 6
    names = [name for pair in found for name in pair[:2]]
    assert len(set(names)) == len(names)
    assert [p.promise for p in found] == sorted((p.promise for p in found), reverse=True)


def test_what_is_alike_as_it_is_counts_against_a_pair():
    """A picture that is the same upside down is no illusion."""
    things = known()
    round_ = things.sketches[:1] + things.sketches[:1].flip(-2)
    turned = things.sketches[1:2].flip(-2)
    things = things.joined(Concepts(("a ball", "an orange", "a turned thing"), torch.cat([round_, round_, turned]), 4.0))
    assert best(things, through(VIEWS["flip"]), 1)[0][:2] == ("thing 1", "a turned thing")
    pair = next(p for p in partners(things.of("a ball"), things, through(VIEWS["flip"]), 20) if p.second == "an orange")
    assert pair.alike == pytest.approx(1, abs=1e-4) and pair.promise == pytest.approx(pair.fit - pair.alike / 2)


@given(seeds, st.integers(1, 3), st.integers(1, 3))
def test_the_most_like_of_several_sketches_counts(seed, k, m):
    a, b = unit(randn(4, k, 3, SIDE, SIDE, seed=seed)), unit(randn(5, m, 3, SIDE, SIDE, seed=seed + 1))
    each = torch.stack([fits(a[:, i : i + 1], b[:, j : j + 1]) for i in range(k) for j in range(m)])
    torch.testing.assert_close(fits(a, b), each.amax(0), rtol=0, atol=1e-5)
    torch.testing.assert_close(fits(unit(3 * a + 0.5), b), fits(a, b), rtol=0, atol=1e-5)


@given(seeds)
def test_of_a_hybrid_what_the_first_rules_has_to_fit_and_nothing_else(seed):
    """Grey of one and the same, whatever the colours; of these it is asked that they differ."""
    things = known(seed=seed)
    colours = randn(1, 2, 3, SIDE, SIDE, seed=seed + 7)
    other = part_of("color")(things.sketches[0]) + 0.2 * (colours - part_of("color")(colours[0]))
    things = things.joined(Concepts(("repainted",), other, 4.0))
    found = partners(things.of("thing 0"), things, parted("color"), 1)[0]
    assert found.second == "repainted" and found.fit == pytest.approx(1, abs=2e-2) and found.alike < 0.5
    assert compared(things, things, parted("color"))[1].diagonal().min() > 0.99


@pytest.mark.parametrize("kind", HYBRIDS)
def test_the_compromise_of_a_hybrid_is_what_its_expression_makes(kind):
    a, b = randn(2, 1, 3, 16, 16)
    part = part_of(kind)
    torch.testing.assert_close(parted(kind).compromise(a, b), part(a) + (b - part(b)), rtol=0, atol=1e-5)
    assert type(factorized(cond("a"), cond("b"), part)) and type(bands(cond("a"), cond("b"), sigmas=(2.0,)))


@given(seeds, st.sampled_from(MOVING))
def test_the_compromise_of_an_anagram_is_the_mean_of_what_is_seen(seed, name):
    one = VIEWS[name]
    a = randn(1, 3, 16, 16, seed=seed)
    sharing = through(one)
    torch.testing.assert_close(sharing.compromise(a, one.apply(a)), a, rtol=0, atol=1e-6)
    assert sharing.looks[1](a).equal(one.apply(a)) and sharing.looks[0](a).equal(a)


@given(seeds)
def test_enlarged_and_shrunk_a_sketch_is_the_same(seed):
    sketches = randn(2, 3, 3, SIDE, SIDE, seed=seed)
    for size in ((64, 64), (32, 48), (16, 16)):
        torch.testing.assert_close(small(large(sketches, size)), sketches, rtol=0, atol=1e-6)
    flipped = seen(sketches, VIEWS["flip"].apply)
    torch.testing.assert_close(flipped, sketches.flip(-2), rtol=0, atol=1e-6)


# How sketches are kept


@given(st.integers(2, 40), st.integers(1, 3), seeds)
def test_a_sheet_is_read_as_it_was_written(tmp_path_factory, count, each, seed):
    path = tmp_path_factory.mktemp("sheet") / "x.png"
    things = known(count, each, seed)._replace(hard=frozenset({"thing 1"}))
    sketches.write(things, path, command="concept_sheet", model="tiny")
    again = sketches.read(path)
    assert (
        again.hard == {"thing 1"}
        and again.tried == ()
        and again.prompts == things.prompts
        and again.guidance == things.guidance
        and again.each == each
    )
    torch.testing.assert_close(again.sketches, things.sketches, rtol=0, atol=1 / 255 + 1e-6)
    assert read_provenance(path)["model"] == "tiny"


def test_sheets_that_are_none(tmp_path):
    path = tmp_path / "x.png"
    refusal(lambda: sketches.read(path), "x.png")
    good = {"prompts": ["a", "b"], "each": 1, "guidance": 4.0}
    wrong = [{}, {"prompts": "ab"}, {"prompts": ["a"]}, {"prompts": ["a", 3]}, {"prompts": ["a", " "]}, {"each": 0}]
    wrong += [
        {"each": True},
        {"each": 10**9},
        {"each": 5000},
        {"each": "1"},
        {"guidance": "4"},
        {"guidance": 1e300},
        {"guidance": None},
    ]
    wrong += [{"prompts": ["a", "a"]}, {"hard": ["c"]}, {"hard": "a"}, {"hard": [1]}]
    for change in wrong:
        info = PngImagePlugin.PngInfo()
        info.add_itxt(PROVENANCE, json.dumps({**good, **change} if change else {}))
        Image.new("RGB", (16 * SIDE, SIDE)).save(path, pnginfo=info)
        refusal(lambda: sketches.read(path), "--concepts", "x.png", "tools/concept_sheet.py")
    info = PngImagePlugin.PngInfo()
    info.add_itxt(PROVENANCE, json.dumps(good))
    Image.new("RGB", (16 * SIDE, SIDE + 1)).save(path, pnginfo=info)
    refusal(lambda: sketches.read(path), "256x17", "256x16")
    Image.new("RGB", (16 * SIDE, SIDE)).save(path, pnginfo=info)
    assert sketches.read(path).prompts == ("a", "b")


def test_a_sketch_is_where_a_run_of_two_timesteps_ends(cascade):  # noqa: F811
    """Of each prompt and seed alone; so what is drawn on the spot is what the sheet has."""
    stage = cascade.stages[0]
    whole = sketches.drawn(stage, [BOAT, MAN, f"  {BOAT.upper()} "], 2, 3.0)
    assert whole.sketches.shape == (3, 2, 3, SIDE, SIDE)
    assert whole.sketches[0].equal(whole.sketches[2]) and not whole.sketches[0, 0].equal(whole.sketches[0, 1])
    # A kernel rounds by the number of rows; the clean estimate near pure noise makes 1e-6 in the noise a hundred times
    # and more of it (sigma / signal, and again by guidance). Half a grey level is what nobody sees; other seeds are far off.
    alone = sketches.drawn(stage, [MAN], 2, 3.0).sketches[0]
    torch.testing.assert_close(alone, whole.sketches[1], rtol=0, atol=1 / 255)
    assert not torch.allclose(alone, whole.sketches[0], rtol=0, atol=20 / 255)
    assert whole.of(BOAT).prompts == (BOAT,) and whole.of("a teapot") is None


# What the denoiser says


class Seeing:
    """A stage that sees what is bright above from what is bright below."""

    image_shape, device, schedule = (3, 64, 64), torch.device("cpu"), linear(1000)

    def embed(self, prompt):
        return torch.tensor([{"above": 1.0, "below": -1.0}.get(prompt, 0.0)])

    def __call__(self, x, t, embedding):
        """The noise, were the picture what the prompt says (and grey, for other prompts)."""
        half = torch.ones(1, 1, 64, 1)
        half[:, :, 32:] = -1
        signal, sigma = self.schedule.signal_and_noise(t, x)
        return Estimate((x - signal * embedding.view(-1, 1, 1, 1) * half) / sigma)


def test_the_denoiser_prefers_what_it_can_read_both_ways():
    bright = torch.ones(1, 1, 3, SIDE, SIDE)
    bright[..., SIDE // 2 :, :] = -1
    grey = torch.zeros(1, 1, 3, SIDE, SIDE)
    things = Concepts(("above", "below", "nothing"), torch.cat([bright, -bright, grey]), 4.0)
    sharing = through(VIEWS["flip"])
    found = pairs.reranked(Seeing(), [Pair("above", "nothing", 0.9, 0.0), Pair("above", "below", 0.1, 0.0)], things, sharing)
    assert [pair.second for pair in found] == ["below", "nothing"]
    assert found[0].worst > 0.9 > found[1].worst and found[0].fit == 0.1 and found[0].alignment > 0
    straight = pairs.reranked(Seeing(), [Pair("above", "below", 0.1, 0.0)], things, through(VIEWS["identity"]))
    assert straight[0].worst < 0.5  # the view matters


# What was tried

COLUMNS = Tried._fields


def tried(*rows) -> tuple[Tried, ...]:
    return tuple(Tried(*row) for row in rows)


@given(st.sampled_from(MOVING))
def test_what_was_tried_in_a_view_was_tried_in_its_inverse_the_other_way_round(name):
    pair = Tried(name, "a", "b", 0.4, 10, 191, 2)
    turned = Tried(name, "b", "a", 0.4, 10, None, 2)  # of another picture, whose seed nobody knows
    there = experience([pair], VIEWS[name])
    assert there == {("a", "b"): pair, ("b", "a"): turned} if name in SELF_INVERSE else {("a", "b"): pair}
    back = [other for other in MOVING if torch.equal(*(look(EVERY_PIXEL) for look in (VIEWS[name].invert, VIEWS[other].apply)))]
    for other in back:
        assert experience([pair], VIEWS[other])["b", "a"] == turned
    assert name not in ("rotate-90", "rotate-270") or len(back) == 1
    assert experience([pair], None) == {}
    assert experience([pair, pair._replace(reads=0.9, named=1)], VIEWS[name])["a", "b"] == pair


def test_what_read_goes_first_what_did_not_last_and_a_promise_between():
    things = with_copy("flip")
    reads = [
        ("flip", "thing 0", "thing 3", 0.9, 16),
        ("flip", "thing 5", "thing 0", 0.3, 16),
        ("flip", "thing 0", "a copy", 0.0, 6),
    ]
    known_of = things._replace(tried=tried(*reads, ("rotate-90", "thing 0", "thing 7", 1.0, 16)))
    found = partners(things.of("thing 0"), known_of, through(view("flip")), 20)
    assert [pair.second for pair in found[:1]] == ["thing 3"] and found[0].reads == 0.9
    assert found[-1].second == "a copy" and found[-1].reads == 0.0 and len(found) == 12
    middle = found[1:-1]  # 0.3 is below the mean of what was tried, 0.4
    assert middle[-1].second == "thing 5" and all(pair.reads is None for pair in middle[:-1])
    assert [pair.promise for pair in middle[:-1]] == sorted((pair.promise for pair in middle[:-1]), reverse=True)
    whole = best(known_of, through(view("flip")), 4)
    assert whole[0][:2] in (("thing 0", "thing 3"), ("thing 3", "thing 0")) and whole[0].reads == 0.9
    assert all(pair.reads is None for pair in best(things, through(view("flip")), 4))


def test_the_best_that_were_tried_of_all_views_none_twice():
    rows = [("flip", "a", "b", 0.2, 16), ("skew", "b", "a", 0.7, 16), ("flip", "c", "a", 0.5, 16), ("flip", "c", "d", 0.04, 6)]
    assert [pair[:3] for pair in tries.best_tried(tried(*rows), None, 9)] == [("skew", "b", "a"), ("flip", "c", "a")]
    assert [pair[:3] for pair in tries.best_tried(tried(*rows), "c", 9)] == [("flip", "c", "a")]
    assert tries.best_tried(tried(*rows), "d", 9) == []
    people = tried(("flip", "c", "d", 0.04, 6, 190, 2))
    assert tries.best_tried(people, "d", 9) == list(people)  # whatever judges say
    assert tries.best_tried(tried(*rows), None, 9, {"c"}) == list(tried(rows[1]))
    assert tries.best_tried(tried(*rows), "c", 9, {"c"}) == list(tried(rows[2]))


def test_what_people_read_goes_before_what_judges_do_and_what_people_did_not_last():
    rows = [("flip", "a", "b", 0.9, 10, 190, 1), ("skew", "a", "c", 0.2, 10, 191, 2), ("flip", "a", "d", 0.5, 10, 192, None)]
    assert [pair.second for pair in tries.best_tried(tried(*rows), "a", 9)] == ["c", "d", "b"]
    many = tried(("flip", "a", "b", 0.1, 10, 190, 2, 0.9), ("flip", "a", "c", 0.8, 10, 190, 2, 0.6), ("flip", "a", "d", 1.0, 10))
    assert [pair.second for pair in tries.best_tried(many, "a", 9)] == ["b", "c", "d"]  # what most read, whatever judges say
    things = with_copy("flip")
    rows = [("flip", "thing 0", f"thing {k}", 0.5, 10, 190, named) for k, named in ((3, 0), (4, None), (5, 2))]
    known_of = things._replace(tried=tried(*rows, ("flip", "thing 1", "thing 2", 0.1, 10, 190)))
    found = partners(things.of("thing 0"), known_of, through(view("flip")), 20)
    assert [pair.second for pair in (*found[:2], found[-1])] == ["thing 5", "thing 4", "thing 3"]
    assert (found[0].seed, found[0].named) == (190, 2) and found[-2].named is found[-2].reads is None
    assert best(known_of, through(view("flip")), 1)[0].second == "thing 5"


def test_what_is_hard_to_name_is_nobodys_partner():
    things = with_copy("flip")
    hard = things._replace(hard=frozenset({"a copy", "thing 4"}), tried=tried(("flip", "thing 0", "thing 4", 0.9, 16)))
    found = partners(things.of("thing 0"), hard, through(view("flip")), 20)
    assert len(found) == 10 and not {pair.second for pair in found} & hard.hard
    assert (
        partners(things.of("a copy"), hard, through(view("flip")), 1)[0].second == "thing 0"
    )  # it may be asked for all the same
    whole = best(hard, through(view("flip")), 20)
    assert len(whole) == 5 and not {name for pair in whole for name in pair[:2]} & hard.hard


@pytest.mark.parametrize(
    "lines",
    [
        [""],
        ["\t".join(COLUMNS), "flip\tthing 0\tthing 1\t0.5\t10\t190\t"],
        ["\t".join(COLUMNS), "flip\tthing 0\tthing 1\tnan\t10\t190\t\t"],
        ["\t".join(COLUMNS), "flip\tthing 0\tthing 1\t0.5\t10\t-1\t\t"],
        ["\t".join(COLUMNS), "flip\tthing 0\tthing 1\t0.5\t10\t190\t3\t"],
        ["\t".join(COLUMNS), "flip\tthing 0\tthing 1\t0.5\t10\t190\t2\t1.5"],
        ["\t".join(COLUMNS), "sideways\tthing 0\tthing 1\t0.5\t10\t190\t\t"],
        ["\t".join(COLUMNS), "flip\tthing 0\tnobody\t0.5\t10\t190\t\t"],
        ["flip\tthing 0\tthing 1\t0.5\t10\t190\t\t"],
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path, lines):
    sketches.write(known(), tmp_path / "x.png", command="concept_sheet")
    (tmp_path / "x.tsv").write_text("\n".join(lines) + "\n")
    refusal(lambda: sketches.read(tmp_path / "x.png"), "x.tsv: line", "tools/try_pairs.py")


def test_the_table_that_ships_is_of_the_sheet_and_says_what_reads(call, here):  # noqa: F811
    known = sketches.read(CONCEPTS)
    assert {pair.view for pair in known.tried} >= {"flip", "rotate-90", "rotate-180", "jigsaw"}
    code, out, err = call("pairs", "Police  Car", "--json", "x.json")
    assert (code, err) == (0, "") and "--view" in out.splitlines()[-2] and "--seed" in out.splitlines()[-2]
    told = json.loads(Path("x.json").read_text())["pairs"]
    assert all("a police car" in (pair["first"], pair["second"]) for pair in told)
    order = [Tried(**pair).worth for pair in told]
    assert order == sorted(order, reverse=True) and told[0]["named"] == 2 and told[0]["reads"] > 0.3
    named = {pair[:3]: pair.named for pair in known.tried}
    assert sum(of == 2 for of in named.values()) == 169 and len(known.tried) == 747  # docs/illusions.md


def test_what_people_did_not_read_goes_last_and_is_no_suggestion(call, tmp_path):  # noqa: F811
    rows = [("thing 1", 0.9, 0, 0.1), ("thing 2", 0.2, 1, 0.25), ("thing 3", 0.1, 1, 0.3), ("thing 4", 0.8, 0, 0.3)]
    sketches.write(known(), tmp_path / "x.png", command="concept_sheet")
    told = [Tried("flip", "thing 0", second, reads, 10, 190, named, share) for second, reads, named, share in rows]
    assert [pair.second for pair in sorted(told, key=lambda pair: -pair.worth)] == ["thing 3", "thing 2", "thing 4", "thing 1"]
    assert all(pair.worth < Tried("flip", "a", "b", 0.0, 10).worth for pair in told)  # of which nobody was asked

    def said(pairs: list[Tried]) -> list[str]:
        lines = ["\t".join(COLUMNS), *("\t".join(map(str, pair)) for pair in pairs)]
        (tmp_path / "x.tsv").write_text("\n".join(lines) + "\n")
        code, out, err = call("pairs", "thing 0", "--concepts", tmp_path / "x.png")
        assert (code, err) == (0, "")
        return out.splitlines()

    lines = said(told)
    assert lines[1].split()[:4] == ["thing", "0", "thing", "3"] and lines[-1].startswith("people read none of these both ways")
    assert {line.partition(":")[0] for line in lines[5:-1]} == {"reads", "seeds", "seed", "named", "share"}
    read = Tried("flip", "thing 0", "thing 5", 0.1, 10, 190, 2, 0.7)
    lines = said([*told, read])
    assert lines[1].split()[:4] == ["thing", "0", "thing", "5"] and lines[-1].startswith("the first of them is drawn by")


# The command


@pytest.fixture(scope="module")
def sheet(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("concepts") / "tiny.png"
    sketches.write(with_copy("flip"), path, command="concept_sheet", model="tiny")
    return path


def test_pairs_of_a_known_prompt_and_of_all(call, sheet, here):  # noqa: F811
    code, out, err = call("pairs", "Thing  0", "--view", "flip", "--concepts", sheet, "--count", 3, "--json", "x.json")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert (
        len(lines) == 8
        and lines[4].startswith("fit: how alike")
        and lines[1].split() == ["thing", "0", "a", "copy", "1.00", lines[1].split()[-1]]
    )
    assert "phosphene anagram 'thing 0' 'a copy' --view flip --best-of 16" in out
    told = json.loads(Path("x.json").read_text())
    assert told["command"] == "pairs" and told["pairs"][0]["second"] == "a copy" and len(told["pairs"]) == 3
    code, out, err = call("pairs", "--view", "flip", "--concepts", sheet)
    assert (code, err) == (0, "") and out.splitlines()[1].startswith("thing 0") and "a copy" in out.splitlines()[1]
    code, out, err = call("pairs", "--kind", "color", "--concepts", sheet, "--count", 1)
    assert (code, err) == (0, "") and "phosphene hybrid" in out and "--kind color" in out


def test_two_prompts_are_compared_in_all_views(call, sheet, here):  # noqa: F811
    """The copy is thing 0 upside down: that is the view in which they share a picture."""
    code, out, err = call("pairs", "Thing 0", "copy", "--concepts", sheet, "--json", "x.json")
    assert (code, err) == (0, "") and out.splitlines()[1].split()[:5] == ["thing", "0", "a", "copy", "1.00"]
    told = json.loads(Path("x.json").read_text())["pairs"]
    assert [told[0]["view"], told[0]["fit"]] == ["flip", pytest.approx(1, abs=0.02)] and len(
        {pair["view"] for pair in told}
    ) == 12
    assert (
        "the first of them, which was not tried, is drawn by: phosphene anagram 'thing 0' 'a copy' --view flip --best-of 16"
        in out
    )
    # What people read goes first, whatever fits.
    things = with_copy("flip")._replace(tried=(Tried("jigsaw", "thing 0", "a copy", 0.1, 10, 190, 2, 0.7),))
    order = together(things, "thing 0", "a copy", list(VIEWS)[1:], opened=None)
    assert (order[0].view, order[0].seed, order[1].view) == ("jigsaw", 190, "flip")
    assert [order[1].place, len({pair.place for pair in order}) > 3] == [1.0, True]  # none fits better than its copy
    # Neither is there, and both are drawn at once.
    asked = []

    def opened(prompts):
        asked.append(prompts)
        raise UserError("nobody draws here.")

    refusal(lambda: together(things, "a cat", "a dog", ["flip"], opened=opened), "nobody draws here")
    assert asked == [[None, "a cat", "a dog"]]


def test_articles_signs_and_accents_do_not_count_in_a_name():
    told = "A Castle!", "( a castle )", "the castle ...", "#castle", "a c\u00e1stle"
    assert {sketches.bare(prompt) for prompt in told} == {"castle"}


def test_what_was_tried_in_another_view_is_not_taken_for_it():
    rows = [Tried("skew", "b", "a", 0.5, 10, 7, 2, 0.7), Tried("rotate-90", "b", "a", 0.5, 10, 9, 2, 0.7)]
    shown = experience(rows, view("rotate-270"))["a", "b"]
    assert turned(shown, "rotate-270", rows) == rows[1] and turned(rows[1], "rotate-90", rows) is None


@pytest.mark.parametrize("argv", [("a koala", "a police car"), ("A koala!", '"police car"'), ("a koala", "--view", "flip")])
def test_what_was_tried_the_other_way_round_is_drawn_as_it_was_tried(call, argv):  # noqa: F811
    """Its picture is known by its seed; that of the two the other way round is another."""
    code, out, err = call("pairs", *argv)
    command = "phosphene anagram 'a police car' 'a koala' --view flip --seed 192"
    assert (code, err) == (0, "") and out.endswith(f"the first of them, the other way round, is drawn by: {command}\n")


def test_of_two_that_do_not_fit_it_is_said(call, tmp_path):  # noqa: F811
    """A view in which people read pairs goes before one in which they read none, and a low place is told."""
    read = (
        Tried("flip", "thing 10", "thing 11", 0.5, 10, 190, 2, 0.7),
        Tried("skew", "thing 10", "thing 11", 0.9, 10, 190, 1, 0.3),
    )
    things, sharing = with_copy("flip")._replace(tried=read), through(view("flip"))
    worth = promised(*compared(things, things, sharing))[0, 1:]  # of thing 0 with each other one
    places = {k + 1: (worth < own).sum().item() / (len(worth) - 1) for k, own in enumerate(worth.tolist())}
    worse = next(k for k, place in places.items() if 0 < place < 0.5)
    (best, *_) = together(things, "thing 0", f"thing {worse}", list(VIEWS)[1:], opened=None)
    assert (best.view, best.place) == ("flip", pytest.approx(places[worse], abs=1e-6))
    sketches.write(things._replace(tried=()), tmp_path / "x.png", command="concept_sheet", model="tiny")
    (tmp_path / "x.tsv").write_text("\n".join(["\t".join(Tried._fields), *("\t".join(map(str, row)) for row in read)]) + "\n")
    code, out, err = call("pairs", "thing 0", f"thing {worse}", "--concepts", tmp_path / "x.png")
    assert (code, err) == (
        0,
        "",
    ) and "these two hardly do; for what does: phosphene pairs 'thing 0' --view flip --concepts" in out
    code, out, err = call("pairs", "thing 0", "a copy", "--concepts", tmp_path / "x.png")
    assert (code, err) == (0, "") and "hardly" not in out and "--view flip --best-of 16" in out


def test_a_sheet_of_which_nothing_can_be_named_is_refused(refused, tmp_path):  # noqa: F811
    things = known(3)
    sketches.write(things._replace(hard=frozenset(things.prompts[1:])), tmp_path / "x.png", command="concept_sheet")
    for asked in (["thing 0"], []):
        refused("pairs", *asked, "--view", "flip", "--concepts", tmp_path / "x.png", words=("x.png", "another sheet"))


def test_the_sheet_that_ships_is_of_the_model_that_ships():
    """Its things are those of the tool's list, and glyph sketches them as it shows."""
    known = sketches.read(CONCEPTS)
    assert list(known.prompts) == (ROOT / "tools" / "concepts.txt").read_text().splitlines() and known.each == 2
    assert known.hard == {*(ROOT / "tools" / "hard.txt").read_text().splitlines()}
    whole = open_cascade("glyph", stages=1)
    whole.encode([None, "a castle"])
    drawn = sketches.drawn(whole.stages[0], ["a castle"], known.each, known.guidance)
    apart = (drawn.sketches - known.of("a castle").sketches).abs().mean()
    assert apart < 0.02 < (drawn.sketches - known.of("a house").sketches).abs().mean()


def test_what_may_share_a_picture_is_said_where_it_is_known():
    widgets = pytest.importorskip("phosphene.web.widgets")
    told = widgets.fitting("A  cat", "flip")
    assert told == widgets.fitting("cat", "flip")  # articles do not count, as in the command
    known = sketches.read(CONCEPTS)
    second = [pair.second for pair in partners(known.of("a cat"), known, through(view("flip")), 8)]
    assert told.endswith(f": {', '.join(second)}.") and "a cat" not in second
    assert told != widgets.fitting("a cat", "rotate-90") and told == widgets.fitting("a cat", "flip")
    read = "a house with garden (seed 189), a cow (seed 193), a dog face (seed 194)"
    assert widgets.fitting("a duck", "rotate-90").startswith(f"People read with it: {read}. May share a picture with it: ")
    kept = widgets._partners.cache_info().currsize
    for prompt, name in (("zzz", "flip"), ("", "flip"), ("a cat", "cylinder")):
        assert widgets.fitting(prompt, name).startswith("Nothing is known")
    assert widgets._partners.cache_info().currsize == kept  # what visitors type is not kept


def test_pairs_of_a_prompt_that_is_drawn_and_ordered_anew(call, sheet, folder, here):  # noqa: F811
    argv = ["pairs", BOAT, "--view", "rotate-90", "--concepts", sheet, "--model", folder, "--device", "cpu"]
    code, out, err = call(*argv, "--count", 2, "--rerank", 4, "--json", "x.json")
    assert (code, err) == (0, "")
    told = json.loads(Path("x.json").read_text())["pairs"]
    assert len(told) == 2 and told[0]["first"] == BOAT and told[0]["worst"] >= told[1]["worst"]
    assert {"alignment", "concealment", "worst"} <= set(out.splitlines()[0].split())


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["zzz"], ("PROMPT 'zzz': is none of the 979 things", "--view")),
        (["castel"], ("PROMPT 'castel'", "did you mean 'a castle'?")),
        (["a clock"], ("--view: of 'a clock' nothing that reads is known", "rotate-90")),
        (["a duck", "--rerank", "4"], "--rerank 4"),
        (["a duck", "duck"], "PROMPT 'duck'"),
        (["a duck", " "], 'PROMPT ""'),
        (["a duck", "a cow", "--view", "flip"], "--view flip"),
        (["a duck", "a cow", "--kind", "color"], "--kind color"),
        (["a duck", "a cow", "--rerank", "4"], "--rerank 4"),
        (["a duck", "--view", "sideways"], "--view sideways"),
        (["--view", "flip", "--kind", "color"], ("--kind color", "--view flip")),
        (["--view", "identity"], "--view identity"),
        (["--view", "four-way"], "--view four-way"),
        (["--kind", "taste"], "--kind taste"),
        ([" ", "--view", "flip"], "PROMPT"),
        (["--view", "flip", "--concepts", "nowhere.png"], "--concepts nowhere.png"),
        (["--view", "flip", "--concepts", "clock-tower"], ("clock-tower", "tools/concept_sheet.py")),
        (["--view", "flip", "--count", "0"], "--count 0"),
        (["--view", "flip", "--json", "."], "--json"),
    ],
)
def test_pairs_that_cannot_be(refused, here, argv, words):  # noqa: F811
    refused("pairs", *argv, words=words)
