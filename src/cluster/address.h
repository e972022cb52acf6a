/* Addresses of tasks: HOST:PORT. */
#ifndef BLY_CLUSTER_ADDRESS_H
#define BLY_CLUSTER_ADDRESS_H

#include "base/buf.h"

#include <belay/error.h>

#include <stddef.h>

/* Takes an address apart as TensorFlow does: the last ':' ends the host. 0 where it is none. A host
 * in square brackets loses them where `host` is wanted; `room` bytes are enough for every host that
 * the system looks up (256). */
int bly_address_split(const char *address, char *host, size_t room, int *out_port);

/* The address in a target "grpc://HOST:PORT"; NULL where the target is of another kind. */
const char *bly_target_address(const char *target);

/* BELAY_OK where a server could have this port now; else why not. 0 is always free. */
belay_code bly_port_check(int port, belay_error *err);

/* Does somebody listen at an address? Looks the host up and connects, for at most `timeout_ms` once
 * the host is known. 1, or 0 with the reason appended to `why`: "Connection refused". Blocks for as
 * long as looking up takes; so on a thread of its own. */
int bly_address_listens(const char *address, int timeout_ms, bly_buf *why);

/* The same of a server of gRPC, which says its settings to whoever connects. -1: somebody listens,
 * and says nothing for `timeout_ms`: the process is stopped, or hangs. -2: the machine is not
 * reached. 1 with a reason in `why`: there is no telling; not for want of an answer, but of a look.
 */
int bly_address_answers(const char *address, int timeout_ms, bly_buf *why);

#endif
