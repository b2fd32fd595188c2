"""Laws of the table of anagrams, of its judges, and of the command that prints it."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from conftest import randn, refusal
from hypothesis import given
from hypothesis import strategies as st
from test_cascade import BOAT, MAN, cascade, folder  # noqa: F401  (fixtures)
from test_cli import call, here, refused, tree  # noqa: F401  (fixtures)
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

from phosphene.drawing import Sampling, run
from phosphene.evaluation.matching import CLIP_MEAN, CLIP_STD, open_clip, open_matcher
from phosphene.images import to_images
from phosphene.readers import read_pairs_file
from phosphene.sampler import last
from phosphene.tasks import anagram_table
from phosphene.tasks.anagram import anagram
from phosphene.tasks.anagram_table import JUDGED_FROM, Drawn, Rated, by_denoiser, by_matcher, cifar_pairs, rated, table
from phosphene.tasks.score import alignment_and_concealment, score
from phosphene.views import VIEWS

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
QUICK = Sampling("ddim", 2)
similarities = st.tuples(st.integers(1, 4), st.integers(2, 4), st.integers(0, 99))


# The scores


@given(similarities, st.floats(1, 100))
def test_alignment_and_concealment_are_those_of_the_paper(sizes, sharpness):
    count, readings, seed = sizes
    found = randn(count, readings, readings, seed=seed, dtype=torch.float64)
    aligned, concealed = alignment_and_concealment(found, sharpness)
    for k in range(count):
        assert aligned[k] == min(found[k, r, r] for r in range(readings))
        shares = [math.exp(sharpness * (found[k, r, r] - found[k, r].max())) for r in range(readings)]
        totals = [float((sharpness * (found[k, r] - found[k, r].max())).exp().sum()) for r in range(readings)]
        assert concealed[k] == pytest.approx(sum(s / t for s, t in zip(shares, totals, strict=True)) / readings)


@given(similarities)
def test_in_other_order_the_scores_are_the_same(sizes):
    count, readings, seed = sizes
    found = randn(count, readings, readings, seed=seed)
    order = torch.randperm(readings, generator=torch.Generator().manual_seed(seed))
    for one, other in zip(
        alignment_and_concealment(found, 9.0), alignment_and_concealment(found[:, order][:, :, order], 9.0), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_what_reads_as_either_alike_conceals_nothing():
    aligned, concealed = alignment_and_concealment(torch.full((1, 2, 2), 0.3), 100.0)
    assert aligned.item() == pytest.approx(0.3) and concealed.item() == pytest.approx(0.5)


# The table


@given(st.lists(st.floats(-1, 1), min_size=10, max_size=10), st.integers(1, 9))
def test_a_row_has_mean_and_upper_tenth_of_all_pictures(values, cut):
    """However they are parted among the pairs."""
    parts = [Rated("flip", "clip", ("a", "b"), part, [v / 2 for v in part]) for part in (values[:cut], values[cut:])]
    (row,) = table(parts)
    assert (row.view, row.judge, row.pictures) == ("flip", "clip", 10)
    ordered = sorted(values)
    assert (
        pytest.approx(sum(values) / 10, abs=1e-6) == row.A
        and pytest.approx(0.9 * ordered[8] + 0.1 * ordered[9], abs=1e-6) == row.A9
    )
    assert pytest.approx(row.A / 2, abs=1e-6) == row.C and pytest.approx(row.A9 / 2, abs=1e-6) == row.C9


def test_rows_are_of_views_and_judges_in_their_order():
    every = [Rated(view, judge, ("a", "b"), [0.0], [1.0]) for view in ("negate", "flip") for judge in ("denoiser", "clip")]
    assert [row[:2] for row in table(every)] == [one[:2] for one in every]


def test_the_pairs_of_papers():
    pairs = cifar_pairs()
    assert len(set(map(frozenset, pairs))) == 45 and all(a != b for a, b in pairs)
    assert ("an airplane", "an automobile") in pairs and ("a ship", "a truck") in pairs


def test_what_is_rated_is_what_the_task_draws(cascade):  # noqa: F811
    (found,) = rated(cascade, "flip", (BOAT, MAN), {"denoiser": by_denoiser}, [3, 4], QUICK)
    alone = last(run(anagram([BOAT, MAN], ["flip"]), cascade.stages[0], [3, 4], sampling=QUICK)).clamp(-1, 1)
    by_hand = score(cascade.stages[0], alone, [BOAT, MAN], [lambda x: x, VIEWS["flip"].apply], seed=JUDGED_FROM)
    assert found[:3] == ("flip", "denoiser", (BOAT, MAN))
    assert found.alignment == pytest.approx(by_hand.alignment.tolist(), abs=1e-4)
    assert found.concealment == pytest.approx(by_hand.concealment.tolist(), abs=1e-4)


class Corner:
    """A matcher for whom a picture is bright or dark in its upper left corner."""

    sharpness = 10.0

    def texts(self, prompts):
        return torch.tensor([{"bright": [1.0, 0.0], "dark": [0.0, 1.0]}[prompt] for prompt in prompts])

    def pictures(self, pictures):
        bright = pictures[:, 0, 0, 0] > 0
        return torch.stack([bright.float(), 1 - bright.float()], 1)


def test_a_matcher_looks_at_the_finished_picture_through_each_view():
    picture = torch.ones(1, 3, 8, 8)
    picture[:, :, 4:] = -1
    looks = [lambda x: x, VIEWS["flip"].apply]
    for prompts, right in ((("bright", "dark"), True), (("dark", "bright"), False)):
        aligned, concealed = by_matcher(Corner(), None, Drawn(-picture, picture), prompts, looks)
        assert aligned.item() == float(right) and (concealed.item() > 0.99) == right
    upright = by_matcher(Corner(), None, Drawn(picture, picture), ("bright", "dark"), [looks[0], looks[0]])
    assert upright[0].item() == 0  # the view matters


def test_those_that_look_at_finished_pictures_see_the_second_stage(cascade):  # noqa: F811
    seen = {}

    def keep(stage, drawn, prompts, looks):
        seen["drawn"] = drawn
        return torch.zeros(1), torch.zeros(1)

    rated(cascade, "flip", (BOAT, MAN), {"x": keep}, [3], QUICK)
    assert (seen["drawn"].small.shape[-1], seen["drawn"].finished.shape[-1]) == (16, 32)


# CLIP


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """A CLIP nobody trained, as transformers writes it."""
    place = tmp_path_factory.mktemp("clip")
    letters = [*"abcdefghijklmnopqrstuvwxyz", *(f"{c}</w>" for c in "abcdefghijklmnopqrstuvwxyz")]
    vocabulary = {word: k for k, word in enumerate([*letters, "<|startoftext|>", "<|endoftext|>"])}
    CLIPTokenizer(vocabulary, [], model_max_length=16).save_pretrained(place)
    tower = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": len(letters), "eos_token_id": len(letters) + 1, "pad_token_id": len(letters) + 1}
    text = {**tower, "vocab_size": len(vocabulary), "max_position_embeddings": 16, **ends}
    torch.manual_seed(3)
    config = CLIPConfig(text_config=text, vision_config={**tower, "image_size": 32, "patch_size": 8}, projection_dim=8)
    CLIPModel(config).save_pretrained(place)
    return place


def test_clip_is_asked_as_transformers_asks_it(clip):
    """Each prompt alone and in company, and pictures through its own processor but for rounding to bytes."""
    judge = open_matcher(f"clip:{clip}")
    model, tokenizer = CLIPModel.from_pretrained(clip), CLIPTokenizer.from_pretrained(clip)
    prompts, pictures = ["a cat", "an old man"], torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    size = {"height": 32, "width": 32}
    sees = CLIPImageProcessor(size=size, do_center_crop=False, image_mean=CLIP_MEAN, image_std=CLIP_STD)
    seen = sees(to_images(pictures), return_tensors="pt").pixel_values
    with torch.no_grad():
        whole = model(**tokenizer(prompts, padding=True, return_tensors="pt"), pixel_values=seen)
    ours = judge.pictures(pictures) @ judge.texts(prompts).T * judge.sharpness
    torch.testing.assert_close(ours, whole.logits_per_image, rtol=0, atol=2e-2)
    torch.testing.assert_close(judge.texts(prompts)[:1], judge.texts(prompts[:1]), rtol=0, atol=1e-5)


def test_a_clip_that_is_none(tmp_path, clip):
    refusal(lambda: open_clip(str(tmp_path / "nowhere")), "nowhere")
    (tmp_path / "config.json").write_text("{")
    refusal(lambda: open_clip(str(tmp_path)), str(tmp_path))
    refusal(lambda: open_matcher("denoiser"), "--judge denoiser")
    refusal(lambda: open_matcher(f"retrieval:{tmp_path}"), "phosphene train retrieval")


# Pairs from a file


def test_pairs_of_ones_own(tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text("# mine\na duck, a rabbit\n\n  a man, old\tfruit \n", encoding="utf-8")
    assert read_pairs_file(path, "--pairs") == [("a duck", "a rabbit"), ("a man, old", "fruit")]
    for text, words in (("", "holds no pairs"), ("a duck\n", "line 1"), ("a, b\n\na, b, c", "line 3"), ("a,", "line 1")):
        path.write_text(text)
        refusal(lambda: read_pairs_file(path, "--pairs"), "--pairs", "pairs.txt", words)
    path.write_bytes(b"\xff\xfe")
    refusal(lambda: read_pairs_file(path, "--pairs"), "UTF-8")
    refusal(lambda: read_pairs_file(tmp_path, "--pairs"), "no file")


# The command


def test_the_table_is_printed_and_written(call, folder, clip, here):  # noqa: F811
    Path("pairs.txt").write_text(f"{BOAT}, {MAN}\n{MAN}, {BOAT}\n")
    argv = ["--pairs", "pairs.txt", "--view", "flip", "--view", "negate", "--judge", "denoiser", "--judge", f"clip:{clip}"]
    how = ["--model", folder, "--steps", 2, "--count", 2, "--device", "cpu", "--json", "x.json"]
    code, out, err = call("evaluate", "anagrams", *argv, *how)
    assert (code, err) == (0, "")
    told = json.loads(Path("x.json").read_text())
    assert told["command"] == "evaluate anagrams" and told["machine"]["processor"] and len(told["pairs"]) == 8
    assert [(r["view"], r["judge"], r["pictures"]) for r in told["table"]] == [
        (view, judge, 4) for view in ("flip", "negate") for judge in ("denoiser", f"clip:{clip}")
    ]
    assert out.splitlines()[0].split() == ["view", "judge", "pictures", "A", "A.9", "C", "C.9"]
    for line, row in zip(out.splitlines()[1:5], told["table"], strict=True):
        assert line.split()[3:] == [f"{row[name]:.3f}" for name in ("A", "A9", "C", "C9")]
    assert "compares with no other network's" in out


def test_a_second_stage_that_is_not_there_is_not_asked_for(refused, folder, here, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(anagram_table, "open_matcher", lambda name, device: Whatever())
    Path("words").mkdir()
    Path("pairs.txt").write_text(f"{BOAT}, {MAN}\n")
    shutil.copytree(folder / "stage-1", tmp_path / "small" / "stage-1")
    argv = ["--pairs", "pairs.txt", "--judge", "retrieval:words", "--model", tmp_path / "small", "--upscale", "--device", "cpu"]
    refused("evaluate", "anagrams", *argv, words=("--upscale", "small has none"))


def test_a_retrieval_model_judges_too(call, folder, here, monkeypatch):  # noqa: F811
    monkeypatch.setattr(anagram_table, "open_matcher", lambda name, device: Whatever())
    Path("words").mkdir()
    Path("pairs.txt").write_text(f"{BOAT}, {MAN}\n")
    argv = ["--pairs", "pairs.txt", "--view", "flip", "--judge", "retrieval:words", "--model", folder, "--steps", 2]
    code, out, err = call("evaluate", "anagrams", *argv, "--device", "cpu")
    assert (code, err) == (0, "") and "retrieval:words" in out and "0.500" in out


class Whatever:
    """A matcher for whom everything is the same."""

    sharpness = 1.0

    def texts(self, prompts):
        return torch.ones(len(prompts), 1)

    def pictures(self, pictures):
        return torch.ones(len(pictures), 1)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--judge", "critic"], ("--judge critic", "clip:MODEL")),
        (["--judge", "clip:"], "--judge clip:"),
        (["--judge", "denoiser:x"], "--judge denoiser:x"),
        (["--judge", "retrieval:nowhere"], "--judge retrieval:nowhere"),
        (["--view", "sideways"], "--view sideways"),
        (["--view", "four-way"], "--view four-way"),
        (["--pairs", "nowhere.txt"], "--pairs nowhere.txt"),
        (["--count", "0"], "--count 0"),
        (["--steps", "0"], "--steps 0"),
        (["--model", "nowhere"], "--model nowhere"),
        (["--json", "."], "--json"),
        (["--upscale"], ("--upscale", "denoiser")),
        (["--upscale", "--judge", "denoiser"], ("--upscale", "another --judge")),
        (["class-20"], "class-20"),
    ],
)
def test_tables_that_cannot_be(refused, here, argv, words):  # noqa: F811
    refused("evaluate", "anagrams", *argv, words=words)
