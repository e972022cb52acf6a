"""Exports models from Python, so that belay can train them from then on without Python.

    from belay_export import export_keras, export_module, export_graph

    export_keras(model, "digits")                      # a compiled Keras model -> SavedModel folder
    export_module(module, "digits", train=module.train) # any tf.Module         -> SavedModel folder
    export_graph("digits.meta", train_op=train_op)     # a TF1 graph            -> MetaGraphDef file

Then: belay train digits --dir run --feed x=train_x.npy --feed y=train_y.npy --batch 32 --steps 1500

A SavedModel for belay has up to three signatures:

    train            x, y -> loss and metrics; running it once is one training step
    eval             x, y -> the same outputs; changes nothing
    serving_default  x    -> the model's outputs

Everything a training step reads or changes is a variable of the SavedModel: weights, batch norm's averages, the
state of random generators, the optimizer's slots, step count and learning rate. So a run that is resumed goes
on exactly where it was. Outputs of `train` and `eval` are scalars and speak of one batch only.

Made for and tested with TensorFlow 2.21 and Keras 3.15.
"""

import inspect

import tensorflow as tf

__all__ = ["export_keras", "export_module", "export_graph"]

SIGNATURES = ("train", "eval", "serving_default")


# ---------------------------------------------------------------------------------------------- Keras


def export_keras(model, path, *, batch=None, inputs=None, labels=None, output="output"):
    """Writes a compiled Keras model to the SavedModel folder `path`.

    Inputs of the signatures:
      - a model with one input calls it `x`; with several, each has the name of its Input or dictionary key;
      - a model with one output calls its labels `y`; with several, `y_NAME` for each output name;
      - a model compiled without a loss (it uses add_loss) has no labels.
    Outputs of `train` and `eval`: `loss`, as Keras would minimise it (regularisation included), the loss of each
    output where there are several, and each metric given to compile(), computed from this batch alone. Outputs of
    `serving_default`: `output`, or each output by its name where there are several.

    Args:
      model:  compiled, and built. Its weights and its optimizer's state are exported as they are.
      path:   folder to write.
      batch:  fixes the batch dimension of all inputs to this size. None: any size.
      inputs: a tf.TensorSpec, or a structure of them as the model is called with; needed only where the model
              does not know it (a subclass of keras.Model that was not made from Inputs).
      labels: a tf.TensorSpec (several outputs: a dict by output name), where the default is not right: int64
              without the last axis for sparse categorical losses, else shape and type of the output.
      output: the name of a single output in `serving_default`.

    Raises:
      ValueError: the model is not compiled or not built, has no optimizer, overrides train_step() (use
        export_module()), or an output of `train` is not a scalar.
    """
    import keras

    _check_keras_model(model, keras)
    x_specs = _input_specs(model, inputs, batch, keras)
    x_names = _input_names(x_specs, model, keras)
    y_specs, y_names = _label_specs(model, labels, batch, keras)
    model.optimizer.build(model.trainable_variables)
    takes_training = "training" in inspect.signature(model.call).parameters

    def forward(x, training):
        """The model's outputs, and the losses that its layers add."""
        y_pred = model(x, training=training) if takes_training else model(x)
        return y_pred, list(model.losses)

    def forward_unchanged(x):
        """The same for inference. In the scope nothing is updated: some layers draw random numbers even here."""
        with keras.StatelessScope([(v, v) for v in model.variables], collect_losses=True):
            return forward(x, training=False)

    def loss_and_metrics(x, y, y_pred, layer_losses, training):
        """This batch's loss and metrics. Keras keeps metrics in variables; in the scope they are plain tensors."""
        with keras.StatelessScope():
            model._losses_override = layer_losses  # which the scope would hide
            try:
                for metric in model.metrics:
                    metric.reset_state()
                loss = model._compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=None, training=training)
                outputs = dict(model.compute_metrics(x, y, y_pred, sample_weight=None))
            finally:
                model._losses_override = []
        outputs["loss"] = loss
        return {name.replace("/", "_"): value for name, value in outputs.items()}

    def train(x, y):
        weights = model.trainable_weights
        with tf.GradientTape() as tape:
            outputs = loss_and_metrics(x, y, *forward(x, training=True), training=True)
            minimised = model.optimizer.scale_loss(outputs["loss"])
        model.optimizer.apply_gradients(zip(tape.gradient(minimised, weights), weights))
        return outputs

    def evaluate(x, y):
        return loss_and_metrics(x, y, *forward_unchanged(x), training=False)

    def serve(x):
        return _named_outputs(model, forward_unchanged(x)[0], output, keras)

    def make_metrics(x, y):  # they make their variables when they first see data, which must not be in a scope
        y_pred, _ = forward(x, training=False)
        model._compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=None, training=False)
        model.compute_metrics(x, y, y_pred, sample_weight=None)

    batch_of_both = [(x_specs, x_names), (y_specs, y_names)]
    _flat_function(make_metrics, batch_of_both, keras)
    functions = {
        "train": _flat_function(train, batch_of_both, keras),
        "eval": _flat_function(evaluate, batch_of_both, keras),
        "serving": _flat_function(serve, batch_of_both[:1], keras),
    }
    exported = tf.Module(name="belay")
    exported.model = _by_path(model.variables)
    exported.optimizer = _by_path(model.optimizer.variables)
    exported.other = _variables_besides(model.variables + model.optimizer.variables, functions.values())
    exported.resources = _tables(model)
    export_module(exported, path, **functions)


def _check_keras_model(model, keras):
    if keras.backend.backend() != "tensorflow":
        raise ValueError(f"Keras runs on {keras.backend.backend()}: set KERAS_BACKEND=tensorflow before importing it")
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"export_keras() takes a keras.Model, not {type(model).__name__}; for a tf.Module use export_module()"
        )
    if not getattr(model, "compiled", False):
        raise ValueError(f"model '{model.name}' is not compiled: call model.compile(optimizer=..., loss=...) first")
    if not model.built:
        raise ValueError(
            f"model '{model.name}' is not built: start it with keras.Input(...), or call it once on a batch"
        )
    if model.optimizer is None:
        raise ValueError(f"model '{model.name}' has no optimizer: give one to model.compile(optimizer=...)")
    if type(model).train_step is not keras.Model.train_step:
        raise ValueError(
            f"model '{model.name}' has a train_step() of its own, which export_keras() would not run: "
            "write the step as a tf.function and use export_module()"
        )


def _symbolic(model, side):
    """The model's "inputs" or "outputs" in the structure they are called with; None where it does not know them."""
    flat = getattr(model, side, None)
    if not flat:
        return None
    structure = getattr(model, side[:-1], None)  # `input` keeps dicts and lists; a Sequential has none
    if structure is not None:
        return structure
    return flat[0] if len(flat) == 1 else flat


def _with_batch(shape, batch):
    """The shape with its first dimension set to `batch`; None leaves it open, or as the model fixed it."""
    shape = list(shape)
    return [batch if batch is not None else shape[0]] + shape[1:]


def _input_specs(model, inputs, batch, keras):
    """A tf.TensorSpec for each input, in the structure that the model is called with."""
    if inputs is None:
        inputs = _symbolic(model, "inputs")
    if inputs is None:
        raise ValueError(
            f"model '{model.name}' does not know its inputs: give them, as in "
            "inputs=tf.TensorSpec([None, 64], tf.float32)"
        )
    return keras.tree.map_structure(
        lambda t: tf.TensorSpec(_with_batch(t.shape, batch), tf.as_dtype(t.dtype), getattr(t, "name", None)), inputs
    )


def _input_names(specs, model, keras):
    """The name of each input, in the same structure."""
    if isinstance(specs, dict):
        return {key: key for key in specs}
    flat = keras.tree.flatten(specs)
    if len(flat) == 1:
        return keras.tree.map_structure(lambda spec: "x", specs)
    if any(spec.name is None for spec in flat):
        raise ValueError(f"model '{model.name}' has several inputs without names: give each tf.TensorSpec a name")
    return keras.tree.map_structure(lambda spec: spec.name, specs)


def _output_names(model, structure, keras):
    """The name of each output, in the same structure."""
    if isinstance(structure, dict):
        return {key: key for key in structure}
    names = getattr(model, "output_names", None) or [f"output_{i}" for i in range(len(structure))]
    return keras.tree.pack_sequence_as(structure, names)


def _label_specs(model, labels, batch, keras):
    """A tf.TensorSpec for each label and its name, both in the structure of the model's outputs."""
    loss = getattr(model, "loss", None)
    if loss is None and labels is None:
        return None, None
    outputs = _symbolic(model, "outputs")
    if outputs is None and labels is None:
        raise ValueError(
            f"model '{model.name}' does not know its outputs: give its labels, as in "
            "labels=tf.TensorSpec([None], tf.int64)"
        )

    def fixed(spec):
        return tf.TensorSpec(_with_batch(spec.shape, batch), spec.dtype)

    structure = labels if outputs is None else outputs
    if not keras.tree.is_nested(structure):
        return fixed(labels if labels is not None else _label_spec(loss, outputs)), "y"
    names = _output_names(model, structure, keras)
    flat_names, flat_outputs = keras.tree.flatten(names), keras.tree.flatten(structure)
    if isinstance(loss, (list, tuple)):
        losses = dict(zip(flat_names, loss))
    else:
        losses = loss if isinstance(loss, dict) else dict.fromkeys(flat_names, loss)
    given = labels or {}
    specs = [
        fixed(given[name] if name in given else _label_spec(losses.get(name), out))
        for name, out in zip(flat_names, flat_outputs)
    ]
    return keras.tree.pack_sequence_as(names, specs), keras.tree.map_structure(lambda name: f"y_{name}", names)


def _label_spec(loss, output):
    """What Keras expects as labels for this loss and output."""
    name = loss if isinstance(loss, str) else getattr(loss, "name", None) or getattr(loss, "__name__", "")
    is_sparse = "sparse" in name.lower() or type(loss).__name__.startswith("Sparse")
    if is_sparse:
        return tf.TensorSpec(output.shape[:-1], tf.int64)
    dtype = tf.as_dtype(output.dtype)
    return tf.TensorSpec(output.shape, tf.float32 if dtype in (tf.float16, tf.bfloat16) else dtype)


def _named_outputs(model, y, output, keras):
    if not keras.tree.is_nested(y):
        return {output: y}
    names = keras.tree.flatten(_output_names(model, y, keras))
    return dict(zip(names, keras.tree.flatten(y)))


def _flat_function(function, arguments, keras):
    """Traces function(*structures) as one of flat, named tensors, which is what a signature is.

    arguments: (structure of specs, the same structure of names) for each argument; (None, None) passes None.
    """
    specs = [
        tf.TensorSpec(spec.shape, spec.dtype, name)
        for structure, names in arguments
        if structure is not None
        for spec, name in zip(keras.tree.flatten(structure), keras.tree.flatten(names))
    ]

    def flat(*tensors):
        tensors = list(tensors)
        packed = []
        for structure, _ in arguments:
            count = 0 if structure is None else len(keras.tree.flatten(structure))
            packed.append(None if structure is None else keras.tree.pack_sequence_as(structure, tensors[:count]))
            tensors = tensors[count:]
        return function(*packed)

    flat.__name__ = function.__name__
    return tf.function(flat, autograph=False).get_concrete_function(*specs)


def _by_path(variables):
    """Keras variables as nested dicts by their paths, so that `dense/kernel` is a readable name in a checkpoint."""
    root = {}
    for variable in variables:
        *folders, leaf = variable.path.split("/")
        node = root
        for folder in folders:
            node = node.setdefault(folder, {})
            if not isinstance(node, dict):
                raise ValueError(f"variable '{variable.path}' has the name of another's folder: name the layers apart")
        name, n = leaf, 0
        while name in node:  # two layers of one name
            n += 1
            name = f"{leaf}_{n}"
        node[name] = variable.value
    return root


def _variables_besides(known, functions):
    """Variables that the functions use and Keras does not list, such as Nadam's product under a LossScaleOptimizer."""
    seen = {id(variable.value) for variable in known}
    found = []
    for function in functions:
        for variable in function.graph.variables:
            if id(variable) not in seen:
                seen.add(id(variable))
                found.append(variable)
    return found


def _tables(model):
    """Lookup tables and the like that layers hold: the SavedModel must contain them to be able to fill them."""
    found, seen = [], set()

    def visit(layer):
        for value in vars(layer).values():
            if isinstance(value, tf.saved_model.experimental.TrackableResource) and id(value) not in seen:
                seen.add(id(value))
                found.append(value)
        for child in getattr(layer, "_layers", []):
            visit(child)

    visit(model)
    return found


# ------------------------------------------------------------------------------------------ tf.Module


def export_module(module, path, *, train=None, eval=None, serving=None):
    """Writes a tf.Module, or any other trackable object, to the SavedModel folder `path`.

    Args:
      module:  holds every variable, optimizer and table that the functions use, as attributes.
      path:    folder to write.
      train:   a tf.function with input_signature, or a concrete function, that does one step and returns a dict of
               scalars: {"loss": loss, ...}. Its arguments' names are the names to feed.
      eval:    the same without the update.
      serving: a function that returns a dict of tensors of any shape.

    Raises:
      ValueError: there is no function, one has no input signature or no named outputs, an output of train or eval
        is not a scalar, or a function uses variables that the module does not hold.
    """
    functions = {
        name: _concrete(name, function)
        for name, function in zip(SIGNATURES, (train, eval, serving))
        if function is not None
    }
    if not functions:
        raise ValueError("nothing to export: give at least one of train, eval and serving")
    held = {id(child) for child in tf.train.TrackableView(module).descendants()}
    for name, function in functions.items():
        _check_outputs(name, function.structured_outputs)
        lost = [v.name for v in function.graph.variables if id(v) not in held]
        if lost:
            raise ValueError(
                f"{name} uses variables that the module does not hold, so they would not be saved: {', '.join(lost)}. "
                "Make what owns them an attribute of the module, as in module.optimizer = optimizer"
            )
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)  # nobody differentiates it again
    tf.saved_model.save(module, str(path), signatures=functions, options=options)


def _concrete(name, function):
    if hasattr(function, "structured_outputs"):  # a concrete function already
        return function
    if getattr(function, "input_signature", None) is None:
        raise ValueError(
            f"{name} needs an input signature: decorate it with "
            "@tf.function(input_signature=[tf.TensorSpec([None, 64], tf.float32, name='x'), ...])"
        )
    return function.get_concrete_function()


def _check_outputs(signature, outputs):
    if not isinstance(outputs, dict) or not outputs:
        raise ValueError(f"{signature} has no named outputs: return a dict, such as {{'loss': loss}}")
    for name, tensor in outputs.items():
        if not tf.is_tensor(tensor) and not hasattr(tensor, "shape"):
            raise ValueError(f"output '{name}' of {signature} is not a tensor: {tensor!r}")
        if signature != "serving_default" and tensor.shape.rank != 0:
            raise ValueError(
                f"output '{name}' of {signature} has shape {tensor.shape}, not a scalar: reduce it over the batch, "
                "as with tf.reduce_mean()"
            )


# ---------------------------------------------------------------------------------------- TF1 graphs


# What belay's SyncReplicas hook is told of the optimizer, in the order of its options; TensorFlow's own hook asks it.
SYNC_REPLICAS = "belay_sync_replicas"
SYNC_REPLICAS_COUNTS = SYNC_REPLICAS + "_counts"


def export_graph(path, *, train_op=None, train=None, eval=None, serving=None, graph=None, saver=None,
                 sync_replicas=None):
    """Writes a TF1 graph, with its collections, to the MetaGraphDef file `path`.

    belay builds what the graph lacks (saver, initialisers, a global step), so there is no need to finalise it.

    Args:
      path:     file to write, usually *.meta.
      train_op: the op or tensor that does one step; becomes a member of the collection `train_op`.
      train, eval, serving: optional signatures, each a dict name -> tensor. Placeholders in it are the signature's
                inputs, all others its outputs. Running `train` also runs the train_op.
      graph:    default: the default graph.
      saver:    a tf.compat.v1.train.Saver whose SaverDef becomes the file's own. Default: none.
      sync_replicas: the tf.compat.v1.train.SyncReplicasOptimizer that made the train_op: its ops are written down
                for belay's SyncReplicas hook.

    Raises:
      ValueError: there is no graph, it has neither train_op nor signature, a signature has no outputs, an
        output of train or eval is not a scalar, or the optimizer has applied no gradients.
    """
    tf1 = tf.compat.v1
    if graph is None:
        if tf.executing_eagerly():
            raise ValueError("no graph to export: build it under `with tf.Graph().as_default():`, or give graph=")
        graph = tf1.get_default_graph()
    signatures = {name: spec for name, spec in zip(SIGNATURES, (train, eval, serving)) if spec is not None}
    with graph.as_default():
        meta = tf1.train.export_meta_graph(saver_def=saver.as_saver_def() if saver is not None else None)
    if sync_replicas is not None:
        _write_sync_replicas(meta, sync_replicas)
    if train_op is not None:
        members = meta.collection_def["train_op"].node_list.value
        if train_op.name not in members:
            members.append(train_op.name)
    if "train_op" not in meta.collection_def and not signatures:
        raise ValueError("nothing to train: give train_op=, or a signature")
    for name, tensors in signatures.items():
        inputs = {key: t for key, t in tensors.items() if t.op.type in ("Placeholder", "PlaceholderWithDefault")}
        outputs = {key: t for key, t in tensors.items() if key not in inputs}
        _check_outputs(name, outputs)
        meta.signature_def[name].CopyFrom(
            tf1.saved_model.signature_def_utils.build_signature_def(
                inputs={key: _tensor_info(t) for key, t in inputs.items()},
                outputs={key: _tensor_info(t) for key, t in outputs.items()},
                method_name=tf1.saved_model.signature_constants.PREDICT_METHOD_NAME,
            )
        )
    with open(path, "wb") as file:
        file.write(meta.SerializeToString(deterministic=True))


def _write_sync_replicas(meta, optimizer):
    runner = optimizer.get_chief_queue_runner()  # fails where no gradients were applied
    meta.collection_def[SYNC_REPLICAS].node_list.value[:] = [
        optimizer.chief_init_op.name,
        optimizer.local_step_init_op.name,
        optimizer.ready_for_local_init_op.name,
        runner.queue.name,
        runner.enqueue_ops[0].name,
    ]
    meta.collection_def[SYNC_REPLICAS_COUNTS].int64_list.value[:] = [
        optimizer._replicas_to_aggregate,  # TensorFlow's own hook reads these two there as well
        optimizer._total_num_replicas,
    ]


def _tensor_info(tensor):
    from tensorflow.core.protobuf import meta_graph_pb2

    return meta_graph_pb2.TensorInfo(
        name=tensor.name, dtype=tensor.dtype.base_dtype.as_datatype_enum, tensor_shape=tensor.shape.as_proto()
    )
