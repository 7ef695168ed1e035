#include "ring/address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static bool parse_port(struct bytes text, uint16_t *ret_port)
{
    uint64_t port;
    if (!bytes_to_u64(text, &port) || port > 65535) {
        return false;
    }
    *ret_port = (uint16_t)port;
    return true;
}

static enum result parse_unix(struct bytes path, struct ring_address *ret_address)
{
    struct ring_address address;
    memset(&address, 0, sizeof(address));
    if (path.len == 0 || path.len >= sizeof(address.un.sun_path)) {
        return RESULT_CONFIG;
    }
    address.un.sun_family = AF_UNIX;
    memcpy(address.un.sun_path, path.ptr, path.len);
    address.bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.len + 1);
    *ret_address = address;
    return RESULT_OK;
}

/* Splits at the last colon outside brackets. */
static bool split_port(struct bytes text, struct bytes *ret_host, struct bytes *ret_port)
{
    size_t colon = text.len;
    while (colon > 0 && text.ptr[colon - 1] != ':') {
        if (text.ptr[colon - 1] == ']') {
            return false;
        }
        colon--;
    }
    if (colon == 0) {
        return false;
    }
    *ret_host = (struct bytes){text.ptr, colon - 1};
    *ret_port = (struct bytes){text.ptr + colon, text.len - colon};
    return true;
}

static bool is_host_name(struct bytes host)
{
    if (host.len == 0 || host.len > 253) {
        return false;
    }
    bool has_letter = false;
    for (size_t i = 0; i < host.len; i++) {
        char c = ascii_lower(host.ptr[i]);
        bool letter = (c >= 'a' && c <= 'z') || c == '_';
        has_letter = has_letter || letter;
        if (!letter && !(c >= '0' && c <= '9') && c != '-' && c != '.') {
            return false;
        }
    }
    /* "1.2.3" is a mistyped address, not a name. */
    return has_letter;
}

enum result ring_address_parse(struct bytes text, struct ring_address *ret_address)
{
    if (bytes_starts_with(text, BYTES("unix:"))) {
        return parse_unix((struct bytes){text.ptr + 5, text.len - 5}, ret_address);
    }
    struct bytes host;
    struct bytes port_text;
    uint16_t port;
    if (!split_port(text, &host, &port_text) || !parse_port(port_text, &port)) {
        return RESULT_CONFIG;
    }
    struct ring_address address;
    memset(&address, 0, sizeof(address));
    char buffer[INET6_ADDRSTRLEN];
    bool bracketed = host.len >= 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']';
    if (bracketed) {
        host = (struct bytes){host.ptr + 1, host.len - 2};
    }
    if (host.len < sizeof(buffer)) {
        memcpy(buffer, host.ptr, host.len);
        buffer[host.len] = '\0';
        if (bracketed && inet_pton(AF_INET6, buffer, &address.v6.sin6_addr) == 1) {
            address.v6.sin6_family = AF_INET6;
            address.v6.sin6_port = htons(port);
            address.bytes = sizeof(address.v6);
            *ret_address = address;
            return RESULT_OK;
        }
        bool any = host.len == 0 || bytes_equal(host, BYTES("*"));
        if (!bracketed && (any || inet_pton(AF_INET, buffer, &address.v4.sin_addr) == 1)) {
            address.v4.sin_family = AF_INET;
            address.v4.sin_port = htons(port);
            address.bytes = sizeof(address.v4);
            *ret_address = address;
            return RESULT_OK;
        }
    }
    return !bracketed && is_host_name(host) ? RESULT_MORE : RESULT_CONFIG;
}

enum result ring_address_resolve(struct bytes text, struct ring_address *ret_addresses, unsigned max,
                                 unsigned *ret_count)
{
    struct bytes host;
    struct bytes port;
    char host_text[256];
    char port_text[8];
    if (!split_port(text, &host, &port) || host.len >= sizeof(host_text) || port.len >= sizeof(port_text)) {
        return RESULT_CONFIG;
    }
    memcpy(host_text, host.ptr, host.len);
    host_text[host.len] = '\0';
    memcpy(port_text, port.ptr, port.len);
    port_text[port.len] = '\0';
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    if (getaddrinfo(host_text, port_text, &hints, &found) != 0) {
        return RESULT_UNREACHABLE;
    }
    unsigned count = 0;
    for (struct addrinfo *at = found; at != NULL && count < max; at = at->ai_next) {
        if (at->ai_addrlen <= sizeof(struct sockaddr_in6)) {
            struct ring_address *address = &ret_addresses[count++];
            memset(address, 0, sizeof(*address));
            memcpy(&address->any, at->ai_addr, at->ai_addrlen);
            address->bytes = at->ai_addrlen;
        }
    }
    freeaddrinfo(found);
    *ret_count = count;
    return count > 0 ? RESULT_OK : RESULT_UNREACHABLE;
}

size_t ring_address_format_host(const struct ring_address *address, char out[RING_ADDRESS_TEXT_MAX])
{
    out[0] = '\0';
    if (address->bytes == 0) {
        return 0;
    }
    if (address->any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &address->v4.sin_addr, out, RING_ADDRESS_TEXT_MAX);
    } else if (address->any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &address->v6.sin6_addr, out, RING_ADDRESS_TEXT_MAX);
    } else {
        memcpy(out, "unix", 5);
    }
    return strlen(out);
}

size_t ring_address_format(const struct ring_address *address, char out[RING_ADDRESS_TEXT_MAX])
{
    char host[RING_ADDRESS_TEXT_MAX];
    ring_address_format_host(address, host);
    int length = 0;
    switch (address->bytes == 0 ? AF_UNSPEC : address->any.sa_family) {
    case AF_INET: length = snprintf(out, RING_ADDRESS_TEXT_MAX, "%.64s:%u", host, ntohs(address->v4.sin_port)); break;
    case AF_INET6:
        length = snprintf(out, RING_ADDRESS_TEXT_MAX, "[%.64s]:%u", host, ntohs(address->v6.sin6_port));
        break;
    case AF_UNIX:
        length =
            snprintf(out, RING_ADDRESS_TEXT_MAX, "unix:%.*s", (int)sizeof(address->un.sun_path), address->un.sun_path);
        break;
    default: out[0] = '\0';
    }
    return (size_t)length;
}

bool ring_address_equal(const struct ring_address *a, const struct ring_address *b)
{
    return a->bytes == b->bytes && memcmp(&a->any, &b->any, a->bytes) == 0;
}
