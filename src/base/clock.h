/* Time as nanoseconds of the monotonic clock. Only src/ring reads a clock; everyone else is handed
 * a value of this type, so that a simulator can hand out its own. */
#ifndef SLUICE_BASE_CLOCK_H
#define SLUICE_BASE_CLOCK_H

#include <stdint.h>

typedef uint64_t nanos; /* monotonic, arbitrary origin; or a length of time */

#define NANOS_PER_US UINT64_C(1000)
#define NANOS_PER_MS UINT64_C(1000000)
#define NANOS_PER_S  UINT64_C(1000000000)
#define NANOS_NEVER  UINT64_MAX

#endif
