#!/usr/bin/env python3
"""Writes the checkpoints in tests/data/bundle, with TensorFlow itself, so that the tests read what TensorFlow writes.

usage: make_bundles.py [FOLDER]      needs tensorflow-cpu 2.21; the files are part of the repository, so nobody must run it

plain        one tensor of every kind that is stored differently
partitioned  variables in slices: along the first axis, along the second, far from the start, with a hole
sharded      three data files, one of which holds a slice of a variable whose other slice is in another
many         more entries than fit into one block of the index (256 KiB)
"""
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import numpy as np
import tensorflow as tf
from tensorflow.python.framework import dtypes


def save(prefix, items):
    """items: (name, shape and slice, value)"""
    tf.raw_ops.SaveV2(prefix=prefix, tensor_names=[i[0] for i in items],
                      shape_and_slices=[i[1] for i in items], tensors=[tf.convert_to_tensor(i[2]) for i in items])


def ramp(shape, dtype):
    return np.arange(np.prod(shape, dtype=np.int64), dtype=np.int64).reshape(shape).astype(dtype)


def plain(prefix):
    strings = [b"", b"one", b"zero\0byte", b"x" * 200, "\u00e9".encode()]
    items = [
        ("dense/kernel", ramp([3, 4], np.float32) * 0.5),
        ("double", np.array([1.5, -2.5])),
        ("global_step", np.int64(1234567890123)),
        ("narrow_step", np.int32(-7)),
        ("bytes", ramp([300], np.uint8)),
        ("flags", np.array([True, False, True])),
        ("half", tf.constant([1.0, 2.0], tf.float16)),
        ("brain", tf.constant([1.0, -2.0, 3.0], tf.bfloat16)),
        ("complex", np.array([1 + 2j], np.complex64)),
        ("empty", np.zeros([0, 3], np.float32)),
        ("no_strings", tf.constant([], tf.string)),
        ("strings", tf.constant(strings)),
        ("text", tf.constant("only one")),
        ("nibbles", tf.cast(tf.constant([1, 2, 3]), dtypes.int4)),
        ("list", tf.raw_ops.TensorListFromTensor(tensor=tf.constant([[1.0], [2.0]]), element_shape=[1])),
    ]
    save(prefix, [(name, "", value) for name, value in items])


def partitioned(prefix):
    rows, columns = ramp([5, 4], np.float32), ramp([4, 6], np.int32)
    cube, far = ramp([3, 4, 5], np.int16), ramp([9000, 2], np.int8)
    save(prefix, [
        ("rows", "5 4 0,2:0,4", rows[0:2]), ("rows", "5 4 2,3:0,4", rows[2:5]),
        ("columns", "4 6 0,4:0,1", columns[:, 0:1]), ("columns", "4 6 0,4:1,5", columns[:, 1:6]),
        ("cube", "3 4 5 -:0,3:-", cube[:, 0:3]), ("cube", "3 4 5 0,1:3,1:-", cube[0:1, 3:4]),
        ("cube", "3 4 5 1,2:3,1:0,5", cube[1:3, 3:4]),
        ("far", "9000 2 0,70:-", far[0:70]), ("far", "9000 2 70,8200:-", far[70:8270]),
        ("far", "9000 2 8270,730:-", far[8270:9000]),
        ("hole", "4 2,1", np.array([2.0], np.float32)),
        ("whole", "3 0,3", ramp([3], np.float64)),
        ("\u00ff/name", "2 0,1", np.array([1], np.uint8)), ("\u00ff/name", "2 1,1", np.array([2], np.uint8)),
    ])


def sharded(prefix):
    parts = [f"{prefix}_temp/part-{i:05d}-of-00003" for i in range(3)]
    rows = ramp([4, 3], np.float32)
    save(parts[0], [("a", "", ramp([6], np.int64)), ("rows", "4 3 0,1:0,3", rows[0:1])])
    save(parts[1], [("rows", "4 3 1,3:0,3", rows[1:4])])
    save(parts[2], [("b", "", tf.constant(["p", "qq"]))])
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=prefix, delete_old_dirs=True)


def many(prefix):
    save(prefix, [(f"{i:04d}" + "x" * 190, "", np.int16(i)) for i in range(1260)])


folder = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "bundle")
for make in (plain, partitioned, sharded, many):
    make(os.path.join(folder, make.__name__))
