"""Part A's commands, from typing to PNG, on a cascade too small to draw anything."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler, IFPipeline, IFSuperResolutionPipeline
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageDraw
from test_cascade import BARE, IF_1, IF_2, tiny_text, tiny_unet
from test_generate import call, cascade, size  # noqa: F401  (fixtures)

from phosphene.defaults import SEED
from phosphene.drawing import Sampling, run
from phosphene.images import fitted, rescaled, save_animation, to_images, to_tensor
from phosphene.models.cascade import open_cascade
from phosphene.readers import MOST_PIXELS, SAMPLES, read_picture, read_provenance
from phosphene.sampler import last
from phosphene.tasks.animate import MOVE
from phosphene.tasks.hybrid import FromAfar, completed

STEPS = ["--steps", 4]


@pytest.fixture
def here(tmp_path, call) -> Path:  # noqa: F811
    """The folder that commands run in, with pictures to work on."""
    image = Image.new("RGB", (60, 40), (200, 220, 255))
    ImageDraw.Draw(image).ellipse((20, 10, 40, 30), fill=(200, 30, 30))
    image.save(tmp_path / "ball.png")
    mask = Image.new("L", (60, 40))
    ImageDraw.Draw(mask).rectangle((15, 5, 30, 35), fill=255)
    mask.save(tmp_path / "mask.png")
    Image.new("L", (60, 40)).save(tmp_path / "black.png")
    Image.linear_gradient("L").resize((30, 40)).save(tmp_path / "narrow.png")
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    (tmp_path / "text.png").write_text("this is no picture")
    whole = (tmp_path / "ball.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    # A header that promises 40,000 x 40,000 pixels.
    lying = bytearray(whole)
    lying[16:24] = (40_000).to_bytes(4, "big") * 2
    import zlib

    lying[29:33] = zlib.crc32(bytes(lying[12:29])).to_bytes(4, "big")
    (tmp_path / "huge.png").write_bytes(bytes(lying))
    return tmp_path


def allowed(model: Path) -> list[object]:
    """What rerun is told that it may open."""
    return ["--allow-model", model, "--allow-file", "ball.png", "--allow-file", "mask.png"]


COMMANDS = {
    "denoise": ["ball.png", "--t", "300,600", "--timesteps", "900,600,300,0", "--start", 1],
    "morph": ["a rocket", "a skull", "--frames", 3, "--to-seed", 7],
    "edit": ["ball.png", "--start", "1,3"],
    "inpaint": ["ball.png", "mask.png", "--prompt", "a rocket", "--compare"],
    "anagram": ["a rocket", "a skull", "--view", "rotate-180", "--best-of", 2],
    "hybrid": ["a rocket", "a skull", "--kind", "color"],
    "compose": ["a rocket", "a skull", "--mask", "circle"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_draws_and_can_be_run_again(call, here, cascade, name):  # noqa: F811
    steps = [] if "--timesteps" in COMMANDS[name] else STEPS
    code, out, err = call(name, *COMMANDS[name], "--model", cascade, *steps, "-o", "one.png")
    assert (code, err) == (0, "") and "one.png" in out
    assert read_provenance(Path("one.png"))["command"] == name
    code, out, err = call("rerun", "one.png", "-o", "two.png", *allowed(cascade))
    assert code == 0 and "byte for byte" in out, err
    assert call(name, *COMMANDS[name], "--model", cascade, *steps, "--seed", 9, "-o", "three.png")[0] == 0
    with Image.open("one.png") as one, Image.open("three.png") as three:
        assert one.size == three.size and one.tobytes() != three.tobytes()


def test_the_one_step_is_asked_as_the_run_but_for_guidance_nobody_named(call, here, cascade, monkeypatch):  # noqa: F811
    from phosphene.cli import pictures

    found, attempts = [], pictures._attempts
    monkeypatch.setattr(pictures, "_attempts", lambda *what: found.append(what[1]) or attempts(*what))
    argv = ["denoise", "ball.png", "--prompt", "a rocket", "--t", 600, "--start", 3, *STEPS, "--model", cascade]
    guided = ["--guidance", 7]
    several = [[], ["--guidance", 1], guided, ["--no-threshold"], [*guided, "--guidance-norm", 0.01]]
    several += [[*guided, "--guidance-parallel", 0], [*guided, "--negative", "a skull"]]
    for more in several:
        code, out, err = call(*argv, *more)
        assert (code, err) == (0, "") and out.endswith("pictures in denoise.png\n")
    usual, one, *others = [level.estimate for (level,) in found]
    assert usual.equal(one)
    for k, other in enumerate(others):
        assert not any(other.equal(each) for each in (usual, *others[:k])), several[k + 2]


def test_sweeps_are_rows(call, here, cascade):  # noqa: F811
    base = ["generate", "a rocket", "a skull", "--model", cascade, "--no-upscale"]
    assert call(*base, "--guidance-sweep", "1,5,9", *STEPS, "-o", "guidance.png")[0] == 0
    assert call(*base, "--steps-sweep", "2,3", "-o", "steps.png")[0] == 0
    assert size("guidance.png")[1] > 3 * 16 > 2 * 16 and size("steps.png")[1] < size("guidance.png")[1]
    assert "byte for byte" in call("rerun", "steps.png", *allowed(cascade))[1]
    # A row of the sheet is the run with its number.
    assert call(*base, "--guidance", 5, *STEPS, "-o", "five.png")[0] == 0
    with Image.open("guidance.png") as sheet, Image.open("five.png") as five:
        sheet, cell = sheet.convert("RGB"), five.convert("RGB").crop((6, 6, 22, 22))
        strips = {sheet.crop((x, y, x + 16, y + 16)).tobytes() for x in range(sheet.width - 16) for y in range(sheet.height - 16)}
    assert cell.tobytes() in strips


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--guidance-sweep", "1,x"], "--guidance-sweep 1,x"),
        (["--guidance-sweep", "1,2", "--count", 2], "--guidance-sweep 1,2"),
        (["--guidance-sweep", "1,2", "--steps-sweep", "2,3"], "--guidance-sweep 1,2"),
        (["--steps-sweep", "2,0"], "--steps-sweep 0"),
        (["--steps-sweep", "2,3", "--timesteps", "900,0"], "--steps-sweep 2,3"),
        (["--steps-sweep", "2,3", "--steps", "5"], "--steps-sweep 2,3"),
        (["--steps-sweep", "2,5000"], "5000"),
    ],
)
def test_sweeps_that_cannot_be(call, here, cascade, argv, words):  # noqa: F811
    code, _, err = call("generate", "a rocket", "--model", cascade, *argv, "-o", "out.png")
    assert code == 2 and words in err and err.count("\n") == 1 and not Path("out.png").exists()


def test_samples_go_by_their_names(call, here, cascade):  # noqa: F811
    names = sorted(file.stem for file in SAMPLES.glob("*.png"))
    assert {"clock-tower", "castle-hill", "sketch-fish", "clock-tower-mask"} <= set(names)
    for name in names:
        assert read_picture(Path(name)).size == (256, 256)
        assert (SAMPLES / f"{name}.png").stat().st_size < 40_000
    argv = ["clock-tower", "clock-tower-mask", "--model", cascade, *STEPS, "--no-upscale", "-o", "new.png"]
    assert call("inpaint", *argv)[0] == 0


def test_options_of_an_edit(call, here, cascade):  # noqa: F811
    base = ["edit", "ball.png", "--model", cascade, *STEPS]
    assert call(*base, "--strength", 0.5, "--no-upscale", "-o", "half.png")[0] == 0 and size("half.png") == (16, 16)
    assert call(*base, "--start", 2, "--no-upscale", "-o", "two.png")[0] == 0
    with Image.open("half.png") as half, Image.open("two.png") as two:
        assert half.tobytes() == two.tobytes()
    assert call(*base, "--start", 2, "--fit", "pad", "-o", "pad.png")[0] == 0 and size("pad.png") == (32, 32)


def test_options_of_inpainting(call, here, cascade):  # noqa: F811
    base = ["inpaint", "ball.png", "mask.png", "--model", cascade, *STEPS, "--no-upscale", "--blend", "none"]
    for fit in ("crop", "pad"):
        code, out, _ = call(*base, "--fit", fit, "-o", f"{fit}.png")
        assert code == 0 and "seams" in out
        with Image.open(f"{fit}.png") as found:
            original, found = fitted(read_picture("ball.png"), (16, 16), fit), found.convert("RGB")
            white = fitted(read_picture("mask.png"), (16, 16)) if fit == "crop" else None
            kept = [(x, y) for x in range(16) for y in range(16) if white is not None and white.getpixel((x, y))[0] == 0]
            kept = kept or [(x, y) for x in range(16) for y in (0, 1, 14, 15)]  # white beside
            assert all(found.getpixel(at) == original.getpixel(at) for at in kept)


def test_views_of_an_anagram(call, here, cascade):  # noqa: F811
    base = ["--model", cascade, *STEPS, "--no-upscale"]
    four = ["a rocket", "a skull", "a dog", "a cat"]
    assert call("anagram", *four, "--view", "four-way", *base, "--sheet", "-o", "four.png")[0] == 0
    assert size("four.png")[0] > 4 * 256 and size("four-1.png") == (16, 16)
    two = ["a rocket", "a skull", "--view", "jigsaw", "--view-seed", 3, "--weights", "1,2"]
    assert call("anagram", *two, *base, "-o", "jigsaw.png", "--animate", "turn.gif")[0] == 0
    with Image.open("turn.gif") as animation:
        assert animation.n_frames > 20
    assert call("anagram", *two[:4], "--reduce", "alternate", *base, "-o", "a.png", "--animate", "turn.mp4")[0] == 0
    assert Path("turn.mp4").read_bytes()[4:8] == b"ftyp"


def test_a_sheet_shows_each_reading_and_the_picture_lies_beside_it(call, here, cascade):  # noqa: F811
    argv = ["anagram", "a rocket", "a skull", "--view", "rotate-90", "--model", cascade, *STEPS, "--no-upscale"]
    assert call(*argv, "-o", "alone.png")[0] == 0 and call(*argv, "--sheet", "-o", "all.png")[0] == 0
    with Image.open("alone.png") as alone, Image.open("all.png") as sheet, Image.open("all-1.png") as beside:
        assert alone.size == (16, 16) and beside.tobytes() == alone.tobytes()
        for k, seen in enumerate((alone, alone.rotate(90))):
            cell = sheet.convert("RGB").crop((6 + 262 * k, 6, 262 + 262 * k, 262))
            assert cell.tobytes() == seen.resize((256, 256), Image.Resampling.NEAREST).tobytes()


def test_on_its_sheet_a_hybrid_walks_away(call, here, cascade):  # noqa: F811
    """As an eye sees it: as it is, and with no more left of it than from farther away, and from where its bands part."""
    argv = ["hybrid", "a rocket", "a skull", "--model", cascade, *STEPS, "--no-upscale", "--sheet", "-o", "walk.png"]
    assert call(*argv, "--sigma", 3)[0] == 0
    with Image.open("walk.png") as sheet, Image.open("walk-1.png") as alone:
        assert sheet.width == 6 + 3 * 262
        picture = to_tensor(alone)
        for k, look in enumerate((lambda x: x, FromAfar(1.5), FromAfar(3.0))):
            cell = to_tensor(sheet.convert("RGB").crop((6 + 262 * k, 6, 262 + 262 * k, 262)))
            assert (cell[..., 8::16, 8::16] - look(picture).clamp(-1, 1)).abs().max() < 4 / 255  # each was rounded once


@pytest.fixture(scope="session")
def wide(tmp_path_factory):
    """A cascade of pictures 24 wide and 16 high, then twice that."""
    place = tmp_path_factory.mktemp("wide")
    tokenizer, encoder = tiny_text()
    schedulers = {"scheduler": DDPMScheduler(**IF_2), "image_noising_scheduler": DDPMScheduler(beta_schedule="squaredcos_cap_v2")}
    one = {"tokenizer": tokenizer, "text_encoder": encoder, "scheduler": DDPMScheduler(**IF_1)}
    IFPipeline(unet=tiny_unet(1, [16, 24]), **one, **BARE).save_pretrained(place / "stage-1")
    unet = tiny_unet(2, [32, 48], in_channels=6, class_embed_type="timestep", time_embedding_dim=32)
    two = IFSuperResolutionPipeline(tokenizer=None, text_encoder=None, unet=unet, **schedulers, **BARE)
    two.save_pretrained(place / "stage-2")
    return place


WIDE = {
    "generate": ["a rocket"],
    "denoise": ["ball.png", "--t", "300,600", "--start", 1],
    "edit": ["ball.png", "--start", 2],
    "inpaint": ["ball.png", "mask.png"],
    "anagram": ["a rocket", "a skull", "--view", "rotate-180"],
    "hybrid": ["a skull", "--from", "ball.png"],
    "compose": ["a rocket", "a skull"],
}


@pytest.mark.parametrize("fit", ["crop", "pad"])
@pytest.mark.parametrize("name", WIDE)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_pictures_need_not_be_square(call, here, wide, name, fit):  # noqa: F811
    fits = ["--fit", fit] if name in ("denoise", "edit", "inpaint", "hybrid") else []
    code, _, err = call(name, *WIDE[name], *fits, "--model", wide, "--steps", 3, "-o", "wide.png")
    assert (code, err) == (0, "")
    if name in ("generate", "edit", "inpaint", "compose"):
        assert size("wide.png") == (48, 32)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_masks_of_a_composition_need_not_be_square(call, here, wide):  # noqa: F811
    """Every mask, and a picture of the model's proportions whose sides are no part of its middle square."""
    painted, drawn = Image.new("L", (48, 32), 0), {}
    painted.paste(255, (0, 0, 6, 32))  # beside the middle square, which begins at 8
    painted.save("side.png")
    painted.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save("other.png")
    for mask in ("left", "top", "circle", "side.png", "other.png"):
        how = ["--mask", mask, "--model", wide, "--steps", 3, "--no-upscale", "-o", "wide.png"]
        assert call("compose", "a rocket", "a skull", *how)[0] == 0 and size("wide.png") == (24, 16)
        drawn[mask] = Image.open("wide.png").convert("RGB").tobytes()
    assert len(set(drawn.values())) == 5


@pytest.mark.parametrize("kind", ["frequency", "color", "motion", "scale"])
def test_a_photo_may_take_a_place_in_hybrids_of_every_kind(call, here, cascade, kind):  # noqa: F811
    command = ["hybrid", "a skull", "--from", "ball.png", "--kind", kind, "--model", cascade, *STEPS]
    kept = [call(*command, "--band", band, "-o", f"{band}.png") for band in ("low", "high")]
    assert [code for code, _, _ in kept] == [0, 0], kept
    assert all("of ball.png kept" in out for _, out, _ in kept)
    apart = ImageChops.difference(*(read_picture(f"{band}.png").convert("RGB") for band in ("low", "high")))
    furthest = max(most for _, most in apart.getextrema())  # halves of a sum that is rounded once are a step apart at most
    assert furthest <= 1 if kind == "scale" else furthest > 1
    code, out, err = call("rerun", "high.png", "-o", "again.png", *allowed(cascade))
    assert code == 0 and "byte for byte" in out, err


@pytest.mark.parametrize("band", ["low", "high"])
def test_a_photo_keeps_its_place_in_the_second_stage_too(call, here, cascade, band):  # noqa: F811
    """What the command writes is drawn of the photo at the size of either stage."""
    command = ["hybrid", "a skull", "--from", "ball.png", "--band", band, "--model", cascade, *STEPS, "-o", "from.png"]
    assert call(*command)[0] == 0
    model, photo = open_cascade(cascade), read_picture("ball.png")
    small, large = (to_tensor(fitted(photo, stage.image_shape[1:])) for stage in model.stages)
    both, first = (
        last(run(completed(small, "a skull", band=band, large=kept), model, [SEED], sampling=Sampling(steps=4)))
        for kept in (large, None)
    )
    assert read_picture("from.png").tobytes() == to_images(both)[0].tobytes() != to_images(first)[0].tobytes()


def test_motion_has_a_length_and_a_direction(call, here, cascade):  # noqa: F811
    command = ["hybrid", "a rocket", "a skull", "--kind", "motion", "--model", cascade, *STEPS]
    several = {"plain": [], "usual": ["--length", 15, "--angle", 0], "long": ["--length", 30], "up": ["--angle", 90]}
    for name, more in several.items():
        assert call(*command, *more, "-o", f"{name}.png")[0] == 0
    drawn = {name: read_picture(f"{name}.png").tobytes() for name in several}
    assert drawn["plain"] == drawn["usual"] and len(set(drawn.values())) == 3


def test_two_jigsaws_of_different_seeds_in_one_anagram(call, here, cascade):  # noqa: F811
    command = ["anagram", "a rocket", "a skull", "a dog", "--view", "jigsaw@1", "--view", "jigsaw@2", "--model", cascade, *STEPS]
    code, _, err = call(*command, "-o", "two.png")
    assert (code, err) == (0, "")
    assert call("rerun", "two.png", "-o", "again.png", *allowed(cascade))[0] == 0


def test_bands_of_a_hybrid(call, here, cascade):  # noqa: F811
    base = ["--model", cascade, *STEPS, "--no-upscale"]
    assert call("hybrid", "a rocket", "a skull", "a dog", "--sigma", "4,2", *base, "-o", "three.png")[0] == 0
    assert call("hybrid", "a skull", "--from", "ball.png", "--band", "high", *base, "-o", "from.png")[0] == 0
    assert "high frequencies" in call("hybrid", "a skull", "--from", "ball.png", "--band", "high", *base, "-o", "b.png")[1]


def test_a_mask_without_a_border_still_gives_a_picture(call, here, cascade):  # noqa: F811
    mask = Image.new("L", (60, 40), 255)
    mask.paste(0, (0, 0, 8, 40))  # which is cropped away
    mask.save("white.png")
    code, out, err = call("inpaint", "ball.png", "white.png", "--model", cascade, *STEPS, "--no-upscale", "-o", "new.png")
    assert code == 0 and "no border" in out and Path("new.png").exists(), err


def test_an_animation_ends_as_each_view_shows_the_picture(call, here, cascade):  # noqa: F811
    argv = ["a rocket", "a skull", "--view", "flip", "--view", "rotate-90", "--model", cascade, *STEPS, "--no-upscale"]
    assert call("anagram", *argv, "--animate", "both.gif", "-o", "both.png")[0] == 0
    with Image.open("both.gif") as animation:
        assert animation.n_frames > 2 * (2 * MOVE)  # to either reading and back; GIF keeps standing still as one frame


def test_a_palette_serves_all_frames(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((250, 0, 0), (128, 128, 128), (0, 250, 250), (128, 128, 128))]
    save_animation([frame for frame in frames for _ in range(10)], tmp_path / "a.gif", 2.0)
    with Image.open(tmp_path / "a.gif") as animation:
        shown = []
        for k in range(animation.n_frames):
            animation.seek(k)
            shown.append(animation.convert("RGB").getpixel((4, 4)))
    for colour in ((250, 0, 0), (0, 250, 250)):
        assert min(max(abs(a - b) for a, b in zip(colour, seen, strict=True)) for seen in shown) < 8


def test_masks_of_a_composition(call, here, cascade):  # noqa: F811
    pictures = set()
    for mask in ("left", "top", "circle", "mask.png"):
        how = ["--mask", mask, "--model", cascade, *STEPS, "--no-upscale", "-o", f"{mask}.out.png"]
        assert call("compose", "a rocket", "a skull", *how)[0] == 0
        with Image.open(f"{mask}.out.png") as image:
            pictures.add(image.tobytes())
    assert len(pictures) == 4


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["edit", "nowhere.png"], ["IMAGE nowhere.png", "no such file"]),
        (["edit", "text.png"], ["IMAGE text.png", "cannot be read as a picture"]),
        (["edit", "cut.png"], ["IMAGE cut.png", "cannot be read as a picture"]),
        (["edit", "dot.png"], ["IMAGE dot.png", "1x1", "at least 8x8"]),
        (["edit", "huge.png"], ["IMAGE huge.png", "too large", "smaller"]),
        (["edit", "."], ["IMAGE .", "cannot be read"]),
        (["edit", "ball.png", "--start", "99"], ["--start 99", "0..3"]),
        (["edit", "ball.png", "--start", "x"], ["--start x"]),
        (["edit", "ball.png", "--strength", "2"], ["--strength 2"]),
        (["edit", "ball.png", "--strength", "0.5", "--start", "1"], ["--strength 0.5", "--start"]),
        (["edit", "ball.png", "--start", "1,2", "--solver", "dpm"], ["--solver dpm"]),
        (["edit", "ball.png", "--start", "1", "--fit", "squeeze"], ["--fit squeeze"]),
        (["inpaint", "ball.png", "black.png"], ["MASK black.png", "all black"]),
        (["inpaint", "ball.png", "narrow.png"], ["MASK narrow.png", "30x40", "60x40"]),
        (["inpaint", "ball.png", "text.png"], ["MASK text.png"]),
        (["inpaint", "ball.png", "mask.png", "--blend", "glue"], ["--blend glue"]),
        (["anagram", "a", "b", "c", "--view", "flip"], ["--view flip", "3 prompts"]),
        (["anagram", "a", "b", "--view", "sideways"], ["--view sideways"]),
        (["anagram", "a", "b", "--view", "jigsaw:6"], ["--view jigsaw:6", "jigsaw:4"]),
        (["anagram", "a", "", "--view", "flip"], ["PROMPT"]),
        (["anagram", "a", "b", "--view", "flip", "--weights", "1"], ["--weights"]),
        (["anagram", "a", "b", "--view", "flip", "--animate", "x.avi"], ["--animate x.avi"]),
        (["anagram", "a", "b", "--view", "flip", "--best-of", "0"], ["--best-of 0"]),
        (["hybrid", "a", "b", "--sigma", "0"], ["--sigma"]),
        (["hybrid", "a"], ["two or three prompts"]),
        (["hybrid", "a", "b", "--kind", "smell"], ["--kind smell"]),
        (["hybrid", "a", "--from", "ball.png", "--kind", "smell"], ["--kind smell"]),
        (["hybrid", "a", "--from", "ball.png", "--kind", "color", "--sigma", "2"], ["--sigma 2", "frequency"]),
        (["hybrid", "a", "b", "--length", "9"], ["--length 9", "motion"]),
        (["hybrid", "a", "b", "--kind", "motion", "--length", "0.5"], ["--length 0.5"]),
        (["hybrid", "a", "b", "--kind", "motion", "--angle", "nan"], ["--angle nan"]),
        (["anagram", "a", "b", "--view", "flip@3"], ["--view flip@3"]),
        (["hybrid", "a", "b", "--from", "ball.png"], ["--from ball.png"]),
        (["hybrid", "a", "--from", "ball.png", "--band", "middle"], ["--band middle"]),
        (["hybrid", "a", "b", "--band", "high"], ["--band high", "--from"]),
        (["hybrid", "a", "--from", "ball.png", "--sigma", "3,1"], ["--sigma 3,1"]),
        (["anagram", "a", "b", "--view", "jigsaw", "--view-seed", "9" * 20], ["--view-seed"]),
        (["morph", "a", "b", "--to-seed", "9" * 20], ["--to-seed"]),
        (["compose", "a", "b", "--mask", "star"], ["--mask star"]),
        (["compose", "a", "b", "--mask", "star"], ["such as circle-mask"]),
        (["compose", "a", "--mask", "left"], ["PROMPT", "two"]),
        (["anagram", "a", "b", "--view", "four-way"], ["--view four-way: names 4", "2 prompts need 1"]),
        (["anagram", "a", "--view", "flip"], ["PROMPT: 1 is given", "two or more"]),
        (["anagram", "a", "b", "--view", "flip", "--weights", "1,2", "--reduce", "alternate"], ["--weights 1,2:"]),
        (["overlay", "a", "b", "c", "--weights", "1,1"], ["--weights 1,1:"]),
        (["hybrid", "a", "b", "c", "--sigma", "2"], ["--sigma 2: 3 parts need 2", "such as 4,2"]),
        (["edit", "ball.png", "a house"], ["(a house); phosphene edit --help"]),
        (["denoise", "ball.png", "--t", ""], ["--t '': give numbers"]),
        (["anagram", "a", "b", "--view", ""], ["--view '': unknown", "or four-way"]),
        (["anagram", "--view", "flip"], ["PROMPT"]),
        (["denoise", "ball.png", "--start", "1", "--t", "1000"], ["--t 1000", "0..999"]),
        (["denoise", "ball.png", "--t", "x"], ["--t x"]),
        (["denoise", "ball.png", "--start", "4"], ["--start 4", "0..3"]),
        (["morph", "a"], ["PROMPT", "two"]),
        (["morph", "a", "b", "--frames", "1"], ["--frames 1"]),
    ],
)
def test_what_cannot_be_is_one_sentence(call, here, cascade, argv, words):  # noqa: F811
    before = sorted(here.iterdir())
    code, _, err = call(*argv, "--model", cascade, *STEPS, "--no-upscale", "-o", "out.png")
    assert code == 2 and err.count("\n") == 1, err
    for word in words:
        assert word in err, err
    assert sorted(here.iterdir()) == before


def test_pictures_of_every_kind_are_read(tmp_path):
    base = Image.new("RGB", (30, 20), "white")
    ImageDraw.Draw(base).rectangle((0, 0, 9, 19), fill=(255, 0, 0))
    for mode, suffix in (
        ("RGB", "jpg"),
        ("L", "png"),
        ("P", "gif"),
        ("RGBA", "webp"),
        ("1", "png"),
        ("CMYK", "jpg"),
        ("LA", "png"),
    ):
        base.convert(mode).save(tmp_path / f"{mode}.{suffix}")
        picture = read_picture(tmp_path / f"{mode}.{suffix}")
        assert picture.mode == "RGB" and picture.size == (30, 20)
        assert picture.getpixel((25, 10))[1] > 240 > 200 > picture.getpixel((4, 10))[1]
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    base.save(tmp_path / "turned.jpg", exif=exif)
    assert read_picture(tmp_path / "turned.jpg").size == (20, 30)
    clear = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    assert read_picture(tmp_path / "clear.png").getpixel((5, 5)) == (255, 255, 255)
    deep = Image.new("I;16", (20, 20), 32768)
    deep.save(tmp_path / "deep.png")
    assert abs(read_picture(tmp_path / "deep.png").getpixel((5, 5))[0] - 128) <= 1


def test_squares_and_tensors():
    wide = Image.new("RGB", (40, 20), (255, 0, 0))
    assert fitted(wide, (16, 16)).getpixel((8, 0)) == (255, 0, 0)
    assert fitted(wide, (16, 16), "pad").getpixel((8, 0)) == (255, 255, 255)
    tensor = to_tensor(fitted(wide, (16, 16)))
    assert tensor.shape == (1, 3, 16, 16) and tensor[0, 0].min() == 1 and tensor[0, 1].max() == -1
    assert MOST_PIXELS < Image.MAX_IMAGE_PIXELS


@given(st.integers(1, 3), st.sampled_from((1, 3)), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32))
def test_pictures_become_tensors_and_tensors_pictures(count, channels, height, width, seed):
    """Each undoes the other: exactly from pictures and back, to half a shade from any tensor in [-1, 1]."""
    x = torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    images = to_images(x)
    assert [(image.size, image.mode) for image in images] == [((width, height), "L" if channels == 1 else "RGB")] * count
    back = to_tensor(*images)
    assert back.shape == x.shape and back.dtype == torch.float32
    torch.testing.assert_close(back, x, rtol=0, atol=1 / 255 + 1e-6)
    assert [image.tobytes() for image in to_images(back)] == [image.tobytes() for image in images]
    torch.testing.assert_close(rescaled((x + 1) / 2).float(), x, rtol=0, atol=1e-6)
    assert to_images(x, 2)[0].size == (2 * width, 2 * height)


def test_what_lies_beyond_the_range_is_cut():
    (image,) = to_images(torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0]).view(1, 1, 1, 5))
    assert list(image.getdata()) == [0, 0, 128, 255, 255]


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 30), st.integers(1, 30))
def test_a_picture_of_any_shape_is_fitted_to_any_shape(width, height, high, wide):
    image = Image.new("RGB", (width, height), (10, 20, 30))
    assert fitted(image, (high, wide)).size == (wide, high)
    assert fitted(image, (high, wide)).getcolors() == [(high * wide, (10, 20, 30))]
    if min(width, height) * min(wide / width, high / height) >= 1:
        padded = fitted(image, (high, wide), "pad")
        assert padded.size == (wide, high) and {c for _, c in padded.getcolors()} <= {(10, 20, 30), (255, 255, 255)}
    if width * high == height * wide:
        assert fitted(image, (high, wide), "pad").getcolors() == [(high * wide, (10, 20, 30))]
