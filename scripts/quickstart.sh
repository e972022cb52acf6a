#!/usr/bin/env bash
# scripts/quickstart.sh: builds belay and trains the shipped Keras model on the shipped handwritten digits.
# Run again, it goes on from the newest checkpoint for 500 steps more.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
. "$here/lib/common.sh"
. "$here/lib/deps.sh"

first_steps=1500
more_steps=500
run=runs/digits
model=examples/digits/keras
data=examples/digits/data

json_values() {
    python3 scripts/lib/json_values.py "$1"
}

# The step of the newest checkpoint; 0 where there is none.
newest_step() {
    local steps
    [ -d "$run" ] || { echo 0 && return 0; }
    steps=$(build/belay ckpt ls "$run" --json | json_values step | sort -n | tail -n 1)
    echo "${steps:-0}"
}

train() {
    build/belay train "$model" --dir "$run" --feed "x=$data/train_x.npy" --feed "y=$data/train_y.npy" \
        --batch 32 --steps "$1"
}

test_accuracy() {
    build/belay eval "$model" --dir "$run" --feed "x=$data/test_x.npy" --feed "y=$data/test_y.npy" --json |
        json_values accuracy
}

what_next() {
    cat <<END
checkpoints and events: $run
try next:
  build/belay ckpt ls $run
  build/belay graph show $model
  build/belay export $model --dir $run --to runs/digits-trained
END
}

cd "$ROOT"
phase "packages of the system" need_packages "${BUILD_PACKAGES[@]}"
phase "the TensorFlow runtime" need_tensorflow
phase "build" build build dev belay_command

start=$(newest_step)
if [ "$start" -gt 0 ]; then
    steps=$((start + more_steps))
    echo "resumed from step $start"
else
    steps=$first_steps
fi
phase "training to step $steps" train "$steps"
accuracy=$(test_accuracy)
LC_ALL=C printf 'test accuracy %.3f\n' "${accuracy:?belay eval gave no accuracy}"
what_next
