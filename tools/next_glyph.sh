#!/bin/sh
# The next weights of glyph's first stage, with what judges say of them and its table of pairs, on a machine with one GPU.
#
#     tools/next_glyph.sh RUN SHARDS MEASURED OUT
#
# RUN is a folder with model and log.jsonl, what is gone on from. SHARDS are all pictures, MEASURED those of emoji and game icons,
# of which benchmarks/glyph_results.py asks (tools/shrink_shards.py ... --size 80 --lossless; tools/simple_drawings.py ...).
# A judge learns beside everything else, by LOOKING processes that make its captions: the longer, the fairer are the figures.
# Things of which there are icons alone are drawn in styles, kept where three networks find them in it, and learned from; then
# means with RUN are measured, and the best draws the sheet of things and the pairs of the table anew. All draw as OWN_USUAL of
# defaults.py says: where new weights want other steps or guidance, change it first. What is there already in OUT is not made
# again, but for sheet and pairs. Minutes, device and pictures at a time are variables below: together some 27 minutes on an H200
# with 16 cores.
set -eu
[ $# -eq 4 ] || { echo "usage: tools/next_glyph.sh RUN SHARDS MEASURED OUT" >&2; exit 2; }
RUN=$1 SHARDS=$2 MEASURED=$3 OUT=$4
: "${DEVICE:=cuda}" "${PYTHON:=python3}" "${WORKERS:=8}" "${LOOKING:=6}" "${DRAWING:=2}" "${TRAINING:=12}" "${JUDGING:=16}" "${TURNING:=2.5}"
: "${BATCH:=1024}" "${DRAWN:=512}" "${COUNT:=200}" "${SHARES:=0,0.5,0.6,0.7,0.8,0.9,1}" "${TABLE:=src/phosphene/assets/concepts/glyph.tsv}"
mkdir -p "$OUT/pictures" "$OUT/drawn"

said() { echo "$(date +%H:%M:%S) $*" | tee -a "$OUT/said.txt"; }

retrieval() { # NAME MINUTES WORKERS OPTIONS...
    name=$1 minutes=$2 workers=$3
    shift 3
    [ -f "$OUT/$name.done" ] || "$PYTHON" -m phosphene train retrieval --data "$SHARDS" --out "$OUT/$name" --seed 7 --held-out 0 \
        --drop 0 --batch-size "$BATCH" --picture-width 192 --images 1000000000 --minutes "$minutes" --workers "$workers" \
        --device "$DEVICE" "$@" >"$OUT/$name.log" 2>&1
    touch "$OUT/$name.done"
    said "$name"
}

judges() {
    retrieval judge "$JUDGING" "$LOOKING" --cooldown 0.6
    retrieval turned "$TURNING" "$LOOKING" --cooldown 0.8 --lr 2e-4 --turned 0.5 --from "$OUT/judge/model"
}

judges &
looking=$!

[ -f "$OUT/eyes/eyes.safetensors" ] || "$PYTHON" benchmarks/styles.py "$SHARDS" --out "$OUT/eyes" --device "$DEVICE" >"$OUT/eyes.log" 2>&1
said eyes
[ -f "$OUT/drawn/0.tar" ] || "$PYTHON" tools/draw_styles.py "$RUN/model" --data "$SHARDS" --measured "$MEASURED" --icons "$SHARDS" \
    --eyes "$OUT/eyes" --each 4 --minutes "$DRAWING" --batch "$DRAWN" --device "$DEVICE" --out "$OUT/drawn/0.tar" >"$OUT/drawn.log" 2>&1
said "$(tail -n 1 "$OUT/drawn.log")"
for shard in "$SHARDS"/*.tar; do ln -f "$shard" "$OUT/pictures/" 2>/dev/null || cp "$shard" "$OUT/pictures/"; done
rm -f "$OUT/pictures/in-styles.tar" # which may be a link to one of SHARDS
cp "$OUT/drawn/0.tar" "$OUT/pictures/in-styles.tar"
[ -f "$OUT/run.done" ] || "$PYTHON" -m phosphene train cascade --from "$RUN/model" --data "$OUT/pictures" --out "$OUT/run" \
    --batch-size "$BATCH" --optimizer muon --lr 6e-4 --cooldown 1 --ema 0.998 --shift 1.5 --held-out 0 --drop 0.2 \
    --images 1000000000 --minutes "$TRAINING" --workers "$WORKERS" --device "$DEVICE" >"$OUT/run.log" 2>&1
touch "$OUT/run.done"
said "$(tail -n 1 "$OUT/run/log.jsonl")"
wait "$looking"
[ -d "$OUT/means/best" ] || "$PYTHON" benchmarks/means.py "$RUN" "$OUT/run" --judge "$OUT/judge/model" --data "$MEASURED" --shares "$SHARES" \
    --count "$COUNT" --out "$OUT/means" --device "$DEVICE" >"$OUT/means.log" 2>&1
said "$(tail -n 1 "$OUT/means.log")"
"$PYTHON" tools/concept_sheet.py --model "$OUT/means/best/model" --hard tools/hard.txt --device "$DEVICE" --out "$OUT/glyph.png" >"$OUT/sheet.log" 2>&1
said sheet
"$PYTHON" tools/try_pairs.py --concepts "$OUT/glyph.png" --judge "retrieval:$OUT/judge/model" --judge "retrieval:$OUT/turned/model" \
    --model "$OUT/means/best/model" --device "$DEVICE" --batch 384 --again "$TABLE" \
    --out "$OUT/glyph.tsv" >"$OUT/pairs.log" 2>&1
said "$(tail -n 1 "$OUT/pairs.log")"
