/* AddressSanitizer's view of memory that we hand out ourselves: what is free is poisoned, so that a use after free of a
 * chunk is found like one of malloc's. Without it these do nothing. */
#ifndef SLUICE_CACHE_POISON_H
#define SLUICE_CACHE_POISON_H

#if defined(__SANITIZE_ADDRESS__)
#define POISON_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POISON_ASAN 1
#endif
#endif
#ifdef POISON_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, bytes)   ((void)(at))
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) ((void)(at))
#endif

#endif
