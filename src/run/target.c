#include "run/target.h"

#include "base/error.h"
#include "base/file.h"
#include "graph/graph.h"
#include "session/session.h"

/* ConfigProtos are small; anything else that was named by mistake is not read whole. */
#define CONFIG_MOST (1 << 20)

static belay_code read_config(bly_target *target, const bly_runtime *rt, const char *file,
                              belay_error *err) {
    belay_code code = bly_file_read(file, CONFIG_MOST, &target->config, err);
    if (code != BELAY_OK)
        return code;
    target->options.config = bly_buf_text(&target->config);
    target->options.config_size = target->config.len;
    TF_SessionOptions *made = bly_session_options_make(rt, &target->options, err);
    if (made)
        rt->DeleteSessionOptions(made);
    else
        bly_error_prefix(err, "%s: ", file);
    return made ? BELAY_OK : belay_error_code(err);
}

/* A session is not made on its target before it runs something, so this one costs the target
 * nothing. */
static belay_code try_session(const bly_target *target, belay_graph *graph, const char *named,
                              belay_error *err) {
    belay_session *session = belay_session_open(graph, &target->options, err);
    if (!session)
        bly_error_prefix(err, "no session with %s: ", named);
    belay_session_free(session);
    return session ? BELAY_OK : belay_error_code(err);
}

belay_code bly_target_open(bly_target *target, belay_graph *graph, const char *master,
                           const char *config_file, belay_error *err) {
    belay_code code = BELAY_OK;
    *target = (bly_target){BELAY_SESSION_OPTIONS_INIT, BLY_BUF_INIT};
    target->options.target = master;
    if (config_file)
        code = read_config(target, graph->rt, config_file, err);
    if (code == BELAY_OK && (master || config_file))
        code = try_session(target, graph, master ? master : config_file, err);
    return code;
}

void bly_target_close(bly_target *target) {
    bly_buf_free(&target->config);
}
