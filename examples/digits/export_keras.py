"""Writes the Keras model as a SavedModel that belay trains: python3 examples/digits/export_keras.py [FOLDER]"""

import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "python"))

import keras

from belay_export import export_keras


def make_model():
    keras.utils.set_random_seed(1)  # the weights that training starts from are part of the SavedModel
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(64, activation="relu", name="hidden"),
            keras.layers.Dense(10, name="logits"),
        ],
        name="digits",
    )
    model.compile(
        optimizer=keras.optimizers.Adam(2e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


if __name__ == "__main__":
    export_keras(make_model(), sys.argv[1] if len(sys.argv) > 1 else HERE / "keras", output="logits")
