"""What people type first: the examples of each command's help."""

from __future__ import annotations

import inspect

import typer

EXAMPLES = {
    "digits": ("phosphene digits 0123456789 -o digits.png", "phosphene digits 7 --count 12 --solver dpm -o sevens.png"),
    "denoise-digits": ("phosphene denoise-digits --dataset digits -o denoised.png",),
    "ambigram": ("phosphene ambigram 69 --sheet -o ambigram.png", "phosphene ambigram --all --solver dpm -o table.png"),
    "generate": (
        'phosphene generate "a castle on a hill" -o castle.png',
        'phosphene generate "a fox" "an oil painting of a fox" --count 3 -o foxes.png',
        'phosphene generate "a red car" --guidance-sweep 1,3,7 -o sweep.png',
    ),
    "denoise": ('phosphene denoise castle-hill --prompt "a castle" -o denoise.png',),
    "edit": ("phosphene edit sketch-house -o house.png", 'phosphene edit clock-tower --prompt "a rocket ship" -o rocket.png'),
    "inpaint": ('phosphene inpaint castle-hill castle-hill-mask --prompt "a house" -o inpaint.png',),
    "anagram": (
        'phosphene anagram "a castle" "an elephant" --view rotate-180 --seed 193 --sheet -o castle.png',
        'phosphene anagram "a police car" "a koala" --view flip --best-of 8 --animate turn.gif -o koala.png',
        'phosphene anagram "a sunflower" "a cat face" --view cylinder --print a4 -o mirror.png',
    ),
    "hybrid": ('phosphene hybrid "a house" "a dog face" --sigma 3 --sheet -o hybrid.png',),
    "overlay": ('phosphene overlay "a red heart" "a sunflower" "a smiling face" --print a4 -o overlay.png',),
    "compose": ('phosphene compose "a smiling face" "a sunflower" --mask circle -o compose.png',),
    "morph": ('phosphene morph "a dog face" "a cat face" --frames 16 --animate morph.gif -o morph.png',),
    "pairs": ('phosphene pairs "a duck"', 'phosphene pairs "a duck" "a palm tree"', "phosphene pairs --view flip --count 20"),
    "report": ("phosphene report --quick -o report", "phosphene report --sections 1.8,ambigrams -o report"),
    "inspect": ("phosphene inspect castle.png",),
    "rerun": ("phosphene rerun castle.png",),
}
"""By the name of a command, what to type; the first comes out well."""


def show(app: typer.Typer) -> None:
    """Put the examples into the help of the commands of ``app``, behind what is said of them."""
    for command in app.registered_commands:
        name = command.name or command.callback.__name__.replace("_", "-")
        if name in EXAMPLES:
            lines = "\n".join(f"  {line}" for line in EXAMPLES[name])
            # \b: the lines are kept as they are
            command.help = f"{inspect.getdoc(command.callback)}\n\n\b\nExamples:\n{lines}"
