"""Make the sheet of a hundred test digits that ships: PHOSPHENE_DATA=DIR python tools/digit_sheet.py"""

from __future__ import annotations

import torch
from PIL import Image

from phosphene.report.part_b import SHEET
from phosphene.training.mnist.data import load_dataset

test = load_dataset("mnist").test
rows = [torch.cat(list(test.images[test.labels == digit][:10, 0]), dim=1) for digit in range(10)]
Image.fromarray(torch.cat(rows).numpy()).save(SHEET, optimize=True)
