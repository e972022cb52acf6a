"""Codes, and tensors as text: what traces are made of, and what scenarios write."""

import re

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import errors
from tensorflow.python.training import basic_session_run_hooks

tf1 = tf.compat.v1

CODES = (
    "OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED "
    "RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS "
    "UNAUTHENTICATED"
).split()

# Python's own exceptions as codes, the first line that fits: the error table's ids (ER), then what ST-10 says in general.
ERRORS = [
    ("ER-03", ValueError, r"cannot be interpreted as a Tensor", "NOT_FOUND"),
    ("ER-11", RuntimeError, r"only .*partial|as_graph_element|partial_run", "INVALID_ARGUMENT"),
    ("ER-17", ValueError, r"is not a valid checkpoint", "NOT_FOUND"),
    ("ER-18", ValueError, r"is not found in .* checkpoint", "NOT_FOUND"),
    ("ER-20", ValueError, r"Parent directory of .* doesn't exist", "NOT_FOUND"),
    ("ER-21", ValueError, r"Invalid checkpoint state loaded", "DATA_LOSS"),
    ("ER-27", RuntimeError, r"(Same|same) tensor is fed", "INVALID_ARGUMENT"),
    ("ER-30", basic_session_run_hooks.NanLossDuringTrainingError, r"", "NAN_LOSS"),
    ("ER-33", OSError, r"does not exist", "NOT_FOUND"),
    ("ER-33", OSError, r"Cannot parse", "DATA_LOSS"),
    ("ER-33", UnicodeDecodeError, r"", "DATA_LOSS"),  # a damaged binary file, then read as text
    ("ER-35", ValueError, r"tag was already used", "ALREADY_EXISTS"),
    ("ER-36", ValueError, r"already exists", "ALREADY_EXISTS"),
    ("ST-09", StopIteration, r"", "STOPPED"),
    ("ST-10", KeyError, r"", "NOT_FOUND"),
    ("ST-10", FileNotFoundError, r"", "NOT_FOUND"),
    ("ST-10", (ValueError, TypeError), r"", "INVALID_ARGUMENT"),
    ("ST-10", RuntimeError, r"", "FAILED_PRECONDITION"),
]


class NoObject(Exception):
    """A call names an object that an earlier call did not make."""


def code_of(error):
    if isinstance(error, tf.errors.OpError):
        return CODES[error.error_code]
    if isinstance(error, NoObject):
        return "NO_OBJECT"
    for _, kinds, pattern, code in ERRORS:
        if isinstance(error, kinds) and re.search(pattern, str(error), re.S):
            return code
    return f"PYTHON {type(error).__name__}"


def exception_of(code):
    """What Python raises that has this code."""
    if code in CODES:
        return errors.exception_type_from_error_code(CODES.index(code))(None, None, f"the scenario says {code}")
    if code == "STOPPED":
        return StopIteration()
    if code == "NAN_LOSS":
        return basic_session_run_hooks.NanLossDuringTrainingError()
    raise KeyError(code)


def raise_code(code):
    """In callbacks that fail as the scenario says."""
    raise exception_of(code)


# ------------------------------------------------------------------------------------------- values


def text_of(value):
    """A tensor as text: type, shape, elements in C order, as driver.c writes it."""
    if value is None:
        return "none"
    if isinstance(value, (bytes, str)):
        value = np.array(value if isinstance(value, bytes) else value.encode(), object)
    value = np.asarray(value)
    if value.dtype.kind in "OSU":
        name, elements = "string", [quoted(v) for v in value.ravel()]
    else:
        name, elements = str(value.dtype), [number_text(v) for v in value.ravel()]
    return " ".join([f"{name}[{','.join(map(str, value.shape))}]"] + elements[:64])


def number_text(v):
    if isinstance(v, np.bool_):
        return str(int(v))
    if np.issubdtype(type(v), np.integer):
        return str(int(v))
    if np.iscomplexobj(v):
        return f"{v.real:.6g}+{v.imag:.6g}i"
    text = "%.6g" % float(v)
    return "nan" if "nan" in text else text


def quoted(data):
    data = data if isinstance(data, bytes) else data.encode()
    return '"' + "".join(chr(c) if 32 <= c < 127 and c not in b'"\\' else f"\\x{c:02x}" for c in data) + '"'


def literal(spec, dtype=None):
    """A value that a scenario gives: plain, then of the tensor's own type; or {"dtype", "value", "shape"}."""
    shape = None
    if isinstance(spec, dict):
        dtype, shape, spec = tf.as_dtype(spec["dtype"]), spec.get("shape"), spec["value"]
        if not isinstance(spec, list) and shape is None:
            return spec  # Python looks at its own numbers more closely than at arrays (SE-26)
    if dtype is not None and dtype.base_dtype == tf.string:
        array = np.array(spec, object)
        array = np.vectorize(lambda s: s.encode("latin-1") if isinstance(s, str) else s, otypes=[object])(array)
    elif dtype is not None and dtype.is_complex:
        pairs = np.array(spec, np.float64)
        array = (pairs[..., 0] + 1j * pairs[..., 1]).astype(dtype.as_numpy_dtype)
    else:
        array = np.array(spec, dtype.base_dtype.as_numpy_dtype if dtype is not None else np.float32)
    return array if shape is None else array.reshape(shape)


def listed(value):
    return value if isinstance(value, list) else [value] if value else []  # neither None nor "" is anything


def feeds_of(graph, given):
    """{"x:0": value} or [["x:0", value], ...] as a feed_dict. A name that comes again stands for the tensor itself."""
    feeds = {}
    for name, spec in given.items() if isinstance(given, dict) else given or []:
        try:
            tensor = graph.as_graph_element(name, allow_tensor=True, allow_operation=False)
        except (KeyError, ValueError, TypeError):
            tensor = None
        value = literal(spec, tensor.dtype if tensor is not None else tf.float32)
        feeds[tensor if name in feeds else name] = value
    return feeds or None


CONFIG_FIELDS = ("operation_timeout_in_ms", "inter_op_parallelism_threads", "intra_op_parallelism_threads")


def config_of(given):
    return None if given is None else tf1.ConfigProto(**given)


def run_options_of(given):
    return None if given is None else tf1.RunOptions(**given)


def fields_of(message):
    """A message as a scenario writes it; what is 0 or empty is not there."""
    fields = {}
    for field, value in message.ListFields():
        many = value if field.is_repeated else [value]
        texts = [fields_of(v) if field.message_type else v if isinstance(v, str) else int(v) for v in many]
        if field.is_repeated or texts[0]:
            fields[field.name] = texts if field.is_repeated else texts[0]
    return fields


def metadata_of(metadata):
    return {"step_stats": bool(metadata.step_stats.dev_stats), "partition_graphs": bool(metadata.partition_graphs)}
