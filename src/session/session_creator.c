#include "session/session_creator.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/options.h"
#include "session/scaffold.h"
#include "session/session_manager.h"

#include <stddef.h>
#include <string.h>

_Static_assert(sizeof(belay_chief_session_creator_options) ==
                   offsetof(belay_chief_session_creator_options, reserved) + sizeof(uint32_t),
               "no tail padding");
_Static_assert(sizeof(belay_worker_session_creator_options) ==
                   offsetof(belay_worker_session_creator_options, recovery_wait_secs) +
                       sizeof(double),
               "no tail padding");

#define WORKER_MAX_WAIT_SECS 1800.0

_Static_assert(sizeof(belay_session_creator_vtable) ==
                   offsetof(belay_session_creator_vtable, destroy) + sizeof(void (*)(void)),
               "no tail padding");

struct belay_session_creator {
    atomic_int references;
    belay_graph *graph;
    /* a user's; no other field then */
    belay_session_creator_vtable table; /* create_session NULL: one of belay's own */
    void *self;
    /* both kinds of belay's own */
    belay_scaffold *scaffold;
    belay_session_manager *manager; /* made at the first create, after finalize (CR-06) */
    char *target;
    void *config;
    size_t config_size;
    double recovery_wait_secs;
    int is_worker;
    /* chief */
    char *checkpoint_dir;
    char *checkpoint_filename_with_path;
    uint32_t prepare_flags;
    /* worker */
    double max_wait_secs;
};

static belay_code copy_text(char **to, const char *from, belay_error *err) {
    if (!from)
        return BELAY_OK;
    *to = bly_strdup(from);
    return *to ? BELAY_OK : bly_fail_memory(err);
}

static belay_code copy_session_options(belay_session_creator *creator,
                                       const belay_session_options *given, belay_error *err) {
    belay_session_options options;
    belay_code code =
        bly_options_read(&options, sizeof options, given, "belay_session_options", err);
    if (code == BELAY_OK)
        code = copy_text(&creator->target, options.target, err);
    if (code != BELAY_OK || !options.config)
        return code;
    creator->config = bly_malloc(options.config_size);
    if (!creator->config)
        return bly_fail_memory(err);
    memcpy(creator->config, options.config, options.config_size);
    creator->config_size = options.config_size;
    return BELAY_OK;
}

/* What both kinds have in common: a scaffold (MS-44) and where to connect. */
static belay_session_creator *new_creator(belay_graph *graph, belay_scaffold *scaffold,
                                          const belay_session_options *session, belay_error *err) {
    if (!graph) {
        if (belay_error_code(err) == BELAY_OK)
            bly_fail(err, BELAY_INVALID_ARGUMENT, "graph is NULL");
        return NULL;
    }
    belay_session_creator *creator = bly_calloc(1, sizeof *creator);
    if (!creator) {
        bly_fail_memory(err);
        return NULL;
    }
    atomic_init(&creator->references, 1);
    creator->scaffold =
        scaffold ? bly_scaffold_ref(scaffold) : belay_scaffold_new(graph, NULL, err);
    if (creator->scaffold)
        creator->graph = bly_graph_ref(creator->scaffold->graph);
    if (!creator->scaffold || copy_session_options(creator, session, err) != BELAY_OK) {
        belay_session_creator_free(creator);
        return NULL;
    }
    return creator;
}

belay_session_creator *belay_session_creator_new(belay_graph *graph,
                                                 const belay_session_creator_vtable *given,
                                                 void *self, belay_error *err) {
    const size_t whole = sizeof(belay_session_creator_vtable);
    belay_session_creator_vtable table = {0};
    belay_session_creator *creator = NULL;
    if (!graph || !given) {
        if (belay_error_code(err) == BELAY_OK || graph)
            bly_fail(err, BELAY_INVALID_ARGUMENT, "%s is NULL", graph ? "vtable" : "graph");
    } else if (bly_options_read(&table, sizeof table, given, "belay_session_creator_vtable", err) ==
               BELAY_OK) {
        if (!table.create_session)
            bly_fail(err, BELAY_INVALID_ARGUMENT, "create_session is NULL");
        else if (!(creator = bly_calloc(1, sizeof *creator)))
            bly_fail_memory(err);
    }
    if (!creator) {
        if (given && given->struct_size >= whole && given->destroy)
            given->destroy(self);
        return NULL;
    }
    atomic_init(&creator->references, 1);
    creator->graph = bly_graph_ref(graph);
    creator->table = table;
    creator->self = self;
    return creator;
}

belay_session_creator *belay_chief_session_creator_new(
    belay_graph *graph, const belay_chief_session_creator_options *given, belay_error *err) {
    belay_chief_session_creator_options options;
    if (bly_options_read(&options, sizeof options, given, "belay_chief_session_creator_options",
                         err) != BELAY_OK)
        return NULL;
    belay_session_creator *creator = new_creator(graph, options.scaffold, options.session, err);
    if (!creator)
        return NULL;
    creator->prepare_flags = options.prepare_flags;
    if (copy_text(&creator->checkpoint_dir, options.checkpoint_dir, err) != BELAY_OK ||
        copy_text(&creator->checkpoint_filename_with_path, options.checkpoint_filename_with_path,
                  err) != BELAY_OK) {
        belay_session_creator_free(creator);
        return NULL;
    }
    return creator;
}

belay_session_creator *belay_worker_session_creator_new(
    belay_graph *graph, const belay_worker_session_creator_options *given, belay_error *err) {
    belay_worker_session_creator_options options;
    if (bly_options_read(&options, sizeof options, given, "belay_worker_session_creator_options",
                         err) != BELAY_OK)
        return NULL;
    belay_session_creator *creator = new_creator(graph, options.scaffold, options.session, err);
    if (!creator)
        return NULL;
    creator->is_worker = 1;
    creator->max_wait_secs =
        options.max_wait_secs == 0 ? WORKER_MAX_WAIT_SECS : options.max_wait_secs;
    creator->recovery_wait_secs = options.recovery_wait_secs;
    return creator;
}

belay_session_creator *bly_session_creator_ref(belay_session_creator *creator) {
    atomic_fetch_add(&creator->references, 1);
    return creator;
}

void belay_session_creator_free(belay_session_creator *creator) {
    if (!creator || atomic_fetch_sub(&creator->references, 1) != 1)
        return;
    if (creator->table.destroy)
        creator->table.destroy(creator->self);
    belay_graph_free(creator->graph);
    belay_session_manager_free(creator->manager);
    belay_scaffold_free(creator->scaffold);
    bly_free(creator->target);
    bly_free(creator->config);
    bly_free(creator->checkpoint_dir);
    bly_free(creator->checkpoint_filename_with_path);
    bly_free(creator);
}

belay_graph *bly_session_creator_graph(belay_session_creator *creator) {
    return creator->graph;
}

static belay_code need_manager(belay_session_creator *creator, belay_error *err) {
    belay_session_manager_options options = BELAY_SESSION_MANAGER_OPTIONS_INIT;
    belay_scaffold *scaffold = creator->scaffold;
    belay_code code = belay_scaffold_finalize(scaffold, err);
    if (code != BELAY_OK || creator->manager)
        return code;
    options.local_init_op = scaffold->local_init_op;
    options.ready_op = scaffold->ready_op;
    options.ready_for_local_init_op = scaffold->ready_for_local_init_op;
    options.local_init_feeds = (const char *const *)scaffold->local_init_feeds.names;
    options.local_init_inputs = scaffold->local_init_feeds.inputs;
    options.recovery_wait_secs = creator->recovery_wait_secs;
    BLY_LOCAL_ERROR(mine);
    creator->manager = belay_session_manager_new(scaffold->graph, &options, &mine);
    if (!creator->manager)
        bly_error_copy(err, &mine);
    return mine.code;
}

static belay_session *create_chief(belay_session_creator *creator,
                                   const belay_session_options *session, uint32_t *out_restored,
                                   belay_error *err) {
    belay_prepare_options options = BELAY_PREPARE_OPTIONS_INIT;
    belay_scaffold *scaffold = creator->scaffold;
    options.session = session;
    options.init_op = scaffold->init_op;
    options.init_feeds = (const char *const *)scaffold->init_feeds.names;
    options.init_inputs = scaffold->init_feeds.inputs;
    options.init_fn = scaffold->init_fn;
    options.init_self = scaffold->init_self;
    options.scaffold = scaffold;
    options.saver = scaffold->saver;
    options.checkpoint_dir = creator->checkpoint_dir;
    options.checkpoint_filename_with_path = creator->checkpoint_filename_with_path;
    options.flags = creator->prepare_flags;
    return belay_session_manager_prepare_session(creator->manager, &options, out_restored, err);
}

/* What a user's table gives is looked at: all else relies on it. */
static belay_session *create_by_table(belay_session_creator *creator, uint32_t *out_restored,
                                      belay_error *err) {
    BLY_LOCAL_ERROR(mine);
    belay_session *made = creator->table.create_session(creator->self, out_restored, &mine);
    if (!made && mine.code == BELAY_OK)
        bly_fail(&mine, BELAY_INTERNAL, "the session creator made no session and gave no error");
    else if (!made)
        bly_fail_callback(&mine, mine.code, "create_session of the session creator");
    if (made && made->graph != creator->graph) {
        bly_fail(&mine, BELAY_INVALID_ARGUMENT,
                 "the session that the session creator made is of another graph");
        belay_session_free(made);
        made = NULL;
    }
    if (!made)
        bly_error_copy(err, &mine);
    return made;
}

belay_session *belay_session_creator_create_session(belay_session_creator *creator,
                                                    uint32_t *out_restored, belay_error *err) {
    uint32_t restored = 0;
    belay_session *made = NULL;
    if (creator)
        made = bly_session_creator_create(creator, NULL, BLY_NEVER, &restored, err);
    else if (belay_error_code(err) == BELAY_OK)
        bly_fail(err, BELAY_INVALID_ARGUMENT, "creator is NULL");
    if (out_restored)
        *out_restored = made && restored;
    return made;
}

belay_session *bly_session_creator_create(belay_session_creator *creator, const atomic_int *stop,
                                          int64_t deadline_us, uint32_t *out_restored,
                                          belay_error *err) {
    belay_session_options session = BELAY_SESSION_OPTIONS_INIT;
    *out_restored = 0;
    if (creator->table.create_session)
        return create_by_table(creator, out_restored, err);
    if (need_manager(creator, err) != BELAY_OK)
        return NULL;
    session.target = creator->target;
    session.config = creator->config;
    session.config_size = creator->config_size;
    bly_session_manager_watch(creator->manager, stop, deadline_us);
    belay_session *made = creator->is_worker
                              ? belay_session_manager_wait_for_session(creator->manager, &session,
                                                                       creator->max_wait_secs, err)
                              : create_chief(creator, &session, out_restored, err);
    bly_session_manager_watch(creator->manager, NULL,
                              BLY_NEVER); /* the creator may outlive `stop` */
    return made;
}
