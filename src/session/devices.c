/* What a session runs on, and clearing what it left there (SE-12, SE-13). */
#include "base/error.h"
#include "base/mem.h"
#include "base/options.h"
#include "base/text.h"
#include "session/session.h"

struct belay_device_list {
    const bly_runtime *rt;
    TF_DeviceList *tf;
    belay_device *devices;
    size_t count;
};

static belay_code describe(const belay_device_list *list, int index, belay_device *device,
                           belay_error *err) {
    const bly_runtime *rt = list->rt;
    TF_Status *status = rt->NewStatus();
    device->name = rt->DeviceListName(list->tf, index, status);
    if (rt->GetCode(status) == TF_OK)
        device->type = rt->DeviceListType(list->tf, index, status);
    if (rt->GetCode(status) == TF_OK)
        device->memory_limit_bytes = rt->DeviceListMemoryBytes(list->tf, index, status);
    if (rt->GetCode(status) == TF_OK)
        device->incarnation = rt->DeviceListIncarnation(list->tf, index, status);
    return bly_runtime_finish(rt, status, err);
}

static belay_code fill(belay_device_list *list, belay_session *session, belay_error *err) {
    belay_code code = bly_session_call(
        session, &(bly_run_call){.kind = BLY_CALL_DEVICES, .devices = &list->tf}, err);
    if (code != BELAY_OK)
        return code;
    int count = list->rt->DeviceListCount(list->tf);
    list->devices = bly_calloc((size_t)count, sizeof *list->devices);
    if (!list->devices)
        return bly_fail_memory(err);
    for (int i = 0; code == BELAY_OK && i < count; i++)
        code = describe(list, i, &list->devices[list->count++], err);
    return code;
}

belay_device_list *belay_session_list_devices(belay_session *session, belay_error *err) {
    if (!session) {
        if (belay_error_code(err) == BELAY_OK)
            bly_fail(err, BELAY_INVALID_ARGUMENT, "session is NULL");
        return NULL;
    }
    if (atomic_load(&session->closed)) {
        bly_fail(err, BELAY_FAILED_PRECONDITION, "Attempted to use a closed Session.");
        return NULL;
    }
    belay_device_list *list = bly_calloc(1, sizeof *list);
    if (!list) {
        bly_fail_memory(err);
        return NULL;
    }
    list->rt = session->rt;
    if (fill(list, session, err) != BELAY_OK) {
        belay_device_list_free(list);
        return NULL;
    }
    return list;
}

size_t belay_device_list_count(const belay_device_list *list) {
    return list ? list->count : 0;
}

const belay_device *belay_device_list_get(const belay_device_list *list, size_t index) {
    return list && index < list->count ? &list->devices[index] : NULL;
}

void belay_device_list_free(belay_device_list *list) {
    if (!list)
        return;
    if (list->tf)
        list->rt->DeleteDeviceList(list->tf);
    bly_free(list->devices);
    bly_free(list);
}

belay_code belay_session_reset(const belay_session_options *given, const char *const *containers,
                               belay_error *err) {
    belay_session_options options;
    BLY_LOCAL_ERROR(mine);
    belay_code code =
        bly_options_read(&options, sizeof options, given, "belay_session_options", err);
    if (code != BELAY_OK)
        return code;
    const bly_runtime *rt = bly_runtime_get(&mine);
    if (!rt) {
        bly_error_copy(err, &mine);
        return mine.code;
    }
    TF_SessionOptions *tf_options = bly_session_options_make(rt, &options, &mine);
    if (!tf_options) {
        bly_error_copy(err, &mine);
        return mine.code;
    }
    TF_Status *status = rt->NewStatus();
    rt->Reset(tf_options, (const char **)(uintptr_t)containers, (int)bly_count_names(containers),
              status);
    rt->DeleteSessionOptions(tf_options);
    return bly_runtime_finish(rt, status, err);
}
