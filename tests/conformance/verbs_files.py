"""Verbs on files."""

import os
import pathlib
import shutil

from google.protobuf import text_format
from tensorflow.python.framework import meta_graph

from world import verb


@verb
def folder(w, path, call):
    root = pathlib.Path(path)
    if not root.is_dir():
        return None
    return sorted(f"{p.relative_to(root)}{'/' if p.is_dir() else ''}" for p in root.rglob("*"))


@verb
def text(w, path, call):
    return pathlib.Path(path).read_bytes().decode("latin-1")


@verb
def write(w, path, call):
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(path).write_bytes(call["text"].encode("latin-1"))


@verb
def mkdir(w, path, call):
    pathlib.Path(path).mkdir(parents=True, exist_ok=True)


@verb
def delete(w, path, call):
    """A file, a folder with all in it, or with `prefix` every file that starts so."""
    target = pathlib.Path(path)
    for p in target.parent.iterdir():
        if p.name == target.name or (call.get("prefix") and p.name.startswith(target.name)):
            shutil.rmtree(p) if p.is_dir() else p.unlink()


@verb
def damage(w, path, call):
    """Flips the bits of one byte; a negative `at` counts from the end."""
    data = bytearray(pathlib.Path(path).read_bytes())
    data[call.get("at", 0)] ^= 0xFF
    pathlib.Path(path).write_bytes(data)


@verb
def truncate(w, path, call):
    os.truncate(path, call["to"])


@verb
def touch(w, path, call):
    os.utime(path, (call["time"], call["time"]))


@verb
def move(w, path, call):
    os.rename(path, call["to"])


@verb
def copy(w, path, call):
    shutil.copyfile(path, call["to"])


@verb
def as_text(w, path, call):
    """A MetaGraphDef in text form; only in `before`."""
    pathlib.Path(call["to"]).write_text(text_format.MessageToString(meta_graph.read_meta_graph_file(path)))


@verb
def chmod(w, path, call):
    os.chmod(path, int(call["mode"], 8))


@verb
def meta(w, path, call):
    """What a MetaGraphDef says; Python reads it whoever wrote it."""
    found = meta_graph.read_meta_graph_file(path)
    return {
        "versions": bool(found.meta_info_def.tensorflow_version and found.meta_info_def.tensorflow_git_version),
        "stripped_ops_sorted": [o.name for o in found.meta_info_def.stripped_op_list.op]
        == sorted(o.name for o in found.meta_info_def.stripped_op_list.op),
        "stripped_ops_cover": {n.op for n in found.graph_def.node}
        <= {o.name for o in found.meta_info_def.stripped_op_list.op},
        "shapes": any("_output_shapes" in n.attr for n in found.graph_def.node),
        "collections": {
            k: f"{v.WhichOneof('kind')} {len(getattr(v, v.WhichOneof('kind')).value)}"
            for k, v in sorted(found.collection_def.items())
            if v.WhichOneof("kind")  # Python writes an empty collection without a kind, which no reader takes
        },
        "saver": [found.saver_def.max_to_keep, found.saver_def.sharded, found.saver_def.version]
        if found.HasField("saver_def")
        else None,
        "signatures": sorted(found.signature_def),
    }
