"""Unpacks TensorFlow's two libraries and its C headers from the wheel: unpack_wheel.py WHEEL FOLDER.

The libraries land in FOLDER, the headers in FOLDER/include. Nothing else of the wheel is written.
"""

import os
import shutil
import sys
import zipfile

# All that belay compiles against, complete in itself: <tensorflow/c/c_api.h>, c_api_experimental.h and tf_tstring.h,
# and what they include.
MEMBERS = (
    "libtensorflow_cc.so.2",
    "libtensorflow_framework.so.2",
    "include/tensorflow/c/c_api.h",
    "include/tensorflow/c/c_api_experimental.h",
    "include/tensorflow/c/c_api_macros.h",
    "include/tensorflow/c/eager/c_api.h",
    "include/tensorflow/c/tf_attrtype.h",
    "include/tensorflow/c/tf_buffer.h",
    "include/tensorflow/c/tf_datatype.h",
    "include/tensorflow/c/tf_status.h",
    "include/tensorflow/c/tf_tensor.h",
    "include/tensorflow/c/tf_tstring.h",
    "include/tensorflow/core/platform/ctstring.h",
    "include/tensorflow/core/platform/ctstring_internal.h",
    "include/tsl/platform/ctstring.h",
    "include/tsl/platform/ctstring_internal.h",
    "include/xla/tsl/c/tsl_status.h",
)


def unpack(wheel, folder):
    with zipfile.ZipFile(wheel) as archive:
        for member in MEMBERS:
            target = os.path.join(folder, member)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with archive.open("tensorflow/" + member) as source, open(target, "wb") as out:
                shutil.copyfileobj(source, out, 1 << 20)


if __name__ == "__main__":
    try:
        unpack(sys.argv[1], sys.argv[2])
    except OSError as error:
        sys.exit(f"unpacking TensorFlow failed: {error}")
    except KeyError as error:
        sys.exit(f"unpacking TensorFlow failed: {error}; MEMBERS in unpack_wheel.py belongs to another version")
