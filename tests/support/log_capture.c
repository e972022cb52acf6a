#include "log_capture.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct line {
    struct line *next;
    char text[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct line *lines, **end = &lines; /* guarded by lock */

static void keep(void *self, belay_log_level level, const char *message) {
    size_t len = strlen(message);
    struct line *line = malloc(sizeof *line + len + 1);
    (void)self;
    (void)level;
    if (!line)
        abort();
    line->next = NULL;
    memcpy(line->text, message, len + 1);
    pthread_mutex_lock(&lock);
    *end = line;
    end = &line->next;
    pthread_mutex_unlock(&lock);
}

static void forget(void) {
    while (lines) {
        struct line *line = lines;
        lines = line->next;
        free(line);
    }
    end = &lines;
}

void log_capture_start(belay_log_level level) {
    forget();
    belay_log_set_callback(keep, NULL, level);
}

void log_capture_stop(void) {
    belay_log_set_callback(NULL, NULL, BELAY_LOG_WARNING);
    forget();
}

size_t log_capture_count(const char *part) {
    size_t count = 0;
    pthread_mutex_lock(&lock);
    for (struct line *line = lines; line; line = line->next)
        count += !part || strstr(line->text, part) != NULL;
    pthread_mutex_unlock(&lock);
    return count;
}

const char *log_capture_find(const char *part) {
    const char *found = "";
    pthread_mutex_lock(&lock);
    for (struct line *line = lines; line && !*found; line = line->next)
        if (strstr(line->text, part))
            found = line->text;
    pthread_mutex_unlock(&lock);
    return found;
}
