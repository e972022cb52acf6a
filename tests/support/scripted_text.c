/* Graphs written as text (scripted_runtime.h) and turned into a MetaGraphDef. */
#include "scripted_impl.h"

#include "graph/graph.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct collection {
    char *name;
    int is_bytes;
    struct scripted_bytes list; /* a NodeList or a BytesList */
};

struct meta {
    TF_Graph ops; /* never seen by the runtime: only what is written out */
    struct collection collections[32];
    size_t collection_count;
    struct scripted_bytes saver;
    struct scripted_bytes signatures;
    const char *at;
    int line;
};

static void bad(const struct meta *m, const char *what) {
    fprintf(stderr, "scripted graph, line %d: expected %s at '%.40s'\n", m->line, what, m->at);
    abort();
}

/* ---- words ---- */

static void skip(struct meta *m) {
    while (*m->at == ' ' || *m->at == '\t')
        m->at++;
    if (*m->at == '#')
        while (*m->at && *m->at != '\n')
            m->at++;
}

static int take(struct meta *m, char c) {
    skip(m);
    if (*m->at != c)
        return 0;
    m->at++;
    return 1;
}

static void need(struct meta *m, char c) {
    char what[2] = {c, '\0'};
    if (!take(m, c))
        bad(m, what);
}

static int at_end(struct meta *m) {
    skip(m);
    return *m->at == '\0' || *m->at == '\n';
}

/* A name, up to what ends one. The caller frees it. */
static char *word(struct meta *m, const char *also_ends) {
    skip(m);
    const char *start = m->at;
    while (*m->at && !isspace((unsigned char)*m->at) && !strchr(also_ends, *m->at))
        m->at++;
    if (m->at == start)
        bad(m, "a name");
    return scripted_strndup(start, (size_t)(m->at - start));
}

static char *quoted(struct meta *m) {
    need(m, '"');
    const char *start = m->at;
    while (*m->at && *m->at != '"')
        m->at++;
    char *text = scripted_strndup(start, (size_t)(m->at - start));
    need(m, '"');
    return text;
}

/* ---- attributes ---- */

static void append(struct scripted_attr *attr, int64_t value) {
    attr->integers =
        scripted_realloc(attr->integers, (size_t)(attr->count + 1) * sizeof *attr->integers);
    attr->integers[attr->count++] = value;
}

static int type_word(struct meta *m, const char *ends) {
    char *name = word(m, ends);
    int dtype = scripted_dtype(name, strlen(name));
    free(name);
    return dtype;
}

static void read_types(struct meta *m, TF_Operation *op, const char *name) {
    struct scripted_attr *attr = scripted_attr_add(op, name, TF_ATTR_TYPE);
    attr->is_list = 1;
    need(m, '{');
    while (!take(m, '}')) {
        append(attr, type_word(m, ",}"));
        take(m, ',');
    }
}

static void read_shape(struct meta *m, TF_Operation *op, const char *name) {
    struct scripted_attr *attr = scripted_attr_add(op, name, TF_ATTR_SHAPE);
    need(m, '[');
    if (take(m, '?')) {
        attr->count = -1;
        need(m, ']');
        return;
    }
    while (!take(m, ']')) {
        append(attr, strtoll(m->at, (char **)(uintptr_t)&m->at, 10));
        take(m, ',');
    }
}

/* A Const's value: of the type that `dtype` said before it. */
static void read_constant(struct meta *m, TF_Operation *op) {
    TF_DataType dtype = (TF_DataType)scripted_attr_int(op, "dtype", TF_FLOAT);
    struct scripted_attr *attr = scripted_attr_add(op, "value", TF_ATTR_TENSOR);
    int is_list = take(m, '[');
    double numbers[64];
    char *texts[64];
    int64_t count = 0;
    do {
        skip(m);
        if (*m->at == ']')
            break;
        texts[count] = dtype == TF_STRING ? quoted(m) : NULL;
        numbers[count] = texts[count] ? 0 : strtod(m->at, (char **)(uintptr_t)&m->at);
        count++;
    } while (is_list && count < 64 && take(m, ','));
    if (is_list)
        need(m, ']');
    attr->tensor = scripted_array_new(dtype, &count, is_list ? 1 : 0);
    for (int64_t i = 0; i < count; i++) {
        if (texts[i])
            scripted_array_set_text(attr->tensor, i, texts[i], strlen(texts[i]));
        else
            scripted_array_set_number(attr->tensor, i, numbers[i]);
        free(texts[i]);
    }
}

static void read_plain(struct meta *m, TF_Operation *op, const char *name) {
    char *text = word(m, "");
    char *end;
    int dtype = scripted_dtype(text, strlen(text));
    if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)
        scripted_attr_add(op, name, TF_ATTR_BOOL)->integer = text[0] == 't';
    else if (dtype)
        scripted_attr_add(op, name, TF_ATTR_TYPE)->integer = dtype;
    else if (strchr(text, '.'))
        scripted_attr_add(op, name, TF_ATTR_FLOAT)->number = strtod(text, &end);
    else
        scripted_attr_add(op, name, TF_ATTR_INT)->integer = strtoll(text, &end, 10);
    if (!dtype && text[0] != 't' && text[0] != 'f' && *end)
        bad(m, "a value");
    free(text);
}

static void read_attribute(struct meta *m, TF_Operation *op) {
    char *name = word(m, "=");
    need(m, '=');
    skip(m);
    if (strcmp(name, "device") == 0) {
        free(op->device);
        op->device = quoted(m);
    } else if (strcmp(name, "value") == 0) {
        read_constant(m, op);
    } else if (*m->at == '"') {
        struct scripted_attr *attr = scripted_attr_add(op, name, TF_ATTR_STRING);
        attr->text = quoted(m);
        attr->text_len = strlen(attr->text);
    } else if (*m->at == '[') {
        read_shape(m, op, name);
    } else if (*m->at == '{') {
        read_types(m, op, name);
    } else {
        read_plain(m, op, name);
    }
    free(name);
}

/* ---- lines ---- */

/* Inputs go out as they are written, since they may be ops that follow: kept as an attribute until
 * then. */
static void read_op(struct meta *m, const char *name) {
    char *type = word(m, "(");
    TF_Operation *op = scripted_op_new(&m->ops, type, name);
    struct scripted_attr *inputs = scripted_attr_add(op, "?inputs", TF_ATTR_STRING);
    struct scripted_bytes all = {NULL, 0, 0};
    free(type);
    scripted_put(&all, "", 0);
    need(m, '(');
    while (!take(m, ')')) {
        char *input = word(m, ",)");
        scripted_put(&all, input, strlen(input) + 1);
        free(input);
        take(m, ',');
    }
    while (!at_end(m))
        read_attribute(m, op);
    inputs = (struct scripted_attr *)(uintptr_t)scripted_attr(op, "?inputs");
    inputs->text = all.data;
    inputs->text_len = all.len;
    m->ops.ops = scripted_realloc(m->ops.ops, (m->ops.count + 1) * sizeof(TF_Operation *));
    m->ops.ops[m->ops.count++] = op;
}

static struct collection *collection(struct meta *m, const char *name, int is_bytes) {
    for (size_t i = 0; i < m->collection_count; i++)
        if (strcmp(m->collections[i].name, name) == 0)
            return &m->collections[i];
    if (m->collection_count == sizeof m->collections / sizeof m->collections[0])
        bad(m, "fewer collections");
    struct collection *c = &m->collections[m->collection_count++];
    *c = (struct collection){scripted_strdup(name), is_bytes, {NULL, 0, 0}};
    return c;
}

static void read_collection(struct meta *m) {
    char *name = word(m, ":");
    struct collection *c = collection(m, name, 0);
    need(m, ':');
    while (!at_end(m)) {
        char *node = word(m, ",");
        scripted_put_text(&c->list, 1, node);
        free(node);
        take(m, ',');
    }
    free(name);
}

/* KEY=VALUE; 1 where there was one. Both are to be freed. */
static int read_pair(struct meta *m, char **key, char **value) {
    if (at_end(m))
        return 0;
    *key = word(m, "=");
    need(m, '=');
    *value = word(m, "");
    return 1;
}

static void read_variable(struct meta *m) {
    struct scripted_bytes def = {NULL, 0, 0};
    char *name = word(m, ""), *keys[8], *key, *value;
    char full[256];
    int count = 0, is_resource = 1, trainable = 0;
    snprintf(full, sizeof full, "%s:0", name);
    scripted_put_text(&def, 1, full);
    char *in = word(m, "");
    if (strcmp(in, "in") != 0)
        bad(m, "in");
    free(in);
    do
        keys[count++] = word(m, ",:");
    while (count < 8 && take(m, ','));
    need(m, ':');
    while (read_pair(m, &key, &value)) {
        if (strcmp(key, "initializer") == 0)
            scripted_put_text(&def, 2, value);
        else if (strcmp(key, "snapshot") == 0)
            scripted_put_text(&def, 3, value);
        else if (strcmp(key, "initial") == 0)
            scripted_put_text(&def, 6, value);
        else if (strcmp(key, "ref") == 0)
            is_resource = atoi(value) == 0;
        else if (strcmp(key, "trainable") == 0)
            trainable = atoi(value);
        else
            bad(m, "a variable's key");
        free(key);
        free(value);
    }
    scripted_put_number(&def, 5, (uint64_t)is_resource);
    scripted_put_number(&def, 7, (uint64_t)trainable);
    for (int i = 0; i < count; i++) {
        scripted_put_data(&collection(m, keys[i], 1)->list, 1, def.data, def.len);
        free(keys[i]);
    }
    free(def.data);
    free(name);
}

/* Adds every part of a list "a,b". */
static void put_list(struct scripted_bytes *out, uint32_t field, char *list, int as_numbers) {
    for (char *part = strtok(list, ","); part; part = strtok(NULL, ",")) {
        if (as_numbers)
            scripted_put_number(out, field, (uint64_t)atoi(part));
        else
            scripted_put_text(out, field, part);
    }
}

static void read_queue_runner(struct meta *m) {
    struct scripted_bytes def = {NULL, 0, 0};
    char *name = word(m, ":"), *key, *value;
    scripted_put_text(&def, 1, name);
    need(m, ':');
    while (read_pair(m, &key, &value)) {
        if (strcmp(key, "enqueue") == 0)
            put_list(&def, 2, value, 0);
        else if (strcmp(key, "close") == 0)
            scripted_put_text(&def, 3, value);
        else if (strcmp(key, "cancel") == 0)
            scripted_put_text(&def, 4, value);
        else if (strcmp(key, "codes") == 0)
            put_list(&def, 5, value, 1);
        else
            bad(m, "a queue runner's key");
        free(key);
        free(value);
    }
    scripted_put_message(&collection(m, "queue_runners", 1)->list, 1, &def);
    free(name);
}

static void read_saver(struct meta *m) {
    char *key, *value;
    while (read_pair(m, &key, &value)) {
        if (strcmp(key, "filename") == 0)
            scripted_put_text(&m->saver, 1, value);
        else if (strcmp(key, "save") == 0)
            scripted_put_text(&m->saver, 2, value);
        else if (strcmp(key, "restore") == 0)
            scripted_put_text(&m->saver, 3, value);
        else if (strcmp(key, "max_to_keep") == 0)
            scripted_put_number(&m->saver, 4, (uint64_t)atoi(value));
        else if (strcmp(key, "sharded") == 0)
            scripted_put_number(&m->saver, 5, (uint64_t)atoi(value));
        else
            bad(m, "a saver's key");
        free(key);
        free(value);
    }
    scripted_put_number(&m->saver, 7, 2); /* V2 */
}

/* x=x:0/float */
static void put_signature_tensor(struct scripted_bytes *out, uint32_t field, const char *key,
                                 char *value) {
    struct scripted_bytes entry = {NULL, 0, 0}, info = {NULL, 0, 0};
    char *slash = strrchr(value, '/');
    int dtype = slash ? scripted_dtype(slash + 1, strlen(slash + 1)) : 0;
    if (dtype)
        *slash = '\0';
    scripted_put_text(&info, 1, value);
    scripted_put_number(&info, 2, (uint64_t)(dtype ? dtype : TF_FLOAT));
    scripted_put_text(&entry, 1, key);
    scripted_put_message(&entry, 2, &info);
    scripted_put_message(out, field, &entry);
}

static void read_signature(struct meta *m) {
    struct scripted_bytes def = {NULL, 0, 0}, entry = {NULL, 0, 0};
    char *name = word(m, ":");
    uint32_t field = 1;
    need(m, ':');
    while (!at_end(m)) {
        char *key = word(m, "=");
        if (strcmp(key, "inputs") == 0 || strcmp(key, "outputs") == 0) {
            field = key[0] == 'i' ? 1 : 2;
        } else {
            need(m, '=');
            char *value = word(m, "");
            if (strcmp(key, "method") == 0)
                scripted_put_text(&def, 3, value);
            else
                put_signature_tensor(&def, field, key, value);
            free(value);
        }
        free(key);
    }
    scripted_put_text(&entry, 1, name);
    scripted_put_message(&entry, 2, &def);
    scripted_put_message(&m->signatures, 5, &entry);
    free(name);
}

static void read_line(struct meta *m) {
    if (at_end(m))
        return;
    char *first = word(m, ":=");
    if (take(m, '='))
        read_op(m, first);
    else if (strcmp(first, "collection") == 0)
        read_collection(m);
    else if (strcmp(first, "variable") == 0)
        read_variable(m);
    else if (strcmp(first, "queue_runner") == 0)
        read_queue_runner(m);
    else if (strcmp(first, "saver") == 0 && take(m, ':'))
        read_saver(m);
    else if (strcmp(first, "signature") == 0)
        read_signature(m);
    else
        bad(m, "NAME = TYPE(...) or a keyword");
    free(first);
}

/* ---- bytes ---- */

/* A node whose inputs are texts. */
static void put_op(struct scripted_bytes *graph, TF_Operation *op) {
    struct scripted_bytes whole = {NULL, 0, 0}, node = {NULL, 0, 0};
    const struct scripted_attr *found = scripted_attr(op, "?inputs");
    struct scripted_attr inputs = *found;
    size_t at = (size_t)(found - op->attrs);
    free(inputs.name);
    op->attrs[at] = op->attrs[--op->attr_count];
    scripted_put_node(&whole,
                      op); /* field 1, with its tag and length, which are not wanted twice */
    size_t header = 1;
    while ((unsigned char)whole.data[header] & 0x80)
        header++;
    header++;
    scripted_put(&node, whole.data + header, whole.len - header);
    for (size_t i = 0; i < inputs.text_len; i += strlen(inputs.text + i) + 1)
        scripted_put_text(&node, 3, inputs.text + i);
    scripted_put_message(graph, 1, &node);
    free(whole.data);
    free(inputs.text);
}

static void put_collection(struct scripted_bytes *out, struct collection *c) {
    struct scripted_bytes entry = {NULL, 0, 0}, def = {NULL, 0, 0};
    scripted_put_message(&def, c->is_bytes ? 2 : 1, &c->list);
    scripted_put_text(&entry, 1, c->name);
    scripted_put_message(&entry, 2, &def);
    scripted_put_message(out, 4, &entry);
    free(c->name);
}

void *scripted_graph_bytes(const char *text, size_t *out_len) {
    struct meta m = {.at = text, .line = 1};
    struct scripted_bytes out = {NULL, 0, 0}, info = {NULL, 0, 0}, graph = {NULL, 0, 0};
    while (*m.at) {
        read_line(&m);
        if (!at_end(&m))
            bad(&m, "the end of the line");
        m.at += *m.at == '\n';
        m.line++;
    }
    scripted_put_text(&info, 1, "1");
    scripted_put_text(&info, 4, "serve");
    scripted_put_text(&info, 5, "2.21.0");
    scripted_put_message(&out, 1, &info);
    for (size_t i = 0; i < m.ops.count; i++) {
        put_op(&graph, m.ops.ops[i]);
        scripted_op_free(m.ops.ops[i]);
    }
    free(m.ops.ops);
    scripted_put_message(&out, 2, &graph);
    if (m.saver.len)
        scripted_put_message(&out, 3, &m.saver);
    for (size_t i = 0; i < m.collection_count; i++)
        put_collection(&out, &m.collections[i]);
    scripted_put(&out, m.signatures.data, m.signatures.len);
    free(m.signatures.data);
    *out_len = out.len;
    return out.data;
}

belay_graph *scripted_graph(const char *text, belay_error *err) {
    size_t len;
    void *data = scripted_graph_bytes(text, &len);
    belay_graph *graph = bly_graph_from_bytes("scripted.meta", data, len, err);
    free(data);
    return graph;
}
