/* The scripted backends and the worker of tests/unit/proxy serve here, too. */
#include "../proxy/fetching.c"
