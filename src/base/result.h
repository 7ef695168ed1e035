/* The outcomes a function can have. "Need more input" is an outcome, not an error.
 *
 * A kernel's -errno becomes one of these once, in src/ring; above it nobody looks at errno. */
#ifndef SLUICE_BASE_RESULT_H
#define SLUICE_BASE_RESULT_H

#define MUST_USE __attribute__((warn_unused_result))

enum result {
    RESULT_OK = 0,
    RESULT_MORE, /* not a failure: more input, or more room, is needed to go on */

    /* IO: the other side or the way to it failed */
    RESULT_IO,          /* anything the kernel reports that has no name below */
    RESULT_REFUSED,     /* nobody listens at the address */
    RESULT_UNREACHABLE, /* no route, no such host, no such socket file */
    RESULT_TIMEOUT,

    /* CLOSED: the other side is gone */
    RESULT_CLOSED, /* an orderly end */
    RESULT_RESET,  /* a disorderly one */

    /* LIMIT: one of our own bounds was met */
    RESULT_LIMIT,
    RESULT_NO_MEMORY,
    RESULT_SHED,     /* the scheduler turned it away */
    RESULT_CANCELED, /* we gave up on purpose: client gone, draining */

    /* PROTOCOL, CONFIG, INTERNAL */
    RESULT_PROTOCOL,
    RESULT_CONFIG,
    RESULT_INTERNAL,
};

/* Gives a static lower-case name such as "refused", for logs and metric labels. */
const char *result_name(enum result result);

#endif
