"""The cascade: models in the layout of DeepFloyd IF, and loops that are those of diffusers' pipelines."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from conftest import randn
from diffusers import (
    DDPMScheduler,
    IFImg2ImgPipeline,
    IFPipeline,
    IFSuperResolutionPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import T5Config, T5EncoderModel, T5Tokenizer

import phosphene
from phosphene.drawing import Sampling, Task, run
from phosphene.errors import UserError
from phosphene.expression import bands, cond, guide, mean, viewed
from phosphene.forward import Evaluation
from phosphene.models import text as texts
from phosphene.models.cascade import open_cascade
from phosphene.models.protocol import Estimate
from phosphene.models.scheduler import Scheduler
from phosphene.models.text import read_embeddings
from phosphene.sampler import ddim, denoise, draw, generators, last
from phosphene.schedule import CLEAN, squared_cosine
from phosphene.tasks.edit import edit
from phosphene.tasks.generate import asking, enlarge, generate
from phosphene.views import VIEWS

SMALL, LARGE, WIDTH = (3, 16, 16), (3, 32, 32), 32
BOAT, MAN = "an oil painting of a boat", "a photo of an old man"
WEIGHTS = "diffusion_pytorch_model.safetensors"

IF_1 = {
    "beta_schedule": "squaredcos_cap_v2",
    "variance_type": "learned_range",
    "prediction_type": "epsilon",
    "thresholding": True,
    "dynamic_thresholding_ratio": 0.95,
    "sample_max_value": 1.5,
}
IF_2 = {**IF_1, "sample_max_value": 1.0}
BARE = {"safety_checker": None, "feature_extractor": None, "watermarker": None, "requires_safety_checker": False}

QUICK = Sampling(timesteps=(957, 700, 400, 120, 29, 0))
EARLY = Sampling(timesteps=[990, 960, 930, *range(750, -1, -150)])


def tiny_unet(seed, size, **changes):
    """A network of DeepFloyd IF's kind, small and random."""
    torch.manual_seed(seed)
    config = {
        "sample_size": size,
        "layers_per_block": 1,
        "block_out_channels": [32, 64],
        "down_block_types": ["ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"],
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "up_block_types": ["SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"],
        "in_channels": 3,
        "out_channels": 6,
        "cross_attention_dim": WIDTH,
        "encoder_hid_dim": WIDTH,
        "attention_head_dim": 8,
        "addition_embed_type": "text",
        "addition_embed_type_num_heads": 2,
        "cross_attention_norm": "group_norm",
        "resnet_time_scale_shift": "scale_shift",
        "act_fn": "gelu",
    }
    unet = UNet2DConditionModel(**{**config, **changes})
    # A random network with guidance 7 magnifies rounding a hundredfold, as no trained one does: already the layout of
    # its weights in memory would change a picture by 3e-4. With a tenth of the answer it is 2e-5, and a guidance of 7.01
    # still shows.
    with torch.no_grad():
        unet.conv_out.weight.mul_(0.1)
        unet.conv_out.bias.mul_(0.1)
    return unet


def tiny_text(width=WIDTH, known=128):
    torch.manual_seed(7)
    config = {"d_kv": 8, "d_ff": 37, "num_layers": 2, "num_heads": 4, "relative_attention_num_buckets": 8}
    encoder = T5EncoderModel(T5Config(vocab_size=known, d_model=width, feed_forward_proj="gated-gelu", **config))
    trained = Tokenizer(models.Unigram())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    special = {"special_tokens": ["<pad>", "</s>", "<unk>"], "unk_token": "<unk>"}
    trained.train_from_iterator([BOAT, MAN, "blurry"], trainers.UnigramTrainer(vocab_size=100, show_progress=False, **special))
    vocabulary = json.loads(trained.to_str())["model"]["vocab"]
    return T5Tokenizer(vocab=[tuple(entry) for entry in vocabulary], extra_ids=0), encoder


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("a test reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A cascade as diffusers writes it; the text side lies in stage 1 alone."""
    place = tmp_path_factory.mktemp("cascade")
    tokenizer, encoder = tiny_text()
    unet = tiny_unet(1, SMALL[1])
    one = IFPipeline(tokenizer=tokenizer, text_encoder=encoder, unet=unet, scheduler=DDPMScheduler(**IF_1), **BARE)
    one.save_pretrained(place / "stage-1")
    unet = tiny_unet(
        2,
        LARGE[1],
        in_channels=6,
        class_embed_type="timestep",
        mid_block_scale_factor=1.414,
        time_embedding_act_fn="gelu",
        time_embedding_dim=32,
    )
    schedulers = {"scheduler": DDPMScheduler(**IF_2), "image_noising_scheduler": DDPMScheduler(beta_schedule="squaredcos_cap_v2")}
    two = IFSuperResolutionPipeline(tokenizer=None, text_encoder=None, unet=unet, **schedulers, **BARE)
    two.save_pretrained(place / "stage-2")
    return place


@pytest.fixture(scope="session")
def cascade(folder):
    return open_cascade(folder)


@pytest.fixture(scope="session")
def pipelines(folder):
    """diffusers' pipelines over the same files."""
    one = IFPipeline.from_pretrained(folder / "stage-1", **BARE)
    text = {"tokenizer": one.tokenizer, "text_encoder": one.text_encoder}
    two = IFSuperResolutionPipeline.from_pretrained(folder / "stage-2", **text, **BARE)
    every = {"text": one, "image": IFImg2ImgPipeline(**one.components, requires_safety_checker=False), "large": two}
    for pipeline in every.values():
        pipeline.set_progress_bar_config(disable=True)
    return every


@pytest.fixture
def copy(folder, tmp_path):
    """A cascade to damage."""
    return shutil.copytree(folder, tmp_path / "copy")


def theirs(pipeline, prompts, seeds, settings=None, steps=34, **options):
    """What a pipeline of diffusers makes, each picture from its own generator."""
    times = {"num_inference_steps": steps} if settings is None else {"timesteps": list(settings.timesteps)}
    source = seeds if isinstance(seeds[0], torch.Generator) else generators(seeds)
    return pipeline(prompts, generator=source, output_type="pt", clean_caption=False, **times, **options).images


def same(ours, reference, tolerance=1e-4):
    torch.testing.assert_close(ours, reference, rtol=0, atol=tolerance)
    assert reference.std() > 0.02  # not all one colour


def rewritten(stage, tmp_path, **changes):
    """``stage`` under another scheduler config, as diffusers writes it; and that scheduler."""
    theirs = DDPMScheduler(**{**IF_1, **changes})
    theirs.save_pretrained(tmp_path)
    scheduler = Scheduler.read(tmp_path / "scheduler_config.json")
    return replace(stage, scheduler=scheduler, schedule=scheduler.schedule()), theirs


# What a folder says


def test_a_cascade_is_what_its_files_say(cascade):
    one, two = cascade.stages
    assert (one.image_shape, two.image_shape) == (SMALL, LARGE)
    assert one.learned and two.learned and one.value_range == two.value_range == (-1, 1)
    assert one.low_res_schedule is None and two.low_res_schedule.abar.equal(squared_cosine().abar) and two.noise_level == 250
    for stage, maximum in ((one, 1.5), (two, 1.0)):
        assert stage.schedule.abar.equal(squared_cosine(1000).abar)
        assert stage.scheduler.thresholding and stage.scheduler.dynamic_thresholding_ratio == 0.95
        assert stage.scheduler.sample_max_value == maximum
    assert Sampling().visited(one) == list(range(957, -1, -29))
    assert Sampling(steps=10).visited(one) == list(range(900, -1, -100))
    assert Sampling(timesteps=range(990, -1, -30)).visited(one) == list(range(990, -1, -30))


def test_a_stage_alone_is_a_cascade_of_one(folder):
    (alone,) = open_cascade(folder / "stage-1").stages
    assert alone.image_shape == SMALL and alone.embed(BOAT).shape == (77, WIDTH)
    (enlarger,) = open_cascade(folder / "stage-2").stages
    assert enlarger.image_shape == LARGE


@pytest.mark.parametrize("changes", [{}, {"beta_schedule": "linear", "beta_end": 0.01}, {"num_train_timesteps": 200}])
def test_the_schedule_is_the_one_of_diffusers(cascade, tmp_path, changes):
    stage, scheduler = rewritten(cascade.stages[0], tmp_path, **changes)
    torch.testing.assert_close(stage.schedule.abar.float(), scheduler.alphas_cumprod, rtol=2e-5, atol=0)


def test_settings_that_a_config_leaves_out_are_those_of_diffusers(tmp_path):
    (tmp_path / "scheduler_config.json").write_text('{"_class_name": "DDPMScheduler"}')
    defaults = DDPMScheduler().config
    scheduler = Scheduler.read(tmp_path / "scheduler_config.json")
    assert scheduler._asdict() == {name: defaults[name] for name in Scheduler._fields}


def test_files_in_half_precision_and_in_shards_are_read(copy, cascade):
    unet = copy / "stage-1" / "unet"
    theirs = UNet2DConditionModel.from_pretrained(unet)
    (unet / WEIGHTS).unlink()
    theirs.save_pretrained(unet, max_shard_size="1MB")
    assert (unet / f"{WEIGHTS}.index.json").is_file()
    weights = copy / "stage-2" / "unet" / WEIGHTS
    weights.rename(weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    for read, whole in zip(open_cascade(copy).stages, cascade.stages, strict=True):
        state = whole.network.state_dict()
        assert all(value.equal(state[name]) for name, value in read.network.state_dict().items())


def test_nothing_heavy_is_imported_before_a_model_is_opened():
    check = "import sys, phosphene.tasks.generate; sys.exit(any(m in sys.modules for m in ('diffusers', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0


# Parity with the pipelines of diffusers


every_batch = pytest.mark.parametrize("prompts", [[BOAT], [BOAT, MAN]], ids=len)
RUNS = [([BOAT, MAN], 7.0, None), ([BOAT], 7.0, EARLY), *((p, g, QUICK) for p in ([BOAT], [BOAT, MAN]) for g in (7.0, 1.0))]
every_run = pytest.mark.parametrize(("prompts", "guidance", "settings"), RUNS)


def ours(stage, task, seeds, sampling=QUICK, **changes):
    return last(run(task, stage, seeds, sampling=sampling._replace(**changes)))


@every_run
def test_text_to_image_is_the_pipeline_of_diffusers(cascade, pipelines, prompts, guidance, settings):
    seeds = [180, 3][: len(prompts)]
    reference = theirs(pipelines["text"], prompts, seeds, settings, guidance_scale=guidance)
    same(ours(cascade.stages[0], generate(prompts), seeds, settings or Sampling(), guidance=guidance), reference)


def test_parity_shows_what_is_off(cascade):
    # The tests around would notice a guidance of 7.01, another prompt, seed or timestep.
    def make(prompts=(BOAT,), seed=180, guidance=7.0, settings=QUICK):
        return ours(cascade.stages[0], generate(prompts), [seed], settings, guidance=guidance)

    other_times = Sampling(timesteps=[956, *QUICK.timesteps[1:]])
    for odd in (make(guidance=7.01), make([MAN]), make(seed=181), make(settings=other_times)):
        assert (odd - make()).abs().max() > 5e-4


def test_a_negative_prompt_is_the_one_of_diffusers(cascade, pipelines):
    reference = theirs(pipelines["text"], [BOAT], [1], QUICK, guidance_scale=3, negative_prompt=["blurry"])
    same(ours(cascade.stages[0], generate([BOAT], negative="blurry"), [1], guidance=3), reference)


@pytest.mark.parametrize(
    "changes",
    [
        {"thresholding": False},  # clamped instead
        {"prediction_type": "sample"},
        {"prediction_type": "v_prediction"},
        {"variance_type": "fixed_small"},
        {"variance_type": "fixed_large"},
        {"beta_schedule": "linear"},
        {"timestep_spacing": "trailing", "num_train_timesteps": 500},
    ],
    ids=str,
)
def test_other_schedulers_are_those_of_diffusers(cascade, pipelines, tmp_path, changes):
    stage, scheduler = rewritten(cascade.stages[0], tmp_path, **changes)
    pipeline = IFPipeline(**{**pipelines["text"].components, "scheduler": scheduler}, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    # Gentle, since a random network taken to predict the picture itself hops from one to another.
    found = ours(stage, generate([BOAT, MAN]), [1, 2], Sampling(steps=8), guidance=1.5)
    same(found, theirs(pipeline, [BOAT, MAN], [1, 2], steps=8, guidance_scale=1.5))


def test_without_thresholding_estimates_are_left_as_they_are(cascade, pipelines, tmp_path):
    scheduler = DDPMScheduler(**{**IF_1, "thresholding": False, "clip_sample": False})
    pipeline = IFPipeline(**{**pipelines["text"].components, "scheduler": scheduler}, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    reference = theirs(pipeline, [BOAT], [1], QUICK, guidance_scale=7)
    found = ours(cascade.stages[0], generate([BOAT]), [1], threshold=False)
    assert reference.abs().max() > 5
    torch.testing.assert_close(found / reference.abs().max(), reference / reference.abs().max(), rtol=0, atol=1e-4)
    stage, _ = rewritten(cascade.stages[0], tmp_path, thresholding=False, clip_sample=False)
    assert ours(stage, generate([BOAT]), [1]).abs().max() > 5


@every_run
def test_image_to_image_is_the_pipeline_of_diffusers(cascade, pipelines, prompts, guidance, settings):
    seeds, images = [180, 3][: len(prompts)], randn(len(prompts), *SMALL, seed=4).clamp(-1, 1)
    count = 34 if settings is None else len(settings.timesteps)
    reference = theirs(pipelines["image"], prompts, seeds, settings, image=images, strength=0.7, guidance_scale=guidance)
    start = count - int(0.7 * count)
    task = Task(asking(prompts), image=images, starts=[start])
    same(ours(cascade.stages[0], task, seeds, settings or Sampling(), guidance=guidance), reference)


@every_batch
@pytest.mark.parametrize("guidance", [4.0, 1.0])
@pytest.mark.parametrize("level", [250, 40])
def test_super_resolution_is_the_pipeline_of_diffusers(cascade, pipelines, prompts, guidance, level):
    seeds, small = [180, 3][: len(prompts)], randn(len(prompts), *SMALL, seed=4).clamp(-1, 1)
    options = {"image": small, "noise_level": level, "guidance_scale": guidance}
    reference = theirs(pipelines["large"], prompts, seeds, QUICK, **options)
    stage = replace(cascade.stages[1], noise_level=level)
    same(ours(stage, enlarge(small, prompts), seeds, upscale_guidance=guidance), reference)
    same(ours(cascade.stages[1], enlarge(small, prompts), seeds, upscale_guidance=guidance, noise_level=level), reference)


def test_the_small_picture_and_its_noise_level_show(cascade):
    small, stage = randn(1, *SMALL, seed=4).clamp(-1, 1), cascade.stages[1]

    def make(small=small, level=250):
        return ours(stage, enlarge(small, [BOAT]), [1], upscale_guidance=1, noise_level=level)

    for odd in (make(-small), make(level=251)):
        assert (odd - make()).abs().max() > 5e-4


def test_a_cascade_is_the_pipelines_one_after_the_other(cascade, pipelines):
    # With the defaults of either side: 34 steps, guidance 7 and 4. The generators go on from stage to stage.
    source = generators([180])
    small = theirs(pipelines["text"], [BOAT], source)
    large = theirs(pipelines["large"], [BOAT], source, steps=34, image=small)
    steps = list(run(generate([BOAT]), cascade, [180]))
    one, two = (Sampling().visited(stage) for stage in cascade.stages)
    assert [step.t for step in steps] == [*one[1:], CLEAN, *two[1:], CLEAN]
    first, second = (step.xt for step in steps if step.t == CLEAN)
    same(first, small)
    same(second, large)
    assert last(run(generate([BOAT]), cascade.stages[0], [180])).equal(first)


# Seeds, rows, precision


def test_image_k_of_a_batch_is_the_image_made_alone(cascade):
    together = ours(cascade, generate([BOAT]), [180, 7])
    for k, seed in enumerate([180, 7]):
        same(together[k : k + 1], ours(cascade, generate([BOAT]), [seed]), 1e-4)
    assert (together[0] - together[1]).abs().max() > 0.1


@pytest.mark.parametrize(
    ("expression", "rows"),
    [
        (guide(cond(BOAT)), 2),
        (guide(cond(BOAT), scale=1), 1),
        (guide(cond(BOAT), away=cond("blurry")), 2),
        (bands(guide(cond(BOAT)), guide(cond(MAN))), 3),
        (mean(guide(cond(BOAT)), viewed(guide(cond(MAN)), VIEWS["flip"])), 4),
    ],
)
def test_a_step_is_one_forward_pass_of_so_many_rows(cascade, expression, rows):
    shapes = []
    for stage, beside in zip(cascade.stages, (None, randn(2, *LARGE)), strict=True):
        hook = stage.network.register_forward_pre_hook(lambda _, arguments: shapes.append(tuple(arguments[0].shape)))
        x = draw(generators([1, 2]), 2, stage.image_shape)
        last(denoise(stage, expression, x, [500, 20], solver=ddim, low_res=beside))
        hook.remove()
    assert shapes == [(2 * rows, *SMALL)] * 2 + [(2 * rows, 6, *LARGE[1:])] * 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_networks_run_in_their_own_precision_and_answer_in_single(folder, cascade, dtype):
    x, t = draw(generators([1, 2]), 2, SMALL), torch.tensor([600, 5])
    stage = open_cascade(folder / "stage-1", dtype=dtype).stages[0]
    assert {p.dtype for p in stage.network.parameters()} == {dtype}
    embedding = torch.stack([stage.embed(BOAT), stage.embed(None)])
    assert embedding.dtype == torch.float32
    answer, exact = stage(x, t, embedding), cascade.stages[0](x, t, embedding)
    assert answer.noise.dtype == answer.variance.dtype == torch.float32
    torch.testing.assert_close(answer.noise, exact.noise, rtol=0, atol=2e-3 if dtype == torch.float16 else 2e-2)
    # On the way from noise to picture nothing but the network is in half precision.
    assert ours(stage, generate([BOAT]), [1]).dtype == torch.float32


# The picture beside


@pytest.mark.parametrize("view", ["flip", "rotate-90", "negate"])
def test_a_view_shows_the_picture_beside_as_well(cascade, view):
    stage, view = cascade.stages[1], VIEWS[view]
    x, beside = randn(2, *LARGE, seed=1), randn(2, *LARGE, seed=2)
    through = Evaluation(viewed(guide(cond(BOAT)), view), stage, low_res=beside)(x, 400)
    turned = Evaluation(guide(cond(BOAT)), stage, low_res=view.apply(beside))(view.apply(x), 400)
    torch.testing.assert_close(through.noise, view.invert(turned.noise), rtol=0, atol=1e-5)
    torch.testing.assert_close(through.variance, view.sign * view.invert(turned.variance), rtol=0, atol=1e-5)
    assert through.noise.shape == through.variance.shape == x.shape
    # A picture beside that stays as it is shows.
    left = Evaluation(guide(cond(BOAT)), stage, low_res=beside)(view.apply(x), 400)
    assert (view.invert(left.noise) - through.noise).abs().max() > 1e-3


def test_a_run_through_a_view_is_the_run_of_what_it_shows(cascade):
    stage, flip = cascade.stages[1], VIEWS["flip"]
    x, beside = draw(generators([1]), 1, LARGE), randn(1, *LARGE, seed=2)

    def make(expression, x, beside):
        return last(denoise(stage, expression, x, [900, 500, 100, 0], solver=ddim, low_res=beside))

    through = make(viewed(cond(BOAT), flip), x, beside)
    torch.testing.assert_close(through, flip.invert(make(cond(BOAT), flip.apply(x), flip.apply(beside))), rtol=1e-4, atol=1e-4)


def test_the_law_of_expressions_holds_beside_a_picture(cascade):
    # Shown the same noise through its view, each leaf says that noise, and so does the whole: whatever lies beside.
    x, beside, shown = randn(2, 3, 8, 8, seed=1), randn(2, 5, 8, 8, seed=2), []

    class EchoBeside:
        image_shape, value_range, schedule = (3, 8, 8), (-1.0, 1.0), squared_cosine()

        def embed(self, condition):
            return torch.zeros(1)

        def __call__(self, x, t, embedding):
            shown.append(x)
            return Estimate(x[:, :3])

    expression = mean(guide(cond("a")), viewed(guide(cond("b")), VIEWS["flip"]), viewed(cond("c"), VIEWS["rotate-90"]))
    for rows in (None, 3):
        said = Evaluation(expression, EchoBeside(), rows, low_res=beside)(x, 10)
        torch.testing.assert_close(said.noise, x, rtol=0, atol=1e-5)
    pictures = torch.cat(shown[1:])  # in chunks of three
    assert pictures.equal(shown[0]) and pictures.shape == (10, 8, 8, 8)
    assert pictures[:2, 3:].equal(beside) and pictures[4:6, 3:].equal(beside.flip(-2))


def test_the_rows_of_a_super_resolution_may_be_split(folder):
    """In double precision: in single, batches of other sizes round otherwise, and six steps make 6e-5 of that at times."""
    stage = open_cascade(folder, dtype=torch.float64).stages[1]
    task = enlarge(randn(2, *SMALL, seed=4), [BOAT])
    whole, split = (ours(stage, task, [1, 2], max_rows=rows) for rows in (None, 3))
    same(split, whole, 1e-5)


def test_other_solvers_reach_the_picture_too(cascade):
    for name in ("ddim", "dpm", "heun"):
        assert ours(cascade, generate([BOAT]), [1], Sampling(name, steps=4)).abs().max() < 2


# The text side


def test_embeddings_are_those_of_diffusers(folder, pipelines):
    text = open_cascade(folder).text
    for prompt in (BOAT, f"  {BOAT.upper()} ", ""):
        reference, _ = pipelines["text"].encode_prompt(prompt, do_classifier_free_guidance=False)
        torch.testing.assert_close(text.embed(prompt), reference[0], rtol=0, atol=1e-5)
    assert text.embed(None).equal(text.embed(""))
    assert (text.embed(BOAT) - text.embed(MAN)).abs().max() > 0.1


def test_the_text_encoder_is_loaded_when_needed_and_kept_until_freed(folder, monkeypatch):
    loads, load = [], T5EncoderModel.from_pretrained
    monkeypatch.setattr(T5EncoderModel, "from_pretrained", lambda *a, **k: loads.append(1) or load(*a, **k))
    cascade = open_cascade(folder)
    assert loads == []
    cascade.encode([BOAT, None])
    assert cascade.stages[1].embed(BOAT) is cascade.stages[0].embed(BOAT)
    assert loads == [1]
    cascade.free_text()
    ours(cascade.stages[0], generate([BOAT]), [1])
    assert loads == [1]
    cascade.text.embed(MAN)
    assert loads == [1, 1]


def test_the_text_side_may_lie_above_the_stages(copy, cascade):
    for part in ("tokenizer", "text_encoder"):
        (copy / "stage-1" / part).rename(copy / part)
    assert open_cascade(copy).stages[1].embed(BOAT).equal(cascade.text.embed(BOAT))


@pytest.mark.parametrize("offload", ["stages", "layers"])
def test_weights_may_wait_in_main_memory(folder, cascade, offload):
    """The picture is the same. That it saves a GPU's memory shows on a GPU only."""
    other = open_cascade(folder, offload=offload)
    wanted_picture, found = (ours(c, generate([BOAT]), [1]) for c in (cascade, other))
    torch.testing.assert_close(found, wanted_picture, rtol=0, atol=1e-5)
    places = {p.device.type for stage in other.stages for p in stage.network.parameters()}
    assert places == {"meta" if offload == "layers" else "cpu"}
    assert [stage.device.type for stage in other.stages] == ["cpu", "cpu"]
    for opens in (open_cascade, phosphene.load):
        with pytest.raises(UserError, match="--offload disk: unknown; choose none, stages or layers"):
            opens(folder, offload="disk")
    with pytest.raises(UserError, match="--compile: .* --offload layers moves them; choose one"):
        open_cascade(folder, offload="layers", compiled=True)
    with pytest.raises(UserError, match="--compile: is for GPUs, and this runs on cpu; leave it out"):
        open_cascade(folder, compiled=True)
    with pytest.raises(TypeError, match="offload: for text-to-image cascades, and class-20 is none"):
        phosphene.load("class-20", offload="stages")


def test_the_tokenizer_of_deepfloyd_is_a_sentencepiece_model(copy):
    """Its repository has spiece.model and no tokenizer.json."""
    import sentencepiece

    folder = copy / "stage-1" / "tokenizer"
    (folder / "tokenizer.json").unlink()
    options = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, "vocab_size": 48, "hard_vocab_limit": False}
    sentences, prefix = iter([BOAT, MAN, "blurry"] * 20), str(folder / "spiece")
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=sentences, model_prefix=prefix, minloglevel=2, **options)
    expected = [*sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.model").encode(BOAT), 1]
    encoder = T5EncoderModel.from_pretrained(copy / "stage-1" / "text_encoder")
    padded = torch.tensor([expected + [0] * (77 - len(expected))])
    with torch.no_grad():
        wanted = encoder(padded, attention_mask=(padded != 0).long()).last_hidden_state[0]
    torch.testing.assert_close(open_cascade(copy).text.embed(BOAT), wanted, rtol=0, atol=1e-6)


def test_of_what_was_encoded_the_oldest_is_forgotten(folder, monkeypatch):
    monkeypatch.setattr(texts, "MOST_KNOWN", 2)
    text, encoded = open_cascade(folder).text, []
    encode = text._encode
    monkeypatch.setattr(text, "_encode", lambda key, *how: encoded.append(key) or encode(key, *how))
    first = text.embed(BOAT)
    for prompt in (MAN, BOAT, "a third", MAN, BOAT):
        assert text.embed(prompt).equal(first) == (prompt == BOAT)
    assert encoded == [each.lower() for each in (BOAT, MAN, "a third", BOAT)]


def test_what_was_encoded_once_is_not_encoded_again(folder, copy, tmp_path, monkeypatch):
    loads, load = [], T5EncoderModel.from_pretrained
    monkeypatch.setattr(T5EncoderModel, "from_pretrained", lambda *a, **k: loads.append(1) or load(*a, **k))
    cache = tmp_path / "prompts"
    first = open_cascade(folder, cache=cache).text.embed(BOAT)
    again = open_cascade(folder, cache=cache)
    assert again.text.embed(f" {BOAT.upper()}").equal(first) and loads == [1]
    # Without a text encoder, what is kept is all there is.
    silent = open_cascade(folder, cache=cache, text=False)
    assert silent.text.embed(BOAT).equal(first)
    with pytest.raises(UserError, match="was never encoded here; leave --text-encoder none out"):
        silent.text.embed(MAN)
    assert loads == [1]
    # Another encoder, of the same files but for its weights, does not take it for its own.
    weights = copy / "stage-1" / "text_encoder" / "model.safetensors"
    encoder = load(weights.parent)
    encoder.get_input_embeddings().weight.data.mul_(2)
    encoder.save_pretrained(weights.parent)
    assert not open_cascade(copy, cache=cache).text.embed(BOAT).equal(first) and len(loads) == 2
    # A damaged file is made anew, and where nothing can be kept nothing is missed.
    kept = [p for p in cache.rglob("*.safetensors") if again.text.cache.folder in p.parents]
    assert len(kept) == 1
    kept[0].write_bytes(b"no")
    assert open_cascade(folder, cache=cache).text.embed(BOAT).equal(first) and len(loads) == 3
    assert open_cascade(folder, cache=cache).text.embed(BOAT).equal(first) and len(loads) == 3
    (tmp_path / "file").write_text("")
    assert open_cascade(folder, cache=tmp_path / "file" / "below").text.embed(BOAT).equal(first)


def test_a_file_of_prompt_embeddings_takes_the_place_of_the_text_encoder(folder, copy, tmp_path, cascade):
    for part in ("tokenizer", "text_encoder"):
        shutil.rmtree(copy / "stage-1" / part)
    path = tmp_path / "prompts.pth"
    held = {prompt: cascade.text.embed(prompt)[None].half() for prompt in (BOAT, MAN, "")}
    torch.save(held, path)
    file = open_cascade(copy, embeddings=path)
    assert file.text.embed(f"{BOAT.upper()} ").equal(held[BOAT][0].float()) and file.text.embed(None).equal(held[""][0].float())
    from_file, from_text = (ours(c, generate([BOAT]), [1]) for c in (file, cascade))
    torch.testing.assert_close(from_file, from_text, rtol=0, atol=0.05)
    with pytest.raises(UserError, match=f"'a ship': is not among .* '', '{MAN}', '{BOAT}'"):
        file.text.embed("a ship")
    with pytest.raises(UserError, match="no text encoder; name a file of prompt embeddings"):
        open_cascade(copy).text.embed(BOAT)
    # Where both are there, the encoder knows what the file does not.
    assert open_cascade(folder, embeddings=path).text.embed("blurry").equal(cascade.text.embed("blurry"))


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({BOAT: torch.zeros(1, 77, 16)}, "is 1x77x16, but this model reads 1x77x32"),
        ({BOAT: torch.zeros(1, 76, WIDTH)}, "is 1x76x32"),
        ({BOAT: [1.0]}, "holds list for"),
        ({}, "no prompt embeddings"),
        (torch.zeros(77, WIDTH), "no prompt embeddings"),
        ({BOAT: socket.AddressFamily.AF_INET}, "more than tensors"),  # any class that the safe loader does not know
    ],
)
def test_files_that_are_no_prompt_embeddings_are_refused(tmp_path, held, message):
    path = tmp_path / "prompts.pth"
    torch.save(held, path)
    with pytest.raises(UserError, match=f"prompts.pth: .*{message}"):
        read_embeddings(path, WIDTH)


def test_damaged_and_missing_prompt_embeddings_are_refused(tmp_path):
    path = tmp_path / "prompts.pth"
    with pytest.raises(UserError, match="prompts.pth: no such file"):
        read_embeddings(path, WIDTH)
    torch.save({BOAT: torch.zeros(1, 77, WIDTH)}, path)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"not a file of torch"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="prompts.pth: is damaged"):
            read_embeddings(path, WIDTH)


@pytest.mark.parametrize(("prompt", "message"), [("boat " * 80, "tokens, of at most 77; shorten"), (3, "must be text")])
def test_prompts_that_cannot_be_embedded_are_refused(cascade, prompt, message):
    with pytest.raises(UserError, match=message):
        cascade.text.embed(prompt)


# What is refused


def edited(path, **changes):
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, **changes}))


def without(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def pickled(path):
    path.rename(path.with_suffix(".bin"))


def truncated(path):
    path.write_bytes(path.read_bytes()[:1000])


def lacking(path):
    weights = load_file(path)
    del weights["conv_in.bias"]
    save_file(weights, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        (f"stage-1/unet/{WEIGHTS}", without, f"unet/{WEIGHTS}: is missing; fetch"),
        (f"stage-1/unet/{WEIGHTS}", pickled, f"unet/{WEIGHTS}: is missing .pickled weights are not read"),
        (f"stage-1/unet/{WEIGHTS}", truncated, f"stage-1/unet/{WEIGHTS}: (is damaged|does not fit)"),
        (
            f"stage-2/unet/{WEIGHTS}",
            lacking,
            f"stage-2/unet/{WEIGHTS}: does not fit .*conv_in.bias",
        ),
        ("stage-1/unet/config.json", without, "stage-1/unet/config.json: is missing"),
        ("stage-1/unet/config.json", truncated, "stage-1/unet/config.json: is not readable JSON"),
        ("stage-1/unet/config.json", {"_class_name": "UNet2DModel"}, "says UNet2DModel, not UNet2DConditionModel"),
        ("stage-1/unet/config.json", {"in_channels": 4}, "4 channels in and 6 out"),
        ("stage-1/unet/config.json", {"sample_size": None}, "no sample_size"),
        ("stage-1/unet/config.json", {"block_out_channels": [32, 96]}, f"stage-1/unet/{WEIGHTS}: does not fit this network"),
        ("stage-1/unet/config.json", {"encoder_hid_dim": 16}, "different widths"),
        ("stage-1/model_index.json", without, "stage-1/model_index.json: is missing"),
        ("stage-1/scheduler/scheduler_config.json", without, "scheduler_config.json: is missing"),
        ("stage-2/scheduler/scheduler_config.json", {"variance_type": "learned"}, "variance_type 'learned' is not supported"),
        ("stage-2/scheduler/scheduler_config.json", {"beta_schedule": "sigmoid"}, "squaredcos_cap_v2, linear"),
        ("stage-2/scheduler/scheduler_config.json", {"num_train_timesteps": "many"}, "num_train_timesteps .many. is not"),
        ("stage-2/image_noising_scheduler", without, "image_noising_scheduler/scheduler_config.json: is missing"),
    ],
)
def test_damaged_folders_are_refused_with_the_file_and_the_remedy(copy, file, damage, message):
    edited(copy / file, **damage) if isinstance(damage, dict) else damage(copy / file)
    with pytest.raises(UserError, match=message):
        open_cascade(copy)


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("text_encoder/model.safetensors", without, "text_encoder/model.safetensors: is missing"),
        ("text_encoder/model.safetensors", truncated, "text_encoder: cannot be loaded"),
        ("text_encoder/config.json", {"num_layers": 3}, "text_encoder: the weights do not fit config.json"),
        ("tokenizer/tokenizer.json", without, "tokenizer: holds neither tokenizer.json nor spiece.model"),
        ("tokenizer/tokenizer.json", truncated, "tokenizer: cannot be loaded"),
    ],
)
def test_damaged_text_sides_are_refused_when_a_prompt_comes(copy, file, damage, message):
    path = copy / "stage-1" / file
    edited(path, **damage) if isinstance(damage, dict) else damage(path)
    text = open_cascade(copy).text
    with pytest.raises(UserError, match=message):
        text.embed(BOAT)


def test_a_text_encoder_of_another_width_is_refused(copy):
    _, encoder = tiny_text(width=16)
    encoder.save_pretrained(copy / "stage-1" / "text_encoder")
    with pytest.raises(UserError, match="d_model is 16, but the stages read 32"):
        open_cascade(copy).text.embed(BOAT)


def test_a_text_encoder_that_knows_fewer_ids_than_its_tokenizer_is_refused(copy):
    tiny_text(known=5)[1].save_pretrained(copy / "stage-1" / "text_encoder")
    with pytest.raises(UserError, match=r"tokenizer: says \d+, and its text encoder knows 5 ids; fetch or train"):
        open_cascade(copy).text.embed(BOAT)


def test_folders_that_hold_no_model_are_refused(tmp_path, copy):
    with pytest.raises(UserError, match="--model .*: holds neither model_index.json nor stage-1"):
        open_cascade(tmp_path / "copy" / "stage-1" / "unet")
    with pytest.raises(UserError, match="--model .*nowhere: no such folder"):
        open_cascade(tmp_path / "nowhere")
    shutil.rmtree(copy / "stage-2")
    shutil.copytree(copy / "stage-1", copy / "stage-2")
    with pytest.raises(UserError, match="stage-2: is no super-resolution stage"):
        open_cascade(copy)


def test_stages_refuse_each_others_tasks(cascade):
    one, two = cascade.stages
    small, x = randn(1, *SMALL), randn(1, *LARGE)
    with pytest.raises(UserError, match="take a model with a first stage"):
        run(generate([BOAT]), two, [1])
    with pytest.raises(UserError, match="take a model with a first stage"):
        run(edit(x, [3], BOAT), two, [1])
    with pytest.raises(UserError, match="take a model with a second stage"):
        run(enlarge(small, [BOAT]), one, [1])
    with pytest.raises(UserError, match="take a model with a second stage"):
        run(generate([BOAT]), [one, one], [1])
    with pytest.raises(UserError, match="no super-resolution stage"):
        one.low_res(small, x)
    with pytest.raises(UserError, match="needs pictures of 6 channels, these have 3; a super-resolution stage sees"):
        next(denoise(two, cond(BOAT), x, [5]))
    with pytest.raises(UserError, match="needs pictures of 3 channels, these have 6"):
        next(denoise(one, cond(BOAT), small, [5], low_res=small))


def test_settings_out_of_range_are_refused(cascade):
    one, two = cascade.stages
    for start in (-1, 34):
        with pytest.raises(UserError, match=f"--start {start}: must lie in 0..33"):
            run(edit(randn(1, *SMALL), [start], BOAT), one, [1])
    for shape, seeds in (((1, 3, 8, 8), [1]), ((1, 1, 16, 16), [1]), ((2, *SMALL), [1, 2, 3])):
        with pytest.raises(UserError, match="this stage draws 3x16x16"):
            run(edit(randn(*shape), [3], BOAT), one, seeds)
    with pytest.raises(UserError, match="--seed: 2 seeds for 1 images"):
        run(enlarge(randn(1, *SMALL), [BOAT]), two, [1, 2])
    for level in (-1, 1000):
        with pytest.raises(UserError, match=f"--noise-level {level}: must lie in 0..999"):
            run(generate([BOAT]), cascade, [1], sampling=Sampling(noise_level=level))
    with pytest.raises(UserError, match="--eta"):
        run(generate([BOAT]), one, [1], sampling=Sampling("dpm", eta=0.5))
    with pytest.raises(UserError, match="--steps 2000"):
        run(generate([BOAT]), one, [1], sampling=Sampling(steps=2000))
