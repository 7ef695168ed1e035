/* Socket addresses: IPv4, IPv6 and unix, written as people write them. */
#ifndef SLUICE_RING_ADDRESS_H
#define SLUICE_RING_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/bytes.h"
#include "base/result.h"

struct ring_address {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_un un;
    };
    socklen_t bytes; /* 0: none */
};

enum { RING_ADDRESS_TEXT_MAX = 128 };

/* Reads "1.2.3.4:80", "[::1]:80", ":80" or "*:80" (any IPv4), "unix:/path". Names are not looked up:
 * RESULT_MORE for a well-formed "name:port". RESULT_CONFIG for anything else. */
MUST_USE enum result ring_address_parse(struct bytes text, struct ring_address *ret_address);

/* Looks up "name:port"; blocks: for helper threads and the start. At most `max` addresses;
 * *ret_count how many. RESULT_UNREACHABLE when there is none. */
MUST_USE enum result ring_address_resolve(struct bytes text, struct ring_address *ret_addresses, unsigned max,
                                          unsigned *ret_count);

/* Writes the address with its port, NUL-terminated; returns the length. */
size_t ring_address_format(const struct ring_address *address, char out[RING_ADDRESS_TEXT_MAX]);

/* Writes only the host: "1.2.3.4", "::1", or "unix" . */
size_t ring_address_format_host(const struct ring_address *address, char out[RING_ADDRESS_TEXT_MAX]);

bool ring_address_equal(const struct ring_address *a, const struct ring_address *b);

#endif
