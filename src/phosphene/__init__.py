"""phosphene: see what diffusion models do.

Names are resolved on first use, so that ``import phosphene`` (and ``phosphene --help``) does not pay for torch.
"""

__version__ = "0.1.0"

_NAMES = {
    "schedule": "NoiseSchedule linear rescaled_linear squared_cosine straight",
    "expression": "cond guide mean viewed bands masked",
    "views": "view",
    "sampler": "denoise draw resampled generators last ancestral ddim heun dpm_solver clamp dynamic_threshold",
    "drawing": "Sampling Task run",
    "tasks.generate": "generate",
    "tasks.edit": "edit",
    "tasks.inpaint": "inpaint",
    "tasks.anagram": "anagram",
    "tasks.hybrid": "hybrid",
    "tasks.overlay": "overlay",
    "tasks.compose": "compose",
    "tasks.morph": "morph",
    "tasks.digits": "digits",
    "tasks.ambigram": "ambigram",
    "models.catalogue": "load",
    "models.protocol": "Estimate Denoiser",
    "errors": "UserError",
}
"""Of each module those that are the package's own."""
_WHERE = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> object:
    if name in _WHERE:
        from importlib import import_module

        return getattr(import_module(f"phosphene.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'phosphene' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
