"""What a cascade's first stage makes of no prompt, learned for itself: of a picture that is edited, and nothing is said of it.

In a cascade's own training one picture in some is shown without words, and what it draws of nothing serves to lead away from.
Where nothing is all that is said, what was learned from such pictures alone decides what becomes of what the noise has hidden:
a difference of low rank learns from such pictures alone, half of them simple drawings, and is asked for nothing else.
"""

from __future__ import annotations

import json
from pathlib import Path

from phosphene.files import write_text
from phosphene.models.folders import ADAPTED
from phosphene.training.text_to_image.low_rank import DifferenceTrainer


class UnpromptedTrainer(DifferenceTrainer):
    """As for the stages, on pictures of which nothing is said."""

    def tell(self, folder: Path) -> None:
        write_text(folder / ADAPTED, json.dumps({"base": self.recipe.distils}, indent=2) + "\n")
