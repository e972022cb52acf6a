/* Knows a layer above it: tests/check_layers.py has to find this. */
#include "session/session.h"
