#!/usr/bin/env bash
# Set up, train the small model on generated street scenes, test it, and look through its eyes.
# Takes under five minutes of training on two CPU cores; writes below runs/ and datasets/ only.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh

DATA=embedded.yaml    # 400 + 80 generated pictures and a video, written below datasets/ on first use
SIZE=192              # long side in pixels of images for the detection head
BASE=256              # long side in pixels of images for the segmentation head; its training crops are SIZE long
TRAIN=(
  --cfg yolov5n_multitask.yaml   # 2 M parameters: objects and a class for every pixel
  --hyp hyp.quickstart           # recipe for a few hundred optimizer steps from scratch
  --epochs 24
  --batch-size 16
  --val-interval 12
  --device cpu
)
RUN=(--name quickstart --exist-ok)   # runs/train/quickstart, runs/test/quickstart, runs/detect/quickstart
WEIGHTS=runs/train/quickstart/weights/best.safetensors
SET=datasets/embedded

prepare_environment requirements.txt

echo "== training"
started=$SECONDS
"$ENV_PYTHON" train.py --data "$DATA" --img-size "$SIZE" --base-size "$BASE" "${TRAIN[@]}" "${RUN[@]}"
echo "trained in $((SECONDS - started)) seconds"

echo "== testing"
"$ENV_PYTHON" test.py --weights "$WEIGHTS" --data "$DATA" --img-size "$SIZE" --base-size "$BASE" --device cpu "${RUN[@]}"

echo "== looking at the validation pictures and the video"
for source in "$SET/images/val" "$SET/street.mp4"; do
  "$ENV_PYTHON" detect.py --weights "$WEIGHTS" --source "$source" --img-size "$BASE" --device cpu "${RUN[@]}"
done

echo "annotated pictures and video: runs/detect/quickstart; curves: runs/train/quickstart/results.png"
