"""Text-to-image models in the layout of DeepFloyd IF: stages that denoise, and the text side that they share.

A folder is one stage, as diffusers writes it, or holds ``stage-1`` and ``stage-2``, each such a folder:

    model_index.json           says that it is one
    unet/ or transformer/      config.json and diffusion_pytorch_model.safetensors
    scheduler/                 scheduler_config.json: schedule, target, variance, thresholding
    image_noising_scheduler/   the same for the picture that a super-resolution stage is shown
    tokenizer/, text_encoder/  T5; one for both stages is enough, and may lie above them

Every size comes from these files. Weights are safetensors; prompt embeddings (``.pth``) are read by torch's loader of
plain tensors. Nothing else is unpickled.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from phosphene.errors import UserError
from phosphene.models import hub
from phosphene.models.prompts import PromptCache
from phosphene.models.protocol import Estimate
from phosphene.schedule import NoiseSchedule, linear, squared_cosine

TOKENS = 77
"""Prompts are padded to as many tokens, and must not be longer: what the text-to-image networks were trained with."""

NOISE_LEVEL = 250
"""How noisy a super-resolution stage is shown the small picture, where nobody says: the default of diffusers."""
OWN_NOISE_LEVEL = 100
"""The same of our upscalers: enough to hide what the first stage got wrong, little enough to keep what it drew."""

PATCHES = "PixArtTransformer2DModel"
"""The network of our own cascades, as diffusers calls it."""

OFFLOADS = ("none", "stages", "layers")
"""What may wait in main memory until it is needed: nothing, the stage that is not at work, all layers but the one at work."""

AGAIN = "fetch the model again"


class Scheduler(NamedTuple):
    """What a ``scheduler_config.json`` says of a model. The defaults are those of diffusers' DDPMScheduler."""

    num_train_timesteps: int = 1000
    beta_schedule: str = "linear"
    beta_start: float = 1e-4
    beta_end: float = 0.02
    trained_betas: Sequence[float] | None = None
    rescale_betas_zero_snr: bool = False
    prediction_type: str = "epsilon"
    variance_type: str = "fixed_small"
    thresholding: bool = False
    dynamic_thresholding_ratio: float = 0.995
    sample_max_value: float = 1.0
    clip_sample: bool = True
    clip_sample_range: float = 1.0
    timestep_spacing: str = "leading"
    steps_offset: int = 0

    @classmethod
    def read(cls, path: Path) -> Scheduler:
        """The settings in the file ``path``; UserError where they ask for what this package does not do."""
        config = _read_json(path)
        scheduler = cls(**{name: config[name] for name in cls._fields if name in config})
        for name, known in _KNOWN.items():
            if getattr(scheduler, name) not in known:
                choices = ", ".join(str(value) for value in known)
                raise UserError(f"{path}: {name} {getattr(scheduler, name)!r} is not supported; it should be {choices}.")
        return scheduler

    def schedule(self) -> NoiseSchedule:
        """The noise schedule that the model was trained with."""
        if self.beta_schedule == "linear":
            return linear(self.num_train_timesteps, self.beta_start, self.beta_end)
        return squared_cosine(self.num_train_timesteps)

    def noise(self, schedule: NoiseSchedule, xt: Tensor, t: Tensor, answer: Tensor) -> Tensor:
        """The noise estimate, from what the network answers. The one place that knows what networks predict."""
        if self.prediction_type == "epsilon":
            return answer
        signal, sigma = schedule.signal_and_noise(t, xt)
        if self.prediction_type == "sample":
            return (xt - signal * answer) / sigma
        return signal * answer + sigma * xt  # v_prediction: signal * noise - sigma * x0 (Salimans & Ho 2022)


_KNOWN = {
    "beta_schedule": ("squaredcos_cap_v2", "linear"),
    "trained_betas": (None,),
    "rescale_betas_zero_snr": (False,),
    "prediction_type": ("epsilon", "sample", "v_prediction"),
    "variance_type": ("learned_range", "fixed_small", "fixed_large"),
    "timestep_spacing": ("leading", "linspace", "trailing"),
    "steps_offset": (0,),
}


class Text:
    """Prompts to embeddings: those of a file, or T5's.

    Tokenizer and encoder are loaded when the first unknown prompt comes; :meth:`free` lets them go. What was encoded
    stays known, and with a ``cache`` is known from then on. ``width`` is that of the networks' text input; ``known`` maps
    prompts to (77, width). Where ``silent``, the encoder is never loaded.
    """

    def __init__(
        self,
        folder: Path | None,
        width: int,
        device: torch.device,
        dtype: torch.dtype,
        known: Mapping[str, Tensor] | None = None,
        cache: PromptCache | None = None,
        silent: bool = False,
        offload: str = "none",
    ) -> None:
        self.cache, self.silent, self.offload = cache, silent, offload
        self.folder, self.width, self.device, self.dtype = folder, width, device, dtype
        self.given = sorted(known or ())
        self._known = {_tidy(prompt): embedding for prompt, embedding in (known or {}).items()}
        self._t5: tuple[Callable, nn.Module] | None = None

    def embed(self, prompt: Hashable | None) -> Tensor:
        """(77, width) float32 on the CPU; None is the empty prompt. UserError where it cannot be had."""
        if prompt is not None and not isinstance(prompt, str):
            raise UserError(f"prompt {prompt!r}: must be text.")
        key = _tidy(prompt or "")
        if key not in self._known:
            kept = self.cache.get(key) if self.cache else None
            # Each prompt is encoded alone, so that its embedding does not depend on its company.
            self._known[key] = self._encode(key) if kept is None else kept
            if self.cache and kept is None:
                self.cache.put(key, self._known[key])
        return self._known[key]

    def free(self) -> None:
        """Let go of tokenizer and encoder (11 GB for DeepFloyd IF, in half precision)."""
        self._t5 = None

    def _require_encoder(self, prompt: str) -> Path:
        """Where the text encoder lies; UserError where it is not there or must not be loaded."""
        if self.folder is not None and not self.silent:
            return self.folder
        if self.given:
            known = ", ".join(repr(p) for p in self.given)
            raise UserError(f"prompt {prompt!r}: is not among the prompt embeddings; choose one of {known}.")
        if self.silent:
            raise UserError(f"prompt {prompt!r}: was never encoded here; leave --text-encoder none out, or give --embeddings.")
        raise UserError(f"prompt {prompt!r}: the model has no text encoder; name a file of prompt embeddings.")

    @torch.no_grad()
    def _encode(self, prompt: str) -> Tensor:
        if self._t5 is None:
            self._t5 = self._load(prompt)
        tokenizer, encoder = self._t5
        tokens = tokenizer(prompt, padding="max_length", max_length=TOKENS, return_tensors="pt").to(self.device)
        if tokens.input_ids.shape[1] > TOKENS:
            raise UserError(f"prompt {prompt!r}: has {tokens.input_ids.shape[1]} tokens, of at most {TOKENS}; shorten it.")
        # The mask goes to T5 and no further: the networks were trained to see the padding.
        hidden = encoder(tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
        return hidden[0].float().cpu()

    def _load(self, prompt: str) -> tuple[Callable, nn.Module]:
        folder = self._require_encoder(prompt)
        from transformers import T5EncoderModel, T5Tokenizer
        from transformers.utils import logging

        tokens, weights = folder / "tokenizer", folder / "text_encoder"
        if not any((tokens / name).is_file() for name in ("tokenizer.json", "spiece.model")):
            # transformers would warn and go on with another tokenizer.
            raise UserError(f"{tokens}: holds neither tokenizer.json nor spiece.model; {AGAIN}.")
        variant = _variant(weights, "model", self.dtype)
        options = {"local_files_only": True, "output_loading_info": True, "use_safetensors": True}
        with _loading(tokens):
            tokenizer = T5Tokenizer.from_pretrained(tokens, local_files_only=True)
        with _loading(weights), _quiet(logging):
            encoder, info = T5EncoderModel.from_pretrained(weights, dtype=self.dtype, variant=variant, **options)
        _require_whole(weights, info)
        if encoder.config.d_model != self.width:
            raise UserError(
                f"{weights / 'config.json'}: d_model is {encoder.config.d_model}, but the stages read {self.width}; "
                "take the text encoder that belongs to them."
            )
        encoder = encoder.requires_grad_(False).eval()
        if self.offload == "layers":
            return tokenizer, _layer_by_layer(encoder, self.device)
        return tokenizer, encoder.to(self.device)  # alone there, and freed before a stage comes


@dataclass(frozen=True, eq=False)
class Stage:
    """One model of a cascade, behind the Denoiser protocol. Pictures lie in [-1, 1]; conditions are prompts, or None.

    A super-resolution stage (one with ``noising``, the schedule of the picture beside) sees the small picture, enlarged
    and noised to ``noise_level``, as further channels of x: see :meth:`beside`.
    """

    network: nn.Module  # a UNet2DConditionModel of diffusers, or what is called like one and has such a ``config``
    scheduler: Scheduler
    schedule: NoiseSchedule
    text: Text
    noising: NoiseSchedule | None = None
    noise_level: int = NOISE_LEVEL
    runs_on: torch.device | None = None  # where it computes, if its weights may wait elsewhere
    value_range: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    def __post_init__(self) -> None:
        if self.noising is not None and not 0 <= self.noise_level < self.noising.steps:
            raise UserError(f"--noise-level {self.noise_level}: must lie in 0..{self.noising.steps - 1}.")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        size, channels = self.network.config.sample_size, self.network.config.in_channels
        height, width = (size, size) if isinstance(size, int) else size
        return (channels if self.noising is None else channels // 2, height, width)

    @property
    def reads(self) -> bool:
        """Whether it is told of prompts; a super-resolution stage may go by the small picture alone."""
        return getattr(self.network, "reads", True)

    @property
    def device(self) -> torch.device:
        return self.runs_on or next(self.network.parameters()).device

    @property
    def learned(self) -> bool:
        """Whether the estimates have a variance."""
        return self.scheduler.variance_type == "learned_range" and self.network.config.out_channels == 2 * self.image_shape[0]

    def embed(self, condition: Hashable | None) -> Tensor:
        """The prompt's embedding (77, width), float32; the empty prompt's for None. Nothing, (0,), where none is read."""
        return self.text.embed(condition) if self.reads else torch.zeros(0)

    def beside(self, small: Tensor, noise: Tensor) -> Tensor:
        """What a super-resolution stage sees beside x: ``small`` (B, C, h, w) enlarged, noised once to ``noise_level``.

        ``noise`` is (B, C, H, W), as the answer. Source: Ho et al. 2022 (cascaded diffusion), conditioning augmentation.
        """
        if self.noising is None:
            raise UserError("stage: is no super-resolution stage; only those see a smaller picture.")
        level = torch.full((len(small),), self.noise_level, device=noise.device)
        shown = beside(self.noising, small, level, noise)
        return shown[:, :-1] if self.network.config.in_channels == 2 * self.image_shape[0] else shown

    def __call__(self, x: Tensor, t: Tensor, embedding: Tensor) -> Estimate:
        """x: (B, C, H, W), or with what :meth:`beside` made after it; t: (B,); embedding: (B, 77, width)."""
        wanted = self.network.config.in_channels
        if x.shape[1] != wanted:
            hint = "" if self.noising is None else "; a super-resolution stage sees a picture beside x"
            raise UserError(f"stage: needs pictures of {wanted} channels, these have {x.shape[1]}{hint}.")
        dtype = next(self.network.parameters()).dtype
        level = None if self.noising is None else torch.full_like(t, self.noise_level)
        answer = self.network(
            x.to(dtype).contiguous(memory_format=torch.channels_last),
            t,
            encoder_hidden_states=embedding.to(dtype),
            class_labels=level,
            return_dict=False,
        )[0].float()
        channels = self.image_shape[0]
        noise = self.scheduler.noise(self.schedule, x[:, :channels], t, answer[:, :channels])
        return Estimate(noise, answer[:, channels:] if self.learned else None)


def beside(noising: NoiseSchedule, small: Tensor, level: Tensor, noise: Tensor) -> Tensor:
    """``small`` (B, C, h, w) enlarged to the size of ``noise`` (B, C, H, W) and noised to ``level`` (B,), and the level.

    The answer is (B, C + 1, H, W); the last channel, level / T, is for networks that are told of it this way.
    """
    enlarged = F.interpolate(small.float(), noise.shape[-2:], mode="bilinear", align_corners=True)
    plane = (level.float() / noising.steps).view(-1, 1, 1, 1).expand(-1, 1, *noise.shape[-2:])
    return torch.cat([noising.add_noise(enlarged, level, noise), plane], 1)


@dataclass(frozen=True, eq=False)
class Cascade:
    """Stages, from the smallest pictures to the largest, and the text side that they share."""

    stages: tuple[Stage, ...]
    text: Text

    def encode(self, prompts: Sequence[str | None]) -> None:
        """Embed ``prompts`` now, so that the text encoder may be freed before the stages need the memory."""
        for prompt in prompts:
            self.text.embed(prompt)

    def free_text(self) -> None:
        """Let go of the text encoder. Prompts that were embedded stay known; the next new one loads it again."""
        self.text.free()


def open_cascade(
    name: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    embeddings: str | Path | None = None,
    stages: int = 2,
    text: bool = True,
    cache: str | Path | None = None,
    offload: str = "none",
) -> Cascade:
    """The cascade called ``name``, or its first ``stages``, ready to run on ``device``.

    ``name`` is an embedded cascade, a folder of one or of a single stage, or a repository of the Hugging Face hub.
    ``dtype`` is float16 by default, and on the CPU float32, but for matrix products of our own networks, which are bfloat16
    where the processor has instructions for that (say torch.float32 to have those exact as well). ``embeddings`` is a file
    of prompt embeddings: a prompt in it needs no text encoder. Without ``text`` none is fetched or loaded. In the folder
    ``cache`` is kept for other processes what a text encoder of transformers said (our own is as quick as reading it).
    ``offload`` is for models larger than the device's memory: with "stages" the one that is not at work waits in main
    memory, with "layers" all layers but the one at work do, which is slow (networks of our own are small and stay). Raises
    UserError where files are missing, damaged or do not fit together.
    """
    if offload not in OFFLOADS:
        raise UserError(f"--offload {offload}: choose one of {', '.join(OFFLOADS)}.")
    device = torch.device(device)
    free = dtype is None and device.type == "cpu"
    dtype = dtype or (torch.float32 if device.type == "cpu" else torch.float16)
    folder = _embedded(name) or Path(name)
    parts = hub.fetch(str(name), dtype, text and embeddings is None, stages) if _on_hub(folder) else _parts(folder)[:stages]
    if _embedded(name):
        from phosphene.models.catalogue import verify

        verify(folder)
    configs = [_network_config(part) for part in parts]
    widths = {width for config in configs if (width := _text_width(config)) is not None}
    if len(widths) > 1:
        raise UserError(f"{folder}: its stages read text of different widths ({widths}); take stages that belong together.")
    if not widths:
        raise UserError(f"{folder}: none of its stages reads text; name a folder that holds a first stage too.")
    width = widths.pop()
    above = [place for place in (Path(folder), *parts) if (place / "text_encoder" / "config.json").is_file()]
    known = None if embeddings is None else read_embeddings(Path(embeddings), width)
    light = configs[0]["_class_name"] == PATCHES
    if light:
        from phosphene.models.light import LightText as Reader
    else:
        Reader = Text
    side = above[0] if above else None
    kept = None if cache is None or side is None or light else PromptCache(Path(cache), side, dtype)
    reader = Reader(side, width, device, dtype, known, kept, silent=not text, offload=offload)
    place = (reader, device, dtype, offload, free)
    opened = tuple(_stage(part, config, *place) for part, config in zip(parts, configs, strict=True))
    if offload == "stages":
        _by_turns([stage.network for stage in opened], device)
    for stage, part in zip(opened[1:], parts[1:], strict=True):
        if stage.noising is None:
            raise UserError(f"{part}: is no super-resolution stage (no class_embed_type timestep); name it stage-1.")
    return Cascade(opened, reader)


def embedded() -> list[str]:
    """Names of the cascades that ship with the package."""
    from phosphene.models.catalogue import EMBEDDED

    return sorted(path.parent.name for path in EMBEDDED.glob("*/stage-1"))


def locate(name: str | Path) -> Path:
    """The folder of a cascade that is on this machine; UserError where it is yet to be fetched."""
    folder = _embedded(name) or Path(name)
    if _on_hub(folder):
        raise UserError(f"{name}: is no folder here; fetch it first: phosphene models fetch {name}.")
    return folder


def describe(name: str | Path) -> dict:
    """What is known of a cascade on this machine without loading it."""
    folder = locate(name)
    stages = []
    for part in _parts(folder):
        config, (scheduler, _) = _network_config(part), _schedule(part / "scheduler")
        stages.append(
            {
                "folder": str(part),
                "network": config["_class_name"],
                "size": config["sample_size"],
                "channels": config.get("in_channels"),
                "text width": _text_width(config),
                "text encoder": (part / "text_encoder" / "config.json").is_file(),
                "predicts": scheduler.prediction_type,
            }
        )
    return {"kind": "cascade", "stages": stages}


def read_embeddings(path: Path, width: int) -> dict[str, Tensor]:
    """A file of prompt embeddings, a dictionary from prompts to (1, 77, width), as prompts to (77, width) float32."""
    example = "it should be a dictionary from prompts to tensors, written by torch.save"
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; name a file of prompt embeddings.") from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        # An UnpicklingError tells at length how to switch the safe loader off: that is no advice to pass on.
        raise UserError(f"{path}: is damaged or holds more than tensors; {example}.") from error
    if not isinstance(held, dict) or not held:
        raise UserError(f"{path}: holds no prompt embeddings; {example}.")
    known = {}
    for prompt, embedding in held.items():
        if not isinstance(prompt, str) or not isinstance(embedding, Tensor):
            raise UserError(f"{path}: holds {type(embedding).__name__} for {prompt!r}; {example}.")
        if tuple(embedding.shape) not in ((1, TOKENS, width), (TOKENS, width)):
            shape = "x".join(str(n) for n in embedding.shape)
            raise UserError(f"{path}: {prompt!r} is {shape}, but this model reads 1x{TOKENS}x{width}; take its own embeddings.")
        known[prompt] = embedding.detach().view(TOKENS, width).float()
    return known


def _tidy(prompt: str) -> str:
    """Prompts as the text encoder reads them: DeepFloyd's case and ends."""
    return prompt.lower().strip()


def _embedded(name: str | Path) -> Path | None:
    """Where the embedded cascade called ``name`` lies, if there is one."""
    from phosphene.models.catalogue import EMBEDDED

    return EMBEDDED / str(name) if (EMBEDDED / str(name) / "stage-1").is_dir() else None


def _on_hub(folder: Path) -> bool:
    """Whether what looks like a folder is a repository's name."""
    return not folder.exists() and hub.NAME.fullmatch(str(folder)) is not None


def is_cascade(name: str | Path) -> bool:
    """Whether ``name`` is a cascade's, and no single network of the MNIST chapter."""
    folder = _embedded(name) or Path(name)
    return _on_hub(folder) or (folder / "model_index.json").is_file() or (folder / "stage-1").is_dir()


def _parts(folder: Path) -> list[Path]:
    """The stage folders of ``folder``."""
    if (folder / "model_index.json").is_file():
        parts = [folder]
    else:
        parts = [folder / name for name in ("stage-1", "stage-2") if (folder / name).is_dir()]
    if not parts:
        missing = "holds neither model_index.json nor stage-1" if folder.is_dir() else "no such folder"
        raise UserError(f"--model {folder}: {missing}; name a folder in the layout of diffusers.")
    for part in parts:
        _read_json(part / "model_index.json")
    return parts


def _network_folder(part: Path) -> Path:
    return part / "transformer" if (part / "transformer").is_dir() else part / "unet"


def _text_width(config: Mapping) -> int | None:
    """Of the text that a network reads; None if it reads none."""
    if config["_class_name"] == PATCHES:
        return config.get("caption_channels")
    return config.get("encoder_hid_dim") or config.get("cross_attention_dim")


def _network_config(part: Path) -> dict:
    path = _network_folder(part) / "config.json"
    config = _read_json(path)
    if config.get("_class_name") not in ("UNet2DConditionModel", PATCHES):
        raise UserError(f"{path}: says {config.get('_class_name')}, not UNet2DConditionModel; this is no model of IF's kind.")
    if not isinstance(config.get("sample_size"), int | list):
        raise UserError(f"{path}: says no sample_size, the height of its pictures; {AGAIN}.")
    return config


def _stage(part: Path, config: Mapping, text: Text, device: torch.device, dtype: torch.dtype, offload: str, quick: bool) -> Stage:
    """``quick``: products of a network of ours may be bfloat16."""
    scheduler, schedule = _schedule(part / "scheduler")
    patches = config["_class_name"] == PATCHES
    shown, said = config.get("in_channels"), config.get("out_channels")
    enlarges = shown != said if patches else config.get("class_embed_type") == "timestep"
    noising = _schedule(part / "image_noising_scheduler")[1] if enlarges else None
    # A picture, or a picture with the small one beside it, goes in; noise comes out, and perhaps a variance.
    fits = isinstance(shown, int) and said in ((shown // 2, shown) if enlarges else (shown, 2 * shown))
    if not fits or (enlarges and shown % 2 != patches):
        path = _network_folder(part) / "config.json"
        raise UserError(f"{path}: {shown} channels in and {said} out are no model of IF's kind; {AGAIN}.")
    if patches:
        from phosphene.models.light import patch_network

        network: nn.Module = patch_network(part / "transformer", config, dtype, quick).to(device)
    else:
        network = _unet(part / "unet", dtype).to(memory_format=torch.channels_last).requires_grad_(False)
        if offload == "layers":
            network = _layer_by_layer(network, device)
        elif offload == "none":
            network = network.to(device)
    runs_on = None if offload == "none" else device
    level = OWN_NOISE_LEVEL if patches else NOISE_LEVEL
    return Stage(network.requires_grad_(False).eval(), scheduler, schedule, text, noising, level, runs_on)


def _layer_by_layer(network: nn.Module, device: torch.device) -> nn.Module:
    """``network`` with its weights in main memory; each layer has them on ``device`` while it is at work."""
    from accelerate import cpu_offload

    return cpu_offload(network, device, offload_buffers=True)


def _by_turns(networks: Sequence[nn.Module], device: torch.device) -> None:
    """Each network comes to ``device`` when it is called, and the one before it goes back to main memory."""
    from accelerate import cpu_offload_with_hook

    hooks: list = []
    for network in networks:
        hooks.append(cpu_offload_with_hook(network, device, hooks[-1] if hooks else None)[1])
    if len(hooks) > 1:  # the first may be called again after the last
        hooks[0].hook.prev_module_hook = hooks[-1]


def _schedule(folder: Path) -> tuple[Scheduler, NoiseSchedule]:
    path = folder / "scheduler_config.json"
    scheduler = Scheduler.read(path)
    try:
        return scheduler, scheduler.schedule()
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: describes no noise schedule ({_first_line(error)}); {AGAIN}.") from error


def _unet(folder: Path, dtype: torch.dtype) -> nn.Module:
    variant = _variant(folder, "diffusion_pytorch_model", dtype)
    from diffusers import UNet2DConditionModel
    from diffusers.utils import logging

    options = {"local_files_only": True, "output_loading_info": True, "use_safetensors": True}
    with _loading(folder), _quiet(logging):
        network, info = UNet2DConditionModel.from_pretrained(folder, torch_dtype=dtype, variant=variant, **options)
    _require_whole(folder, info)
    return network


def _variant(folder: Path, name: str, dtype: torch.dtype) -> str | None:
    """Which of the weight files to read, as diffusers names them: fp16 where half is enough or all there is."""
    plain = [folder / f"{name}.safetensors", folder / f"{name}.safetensors.index.json"]
    half = [folder / f"{name}.fp16.safetensors", folder / f"{name}.safetensors.index.fp16.json"]
    whole, halved = (any(path.is_file() for path in paths) for paths in (plain, half))
    if not whole and not halved:
        pickled = " (pickled weights are not read)" if any(folder.glob("*.bin")) else ""
        raise UserError(f"{plain[0]}: is missing{pickled}; {AGAIN}.")
    return "fp16" if halved and (dtype == torch.float16 or not whole) else None


@contextmanager
def _loading(path: Path) -> Iterator[None]:
    """What the libraries raise at damaged files becomes one sentence."""
    try:
        yield
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be loaded ({_first_line(error)}); {AGAIN}.") from error


@contextmanager
def _quiet(logging: ModuleType) -> Iterator[None]:
    """Neither bars nor warnings from a library, by its ``utils.logging``: what is wrong is said once, by us."""
    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _require_whole(path: Path, info: Mapping) -> None:
    """The libraries fill weights that a file lacks with random numbers, and say so in a log at most."""
    for what in ("missing_keys", "mismatched_keys", "error_msgs"):
        if info.get(what):
            first = sorted(str(name) for name in info[what])[0]
            raise UserError(f"{path}: the weights do not fit config.json ({what.partition('_')[0]}: {first}); {AGAIN}.")


def _read_json(path: Path) -> dict:
    try:
        held = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"{path}: is missing; {AGAIN}.") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: is not readable JSON ({_first_line(error)}); {AGAIN}.") from error
    if not isinstance(held, dict):
        raise UserError(f"{path}: is no JSON object; {AGAIN}.")
    return held


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
