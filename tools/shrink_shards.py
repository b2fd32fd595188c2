"""Write captioned pictures smaller, as one shard: ``python tools/shrink_shards.py IN OUT.tar --size 80``.

For machines that the full set cannot be carried to. Masks stay lossless; the rest is WebP at quality 92 with exact alpha,
which keeps colours at half the size, or with ``--lossless`` as it is.
``--captions tools/captions.tsv`` adds what the table says of each picture and leaves out what is no plain thing.
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from PIL import Image
from words import Table

from phosphene.training.text_to_image.captions import MASK, Subject
from phosphene.training.text_to_image.pictures import premultiplied, read


def straight(layers: np.ndarray) -> Image.Image:
    """The picture of premultiplied (S, S, 4) bytes."""
    layers = layers.astype(np.float32)
    alpha = layers[..., 3:]
    colour = layers[..., :3] * 255 / np.maximum(alpha, 1)
    return Image.fromarray(np.concatenate([colour.round().clip(0, 255), alpha], 2).astype(np.uint8), "RGBA")


def add(tar: tarfile.TarFile, key: str, image: Image.Image, subject: Subject, lossless: bool = False, method: int = 4) -> None:
    """One captioned picture of a shard; masks are ``lossless`` in any case. ``method``: WebP's effort, 0 (twenty times
    as quick, a fifth larger) to 6."""
    content = io.BytesIO()
    image.save(content, "WEBP", lossless=lossless or subject.style == MASK, quality=92, method=method, exact=False)
    for suffix, data in (("webp", content.getvalue()), ("json", json.dumps(asdict(subject)).encode())):
        entry = tarfile.TarInfo(f"{key}.{suffix}")
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))


def described(subject: Subject, table: Table) -> Subject | None:
    """``subject`` with the table's words; None where it has none or says that this is no plain thing."""
    words = table.row(subject.source.removeprefix("@iconify-json/"), subject.style, subject.caption)
    return None if words is None or words.name == "-" else replace(subject, **words._asdict())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--size", type=int, default=80)
    parser.add_argument("--captions", type=Path, help="a table such as tools/captions.tsv")
    parser.add_argument("--lossless", action="store_true", help="larger, and no colour runs over its edge")
    options = parser.parse_args()
    table = None if options.captions is None else Table(options.captions)
    with tarfile.open(options.target, "w") as tar:
        for number, (image, subject) in enumerate(read(options.source)):
            subject = subject if table is None else described(subject, table)
            if subject is None:
                continue
            small = straight(premultiplied(image, options.size).permute(1, 2, 0).numpy())
            add(tar, f"{number:06d}", small, subject, options.lossless)


if __name__ == "__main__":
    main()
