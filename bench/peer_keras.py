"""The peer of step_keras: Keras' fit on the model that was exported. peer_keras.py --data FOLDER --steps N

Prints {"us_per_step": …}. All steps are one epoch: what Keras does between epochs is not a step's cost.
"""

import argparse
import json
import math
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import numpy as np  # noqa: E402

import models  # noqa: E402


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--steps", type=int, required=True)
    arguments = parser.parse_args()
    x = np.load(os.path.join(arguments.data, "x.npy"))
    y = np.load(os.path.join(arguments.data, "y.npy"))
    model = models.keras_model(keras)
    fit = {"batch_size": models.BATCH, "shuffle": False, "verbose": 0}
    model.fit(x, y, epochs=1, **fit)
    passes = math.ceil(arguments.steps / models.BATCHES)
    x, y = np.tile(x, (passes, 1)), np.tile(y, passes)
    start = time.perf_counter()
    model.fit(x, y, epochs=1, **fit)
    seconds = time.perf_counter() - start
    print(json.dumps({"us_per_step": seconds / (passes * models.BATCHES) * 1e6}))


if __name__ == "__main__":
    main()
