/** What every public header needs: visibility and the version that it belongs to. */
#ifndef BELAY_EXPORT_H
#define BELAY_EXPORT_H

#if defined(__GNUC__)
#define BELAY_API __attribute__((visibility("default")))
#else
#define BELAY_API
#endif

#define BELAY_VERSION_MAJOR 0
#define BELAY_VERSION_MINOR 1
#define BELAY_VERSION_PATCH 0
#define BELAY_VERSION       "0.1.0"

/** A duration without limit, where 0 means "the default" (TensorFlow's None, or infinity). */
#define BELAY_FOREVER (-1)
/** No time at all, where 0 means "the default" (TensorFlow's 0). */
#define BELAY_AT_ONCE (-2)

#endif
