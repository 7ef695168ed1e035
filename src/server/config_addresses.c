/* Addresses in the configuration: where it listens, and where it forwards to. */

#include <limits.h>

#include "server/config_internal.h"

/* The port behind the last ':'; .ptr NULL when there is none. */
static struct bytes port_of(struct bytes text)
{
    const char *colon = text.len == 0 ? NULL : memrchr(text.ptr, ':', text.len);
    if (colon == NULL || memchr(colon, ']', (size_t)(text.ptr + text.len - colon)) != NULL) {
        return BYTES_NONE;
    }
    return (struct bytes){colon + 1, (size_t)(text.ptr + text.len - colon - 1)};
}

/* What is most likely wrong with an address that cannot be read: "it has no port; ...". */
static const char *why_not(struct bytes text)
{
    if (bytes_starts_with(text, BYTES("unix:"))) {
        return "the path of a unix socket must be 1 to 107 bytes long; write unix:/run/name.sock";
    }
    if (memchr(text.ptr, '/', text.len) != NULL) {
        return "it has a path; write only the address and the port, or unix:/run/name.sock";
    }
    uint64_t port;
    struct bytes port_text = port_of(text);
    if (text.ptr[0] != '[' && memchr(text.ptr, ':', text.len) != memrchr(text.ptr, ':', text.len)) {
        return "an IPv6 address stands in brackets; write \"[::1]:8080\"";
    }
    if (bytes_to_u64(text, &port)) {
        return "it is only a number; for a port write :8080 or 127.0.0.1:8080";
    }
    if (port_text.ptr == NULL) {
        return "it has no port; write it behind a colon, as in 127.0.0.1:8080";
    }
    if (!bytes_to_u64(port_text, &port) || port > 65535) {
        return "its port is not a number up to 65535";
    }
    return "write 127.0.0.1:8080, \"[::1]:8080\", a name with a port, or unix:/run/name.sock";
}

bool config_read_listener(struct config_reader *reader, const struct config_key *key, const struct config_node *node,
                          struct bytes text, void *into)
{
    struct config_listener *listener = into; /* its name stands beside it */
    const char *shown = config_shown(reader, text);
    enum result parsed = ring_address_parse(text, &listener->address);
    if (parsed == RESULT_MORE) {
        config_complain(reader, node,
                        "%s: '%s' is a name; listen at an address: 127.0.0.1:%.*s for this machine only, "
                        ":%.*s for all of its addresses",
                        key->path, shown, BYTES_ARG(port_of(text)), BYTES_ARG(port_of(text)));
        return false;
    }
    if (parsed != RESULT_OK) {
        config_complain(reader, node, "%s: '%s' is not an address to listen at; %s", key->path, shown, why_not(text));
        return false;
    }
    listener->text = config_copy(reader, &reader->config->arena, text);
    return listener->text.ptr != NULL;
}

/* Takes a scheme off. Behind `http://` the port may be left out, as in any URL, and one '/' may follow.
 * False after a fault. */
static bool take_scheme(struct config_reader *reader, const struct config_key *key, const struct config_node *node,
                        struct bytes *text)
{
    const char *shown = config_shown(reader, *text);
    static const struct bytes http = {"http://", 7};
    static const struct bytes https = {"https://", 8};
    if (text->len >= https.len && bytes_equal_nocase((struct bytes){text->ptr, https.len}, https)) {
        config_complain(reader, node,
                        "%s: '%s': TLS to upstreams is not supported yet; use http:// to a server in your own network",
                        key->path, shown);
        return false;
    }
    if (text->len < http.len || !bytes_equal_nocase((struct bytes){text->ptr, http.len}, http)) {
        return true;
    }
    text->ptr += http.len;
    text->len -= http.len;
    if (text->len > 0 && text->ptr[text->len - 1] == '/') {
        text->len--;
    }
    if (text->len == 0) {
        config_complain(reader, node, "%s: '%s' names no host; write http://host:port", key->path, shown);
        return false;
    }
    bool bracketed = text->ptr[text->len - 1] == ']';
    if (memchr(text->ptr, '/', text->len) == NULL && (bracketed || memchr(text->ptr, ':', text->len) == NULL)) {
        *text = arena_format(&reader->scratch, "%.*s:80", BYTES_ARG(*text));
        reader->no_memory = reader->no_memory || text->ptr == NULL;
    }
    return !reader->no_memory;
}

/* What Host says for it: without the port when that is HTTP's own (RFC 9110 §4.2.1). */
static struct bytes host_of(struct bytes text)
{
    if (bytes_starts_with(text, BYTES("unix:"))) {
        return BYTES("localhost");
    }
    struct bytes port = port_of(text);
    if (bytes_equal(port, BYTES("80"))) {
        return (struct bytes){text.ptr, text.len - port.len - 1};
    }
    return text;
}

static bool is_any_address(const struct ring_address *address)
{
    return (address->any.sa_family == AF_INET && address->v4.sin_addr.s_addr == INADDR_ANY) ||
           (address->any.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&address->v6.sin6_addr));
}

bool config_read_endpoint(struct config_reader *reader, const struct config_key *key, const struct config_node *node,
                          struct bytes text, void *into)
{
    const char *shown = config_shown(reader, text);
    if (!take_scheme(reader, key, node, &text)) {
        return false;
    }
    struct config_endpoint endpoint = {.is_name = false};
    enum result parsed = ring_address_parse(text, &endpoint.address);
    if (parsed != RESULT_OK && parsed != RESULT_MORE) {
        config_complain(reader, node, "%s: '%s' is not an address to connect to; %s", key->path, shown, why_not(text));
        return false;
    }
    endpoint.is_name = parsed == RESULT_MORE;
    if (!endpoint.is_name && is_any_address(&endpoint.address)) {
        config_complain(reader, node, "%s: '%s' names no host; for this machine write 127.0.0.1:%.*s", key->path, shown,
                        BYTES_ARG(port_of(text)));
        return false;
    }
    uint64_t port = 1;
    if (!bytes_starts_with(text, BYTES("unix:")) && bytes_to_u64(port_of(text), &port) && port == 0) {
        config_complain(reader, node, "%s: '%s': nobody can be reached at port 0; write the port the server listens at",
                        key->path, shown);
        return false;
    }
    endpoint.text = config_copy(reader, &reader->config->arena, text);
    if (endpoint.text.ptr == NULL) {
        return false;
    }
    endpoint.host = host_of(endpoint.text);
    memcpy(into, &endpoint, sizeof(endpoint));
    return true;
}
