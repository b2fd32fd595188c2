"""phosphene: see what diffusion models do.

Names are resolved on first use, so that ``import phosphene`` (and ``phosphene --help``) does not pay for torch.
"""

from importlib import import_module

__version__ = "0.1.0"

_WHERE = {
    "NoiseSchedule": "schedule",
    "linear": "schedule",
    "rescaled_linear": "schedule",
    "squared_cosine": "schedule",
    "straight": "schedule",
    "cond": "expression",
    "guide": "expression",
    "mean": "expression",
    "viewed": "expression",
    "bands": "expression",
    "masked": "expression",
    "view": "views",
    "denoise": "sampler",
    "draw": "sampler",
    "solver": "sampler",
    "resampled": "sampler",
    "Sampling": "drawing",
    "Task": "drawing",
    "run": "drawing",
    "generators": "sampler",
    "last": "sampler",
    "ancestral": "sampler",
    "ddim": "sampler",
    "heun": "sampler",
    "dpm_solver": "sampler",
    "clamp": "sampler",
    "dynamic_threshold": "sampler",
    "generate": "tasks.generate",
    "edit": "tasks.edit",
    "inpaint": "tasks.inpaint",
    "anagram": "tasks.anagram",
    "hybrid": "tasks.hybrid",
    "compose": "tasks.compose",
    "morph": "tasks.morph",
    "digits": "tasks.digits",
    "ambigram": "tasks.ambigram",
    "load": "models.catalogue",
    "Estimate": "models.protocol",
    "Denoiser": "models.protocol",
    "UserError": "errors",
}

__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> object:
    if name in _WHERE:
        return getattr(import_module(f"phosphene.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'phosphene' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
