"""Python's TensorFlow with documented differences built in: what docs/deviations.md says belay does otherwise.

A scenario that lists ids under "as_if" runs a second time with these differences in force, and belay's trace must be
equal to that one, whole: so a difference is foretold, never just allowed. `differs(ID)` stands where Python and belay
part; it answers whether the difference is in force, and remembers that it mattered.
"""

import tensorflow as tf
from tensorflow.python.training import basic_session_run_hooks as shipped
from tensorflow.python.training import monitored_session as ms
from tensorflow.python.training import saver as saver_lib
from tensorflow.python.training import session_manager
from tensorflow.python.training import session_run_hook

IN_FORCE = set()  # replaced by the driver
MATTERED = set()
PREEMPTION = (tf.errors.AbortedError, tf.errors.UnavailableError)
CLEAN = (tf.errors.OutOfRangeError, StopIteration)
KNOWN = set()


def differs(row):
    if row in IN_FORCE:
        MATTERED.add(row)
    return row in IN_FORCE


def instead_of(owner, name, *rows):
    """Replaces a method by a function that gets it first; only where one of the rows is in force."""
    KNOWN.update(rows)
    original = getattr(owner, name)

    def install(function):
        def either(*args, **kwargs):
            if IN_FORCE.isdisjoint(rows):
                return original(*args, **kwargs)
            return function(original, *args, **kwargs)

        setattr(owner, name, either)
        return function

    return install


# ------------------------------------------------------------------------------------ the hooked layer

STOP_ASKED = [False]  # by a hook in the run that is going on


@instead_of(session_run_hook.SessionRunContext, "request_stop", "BUG-11", "BUG-78")
def request_stop(original, self):
    STOP_ASKED[0] = True
    original(self)


@instead_of(ms._HookedSession, "_merge_run_options", "BUG-40")
def merge_run_options(original, self, options, incoming):
    pools = options.inter_op_thread_pool, incoming.inter_op_thread_pool
    original(self, options, incoming)
    if 0 in pools and min(pools) < 0 and differs("BUG-40"):
        options.inter_op_thread_pool = min(pools)
    if incoming.HasField("experimental") and differs("BUG-40"):
        options.experimental.MergeFrom(incoming.experimental)


@instead_of(ms._HookedSession, "run", "BUG-11", "BUG-39", "BUG-78")
def hooked_run(original, self, fetches, feed_dict=None, options=None, run_metadata=None):
    if options is not None and differs("BUG-39"):
        options = type(options).FromString(options.SerializeToString())
    args, kwargs = (fetches, feed_dict, options, run_metadata), {}
    STOP_ASKED[0] = False
    ran = [False]
    inner_run = self._sess.run

    def noted(*a, **k):
        result = inner_run(*a, **k)
        ran[0] = True
        return result

    self._sess.run = noted
    try:
        return original(self, *args, **kwargs)
    except BaseException:
        if STOP_ASKED[0] and differs("BUG-11" if ran[0] else "BUG-78"):
            self._should_stop = True
        raise
    finally:
        del self._sess.run


# -------------------------------------------------------------------------------- the recoverable layer


def hooked_of(recoverable):
    return recoverable._sess._sess if recoverable._sess else None


@instead_of(ms._RecoverableSession, "run", "BUG-11", "BUG-16", "BUG-78")
def recoverable_run(original, self, *args, **kwargs):
    asked = False
    try:
        while True:
            try:
                if not self._sess:
                    self._sess = self._create_session()
                return self._sess.run(*args, **kwargs)
            except PREEMPTION:
                asked |= hooked_of(self) is not None and hooked_of(self)._should_stop
                if getattr(self, "stop_asked", False) and differs("BUG-16"):
                    raise
                self.close()
    finally:
        if asked and hooked_of(self) is not None:
            hooked_of(self)._should_stop = True


class FollowingContext:
    """A step context that gives the session as it is now."""

    def __init__(self, recoverable, raw_session):
        self.recoverable, self.raw, self.first = recoverable, raw_session, recoverable._sess

    @property
    def session(self):
        now = self.recoverable._sess and hooked_of(self.recoverable)._sess
        return now if now is not self.raw and differs("BUG-01") else self.raw

    def run_with_hooks(self, *args, **kwargs):
        now = self.recoverable._sess
        coordinated = now if now is not self.first and differs("BUG-75") else self.first
        return coordinated.run(*args, **kwargs)

    def request_stop(self):
        self.has_asked = True
        raise StopIteration("step_fn has requested the iterations to stop.")


@instead_of(ms._MonitoredSession.StepContext, "request_stop", "SD-16")
def context_request_stop(original, self):
    self.has_asked = True
    original(self)


@instead_of(ms._RecoverableSession, "run_step_fn", "BUG-01", "BUG-11", "BUG-16", "BUG-75", "BUG-78")
def recoverable_run_step_fn(original, self, step_fn, raw_session, run_with_hooks):
    asked = False
    try:
        while True:
            try:
                if not self._sess:
                    self._sess = self._create_session()
                return step_fn(FollowingContext(self, raw_session))
            except PREEMPTION:
                asked |= hooked_of(self) is not None and hooked_of(self)._should_stop and differs("BUG-78")
                if getattr(self, "stop_asked", False) and differs("BUG-16"):
                    raise
                self.close()
    finally:
        if asked and hooked_of(self) is not None:
            hooked_of(self)._should_stop = True


# ---------------------------------------------------------------------------------- the monitored session


def failure_of(session):
    return getattr(session, "failure", None)


def lasting_failure(session):
    """What ended a recovery for good, whoever caught it, or was not told by should_stop."""
    return failure_of(session) if is_half_made(session) and failure_of(session) and differs("BUG-79") else None


def first_failure(session):
    """That, where it comes before what a function or a body then fails with."""
    lasting = lasting_failure(session)
    return None if isinstance(lasting, PREEMPTION + CLEAN) else lasting


def is_half_made(session):
    """A recovery failed for good: there is a recoverable session, and nothing in it."""
    stack = session._sess
    return isinstance(stack, ms._RecoverableSession) and stack._sess is None


@instead_of(ms._MonitoredSession, "__init__", "BUG-68")
def init(original, self, *args, **kwargs):
    graph = tf.compat.v1.get_default_graph()
    was_finalized = graph.finalized
    try:
        original(self, *args, **kwargs)
    except BaseException:
        if graph.finalized and not was_finalized and differs("BUG-68"):
            graph._unsafe_unfinalize()
        raise


@instead_of(ms._MonitoredSession, "run_step_fn", "MS-06", "BUG-79", "SD-16")
def run_step_fn(original, self, step_fn):
    def function(step_context):
        self.failure = None
        try:
            result = step_fn(step_context)
        except BaseException:
            if first := first_failure(self):
                raise first
            raise
        if getattr(step_context, "has_asked", False) and differs("SD-16"):  # and the function went on
            step_context.request_stop()
        return result

    try:
        return run(original, self, function)
    except StopIteration:
        self.step_fn_stopped = True
        raise


@instead_of(ms._MonitoredSession, "run", "MS-06", "BUG-79")
def run(original, self, *args, **kwargs):
    if is_half_made(self) and failure_of(self) and not isinstance(self.failure, PREEMPTION) and differs("BUG-79"):
        raise self.failure
    self.failure = None
    try:
        result = original(self, *args, **kwargs)
    except BaseException as error:
        self.failure = error
        raise
    if not (is_half_made(self) and differs("BUG-79")):
        self.failure = None
    return result


def hook_stopped(session):
    stack = session._sess
    coordinated = stack._sess if isinstance(stack, ms._RecoverableSession) else stack
    return coordinated is not None and coordinated._sess is not None and coordinated._sess._should_stop


@instead_of(ms._MonitoredSession, "should_stop", "MS-06", "MS-43", "SD-16", "WS-19")
def should_stop(original, self):
    if getattr(self, "step_fn_stopped", False) and differs("SD-16"):
        return True
    if failure_of(self) and differs("MS-06"):
        return True
    if hook_stopped(self) and differs("WS-19"):
        return True
    try:
        return original(self)
    except Exception as error:
        if not differs("MS-43"):
            raise
        if is_half_made(self):
            self.failure = error
        return True


def end_hooks(session):
    """Every hook's end(); the first error."""
    if is_half_made(session) and differs("BUG-76"):
        return None
    first = None
    for hook in session._hooks:
        try:
            hook.end(session._coordinated_creator.tf_sess)
        except BaseException as error:
            first = first or error
            if not differs("BUG-08"):
                break
    return first


@instead_of(ms._MonitoredSession, "_close_internal", "BUG-02", "BUG-03", "BUG-04", "BUG-08", "BUG-76")
def close_internal(original, self, exception_type=None):
    coord, hooks = self._coordinated_creator.coord, self._hooks
    if is_half_made(self):
        coord = None  # of the session before, whose error was recovered from
    first = None if exception_type else end_hooks(self)
    reported = None
    try:
        self._hooks = []  # those have had their end
        original(self, exception_type)
        if isinstance(coord_error(coord), PREEMPTION) and differs("BUG-02"):
            reported = coord_error(coord)
    except BaseException as error:
        if not (isinstance(error, CLEAN) and differs("BUG-04")):
            reported = error
    finally:
        self._hooks = hooks
    if first and reported and not differs("BUG-03"):
        first = reported
    if first or reported:
        raise first or reported


def coord_error(coord):
    error = coord._exc_info_to_raise if coord else None
    return error[1] if isinstance(error, tuple) else error


# --------------------------------------------------------------------------------------------- the hooks

RESTORED = [None]  # the checkpoint that the session was restored from


@instead_of(session_manager.SessionManager, "_restore_checkpoint", "BUG-51")
def restore_checkpoint(original, self, *args, **kwargs):
    RESTORED[0] = None
    return original(self, *args, **kwargs)


@instead_of(saver_lib.Saver, "restore", "BUG-51")
def restore(original, self, session, path):
    original(self, session, path)
    RESTORED[0] = path


@instead_of(shipped.CheckpointSaverHook, "after_create_session", "BUG-47", "BUG-51", "HK-CKPT-05")
def checkpoint_after_create_session(original, self, session, coord):
    votes = []

    def save(session, step):
        known = self._scaffold is not None  # else the hook has a saver of its own, which restored nothing
        if known and RESTORED[0] == f"{self._save_path}-{step}" and differs("BUG-51"):
            return False
        if coord.should_stop() and not coord._exc_info_to_raise and differs("HK-CKPT-05"):
            return False
        votes.append(type(self)._save(self, session, step))
        return votes[-1]

    self._save = save
    try:
        original(self, session, coord)
    finally:
        del self._save
    if any(votes) and differs("BUG-47"):
        coord.request_stop()


SAVED = [False]


@instead_of(saver_lib.Saver, "save", "HK-CKPT-09")
def save(original, self, *args, **kwargs):
    result = original(self, *args, **kwargs)
    SAVED[0] = True
    return result


@instead_of(shipped.CheckpointSaverHook, "after_run", "HK-CKPT-09")
def checkpoint_after_run(original, self, *args):
    timer = self._timer
    before = timer._last_triggered_step, timer._last_triggered_time
    SAVED[0] = False
    try:
        original(self, *args)
    except BaseException:
        if not SAVED[0] and timer._last_triggered_step != before[0] and differs("HK-CKPT-09"):
            timer._last_triggered_step, timer._last_triggered_time = before
        raise


@instead_of(shipped.StopAtStepHook, "after_create_session", "BUG-55")
def stop_after_create_session(original, self, session, coord):
    original(self, session, coord)
    if session.run(self._global_step_tensor) >= self._last_step and differs("BUG-55"):
        coord.request_stop()
